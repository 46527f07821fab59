"""Locks between processes: free at once when whoever holds one is killed."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import TYPE_CHECKING

from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_at", "let_go", "locked", "take", "try_lock"]

_FIRST, _LONGEST = 0.001, 0.05


class _Held:
    """The descriptors of locks that this process holds, or waits for."""

    def __init__(self) -> None:
        self.descriptors: set[int] = set()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Let go of the parent's: else its locks would outlive it in this process."""
        for descriptor in self.descriptors:
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self.descriptors = set()


_held = _Held()


def take(path: Path, patience: float, left: float = math.inf) -> int | None:
    """Lock a file, which is made if it is not there; return its descriptor.

    Args:
        path: The file.
        patience: After how many seconds to give up in which nothing was written to
            it: whoever holds the lock is stopped.
        left: For how many seconds to wait in any case.

    Returns:
        None if it was given up.

    Raises:
        OSError: The file cannot be made.
    """
    until = time.monotonic() + left
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        _held.descriptors.add(descriptor)
        is_good = False
        try:
            if not _wait(descriptor, patience, until):
                return None
            # Who held it before may have renamed the file, or removed it.
            if is_good := is_at(descriptor, path):
                return descriptor
        finally:
            if not is_good:
                let_go(descriptor)


def let_go(descriptor: int) -> None:
    """Release a lock."""
    if descriptor in _held.descriptors:
        _held.descriptors.discard(descriptor)
        # A child that was forked while it was opened has it, too.
        _unlock(descriptor)
        os.close(descriptor)


@contextlib.contextmanager
def locked(path: Path, patience: float, left: float = math.inf) -> Iterator[int | None]:
    """Hold a lock in a `with`; see `take`."""
    descriptor = take(path, patience, left)
    try:
        yield descriptor
    finally:
        if descriptor is not None:
            let_go(descriptor)


def try_lock(descriptor: int) -> bool:
    """Lock an open file, unless somebody else has."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _unlock(descriptor: int) -> None:
    """Release the lock of an open file, whoever else has the file open."""
    import fcntl

    with contextlib.suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def _wait(descriptor: int, patience: float, until: float) -> bool:
    # Another process works by real time, whatever clock this one is given.
    pause, written, last = _FIRST, -1, time.monotonic()
    while not try_lock(descriptor):
        now, written_now = time.monotonic(), os.fstat(descriptor).st_mtime_ns
        if written_now != written:
            written, last = written_now, now
        if now - last > patience or now >= until:
            return False
        time.sleep(min(pause, until - now))
        pause = min(2 * pause, _LONGEST)
    return True


def is_at(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is the one that is at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
