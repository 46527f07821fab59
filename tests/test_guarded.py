"""A guarded filesystem is the inner one, and each access to it is an operation."""

from __future__ import annotations

import contextlib
import errno
import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.implementations.zip import ZipFileSystem

from connectorkit import Kind, NotPicklable
from connectorkit.guarded import GuardedFileSystem
from contracts.places import kit_at
from guarding import FILES, Guard, Shelf, reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec import AbstractFileSystem


@pytest.fixture
def shelf() -> Shelf:
    """Make a storage with a few files."""
    return Shelf(FILES)


@pytest.fixture
def guard(shelf: Shelf) -> Guard:
    """Guard it."""
    return Guard(shelf)


# (method, arguments, its operations, their kind)
_EACH: list[tuple[str, tuple[Any, ...], list[str], Kind]] = [
    ("cat_file", ("a/b",), ["cat_file"], Kind.READ),
    ("info", ("a/b",), ["info"], Kind.READ),
    ("exists", ("a/b",), ["exists"], Kind.READ),
    ("isfile", ("a/b",), ["isfile"], Kind.READ),
    ("isdir", ("a/b",), ["isdir"], Kind.READ),
    ("size", ("a/b",), ["size"], Kind.READ),
    ("ukey", ("a/b",), ["ukey"], Kind.READ),
    ("checksum", ("a/b",), ["checksum"], Kind.READ),
    ("created", ("a/b",), ["created"], Kind.READ),
    ("modified", ("a/b",), ["modified"], Kind.READ),
    ("sign", ("a/b",), ["sign"], Kind.READ),
    ("ls", ("a",), ["ls"], Kind.LIST),
    ("find", ("a",), ["ls", "ls"], Kind.LIST),
    ("pipe_file", ("a/b", b"new"), ["pipe_file"], Kind.WRITE),
    ("cp_file", ("a/b", "f"), ["cp_file"], Kind.WRITE),
    ("mkdir", ("new",), ["mkdir"], Kind.WRITE),
    ("makedirs", ("new",), ["makedirs"], Kind.WRITE),
    ("rm_file", ("a/b",), ["rm_file"], Kind.DELETE),
    ("rmdir", ("a",), ["rmdir"], Kind.DELETE),
]


@pytest.mark.parametrize(
    ("method", "args", "names", "kind"), _EACH, ids=[each[0] for each in _EACH]
)
def test_method_is_an_operation(
    guard: Guard, method: str, args: tuple[Any, ...], names: list[str], kind: Kind
) -> None:
    """A method is an operation by its own name, of its kind and bucket."""
    getattr(guard.fs, method)(*args)
    assert guard.names == names
    assert {op.kind for op in guard.ops} == {kind}
    assert {op.bucket for op in guard.ops} == {args[0].partition("/")[0]}


@pytest.mark.parametrize("path", ["a/b", "shelf://a/b", Path("a/b")])
def test_operation_names_the_path(guard: Guard, path: Any) -> None:
    """Bucket and path are those of the storage, however the path is written."""
    guard.fs.info(path)
    [op] = guard.ops
    assert (op.bucket, op.path) == ("a", "a/b")


def test_bytes_are_counted(guard: Guard, tmp_path: Path) -> None:
    """What came and what went is counted, for reads, gets, writes and puts."""
    guard.fs.cat_file("a/b")
    guard.fs.get_file("a/b", str(tmp_path / "b"))
    guard.fs.put_file(str(tmp_path / "b"), "new")
    guard.fs.pipe_file("newer", b"12345")
    with guard.fs.open("newest", "wb") as file:
        file.write(b"123")
    with guard.fs.open("newest") as file:
        file.read()
    counts = {op.name: op.bytes for op in guard.ops if op.bytes}
    assert counts == {
        "cat_file": 7,
        "get_file": 7,
        "put_file": 7,
        "pipe_file": 5,
        "close": 3,
        "read": 3,
    }


