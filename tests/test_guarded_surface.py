"""Every public method of a filesystem and of a file is guarded, or harmless."""

from __future__ import annotations

import io
import zipfile
from typing import TYPE_CHECKING, Any

import pytest
from fsspec import AbstractFileSystem
from fsspec.asyn import AbstractAsyncStreamedFile, AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileOpener, LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem
from fsspec.spec import AbstractBufferedFile

from guarding import AsyncShelf, Guard, Shelf

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

FILES = {"a/b": b"content", "a/c/d": b"deeper", "e": b"one\ntwo\nthree"}

# What does nothing on a storage, and why it need not.
HARMLESS = {
    "async_impl": "says what it is",
    "auto_mkdir": "says how the inner one is set",
    "blocksize": "says how much is read at a time",
    "cachable": "says what fsspec may do",
    "clear_instance_cache": "forgets filesystems",
    "close": "ends an archive; through the guard as an operation",
    "current": "finds a filesystem",
    "disable_throttling": "says how many coroutines run at a time",
    "end_transaction": "closes files, each of which is guarded",
    "from_dict": "makes a filesystem",
    "from_json": "makes a filesystem",
    "fsid": "says what it is",
    "get_mapper": "makes a mapping that uses the guarded filesystem",
    "global_store": "says where the memory is",
    "invalidate_cache": "forgets listings, the inner filesystem's as well",
    "local_file": "says what it is",
    "loop": "says where it runs",
    "mirror_sync_methods": "says how it is made",
    "open_async": "of an asynchronous one; see below",
    "protocol": "says what it is",
    "pseudo_dirs": "is the memory itself",
    "root_marker": "says how paths are written",
    "sep": "says how paths are written",
    "set_session": "connects; an asynchronous one's, and no operation of a sync one",
    "start_transaction": "opens nothing",
    "storage_args": "says how it was made",
    "storage_options": "says how it was made",
    "store": "is the memory itself",
    "to_dict": "refuses",
    "to_json": "refuses",
    "transaction": "opens nothing",
    "transaction_type": "says what a transaction is",
    "unstrip_protocol": "writes a path in another way",
}

# How each method that touches a storage is called.
CALLS: dict[str, Callable[[Any, Path], Any]] = {
    "cat": lambda fs, _: fs.cat(["a/b", "e"]),
    "cat_file": lambda fs, _: fs.cat_file("a/b"),
    "cat_ranges": lambda fs, _: fs.cat_ranges(["a/b", "e"], 0, 1),
    "checksum": lambda fs, _: fs.checksum("a/b"),
    "copy": lambda fs, _: fs.copy("a/b", "f"),
    "cp": lambda fs, _: fs.cp("a/b", "f"),
    "cp_file": lambda fs, _: fs.cp_file("a/b", "f"),
    "created": lambda fs, _: fs.created("a/b"),
    "delete": lambda fs, _: fs.delete("a/b"),
    "disk_usage": lambda fs, _: fs.disk_usage("a"),
    "download": lambda fs, tmp: fs.download("a/b", f"{tmp}/got"),
    "du": lambda fs, _: fs.du("a"),
    "exists": lambda fs, _: fs.exists("a/b"),
    "expand_path": lambda fs, _: fs.expand_path("a", recursive=True),
    "find": lambda fs, _: fs.find("a"),
    "get": lambda fs, tmp: fs.get("a/b", f"{tmp}/got"),
    "get_file": lambda fs, tmp: fs.get_file("a/b", f"{tmp}/got"),
    "glob": lambda fs, _: fs.glob("a/*"),
    "head": lambda fs, _: fs.head("e", 3),
    "info": lambda fs, _: fs.info("a/b"),
    "isdir": lambda fs, _: fs.isdir("a"),
    "isfile": lambda fs, _: fs.isfile("a"),
    "lexists": lambda fs, _: fs.lexists("a"),
    "listdir": lambda fs, _: fs.listdir("a"),
    "ls": lambda fs, _: fs.ls("a"),
    "makedir": lambda fs, _: fs.makedir("new"),
    "makedirs": lambda fs, _: fs.makedirs("new"),
    "mkdir": lambda fs, _: fs.mkdir("new"),
    "mkdirs": lambda fs, _: fs.mkdirs("new"),
    "modified": lambda fs, _: fs.modified("a/b"),
    "move": lambda fs, _: fs.move("a/b", "f"),
    "mv": lambda fs, _: fs.mv("a/b", "f"),
    "open": lambda fs, _: fs.open("a/b").read(),
    "pipe": lambda fs, _: fs.pipe({"f": b"1", "g": b"2"}),
    "pipe_file": lambda fs, _: fs.pipe_file("f", b"1"),
    "put": lambda fs, tmp: fs.put(f"{tmp}/file", "f"),
    "put_file": lambda fs, tmp: fs.put_file(f"{tmp}/file", "f"),
    "read_block": lambda fs, _: fs.read_block("e", 0, 3),
    "read_bytes": lambda fs, _: fs.read_bytes("a/b"),
    "read_text": lambda fs, _: fs.read_text("a/b"),
    "rename": lambda fs, _: fs.rename("a/b", "f"),
    "rm": lambda fs, _: fs.rm("a/b"),
    "rm_file": lambda fs, _: fs.rm_file("a/b"),
    "rmdir": lambda fs, _: fs.rmdir("a"),
    "sign": lambda fs, _: fs.sign("a/b"),
    "size": lambda fs, _: fs.size("a/b"),
    "sizes": lambda fs, _: fs.sizes(["a/b", "e"]),
    "stat": lambda fs, _: fs.stat("a/b"),
    "tail": lambda fs, _: fs.tail("e", 3),
    "touch": lambda fs, _: fs.touch("f"),
    "tree": lambda fs, _: fs.tree("a"),
    "ukey": lambda fs, _: fs.ukey("a/b"),
    "upload": lambda fs, tmp: fs.upload(f"{tmp}/file", "f"),
    "walk": lambda fs, _: list(fs.walk("a")),
    "write_bytes": lambda fs, _: fs.write_bytes("f", b"1"),
    "write_text": lambda fs, _: fs.write_text("f", "1"),
}
# These do what one operation is by several steps on the storage: look, open, send,
# commit.
_IN_STEPS = {
    "pipe",
    "pipe_file",
    "put",
    "put_file",
    "touch",
    "upload",
    "write_bytes",
    "write_text",
}

