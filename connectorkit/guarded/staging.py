"""Staged files: what is written takes its place when the file is closed, or never."""

from __future__ import annotations

import io
import os
import tempfile
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from connectorkit.guarded.beside import Beside
from connectorkit.guarded.publishing import appended, published
from connectorkit.operation import Kind
from connectorkit.writing import drop_at_exit

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType

    from connectorkit.guarded.filesystem import GuardedFileSystem

__all__ = ["SMALL", "BesideStage", "SpoolStage", "StagedFile"]

# Up to so many bytes are kept in memory, more in a temporary file.
SMALL = 16 << 20


class Stage(Protocol):
    """Where a file is written until it takes its place."""

    file: IO[bytes]
    start: int

    def settle(self) -> None:
        """Let it take its place."""

    def drop(self) -> None:
        """Leave what was there before, and nothing else."""


class BesideStage:
    """A file of this machine, written beside its place; a special one, in it."""

    start = 0

    def __init__(
        self, fs: GuardedFileSystem, path: str, target: str, *, is_new: bool
    ) -> None:
        self._fs = fs
        self._path = path
        self._beside = Beside(target, is_new=is_new)
        mode = "wb" if self._beside.is_direct else "x+b"
        try:
            self.file: IO[bytes] = open(self._beside.path, mode)  # noqa: PTH123, SIM115 - it outlives this
        except OSError as error:
            self._beside.explain(error)
            raise

    def settle(self) -> None:
        """Let it take its place."""
        size = self.file.tell() if self.file.seekable() else 0
        self.file.close()
        self._fs._run(
            "close",
            Kind.WRITE,
            self._path,
            lambda _op: self._beside.settle(),
            size=size,
            is_repeatable=False,
        )

    def drop(self) -> None:
        """Remove it."""
        self.file.close()
        self._beside.clear()


class SpoolStage:
    """A file for any storage: kept here, and sent when it is closed.

    Args:
        fs: The guarded filesystem.
        path: The file's path there.
        mode: "wb", "xb" or "ab".
        start: How many bytes are there already, for "ab".
        options: The inner filesystem's own, for opening it.
        local: Where it is on this machine, for "ab".
    """

    def __init__(  # noqa: PLR0913 - each is a fact of the file
        self,
        fs: GuardedFileSystem,
        path: str,
        mode: str,
        options: Mapping[str, Any],
        start: int = 0,
        local: str | None = None,
    ) -> None:
        self._fs = fs
        self._path = path
        self._mode = mode
        self._options = options
        self._local = local
        self.start = start
        self.file: IO[bytes] = tempfile.SpooledTemporaryFile(SMALL)  # noqa: SIM115 - it outlives this

    def settle(self) -> None:
        """Send it."""
        size = self.file.seek(0, io.SEEK_END)
        if self._mode == "ab" and not size and self.start:
            return
        send: Callable[[], None]
        if self._local is not None:
            local = self._local
            send = lambda: appended(local, self.file)  # noqa: E731 - one of two
        else:
            send = lambda: published(  # noqa: E731
                self._fs.inner, self._path, self.file, self._mode, self._options
            )
        self._fs._run(
            "close",
            Kind.WRITE,
            self._path,
            lambda _op: send(),
            size=size,
            is_repeatable=self._mode == "wb",
        )
        self.file.close()

    def drop(self) -> None:
        """Forget it."""
        self.file.close()


class StagedFile(io.BufferedIOBase):
    """A file that is being written, and takes its place when it is closed.

    Until then what was there before is there. An exception that leaves its `with`, or
    `abort()`, drops it; so does the end of the process. Within a transaction of the
    filesystem it takes its place with the others.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
        mode: With "b".
        autocommit: Whether to close it is enough.
    """

    def __init__(
        self,
        fs: GuardedFileSystem,
        path: str,
        mode: str,
        stage: Stage,
        *,
        autocommit: bool = True,
    ) -> None:
        self.fs = fs
        self.path = self.name = path
        self.mode = mode
        self.autocommit = autocommit
        self.blocksize = io.DEFAULT_BUFFER_SIZE
        self._stage: Stage | None = stage
        self._file = stage.file
        self._pid = os.getpid()
        drop_at_exit(self)

    def readable(self) -> bool:
        """Tell whether what was written can be read."""
        return "+" in self.mode and not self.closed

    def writable(self) -> bool:
        """Tell whether it can be written."""
        return not self.closed

    def seekable(self) -> bool:
        """Tell whether one can go to another place in it."""
        return not self.closed and self._file.seekable()

    def fileno(self) -> int:
        """Return the descriptor of what is written until it takes its place."""
        return self._file.fileno()

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        return self._open().write(data)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read what was written."""
        if not self.readable():
            raise io.UnsupportedOperation("not readable")
        return self._open().read(-1 if size is None else size)

    read1 = read

    def tell(self) -> int:
        """Return the place of the next byte."""
        return self._start + self._open().tell()

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        """Go to a place.

        Raises:
            UnsupportedOperation: It is before what is appended.
        """
        if whence == io.SEEK_SET:
            offset -= self._start
        if whence == io.SEEK_SET and offset < 0:
            raise io.UnsupportedOperation("what was there before stays")
        return self._start + self._open().seek(offset, whence)

    def truncate(self, size: int | None = None, /) -> int:
        """Cut it, or let it grow, to a number of bytes."""
        place = self.tell() if size is None else size
        if place < self._start:
            raise io.UnsupportedOperation("what was there before stays")
        self._open().truncate(place - self._start)
        return place

    def flush(self) -> None:
        """Do nothing to the storage: it has all of it when this is closed."""
        if not self.closed:
            self._open().flush()

    @property
    def _start(self) -> int:
        return 0 if self._stage is None else self._stage.start

    def _open(self) -> IO[bytes]:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return self._file

    # The end

    def close(self) -> None:
        """Let it take its place, unless a transaction will.

        Raises:
            Exception: It could not; what was there before stays.
        """
        if self.closed:
            return
        super().close()
        if self.autocommit:
            self.commit()

    def commit(self) -> None:
        """Let it take its place.

        Raises:
            Exception: It could not; what was there before stays.
        """
        super().close()
        stage = self._taken()
        if stage is None:
            return
        try:
            stage.file.flush()
            stage.settle()
        except BaseException:
            stage.drop()
            raise

    def abort(self, error: BaseException | None = None) -> None:
        """Drop it; what was there before stays."""
        del error
        super().close()
        if (stage := self._taken()) is not None:
            stage.drop()

    def discard(self) -> None:
        """Drop it; what was there before stays."""
        self.abort()

    forsake = discard

    def _taken(self) -> Stage | None:
        stage, self._stage = self._stage, None
        # A child has no part in what its parent writes.
        return stage if os.getpid() == self._pid else None

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

    def __reduce__(self) -> Any:
        raise TypeError("A file that is being written is not pickled.")