def test_parts_belong_to_one_call(guard: Guard) -> None:
    """The operations of one public method share its call; two methods do not."""
    guard.fs.cat(["a/b", "e"])
    guard.fs.find("")
    cats = [op.call for op in guard.ops if op.name == "cat_file"]
    lists = [op.call for op in guard.ops if op.name == "ls"]
    assert len({*cats}) == 1
    assert None not in cats
    assert {*cats}.isdisjoint(lists)


class TestRetry:
    """What may pass is tried again, if that cannot do harm."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda fs: fs.cat_file("a/b"),
            lambda fs: fs.info("a/b"),
            lambda fs: fs.ls("a"),
            lambda fs: fs.exists("a/b"),
            lambda fs: fs.cp_file("a/b", "f"),
            lambda fs: fs.rm_file("a/b"),
            lambda fs: fs.pipe_file("f", b"new"),
            lambda fs: fs.makedirs("f", exist_ok=True),
        ],
    )
    def test_of_what_is_repeatable(
        self, guard: Guard, shelf: Shelf, call: Callable[[Any], Any]
    ) -> None:
        """A transient failure is not seen, and costs one attempt."""
        shelf.fail(reset())
        call(guard.fs)
        assert (len(guard.ops), guard.attempts) == (1, 2)

    @pytest.mark.parametrize(
        "call",
        [
            lambda fs: fs.mkdir("f"),
            lambda fs: fs.makedirs("f"),
            lambda fs: fs.pipe_file("f", b"new", mode="create"),
            lambda fs: _write(fs, "e", "ab"),
            lambda fs: _write(fs, "f", "xb"),
        ],
    )
    def test_of_what_is_not(
        self, guard: Guard, shelf: Shelf, call: Callable[[Any], Any]
    ) -> None:
        """What must not be done twice is tried once."""
        before = dict(shelf.files)
        shelf.fail(*[reset()] * 9)
        with pytest.raises(ConnectionResetError):
            call(guard.fs)
        assert {*[op.attempts for op in guard.ops if not op.is_repeatable]} <= {1}
        assert shelf.files == before

    def test_deletion_whose_answer_was_lost(self, guard: Guard, shelf: Shelf) -> None:
        """A file that an attempt may have deleted is not missed by the next."""
        shelf.lost = True
        shelf.fail(reset())
        guard.fs.rm_file("a/b")
        assert "a/b" not in shelf.files
        assert guard.attempts == 2

    def test_deletion_of_several(self) -> None:
        """Of several paths one that is not there is told of, whatever failed before."""

        class Bulk(Shelf):
            def rm(self, path: Any, *_args: Any, **_kwargs: Any) -> None:
                for each in path:
                    self.rm_file(each)

        shelf = Bulk(FILES)
        shelf.fail(reset())
        with pytest.raises(FileNotFoundError):
            Guard(shelf).fs.rm(["nothing", "e"])
        assert "e" in shelf.files

    def test_deletion_that_left_something(self) -> None:
        """If the path is still there, what was not found is another matter."""

        class Odd(Shelf):
            def rm_file(self, path: str) -> None:
                self.access("rm_file", lambda: None)
                raise FileNotFoundError("the shelf itself")

        shelf = Odd(FILES)
        shelf.fail(reset())
        with pytest.raises(FileNotFoundError, match="itself"):
            Guard(shelf).fs.rm_file("e")

    def test_deletion_of_nothing(self, guard: Guard, shelf: Shelf) -> None:
        """If nothing was sent, or nothing failed, that it is not there is told."""
        with pytest.raises(FileNotFoundError):
            guard.fs.rm_file("nothing")
        shelf.fail(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
        with pytest.raises(FileNotFoundError):
            guard.fs.rm_file("nothing")

    def test_put_begins_anew(self, guard: Guard, shelf: Shelf, tmp_path: Path) -> None:
        """A put that failed halfway sends all of it again, bit by bit."""
        data = bytes(range(256))
        (tmp_path / "file").write_bytes(data)
        shelf.fail(None, None, None, reset())
        guard.fs.put_file(str(tmp_path / "file"), "new")
        assert shelf.files["new"] == data

    def test_get_begins_anew(self, guard: Guard, shelf: Shelf, tmp_path: Path) -> None:
        """A get into an open file takes back what the failed attempt wrote."""

        class Halfway(Shelf):
            def get_file(self, rpath: str, lpath: Any, **_kwargs: Any) -> None:
                lpath.write(b"half")
                super().get_file(rpath, lpath)

        shelf = Halfway(FILES)
        shelf.fail(None, reset())
        target = io.BytesIO(b"before")
        target.seek(0, io.SEEK_END)
        Guard(shelf).fs.get_file("a/b", target)
        assert target.getvalue() == b"beforehalfcontent"

    def test_get_into_what_cannot_go_back(self, tmp_path: Path) -> None:
        """A get into a pipe is not tried again, not even if nothing was sent."""

        class Halfway(Shelf):
            def get_file(self, rpath: str, lpath: Any, **_kwargs: Any) -> None:
                lpath.write(b"half")
                raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

        class Pipe(io.RawIOBase):
            def __init__(self) -> None:
                self.got = b""

            def write(self, data: Any) -> int:
                self.got += bytes(data)
                return len(data)

        pipe = Pipe()
        with pytest.raises(ConnectionRefusedError):
            Guard(Halfway(FILES)).fs.get_file("a/b", outfile=pipe)
        assert pipe.got == b"half"


def _write(fs: Any, path: str, mode: str) -> None:
    with fs.open(path, mode) as file:
        file.write(b"new")


class TestInnerMethods:
    """What the inner class brings is used; what it has from fsspec is not."""

    def test_memory_finds_at_once(self) -> None:
        """A `find` of its own is one operation."""
        guard = Guard(_memory({"/a/b": b"", "/a/c/d": b""}))
        assert guard.fs.find("/a") == ["/a/b", "/a/c/d"]
        assert guard.names == ["find"]

    def test_folder_hands_on(self) -> None:
        """A DirFileSystem has what is below it: memory's `find`, but fsspec's walk."""
        guard = Guard(
            DirFileSystem(path="/a", fs=_memory({"/a/b": b"", "/a/c/d": b""}))
        )
        assert guard.fs.find("") == ["b", "c/d"]
        assert guard.names == ["find"]
        assert list(guard.fs.walk("")) == [("", ["c"], ["b"]), ("c", [], ["d"])]
        assert guard.names == ["find", "ls", "ls"]

    def test_local_removes_at_once(self, tmp_path: Path) -> None:
        """An `rm` of its own is one operation, of a folder as of a file."""
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "file").touch()
        guard = Guard(LocalFileSystem())
        guard.fs.rm(str(tmp_path / "folder"), recursive=True)
        assert guard.names == ["rm"]
        assert list(tmp_path.iterdir()) == []

    def test_rename_is_done_once(self, tmp_path: Path) -> None:
        """A move of its own is one operation, and never tried twice."""

        class Failing(LocalFileSystem):  # type: ignore[misc]
            def mv(self, *args: Any, **kwargs: Any) -> None:
                super().mv(*args, **kwargs)
                raise reset()

        (tmp_path / "file").touch()
        guard = Guard(Failing())
        with pytest.raises(ConnectionResetError):
            guard.fs.mv(str(tmp_path / "file"), str(tmp_path / "other"))
        assert guard.attempts == 1

    def test_what_fsspec_does_not_know(self, tmp_path: Path) -> None:
        """A method that only the inner class has is an operation, tried once."""
        (tmp_path / "file").touch()
        guard = Guard(LocalFileSystem())
        guard.fs.symlink(str(tmp_path / "file"), str(tmp_path / "link"))
        assert guard.fs.islink(str(tmp_path / "link"))
        assert guard.names == ["symlink", "islink"]
        assert not any(op.is_repeatable for op in guard.ops)

    def test_third_party(self, tmp_path: Path) -> None:
        """An archive of fsspec's is read through the guard."""
        path = tmp_path / "archive.zip"
        writer = ZipFileSystem(str(path), "w")
        writer.pipe_file("a/b", b"content" * 10_000)
        writer.pipe_file("c", b"line\nline\n")
        writer.close()
        guard = Guard(ZipFileSystem(str(path)))
        assert guard.fs.find("") == ["a/b", "c"]
        assert guard.fs.cat("a/b") == b"content" * 10_000
        with guard.fs.open("c", "rt") as file:
            assert list(file) == ["line\n", "line\n"]
        with guard.fs.open("a/b") as file:
            assert file.read(7) == b"content"
            file.seek(-7, io.SEEK_END)
            assert file.read() == b"content"
        with pytest.raises(ValueError, match="requires mode"):
            guard.fs.pipe_file("d", b"")


