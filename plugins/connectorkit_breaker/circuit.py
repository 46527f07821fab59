"""A circuit: one for each identity and kind of operation."""

from __future__ import annotations

import logging
import math
import threading
from collections import deque
from enum import Enum
from typing import TYPE_CHECKING, Any

from connectorkit import CircuitOpen
from connectorkit.circuits import Circuit, CircuitInfo, CircuitState
from connectorkit.events import CircuitChanged
from connectorkit.fork import renew_in_child
from connectorkit_breaker.window import CountWindow, TimeWindow

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.operation import Operation
    from connectorkit.scope import Scope
    from connectorkit_breaker.settings import BreakerSettings
    from connectorkit_breaker.window import Window

__all__ = ["BreakerCircuit", "Era", "Outcome", "Permit"]

_log = logging.getLogger(__name__)
# How soon to ask again while another call tries; nobody knows how long that takes.
_SOON = 1.0


class Outcome(Enum):
    """What the end of an operation says of the service.

    Attributes:
        SUCCESS: It is well.
        FAILURE: It, or the way to it, failed.
        ANSWERED: It did answer, that something is not there or not as was expected:
            failures before and after are not in a row. No more than that: it neither
            opens nor closes a circuit.
        NEUTRAL: Nothing: the caller gave up, or was refused.
    """

    SUCCESS = "success"
    FAILURE = "failure"
    ANSWERED = "answered"
    NEUTRAL = "neutral"


class Era:
    """The time that a circuit is in one state.

    It is what results belong to: one that comes when its era is over changes nothing.

    Attributes:
        state: The state.
        until: When an open circuit's time is up.
        failures: In a row; of one that is open, how many opened it.
        window: How the last operations went; None without one.
        permits: Those that a half-open circuit has given out, the oldest first.
        successes: How many of them have come back with a success.
        is_passing: Whether all operations are let through.
        is_plain: Whether, besides, nobody asks how long they take.
    """

    __slots__ = (
        "failures",
        "is_passing",
        "is_plain",
        "permits",
        "state",
        "successes",
        "until",
        "window",
    )

    def __init__(
        self,
        state: CircuitState,
        *,
        until: float = math.inf,
        failures: int = 0,
        window: Window | None = None,
        is_timed: bool = False,
    ) -> None:
        self.state = state
        self.until = until
        self.failures = failures
        self.window = window
        self.permits: list[Permit] = []
        self.successes = 0
        self.is_passing = state in {CircuitState.CLOSED, CircuitState.FORCED_CLOSED}
        self.is_plain = self.is_passing and not is_timed


class Permit:
    """What a call holds while it tries a half-open circuit, with its parallel parts.

    Parts board until the first of them leaves. Those that come later board another one
    of the same call, so that a call with many parts is judged as it goes on.

    Attributes:
        era: What it is good for.
        holder: The call; an operation that has none.
        operations: Its parts.
        since: When it was given out.
        riders: How many parts are under way.
        is_boarding: Whether no part has left.
        is_good: Whether a part has succeeded.
    """

    __slots__ = (
        "era",
        "holder",
        "is_boarding",
        "is_good",
        "operations",
        "riders",
        "since",
    )

    def __init__(self, era: Era, holder: object, op: Operation, since: float) -> None:
        self.era = era
        self.holder = holder
        self.operations = [op.origin]
        self.since = since
        self.riders = 1
        self.is_boarding = True
        self.is_good = False


