"""What every command takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from connectorkit.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["common", "with_session"]

F = TypeVar("F", bound="Callable[..., Any]")

with_session = click.make_pass_decorator(Session)


def common(*, shown: bool = False) -> Callable[[F], F]:
    """Take the global options, which may stand before a command or after it.

    Args:
        shown: Whether `--help` shows those that are not `--json`.
    """

    def decorate(function: F) -> F:
        for option in (
            click.option(
                "--debug",
                is_flag=True,
                expose_value=False,
                hidden=not shown,
                help="Show the traceback of an error.",
            ),
            click.option(
                "--config",
                metavar="PATH",
                callback=_configure,
                expose_value=False,
                hidden=not shown,
                help="The connectorkit.toml to use, in place of the usual places: "
                "$CONNECTORKIT_CONFIG, this directory and those above it, the user's "
                "configuration directory.",
            ),
            click.option(
                "--json",
                is_flag=True,
                expose_value=False,
                help="Print JSON: one document, and errors as one line each.",
            ),
        ):
            function = option(function)
        return function

    return decorate


def _configure(ctx: click.Context, _param: click.Parameter, path: str | None) -> None:
    session = ctx.find_object(Session)
    if session is not None and path is not None:
        session.config = path
