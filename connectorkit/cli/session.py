"""A session: what the commands of one command line share."""

from __future__ import annotations

import json
import re
import traceback
from functools import cached_property
from typing import TYPE_CHECKING, Self
from urllib.parse import quote

import click

from connectorkit.cli.exits import Failure
from connectorkit.cli.output import one_line
from connectorkit.cli.places import Place, sentence, split
from connectorkit.errors import ConnectorKitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectorkit.connector import Connector
    from connectorkit.kit import ConnectorKit

__all__ = ["Session"]

_HIDDEN = "**********"
# Shorter ones are found by chance in words that are no secret.
_LEAST_SECRET = 4
# The query of a URL, a user in it, and what a header would hold.
_SIGNED = re.compile(
    r"(?<=\?)(?<=[\w/]\?)[\w-]+=\S+|(?<=://)[^/\s@]+(?=@)|(?<=Bearer )\S+",
    re.IGNORECASE,
)


class Session:
    """What the commands of one command line share; a plugin's by `click.pass_obj`.

    Attributes:
        config: The configuration's path; None to search the usual places.
        as_json: Whether JSON is asked for.
        debug: Whether tracebacks are.
    """

    def __init__(self, arguments: Sequence[str] = ()) -> None:
        options = [*arguments]
        if "--" in options:
            del options[options.index("--") :]
        # Looked for by hand, since an error may come before click has read them.
        self.as_json = "--json" in options
        self.debug = "--debug" in options
        self.config: str | None = None
        self._resolved: dict[str, Connector] = {}

    @cached_property
    def kit(self) -> ConnectorKit:
        """The kit of the configuration; made when it is first needed."""
        from connectorkit.kit import ConnectorKit

        return ConnectorKit(self.config)

    def resolve(self, connector_id: str) -> Connector:
        """Return the connector of an ID.

        Raises:
            ConnectorKitError: What `ConnectorKit.resolve` raises.
            Failure: The plugin's own words, where it raised anything else.
        """
        try:
            connector = self.kit.resolve(connector_id)
        except ConnectorKitError:
            raise
        except Exception as error:
            message = f"Connector {connector_id!r}: {sentence(error)}."
            raise Failure(message) from error
        self._resolved[connector_id] = connector
        return connector

    def place(self, text: str) -> Place:
        """Return the place that `ID:path`, or the path of a local file, names."""
        connector_id, path = split(text)
        if connector_id is None:
            return Place.local(text)
        return Place(text, path, self.resolve(connector_id))

    def say(self, message: object) -> None:
        """Print a line for people to standard error."""
        text = one_line(" ".join(str(message).split()))
        click.echo(f"connectorkit: {self.without_secrets(text)}", err=True)

    def warn(self, message: object, *_args: object, **_more: object) -> None:
        """Print a warning, in the place of `warnings.showwarning`."""
        self.say(f"warning: {message}")

    def tell(self, error: BaseException) -> str:
        """Print an error to standard error, and return its sentence."""
        if self.debug:
            trace = "".join(traceback.format_exception(error))
            click.echo(self.without_secrets(trace), err=True, nl=False)
        message = self.without_secrets(_message(error))
        if self.as_json:
            named = error.__cause__ if isinstance(error, Failure) else None
            told = {"type": type(named or error).__name__, "message": message}
            click.echo(json.dumps({"error": told}), err=True)
        else:
            click.echo(f"connectorkit: {message}", err=True)
        return message

    def without_secrets(self, text: str) -> str:
        """Hide the secrets of this session's connectors in `text`.

        Messages of storages and of their clients are nobody's promise. URLs lose
        what signs them, too.
        """
        for connector in self._resolved.values():
            for value in dict(connector._settings).values():
                if not hasattr(value, "get_secret_value"):
                    continue
                secret = value.get_secret_value()
                if isinstance(secret, str) and len(secret) >= _LEAST_SECRET:
                    for form in (secret, quote(secret, safe="")):
                        text = text.replace(form, _HIDDEN)
        return _SIGNED.sub(_HIDDEN, text)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if "kit" in vars(self):
            self.kit.close()


def _message(error: BaseException) -> str:
    match error:
        case click.UsageError(ctx=click.Context() as ctx):
            text = f"{error.format_message()} See: {ctx.command_path} -h"
        case click.ClickException():
            text = error.format_message()
        case ConnectorKitError() | Failure():
            text = "; ".join([str(error), *getattr(error, "__notes__", ())])
        case KeyboardInterrupt():
            text = "; ".join(["interrupted", *getattr(error, "__notes__", ())])
        case _:
            text = f"{type(error).__name__}: {sentence(error)} (more by --debug)"
    return one_line(" ".join(text.split()))
