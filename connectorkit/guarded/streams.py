"""Open files with coroutines, of a guarded asynchronous filesystem."""

from __future__ import annotations

import inspect
import io
import tempfile
from typing import IO, TYPE_CHECKING, Any, Self, cast

from fsspec.asyn import AbstractAsyncStreamedFile

from connectorkit.guarded.inner import brings
from connectorkit.guarded.publishing import SMALL, has_own
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from connectorkit.guarded.asynchronous import GuardedAsyncFileSystem
    from connectorkit.operation import Operation

__all__ = ["GuardedStream", "StagedStream"]

_CHUNK = 1 << 20


class GuardedStream:
    """A file that is read by coroutines, each an operation.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
    """

    def __init__(self, fs: GuardedAsyncFileSystem, path: str, file: Any) -> None:
        self.fs = fs
        self.path = path
        self._inner = file
        # One that fetches each range by itself; another reads one body onwards.
        self._is_ranged = type(file).read is AbstractAsyncStreamedFile.read
        self._before: dict[str, Any] | None = None
        self._pieces = 0
        self._failed: BaseException | None = None

    async def read(self, length: int = -1) -> bytes:
        """Read at most so many bytes, or all that are left.

        Raises:
            ObjectChanged: What was read may be of two versions.
        """
        if self._is_ranged and not self._pieces:
            self._before = await self.fs._aseen(self.path)
        place = self._inner.loc if self._is_ranged else None

        async def attempt(op: Operation) -> bytes:
            if place is not None:
                self._inner.loc = place
            elif self._failed is not None:
                # Nobody knows how far it got.
                raise self._failed
            try:
                data: bytes = await self._inner.read(length)
            except BaseException as error:
                self._failed = error
                raise
            op.origin.bytes = len(data)
            return data

        facts = {"size": max(length, 0), "is_repeatable": self._is_ranged}
        data = await self.fs._arun("read", Kind.READ, self.path, attempt, **facts)
        self._pieces += 1
        if not data and length:
            await self._check()
        return data

    async def close(self) -> None:
        """Close it.

        Raises:
            ObjectChanged: What was read may be of two versions.
        """
        if not self._inner.closed:
            await self._close()
            await self._check()

    async def _close(self) -> None:
        done = self._inner.close()
        if inspect.isawaitable(done):
            await done

    async def _check(self) -> None:
        if self._pieces > 1:
            self._pieces = 1
            await self.fs._acompare(self.path, self._before)

    def __getattr__(self, name: str) -> Any:
        # Where it is, how big: nothing of that asks the storage.
        if name not in _LOCAL:
            raise AttributeError(name)
        return getattr(self._inner, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            await self._close()
        else:
            await self.close()


_LOCAL = frozenset(
    [
        "blocksize",
        "closed",
        "details",
        "loc",
        "mode",
        "readable",
        "seek",
        "seekable",
        "size",
        "tell",
        "writable",
    ]
)


class StagedStream:
    """A file that is written by coroutines, and takes its place when it is closed.

    Attributes:
        fs: The guarded filesystem.
        path: Its path there.
        closed: Whether it took its place, or was dropped.
    """

    mode = "wb"

    def __init__(
        self, fs: GuardedAsyncFileSystem, path: str, options: Mapping[str, Any]
    ) -> None:
        self.fs = fs
        self.path = path
        self.closed = False
        self._options = options
        self._spool = cast("IO[bytes]", tempfile.SpooledTemporaryFile(SMALL))  # noqa: SIM115 - it outlives this

    def readable(self) -> bool:
        """Tell that it cannot be read."""
        return False

    def writable(self) -> bool:
        """Tell whether it can be written."""
        return not self.closed

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._spool.tell()

    async def write(self, data: bytes) -> int:
        """Write bytes."""
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        return self._spool.write(data)

    async def flush(self, force: bool = False) -> None:
        """Do nothing: the storage gets all of it when this is closed."""

    async def close(self) -> None:
        """Let it take its place.

        Raises:
            Exception: It could not; what was there before stays.
        """
        if self.closed:
            return
        self.closed = True
        size = self._spool.seek(0, io.SEEK_END)
        try:
            await self.fs._arun(
                "close", Kind.WRITE, self.path, self._publish, size=size
            )
        finally:
            self._spool.close()

    async def _publish(self, op: Operation) -> None:
        inner, size = self.fs.inner, op.size
        self._spool.seek(0)
        if not self._options and size <= SMALL and brings(inner, "_pipe_file"):
            await inner._pipe_file(self.path, self._spool.read())
        else:
            await self._stream(await inner.open_async(self.path, "wb", **self._options))
        op.origin.bytes = size

    async def _stream(self, file: Any) -> None:
        try:
            while chunk := self._spool.read(_CHUNK):
                await file.write(chunk)
            await file.close()
        except BaseException as error:
            file.closed = True
            if has_own(file, "discard"):
                try:
                    done = file.discard()
                    if inspect.isawaitable(done):
                        await done
                except Exception as left:  # noqa: BLE001 - the first error says more
                    error.add_note(f"What was written may still be there: {left!r}")
            raise

    async def abort(self, error: BaseException | None = None) -> None:
        """Drop it; what was there before stays."""
        del error
        self.closed = True
        self._spool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            await self.abort(error)
        else:
            await self.close()