class BreakerCircuit(Circuit):
    """A breaker's memory of one kind of operation of an identity.

    Args:
        name: "upload", "download" or "list".
        settings: When it opens, for how long, and what closes it.
        scope: Of the connector that uses it first.

    Attributes:
        era: Its state, and what belongs to it.
    """

    def __init__(self, name: str, settings: BreakerSettings, scope: Scope) -> None:
        self.name = name
        self.connector = scope.connector
        self._type = scope.type
        self._is_adhoc = scope.is_adhoc
        self._clock = scope.clock
        self._random = scope.random
        self._its = settings
        self._wait = settings.open_seconds
        self._untold: deque[tuple[CircuitState, CircuitState]] = deque()
        self.era = self._new_closed()
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        # One that its thread may take again: the collector of garbage may end a flow
        # that nobody has, at any moment, and so give a permit back.
        self._lock = threading.RLock()

    def admit(self, op: Operation) -> Permit | Era:
        """Let an operation through.

        Returns:
            What to give back to `leave`.

        Raises:
            CircuitOpen: It is not let through.
        """
        with self._lock:
            now = self._clock()
            era = self.era
            if era.state is CircuitState.OPEN and now >= era.until:
                half_open = Era(CircuitState.HALF_OPEN, failures=era.failures)
                era = self._become(half_open)
            elif era.permits and self._is_lost(era.permits[0], now):
                era = self._open(now, era.failures)
            if era.is_passing:
                return era
            if era.state is CircuitState.HALF_OPEN:
                permit = self._board(era, op, now)
                if permit is not None:
                    return permit
        raise self._refusal(op, era, now)

    def _is_lost(self, permit: Permit, now: float) -> bool:
        """Tell whether nobody will come back with a permit."""
        if now < permit.since + self._its.half_open_seconds:
            return False
        # An attempt that is still within a limit of its own will end by that.
        return not any(op.now() < op.until < math.inf for op in permit.operations)

    def _board(self, era: Era, op: Operation, now: float) -> Permit | None:
        holder = op.origin if op.call is None else op.call
        for permit in era.permits:
            if permit.holder is holder and permit.is_boarding:
                permit.riders += 1
                permit.operations.append(op.origin)
                return permit
        holders = {id(permit.holder) for permit in era.permits}
        if id(holder) not in holders and len(holders) >= self._its.half_open_calls:
            return None
        permit = Permit(era, holder, op, now)
        era.permits.append(permit)
        return permit

    def leave(self, ticket: Permit | Era, outcome: Outcome, *, slow: bool) -> None:
        """Hear of the end of an operation that was let through."""
        with self._lock:
            now = self._clock()
            if isinstance(ticket, Permit):
                self._return(ticket, outcome, now, slow=slow)
            elif ticket is self.era and ticket.state is CircuitState.CLOSED:
                self._count(ticket, outcome, now, slow=slow)

    def _return(
        self, permit: Permit, outcome: Outcome, now: float, *, slow: bool
    ) -> None:
        permit.riders -= 1
        permit.is_boarding = False
        era = permit.era
        if not permit.riders:
            era.permits.remove(permit)
        if era is not self.era:
            return
        if outcome is Outcome.FAILURE or (outcome is Outcome.SUCCESS and slow):
            self._open(now, era.failures)
            return
        permit.is_good |= outcome is Outcome.SUCCESS
        if not permit.riders and permit.is_good:
            era.successes += 1
            if era.successes >= self._its.successes:
                self.force(CircuitState.CLOSED)

    def _count(self, era: Era, outcome: Outcome, now: float, *, slow: bool) -> None:
        its = self._its
        failed = outcome is Outcome.FAILURE
        if outcome is Outcome.NEUTRAL:
            return
        if era.window is None:
            era.failures = era.failures + 1 if failed else 0
            if era.failures >= its.failures:
                self._open(now, era.failures)
            return
        if outcome is Outcome.ANSWERED:
            return
        era.window.add(now, failed=failed, slow=slow)
        calls, failures, slows = era.window.counts(now)
        if calls >= its.minimum_calls and (
            failures / calls >= its.failure_rate or slows / calls >= its.slow_rate
        ):
            self._open(now, failures)

    def _open(self, now: float, failures: int) -> Era:
        its = self._its
        seconds = self._wait * (1 + its.jitter * self._random() if its.jitter else 1)
        if its.backoff > 1:
            self._wait = min(its.max_open_seconds, self._wait * its.backoff)
        # Fixed here and now: nothing that comes later makes it longer.
        era = Era(CircuitState.OPEN, until=now + seconds, failures=failures)
        return self._become(era)

    def _new_closed(self) -> Era:
        its = self._its
        window: Window | None = None
        if its.window_calls is not None:
            window = CountWindow(its.window_calls)
        elif its.window_seconds is not None:
            window = TimeWindow(its.window_seconds)
        is_timed = its.slow_seconds is not None
        return Era(CircuitState.CLOSED, window=window, is_timed=is_timed)

    def _become(self, era: Era) -> Era:
        before, self.era = self.era.state, era
        if before is not era.state:
            self._untold.append((before, era.state))
        return era

    def _refusal(self, op: Operation, era: Era, now: float) -> CircuitOpen:
        if era.state is CircuitState.OPEN:
            after = era.until - now
            why = (
                f"is open for another {math.ceil(after)} s, since the service failed "
                "too often; try again then"
            )
        elif era.state is CircuitState.HALF_OPEN:
            after = _SOON
            why = (
                "is half open, and another call is trying whether the service is "
                "back; try again in a moment"
            )
        else:
            after = self._its.open_seconds
            why = (
                "was opened by hand; try again when "
                f"kit.circuits.reset({op.scope.connector!r}, {self.name!r}) was called"
            )
        return CircuitOpen(
            f"{op} was not sent: the {self.name} circuit {why}.", self.name, after
        )

    def force(self, state: CircuitState) -> None:
        """Put it in a state, its counts and its back-off forgotten."""
        with self._lock:
            self._wait = self._its.open_seconds
            if state is CircuitState.CLOSED:
                self._become(self._new_closed())
            elif state is not self.era.state:
                self._become(Era(state))

    def info(self) -> CircuitInfo:
        """Say what is known of it; changes nothing."""
        with self._lock:
            now = self._clock()
            era = self.era
            window, failures = era.window, era.failures
            if window is not None:
                failures = window.counts(now).failures
        state, left = era.state, None
        if state is CircuitState.OPEN:
            left = era.until - now
            if left <= 0:
                state, left = CircuitState.HALF_OPEN, None
        return CircuitInfo(
            connector=self.connector,
            type=self._type,
            is_adhoc=self._is_adhoc,
            circuit=self.name,
            state=state,
            seconds_left=left,
            failures=failures,
        )

    def tell(self, connector: str, emit: Callable[[Any], None]) -> None:
        """Emit a `CircuitChanged` for each transition that nobody was told of yet.

        What a listener raises is logged, and changes nothing.
        """
        while self._untold:
            try:
                before, after = self._untold.popleft()
            except IndexError:
                # Another thread tells of it.
                return
            try:
                emit(CircuitChanged(connector, self._type, self.name, before, after))
            except Exception:  # noqa: BLE001 - a listener never breaks a call
                _log.exception("A listener failed on circuit %r.", self.name)

    def __repr__(self) -> str:
        return f"<Circuit {self.name} of {self.connector!r}: {self.era.state}>"
