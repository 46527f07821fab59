"""Entries: files on disk, each the bytes of one version, that show what was damaged.

```
bytes · a description as JSON · its length (8 bytes) · its digest (32) · the mark (8)
```

The description has a digest for each block of the bytes, so that what is read is what
is checked.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

from connectorkit_cache.snapshot import BLOCK, Damaged, Snapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Entry", "Sink", "Unusable", "description_of", "length_for", "seal"]

_MARK: Final = b"ckcache1"
_TAIL: Final = 48
# A description of a terabyte is longer; nobody keeps one.
_MOST: Final = 512 << 20
# Bytes of a description: without digests, and of each with what is around it.
_ABOUT: Final = 1 << 10
_DIGEST: Final = 68
_digest = hashlib.sha256


class Unusable(Exception):
    """The cache's directory cannot be used; the storage can.

    Attributes:
        is_full: Whether there is no room on its disk.
    """

    is_full = False

    @classmethod
    def by(cls, error: OSError) -> Unusable:
        """Return what an error of the directory comes to."""
        unusable = cls(error.strerror or type(error).__name__)
        unusable.is_full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return unusable


class Sink:
    """Where a fetched object is written: a file at an open descriptor.

    Attributes:
        end: The place behind all that was written.

    Raises:
        Unusable: In `write`; it cannot be written.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._place = 0
        self.end = 0

    def seekable(self) -> bool:
        """Tell that ranges may come in any order."""
        return True

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Go to a place from the beginning."""
        if whence:
            raise ValueError("only places from the beginning are known")
        self._place = offset
        return offset

    def tell(self) -> int:
        """Return the place."""
        return self._place

    def write(self, data: Any) -> int:
        """Write bytes."""
        view = memoryview(data).cast("B")
        while view:
            try:
                count = os.pwrite(self._descriptor, view, self._place)
            except OSError as error:
                raise Unusable.by(error) from error
            self._place += count
            self.end = max(self.end, self._place)
            view = view[count:]
        return len(data)

    def flush(self) -> None:
        """Do nothing: it is written already."""


def length_for(size: int) -> int:
    """Return how long the entry of so many bytes of content is at most."""
    return size + _DIGEST * -(-size // BLOCK) + _ABOUT + _TAIL


def seal(descriptor: int, size: int, about: Mapping[str, Any]) -> None:
    """Make an entry of a file that was filled.

    Args:
        descriptor: The file's.
        size: How many bytes of content it has.
        about: What to note in it.
    """
    digests = [
        _digest(os.pread(descriptor, min(BLOCK, size - start), start)).hexdigest()
        for start in range(0, size, BLOCK)
    ]
    told = json.dumps({**about, "size": size, "digests": digests}).encode()
    end = told + len(told).to_bytes(8, "big") + _digest(told).digest() + _MARK
    sink = Sink(descriptor)
    sink.seek(size)
    sink.write(end)
    os.ftruncate(descriptor, sink.end)


def description_of(descriptor: int) -> dict[str, Any]:
    """Return what an entry says of itself.

    Raises:
        Damaged: It is none, or not what it was.
    """
    length = os.fstat(descriptor).st_size
    tail = os.pread(descriptor, _TAIL, max(0, length - _TAIL))
    size = int.from_bytes(tail[:8], "big")
    if len(tail) < _TAIL or tail[-8:] != _MARK or size > min(length, _MOST):
        raise Damaged("it has no end")
    told = os.pread(descriptor, size, length - _TAIL - size)
    if _digest(told).digest() != tail[8:40]:
        raise Damaged("its description is another")
    about: dict[str, Any] = json.loads(told)
    if about["size"] + size + _TAIL != length:
        raise Damaged("it has another length")
    return about


class Entry(Snapshot):
    """An open entry; it stays readable when it is evicted.

    Args:
        name: Its name in the store.
        descriptor: The file's; it is closed with this, unless there is an error.
        info: What the storage said of the object.

    Attributes:
        name: Its name in the store.

    Raises:
        Damaged: It is none of this object.
    """

    _descriptor = -1

    def __init__(self, name: str, descriptor: int, info: Mapping[str, Any]) -> None:
        self.name = name
        self.info = info
        about = description_of(descriptor)
        self.size = about["size"]
        self._digests = about["digests"]
        # Who reads on begins in the block where the last read ended.
        self._checked = (-1, b"")
        if self.size != info["size"]:
            raise Damaged("it has another size")
        # From now on it is this one's to close.
        self._descriptor = descriptor

    def read(self, start: int, end: int) -> bytes:
        """Return a range.

        Raises:
            Damaged: A block of it is not what it was.
        """
        first, last = start // BLOCK, -(-end // BLOCK)
        if end <= start:
            return b""
        blocks = [self._block(number) for number in range(first, last)]
        blocks[0] = blocks[0][start - first * BLOCK :]
        blocks[-1] = blocks[-1][
            : len(blocks[-1]) - (min(last * BLOCK, self.size) - end)
        ]
        return blocks[0] if len(blocks) == 1 else b"".join(blocks)

    def _block(self, number: int) -> bytes:
        checked, data = self._checked
        if checked == number:
            return data
        start = number * BLOCK
        try:
            data = os.pread(self._descriptor, min(BLOCK, self.size - start), start)
        except OSError as error:
            raise Damaged("it cannot be read") from error
        if _digest(data).hexdigest() != self._digests[number]:
            raise Damaged(f"block {number} is another")
        self._checked = number, data
        return data

    def close(self) -> None:
        """Close it."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        # A file that nobody closed is collected with its entry.
        self.close()
