"""Open files: they belong to the layer, which forgets what is written by them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from connectorkit import ObjectChanged
from connectorkit.writing import AbortsOnExit, abort
from connectorkit_cache.snapshot import tag_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit_cache.layer import Layer

__all__ = ["OuterFile", "reopened"]


class OuterFile(AbortsOnExit, io.IOBase):
    """The inner filesystem's file, as a file of the layer.

    Attributes:
        fs: The layer.
        path: Its path there.
        mode: As it was opened.
    """

    _inner: Any = None

    def __init__(
        self, fs: Layer, path: str, mode: str, inner: Any, options: Mapping[str, Any]
    ) -> None:
        self.fs = fs
        self.path = path
        self.mode = mode
        self._inner = inner
        self._options = {**options}

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._inner is None or bool(self._inner.closed)

    @property
    def drops_unclosed(self) -> bool:
        """Whether it is dropped if nobody closes it."""
        return bool(getattr(self._inner, "drops_unclosed", False))

    def readable(self) -> bool:
        """Tell whether it can be read."""
        return bool(self._inner.readable())

    def writable(self) -> bool:
        """Tell whether it can be written."""
        return bool(self._inner.writable())

    def seekable(self) -> bool:
        """Tell whether one can go to another place in it."""
        return bool(self._inner.seekable())

    def read(self, *args: Any) -> bytes:
        """Read at most so many bytes, or all that are left."""
        data: bytes = self._inner.read(*args)
        return data

    def readinto(self, buffer: Any) -> int:
        """Read into a buffer; return how many bytes."""
        count: int = self._inner.readinto(buffer)
        return count

    def readline(self, *args: Any) -> bytes:
        """Read a line, its end included."""
        line: bytes = self._inner.readline(*args)
        return line

    def write(self, data: Any) -> int:
        """Write bytes."""
        count: int = self._inner.write(data)
        return count

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place."""
        place: int = self._inner.seek(offset, whence)
        return place

    def tell(self) -> int:
        """Return the place."""
        place: int = self._inner.tell()
        return place

    def truncate(self, size: int | None = None, /) -> int:
        """Make it so long."""
        length: int = self._inner.truncate(size)
        return length

    def flush(self, *args: Any) -> None:
        """Write what is held back."""
        if not self.closed:
            self._inner.flush(*args)

    def close(self) -> None:
        """Close it; what was written takes its place.

        Raises:
            OSError: It could not be written; what was there before stays.
        """
        if self.closed:
            return
        try:
            self._inner.close()
        finally:
            self._forget()

    def commit(self) -> None:
        """Let what was written take its place, at the end of a transaction."""
        try:
            self._inner.commit()
        finally:
            self._forget()

    def discard(self) -> None:
        """Drop what was written, at the end of a transaction."""
        self._inner.discard()

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays."""
        try:
            abort(self._inner, error)
        finally:
            self._forget()

    def _forget(self) -> None:
        if self.mode != "rb":
            self.fs.forget_all_of((self.path,), {})

    def __getattr__(self, name: str) -> Any:
        # fsspec's own caches read by that.
        if name.startswith("_") and name != "_fetch_range":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def __del__(self) -> None:
        # What nobody closed is the inner file's to drop, and to tell of: somebody may
        # have got it, or a method of it, from this one.
        pass

    def __reduce__(self) -> Any:
        if self.mode != "rb":
            raise TypeError(f"{self.path!r} is being written: it is not pickled.")
        tag = tag_of(getattr(self._inner, "details", None) or {})
        return reopened, (self.fs, self.path, self._options, tag, self.tell())


def reopened(
    fs: Layer, path: str, options: Mapping[str, Any], tag: Any, place: int
) -> Any:
    """Open a file again that was pickled, where it was.

    Raises:
        ObjectChanged: Another one has taken its place.
    """
    file = fs.open(path, "rb", **options)
    now = tag_of(getattr(file, "details", None) or {})
    if tag is not None and now is not None and now != tag:
        file.close()
        raise ObjectChanged(
            f"{path!r} was replaced since it was opened: open it again."
        )
    file.seek(place)
    return file
