"""A ride: the one slot of a call, with all operations that the call is made of."""

from __future__ import annotations

import threading
import uuid
from typing import TYPE_CHECKING, Final, NamedTuple

from connectorkit import fork
from connectorkit_slots.errors import SlotLimitExceeded

if TYPE_CHECKING:
    from connectorkit.scope import Scope
    from connectorkit_slots.slot import Slot
    from connectorkit_slots.station import Place

__all__ = ["Full", "Ride"]

# Seconds until a full connector is asked again: the first time, and at the most.
_FIRST: Final = 0.02
_MOST: Final = 0.5


class Full(NamedTuple):
    """All slots were taken.

    Attributes:
        used: How many are.
        limit: How many there are.
        retry_after: Seconds until the first of them lapses, if nobody renews it.
        again: When it is worth to ask again, by the clock of the scope.
    """

    used: int
    limit: int
    retry_after: float
    again: float


class Ride:
    """The one slot of a call, with all operations that the call is made of.

    It is given back when the call has ended, and with it the last operation: a body may
    be read for longer than the call that began it.

    Args:
        place: Where the slot comes from.
        scope: Whose it is.
        is_over: Whether nothing is to come after the operation that boards first: it
            belongs to no call.
    """

    def __init__(self, place: Place, scope: Scope, *, is_over: bool) -> None:
        self._place = place
        self._scope = scope
        self._is_over = is_over
        self._id = uuid.uuid4().hex
        self._generation = fork.generation
        self._riders = 0
        self._is_done = False
        self._slot: Slot | None = None
        self._full: Full | None = None
        self._pause = _FIRST
        # Of a call's parallel operations one asks, and the others wait for its answer.
        self._asking = threading.Lock()
        # One that its thread may take again: the collector of garbage may end an
        # operation at any moment.
        self._lock = threading.RLock()

    @property
    def has_slot(self) -> bool:
        """Whether the slot was given."""
        return self._slot is not None

    def board(self) -> bool:
        """Let an operation ride; False if it came too late."""
        with self._lock:
            # A child that was forked within a call has no part in its parent's slot.
            if self._is_done or fork.generation != self._generation:
                return False
            self._riders += 1
            return True

    def leave(self) -> None:
        """Hear that an operation has ended; waits for nothing."""
        with self._lock:
            self._riders -= 1
            self._give_back_if_done()

    def end(self) -> None:
        """Hear that the call has ended; waits for nothing."""
        with self._lock:
            self._is_over = True
            self._give_back_if_done()

    def _give_back_if_done(self) -> None:
        if self._is_done or not self._is_over or self._riders:
            return
        if self._slot is not None:
            self._is_done = True
            self._place.station.give_back(self._slot)

    def take(self) -> Full | None:
        """Ask for the slot unless it is there; blocks for a round trip.

        Returns:
            None if it is there; else how full it is.

        Raises:
            SlotsUnavailable: Redis is away, and by the settings nothing stands in.
        """
        with self._asking:
            if self._slot is not None or not self._riders:
                return None
            now = self._scope.clock()
            if self._full is not None and now < self._full.again:
                return self._full
            try:
                slot = self._ask()
            except SlotLimitExceeded as full:
                return self._note(full, now)
            with self._lock:
                self._slot = slot
                # Whoever wanted it may have gone meanwhile.
                self._give_back_if_done()
            return None

    def _ask(self) -> Slot:
        station = self._place.station
        # It may be one of this process's own that is on its way back.
        is_coming = station.is_giving_back
        try:
            return self._place.take(self._scope, self._id)
        except SlotLimitExceeded:
            if not is_coming:
                raise
        station.settle()
        return self._place.take(self._scope, self._id)

    def _note(self, full: SlotLimitExceeded, now: float) -> Full:
        # By half at random, so that those who were refused together ask apart.
        share = 0.5 + self._scope.random() / 2
        seconds = share * min(self._pause, full.retry_after)
        self._pause = min(2 * self._pause, _MOST)
        self._full = Full(full.used, full.limit, full.retry_after, now + seconds)
        return self._full

    async def take_on_loop(self) -> Full | None:
        """As `take`, on an event loop, which goes on meanwhile."""
        return await self._place.station.beside_loop(self.take)
