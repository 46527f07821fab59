"""What lies beneath an open file's buffer: each read and write is an operation."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.implementations.local import LocalFileOpener

from connectorkit.errors import WrongAnswer
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.guarded.transfers import Transfers
    from connectorkit.guarded.versions import Versions
    from connectorkit.operation import Operation

__all__ = ["Source"]

T = TypeVar("T")
_WITH_READINTO = (LocalFileOpener, io.BufferedReader, io.FileIO)


class Source(io.RawIOBase):
    """An inner file beneath a buffer: it keeps its place.

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

    def __init__(  # noqa: PLR0913, PLR0917 - each is a fact of the file
        self,
        fs: Transfers,
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
        # A class of somebody's own may have thought of `read` alone.
        self._has_readinto = type(file) in _WITH_READINTO
        # What an attempt, and what a whole operation failed with.
        self._failed: Exception | None = None
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
        self.go_on()
        return offset

    def go_on(self) -> None:
        """Let reads be tried again: who reads says from where."""
        if self._can_seek:
            self._lost = None

    # Reading

    def readinto(self, buffer: Any, /) -> int | None:
        """Read at most as much as there is room for."""
        room = memoryview(buffer).cast("B")
        if self._versions is not None:
            self._versions.begin()

        def take() -> int | None:
            if self._has_readinto:
                taken: int | None = self.file.readinto(room)
                return taken
            data = self.file.read(len(room))
            room[: len(data)] = data
            return len(data)

        def attempt(op: Operation) -> int | None:
            count = self._taken(take)
            op.origin.bytes = count or 0
            return count

        count = self._read(attempt, len(room))
        if count is not None:
            self._came(count, is_end=not count and bool(room))
        return count

    def readall(self) -> bytes:
        """Read all that is left."""

        def attempt(op: Operation) -> bytes:
            data: bytes = self._taken(lambda: self.file.read())  # noqa: PLW0108 - a LocalFileOpener's is another after it was reopened
            op.origin.bytes = len(data)
            return data

        data = self._read(attempt, max((self._size or 0) - self._place, 0))
        self._came(len(data), is_end=True)
        return data

    def _taken(self, take: Callable[[], T]) -> T:
        if self._can_seek:
            if self.file.tell() != self._place:
                self.file.seek(self._place)
        elif self._failed is not None:
            # Nobody knows how far it got.
            raise self._failed
        try:
            return take()
        except Exception as error:
            self._failed = error
            raise

    def _read(self, attempt: Callable[[Operation], T], size: int) -> T:
        """Read, unless a read has failed for good and nobody said where to go on.

        Python's buffer forgets the pieces that came before the one that failed: to go
        on from there would leave a gap.
        """
        if self._lost is not None:
            raise self._lost
        try:
            return self._run("read", attempt, size)
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
        kind = Kind.READ if is_read else Kind.WRITE
        facts = {"size": size, "is_repeatable": is_read and self._can_seek}
        done: T = self._fs._run(name, kind, self._path, attempt, **facts)
        return done


def _can_seek(file: Any) -> bool:
    try:
        return bool(file.seekable())
    except AttributeError:
        return hasattr(file, "seek") and hasattr(file, "tell")
