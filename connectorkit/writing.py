"""Writing: what leaves a `with` by an exception is dropped, through every layer.

fsspec closes a file at the end of a `with` whatever happened in it, and so publishes
half of what was to be written. A binary file that can do better has `abort(error)`;
text and compression, which lie over it, here pass the exception on to it.
"""

from __future__ import annotations

import atexit
import contextlib
import io
import logging
import weakref
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = [
    "Abortable",
    "AbortingText",
    "AbortsOnExit",
    "Compressed",
    "LayeredOpen",
    "WholeFile",
    "abort",
    "drop_at_exit",
]

_log = logging.getLogger(__name__)
_TEXT_OPTIONS = ("encoding", "errors", "newline")


class Abortable(Protocol):
    """A binary file that can drop what was written to it."""

    closed: bool

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays.

        Args:
            error: Why; it is told what could not be tidied up.
        """


class LayeredOpen:
    """For an fsspec class whose binary files can abort: its text and compression can.

    It stands before the fsspec class among the bases.
    """

    def open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        cache_options: dict[str, Any] | None = None,
        compression: str | None = None,
        **kwargs: Any,
    ) -> Any:
        """Open a file, as fsspec does; an exception within its `with` aborts a write.

        Args:
            path: The file.
            mode: As Python's own `open` takes it.
            block_size: Bytes; how much is read or sent at a time.
            cache_options: fsspec's, for reading.
            compression: A codec's name, or "infer" to go by the path's suffix.
            kwargs: `encoding`, `errors` and `newline` for text, and the storage's own.
        """
        is_text = "b" not in mode
        text = {k: kwargs.pop(k) for k in _TEXT_OPTIONS if is_text and k in kwargs}
        if is_text:
            mode = f"{mode.replace('t', '')}b"
        file = super().open(  # type: ignore[misc]
            path,
            mode,
            block_size=block_size,
            cache_options=cache_options,
            **kwargs,
        )
        try:
            if compression is not None and (codec := _codec(path, compression)):
                file = Compressed(codec, file, mode[0])
            return AbortingText(file, **text) if is_text else file
        except BaseException as error:
            abort(file, error)
            raise


def _codec(path: str, compression: str) -> Callable[..., Any] | None:
    from fsspec.compression import compr
    from fsspec.core import get_compression

    name = get_compression(path, compression)
    return None if name is None else compr[name]


def abort(file: Any, error: BaseException | None = None) -> None:
    """Drop what was written to a file; close one that cannot do so, or is read."""
    drop = getattr(file, "abort", None)
    if drop is not None:
        drop(error)
    else:
        file.close()


def _drops(file: Any) -> bool:
    """Tell whether a file drops what was written, if it is collected unclosed."""
    return bool(getattr(file, "drops_unclosed", False))


class AbortsOnExit:
    """For a file whose `with` aborts what was written, when an exception leaves it."""

    closed: Any
    writable: Callable[[], bool]
    abort: Callable[[BaseException | None], None]
    close: Callable[[], None]

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None and not self.closed and self.writable():
            self.abort(error)
        else:
            self.close()


class WholeFile(AbortsOnExit):
    """For a binary file whose content appears whole or not at all.

    It stands before the other bases, calls `begun()` once it can be written, and has
    `leave()`. One that is left to the garbage collector is dropped, with a line in the
    log: nobody said that it is complete. So is one that is open when the process ends.
    """

    # What lies over it is not to close it, if nobody does.
    drops_unclosed = True
    leave: Callable[[], None]
    mode: str = "rb"
    path: str
    _is_begun = False

    def begun(self) -> None:
        """Have it dropped from now on, unless somebody closes it."""
        self._is_begun = True
        drop_at_exit(self)

    def __del__(self) -> None:
        if self.closed or "r" in self.mode:
            super().__del__()  # type: ignore[misc]
            return
        if self._is_begun:
            _log.warning("%r was never closed and is dropped.", self.path)
        # In the thread of whoever happens to collect: nothing here may wait.
        with contextlib.suppress(Exception):
            self.leave()


class AbortingText(AbortsOnExit, io.TextIOWrapper):
    """A text file whose `with` passes an exception on to the binary file below it."""

    def __del__(self) -> None:
        # One whose encoding nobody knows has no file.
        with contextlib.suppress(ValueError):
            if self.closed or not (self.writable() and _drops(self.buffer)):
                super().__del__()

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays."""
        # Not the text's own close, which would write what it still holds.
        abort(self.buffer, error)


