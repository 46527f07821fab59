"""A progress bar, for whoever watches."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from typing import TYPE_CHECKING

from connectorkit.cli.output import one_line, size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Bar", "progress"]


@dataclasses.dataclass(frozen=True, slots=True)
class Bar:
    """What to tell a progress bar.

    Attributes:
        begin: The name of a file that is next.
        advance: A number of bytes that passed.
    """

    begin: Callable[[str], None] = lambda _name: None
    advance: Callable[[int], None] = lambda _count: None


@contextlib.contextmanager
def progress(total: int | None, files: int, *, shown: bool) -> Iterator[Bar]:
    """Show a bar on standard error, if that is a terminal.

    Args:
        total: How many bytes are expected; None if nobody knows.
        files: How many files are.
        shown: False if something else is written to the terminal.
    """
    if not (shown and sys.stderr.isatty()):
        yield Bar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.table import Column

    name = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    progress = Progress(
        TextColumn("{task.description}", markup=False, table_column=name),
        BarColumn(bar_width=16),
        TextColumn("{task.fields[sizes]}", style="progress.download"),
        TextColumn("{task.fields[speed]}", style="progress.data.speed"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        expand=True,
        transient=True,
    )
    of_total = "" if total is None else f" of {size(total)}"
    with progress:
        number = progress.add_task("", total=total, sizes="", speed="")
        task = progress.tasks[0]
        places = iter(range(1, files + 1))

        def begin(name: str) -> None:
            place = f"{next(places)}/{files} " if files > 1 else ""
            progress.update(number, description=place + one_line(name))

        def advance(count: int) -> None:
            done = size(int(task.completed) + count)
            speed = f"{size(int(task.speed)):>10}/s" if task.speed else ""
            sizes = f"{done:>10}{of_total}"
            progress.update(number, advance=count, sizes=sizes, speed=speed)

        yield Bar(begin, advance)
