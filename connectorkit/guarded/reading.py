"""Open files of a guarded filesystem: what touches the storage is an operation."""

from __future__ import annotations

import functools
import inspect
import io
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsspec.implementations.memory import MemoryFile
from fsspec.spec import AbstractBufferedFile

from connectorkit.errors import WrongAnswer
from connectorkit.guarded.versions import Versions, descriptor_of
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from connectorkit.guarded.filesystem import GuardedFileSystem
    from connectorkit.operation import Operation

__all__ = ["GuardedBufferedFile", "GuardedReader", "GuardedUpdater", "guarded_file"]

T = TypeVar("T")
# How much is read at a time of what does not read ahead by itself.
_AHEAD = 1 << 16


def guarded_file(
    fs: GuardedFileSystem, path: str, mode: str, file: Any, options: Mapping[str, Any]
) -> Any:
    """Put an inner file's reads, and its writes in place, through the pipeline.

    Args:
        fs: The guarded filesystem.
        path: The file's path there.
        mode: "rb", or one that changes a file in place.
        file: The inner filesystem's.
        options: By which it is opened again where it is unpickled.
    """
    if mode != "rb":
        return GuardedUpdater(fs, path, mode, file)
    if (
        isinstance(file, AbstractBufferedFile)
        and type(file).read is AbstractBufferedFile.read
        and getattr(file, "cache", None) is not None
    ):
        return GuardedBufferedFile(fs, path, file)
    return GuardedReader(fs, path, file, options)


