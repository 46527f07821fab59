"""A local connector is its directory, and nothing above it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import ConnectorKit
from contracts.places import kit_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fsspec import AbstractFileSystem


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Name the connector's directory, beside which there is a secret."""
    (tmp_path / "secret").write_text("secret")
    return tmp_path / "root"


@pytest.fixture
def fs(root: Path) -> Iterator[AbstractFileSystem]:
    """Open the connector."""
    with kit_at("local", {"path": str(root)}) as kit:
        yield kit.resolve("it").fs


_CALLS: dict[str, Callable[[AbstractFileSystem, str, Path], Any]] = {
    "cat": lambda fs, path, _: fs.cat([path]),
    "cat_file": lambda fs, path, _: fs.cat_file(path),
    "cat_ranges": lambda fs, path, _: fs.cat_ranges([path], [0], [1], on_error="raise"),
    "cp_from": lambda fs, path, _: fs.cp(path, "copy"),
    "cp_to": lambda fs, path, _: fs.cp("inside", path),
    "exists": lambda fs, path, _: fs.exists(path),
    "find": lambda fs, path, _: fs.find(path),
    "get_file": lambda fs, path, folder: fs.get_file(path, str(folder / "got")),
    "glob": lambda fs, path, _: fs.glob(f"{path}*"),
    "info": lambda fs, path, _: fs.info(path),
    "ls": lambda fs, path, _: fs.ls(path),
    "makedirs": lambda fs, path, _: fs.makedirs(path),
    "mv": lambda fs, path, _: fs.mv("inside", path),
    "open": lambda fs, path, _: fs.open(path),
    "open_to_write": lambda fs, path, _: fs.open(path, "wb"),
    "pipe": lambda fs, path, _: fs.pipe({path: b"written"}),
    "pipe_file": lambda fs, path, _: fs.pipe_file(path, b"written"),
    "put_file": lambda fs, path, folder: fs.put_file(str(folder / "secret"), path),
    "rm": lambda fs, path, _: fs.rm(path, recursive=True),
    "rm_file": lambda fs, path, _: fs.rm_file(path),
    "tail": lambda fs, path, _: fs.tail(path),
    "touch": lambda fs, path, _: fs.touch(path),
    "walk": lambda fs, path, _: list(fs.walk(path)),
}


@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize(
    "path",
    ["../secret", "/../secret", "a/../../secret", "./../secret", "file://../../secret"],
)
def test_dots_lead_nowhere(
    fs: AbstractFileSystem, tmp_path: Path, call: str, path: str
) -> None:
    """A path that climbs above the directory is refused, whatever the call."""
    fs.pipe_file("inside", b"inside")
    with pytest.raises(ValueError, match="escapes"):
        _CALLS[call](fs, path, tmp_path)
    assert (tmp_path / "secret").read_text() == "secret"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["root", "secret"]


@pytest.mark.parametrize("form", ["{}", "file://{}", "local://{}", "~/secret"])
def test_absolute_paths_are_relative(
    fs: AbstractFileSystem, root: Path, home: Path, form: str
) -> None:
    """An absolute path, a URL and ~ are names below the directory."""
    (home / "secret").write_text("secret")
    path = form.format(root.parent / "secret")
    with pytest.raises(FileNotFoundError):
        fs.cat_file(path)
    fs.pipe_file(path, b"mine")
    assert fs.cat_file(path) == b"mine"
    assert (root.parent / "secret").read_text() == "secret"
    assert (home / "secret").read_text() == "secret"


def test_paths_are_relative(fs: AbstractFileSystem, root: Path) -> None:
    """What is listed is named by its path in the directory, as it is then asked for."""
    fs.pipe_file("folder/file", b"content")
    assert (root / "folder" / "file").read_bytes() == b"content"
    assert fs.ls("", detail=False) == ["folder"]
    assert fs.ls("folder", detail=False) == ["folder/file"]
    assert fs.find("") == ["folder/file"]
    assert fs.glob("**/f*") == ["folder", "folder/file"]
    assert list(fs.walk("")) == [("", ["folder"], []), ("folder", [], ["file"])]
    assert fs.info("folder/file")["name"] == "folder/file"


@pytest.mark.parametrize("call", ["cp", "put", "get"])
def test_slash_means_folder(
    fs: AbstractFileSystem, root: Path, tmp_path: Path, call: str
) -> None:
    """A slash at the target's end makes a folder of it, which fsspec's own loses."""
    fs.pipe_file("file", b"content")
    if call == "get":
        fs.get("file", f"{tmp_path}/new/")
        assert (tmp_path / "new" / "file").read_bytes() == b"content"
        return
    source = "file" if call == "cp" else str(root / "file")
    getattr(fs, call)(source, "new/")
    assert fs.cat_file("new/file") == b"content"


def test_connector_is_made_with_its_directory(root: Path) -> None:
    """The directory is made when the connector is resolved."""
    with kit_at("local", {"path": str(root)}) as kit:
        kit.resolve("it").check()
    assert root.is_dir()


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_leading_slash_is_the_directory_itself(slash: str, tmp_path: Path) -> None:
    """With policies and without, paths with one and without are the same place."""

    def told(fs: Any) -> list[Any]:
        fs.makedirs("a/b", exist_ok=True)
        fs.pipe_file("a/b/x", b"1")
        fs.copy(f"{slash}a/b", f"{slash}a/c", recursive=True)
        fs.mv(f"{slash}a/c/x", f"{slash}a/c/y")
        return [
            sorted(each)
            for each in (
                fs.find(""),
                fs.find(f"{slash}a"),
                fs.glob(f"{slash}a/**"),
                fs.glob(f"{slash}a/*/y"),
                fs.ls(f"{slash}a", detail=False),
                [path for path, _, _ in fs.walk(f"{slash}a")],
                fs.expand_path(f"{slash}a", recursive=True),
                fs.cat(f"{slash}a/*/x"),
            )
        ]

    settings = [{"path": str(tmp_path / name)} for name in ("bare", "guarded")]
    bare: dict[str, Any] = {"type": "local", "settings": settings[0], "policies": []}
    guarded = {"type": "local", "settings": settings[1]}
    with ConnectorKit({"connectors": {"bare": bare, "guarded": guarded}}) as kit:
        expected = told(kit.resolve("bare").fs)
        assert expected[0] == ["a/b/x", "a/c/y"]
        assert told(kit.resolve("guarded").fs) == expected