# What only some inner classes have: through `__getattr__`, each an operation.
EXTRA = {"chmod", "islink", "link", "symlink"}

_CLASSES = (
    AbstractFileSystem,
    AsyncFileSystem,
    DirFileSystem,
    LocalFileSystem,
    MemoryFileSystem,
    ZipFileSystem,
)


def _public(*classes: type) -> set[str]:
    return {name for each in classes for name in dir(each) if not name.startswith("_")}


def test_every_method_is_known() -> None:
    """What any of these classes can do is called below, or harmless for a reason."""
    assert _public(*_CLASSES) == {*CALLS, *EXTRA} | (
        HARMLESS.keys() & _public(*_CLASSES)
    )
    assert CALLS.keys().isdisjoint(HARMLESS)


@pytest.mark.parametrize("method", CALLS)
def test_method_is_guarded(method: str, tmp_path: Path) -> None:
    """Each access to the storage is one operation, of which each is one access."""
    (tmp_path / "file").write_bytes(b"12345")
    shelf = Shelf(FILES)
    guard = Guard(shelf)
    CALLS[method](guard.fs, tmp_path)
    assert guard.ops
    if method in _IN_STEPS:
        assert len(guard.ops) <= len(shelf.asked)
        assert not {"upload", "commit"} & {*guard.names}
    else:
        assert len(guard.ops) == len(shelf.asked)


@pytest.mark.parametrize("method", CALLS)
def test_method_is_guarded_asynchronous(method: str, tmp_path: Path) -> None:
    """So it is of an asynchronous filesystem, called from a thread."""
    if method in {"created", "modified", "rmdir", "sign"}:
        # It has none of these.
        return
    (tmp_path / "file").write_bytes(b"12345")
    shelf = AsyncShelf(FILES)
    guard = Guard(shelf)
    CALLS[method](guard.fs, tmp_path)
    assert guard.ops
    assert len(guard.ops) == len(shelf.asked)


@pytest.mark.parametrize("method", sorted(EXTRA))
def test_extra_method_is_guarded(method: str, tmp_path: Path) -> None:
    """What only the inner class has is one operation as well."""
    source, target = tmp_path / "file", tmp_path / "new"
    source.touch()
    guard = Guard(LocalFileSystem())
    calls: dict[str, tuple[Any, ...]] = {
        "chmod": (str(source), 0o600),
        "islink": (str(source),),
        "link": (str(source), str(target)),
        "symlink": (str(source), str(target)),
    }
    getattr(guard.fs, method)(*calls[method])
    assert guard.names == [method]


# Open files

