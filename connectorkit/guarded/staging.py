"""Staged files: what is written takes its place when the file is closed, or never."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, cast

from connectorkit.atomic import Beside
from connectorkit.guarded.inner import GONE, beneath, local_path
from connectorkit.guarded.publishing import SMALL, appended, published
from connectorkit.operation import Kind
from connectorkit.writing import WholeFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit.guarded.transfers import Transfers
    from connectorkit.operation import Operation

__all__ = ["StagedFile", "stage"]


class Stage(Protocol):
    """Where a file is written until it takes its place.

    Attributes:
        file: What is written to.
        start: How many bytes are there already, which are appended to.
    """

    file: IO[bytes]
    start: int

    def settle(self) -> None:
        """Let it take its place."""

    def drop(self) -> None:
        """Leave what was there before, and nothing else."""


class BesideStage:
    """A file of this machine that is written beside its place; a special one, in it."""

    start = 0

    def __init__(self, fs: Transfers, path: str, target: str, mode: str) -> None:
        self._fs = fs
        self._path = path
        self._is_new = "x" in mode
        self._beside = Beside(target, is_new=self._is_new)
        mode = mode if self._beside.is_direct else "x+b"
        try:
            self.file = cast("IO[bytes]", open(self._beside.path, mode))  # noqa: PTH123, SIM115 - it outlives this
        except OSError as error:
            self._beside.explain(error)
            raise

    def settle(self) -> None:
        """Let it take its place."""
        size = os.fstat(self.file.fileno()).st_size
        self.file.close()

        def attempt(op: Operation) -> None:
            self._beside.settle()
            op.origin.bytes = size

        # What is not beside its place any more has taken it.
        facts = {"size": size, "is_repeatable": not self._is_new}
        self._fs._run("close", Kind.WRITE, self._path, attempt, **facts)

    def drop(self) -> None:
        """Remove it."""
        with contextlib.suppress(OSError):
            self.file.close()
        self._beside.clear()


class SpoolStage:
    """A file for any storage: kept here, and sent when it is closed.

    Args:
        fs: The guarded filesystem.
        path: The file's path there.
        mode: "wb", "xb" or "ab".
        send: Sends it; makes one attempt.
        start: How many bytes are there already, for "ab".
    """

    def __init__(
        self,
        fs: Transfers,
        path: str,
        mode: str,
        send: Callable[[IO[bytes]], None],
        start: int = 0,
    ) -> None:
        self._fs = fs
        self._path = path
        self._mode = mode
        self._send = send
        self.start = start
        self.file = cast("IO[bytes]", tempfile.SpooledTemporaryFile(SMALL))  # noqa: SIM115 - it outlives this

    def settle(self) -> None:
        """Send it."""
        size = self.file.seek(0, io.SEEK_END)
        if not size and self.start:
            # Nothing is appended.
            self.file.close()
            return

        def attempt(op: Operation) -> None:
            self._send(self.file)
            op.origin.bytes = size

        facts = {"size": size, "is_repeatable": self._mode == "wb"}
        self._fs._run("close", Kind.WRITE, self._path, attempt, **facts)
        self.file.close()

    def drop(self) -> None:
        """Forget it."""
        self.file.close()


def stage(fs: Transfers, path: str, mode: str, options: Mapping[str, Any]) -> Stage:
    """Begin a file that is to be written.

    Args:
        fs: The guarded filesystem.
        path: The file's path there.
        mode: "wb", "xb" or "ab".
        options: The inner filesystem's own, for opening it.

    Raises:
        FileExistsError: It is there, for "xb".
        OSError: It cannot be written, as far as that can be told.
    """
    if (target := local_path(fs.inner, path)) is not None:
        begun: Stage = fs._run(
            "open", Kind.WRITE, path, lambda _op: _locally(fs, path, target, mode)
        )
        return begun
    start = 0
    if mode != "wb":
        try:
            info = fs.info(path)
        except GONE:
            pass
        else:
            if mode == "xb":
                raise FileExistsError(path)
            start = info.get("size") or 0
    below, place = beneath(fs.inner, path)

    def send(source: IO[bytes]) -> None:
        published(below, place, source, mode, options)

    return SpoolStage(fs, path, mode, send, start)


def _locally(fs: Transfers, path: str, target: str, mode: str) -> Stage:
    below, _ = beneath(fs.inner, path)
    if below.auto_mkdir:
        below.makedirs(below._parent(target), exist_ok=True)
    if mode == "ab" and not Beside(target).is_direct:
        try:
            start = Path(target).stat().st_size
        except FileNotFoundError:
            # Its folder has to be there.
            Path(target).parent.stat()
            start = 0
        return SpoolStage(fs, path, mode, functools.partial(appended, target), start)
    return BesideStage(fs, path, target, mode)


class StagedFile(WholeFile, io.BufferedIOBase):
    """A file that is being written, and takes its place when it is closed.

    Until then what was there before is there. An exception that leaves its `with`, or
    `abort()`, drops it; so does whoever leaves it open. Within a transaction of the
    filesystem it takes its place with the others.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
        mode: With "b".
        autocommit: Whether to close it is enough.
    """

    def __init__(
        self,
        fs: Transfers,
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
        self._start = stage.start
        self._pid = os.getpid()
        self.begun()

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
        """Do nothing to the storage: it gets all of it when this is closed."""
        if self._stage is not None and not self.closed:
            self._file.flush()

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
        if self.autocommit:
            self.commit()
            return
        try:
            super().close()
        except BaseException as error:
            self.abort(error)
            raise

    def commit(self) -> None:
        """Let it take its place.

        Raises:
            Exception: It could not; what was there before stays.
        """
        stage = self._taken()
        super().close()
        if stage is None:
            return
        try:
            stage.file.flush()
            stage.settle()
        except BaseException as error:
            _drop(stage, error)
            raise

    def abort(self, error: BaseException | None = None) -> None:
        """Drop it; what was there before stays.

        Args:
            error: Why; it is told what could not be removed.
        """
        stage = self._taken()
        super().close()
        if stage is not None:
            _drop(stage, error)

    def discard(self) -> None:
        """Drop it; what was there before stays."""
        self.abort()

    forsake = leave = discard

    def _taken(self) -> Stage | None:
        stage, self._stage = self._stage, None
        if stage is not None and os.getpid() != self._pid:
            # A child has no part in what its parent writes.
            _forget(stage.file)
            return None
        return stage

    def __reduce__(self) -> Any:
        raise TypeError("A file that is being written is not pickled.")


def _forget(file: Any) -> None:
    """Close a file without writing what its buffer holds: its parent will do that."""
    raw = getattr(getattr(file, "_file", file), "raw", None)
    if raw is not None:
        raw.close()


def _drop(stage: Stage, error: BaseException | None) -> None:
    try:
        stage.drop()
    except Exception as left:
        if error is None:
            raise
        error.add_note(f"What was written of it may still be there: {left!r}")
