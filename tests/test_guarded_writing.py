"""Files that are written through the guard: whole, or what was there before."""

from __future__ import annotations

import errno
import io
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from guarding import Guard, Shelf, reset

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec import AbstractFileSystem

OLD = b"what was there\n"


class Direct(Shelf):
    """A shelf whose files are written as they come, and known to nobody before."""

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:  # type: ignore[override]
        if "r" in mode:
            return super()._open(path, mode, **kwargs)
        return DirectFile(self, path, mode)


class DirectFile(io.BytesIO):
    """Is there when it is closed, whole or not."""

    def __init__(self, shelf: Direct, path: str, mode: str) -> None:
        super().__init__(shelf.files.get(path, b"") if "a" in mode else b"")
        self.seek(0, io.SEEK_END)
        self.shelf, self.target = shelf, path

    def close(self) -> None:
        if not self.closed:
            self.shelf.access("close", lambda: None)
            self.shelf.put(self.target, self.getvalue())
        super().close()


class Piping(Shelf):
    """A shelf that writes a file by one request."""

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **_kwargs: Any
    ) -> None:
        if mode == "create" and path in self.files:
            raise FileExistsError(path)
        self.access("pipe_file", lambda: self.put(path, value))


class Place:
    """A guarded filesystem, and how to look at it from outside."""

    def __init__(self, kind: str, tmp_path: Path) -> None:
        self.root = tmp_path / "root"
        self.root.mkdir()
        inner: AbstractFileSystem
        self.prefix = "root"
        if kind in {"local", "folder"}:
            inner = LocalFileSystem()
            self.prefix = str(self.root)
            if kind == "folder":
                inner = DirFileSystem(path=str(self.root), fs=inner)
                self.prefix = "."
        elif kind == "memory":
            inner = MemoryFileSystem(global_store=False, skip_instance_cache=True)
            inner.mkdir("/top")
        else:
            inner = {"shelf": Shelf, "direct": Direct, "piping": Piping}[kind]()
        self.kind = kind
        self.inner: Any = inner
        self.guard = Guard(inner)
        self.fs = self.guard.fs
        self.path = f"{self.prefix}/file"

    def write(self, content: bytes) -> None:
        """Put the file there."""
        self.fs.pipe_file(self.path, content)

    def content(self) -> dict[str, bytes]:
        """Return all that is there, by the last part of its name."""
        if self.kind in {"local", "folder"}:
            return {each.name: each.read_bytes() for each in self.root.iterdir()}
        if self.kind == "memory":
            store = self.inner.store.items()
            return {path.rpartition("/")[2]: file.getvalue() for path, file in store}
        files: dict[str, bytes] = self.inner.files
        return {path.rpartition("/")[2]: data for path, data in files.items()}


