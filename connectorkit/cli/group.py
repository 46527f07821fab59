"""The command line itself: verbs found late, errors told in one line."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import warnings
from typing import TYPE_CHECKING, Any, NoReturn

import click

from connectorkit.cli.exits import (
    FAILED,
    INTERRUPTED,
    OK,
    PIPE_CLOSED,
    TERMINATED,
    OutputClosed,
    exit_code,
)
from connectorkit.cli.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["CommandLine"]

# Since click 8.2.
_HELP: tuple[type[click.UsageError], ...] = tuple(
    filter(None, [getattr(click.exceptions, "NoArgsIsHelpError", None)])
)


class CommandLine(click.Group):
    """A group with verbs of plugins, and one way for all errors to be told."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a verb; a built-in one, or else a plugin's.

        Raises:
            click.UsageError: Two plugins offer it, or none does and some failed.
        """
        if (command := super().get_command(ctx, cmd_name)) is not None:
            return command
        # Help and completion look verbs up, too; they shall cost nothing.
        if ctx.resilient_parsing:
            return None
        from connectorkit.cli.verbs import find

        kit = ctx.ensure_object(Session).kit
        found = find(kit)
        offers = found.commands.get(cmd_name, [])
        if len(offers) > 1:
            plugins = " and ".join(repr(plugin) for plugin, _ in offers)
            raise click.UsageError(
                f"The plugins {plugins} both add the command {cmd_name!r}: disable "
                "one of them.",
                ctx,
            )
        if offers:
            return offers[0][1]
        if failures := [*kit.registry.failures(), *found.failures]:
            told = "; ".join(failures)
            raise click.UsageError(f"No such command {cmd_name!r}; {told}.", ctx)
        return None

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the built-in verbs, in the order in which they were added."""
        del ctx
        return [*self.commands]

    def invoke(self, ctx: click.Context) -> None:
        """Run a verb; what it returns is nobody's exit code."""
        super().invoke(ctx)

    def main(  # type: ignore[override]
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        **extra: Any,
    ) -> NoReturn:
        """Run a command line and exit.

        Args:
            args: Its arguments; None for those of this process.
            prog_name: What the program is called in messages.
            extra: What click takes besides.
        """
        arguments = list(sys.argv[1:] if args is None else args) or ["--help"]
        session = Session(arguments)
        with _warnings_told_by(session), _terminable():
            code = self._run(session, arguments, prog_name or "connectorkit", extra)
        sys.exit(code)

    def _run(
        self, session: Session, arguments: list[str], name: str, extra: dict[str, Any]
    ) -> int:
        try:
            with session:
                code = super().main(
                    arguments, name, obj=session, standalone_mode=False, **extra
                )
        except OutputClosed:
            _drop_output()
            return PIPE_CLOSED
        except click.Abort as error:
            # click says so at Ctrl-C, too.
            if not isinstance(error.__context__, KeyboardInterrupt):
                return FAILED
            session.tell(error.__context__)
            return INTERRUPTED
        except KeyboardInterrupt as error:
            session.tell(error)
            return INTERRUPTED
        except Exception as error:  # noqa: BLE001 - all are told alike
            if isinstance(error, _HELP):
                # A plugin's group without a command: its text is help, many lines.
                error.show()
            else:
                session.tell(error)
            return exit_code(error)
        return code if isinstance(code, int) else OK


@contextlib.contextmanager
def _warnings_told_by(session: Session) -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.showwarning = session.warn
        yield


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a polite end, as `timeout` asks for, clean up like Ctrl-C."""

    def end(*_args: object) -> NoReturn:
        raise SystemExit(TERMINATED)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _drop_output() -> None:
    """Send what is still in the buffer nowhere: Python would complain at its exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
