"""Output: tables for people, tab-separated lines for scripts, JSON for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import click

from connectorkit.cli.exits import OutputClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = [
    "Column",
    "document",
    "lines",
    "moment",
    "one_line",
    "record",
    "size",
    "table",
    "write",
]

_KIB = 1024


@dataclasses.dataclass(frozen=True, slots=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its head, on a terminal.
        style: rich's name of a style.
        justify: Where its cells stand.
        fold: Whether a long cell may go on in the next line.
        human: How a value is written on a terminal, if not as for scripts.
    """

    title: str
    style: str = ""
    justify: Literal["left", "right"] = "left"
    fold: bool = True
    human: Callable[[Any], str] | None = None

    def cell(self, value: object) -> str:
        """Write a value for a terminal."""
        if self.human is None or value is None:
            return _plain(value)
        # Only the lines of a cell are this program's own.
        return "\n".join(map(one_line, self.human(value).split("\n")))


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    """Print rows: aligned on a terminal, else with tabs between and no head."""
    if sys.stdout.isatty():
        _draw(columns, rows)
    else:
        write("".join("\t".join(map(_plain, row)) + "\n" for row in rows))


def lines(texts: Iterable[str]) -> None:
    """Print one text a line."""
    write("".join(f"{one_line(text)}\n" for text in texts))


def record(pairs: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one pair a line."""
    columns = Column("", style="dim", fold=False), Column("")
    if sys.stdout.isatty():
        shown = [(n, "-" if v is None else v) for n, v in pairs]
        _draw(columns, shown)
    else:
        table(columns, pairs)


def _draw(columns: Sequence[Column], rows: Iterable[Sequence[object]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = [[c.cell(v) for c, v in zip(columns, row, strict=True)] for row in rows]
    # A column in which nothing stands only takes room from the others.
    used = [i for i in range(len(columns)) if any(row[i] for row in cells)]
    grid = Table(
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
        header_style="bold",
        show_header=any(column.title for column in columns),
    )
    for column in (columns[i] for i in used):
        grid.add_column(
            column.title,
            style=column.style,
            justify=column.justify,
            no_wrap=not column.fold,
            overflow="fold",
        )
    for row in cells:
        # Text, not markup: brackets in a name are a name's.
        grid.add_row(*(Text(row[i]) for i in used))
    if used:
        Console(highlight=False).print(grid)


def document(value: object) -> None:
    """Print one JSON document."""
    write(json.dumps(value, indent=2, default=_jsonable) + "\n")


def write(text: str) -> None:
    """Write to standard output.

    Raises:
        OutputClosed: Nobody reads it any more.
    """
    try:
        click.echo(text, nl=False)
    except BrokenPipeError:
        raise OutputClosed from None


def one_line(text: str) -> str:
    """Return `text` so that no control character in it reaches a terminal.

    Names of objects are other people's: one may hold line breaks, or escape sequences.
    """
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )


def size(count: int) -> str:
    """Return a number of bytes for people: `1.2 MiB`."""
    if count < _KIB:
        return f"{count} B"
    value = float(count)
    for unit in ("KiB", "MiB", "GiB", "TiB"):
        value /= _KIB
        # 1023.95 would be rounded up to 1024.0 of the same unit.
        if value < _KIB - 0.05:
            return f"{value:.1f} {unit}"
    return f"{value / _KIB:.1f} PiB"


def moment(when: datetime) -> str:
    """Return a time for people, in their own zone."""
    return when.astimezone().strftime("%Y-%m-%d %H:%M")


def _plain(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(timespec="seconds")
        case list() | tuple():
            return ", ".join(map(_plain, value))
    return one_line(str(value))


def _jsonable(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)
