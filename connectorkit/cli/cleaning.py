"""The command that deletes what is old."""

from __future__ import annotations

import dataclasses
import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import click

from connectorkit.cli import output
from connectorkit.cli.common import common, with_session
from connectorkit.cli.exits import FAILED, Failure

if TYPE_CHECKING:
    from connectorkit.cleanup import CleanupReport
    from connectorkit.cli.session import Session

__all__ = ["cleanup"]

_UNITS: Final = {
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
    "w": "weeks",
}
_MOST_SHOWN = 20


class Age(click.ParamType):  # type: ignore[type-arg]
    """An age such as 90s, 30m, 24h, 7d or 2w."""

    name = "age"

    def convert(self, value: Any, param: Any, ctx: Any) -> timedelta:
        """Read it."""
        if isinstance(value, timedelta):
            return value
        match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", str(value).strip())
        if match is None:
            self.fail(
                f"{value!r} is no age: write 90s, 30m, 24h, 7d or 2w.", param, ctx
            )
        try:
            return timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError:
            self.fail(f"{value!r} is longer than anything lasts.", param, ctx)


@click.command()
@click.argument("place", metavar="ID:PREFIX")
@click.option(
    "--older-than",
    type=Age(),
    metavar="AGE",
    help="Only what was last written longer ago: 90s, 30m, 24h, 7d, 2w.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only tell what would go.")
@common()
@with_session
def cleanup(
    session: Session, place: str, *, older_than: timedelta | None, dry_run: bool
) -> None:
    """Delete the files below a folder that are old.

    It goes on after what cannot be deleted, and tells of it at the end. PREFIX is a
    folder: runs/1 does not reach runs/10. Does not ask: look with --dry-run first.
    """
    from connectorkit.cli.progress import progress

    where = session.place(place)
    if where.connector is None:
        raise click.UsageError(f"{place}: it is a local path: name a connector's.")
    with progress(None, 1, shown=True) as bar:
        bar.begin(place)
        passed = 0

        def told(report: CleanupReport) -> None:
            nonlocal passed
            bar.advance(report.bytes - passed)
            passed = report.bytes

        try:
            report = where.connector.cleanup(
                where.path, older_than=older_than, dry_run=dry_run, told=told
            )
        except ValueError as error:
            raise click.UsageError(f"{place}: {error}") from error
    _show(session, report)
    if report.errors:
        count = len(report.errors)
        raise Failure(
            f"{place}: {count} could not be deleted or listed."
            if count > 1
            else f"{place}: one could not be deleted or listed.",
            FAILED,
        )


def _show(session: Session, report: CleanupReport) -> None:
    if session.as_json:
        output.document(dataclasses.asdict(report))
        return
    if not sys.stdout.isatty():
        facts = dataclasses.asdict(report)
        del facts["errors"]
        output.record(facts.items())
    else:
        files = "1 file" if report.deleted == 1 else f"{report.deleted} files"
        verb = "would be deleted" if report.is_dry_run else "deleted"
        size = output.size(report.bytes)
        output.write(f"{files} {verb}, {size}; {report.kept} kept\n")
    for path, said in list(report.errors.items())[:_MOST_SHOWN]:
        session.say(f"{output.one_line(path)}: {output.one_line(said)}")
    if (more := len(report.errors) - _MOST_SHOWN) > 0:
        session.say(f"… and {more} more")