class Source(io.RawIOBase):
    """An inner file beneath a buffer: each read and write is an operation.

    It keeps the place by itself and goes there before each attempt, so that a read that
    failed halfway leaves no gap; a file that cannot go back is not read again.

    Args:
        fs: The guarded filesystem.
        path: The file's path there.
        mode: With "b".
        file: The inner file.
        versions: Compares versions, if there is anything to compare.
        size: Its number of bytes, as far as is known.
    """

    def __init__(  # noqa: PLR0913 - each is a fact of the file
        self,
        fs: GuardedFileSystem,
        path: str,
        mode: str,
        file: Any,
        versions: Versions | None = None,
        size: int | None = None,
    ) -> None:
        super().__init__()
        self.file = file
        self.mode = mode
        self.name = getattr(file, "name", path)
        self._fs = fs
        self._path = path
        self._versions = versions
        self._size = size
        self._can_seek = _can_seek(file)
        self._place: int = file.tell() if self._can_seek else 0
        self._lost: Exception | None = None

    def readable(self) -> bool:
        """Tell that it can be read: what only is written is staged."""
        return True

    def writable(self) -> bool:
        """Tell whether it is changed in place."""
        return "+" in self.mode

    def seekable(self) -> bool:
        """Tell whether one can go to another place in it."""
        return self._can_seek

    def fileno(self) -> int:
        """Return the inner file's descriptor, if it is open on this machine."""
        number: int = self.file.fileno()
        return number

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; the storage hears of it at the next read."""
        if not self._can_seek:
            raise io.UnsupportedOperation(f"{self._path!r} can be read only onwards")
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            offset += self._run("seek", lambda _op: self.file.seek(0, io.SEEK_END))
        if offset < 0:
            raise ValueError(f"negative seek value {offset}")
        self._place = offset
        return offset

    # Reading

    def readinto(self, buffer: Any, /) -> int | None:
        """Read at most as much as there is room for."""
        room = memoryview(buffer).cast("B")
        if self._versions is not None:
            self._versions.begin()

        def take() -> int | None:
            if hasattr(self.file, "readinto"):
                taken: int | None = self.file.readinto(room)
                return taken
            data = self.file.read(len(room))
            room[: len(data)] = data
            return len(data)

        def attempt(op: Operation) -> int | None:
            count = self._taken(take)
            op.origin.bytes = count or 0
            return count

        count = self._run("read", attempt, len(room))
        if count is not None:
            self._came(count, is_end=not count and bool(room))
        return count

    def readall(self) -> bytes:
        """Read all that is left."""

        def attempt(op: Operation) -> bytes:
            data: bytes = self._taken(lambda: self.file.read())  # noqa: PLW0108 - a LocalFileOpener's is another after it was reopened
            op.origin.bytes = len(data)
            return data

        data = self._run("read", attempt, max((self._size or 0) - self._place, 0))
        self._came(len(data), is_end=True)
        return data

    def _taken(self, take: Callable[[], T]) -> T:
        if not self._can_seek:
            if self._lost is not None:
                # Nobody knows how far it got.
                raise self._lost
        elif self.file.tell() != self._place:
            self.file.seek(self._place)
        try:
            return take()
        except Exception as error:
            self._lost = error
            raise

    def _came(self, count: int, *, is_end: bool) -> None:
        self._place += count
        if self._versions is not None and count:
            self._versions.count()
        if is_end:
            if self._size is not None and self._place < self._size:
                raise WrongAnswer(
                    f"{self._path!r} ended after {self._place} of {self._size} bytes."
                )
            self.check()

    def check(self) -> None:
        """Compare versions, if several pieces were read.

        Raises:
            ObjectChanged: They are of two.
        """
        if self._versions is not None:
            self._versions.check()

    # Writing in place

    def write(self, data: Any, /) -> int:
        """Write in place."""
        view = memoryview(data).cast("B")

        def attempt(op: Operation) -> int:
            count: int | None = self._taken(lambda: self.file.write(view))
            op.origin.bytes = len(view) if count is None else count
            return op.origin.bytes

        count = self._run("write", attempt, len(view))
        # What is appended lands at the end, wherever this was.
        self._place = self.file.tell()
        return count

    def truncate(self, size: int | None = None, /) -> int:
        """Cut it, or let it grow, to a number of bytes."""
        size = self._place if size is None else size
        self._run("truncate", lambda _op: self.file.truncate(size))
        return size

    def flush(self) -> None:
        """Let the inner file write what it holds back."""
        if not self.closed and self.writable():
            self._run("flush", lambda _op: self.file.flush())

    def close(self) -> None:
        """Close both."""
        if self.closed:
            return
        try:
            super().close()
        finally:
            if self.writable():
                self._run("close", lambda _op: self.file.close())
            else:
                self.file.close()

    def _run(self, name: str, attempt: Callable[[Operation], T], size: int = 0) -> T:
        is_read = name in {"read", "seek"}
        return self._fs._run(
            name,
            Kind.READ if is_read else Kind.WRITE,
            self._path,
            attempt,
            size=size,
            is_repeatable=is_read and self._can_seek,
        )


def _can_seek(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except AttributeError:
        return hasattr(file, "seek") and hasattr(file, "tell")


class _Outer:
    """What a file tells of the filesystem that it belongs to: the guarded one."""

    fs: GuardedFileSystem
    path: str
    close: Callable[[], None]
    _inner: Any
    _is_dropped = False

    def abort(self, error: BaseException | None = None) -> None:
        """Close it; what was read is not looked at any more."""
        del error
        self._is_dropped = True
        self.close()

    def __getattr__(self, name: str) -> Any:
        # Whatever else the inner file has; what it can do is an operation.
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._inner, name)
        if not inspect.isroutine(value):
            return value

        @functools.wraps(value)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self.fs._run(
                name,
                Kind.READ,
                self.path,
                lambda _op: value(*args, **kwargs),
                is_repeatable=False,
            )

        return guarded

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort(error)
        else:
            self.close()


def _going_back(method: Callable[..., T]) -> Callable[..., T]:
    """Let a read that failed leave the file where it was.

    Python's buffer forgets the pieces that came before the one that failed.
    """

    @functools.wraps(method)
    def read(self: GuardedReader, *args: Any) -> T:
        place = self.tell() if self._can_go_back else None
        try:
            return method(self, *args)
        except Exception:
            if place is not None:
                self.seek(place)
            raise

    return read


class GuardedReader(_Outer, io.BufferedReader):
    """A file that is read through the pipeline, a buffer at a time.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
        size: Its number of bytes, or None if nobody knows.
    """

    def __init__(
        self, fs: GuardedFileSystem, path: str, file: Any, options: Mapping[str, Any]
    ) -> None:
        size = getattr(file, "size", None)
        self.size: int | None = size if isinstance(size, int) else None
        versions = None
        if isinstance(file, MemoryFile):
            # All who open it are given the same one, with one place. To copy it costs
            # nothing until it is written to.
            file = io.BytesIO(file.getvalue())
        else:
            versions = Versions(fs, path, descriptor=descriptor_of(file))
        super().__init__(Source(fs, path, "rb", file, versions, self.size), _AHEAD)
        self.fs = fs
        self.path = path
        self._inner = file
        self._options = options
        self._can_go_back = self.seekable()

    read = _going_back(io.BufferedReader.read)
    readinto = _going_back(io.BufferedReader.readinto)
    readline = _going_back(io.BufferedReader.readline)
    readlines = _going_back(io.BufferedReader.readlines)

    def close(self) -> None:
        """Close it.

        Raises:
            ObjectChanged: What was read may be of two versions.
        """
        if self.closed:
            return
        try:
            if not self._is_dropped:
                self.raw.check()  # type: ignore[attr-defined]
        finally:
            super().close()

    def __del__(self) -> None:
        self._is_dropped = True
        super().__del__()

    def __reduce__(self) -> Any:
        return _reopen, (self.fs, self.path, self.tell(), dict(self._options))


def _reopen(
    fs: GuardedFileSystem, path: str, place: int, options: dict[str, Any]
) -> Any:
    file = fs.open(path, "rb", **options)
    file.seek(place)
    return file


class GuardedUpdater(_Outer, io.BufferedRandom):
    """A file that is changed in place, through the pipeline.

    Nothing of that is taken back by an exception, as nothing tells what was there; and
    no write is tried twice.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
    """

    def __init__(self, fs: GuardedFileSystem, path: str, mode: str, file: Any) -> None:
        super().__init__(Source(fs, path, mode, file))
        self.fs = fs
        self.path = path
        self._inner = file

    def commit(self) -> None:
        """Do nothing: what was written is there."""

    def discard(self) -> None:
        """Do nothing: what was written cannot be taken back."""


class GuardedBufferedFile(_Outer, AbstractBufferedFile):  # type: ignore[misc]
    """fsspec's own kind of file, whose every fetch goes through the pipeline.

    It reads through the cache that the inner file chose.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
    """

    def __init__(self, fs: GuardedFileSystem, path: str, file: Any) -> None:
        self.fs = fs
        self.path = path
        self.mode = file.mode
        self.blocksize = file.blocksize
        self.autocommit = file.autocommit
        self.kwargs = file.kwargs
        self.size = file.size
        self.loc = 0
        self.start = self.end = None
        self.closed = False
        self.cache = file.cache
        self._inner = file
        self._details = file._details
        self._versions = Versions(fs, path, file._details)
        self._fetch = self.cache.fetcher
        self.cache.fetcher = self._fetch_range

    def _fetch_range(self, start: int, end: int) -> bytes:
        length = None if self.size is None else max(min(end, self.size) - start, 0)
        if length != self.size:
            self._versions.begin()

        def attempt(op: Operation) -> bytes:
            data: bytes = self._fetch(start, end)
            if length is not None and len(data) != length:
                raise WrongAnswer(
                    f"{self.path!r}: {len(data)} bytes came of {length} from {start}."
                )
            op.origin.bytes = len(data)
            return data

        data = self.fs._run("read", Kind.READ, self.path, attempt, size=length or 0)
        self._versions.count()
        return data

    def read(self, length: int | None = -1) -> bytes:
        """Read at most so many bytes, or all that are left.

        Raises:
            ObjectChanged: What was read may be of two versions.
        """
        data: bytes = super().read(length)
        if self.size is not None and self.loc >= self.size:
            self._versions.check()
        return data

    def close(self) -> None:
        """Close it.

        Raises:
            ObjectChanged: What was read may be of two versions.
        """
        if self.closed:
            return
        try:
            if not self._is_dropped:
                self._versions.check()
        finally:
            super().close()
            self._inner.cache = None
            self._inner.close()

    def __del__(self) -> None:
        self._is_dropped = True
        super().__del__()