def _memory(files: dict[str, bytes]) -> MemoryFileSystem:
    fs = MemoryFileSystem(global_store=False, skip_instance_cache=True)
    for path, content in files.items():
        fs.pipe_file(path, content)
    return fs


class TestIdentity:
    """It is equal to its like, and keeps the secrets of what it guards."""

    def test_equality(self, shelf: Shelf) -> None:
        """Two around one filesystem, with the same policies, are equal."""
        fs = Guard(shelf).fs
        same = GuardedFileSystem(shelf, fs.pipeline)
        assert fs == same
        assert hash(fs) == hash(same)
        assert fs != Guard(Shelf()).fs
        assert fs != shelf

    def test_repr(self) -> None:
        """It says what it guards and for whom, and no argument."""

        class Secretive(Shelf):
            def __init__(self, key: str) -> None:
                super().__init__()

        fs = Guard(Secretive("s3cret")).fs
        assert repr(fs) == "<GuardedFileSystem of Secretive for 'it'>"
        with pytest.raises(NotPicklable) as json:
            fs.to_json()
        with pytest.raises(NotPicklable) as pickled:
            pickle.dumps(fs)
        assert "s3cret" not in f"{json.value}{pickled.value}"

    def test_pickles_as_its_connector(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The filesystem of a configured connector is resolved where it lands."""
        config = tmp_path / "connectorkit.toml"
        config.write_text(
            '[connectors.it]\ntype = "local"\n[connectors.it.settings]\n'
            f'path = "{tmp_path / "root"}"\n'
        )
        from connectorkit import ConnectorKit

        with ConnectorKit(config) as kit:
            fs = kit.resolve("it").fs
            fs.pipe_file("file", b"content")
            again = pickle.loads(pickle.dumps(fs))  # noqa: S301
            assert again == fs
            assert again.cat_file("file") == b"content"
            file = fs.open("file")
            file.read(3)
            copy = pickle.loads(pickle.dumps(file))  # noqa: S301
            assert copy.read() == b"tent"
            assert copy.fs == fs
            with pytest.raises(TypeError, match="not pickled"):
                pickle.dumps(fs.open("other", "wb"))

    def test_adhoc_is_not_pickled(self, tmp_path: Path) -> None:
        """One whose settings are in memory alone says how to configure it."""
        with (
            kit_at("local", {"path": str(tmp_path)}, policies={}) as kit,
            pytest.raises(NotPicklable, match="configure it"),
        ):
            pickle.dumps(kit.resolve("it").fs)

    def test_is_the_inner_one(self, tmp_path: Path) -> None:
        """Paths and attributes are those of the inner filesystem."""
        inner = LocalFileSystem(auto_mkdir=True)
        fs = Guard(inner).fs
        assert (fs.local_file, fs.fsid, fs.auto_mkdir) == (True, "local", True)
        assert fs.protocol == inner.protocol
        assert fs._strip_protocol("file:///a/") == "/a"
        assert fs.unstrip_protocol("/a") == "file:///a"
        assert fs._parent("/a/b") == "/a"
        assert fs.storage_options == inner.storage_options
        assert fs.dircache is inner.dircache
        assert fs.root_marker == "/"
        assert isinstance(fs, LocalFileSystem)
        with pytest.raises(AttributeError):
            _ = fs.no_such_thing
        with pytest.raises(AttributeError):
            _ = fs._no_such_thing

    def test_what_is_within_is_guarded(self) -> None:
        """The filesystem below a DirFileSystem is handed out guarded."""
        guard = Guard(DirFileSystem(path="/a", fs=_memory({"/a/b": b"1"})))
        assert guard.fs.fs.cat_file("/a/b") == b"1"
        assert guard.names == ["cat_file"]

    def test_folder_keeps_its_fence(self, tmp_path: Path) -> None:
        """A DirFileSystem around a guarded local one still refuses to leave."""
        (tmp_path / "secret").write_bytes(b"secret")
        fs = DirFileSystem(path=str(tmp_path / "in"), fs=Guard(LocalFileSystem()).fs)
        with pytest.raises(ValueError, match="escapes"):
            fs.cat_file("../secret")

    def test_listings_are_forgotten(self) -> None:
        """To forget listings reaches the inner filesystem."""
        forgotten: list[Any] = []

        class Remembering(Shelf):
            def invalidate_cache(self, path: str | None = None) -> None:
                forgotten.append(path)

        Guard(Remembering()).fs.invalidate_cache("a")
        assert forgotten == ["a"]


class TestTransactions:
    """What is written within one is there at its end, or not at all."""

    @pytest.mark.parametrize("inner", ["local", "memory", "shelf"])
    def test_end(self, inner: str, tmp_path: Path) -> None:
        """Files are there when it ends, by open as by pipe."""
        fs, root = _place(inner, tmp_path)
        with fs.transaction:
            fs.pipe_file(f"{root}/a", b"1")
            with fs.open(f"{root}/b", "wb") as file:
                file.write(b"2")
            assert not fs.exists(f"{root}/a")
            assert not fs.exists(f"{root}/b")
        assert fs.cat([f"{root}/a", f"{root}/b"]) == {
            f"{root}/a": b"1",
            f"{root}/b": b"2",
        }

    @pytest.mark.parametrize("inner", ["local", "memory", "shelf"])
    def test_exception(self, inner: str, tmp_path: Path) -> None:
        """An exception drops them all, and leaves nothing else."""
        fs, root = _place(inner, tmp_path)
        fs.pipe_file(f"{root}/a", b"old")
        with pytest.raises(KeyError), fs.transaction:  # noqa: PT012 - the block is it
            fs.pipe_file(f"{root}/a", b"1")
            fs.pipe_file(f"{root}/b", b"2")
            raise KeyError
        assert fs.cat_file(f"{root}/a") == b"old"
        assert fs.find(root) == [f"{root}/a"]

    @pytest.mark.parametrize("inner", ["local", "memory", "shelf"])
    def test_one_that_was_dropped(self, inner: str, tmp_path: Path) -> None:
        """A file that an exception dropped is not there at the end of a good one."""
        fs, root = _place(inner, tmp_path)
        with fs.transaction:
            _break_off(fs, f"{root}/a")
            fs.pipe_file(f"{root}/b", b"2")
        assert fs.find(root) == [f"{root}/b"]


def _break_off(fs: Any, path: str) -> None:
    """Leave the block of a file by an exception."""
    with contextlib.suppress(KeyError), fs.open(path, "wb") as file:
        file.write(b"half")
        raise KeyError


def _place(inner: str, tmp_path: Path) -> tuple[Any, str]:
    fs: AbstractFileSystem = Shelf()
    if inner == "local":
        return Guard(LocalFileSystem()).fs, str(tmp_path)
    if inner == "memory":
        fs = _memory({"/top/keep": b""})
        fs.mkdir("/top/new")
        return Guard(DirFileSystem(path="/top", fs=fs)).fs, "new"
    return Guard(fs).fs, "root"