# Where a file is, what it may do, how big it is: nothing of that asks the storage.
_SAYS = {
    "autocommit",
    "blocksize",
    "closed",
    "compression",
    "created",
    "details",
    "encoding",
    "errors",
    "fileno",
    "full_name",
    "info",
    "isatty",
    "line_buffering",
    "loc",
    "mode",
    "modified",
    "name",
    "newlines",
    "raw",
    "readable",
    "seekable",
    "size",
    "tell",
    "writable",
}
FILE_HARMLESS = {
    **dict.fromkeys(_SAYS, "says what it is"),
    "DEFAULT_BLOCK_SIZE": "says how much is read at a time",
    "MAX_N": "says how much is read at a time",
    "MAX_SEEK_READ": "says how much is read at a time",
    "MIN_READ_SIZE": "says how much is read at a time",
    "commit": "of a written file; see there",
    "detach": "hands out the buffer's source, which is guarded",
    "discard": "of a written file; see there",
    "getbuffer": "is the memory itself",
    "getvalue": "is the memory itself; through the guard as an operation",
}
READS: dict[str, Callable[[Any], Any]] = {
    "__iter__": list,
    "__next__": next,
    "peek": lambda file: file.peek(1),
    "read": lambda file: file.read(),
    "read1": lambda file: file.read1(4),
    "readinto": lambda file: file.readinto(bytearray(4)),
    "readinto1": lambda file: file.readinto1(bytearray(4)),
    "readline": lambda file: file.readline(),
    "readlines": lambda file: file.readlines(),
    "readuntil": lambda file: file.readuntil(),
}
WRITES: dict[str, Callable[[Any], Any]] = {
    "close": lambda file: file.close(),
    "flush": lambda file: file.flush(),
    "seek": lambda file: file.seek(0, io.SEEK_END),
    "truncate": lambda file: file.truncate(2),
    "write": lambda file: (file.write(b"1"), file.flush()),
    "writelines": lambda file: (file.writelines([b"1"]), file.flush()),
}
_FILES = (
    AbstractBufferedFile,
    LocalFileOpener,
    MemoryFile,
    io.BufferedRandom,
    io.BufferedReader,
    zipfile.ZipExtFile,
)


def test_every_file_method_is_known() -> None:
    """What any of these files can do is called below, or harmless (F5)."""
    known = {*READS, *WRITES} - {"__iter__", "__next__"}
    assert _public(*_FILES) == known | (FILE_HARMLESS.keys() & _public(*_FILES))
    assert known.isdisjoint(FILE_HARMLESS)


def _opened(inner: str, tmp_path: Path, mode: str) -> tuple[Guard, Any]:
    """Open a file of three lines, and forget what that took."""
    fs: AbstractFileSystem = Shelf(FILES)
    path = "e"
    if inner == "local":
        fs, path = LocalFileSystem(), str(tmp_path / "e")
    elif inner == "memory":
        fs, path = MemoryFileSystem(global_store=False, skip_instance_cache=True), "/e"
    if inner != "shelf":
        fs.pipe_file(path, FILES["e"])
    guard = Guard(fs)
    file = guard.fs.open(path, mode)
    assert file.fs is guard.fs
    assert file.path == path
    guard.ops.clear()
    return guard, file


@pytest.mark.parametrize("method", READS)
@pytest.mark.parametrize("inner", ["local", "memory", "shelf"])
def test_read_is_guarded(inner: str, method: str, tmp_path: Path) -> None:
    """What is read comes through the pipeline (F5)."""
    guard, file = _opened(inner, tmp_path, "rb")
    if not hasattr(file, method):
        assert inner == "shelf" or method == "readuntil"
        return
    with file:
        READS[method](file)
    # Of several pieces the version is looked up at the end.
    assert {*guard.names} - {"info"} == {"read"}


def test_extra_file_method_is_guarded(tmp_path: Path) -> None:
    """What only the inner file has is an operation as well, and never tried twice."""
    guard, file = _opened("memory", tmp_path, "rb")
    with file:
        assert file.getvalue() == FILES["e"]
    [op] = guard.ops
    assert (op.name, op.is_repeatable) == ("getvalue", False)


def test_fetches_are_counted() -> None:
    """A file of fsspec's own kind is one operation a fetch, none from its cache."""
    shelf = Shelf(FILES)
    guard = Guard(shelf)
    with guard.fs.open("e", cache_type="readahead", block_size=4) as file:
        while file.read(1):
            pass
    fetches = shelf.asked.count("fetch")
    assert 1 < fetches < len(FILES["e"])
    assert guard.names.count("read") == fetches


@pytest.mark.parametrize("method", WRITES)
@pytest.mark.parametrize("inner", ["local", "memory"])
def test_write_in_place_is_guarded(inner: str, method: str, tmp_path: Path) -> None:
    """What changes a file in place is an operation, and never tried twice (F5)."""
    guard, file = _opened(inner, tmp_path, "r+b")
    WRITES[method](file)
    assert guard.ops
    assert not any(op.is_repeatable for op in guard.ops if op.name != "seek")
    file.close()


@pytest.mark.parametrize("inner", ["local", "memory", "shelf"])
def test_staged_file_is_guarded(inner: str, tmp_path: Path) -> None:
    """What is written is one operation, when the file is closed (F5)."""
    guard, file = _opened(inner, tmp_path, "wb")
    for method in WRITES.keys() - {"close"}:
        WRITES[method](file)
    assert guard.names == []
    file.close()
    assert guard.names == ["close"]


def test_stream_has_no_other_methods() -> None:
    """A file with coroutines has those that are guarded, and what says what it is."""
    from connectorkit.guarded.streams import GuardedStream

    stream = GuardedStream.__new__(GuardedStream)
    stream._inner = AbstractAsyncStreamedFile.__new__(AbstractAsyncStreamedFile)
    reachable = {
        name
        for name in _public(AbstractAsyncStreamedFile) - _public(GuardedStream)
        if hasattr(stream, name)
    }
    assert reachable <= _SAYS | {"seek"}
