"""The pool: one live filesystem per identity, policies and process."""

from __future__ import annotations

import logging
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from connectorkit.errors import KitClosed, PluginFailed
from connectorkit.fork import keep_for_ever, renew_in_child
from connectorkit.releasable import Releasable, release

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Hashable, Iterable

    from fsspec import AbstractFileSystem

    from connectorkit.pipeline import Pipeline

__all__ = ["Opened", "Pool"]

_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False, weakref_slot=True)
class Opened:
    """A filesystem as a host gets it, and what is beneath.

    Attributes:
        id: The ID that it was first asked for by.
        type: The connector type's ID.
        outer: What the host gets.
        guarded: What filesystem policies wrap: its operations go through a pipeline.
        inner: What the connector type opened; it holds the connections.
        pipeline: The connector's policies.
        loop: The host's loop that it belongs to; None for fsspec's own.
        used: When it was last asked for.
        seen: How many operations it had done when that was last asked.
    """

    id: str
    type: str
    outer: AbstractFileSystem
    guarded: AbstractFileSystem
    inner: AbstractFileSystem
    pipeline: Pipeline
    loop: asyncio.AbstractEventLoop | None = None
    used: float = 0.0
    seen: int = 0

    def __post_init__(self) -> None:
        # Either keeps the entry alive, and so findable.
        self.outer._connectorkit_entry = self.inner._connectorkit_entry = self

    def worked(self) -> bool:
        """Tell whether a holder used it since this was last asked."""
        operations = getattr(self.inner, "operations", 0)
        worked, self.seen = operations != self.seen, operations
        return worked

    def is_busy(self) -> bool:
        """Tell whether a request of it is under way."""
        return isinstance(self.inner, Releasable) and self.inner.in_flight > 0


@dataclass(slots=True)
class _Turn:
    """Lets one thread open a filesystem while others wait for the same."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    takers: int = 0
    opener: int | None = None


class Pool:
    """Filesystems by key: bounded, longest not asked for out first, idle ones closed.

    What leaves the pool is closed only if no request of it is under way. A holder may
    go on using it: it connects anew. While anybody holds it, its key leads to the same
    filesystem again, so that there are never two.

    Args:
        size: How many filesystems stay open.
        idle: After how many seconds without use one is closed.
        clock: Monotonic seconds.
        opened: Told of each filesystem that was opened, while no lock is held.
        left: Told of each filesystem that leaves.
    """

    def __init__(
        self,
        size: int,
        idle: float,
        clock: Callable[[], float],
        opened: Callable[[Opened], None] = lambda _entry: None,
        left: Callable[[Opened], None] = lambda _entry: None,
    ) -> None:
        self.size = size
        self.idle = idle
        self._clock = clock
        self._opened = opened
        self._left = left
        self._is_closed = False
        self._begin()
        renew_in_child(self)

    def _begin(self) -> None:
        # Reentrant: a finalizer that the collector runs here may use the kit.
        self._lock = threading.RLock()
        self._turns: dict[Hashable, _Turn] = {}
        self._entries: OrderedDict[Hashable, Opened] = OrderedDict()
        # Each lives as long as its filesystem: in the pool, or in a holder's hands.
        self._alive: weakref.WeakValueDictionary[Hashable, Opened]
        self._alive = weakref.WeakValueDictionary()
        self._next_sweep = self._clock() + self.idle / 4

    def after_fork(self) -> None:
        """Forget the parent's filesystems without closing them."""
        keep_for_ever((self._entries, list(self._alive.values())))
        self._begin()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable, opener: Callable[[], Opened]) -> Opened:
        """Return the filesystem of `key`, opened by `opener` if there is none.

        Threads that ask for one key at a time share one opening; other keys go on.

        Raises:
            KitClosed: The pool was closed.
            PluginFailed: The opener asks for what it should open.
        """
        with self._lock:
            now = self._clock()
            if (entry := self._entries.get(key)) is not None:
                entry.used = now
                self._entries.move_to_end(key)
                if now < self._next_sweep:
                    return entry
            else:
                turn = self._turns.setdefault(key, _Turn())
                turn.takers += 1
        if entry is None:
            entry, is_new = self._open(key, turn, opener)
            if is_new:
                self._opened(entry)
        self.sweep()
        return entry

    def _open(
        self, key: Hashable, turn: _Turn, opener: Callable[[], Opened]
    ) -> tuple[Opened, bool]:
        me = threading.get_ident()
        try:
            if turn.opener == me:
                raise PluginFailed(
                    "A plugin asks for a filesystem while it is opened for it."
                )
            with turn.lock:
                with self._lock:
                    entry = self._entries.get(key) or self._alive.get(key)
                if is_new := entry is None:
                    turn.opener = me
                    try:
                        entry = opener()
                    finally:
                        turn.opener = None
                self._admit(key, entry)
                return entry, is_new
        finally:
            with self._lock:
                turn.takers -= 1
                if not turn.takers:
                    self._turns.pop(key, None)

    def _admit(self, key: Hashable, entry: Opened) -> None:
        with self._lock:
            if not self._is_closed:
                entry.used = self._clock()
                self._alive[key] = self._entries[key] = entry
                self._entries.move_to_end(key)
                return
        release(entry.inner, entry.loop)
        raise KitClosed("The kit was closed while it opened a filesystem.")

    def sweep(self) -> None:
        """Let go of idle filesystems, of those beyond the size, of dead loops'."""
        with self._lock:
            now = self._clock()
            self._next_sweep = now + self.idle / 4
            # Also those that a holder kept when they left: they may have reconnected.
            over = {id(e): e for e in self._alive.values() if self._is_over(e, now)}
            leaving = [key for key, e in self._entries.items() if id(e) in over]
            left = [self._entries.pop(key) for key in leaving]
            while len(self._entries) > self.size:
                left.append(self._entries.popitem(last=False)[1])
            over |= {id(entry): entry for entry in left}
            for entry in over.values():
                entry.used = now
        self._release(over.values())
        for entry in left:
            self._left(entry)

    def _is_over(self, entry: Opened, now: float) -> bool:
        if entry.loop is not None and entry.loop.is_closed():
            return True
        if entry.is_busy() or entry.worked():
            entry.used = now
            return False
        return now - entry.used >= self.idle

    def close(self) -> None:
        """Let go of every filesystem, and open none again.

        Those of running event loops close on their loops.
        """
        with self._lock:
            self._is_closed = True
            alive, left = list(self._alive.values()), list(self._entries.values())
            self._entries.clear()
        self._release(alive)
        for entry in left:
            self._left(entry)

    def filesystems(self) -> list[AbstractFileSystem]:
        """Return the filesystems of threads that are open, or held by somebody."""
        with self._lock:
            return [e.outer for e in self._alive.values() if e.loop is None]

    def of_loop(self, loop: asyncio.AbstractEventLoop) -> list[Releasable]:
        """Return the filesystems of a host's loop that can be closed."""
        with self._lock:
            inner = [e.inner for e in self._alive.values() if e.loop is loop]
        return [fs for fs in inner if isinstance(fs, Releasable)]

    def _release(self, entries: Iterable[Opened]) -> None:
        for entry in entries:
            try:
                release(entry.inner, entry.loop)
            except Exception as error:  # noqa: BLE001 - it is nobody else's affair
                _log.warning(
                    "A filesystem of type %s could not be closed: %r", entry.type, error
                )
