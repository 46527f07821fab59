"""One thread renews all slots that a process has in a Redis, whatever else it does.

A Redis that hangs keeps nobody from renewing at another one.
"""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from connectorkit.events import SlotsRenewed
from connectorkit.fork import renew_in_child
from connectorkit_slots.slot import margin
from connectorkit_slots.store import Away

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectorkit_slots.desk import Desk
    from connectorkit_slots.release import Release
    from connectorkit_slots.slot import Holding
    from connectorkit_slots.verbs import Claim

__all__ = ["HEARTBEATS", "Heartbeat", "Lease"]

_log = logging.getLogger(__name__)
# So many slots a script renews, lest others wait for it.
_BATCH: Final = 256
# Seconds until what failed is tried again, at most.
_AGAIN: Final = 1.0
# Seconds for which a thread waits for something to do.
_REST: Final = 60.0
# Not the host's own, which it may have seeded; a child may have its parent's.
_DICE: Final = random.Random()  # noqa: S311 - no secret


@dataclass(eq=False, slots=True)
class Lease:
    """A slot that is renewed.

    Attributes:
        since: When it was taken.
        due: When it is to be renewed.
    """

    claim: Claim
    holding: Holding
    desk: Desk[Any]
    since: float
    due: float = field(init=False)

    def __post_init__(self) -> None:
        # What was given without Redis is registered as soon as Redis is back.
        self.put_off(self.since, is_early=self.holding.mode != "redis")

    @property
    def now(self) -> float:
        """What its clock shows."""
        return self.desk.rules.clock()

    @property
    def seconds_left(self) -> float:
        """Seconds until something is to be done about it."""
        return min(self.due, self.holding.deadline) - self.now

    @property
    def is_worth_it(self) -> bool:
        """Whether it is due, or nearly so that it may as well go with others."""
        return self.due - self.now <= self.claim.lease / 6

    def put_off(self, now: float, *, is_early: bool) -> None:
        """Set when it is due again."""
        period = self.claim.lease / 3
        if is_early:
            period = min(period / 4, _AGAIN)
        # By chance, so that not all processes come at once.
        self.due = now + period * _DICE.uniform(0.9, 1.0)


