"""Files that are read through the guard: never wrong bytes, whatever fails."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import ObjectChanged, WrongAnswer
from guarding import BLOCK, Guard, Shelf, reset

if TYPE_CHECKING:
    from collections.abc import Callable

CONTENT = b"".join(b"line %d\n" % number for number in range(40))


class Plain(Shelf):
    """A shelf whose files are not of fsspec's own kind, and fail halfway."""

    can_seek = True

    def _open(self, path: str, mode: str = "rb", **_kwargs: Any) -> Any:  # type: ignore[override]
        return PlainFile(self, path)


class PlainFile(io.RawIOBase):
    """Reads a part of what is asked for before it fails."""

    def __init__(self, shelf: Plain, path: str) -> None:
        super().__init__()
        self.shelf = shelf
        self.size = len(shelf.files[path])
        self._path = path
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self.shelf.can_seek

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = 0) -> int:
        base = {0: 0, 1: self._place, 2: self.size}[whence]
        self._place = base + offset
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        start = self._place
        end = self.size if size is None or size < 0 else start + size
        # Never more than so many at a time, and half of it if it fails.
        end = end if size is None or size < 0 else min(end, start + 2 * BLOCK)
        self._place = start + (min(end, self.size) - start) // 2
        data: bytes = self.shelf.access(
            "read", lambda: self.shelf.cut(self._path, start, end)
        )
        self._place = start + len(data)
        return data


def _of(kind: type[Shelf]) -> tuple[Shelf, Guard]:
    shelf = kind({"file": CONTENT})
    return shelf, Guard(shelf)


_steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 50)),
        st.tuples(st.just("readline"), st.integers(-1, 20)),
        st.tuples(st.just("readinto"), st.integers(0, 50)),
        st.tuples(st.just("seek"), st.integers(0, len(CONTENT) + 5)),
        st.tuples(st.just("readlines"), st.just(-1)),
    ),
    max_size=12,
)


@given(
    kind=st.sampled_from([Shelf, Plain]),
    steps=_steps,
    faults=st.lists(st.booleans(), max_size=30),
)
def test_any_reads_are_those_of_the_bytes(
    kind: type[Shelf], steps: list[tuple[str, int]], faults: list[bool]
) -> None:
    """Whatever is read and whatever fails, what comes is what is there.

    A read that fails for good is tried again by who reads, and goes on where it was.
    """
    shelf, guard = _of(kind)
    model = io.BytesIO(CONTENT)
    with guard.fs.open("file", block_size=BLOCK) as file:
        shelf.fail(*(reset() if fault else None for fault in faults))
        for method, size in steps:
            # fsspec's own files take no size of a line.
            argument = -1 if kind is Shelf and method == "readline" else size
            expected = _step(model, method, argument)
            place = file.tell()
            for _ in range(len(faults) + 1):
                with contextlib.suppress(ConnectionResetError):
                    assert _step(file, method, argument) == expected
                    break
                file.seek(place)
            assert file.tell() == model.tell()
        shelf.faults.clear()


def _step(file: Any, method: str, argument: int) -> Any:
    if method == "readinto":
        room = bytearray(argument)
        count = file.readinto(room)
        return bytes(room[:count])
    if method == "readlines":
        # fsspec's own find an empty line at the end.
        return [line for line in file.readlines() if line]
    if method == "readline" and argument == -1:
        return file.readline()
    done = getattr(file, method)(argument)
    return None if method == "seek" else done


def test_line_size_is_pythons() -> None:
    """A line may be read in parts, where the file is not of fsspec's own kind."""
    _, guard = _of(Plain)
    with guard.fs.open("file") as file:
        assert file.readline(3) == b"lin"
        assert file.readline() == b"e 0\n"


@pytest.mark.parametrize("kind", [Shelf, Plain])
def test_failed_read_is_repeated(kind: type[Shelf]) -> None:
    """A read that failed halfway is one operation, of two attempts, with no gap."""
    shelf, guard = _of(kind)
    with guard.fs.open("file", cache_type="none") as file:
        first = file.read(5)
        guard.ops.clear()
        shelf.fail(reset())
        assert first + file.read(200) + file.read() == CONTENT


def test_read_that_fails_for_good_leaves_no_gap() -> None:
    """After an error a file is read on from where it was, or not at all."""
    shelf, guard = _of(Plain)
    with guard.fs.open("file") as file:
        file.read(5)
        shelf.fail(None, *[reset()] * 3)
        with pytest.raises(ConnectionResetError):
            file.read(len(CONTENT))
        assert file.tell() == 5
        assert file.read() == CONTENT[5:]


