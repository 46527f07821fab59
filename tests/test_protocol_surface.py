"""Every public method of a filesystem is the connector's own, or harmless."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import pytest
from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from connectorkit import ConnectorKit, set_default_kit
from connectorkit.protocol.filesystem import ConnectorFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ID = "minio|c799f6e3"
FILES = {"/a/b": b"content", "/a/c/d": b"deeper", "/e": b"one\ntwo\nthree"}

# What touches no storage, and why it need not.
HARMLESS = {
    "async_impl": "says what it is",
    "blocksize": "says how much is read at a time",
    "cachable": "says what fsspec may do",
    "clear_instance_cache": "forgets filesystems",
    "current": "finds a filesystem",
    "end_transaction": "commits files, each of which is the connector's",
    "from_dict": "makes a filesystem",
    "from_json": "makes a filesystem",
    "fsid": "says what it is",
    "get_mapper": "makes a mapping that uses this filesystem",
    "mirror_sync_methods": "says how it is made",
    "protocol": "says what it is",
    "root_marker": "says how paths are written",
    "sep": "says how paths are written",
    "start_transaction": "opens nothing",
    "to_dict": "tells its configuration's path",
    "to_json": "tells its configuration's path",
    "transaction": "opens nothing",
    "transaction_type": "says what a transaction is",
    "unstrip_protocol": "writes a path in another way",
}

# How each other method is called, and what is asked of the connector then, if that is
# not the method of this name.
CALLS: dict[str, tuple[Callable[[Any, str, Path], Any], str]] = {
    "cat": (lambda fs, p, _: fs.cat([f"{p}/a/b", f"{p}/e"]), ""),
    "cat_file": (lambda fs, p, _: fs.cat_file(f"{p}/a/b"), ""),
    "cat_ranges": (lambda fs, p, _: fs.cat_ranges([f"{p}/a/b"], [0], [1]), ""),
    "checksum": (lambda fs, p, _: fs.checksum(f"{p}/a/b"), ""),
    "copy": (lambda fs, p, _: fs.copy(f"{p}/a/b", f"{p}/f"), ""),
    "cp": (lambda fs, p, _: fs.cp(f"{p}/a/b", f"{p}/f"), "copy"),
    "cp_file": (lambda fs, p, _: fs.cp_file(f"{p}/a/b", f"{p}/f"), ""),
    "created": (lambda fs, p, _: fs.created(f"{p}/a/b"), ""),
    "delete": (lambda fs, p, _: fs.delete(f"{p}/a/b"), "rm"),
    "disk_usage": (lambda fs, p, _: fs.disk_usage(f"{p}/a"), "du"),
    "download": (lambda fs, p, tmp: fs.download(f"{p}/e", f"{tmp}/got"), "get"),
    "du": (lambda fs, p, _: fs.du(f"{p}/a"), ""),
    "exists": (lambda fs, p, _: fs.exists(f"{p}/a/b"), ""),
    "expand_path": (lambda fs, p, _: fs.expand_path(f"{p}/a", recursive=True), ""),
    "find": (lambda fs, p, _: fs.find(f"{p}/a"), ""),
    "get": (lambda fs, p, tmp: fs.get(f"{p}/e", f"{tmp}/got"), ""),
    "get_file": (lambda fs, p, tmp: fs.get_file(f"{p}/e", f"{tmp}/got"), ""),
    "glob": (lambda fs, p, _: fs.glob(f"{p}/a/*"), ""),
    "head": (lambda fs, p, _: fs.head(f"{p}/e", 3), ""),
    "info": (lambda fs, p, _: fs.info(f"{p}/e"), ""),
    "invalidate_cache": (lambda fs, p, _: fs.invalidate_cache(f"{p}/a"), ""),
    "isdir": (lambda fs, p, _: fs.isdir(f"{p}/a"), ""),
    "isfile": (lambda fs, p, _: fs.isfile(f"{p}/a"), ""),
    "lexists": (lambda fs, p, _: fs.lexists(f"{p}/a"), ""),
    "listdir": (lambda fs, p, _: fs.listdir(f"{p}/a"), "ls"),
    "ls": (lambda fs, p, _: fs.ls(f"{p}/a"), ""),
    "makedir": (lambda fs, p, _: fs.makedir(f"{p}/new"), "mkdir"),
    "makedirs": (lambda fs, p, _: fs.makedirs(f"{p}/new"), ""),
    "mkdir": (lambda fs, p, _: fs.mkdir(f"{p}/new"), ""),
    "mkdirs": (lambda fs, p, _: fs.mkdirs(f"{p}/new"), "makedirs"),
    "modified": (lambda fs, p, _: fs.modified(f"{p}/e"), ""),
    "move": (lambda fs, p, _: fs.move(f"{p}/a/b", f"{p}/f"), "mv"),
    "mv": (lambda fs, p, _: fs.mv(f"{p}/a/b", f"{p}/f"), ""),
    "open": (lambda fs, p, _: fs.open(f"{p}/e").read(), ""),
    "pipe": (lambda fs, p, _: fs.pipe({f"{p}/f": b"1"}), ""),
    "pipe_file": (lambda fs, p, _: fs.pipe_file(f"{p}/f", b"1"), ""),
    "put": (lambda fs, p, tmp: fs.put(f"{tmp}/file", f"{p}/f"), ""),
    "put_file": (lambda fs, p, tmp: fs.put_file(f"{tmp}/file", f"{p}/f"), ""),
    "read_block": (lambda fs, p, _: fs.read_block(f"{p}/e", 0, 3), ""),
    "read_bytes": (lambda fs, p, _: fs.read_bytes(f"{p}/e"), ""),
    "read_text": (lambda fs, p, _: fs.read_text(f"{p}/e"), ""),
    "rename": (lambda fs, p, _: fs.rename(f"{p}/a/b", f"{p}/f"), "mv"),
    "rm": (lambda fs, p, _: fs.rm(f"{p}/a", recursive=True), ""),
    "rm_file": (lambda fs, p, _: fs.rm_file(f"{p}/e"), ""),
    "rmdir": (lambda fs, p, _: fs.rmdir(f"{p}/empty"), ""),
    "sign": (lambda fs, p, _: fs.sign(f"{p}/e", 10), ""),
    "size": (lambda fs, p, _: fs.size(f"{p}/e"), ""),
    "sizes": (lambda fs, p, _: fs.sizes([f"{p}/e"]), ""),
    "stat": (lambda fs, p, _: fs.stat(f"{p}/e"), "info"),
    "tail": (lambda fs, p, _: fs.tail(f"{p}/e", 3), ""),
    "touch": (lambda fs, p, _: fs.touch(f"{p}/f"), ""),
    "tree": (lambda fs, p, _: fs.tree(f"{p}/a"), "ls"),
    "ukey": (lambda fs, p, _: fs.ukey(f"{p}/e"), ""),
    "upload": (lambda fs, p, tmp: fs.upload(f"{tmp}/file", f"{p}/f"), "put"),
    "walk": (lambda fs, p, _: list(fs.walk(f"{p}/a")), ""),
    "write_bytes": (lambda fs, p, _: fs.write_bytes(f"{p}/f", b"1"), ""),
    "write_text": (lambda fs, p, _: fs.write_text(f"{p}/f", "1"), ""),
}
PUBLIC = {name for name in dir(AbstractFileSystem) if not name.startswith("_")}


class Spy(MemoryFileSystem):  # type: ignore[misc]
    """A storage that remembers which of its methods were asked for."""

    cachable = False

    def __init__(self) -> None:
        super().__init__(global_store=False)
        self.asked: list[str] = []
        self.pipe({**FILES})
        self.mkdir("/empty")
        self.asked.clear()

    def __getattribute__(self, name: str) -> Any:
        if name in PUBLIC - HARMLESS.keys():
            super().__getattribute__("asked").append(name)
        return super().__getattribute__(name)

    def sign(self, path: str, expiration: int = 100, **_: Any) -> str:
        return f"signed {path} for {expiration} s"


class SpyKit:
    """A kit of one connector, whose filesystem is a spy."""

    def __init__(self) -> None:
        self.fs = Spy()

    def resolve(self, connector_id: str) -> SpyKit:
        assert connector_id == ID
        return self


@pytest.fixture
def spy() -> Iterator[Spy]:
    """Have `connector://` find a spy."""
    kit = SpyKit()
    with set_default_kit(cast("ConnectorKit", kit)):
        yield kit.fs


def test_every_method_is_known() -> None:
    """What a filesystem can do is called below, or harmless for a reason."""
    assert {*CALLS, *HARMLESS} == PUBLIC
    assert CALLS.keys().isdisjoint(HARMLESS)


@pytest.mark.parametrize("prefix", [ID, f"connector://{ID}"])
@pytest.mark.parametrize("method", CALLS)
def test_method_is_delegated(
    method: str, prefix: str, spy: Spy, tmp_path: Path
) -> None:
    """The connector's filesystem is asked by its own method."""
    (tmp_path / "file").write_bytes(b"12345")
    call, asked = CALLS[method]
    call(ConnectorFileSystem(), prefix, tmp_path)
    assert (asked or method) == spy.asked[0]


