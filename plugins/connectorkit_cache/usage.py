"""Usage: how many bytes a store has, and who has to leave when they are too many."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from connectorkit_cache.locks import is_at, locked, try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["Usage"]

# After so many seconds a process that counts is stopped, and one goes on without.
_PATIENCE = 5.0
# Made room is a bit more than is needed: the next ones need some, too.
_LEFT = 0.9


class Usage:
    """How many bytes the entries of a store have, counted by all its processes.

    Args:
        path: The file with the number, which is locked to count.
        objects: The folder of the entries.
    """

    def __init__(self, path: Path, objects: Path) -> None:
        self._path = path
        self._objects = objects

    def add(self, size: int) -> None:
        """Count bytes that came, or went.

        Raises:
            OSError: They cannot be counted.
        """
        with locked(self._path, _PATIENCE) as descriptor:
            if descriptor is not None:
                _write(descriptor, max(0, _read(descriptor) + size))

    def give_up(self, size: int) -> tuple[int, int]:
        """Remove what was not used for longest, at least so many bytes of it.

        Returns:
            How many entries left, and how many bytes they had.

        Raises:
            OSError: The directory cannot be read.
        """
        total = sum(its for _, its, _ in self._all())
        return self.make_room(max(0, total - size), counted=total)

    def make_room(self, most: int, counted: int = 0) -> tuple[int, int]:
        """Remove what was not used for longest, if all of it is more than `most` bytes.

        Args:
            most: Bytes that may stay.
            counted: Bytes that there are, if that is known better than by the number.

        Returns:
            How many entries left, and how many bytes they had.

        Raises:
            OSError: The directory cannot be read.
        """
        with locked(self._path, _PATIENCE) as descriptor:
            if descriptor is None or max(counted, _read(descriptor)) <= most:
                return 0, 0
            found = sorted(self._all(), key=lambda each: each[0])
            total = sum(size for _, size, _ in found)
            entries = freed = 0
            while total - freed > most * _LEFT and entries < len(found):
                _, size, path = found[entries]
                with contextlib.suppress(FileNotFoundError):
                    path.unlink()
                entries, freed = entries + 1, freed + size
            _write(descriptor, total - freed)
            return entries, freed

    def _all(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each entry was used last, its bytes, and where it is.

        Parts that nobody fills any more are removed.
        """
        for path in self._objects.glob("??/*"):
            with contextlib.suppress(FileNotFoundError):
                if path.suffix == ".part":
                    _remove_left(path)
                else:
                    found = path.stat()
                    yield found.st_mtime, found.st_size, path


def _remove_left(part: Path) -> None:
    descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        if try_lock(descriptor) and is_at(descriptor, part):
            part.unlink()
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> int:
    told = os.pread(descriptor, 32, 0)
    return int(told) if told.strip().isdigit() else 0


def _write(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, b"%-31d\n" % number, 0)
