"""Changes: what was written through this process, so that no cache answers from before.

Somebody may have asked the storage before a write, and get the answer after it: such an
answer is handed out, and not kept.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

from connectorkit.fork import renew_in_child
from connectorkit.scope import Memory

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

__all__ = ["Changes", "changes_of", "is_below"]

# As many writes may pass while an answer is on its way; then it is not kept.
_REMEMBERED = 512


class Listener(Protocol):
    """What keeps answers."""

    def forget(self, path: str) -> None:
        """Forget what is known of a path, of what is below it, and of those above."""


class Changes:
    """The writes to one storage, of all its filesystems in this process."""

    def __init__(self) -> None:
        self._count = 0
        self._recent: deque[tuple[int, str]] = deque(maxlen=_REMEMBERED)
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def listen(self, listener: Listener) -> None:
        """Have a cache told of every change, for as long as it lives."""
        with self._lock:
            self._listeners.add(listener)

    @property
    def now(self) -> int:
        """How many changes there were."""
        return self._count

    def are_none(self, since: int, path: str) -> bool:
        """Tell whether nothing that has to do with a path was changed since then."""
        with self._lock:
            if self._count == since:
                return True
            recent = [it for count, it in self._recent if count > since]
        if self._count - since > len(recent):
            return False
        return not any(is_below(path, it) or is_below(it, path) for it in recent)

    def add(self, paths: Iterable[str]) -> None:
        """Let all caches forget what they know of paths."""
        paths = [*paths]
        with self._lock:
            for path in paths:
                self._count += 1
                self._recent.append((self._count, path))
            listeners = [*self._listeners]
        for listener in listeners:
            for path in paths:
                listener.forget(path)


def is_below(path: str, folder: str) -> bool:
    """Tell whether a path is a folder, or lies somewhere below it."""
    return not folder or path == folder or path.startswith(f"{folder.rstrip('/')}/")


_ALL = Memory()


def changes_of(identity: Hashable) -> Changes:
    """Return the changes of a storage, the same for all kits of this process."""
    return _ALL.of(identity, Changes)
