"""What tells of the demo: on the terminal, and in its report."""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.padding import Padding
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["Teller"]

_WIDTH: Final = 88


class Teller:
    """Tells of steps, code and results.

    Args:
        silent: Keep it for the report alone.
    """

    def __init__(self, *, silent: bool) -> None:
        console = Console(file=io.StringIO() if silent else None)
        width = min(console.width, 100) if console.is_terminal else _WIDTH
        self._console = Console(
            file=console.file, width=width, record=True, highlight=False
        )
        self._step = 0

    def begin(self, title: str) -> None:
        """Tell of a new step."""
        self._step += 1
        self.head(f"{self._step}  {title}")

    def head(self, title: str) -> None:
        """Draw a line with a title."""
        self._console.print()
        self._console.rule(Text(title, style="bold"), style="dim", align="left")

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self._console.print()
        self._console.print(Text(text))

    def code(self, code: str, language: str = "python") -> None:
        """Print code."""
        block = textwrap.indent(code.strip(), "    ")
        syntax = Syntax(block, language, theme="ansi_light")
        self._console.print()
        # A Syntax itself would fill its lines up with blanks.
        text = syntax.highlight(block)
        text.rstrip()
        self._console.print(text, soft_wrap=True)

    def result(self, text: str) -> None:
        """Print what the code before gave."""
        self._console.print(
            Padding(Text(f"→ {text}", style="green"), (0, 0, 0, 4), expand=False)
        )

    def table(self, rows: Sequence[Sequence[str]], heads: Sequence[str] = ()) -> None:
        """Print rows; without heads the first cell of each is its name."""
        table = Table(
            box=None,
            pad_edge=False,
            padding=(0, 2, 0, 0),
            show_header=bool(heads),
            header_style="bold",
        )
        for index, head in enumerate(heads or ("", "")):
            style = "" if heads or index else "dim"
            table.add_column(head, overflow="fold", no_wrap=not index, style=style)
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print()
        self._console.print(Padding(table, (0, 0, 0, 4), expand=False))

    def save(self, directory: Path) -> None:
        """Write the report, as text and as HTML."""
        lines = self._console.export_text(clear=False).strip().splitlines()
        text = "".join(f"{line.rstrip()}\n" for line in lines)
        (directory / "report.txt").write_text(text)
        self._console.save_html(str(directory / "report.html"))
