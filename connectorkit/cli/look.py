"""The commands that tell: plugins, types, connectors, schema, explain, check."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connectorkit.cli import output
from connectorkit.cli.common import common, with_session
from connectorkit.cli.exits import OK, Failure, exit_code
from connectorkit.cli.output import Column
from connectorkit.errors import ConnectorKitError, InvalidSettings, UnknownConnector

if TYPE_CHECKING:
    from connectorkit.cli.session import Session
    from connectorkit.plugin import PluginInfo

__all__ = ["check", "connectors", "explain", "plugins", "schema", "types"]

_ID = Column("id", style="bold", fold=False)


@click.command()
@click.option("--load", is_flag=True, help="Import all of them first.")
@common()
@with_session
def plugins(session: Session, *, load: bool) -> None:
    """List plugins, and why one failed.

    Reads metadata alone; what a plugin provides is known once it is loaded.
    """
    verbs: dict[str, list[str]] = {}
    if load:
        from connectorkit.cli.verbs import find

        found = find(session.kit)
        for name, offers in found.commands.items():
            for plugin, _ in offers:
                verbs.setdefault(plugin, []).append(f"command {name}")
        for failure in found.failures:
            session.say(f"warning: {failure}")
    infos = [
        dataclasses.replace(
            info, provides=(*info.provides, *sorted(verbs.get(info.name, ())))
        )
        for info in session.kit.plugins()
    ]
    if session.as_json:
        output.document(infos)
        return
    columns = [
        Column("name", style="bold", fold=False),
        Column("state", fold=False),
        Column("from", fold=False),
        Column("provides", human="\n".join),
        Column("loaded in", justify="right", fold=False),
    ]
    rows = [_plugin_row(info) for info in infos]
    errors = [info.error for info in infos]
    if not sys.stdout.isatty():
        both = [(*row, error) for row, error in zip(rows, errors, strict=True)]
        output.table([*columns, Column("error")], both)
        return
    # Errors are long: they get lines of their own.
    output.table(columns, rows)
    for info in infos:
        if info.error is not None:
            output.write(f"\n{info.name}: {output.one_line(info.error)}\n")


def _plugin_row(info: PluginInfo) -> tuple[object, ...]:
    origin = f"{info.distribution or 'by hand'} {info.version or ''}".strip()
    took = None if info.seconds is None else f"{info.seconds * 1000:.1f} ms"
    return info.name, info.state, origin, info.provides, took


@click.command()
@common()
@with_session
def types(session: Session) -> None:
    """List connector types with their aliases."""
    registry = session.kit.registry
    rows: list[dict[str, object]] = []
    for name in dict.fromkeys(registry.names("connector type")):
        try:
            found = registry.connector_type(name)
        except ConnectorKitError as error:
            # Two plugins offer it; the others are no worse for that.
            session.say(f"warning: {error}")
            continue
        if found is not None:
            kind, plugin = found
            rows.append(
                {
                    "id": kind.id,
                    "title": kind.title,
                    "aliases": list(kind.aliases),
                    "plugin": plugin.name,
                    "distribution": plugin.distribution,
                    "version": plugin.version,
                    "requires": kind.requires,
                }
            )
    for failure in registry.failures():
        session.say(f"warning: {failure}.")
    if session.as_json:
        output.document(rows)
        return
    columns = (
        _ID,
        Column("title"),
        Column("aliases", style="dim", fold=False, human="\n".join),
    )
    names = "id", "title", "aliases"
    output.table(columns, [[row[name] for name in names] for row in rows])


@click.command()
@common()
@with_session
def connectors(session: Session) -> None:
    """List system-internal and configured connector IDs."""
    config = session.kit.config
    rows = [
        {"id": each, "type": _type_of_store(session, each), "store": store}
        for adapter in session.kit.registry.adapters()
        for each, store in adapter.ids(config).items()
    ]
    rows += [
        {"id": each, "type": connector.type, "store": None}
        for each, connector in config.connectors.items()
    ]
    if session.as_json:
        output.document(rows)
        return
    columns = (_ID, Column("type"), Column("system store", style="dim"))
    output.table(columns, [tuple(row.values()) for row in rows])


def _type_of_store(session: Session, connector_id: str) -> str | None:
    """Ask the adapters, since a store's table need not name a provider."""
    kit = session.kit
    try:
        for adapter in kit.registry.adapters():
            claimed = adapter.claim(connector_id, kit.config)
            if claimed is not None:
                return claimed.type
    except ConnectorKitError as error:
        session.say(f"warning: {error}")
    return None


