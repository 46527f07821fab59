"""`connectorkit cache`: what is on disk, and deleting it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from connectorkit.cli import exits
from connectorkit_cache.locks import let_go, take
from test_cache.support import Shelves, entries
from test_cli.support import only_line

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from test_cli.support import Cli


def fill(directory: Path) -> None:
    """Fill a cache with two entries of one connector, and one of a tenant's."""
    with Shelves("content", content={"directory": str(directory)}) as shelves:
        shelves.shelf({"k": b"content", "l": b"another"})
        shelves.fs().cat(["k", "l"])
        shelves.fs("shelf", name="it", secret="s").cat_file("k")


def test_show(cli: Cli, tmp_path: Path) -> None:
    """It tells how much there is, by the connector that fetched it."""
    fill(tmp_path)
    entries(tmp_path)[0].with_suffix(".part").touch()
    result = cli("cache", "show", "--dir", tmp_path, "--json")
    assert result.exit_code == exits.OK
    [told] = json.loads(result.stdout)
    size = sum(it.stat().st_size for it in entries(tmp_path))
    counts = {name: it["entries"] for name, it in told["connectors"].items()}
    assert counts == {"it": 2, "shelf": 1}
    assert (told["entries"], told["bytes"], told["parts"]) == (3, size, 1)
    assert told["damaged"] == 0
    text = cli("cache", "show", "--dir", tmp_path).stdout
    assert "3 entries" in text
    assert "  it: 2 entries" in text


def test_show_where_nothing_is(cli: Cli, tmp_path: Path) -> None:
    """A directory that is not there has no entries, and is not made."""
    result = cli("cache", "show", "--dir", tmp_path / "none", "--json")
    assert json.loads(result.stdout)[0]["entries"] == 0
    assert not (tmp_path / "none").exists()


def test_show_what_is_damaged(cli: Cli, tmp_path: Path) -> None:
    """A damaged entry is counted as one."""
    fill(tmp_path)
    os.truncate(entries(tmp_path)[0], 3)
    [told] = json.loads(cli("cache", "show", "--dir", tmp_path, "--json").stdout)
    assert (told["entries"], told["damaged"]) == (2, 1)


def test_directories_of_the_configuration(cli: Cli, tmp_path: Path) -> None:
    """Without `--dir` they are those that the configuration names, each once."""
    config = tmp_path / "connectorkit.toml"
    config.write_text(
        f'[policies]\ncontent = {{ directory = "{tmp_path}/all" }}\n'
        f'[connectors.a]\ntype = "memory"\ncontent = {{ directory = "{tmp_path}/a" }}\n'
        '[connectors.b]\ntype = "memory"\n'
    )
    result = cli("cache", "show", "--config", config, "--json")
    places = [it["directory"] for it in json.loads(result.stdout)]
    assert places == [f"{tmp_path}/all", f"{tmp_path}/a"]


def test_a_directory_by_a_reference(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is what the policy takes it for; settings that are wrong are told."""
    config = tmp_path / "connectorkit.toml"
    table = '[connectors.a]\ntype = "memory"\npolicies = ["content"]\n'
    config.write_text(f'{table}content = {{ directory = "env:LAKE" }}\n')
    monkeypatch.setenv("LAKE", str(tmp_path / "lake"))
    result = cli("cache", "show", "--config", config, "--json")
    assert json.loads(result.stdout)[1]["directory"] == str(tmp_path / "lake")
    monkeypatch.delenv("LAKE")
    result = cli("cache", "show", "--config", config)
    assert "'LAKE', which is not set" in only_line(result)
    config.write_text(f"{table}content = {{ max_bites = 1 }}\n")
    result = cli("cache", "show", "--config", config)
    assert "did you mean 'max_bytes'" in only_line(result)


def test_what_is_no_entry(cli: Cli, tmp_path: Path) -> None:
    """A folder, a link or a pipe among the entries is told, and not waited for."""
    fill(tmp_path)
    folder = entries(tmp_path)[0].parent
    (folder / "folder").mkdir()
    (folder / "folder.part").mkdir()
    (folder / "link").symlink_to("/nowhere")
    os.mkfifo(folder / "pipe")
    [told] = json.loads(cli("cache", "show", "--dir", tmp_path, "--json").stdout)
    assert (told["entries"], told["damaged"]) == (3, 3)
    result = cli("cache", "clear", "--dir", tmp_path, "--yes")
    assert "2 entries could not be deleted" in result.stderr
    assert entries(tmp_path) == [folder / "folder", folder / "folder.part"]


def test_clear_asks(cli: Cli, tmp_path: Path) -> None:
    """Nothing is deleted unless somebody says yes."""
    fill(tmp_path)
    result = cli("cache", "clear", "--dir", tmp_path, stdin="n\n")
    assert result.exit_code != exits.OK
    assert len(entries(tmp_path)) == 3
    result = cli("cache", "clear", "--dir", tmp_path, stdin="y\n")
    assert result.exit_code == exits.OK
    assert str(tmp_path) in result.stderr
    assert entries(tmp_path) == []


def test_clear(cli: Cli, tmp_path: Path) -> None:
    """With `--yes` it does not ask; what is being filled stays."""
    fill(tmp_path)
    part = entries(tmp_path)[0].with_suffix(".part")
    descriptor = take(part, 1)
    assert descriptor is not None
    try:
        result = cli("cache", "clear", "--dir", tmp_path, "--yes", "--json")
    finally:
        let_go(descriptor)
    [told] = json.loads(result.stdout)
    assert (told["entries"], told["failed"]) == (3, 0)
    assert entries(tmp_path) == [part]
    assert int((tmp_path / "v1" / "usage").read_text()) == 0


def test_a_wrong_option_is_told(cli: Cli, tmp_path: Path) -> None:
    """A file is no directory of a cache."""
    (tmp_path / "file").touch()
    result = cli("cache", "show", "--dir", tmp_path / "file")
    assert result.exit_code == exits.USAGE
    assert "is a file" in only_line(result)
