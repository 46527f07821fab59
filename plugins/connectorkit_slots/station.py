"""Stations: where policies of equal settings have their slots from in a process."""

from __future__ import annotations

import asyncio
import atexit
import dataclasses
import logging
import threading
import time
import weakref
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from multiprocessing.util import Finalize
from queue import SimpleQueue
from typing import TYPE_CHECKING, Final, TypeVar

from connectorkit.events import SlotDecided, SlotsUsed, SlotWasLost
from connectorkit_slots.limiter import SlotLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.scope import Scope
    from connectorkit_slots.policy import SlotsSettings
    from connectorkit_slots.slot import Slot

__all__ = ["Place", "Station"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
# Each is busy for a round trip, or for as long as Redis is waited for: 0.1 s.
_MOST_THREADS: Final = 8
# Seconds for which anybody waits for slots to be given back.
_PATIENCE: Final = 1.0


class Station:
    """The limiter of all connectors whose policies have equal settings.

    Each connector is an organization of it, by a name that the whole fleet has for it.

    Loops ask by threads of its own: a client of theirs would have to end with each of
    them, and could not take back what was asked for by who is cancelled meanwhile.
    """

    def __init__(self, settings: SlotsSettings) -> None:
        self._limiter = SlotLimiter.from_url(
            settings.url.get_secret_value(),
            cluster=settings.cluster,
            org_limit=settings.limit,
            lease=settings.lease,
            namespace="calls",
            on_error=settings.on_error,
            processes=settings.processes,
            emit=self._emit,
        )
        self._user: Callable[[], Scope | None] = lambda: None
        self._beside = ThreadPoolExecutor(_MOST_THREADS, "connectorkit-slots")
        # What is given back, and what of it is not yet there.
        self._returned: SimpleQueue[Slot | threading.Event | None] = SimpleQueue()
        self._under_way: deque[Slot] = deque()
        self._porter = threading.Thread(
            target=_carry,
            args=(self._returned, self._under_way),
            name="connectorkit-slots-returned",
            daemon=True,
        )
        self._porter.start()
        weakref.finalize(self, self._returned.put, None).atexit = False
        # A worker of multiprocessing ends without the interpreter's own end.
        Finalize(None, _finish_all, exitpriority=0)
        _stations.add(self)

    def take(self, name: str, scope: Scope, execution_id: str) -> Slot:
        """Take a slot, which is renewed until it is given back.

        Args:
            name: Of a connector's identity, in the whole fleet.
            scope: Who hears of it, and of renewals from now on.
            execution_id: Of the call; the same if it has to ask again.

        Raises:
            SlotLimitExceeded: All of them are taken.
            SlotsUnavailable: Redis is away, and by the settings nothing stands in.
        """
        self._user = weakref.ref(scope)
        return self._limiter.take(name, execution_id)

    def give_back(self, slot: Slot) -> None:
        """Give a slot back, in the background: it may be a loop that asks."""
        self._under_way.append(slot)
        self._returned.put(slot)

    @property
    def is_giving_back(self) -> bool:
        """Whether not all that was given back is there already."""
        return bool(self._under_way)

    def settle(self) -> None:
        """Wait until what was given back is there."""
        passed = threading.Event()
        self._returned.put(passed)
        passed.wait(_PATIENCE)

    async def beside_loop(self, function: Callable[[], T]) -> T:
        """Run what blocks beside the running loop."""
        return await asyncio.get_running_loop().run_in_executor(self._beside, function)

    def finish(self) -> None:
        """Give nothing back any more, once what was returned is there."""
        self._returned.put(None)

    def wait(self, seconds: float) -> None:
        """Wait for the end of that."""
        self._porter.join(seconds)

    def _emit(self, event: object) -> None:
        """Tell the kit that asked last; to hosts identities are connectors' affairs."""
        scope = self._user()
        if scope is None:
            return
        if isinstance(event, SlotDecided | SlotsUsed | SlotWasLost):
            event = dataclasses.replace(event, organization="")
        if isinstance(event, SlotDecided | SlotsUsed) and event.scope:
            event = dataclasses.replace(event, scope="connector")
        if isinstance(event, SlotDecided) and event.scope:
            event = dataclasses.replace(event, outcome="waits")
        scope.emit(event)


class Place:
    """The slots of one connector: what a process remembers of its identity.

    Args:
        station: Returns where they come from.
    """

    def __init__(self, station: Callable[[], Station]) -> None:
        self._find = station
        self._name: str | None = None

    @cached_property
    def station(self) -> Station:
        """Where they come from."""
        return self._find()

    def take(self, scope: Scope, execution_id: str) -> Slot:
        """Take a slot, as `Station.take` does."""
        if self._name is None:
            self._name = scope.fleet_identity()
        return self.station.take(self._name, scope, execution_id)


_stations: weakref.WeakSet[Station] = weakref.WeakSet()


def _carry(
    returned: SimpleQueue[Slot | threading.Event | None], under_way: deque[Slot]
) -> None:
    while (each := returned.get()) is not None:
        if isinstance(each, threading.Event):
            each.set()
            continue
        try:
            each.release()
        except Exception:  # noqa: BLE001 - the next one shall be given back in any case
            _log.exception("A slot could not be given back: %r.", each)
        under_way.popleft()


@atexit.register
def _finish_all() -> None:
    stations = list(_stations)
    for station in stations:
        station.finish()
    until = time.monotonic() + _PATIENCE
    for station in stations:
        station.wait(max(0.0, until - time.monotonic()))