@click.command()
@click.argument("type_id", metavar="TYPE")
@common()
@with_session
def schema(session: Session, type_id: str) -> None:
    """Print the JSON Schema of a type's settings."""
    from connectorkit.config import did_you_mean

    registry = session.kit.registry
    found = registry.connector_type(type_id)
    if found is None:
        near = did_you_mean(type_id, registry.names("connector type")).rstrip("?")
        told = "; ".join(
            [f"There is no connector type {type_id!r}{near}", *registry.failures()]
        )
        raise UnknownConnector(f"{told}.")
    output.document(found[0].Settings.model_json_schema())


@click.command()
@click.argument("connector_id", metavar="ID")
@click.option(
    "--settings",
    metavar="JSON|@FILE",
    help="Settings for a type's ID. Secrets belong in a file, and @- is standard "
    "input: others can read the command line.",
)
@click.option("--trusted", is_flag=True, help="The settings are the host's own.")
@common()
@with_session
def explain(
    session: Session, connector_id: str, *, settings: str | None, trusted: bool
) -> None:
    """Show how an ID resolves.

    By what, through which plugin, with what settings. Opens nothing, and hides
    secrets.
    """
    given = None if settings is None else _settings(settings)
    told = session.kit.explain(connector_id, given, trusted=trusted)
    if session.as_json:
        output.document(told)
        return
    output.record(
        [
            ("id", told.id),
            ("how", told.how),
            ("type", told.type),
            ("plugin", told.plugin),
            ("from", told.distribution),
            ("shared", told.is_shared),
            ("policies", told.policies or "none"),
            *((f"settings.{name}", value) for name, value in told.settings.items()),
        ]
    )


def _settings(text: str) -> dict[str, Any]:
    """Read settings; no message repeats them, for they may hold secrets."""
    if text == "@-":
        text, where = sys.stdin.read(), "Standard input"
    elif text.startswith("@"):
        path = Path(text[1:]).expanduser()
        where = str(path)
        try:
            text = path.read_text()
        except OSError as error:
            raise Failure(f"{where}: {error.strerror}.") from error
        except UnicodeDecodeError:
            raise InvalidSettings(f"{where} is not UTF-8.") from None
    else:
        where = "The value of --settings"
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InvalidSettings(
            f"{where} is not JSON (line {error.lineno}, column {error.colno})."
        ) from None
    except RecursionError:
        raise InvalidSettings(f"{where} is nested too deeply.") from None
    if not isinstance(value, dict):
        raise InvalidSettings(f"{where} is no JSON object of names and values.")
    return value


@click.command()
@click.argument("targets", metavar="ID[:PATH]...", nargs=-1)
@click.option("--all", "every", is_flag=True, help="Check all that are configured.")
@common()
@with_session
def check(session: Session, targets: tuple[str, ...], *, every: bool) -> None:
    """Find out whether connectors work.

    Sends a cheap request to each, and says what to mend. Name a bucket, ID:bucket,
    where the credentials may not list buckets. The exit code is that of the first
    that failed.
    """
    if every:
        targets = (*session.kit.connector_ids(), *targets)
    if not targets and not every:
        raise click.UsageError("Name a connector, or pass --all.")
    results, code = [], OK
    for target in dict.fromkeys(targets):
        connector_id, _, path = target.partition(":")
        told = None
        try:
            session.resolve(connector_id).check(path)
        except (ConnectorKitError, Failure) as error:
            code = code or exit_code(error)
            told = session.tell(error)
        else:
            if not session.as_json:
                output.table(_CHECKED, [("ok", target)])
        results.append(
            {"id": connector_id, "path": path, "ok": told is None, "error": told}
        )
    if session.as_json:
        output.document(results)
    raise click.exceptions.Exit(code)


_CHECKED = Column("", style="green"), Column("")
