"""What this process holds, and the in-process limit while Redis is away."""

from __future__ import annotations

import threading
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

from connectorkit_slots.slot import Share

if TYPE_CHECKING:
    from connectorkit_slots.slot import Holding
    from connectorkit_slots.verbs import Claim

__all__ = ["Book", "Full"]


class Full(NamedTuple):
    """A scope of which this process has given out its share.

    Attributes:
        scope: Its name.
        used: How many slots of it this process has.
        limit: How many it may have.
    """

    scope: str
    used: int
    limit: int


class Book:
    """Who has a slot in this process, whoever gave it.

    Args:
        processes: How many processes share the limits.
    """

    def __init__(self, processes: int) -> None:
        self._processes = processes
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[Claim, Holding]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def has_unregistered(self) -> bool:
        """Whether something that is held is not known to Redis."""
        with self._lock:
            holdings = [holding for _, holding in self._entries.values()]
        return any(each.is_held and each.mode != "redis" for each in holdings)

    def find(self, member: str) -> Holding | None:
        """Return what an execution has, if it still has it."""
        entry = self._entries.get(member)
        return entry[1] if entry and not entry[1].lost else None

    def put(self, claim: Claim, holding: Holding) -> Holding | None:
        """Note a slot; return what the execution had before."""
        with self._lock:
            before = self._entries.get(claim.member)
            self._entries[claim.member] = claim, holding
        return before[1] if before else None

    def drop(self, member: str, token: str) -> bool:
        """Forget a slot; tell whether it was there. An empty token is any."""
        with self._lock:
            entry = self._entries.get(member)
            if entry is None or token not in {"", entry[1].token}:
                return False
            del self._entries[member]
            return True

    def room(self, claim: Claim) -> dict[str, Share] | Full:
        """Return how far each scope is used if the claim is granted, or which is full.

        Who comes between this and `put` is counted by neither: the caller sees to it.
        """
        counts = self._counts(claim.member)
        shares = {}
        for name, limit in claim.scopes:
            used = counts.get(name, 0)
            share = None if limit is None else ceil(limit / self._processes)
            if share is not None and used >= share:
                return Full(name, used, share)
            shares[name] = Share(used + 1, share)
        return shares

    def _counts(self, but: str) -> dict[str, int]:
        with self._lock:
            entries = list(self._entries.items())
        counts: dict[str, int] = {}
        for member, (claim, holding) in entries:
            if holding.lost:
                self.drop(member, holding.token)
            elif member != but:
                for name, _ in claim.scopes:
                    counts[name] = counts.get(name, 0) + 1
        return counts