class Heartbeat:
    """Renews the slots that all limiters of this process have in one Redis."""

    @classmethod
    def of(cls, address: object) -> Heartbeat:
        """Return the one of a Redis."""
        # What is made for nothing is collected.
        return HEARTBEATS.setdefault(address, cls())

    def __init__(self) -> None:
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Hold nothing: the slots are the parent's, and so was the thread."""
        # Taken as it is, not through the condition: a signal's handler may raise there
        # when it has the lock, and nobody would ever give it back.
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._leases: dict[str, Lease] = {}
        self._releases: list[Release] = []
        self._thread: threading.Thread | None = None
        self._wakes_at = math.inf
        self._was_woken = False

    def add(self, lease: Lease) -> None:
        """Renew a slot until it is dropped or lost."""
        with self._lock:
            self._leases[lease.holding.token] = lease
            self._see_to(lease.seconds_left)

    def drop(self, token: str) -> None:
        """Renew a slot no more."""
        with self._lock:
            self._leases.pop(token, None)

    def leave(self, desk: Desk[Any]) -> None:
        """Renew no slot of a limiter any more."""
        with self._lock:
            its = [token for token, it in self._leases.items() if it.desk is desk]
            for token in its:
                del self._leases[token]

    def release(self, release: Release) -> None:
        """Tell Redis that a slot is over, as soon as it can be told."""
        with self._lock:
            self._releases.append(release)
            self._see_to(0.0)

    def renew(self, desk: Desk[Any]) -> None:
        """Renew all slots of a limiter now."""
        with self._lock:
            leases = [lease for lease in self._leases.values() if lease.desk is desk]
        self._renew(leases)

    def beat(self) -> None:
        """Do what is due."""
        with self._lock:
            leases = list(self._leases.values())
            releases, self._releases = self._releases, []
        # First of all, since this process may have been stopped meanwhile.
        leases = [lease for lease in leases if not lease.holding.lost]
        try:
            if any(lease.due <= lease.now for lease in leases):
                self._renew(lease for lease in leases if lease.is_worth_it)
        finally:
            self._give_back(releases)

    def _see_to(self, seconds: float) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(
                target=self._run, name="connectorkit-slots", daemon=True
            )
            self._thread.start()
        if time.monotonic() + seconds < self._wakes_at:
            self._was_woken = True
            self._wake.notify()

    def _run(self) -> None:
        while self._rested():
            try:
                self.beat()
            except BaseException:  # noqa: BLE001 - nobody else would renew anything
                _log.exception("Slots could not be renewed.")
                time.sleep(_AGAIN)

    def _rested(self) -> bool:
        """Wait until something is due; False if nothing was for long."""
        with self._lock:
            seconds = self._seconds_left()
            is_idle = seconds == math.inf and not self._was_woken
            if seconds == math.inf:
                # Lest each of many short slots wake it.
                seconds = _REST if is_idle else _AGAIN
            self._was_woken = False
            if seconds > 0:
                self._wakes_at = time.monotonic() + seconds
                self._wake.wait(seconds)
                self._wakes_at = -math.inf
            if is_idle and self._seconds_left() == math.inf:
                self._thread = None
                return False
            return True

    def _seconds_left(self) -> float:
        lasting = [lease.seconds_left for lease in self._leases.values()]
        lasting += [each.due - each.desk.rules.clock() for each in self._releases]
        return min(lasting, default=math.inf)

    def _renew(self, leases: Iterable[Lease]) -> None:
        batches = _batches(leases)
        if not batches:
            return
        began = time.perf_counter()
        sent = [batch[0].now for batch in batches]
        asks = [
            batch[0].desk.verbs.renew(
                (lease.claim, max(0.0, now - lease.since)) for lease in batch
            )
            for batch, now in zip(batches, sent, strict=True)
        ]
        try:
            answers = batches[0][0].desk.store.run_all(asks)
        except Exception as error:  # noqa: BLE001 - other Redises are to be asked yet
            answers = [error] * len(asks)
        seconds = time.perf_counter() - began
        for batch, now, answer in zip(batches, sent, answers, strict=True):
            has_failed = isinstance(answer, Exception)
            if has_failed:
                self._failed(batch, answer)
            else:
                self._renewed(batch, now, answer)
            told = SlotsRenewed(len(batch), seconds, has_failed)
            batch[0].desk.teller.tell(told)

    def _failed(self, batch: list[Lease], error: Exception) -> None:
        if isinstance(error, Away):
            batch[0].desk.went_away()
        else:
            _log.error("Redis refused to renew slots: %s", error)
        for lease in batch:
            lease.holding.is_doubtful = True
            lease.put_off(lease.now, is_early=True)

    def _renewed(self, batch: list[Lease], sent: float, answer: Any) -> None:
        desk = batch[0].desk
        epoch, lasting = desk.verbs.renewed(answer)
        desk.came_back(epoch)
        for lease, left in zip(batch, lasting, strict=True):
            holding = lease.holding
            if not left:
                holding.lose()
            elif holding.renewed(sent + left - margin(left)):
                holding.mode = "redis"
                lease.put_off(sent, is_early=False)
            else:
                # It ended while it was renewed, and may be there again.
                self.release(desk.let_go(holding))

    def _give_back(self, releases: Iterable[Release]) -> None:
        by_store: dict[object, list[Release]] = {}
        waiting = []
        for each in releases:
            now = each.desk.rules.clock()
            if each.due > now:
                waiting.append(each)
            elif each.is_worth_it:
                by_store.setdefault(each.desk.store.address, []).append(each)
        for some in by_store.values():
            asks = [each.ask(is_late=True) for each in some]
            try:
                answers = some[0].desk.store.run_all(asks)
            except Exception as error:  # noqa: BLE001 - other Redises are to be asked yet
                answers = [error] * len(some)
            for each, answer in zip(some, answers, strict=True):
                if isinstance(answer, Exception):
                    each.due = each.desk.rules.clock() + _AGAIN
                    waiting.append(each)
        with self._lock:
            self._releases += waiting


def _batches(leases: Iterable[Lease]) -> list[list[Lease]]:
    """Return the slots of each limiter, the oldest first: they have the best right."""
    by_desk: dict[Desk[Any], list[Lease]] = {}
    for lease in sorted(leases, key=lambda lease: lease.since):
        by_desk.setdefault(lease.desk, []).append(lease)
    return [
        each[i : i + _BATCH]
        for each in by_desk.values()
        for i in range(0, len(each), _BATCH)
    ]


HEARTBEATS: Final[WeakValueDictionary[object, Heartbeat]] = WeakValueDictionary()