def test_lines_that_fail_for_good_leave_no_gap() -> None:
    """Lines are read on only from where one says."""
    shelf, guard = _of(Plain)
    with guard.fs.open("file") as file:
        lines = [next(file)]
        place = len(lines[0])
        shelf.fail(*[reset()] * 3)
        with pytest.raises(ConnectionResetError):
            lines += file
        with pytest.raises(ConnectionResetError):
            file.readline()
        file.seek(place)
        assert file.read() == CONTENT[place:]


def test_what_cannot_go_back_is_not_read_again() -> None:
    """A stream that failed is not tried again: nobody knows how far it got."""

    class Onwards(Plain):
        can_seek = False

    shelf, guard = _of(Onwards)
    with guard.fs.open("file") as file:
        assert not file.seekable()
        assert file.read(3) == CONTENT[:3]
        # Nothing was sent, as it says; that may be another's word.
        shelf.fail(ConnectionRefusedError(111, "refused"))
        with pytest.raises(ConnectionRefusedError):
            file.read()
        with pytest.raises(ConnectionRefusedError):
            file.read()
    assert Guard(Onwards({"file": CONTENT})).fs.cat_file("file") == CONTENT


def test_unseekable_is_read_whole() -> None:
    """Without a failure a stream is read as any file."""

    class Onwards(Plain):
        can_seek = False

    _, guard = _of(Onwards)
    with guard.fs.open("file", "rt") as file:
        assert file.read() == CONTENT.decode()


@pytest.mark.parametrize("kind", [Shelf, Plain])
@pytest.mark.parametrize(
    "read",
    [
        lambda file: file.read(),
        lambda file: [*iter(lambda: file.read(30), b"")],
        lambda file: file.readlines(),
    ],
)
def test_short_file_is_an_error(kind: type[Shelf], read: Callable[[Any], Any]) -> None:
    """A file that ends before its size is told of, not taken for a short one."""
    shelf, guard = _of(kind)
    file = guard.fs.open("file")
    shelf.files["file"] = CONTENT[:100]
    with pytest.raises((WrongAnswer, ObjectChanged)):
        read(file)
    file.abort()


class TestVersions:
    """What comes in several pieces is of one version, or an error."""

    @pytest.mark.parametrize("kind", [Shelf, Plain])
    def test_replaced_between_pieces(self, kind: type[Shelf]) -> None:
        """At its end a file that was replaced is told of."""
        shelf, guard = _of(kind)
        file = guard.fs.open("file", cache_type="none")
        file.read(BLOCK)
        shelf.put("file", bytes(len(CONTENT)))
        with pytest.raises(ObjectChanged):
            list(iter(lambda: file.read(2 * BLOCK), b""))
        file.abort()

    @pytest.mark.parametrize("kind", [Shelf, Plain])
    def test_closed_before_its_end(self, kind: type[Shelf]) -> None:
        """If it is not read to its end, it is told of when the file is closed."""
        shelf, guard = _of(kind)
        file = guard.fs.open("file", cache_type="none")
        file.read(BLOCK)
        shelf.put("file", bytes(len(CONTENT)))
        file.seek(200)
        file.read(BLOCK)
        with pytest.raises(ObjectChanged):
            file.close()
        assert file.closed

    @pytest.mark.parametrize("kind", [Shelf, Plain])
    def test_deleted(self, kind: type[Shelf]) -> None:
        """A file that is gone at the end has changed."""
        shelf, guard = _of(kind)
        file = guard.fs.open("file", cache_type="none")
        file.read(BLOCK)
        file.seek(200)
        file.read(BLOCK)
        shelf.files.clear()
        with pytest.raises(ObjectChanged):
            file.close()

    def test_one_piece_is_of_one_version(self) -> None:
        """What came at once needs no look."""
        shelf, guard = _of(Shelf)
        with guard.fs.open("file", cache_type="none") as file:
            file.read()
            shelf.put("file", b"")
        assert guard.names == ["open", "read"]

    def test_exception_is_not_replaced(self) -> None:
        """A block that fails by itself is not told of the version."""
        shelf, guard = _of(Shelf)
        with pytest.raises(KeyError), guard.fs.open("file") as file:  # noqa: PT012 - the block is it
            file.read(3)
            file.seek(100)
            file.read(3)
            shelf.put("file", b"")
            raise KeyError

    def test_given_size_saves_the_look(self) -> None:
        """Where the size is given the version is looked up, once it is needed."""
        shelf, guard = _of(Shelf)
        with guard.fs.open("file", cache_type="none") as file:
            assert file.read() == CONTENT
        assert shelf.asked.count("info") == 1

    def test_local_file_that_is_written_to(self, tmp_path: Path) -> None:
        """A file of this machine is compared after each piece."""
        path = tmp_path / "file"
        path.write_bytes(bytes(1 << 20))
        os.utime(path, (1, 1))
        file = Guard(LocalFileSystem()).fs.open(str(path))
        file.read(1 << 17)
        path.write_bytes(b"1" * (1 << 20))
        with pytest.raises(ObjectChanged):
            file.read(1 << 17)
        file.abort()

    def test_local_file_that_is_replaced(self, tmp_path: Path) -> None:
        """One that another takes the place of is read to its end, as it was."""
        path = tmp_path / "file"
        path.write_bytes(bytes(1 << 20))
        fs = Guard(LocalFileSystem()).fs
        with fs.open(str(path)) as file:
            first = file.read(1 << 17)
            fs.pipe_file(str(path), b"new")
            assert first + file.read() == bytes(1 << 20)

    def test_memory_file_is_ones_own(self) -> None:
        """Two who read a file of memory have a place each, and one version."""
        inner = MemoryFileSystem(global_store=False, skip_instance_cache=True)
        inner.pipe_file("/file", CONTENT)
        fs = Guard(inner).fs
        with fs.open("/file") as one, fs.open("/file") as other:
            half = one.read(100)
            assert other.read() == CONTENT
            inner.pipe_file("/file", b"new")
            assert half + one.read() == CONTENT


