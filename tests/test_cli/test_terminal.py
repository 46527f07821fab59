"""A terminal gets what people can read."""

from __future__ import annotations

import os
import pty
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from connectorkit.cli import output
from test_cli.support import LARGE, PROGRAM

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def _on_a_terminal(*args: object, columns: int = 80) -> str:
    """Run a command line on a terminal of its own, and return what it shows."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *map(str, args)],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(follower)
    shown = b"".join(_all_of(leader))
    os.close(leader)
    assert process.wait(30) == 0, shown
    # Styles are no part of what is aligned.
    return click.unstyle(shown.decode()).replace("\r\n", "\n")


def _all_of(leader: int) -> Iterator[bytes]:
    while True:
        try:
            chunk = os.read(leader, 1 << 16)
        except OSError:
            # Linux tells the end of a terminal by an error.
            return
        if not chunk:
            return
        yield chunk


@pytest.mark.usefixtures("config")
def test_tables_on_a_terminal(tmp_path: Path) -> None:
    """A terminal gets a head, aligned columns and sizes for people."""
    (tmp_path / "shelf").mkdir()
    (tmp_path / "shelf" / "[bold]file").write_bytes(bytes(1_300_000))
    head, row = _on_a_terminal("ls", "-l", "shelf:").splitlines()
    assert head.split() == ["size", "modified", "name"]
    assert row.startswith("1.2 MiB ")
    assert row.index("[bold]file") == head.index("name")


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.usefixtures("config")
def test_ids_are_whole_on_a_terminal(columns: int) -> None:
    """No ID is broken over lines, and no line is longer than the terminal is wide."""
    shown = _on_a_terminal("types", columns=columns)
    assert "google_cloud_storage|109bbe7b-8861-45eb-8841-7244e833d97b" in shown
    assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.usefixtures("config")
def test_progress_on_a_terminal(tmp_path: Path) -> None:
    """`cp` shows its progress to a terminal, and sums up in one line."""
    (tmp_path / "file").write_bytes(bytes(LARGE))
    shown = _on_a_terminal("cp", "file", "shelf:file")
    assert "of 38.1 MiB" in shown
    assert shown.splitlines()[-1].endswith("1 file copied, 38.1 MiB")


@pytest.mark.parametrize(
    ("count", "told"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024**2 - 1, "1.0 MiB"),
        (5 * 1024**4, "5.0 TiB"),
        (1024**5, "1.0 PiB"),
    ],
)
def test_size(count: int, told: str) -> None:
    """A size for people has at most four digits before its unit."""
    assert output.size(count) == told