KINDS = ["local", "folder", "memory", "shelf", "direct", "piping"]


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Make each kind of storage."""
    return Place(request.param, tmp_path)


def _break_off(file: Any, data: Any) -> None:
    """Leave the block of a file by an exception."""
    with pytest.raises(KeyError), file:  # noqa: PT012 - the block is it
        file.write(data)
        file.flush()
        raise KeyError


class TestException:
    """An exception in the block leaves what was there before, and nothing else."""

    @pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz"])
    @pytest.mark.parametrize("mode", ["wb", "w", "ab", "a", "w+b"])
    def test_over_what_is_there(
        self, place: Place, mode: str, compression: str | None
    ) -> None:
        """The old file stays, however it was to be written."""
        if compression and "+" in mode:
            # No codec does both.
            return
        place.write(OLD)
        data = b"new" * 100 if "b" in mode else "new" * 100
        _break_off(place.fs.open(place.path, mode, compression=compression), data)
        assert place.content() == {"file": OLD}

    @pytest.mark.parametrize("mode", ["wb", "xb", "x", "ab", "x+b"])
    def test_where_nothing_is(self, place: Place, mode: str) -> None:
        """Nothing is there afterwards."""
        _break_off(place.fs.open(place.path, mode), b"new" if "b" in mode else "new")
        assert place.content() == {}

    @pytest.mark.parametrize(
        "error", [KeyboardInterrupt, SystemExit, GeneratorExit, OSError]
    )
    def test_any_exception(self, place: Place, error: type[BaseException]) -> None:
        """Whatever it is."""
        place.write(OLD)
        with pytest.raises(error), place.fs.open(place.path, "wb") as file:  # noqa: PT012 - the block is it
            file.write(b"new")
            raise error
        assert place.content() == {"file": OLD}

    def test_abort(self, place: Place) -> None:
        """Without a block, `abort` and `discard` do the same."""
        place.write(OLD)
        for drop in ("abort", "discard"):
            file = place.fs.open(place.path, "wb")
            file.write(b"new")
            getattr(file, drop)()
            assert file.closed
            file.close()
        assert place.content() == {"file": OLD}


class TestEnd:
    """At the end of the block it is there, all of it."""

    @pytest.mark.parametrize(
        ("mode", "expected"),
        [
            ("wb", b"new"),
            ("w", b"new"),
            ("ab", OLD + b"new"),
            ("a", OLD + b"new"),
            ("w+b", b"new"),
        ],
    )
    def test_over_what_is_there(self, place: Place, mode: str, expected: bytes) -> None:
        """A file is replaced, or appended to."""
        place.write(OLD)
        with place.fs.open(place.path, mode) as file:
            assert file.tell() == (len(OLD) if "a" in mode else 0)
            file.write(b"new" if "b" in mode else "new")
            assert place.content()["file"] == OLD
        assert place.content() == {"file": expected}
        assert place.fs.cat_file(place.path) == expected

    @pytest.mark.parametrize("mode", ["wb", "xb", "ab", "x", "w", "x+b"])
    def test_where_nothing_is(self, place: Place, mode: str) -> None:
        """A file is made, an empty one as well."""
        for content in ("", "new"):
            with place.fs.open(place.path, mode) as file:
                file.write(content.encode() if "b" in mode else content)
            assert place.content() == {"file": content.encode()}
            place.fs.rm_file(place.path)

    def test_big(self, place: Place) -> None:
        """A file that does not fit into memory's share goes by the disk."""
        data = os.urandom(1 << 20) * 17
        with place.fs.open(place.path, "wb") as file:
            for start in range(0, len(data), 1 << 20):
                file.write(data[start : start + (1 << 20)])
        assert place.content() == {"file": data}

    def test_utf_16_is_appended_without_a_mark(self, place: Place) -> None:
        """Text that is appended knows that it is not the beginning."""
        for _ in range(2):
            with place.fs.open(place.path, "a", encoding="utf-16") as file:
                file.write("a")
        assert place.content()["file"].decode("utf-16") == "aa"

    def test_seek(self, place: Place) -> None:
        """What is written can be written over before it is there."""
        with place.fs.open(place.path, "w+b") as file:
            file.write(b"0123456789")
            file.seek(2)
            file.write(b"xx")
            file.seek(-1, io.SEEK_END)
            assert file.read() == b"9"
            file.truncate(5)
        assert place.content() == {"file": b"01xx4"}

    def test_what_was_there_is_not_reached(self, place: Place) -> None:
        """One that appends neither seeks nor cuts what was there."""
        place.write(OLD)
        with place.fs.open(place.path, "ab") as file:
            with pytest.raises(io.UnsupportedOperation):
                file.seek(0)
            with pytest.raises(io.UnsupportedOperation):
                file.truncate(0)
            with pytest.raises(io.UnsupportedOperation):
                file.read()
        assert place.content() == {"file": OLD}

    def test_closed_file(self, place: Place) -> None:
        """After its end a file takes nothing more."""
        with place.fs.open(place.path, "wb") as file:
            pass
        file.close()
        assert not file.writable()
        with pytest.raises(ValueError, match="closed"):
            file.write(b"more")