class TestInPlace:
    """Files that are changed in place are the inner filesystem's, and their changes."""

    @pytest.mark.parametrize("inner", ["local", "memory"])
    def test_change(self, inner: str, tmp_path: Path) -> None:
        """What is written over is there, and what is appended."""
        fs, path = _editable(inner, tmp_path)
        with fs.open(path, "r+b") as file:
            file.seek(3)
            file.write(b"XY")
            assert file.read(2) == CONTENT[5:7]
            file.seek(0, io.SEEK_END)
            file.write(b"end")
            file.seek(0)
            assert file.read(5) == b"linXY"
        assert fs.cat_file(path) == b"linXY" + CONTENT[5:] + b"end"

    def test_append_and_read(self, tmp_path: Path) -> None:
        """A file that is appended to may be read as well."""
        fs, path = _editable("local", tmp_path)
        with fs.open(path, "a+b") as file:
            file.write(b"end")
            file.seek(0)
            assert file.read() == CONTENT + b"end"

    def test_flush_reaches_the_disk(self, tmp_path: Path) -> None:
        """What was flushed is seen by others."""
        fs, path = _editable("local", tmp_path)
        with fs.open(path, "r+b") as file:
            file.write(b"LINE")
            file.flush()
            assert Path(path).read_bytes().startswith(b"LINE")

    def test_exception_takes_nothing_back(self, tmp_path: Path) -> None:
        """What was written in place stays: nothing tells what was there."""
        fs, path = _editable("local", tmp_path)
        with pytest.raises(KeyError), fs.open(path, "r+b") as file:  # noqa: PT012 - the block is it
            file.write(b"LINE")
            raise KeyError
        assert fs.cat_file(path) == b"LINE" + CONTENT[4:]


def _editable(inner: str, tmp_path: Path) -> tuple[Any, str]:
    if inner == "local":
        (tmp_path / "file").write_bytes(CONTENT)
        return Guard(LocalFileSystem()).fs, str(tmp_path / "file")
    memory = MemoryFileSystem(global_store=False, skip_instance_cache=True)
    memory.pipe_file("/file", CONTENT)
    return Guard(memory).fs, "/file"


def test_collected_file_asks_nothing() -> None:
    """A file that nobody closed is closed when it is collected, without a request."""
    shelf, guard = _of(Shelf)
    file = guard.fs.open("file", cache_type="none")
    file.read(3)
    file.seek(100)
    file.read(3)
    asked = len(shelf.asked)
    file.__del__()
    assert file.closed
    assert len(shelf.asked) == asked


def test_descriptor_is_the_inner_files(tmp_path: Path) -> None:
    """A file of this machine can be mapped and sent by its descriptor."""
    (tmp_path / "file").write_bytes(CONTENT)
    with Guard(LocalFileSystem()).fs.open(str(tmp_path / "file")) as file:
        assert os.fstat(file.fileno()).st_size == len(CONTENT) == file.size
