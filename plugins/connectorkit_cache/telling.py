"""Telling: events of a cache, and the log, which hears of a trouble once."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from connectorkit import CacheEvicted, CacheUsed
from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from connectorkit.scope import Scope

__all__ = ["Teller"]

# Seconds.
_AGAIN: Final = 60.0
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
        # When a trouble was told of last, and which were settled since.
        self._told: dict[str, float] = {}
        self._settled: set[str] = set()
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
        """Write a warning, unless one of this trouble was written and not settled.

        What comes and goes, as room on a full disk does, is told of once a minute.
        """
        now = self._scope.clock()
        with self._lock:
            told = self._told.get(trouble)
            is_new = told is None or (trouble in self._settled and now - told >= _AGAIN)
            if is_new:
                self._told[trouble] = now
                self._settled.discard(trouble)
        if is_new:
            where = f"Cache {self._cache!r} of connector {self._scope.connector!r}"
            _log.warning("%s: %s", where, sentence)

    def settle(self, trouble: str) -> None:
        """Take note that a trouble is over: the next one is worth a line again."""
        if trouble in self._told and trouble not in self._settled:
            with self._lock:
                self._settled.add(trouble)