def _paths(answer: Any) -> list[str]:
    """Return the paths in an answer."""
    if isinstance(answer, str):
        return [answer]
    if isinstance(answer, dict) and "name" in answer:
        return [answer["name"]]
    if isinstance(answer, dict):
        return [*answer, *_paths([v for v in answer.values() if isinstance(v, dict)])]
    return [path for each in answer for path in _paths(each)]


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("ls", {"detail": True}),
        ("ls", {"detail": False}),
        ("listdir", {"detail": True}),
        ("find", {"detail": True}),
        ("find", {"detail": False, "withdirs": True}),
        ("glob", {"detail": True}),
        ("glob", {"detail": False}),
        ("info", {}),
        ("stat", {}),
        ("cat", {"on_error": "omit"}),
        ("expand_path", {"recursive": True}),
        ("du", {"total": False}),
    ],
)
def test_answer_has_outer_paths(method: str, options: dict[str, Any], spy: Spy) -> None:
    """Each path that is answered begins with the ID, and leads there again."""
    fs = ConnectorFileSystem()
    path = f"connector://{ID}/a" + ("/*" if method in {"cat", "glob"} else "")
    found = _paths(getattr(fs, method)(path, **options))
    assert found
    for each in found:
        assert each.startswith(f"{ID}/a")
        assert spy.exists(each.removeprefix(ID))
        assert fs.exists(each)


@pytest.mark.usefixtures("spy")
def test_walk_has_outer_paths() -> None:
    """So has each step of a walk, and what is taken out of one is not walked."""
    fs = ConnectorFileSystem()
    assert [root for root, _, _ in fs.walk(ID)] == [
        ID,
        f"{ID}/a",
        f"{ID}/a/c",
        f"{ID}/empty",
    ]
    for detail in (True, False):
        seen = []
        for root, folders, files in fs.walk(ID, detail=detail):
            seen.append(root)
            if detail:
                names = [each["name"] for each in [*folders.values(), *files.values()]]
                assert all(name.startswith(f"{ID}/") for name in names)
            if root == f"{ID}/a":
                folders.pop("c") if detail else folders.remove("c")
        assert seen == [ID, f"{ID}/a", f"{ID}/empty"]
