"""Open files of a guarded filesystem: what touches the storage is an operation."""

from __future__ import annotations

import functools
import inspect
import io
from typing import TYPE_CHECKING, Any, Self, TypeVar

from fsspec.implementations.memory import MemoryFile
from fsspec.spec import AbstractBufferedFile

from connectorkit.errors import WrongAnswer
from connectorkit.guarded.source import Source
from connectorkit.guarded.versions import Versions, descriptor_of
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from connectorkit.guarded.transfers import Transfers
    from connectorkit.operation import Operation

__all__ = ["GuardedBufferedFile", "GuardedReader", "GuardedUpdater", "guarded_file"]

T = TypeVar("T")
# How much is read at a time of what does not read ahead by itself.
_AHEAD = 1 << 16


def guarded_file(
    fs: Transfers, path: str, mode: str, file: Any, options: Mapping[str, Any]
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


class _Outer:
    """What a file tells of the filesystem that it belongs to: the guarded one."""

    fs: Transfers
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
        self, fs: Transfers, path: str, file: Any, options: Mapping[str, Any]
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
        self._source = Source(fs, path, "rb", file, versions, self.size)
        super().__init__(self._source, _AHEAD)
        self.fs = fs
        self.path = path
        self._inner = file
        self._options = options
        self._can_go_back = self.seekable()

    read = _going_back(io.BufferedReader.read)
    readinto = _going_back(io.BufferedReader.readinto)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place; after a read of lines has failed, it has to be told."""
        self._source.go_on()
        return super().seek(offset, whence)

    def close(self) -> None:
        """Close it.

        Raises:
            ObjectChanged: What was read may be of two versions.
        """
        if self.closed:
            return
        try:
            if not self._is_dropped:
                self._source.check()
        finally:
            super().close()

    def __del__(self) -> None:
        self._is_dropped = True
        super().__del__()

    def __reduce__(self) -> Any:
        return _reopen, (self.fs, self.path, self.tell(), dict(self._options))


def _reopen(fs: Transfers, path: str, place: int, options: dict[str, Any]) -> Any:
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

    def __init__(self, fs: Transfers, path: str, mode: str, file: Any) -> None:
        super().__init__(Source(fs, path, mode, file))
        self.fs = fs
        self.path = path
        self._inner = file

    def flush(self) -> None:
        """Write what the buffers hold, this one and that of the inner file."""
        super().flush()
        self.raw.flush()

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

    def __init__(self, fs: Transfers, path: str, file: Any) -> None:
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
            piece: bytes = self._fetch(start, end)
            if length is not None and len(piece) != length:
                raise WrongAnswer(
                    f"{self.path!r}: {len(piece)} bytes came of {length} from {start}."
                )
            op.origin.bytes = len(piece)
            return piece

        facts = {"size": length or 0}
        data: bytes = self.fs._run("read", Kind.READ, self.path, attempt, **facts)
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