class TestExclusive:
    """What must be new never replaces a file."""

    def test_is_there(self, place: Place) -> None:
        """A file that is there is told of at once."""
        place.write(OLD)
        for mode in ("xb", "x", "x+b"):
            with pytest.raises(FileExistsError):
                place.fs.open(place.path, mode)
        with pytest.raises(FileExistsError):
            place.fs.pipe_file(place.path, b"new", mode="create")
        (place.root.parent / "source").write_bytes(b"new")
        with pytest.raises(FileExistsError):
            place.fs.put_file(
                str(place.root.parent / "source"), place.path, mode="create"
            )
        assert place.content() == {"file": OLD}

    def test_comes_meanwhile(self, place: Place) -> None:
        """One that came while this one was written stays."""
        file = place.fs.open(place.path, "xb")
        file.write(b"mine")
        place.write(b"theirs")
        with pytest.raises(FileExistsError):
            file.close()
        assert place.content() == {"file": b"theirs"}

    def test_looking_fails(self) -> None:
        """A refusal is not taken for nothing there."""
        shelf = Shelf({"file": OLD})
        shelf.fail(PermissionError(13, "denied"))
        with pytest.raises(PermissionError):
            Guard(shelf).fs.open("file", "xb")
        shelf.fail(PermissionError(13, "denied"))
        with pytest.raises(PermissionError):
            Guard(shelf).fs.pipe_file("file", b"new", mode="create")
        assert shelf.files == {"file": OLD}

    def test_without_hard_links(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where there are no hard links it works as well."""
        place = Place("local", tmp_path)

        def refuse(*_args: object) -> None:
            raise PermissionError(errno.EPERM, "no links here")

        monkeypatch.setattr(os, "link", refuse)
        place.fs.pipe_file(place.path, b"mine", mode="create")
        with pytest.raises(FileExistsError):
            place.fs.pipe_file(place.path, b"other", mode="create")
        file = place.fs.open(f"{place.prefix}/other", "xb")
        Path(f"{place.prefix}/other").write_bytes(b"theirs")
        with pytest.raises(FileExistsError):
            file.close()
        assert place.content() == {"file": b"mine", "other": b"theirs"}


class TestFailure:
    """A storage that fails keeps what it had, or gets all of it."""

    @pytest.mark.parametrize("step", range(5))
    def test_is_repeated(self, step: int) -> None:
        """Wherever one attempt fails, the next one sends all of it (E23)."""
        shelf = Shelf({"file": OLD})
        guard = Guard(shelf)
        with guard.fs.open("file", "wb") as file:
            file.write(bytes(range(20)))
            shelf.fail(*[None] * step, reset())
        assert shelf.files == {"file": bytes(range(20))}

    @pytest.mark.parametrize("step", range(4))
    def test_for_good(self, step: int) -> None:
        """If it fails for good, the old file stays, and what was sent is dropped."""
        shelf = Shelf({"file": OLD})
        guard = Guard(shelf)
        file = guard.fs.open("file", "wb")
        file.write(bytes(3 << 20))
        shelf.fail(*[None] * step, PermissionError(13, "denied"))
        with pytest.raises(PermissionError):
            file.close()
        assert shelf.files == {"file": OLD}
        assert shelf.asked[-1] == "discard"
        assert guard.names == ["close"]

    def test_what_cannot_be_dropped_is_told(self) -> None:
        """The error says what may be left."""
        shelf = Shelf()
        file = Guard(shelf).fs.open("file", "wb")
        file.write(b"new")
        shelf.fail(PermissionError(13, "denied"), OSError(5, "broken"))
        with pytest.raises(PermissionError) as caught:
            file.close()
        assert "may still be there" in caught.value.__notes__[0]

    def test_append_is_done_once(self) -> None:
        """An append that may have been done is not done again."""
        shelf = Shelf({"file": OLD})
        shelf.lost = True
        guard = Guard(shelf)
        file = guard.fs.open("file", "ab")
        file.write(b"new")
        shelf.fail(None, reset())
        with pytest.raises(ConnectionResetError):
            file.close()
        assert shelf.files == {"file": OLD + b"new"}

    def test_class_that_writes_nowhere(self) -> None:
        """A class that has no files to write is told of, and nothing is lost."""
        from fsspec import AbstractFileSystem

        class ReadOnly(AbstractFileSystem):  # type: ignore[misc]
            cachable = False

            def info(self, path: str, **_kwargs: Any) -> dict[str, Any]:
                raise FileNotFoundError(path)

        file = Guard(ReadOnly()).fs.open("file", "wb")
        file.write(b"new")
        with pytest.raises(NotImplementedError, match="cannot write"):
            file.close()

    def test_class_that_knows_no_exclusive_mode(self) -> None:
        """Then it is looked whether the file is there, and it is written."""

        class Plain(Shelf):
            def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:  # type: ignore[override]
                if "x" in mode:
                    raise ValueError(mode)
                return super()._open(path, mode, **kwargs)

        shelf = Plain()
        with Guard(shelf).fs.open("file", "xb") as file:
            file.write(b"new")
        assert shelf.files == {"file": b"new"}

    def test_options_reach_the_inner_filesystem(self) -> None:
        """What the caller says of a file, the inner filesystem hears."""
        heard: dict[str, Any] = {}

        class Hearing(Piping):
            def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:  # type: ignore[override]
                heard.update(kwargs)
                return super()._open(path, mode, autocommit=kwargs["autocommit"])

        with Guard(Hearing()).fs.open("file", "wb", owner="me") as file:
            file.write(b"new")
        assert heard["owner"] == "me"


class TestLocal:
    """Files of this machine keep what they are to others."""

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """Take this machine."""
        return Place("local", tmp_path)

    @pytest.mark.parametrize("way", ["open", "pipe_file", "put_file", "cp_file", "get"])
    def test_mode_stays(self, place: Place, way: str) -> None:
        """A file keeps its mode when it is replaced; a new one has the usual one."""
        old = os.umask(0o027)
        try:
            _write(place, way)
            assert stat.S_IMODE(Path(place.path).stat().st_mode) == 0o640
            Path(place.path).chmod(0o604)
            _write(place, way)
        finally:
            os.umask(old)
        assert stat.S_IMODE(Path(place.path).stat().st_mode) == 0o604
        assert place.content()["file"] == b"new"

    @pytest.mark.parametrize("way", ["open", "pipe_file", "put_file", "cp_file", "get"])
    def test_link_is_followed(self, place: Place, way: str) -> None:
        """Through a link its target is written, though nothing was there yet."""
        target = place.root / "folder" / "target"
        target.parent.mkdir()
        Path(place.path).symlink_to(target)
        for _ in range(2):
            _write(place, way)
            assert Path(place.path).is_symlink()
            assert target.read_bytes() == b"new"
        assert [each.name for each in target.parent.iterdir()] == ["target"]

    @pytest.mark.parametrize("mode", ["wb", "ab"])
    def test_device(self, place: Place, mode: str) -> None:
        """A device is written, and stays one."""
        with place.fs.open("/dev/null", mode) as file:
            file.write(b"new")
        place.fs.pipe_file("/dev/null", b"new")
        place.write(b"new")
        place.fs.get_file(place.path, "/dev/null")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)

    def test_pipe(self, place: Place) -> None:
        """A named pipe is written to who reads it."""
        os.mkfifo(place.path)
        got: list[bytes] = []
        thread = threading.Thread(
            target=lambda: got.append(Path(place.path).read_bytes())
        )
        thread.start()
        with place.fs.open(place.path, "wb") as file:
            file.write(b"new")
        thread.join(60)
        assert got == [b"new"]
        assert stat.S_ISFIFO(Path(place.path).stat().st_mode)

    def test_folder(self, place: Place) -> None:
        """A folder is not written, and the error says its name."""
        for mode in ("wb", "ab"):
            with pytest.raises(IsADirectoryError) as caught:
                place.fs.open(str(place.root), mode)
            assert caught.value.filename == str(place.root)

    def test_missing_folder(self, place: Place) -> None:
        """The error names the file, and none that nobody knows; unless it is made."""
        path = str(place.root / "no" / "file")
        for mode in ("wb", "xb"):
            with pytest.raises(FileNotFoundError) as caught:
                place.fs.open(path, mode)
            assert caught.value.filename == path
        with pytest.raises(FileNotFoundError):
            place.fs.open(path, "ab")
        with pytest.raises(FileNotFoundError) as caught:
            place.fs.pipe_file(path, b"")
        assert caught.value.filename == path
        making = Guard(LocalFileSystem(auto_mkdir=True)).fs
        for mode in ("wb", "ab"):
            with making.open(path, mode) as file:
                file.write(b"new")
            assert Path(path).read_bytes().startswith(b"new")

    def test_read_only_file(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that may not be written is not replaced either."""
        place.write(OLD)
        # Root may write anything.
        monkeypatch.setattr(os, "access", lambda *_args: False)
        for way in ("open", "pipe_file"):
            with pytest.raises(PermissionError):
                _write(place, way)
        assert place.content()["file"] == OLD

    def test_disk_is_full(self, place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """A disk that is full keeps the old file, appended to or not."""
        place.write(OLD)
        full = OSError(errno.ENOSPC, "No space left on device")

        def refuse(*_args: object) -> None:
            raise full

        for way in ("pipe_file", "cp_file", "put_file", "get"):
            with monkeypatch.context() as patch:
                patch.setattr(Path, "replace", refuse)
                with pytest.raises(OSError, match="No space"):
                    _write(place, way)
            assert place.content()["file"] == OLD
            assert {*place.content()} <= {"file", "source"}

    def test_append_that_fails(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was appended before the failure is taken back."""
        place.write(OLD)
        file = place.fs.open(place.path, "ab")
        file.write(bytes(3 << 20))
        reads = iter([bytes(1 << 20)])
        monkeypatch.setattr(
            file._stage.file, "read", lambda _size: next(reads, None) or _fail()
        )
        with pytest.raises(OSError, match="broken"):
            file.close()
        assert place.content()["file"] == OLD

    def test_appenders_take_turns(self, place: Place) -> None:
        """Two who append at a time lose nothing of each other."""
        with place.fs.open(place.path, "ab") as one:
            with place.fs.open(place.path, "ab") as other:
                other.write(b"other")
                one.write(b"one")
            assert place.content()["file"] == b"other"
        assert place.content()["file"] == b"otherone"

    def test_same_file(self, place: Place) -> None:
        """A file is not copied onto itself, by whatever name."""
        import shutil

        place.write(OLD)
        (place.root / "link").symlink_to(place.path)
        for target in (place.path, str(place.root / "link")):
            with pytest.raises(shutil.SameFileError):
                place.fs.cp_file(place.path, target)
            with pytest.raises(shutil.SameFileError):
                place.fs.put_file(place.path, target)
        assert place.content()["file"] == OLD

    def test_folder_is_got(self, place: Place, tmp_path: Path) -> None:
        """To get, put or copy a folder makes one."""
        (place.root / "folder").mkdir()
        place.fs.get_file(str(place.root / "folder"), str(tmp_path / "got"))
        place.fs.put_file(str(place.root / "folder"), str(tmp_path / "put"))
        place.fs.cp_file(str(place.root / "folder"), str(tmp_path / "copy"))
        for name in ("got", "put", "copy"):
            assert (tmp_path / name).is_dir()

    def test_home(self, place: Place, home: Path) -> None:
        """A target below ~ is below the home, as it is for fsspec's own."""
        place.write(OLD)
        place.fs.get_file(place.path, "~/got")
        assert (home / "got").read_bytes() == OLD


def _fail() -> bytes:
    raise OSError(5, "broken")


def _write(place: Place, way: str) -> None:
    """Write "new" to the file, by one of the ways that there are."""
    source = place.root / "source"
    source.write_bytes(b"new")
    ways: dict[str, Callable[[], Any]] = {
        "pipe_file": lambda: place.fs.pipe_file(place.path, b"new"),
        "put_file": lambda: place.fs.put_file(str(source), place.path),
        "cp_file": lambda: place.fs.cp_file(str(source), place.path),
        "get": lambda: place.fs.get_file(str(source), place.path),
    }
    if way != "open":
        ways[way]()
        return
    with place.fs.open(place.path, "wb") as file:
        file.write(b"new")


class TestProcess:
    """What was not closed is gone with the process, and harms no other."""

    def _run(self, script: str, folder: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", dedent(script), str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert not done.stderr
        return done.stdout

    def test_exit_drops(self, tmp_path: Path) -> None:
        """A process with an open file ends; the old file stays, alone."""
        (tmp_path / "file").write_bytes(OLD)
        self._run(
            """
            import sys
            from connectorkit import ConnectorKit
            settings = {"path": sys.argv[1]}
            config = {"connectors": {"it": {"type": "local", "settings": settings}}}
            kit = ConnectorKit(config)
            file = kit.resolve("it").fs.open("file", "wb")
            file.write(b"half")
            """,
            tmp_path,
        )
        assert [each.name for each in tmp_path.iterdir()] == ["file"]
        assert (tmp_path / "file").read_bytes() == OLD

    def test_child_has_no_part_in_it(self, tmp_path: Path) -> None:
        """A forked child that ends, or closes the file, leaves it to its parent."""
        out = self._run(
            """
            import os, sys
            from connectorkit import ConnectorKit
            settings = {"path": sys.argv[1]}
            config = {"connectors": {"it": {"type": "local", "settings": settings}}}
            fs = ConnectorKit(config).resolve("it").fs
            for how in ("exit", "close", "abort"):
                file = fs.open(how, "wb")
                file.write(b"wh")
                file.flush()
                file.write(b"ole")
                pid = os.fork()
                if not pid:
                    if how != "exit":
                        getattr(file, how)()
                    sys.exit()
                os.waitpid(pid, 0)
                assert not os.path.exists(os.path.join(sys.argv[1], how))
                file.close()
                # What is not printed yet, a child would print, too.
                print(fs.cat_file(how).decode(), flush=True)
            """,
            tmp_path,
        )
        assert out.split() == ["whole"] * 3
