"""Telling: events of a cache, and the log, which hears of a trouble once."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

from connectorkit import CacheEvicted, CacheUsed
from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from connectorkit.scope import Scope

__all__ = ["Teller"]

_log = logging.getLogger("connectorkit_cache")


class Teller:
    """Tells what a cache does for one connector.

    Args:
        scope: The connector's.
        cache: The policy's name.
    """

    def __init__(self, scope: Scope, cache: str) -> None:
        self._scope = scope
        self._cache = cache
        self._said: set[str] = set()
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def used(self, result: str, size: int = 0) -> None:
        """Tell of an answer: "hit", "miss", "stale" or "around"."""
        its = self._scope
        its.emit(CacheUsed(its.connector, its.type, self._cache, result, size))

    def evicted(self, entries: int, size: int = 0) -> None:
        """Tell that entries left."""
        if entries:
            self._scope.emit(CacheEvicted(self._cache, entries, size))

    def say_once(self, trouble: str, sentence: str) -> None:
        """Write a warning, unless one of this trouble was written and not settled."""
        with self._lock:
            is_new = trouble not in self._said
            self._said.add(trouble)
        if is_new:
            where = f"Cache {self._cache!r} of connector {self._scope.connector!r}"
            _log.warning("%s: %s", where, sentence)

    def settle(self, trouble: str) -> None:
        """Take note that a trouble is over: the next one is worth a line again."""
        if trouble in self._said:
            with self._lock:
                self._said.discard(trouble)
