"""Snapshots: the bytes of one version of an object, and files over them."""

from __future__ import annotations

import io
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit_cache.objects import ObjectLayer

__all__ = ["BLOCK", "Bytes", "Damaged", "Snapshot", "SnapshotFile", "tag_of"]

# How much is checked, and read, at a time.
BLOCK: Final = 1 << 18
# What names the bytes of an object. A time or a number of bytes does not: both may stay
# what they are when it changes.
_NAMING: Final = (
    "ETag",
    "etag",
    "e_tag",
    "generation",
    "VersionId",
    "version_id",
    "versionId",
    "md5Hash",
    "content_md5",
)


class Damaged(Exception):
    """What is kept is not what was."""


def tag_of(info: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return what names the version of an object; None if its storage does not."""
    names = [
        f"{key}={value}"
        for key in _NAMING
        if (value := info.get(key)) not in {None, "", "null"}
        # Weak: of what means the same, and may be other bytes.
        and not str(value).startswith("W/")
    ]
    if not names or info.get("type") == "directory" or info.get("size") is None:
        return None
    return f"size={info['size']}", *names


class Snapshot(ABC):
    """The bytes of one version.

    Attributes:
        info: What the storage said of it.
        size: Its number of bytes.
    """

    info: Mapping[str, Any]
    size: int

    @abstractmethod
    def read(self, start: int, end: int) -> bytes:
        """Return a range that lies within it.

        Raises:
            Damaged: They are not what they were.
        """

    def slice(self, start: int | None, end: int | None) -> bytes:
        """Return a range as `cat_file` is asked for it."""
        first, last, _ = slice(start, end).indices(self.size)
        return self.read(first, max(first, last))

    def close(self) -> None:  # noqa: B027 - what is in memory needs none
        """Let go of it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Bytes(Snapshot):
    """A snapshot in memory."""

    def __init__(self, info: Mapping[str, Any], data: bytes) -> None:
        self.info = info
        self.data = data
        self.size = len(data)

    def read(self, start: int, end: int) -> bytes:
        """Return a range."""
        return self.data if end - start == self.size else self.data[start:end]


class _Source(io.RawIOBase):
    """A snapshot as a raw file; what is damaged is read from the storage."""

    def __init__(
        self, snapshot: Snapshot, mend: Callable[[Snapshot, int, int], bytes]
    ) -> None:
        self._snapshot = snapshot
        self._mend = mend
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._next(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        # Python's own reads by 8 KiB, and each block would be checked for each of them.
        return self._next(self._snapshot.size)

    def _next(self, most: int) -> bytes:
        start = min(self._place, self._snapshot.size)
        end = min(start + most, self._snapshot.size)
        try:
            data = self._snapshot.read(start, end)
        except Damaged:
            data = self._mend(self._snapshot, start, end)
        self._place = start + len(data)
        return data

    def seek(self, offset: int, whence: int = 0, /) -> int:
        base = {0: 0, 1: self._place, 2: self._snapshot.size}[whence]
        if base + offset < 0:
            raise ValueError(f"negative seek position {base + offset}")
        self._place = base + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._snapshot.close()


class SnapshotFile(io.BufferedReader):
    """A file over a snapshot: all that is read is of one version.

    Attributes:
        fs: The layer that it belongs to.
        path: Its path there.
        details: What the storage said of it.
        size: Its number of bytes.
        blocksize: How much is read at a time, in bytes.
    """

    mode = "rb"
    blocksize = BLOCK

    def __init__(
        self,
        fs: ObjectLayer,
        path: str,
        snapshot: Snapshot,
        options: Mapping[str, Any],
    ) -> None:
        super().__init__(_Source(snapshot, self._mend), BLOCK)
        self.fs = fs
        self.path = path
        self.details = dict(snapshot.info)
        self.size = snapshot.size
        self._options = {**options}

    @property
    def name(self) -> str:
        """Its path."""
        return self.path

    @property
    def full_name(self) -> str:
        """Its path, with its protocol."""
        return str(self.fs.unstrip_protocol(self.path))

    def info(self) -> dict[str, Any]:
        """Return what the storage said of it."""
        return self.details

    def _fetch_range(self, start: int, end: int) -> bytes:
        """Return a range, for fsspec's own caches; the place stays."""
        place = self.tell()
        self.seek(start)
        data = self.read(end - start)
        self.seek(place)
        return data

    def _mend(self, snapshot: Snapshot, start: int, end: int) -> bytes:
        return self.fs.reread(self.path, snapshot, start, end)

    def __reduce__(self) -> Any:
        from connectorkit_cache.file import reopened

        tag = tag_of(self.details)
        return reopened, (self.fs, self.path, self._options, tag, self.tell())
