"""The circuit breaker against a plain reference: whatever happens, any order (E25)."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from connectorkit import Call, CircuitOpen, CircuitState, Kind, Pipeline, Scope
from connectorkit.scope import Memory
from connectorkit.testing import VirtualClock
from connectorkit_breaker import Breaker, BreakerSettings
from flights import Flight

if TYPE_CHECKING:
    from connectorkit import CircuitChanged

Outcome: TypeAlias = Literal["success", "failure", "missing", "cancelled", "dropped"]

ERRORS = {"failure": ConnectionResetError("reset"), "missing": FileNotFoundError("no")}
# Numbers so small that all that can happen does.
SETTINGS = st.builds(
    BreakerSettings,
    failures=st.integers(1, 3),
    open_seconds=st.just(60),
    backoff=st.sampled_from([1, 2]),
    max_open_seconds=st.just(100),
    half_open_calls=st.integers(1, 2),
    half_open_seconds=st.sampled_from([30, 120]),
    successes=st.integers(1, 3),
) | st.builds(
    BreakerSettings,
    open_seconds=st.just(60),
    half_open_calls=st.integers(1, 2),
    window_calls=st.integers(3, 5),
    minimum_calls=st.integers(1, 3),
    failure_rate=st.sampled_from([0.3, 0.5, 1]),
)


@dataclass(eq=False)
class Ride:
    """An operation that was let through, and how it has ended."""

    time: int
    outcome: Outcome | None = None


@dataclass(eq=False)
class Wave:
    """Parts of one call that were let through before any of them had ended."""

    call: object
    since: float
    rides: list[Ride] = field(default_factory=list)

    @property
    def is_under_way(self) -> bool:
        """Whether a part has not ended."""
        return any(ride.outcome is None for ride in self.rides)

    @property
    def is_boarding(self) -> bool:
        """Whether no part has ended."""
        return all(ride.outcome is None for ride in self.rides)


class Reference:
    """The rules of a circuit as they are told, with no care for speed or threads.

    It keeps all that has happened since the last transition, and decides by looking
    through it.
    """

    def __init__(self, its: BreakerSettings) -> None:
        self.its = its
        self.now = 0.0
        self.time = 0
        self.told: list[tuple[str, str]] = []
        self.state = "closed"
        self.go("closed")

    def go(self, state: str) -> None:
        """Begin a new time."""
        if state != self.state:
            self.told.append((self.state, state))
        self.state = state
        self.time += 1
        self.ended: list[Outcome] = []
        self.waves: list[Wave] = []
        self.successes = 0
        if state not in {"open", "half_open"}:
            self.next_wait = self.its.open_seconds

    def open(self) -> None:
        """Let nothing through for a while."""
        self.until = self.now + self.next_wait
        self.go("open")
        if self.its.backoff > 1:
            longer = self.next_wait * self.its.backoff
            self.next_wait = min(self.its.max_open_seconds, longer)

    def under_way(self) -> list[Wave]:
        """Return the waves that hold a half-open circuit."""
        return [wave for wave in self.waves if wave.is_under_way]

    def begin(self, call: object) -> Ride | None:
        """Let an operation through, or not."""
        if self.state == "open" and self.now >= self.until:
            self.go("half_open")
        lost = self.now - self.its.half_open_seconds
        if any(wave.since <= lost for wave in self.under_way()):
            self.open()
        if self.state in {"open", "forced_open"}:
            return None
        ride = Ride(self.time)
        if self.state == "half_open":
            mine = [wave for wave in self.under_way() if wave.call is call]
            calls = {id(wave.call) for wave in self.under_way()}
            if not mine and len(calls) >= self.its.half_open_calls:
                return None
            if not mine or not mine[-1].is_boarding:
                self.waves.append(Wave(call, self.now))
                mine = self.waves
            mine[-1].rides.append(ride)
        return ride

    def end(self, ride: Ride, outcome: Outcome) -> None:
        """Hear of an end."""
        ride.outcome = outcome
        if ride.time != self.time:
            return
        # Failures with a "not found" between them are not in a row.
        counts = {"success", "failure", "missing"}
        if self.its.has_window:
            counts.remove("missing")
        if self.state == "closed" and outcome in counts:
            self.ended.append(outcome)
            if self.has_failed_too_often():
                self.open()
        if self.state == "half_open":
            if outcome == "failure":
                self.open()
                return
            (wave,) = [wave for wave in self.waves if ride in wave.rides]
            if not wave.is_under_way:
                self.successes += any(r.outcome == "success" for r in wave.rides)
                if self.successes >= self.its.successes:
                    self.go("closed")

    def has_failed_too_often(self) -> bool:
        """Look through all that has ended."""
        if self.its.window_calls is None:
            last = self.ended[-self.its.failures :]
            return last == ["failure"] * self.its.failures
        last = self.ended[-self.its.window_calls :]
        rate = last.count("failure") / len(last)
        return len(last) >= self.its.minimum_calls and rate >= self.its.failure_rate

    def shown(self) -> tuple[str, float | None]:
        """Return the state, and for how long still."""
        if self.state != "open":
            return self.state, None
        left = self.until - self.now
        return ("open", left) if left > 0 else ("half_open", None)


class Model(RuleBasedStateMachine):
    """Operations of two clients of one storage, interleaved in any way."""

    @initialize(its=SETTINGS)
    def begin_all(self, its: BreakerSettings) -> None:
        """Make two clients, and the reference."""
        self.clock = VirtualClock()
        self.told: list[CircuitChanged] = []
        self.breaker = Breaker(its)
        memory = Memory()
        self.scopes = [
            Scope(
                name,
                "s3",
                "identity",
                clock=self.clock,
                emit=self.hear,
                memory=memory,
            )
            for name in ("one", "other")
        ]
        self.pipelines = [Pipeline((self.breaker,), scope) for scope in self.scopes]
        self.circuit = self.breaker.circuits(self.scopes[0])[Kind.READ]
        self.reference = Reference(its)
        self.flights: list[tuple[Flight, Ride]] = []
        self.calls: list[Call] = []

    def hear(self, event: Any) -> None:
        """Hear of a transition."""
        self.told.append(event)

    @rule(client=st.integers(0, 1), part_of=st.none() | st.integers(0, 2))
    def begin(self, client: int, part_of: int | None) -> None:
        """Begin an operation: one by itself, of a new call, or of one under way."""
        call: Call | None = None
        if part_of is not None:
            if part_of >= len(self.calls):
                self.calls.append(Call(self.scopes[client]))
            call = self.calls[min(part_of, len(self.calls) - 1)]
        ride = self.reference.begin(call or object())
        if ride is None:
            with suppress(CircuitOpen):
                Flight(self.pipelines[client], call=call)
                raise AssertionError("It was let through.")
        else:
            self.flights.append((Flight(self.pipelines[client], call=call), ride))

    @precondition(lambda self: self.flights)
    @rule(
        which=st.integers(0, 9),
        outcome=st.sampled_from(
            (
                *("success", "success", "failure", "failure"),
                *("missing", "cancelled", "dropped"),
            )
        ),
    )
    def end(self, which: int, outcome: Outcome) -> None:
        """End an operation."""
        flight, ride = self.flights.pop(which % len(self.flights))
        self.reference.end(ride, outcome)
        if outcome == "success":
            flight.end()
        elif outcome == "cancelled":
            flight.cancel()
        elif outcome == "dropped":
            flight.drop()
        else:
            flight.fail(ERRORS[outcome])

    @rule(seconds=st.sampled_from([0.5, 29, 30, 60, 100]))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)
        self.reference.now += seconds

    @rule(state=st.sampled_from(["closed", "closed", "forced_open", "forced_closed"]))
    def switch(self, state: str) -> None:
        """Switch it by hand."""
        self.circuit.force(CircuitState(state))
        self.circuit.tell("one", self.hear)
        if state == "closed" or state != self.reference.state:
            self.reference.go(state)

    @rule()
    def forget_calls(self) -> None:
        """Let the calls under way have no further parts."""
        self.calls.clear()

    @invariant()
    def is_as_told(self) -> None:
        """State, time left, transitions and permits are the reference's."""
        if not hasattr(self, "circuit"):
            return
        info = self.circuit.info()
        assert (info.state, info.seconds_left) == self.reference.shown()
        told = [(each.before, each.after) for each in self.told]
        assert told == self.reference.told
        era = self.circuit.era
        assert era.successes == self.reference.successes
        held = [permit.riders for permit in era.permits]
        waves = self.reference.under_way()
        riding = [[r.outcome for r in wave.rides].count(None) for wave in waves]
        assert held == riding


Model.TestCase.settings = settings(max_examples=60, stateful_step_count=50)
TestModel = Model.TestCase
TestModel.__doc__ = "Whatever happens, a circuit is what its reference is (B1-B5, B9)."