class Compressed(AbortsOnExit, io.BufferedIOBase):
    """A codec's file over a binary one: they are closed together, or dropped.

    Args:
        codec: Makes the codec's file, of those in `fsspec.compression`.
        binary: The file below.
        mode: "r", "w", "a" or "x".
    """

    # Until there is a codec's file, and once that is closed.
    _is_over = True

    def __init__(self, codec: Callable[..., Any], binary: Any, mode: str) -> None:
        self._binary = binary
        self._gate = _Gate(binary)
        self._layer = codec(self._gate, mode=mode)
        self._is_over = False

    @property
    def drops_unclosed(self) -> bool:
        """Whether it is dropped if nobody closes it, as the file below is."""
        return _drops(self._binary)

    def __del__(self) -> None:
        if not self._is_over and self.writable() and self.drops_unclosed:
            # A codec that is collected writes its end.
            self._is_over = self._gate.is_shut = True
        else:
            super().__del__()

    def readable(self) -> bool:
        """Tell whether it can be read."""
        return bool(self._layer.readable())

    def writable(self) -> bool:
        """Tell whether it can be written."""
        return bool(self._layer.writable())

    def seekable(self) -> bool:
        """Tell whether one can go to another place in it."""
        return bool(self._layer.seekable())

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most so many bytes, or all that are left."""
        data: bytes = self._layer.read(-1 if size is None else size)
        return data

    def read1(self, size: int = -1, /) -> bytes:
        """Read at most so many bytes, by one read of the file below if possible."""
        if not hasattr(self._layer, "read1"):
            return self.read(size if size >= 0 else io.DEFAULT_BUFFER_SIZE)
        data: bytes = self._layer.read1(size)
        return data

    def readline(self, size: int | None = -1, /) -> bytes:
        """Read a line, its end included."""
        line: bytes = self._layer.readline(-1 if size is None else size)
        return line

    def write(self, data: Any, /) -> int:
        """Write bytes."""
        self._layer.write(data)
        return memoryview(data).nbytes

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place in what is compressed."""
        place: int = self._layer.seek(offset, whence)
        return place

    def tell(self) -> int:
        """Return the place in what is compressed."""
        place: int = self._layer.tell()
        return place

    def flush(self) -> None:
        """Write what the codec lets go of."""
        if not self._is_over and self.writable():
            self._layer.flush()

    def close(self) -> None:
        """Finish both files.

        Raises:
            OSError: One could not be; the file below is aborted.
        """
        if self._is_over:
            super().close()
            return
        try:
            self._layer.close()
        except BaseException as error:
            self.abort(error)
            raise
        self._is_over = True
        super().close()
        self._binary.close()

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays."""
        if self._is_over:
            return
        self._is_over = self._gate.is_shut = True
        with contextlib.suppress(Exception):
            self._layer.close()
        super().close()
        abort(self._binary, error)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._layer, name)


class _Gate:
    """Lies between a codec and its file: a codec that is dropped writes no trailer."""

    def __init__(self, binary: Any) -> None:
        self._binary = binary
        self.is_shut = False

    def write(self, data: Any) -> int:
        if self.is_shut:
            return memoryview(data).nbytes
        written: int = self._binary.write(data)
        return written

    def flush(self) -> None:
        if not self.is_shut:
            self._binary.flush()

    def close(self) -> None:
        """Leave the file open: some codecs close it, others do not."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._binary, name)


# By number: to hash a file may ask its storage about it.
_unfinished: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def drop_at_exit(file: Any) -> None:
    """Forget a file that is still open when the interpreter ends.

    To close it then would ask a storage, on a loop that does not run any more, and
    wait for ever. Its `forsake()` is called if it has one, else it is marked closed.
    """
    _unfinished[id(file)] = file


@atexit.register
def _drop_unfinished() -> None:
    for file in list(_unfinished.values()):
        with contextlib.suppress(Exception):
            if hasattr(file, "forsake"):
                file.forsake()
            else:
                file.closed = True
