"""Usage: how many bytes a store has, and who has to leave when they are too many."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from connectorkit_cache.entry import Unusable
from connectorkit_cache.locks import is_at, locked, try_lock

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Usage", "on_disk"]

# After so many seconds a process that counts is stopped, and one goes on without.
_PATIENCE = 5.0
# Made room is a bit more than is needed: the next ones need some, too.
_LEFT = 0.9
# Bytes: what even the smallest file takes of a disk.
_BLOCK: Final = 4096


class _Kept(NamedTuple):
    """An entry: when it was used last, how many bytes of disk it takes, its place."""

    used: float
    size: int
    path: Path


class Usage:
    """How many bytes the entries of a store take, counted by all its processes.

    What is being filled counts as if it were whole. Who is killed while it fills or
    counts leaves too high a number, or none: then all are counted anew.

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
            counted = None if descriptor is None else _read(descriptor)
            # Where there is no number, whoever needs room will count.
            if descriptor is not None and counted is not None:
                _write(descriptor, counted + size)

    def give_up(self, size: int) -> tuple[int, int]:
        """Remove what was not used for longest, at least so many bytes of it.

        Returns:
            How many entries left, and how many bytes they had.

        Raises:
            OSError: The directory cannot be read.
        """
        with locked(self._path, _PATIENCE) as descriptor:
            if descriptor is None:
                return 0, 0
            parts, entries = self._count()
            total = parts + sum(each.size for each in entries)
            return self._remove(descriptor, total - size, parts, entries)

    def take(self, part: Path, size: int, most: int) -> tuple[int, int]:
        """Count a part as so many bytes, and make room for them.

        What was not used for longest is removed, if all would be too many.

        Args:
            part: Where they come.
            size: How many bytes of disk it takes when it is whole.
            most: How many all may take.

        Returns:
            How many entries left, and how many bytes they had.

        Raises:
            Unusable: What is being filled leaves no room.
            OSError: The directory cannot be read.
        """
        with locked(self._path, _PATIENCE) as descriptor:
            if descriptor is None:
                return 0, 0
            counted = _read(descriptor)
            if counted is not None and counted + size <= most:
                _write(descriptor, counted + size)
                return 0, 0
            parts, entries = self._count(but=part)
            if parts + size > most:
                raise Unusable("too much is fetched at once for its 'max_bytes'")
            total = parts + size + sum(each.size for each in entries)
            # Once some have to leave, a few more do: the next ones need room, too.
            most = most if total <= most else int(most * _LEFT)
            return self._remove(descriptor, most, parts + size, entries)

    def recount(self) -> None:
        """Count all.

        Raises:
            OSError: The directory cannot be read.
        """
        with locked(self._path, _PATIENCE) as descriptor:
            if descriptor is not None:
                parts, entries = self._count()
                _write(descriptor, parts + sum(each.size for each in entries))

    def _count(self, but: Path | None = None) -> tuple[int, list[_Kept]]:
        """Return the bytes of all parts but one, and the entries, by their last use.

        Parts that nobody fills any more are removed.
        """
        entries, parts, latest = [], 0, time.time() + 1
        for path in self._objects.glob("??/*"):
            # What somebody else put there is neither.
            with contextlib.suppress(OSError):
                found = path.lstat()
                if not stat.S_ISREG(found.st_mode):
                    continue
                if path.suffix == ".part":
                    parts += 0 if path == but else _size_of_part(path)
                else:
                    # By a clock that was put back since, it was used long ago.
                    used = found.st_mtime if found.st_mtime <= latest else 0.0
                    entries.append(_Kept(used, on_disk(found.st_size), path))
        return parts, sorted(entries, key=lambda each: each.used)

    def _remove(
        self, descriptor: int, most: int, parts: int, entries: list[_Kept]
    ) -> tuple[int, int]:
        """Remove entries until all are at most so many bytes; write how many."""
        left = parts + sum(each.size for each in entries)
        count = freed = 0
        for each in entries:
            if left - freed <= most:
                break
            with contextlib.suppress(FileNotFoundError):
                each.path.unlink()
            count, freed = count + 1, freed + each.size
        _write(descriptor, left - freed)
        return count, freed


def on_disk(size: int) -> int:
    """Return how many bytes a file of so many takes of a disk."""
    return -(-size // _BLOCK) * _BLOCK


def _size_of_part(part: Path) -> int:
    """Return how many bytes a part takes; one that nobody fills is removed."""
    descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC)
    try:
        if try_lock(descriptor) and is_at(descriptor, part):
            part.unlink()
            return 0
        return on_disk(os.fstat(descriptor).st_size)
    finally:
        os.close(descriptor)


def _read(descriptor: int) -> int | None:
    told = os.pread(descriptor, 32, 0).strip()
    return int(told) if told.isdigit() else None


def _write(descriptor: int, number: int) -> None:
    os.pwrite(descriptor, b"%-31d\n" % max(0, number), 0)
