"""Open files of `connector://`: a connector's, by their outer path and filesystem."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING, Any

from connectorkit.writing import AbortsOnExit, abort

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

    from connectorkit.protocol.places import Place

__all__ = ["ConnectorFile"]

# What is this object's own; all else that is set is meant for the file beneath.
_OWN = frozenset({"_inner", "_place", "close", "fs", "path"})


class ConnectorFile(AbortsOnExit, io.IOBase):
    """A file of a connector that says where it is by its outer path.

    It is pickled with its place, and the version that it reads, and opens again under
    its connector's policies. An exception within its `with` drops what was written,
    and so does one within the `with` of an `fsspec.open` that opened it.

    Args:
        fs: The `connector://` filesystem.
        place: Where it is.
        inner: The file of the connector's filesystem.

    Attributes:
        fs: The `connector://` filesystem.
        path: The outer path.
    """

    abort: Callable[[BaseException | None], None]

    def __init__(self, fs: AbstractFileSystem, place: Place, inner: Any) -> None:
        self.fs = fs
        self.path = place.outer(place.path)
        self._place = place
        self._inner = inner

    # What it is

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return bool(self._inner.closed)

    @property
    def full_name(self) -> str:
        """Its URL."""
        url: str = self.fs.unstrip_protocol(self.path)
        return url

    @property
    def details(self) -> dict[str, Any]:
        """What its storage says of it, in mode "rb"."""
        return self._place.entry(self._inner.details)

    def info(self) -> dict[str, Any]:
        """Return what its storage says of it."""
        return self._place.entry(self._inner.info())

    def readable(self) -> bool:
        """Tell whether it can be read."""
        return bool(self._inner.readable())

    def writable(self) -> bool:
        """Tell whether it can be written."""
        return bool(self._inner.writable())

    def seekable(self) -> bool:
        """Tell whether one can go to another place in it."""
        return bool(self._inner.seekable())

    def isatty(self) -> bool:
        """Say no."""
        return False

    def fileno(self) -> int:
        """Return the number of a local file.

        Raises:
            OSError: It has none.
        """
        number: int = self._inner.fileno()
        return number

    # Reading and writing

    def read(self, *args: Any) -> bytes:
        """Read at most so many bytes, or all that are left."""
        data: bytes = self._inner.read(*args)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read as much as fits."""
        count: int = self._inner.readinto(buffer)
        return count

    def readline(self, *args: Any) -> bytes:
        """Read a line, its end included."""
        line: bytes = self._inner.readline(*args)
        return line

    def readlines(self, *args: Any) -> list[bytes]:
        """Read all lines."""
        lines: list[bytes] = self._inner.readlines(*args)
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line: bytes = next(self._inner)
        return line

    def write(self, data: Any) -> int:
        """Write bytes."""
        count: int = self._inner.write(data)
        return count

    def writelines(self, lines: Any) -> None:
        """Write each of several."""
        for line in lines:
            self.write(line)

    def flush(self, *args: Any) -> None:
        """Send what is there, if it is enough for a part."""
        self._inner.flush(*args)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in it."""
        place: int = self._inner.seek(offset, whence)
        return place

    def tell(self) -> int:
        """Return the place in it."""
        place: int = self._inner.tell()
        return place

    def truncate(self, *args: Any) -> int:
        """Cut it off, where its storage can."""
        size: int = self._inner.truncate(*args)
        return size

    # The end

    def close(self) -> None:
        """Close it: what was written is published, whole."""
        if self.closed:
            return
        if self.writable() and (error := _leaves_by(self)) is not None:
            self.abort(error)
        else:
            self._inner.close()

    def abort(self, error: BaseException | None = None) -> None:  # type: ignore[no-redef]
        """Drop what was written; what was there before stays."""
        abort(self._inner, error)

    def __del__(self) -> None:
        # Not IOBase's, which closes it: the file beneath knows what then becomes of it.
        pass

    # What else the file beneath has

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name in _OWN:
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _OWN:
            super().__setattr__(name, value)
        elif name != "closed" or not self.closed:
            # fsspec's caches give a file another cache, and call one closed that is.
            setattr(self._inner, name, value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.path!r}>"

    def __reduce__(self) -> Any:
        # The file beneath keeps its place and version, and travels as its connector.
        return _again, (self.fs, self.path, self._inner)

    def __reduce_ex__(self, _protocol: Any) -> Any:
        return self.__reduce__()


def _again(fs: Any, path: str, inner: Any) -> ConnectorFile:
    return ConnectorFile(fs, fs.place(path), inner)


def _leaves_by(file: ConnectorFile) -> BaseException | None:
    """Return the exception by which a `with` is left that opened the file.

    What `fsspec.open` gives, and what pandas opens by it, close their files at the end
    of their `with` and say nothing of an exception: half a file would be published. It
    stands in their frames. Nobody else is looked at: to close a file while an exception
    is handled may well mean that it is complete.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_name == "__exit__":
            names = frame.f_locals
            owner = type(names.get("self"))
            held = _OWNERS.get(f"{owner.__module__}.{owner.__qualname__}")
            if held and any(each is file for each in getattr(names["self"], held)):
                passed = (*names.get("args", ()), names.get("exc_value"))
                found = (each for each in passed if isinstance(each, BaseException))
                return next(found, None)
        frame = frame.f_back  # type: ignore[assignment]
    return None


# Who opens a file for the length of a `with`, and where it keeps it.
_OWNERS = {
    "fsspec.core.OpenFile": "fobjects",
    "pandas.io.common.IOHandles": "created_handles",
}
