"""`connectorkit cleanup` deletes what is old, and tells what it could not."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from connectorkit.cli import exits

if TYPE_CHECKING:
    from pathlib import Path

    from test_cli.support import Cli


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Make a folder with an old file and a new one."""
    folder = tmp_path / "shelf" / "runs"
    folder.mkdir(parents=True)
    for name in ("old", "new"):
        (folder / name).write_text(name)
    os.utime(folder / "old", (0, 0))
    return folder


def test_dry_run(cli: Cli, runs: Path) -> None:
    """A dry run tells what would go, and leaves it."""
    result = cli("cleanup", "shelf:runs", "--older-than", "24h", "--dry-run")
    facts = dict(line.split("\t") for line in result.stdout.splitlines())
    assert (facts["deleted"], facts["kept"], facts["bytes"]) == ("1", "1", "3")
    assert (runs / "old").exists()


@pytest.mark.parametrize("age", ["1s", "90m", "24h", "7d", "2w", "0.5h"])
def test_deletes(cli: Cli, runs: Path, age: str) -> None:
    """What is older than the age goes; as JSON it is a report."""
    new = runs / "new"
    os.utime(new, (2e9, 2e9))
    result = cli("cleanup", "shelf:runs", "--older-than", age, "--json")
    assert result.exit_code == exits.OK
    report = json.loads(result.stdout)
    assert (report["deleted"], report["kept"], report["errors"]) == (1, 1, {})
    assert [each.name for each in runs.iterdir()] == ["new"]


@pytest.mark.parametrize(
    "args",
    [
        ("shelf:",),
        ("shelf:.",),
        ("shelf:runs", "--older-than", "soon"),
        ("shelf:runs", "--older-than", "-1h"),
        ("shelf:runs", "--older-than", f"{10**20}w"),
        ("runs",),
    ],
)
def test_refuses(cli: Cli, runs: Path, args: tuple[str, ...]) -> None:
    """No folder, no age and no connector are mistakes; nothing is deleted."""
    result = cli("cleanup", *args)
    assert result.exit_code == exits.USAGE
    assert len(list(runs.iterdir())) == 2


def test_tells_what_is_left(
    cli: Cli, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be deleted is told, and makes the command fail; the rest goes."""
    from connectorkit_local import LocalDirectory

    remove = LocalDirectory.rm_file

    def rm_file(self: LocalDirectory, path: str) -> None:
        if path.endswith("old"):
            raise PermissionError("locked")
        remove(self, path)

    monkeypatch.setattr(LocalDirectory, "rm_file", rm_file)
    result = cli("cleanup", "shelf:runs")
    assert result.exit_code == exits.FAILED
    assert [each.name for each in runs.iterdir()] == ["old"]
    told, last = result.stderr.splitlines()
    assert "locked" in told
    assert "shelf:runs" in last


def test_missing_folder(cli: Cli) -> None:
    """A folder that is not there is clean."""
    result = cli("cleanup", "mem:nothing/here")
    assert result.exit_code == exits.OK
    assert result.stderr == ""
