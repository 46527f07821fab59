"""The circuit breaker: what opens a circuit, what closes it, and what does neither."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    AttemptTimedOut,
    Call,
    CircuitChanged,
    CircuitOpen,
    CircuitState,
    ConfigError,
    ConnectorKit,
    DeadlineExceeded,
    Kind,
    ObjectChanged,
    Pipeline,
    Policy,
    Scope,
    WrongAnswer,
)
from connectorkit.body import Answer, Body
from connectorkit.scope import Memory
from connectorkit.testing import FaultProxy, Status, VirtualClock
from connectorkit_breaker import Breaker, BreakerSettings
from connectorkit_breaker.window import CountWindow, TimeWindow
from connectorkit_deadline import Deadline
from connectorkit_retry import Retry, RetrySettings
from connectorkit_timeout import Timeout, TimeoutSettings
from flights import Flight

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit import CircuitInfo, Operation
    from connectorkit.circuits import CircuitSet
    from connectorkit.policy import Flow
    from connectorkit_breaker.circuit import BreakerCircuit
    from servers import RcloneS3

OUTAGE = ConnectionResetError("reset")
CLOSED, HALF_OPEN, OPEN = (
    CircuitState.CLOSED,
    CircuitState.HALF_OPEN,
    CircuitState.OPEN,
)
# What a service, a caller or another policy answers for good.
PERMANENT = [
    FileNotFoundError("gone"),
    FileExistsError("there"),
    PermissionError("denied"),
    ObjectChanged("changed"),
    DeadlineExceeded("late"),
    ValueError("a caller's mistake"),
]


class Store:
    """A storage behind a breaker, and a clock of its own.

    Args:
        outer: Policies around the breaker.
        inner: Policies within it.
        clock: The clock.
        memory: What is remembered.
        identity: Whose circuits these are.
        settings: Of the breaker.
    """

    def __init__(
        self,
        *,
        outer: tuple[Policy, ...] = (),
        inner: tuple[Policy, ...] = (),
        clock: VirtualClock | None = None,
        memory: Memory | None = None,
        identity: str = "store",
        **settings: Any,
    ) -> None:
        self.clock = clock or VirtualClock(1000.0)
        self.memory = memory or Memory()
        self.events: list[CircuitChanged] = []
        self.emit: Callable[[Any], None] = self.events.append
        self.breaker = Breaker(BreakerSettings(**settings))
        self.scope = Scope(
            "reports",
            "s3",
            identity,
            clock=self.clock,
            random=lambda: 0.5,
            emit=self.tell,
            memory=self.memory,
        )
        policies = (*outer, self.breaker, *inner)
        self.pipeline = Pipeline(policies, self.scope)
        self.bare = Pipeline((self.breaker,), self.scope)

    def tell(self, event: Any) -> None:
        """Hear of an event."""
        self.emit(event)

    @property
    def circuits(self) -> CircuitSet[BreakerCircuit]:
        """Its circuits by kind."""
        return self.breaker.circuits(self.scope)

    def info(self, kind: Kind = Kind.READ) -> CircuitInfo:
        """What is known of a circuit."""
        return self.circuits[kind].info()

    def state(self, kind: Kind = Kind.READ) -> CircuitState:
        """The state of a circuit."""
        return self.info(kind).state

    def permits(self, kind: Kind = Kind.READ) -> int:
        """How many permits a circuit has given out."""
        return len(self.circuits[kind].era.permits)

    def begin(
        self, kind: Kind = Kind.READ, call: Call | None = None, **facts: Any
    ) -> Flight:
        """Begin an operation."""
        return Flight(self.pipeline, kind, call, **facts)

    def call(self) -> Call:
        """Begin a call."""
        return Call(self.scope)

    def succeed(self, times: int = 1, kind: Kind = Kind.READ) -> None:
        """Have operations succeed."""
        for _ in range(times):
            self.begin(kind).end()

    def fail(
        self, times: int = 1, kind: Kind = Kind.READ, error: Exception = OUTAGE
    ) -> None:
        """Have operations fail."""
        for _ in range(times):
            self.begin(kind).fail(error)

    def opened(self) -> Store:
        """Have the service fail until its circuit is open."""
        while self.state() is not OPEN:
            Flight(self.bare).fail(OUTAGE)
        return self

    def half_open(self) -> Store:
        """Have the circuit half open, no permit out and no success counted."""
        self.opened()
        self.clock.advance(self.breaker.settings.open_seconds)
        Flight(self.bare).fail(FileNotFoundError("gone"))
        assert (self.state(), self.permits()) == (HALF_OPEN, 0)
        self.events.clear()
        return self

    def refusal(self, kind: Kind = Kind.READ, call: Call | None = None) -> CircuitOpen:
        """How it refuses an operation."""
        with pytest.raises(CircuitOpen) as caught:
            self.begin(kind, call, path="bucket/key")
        return caught.value

    def changes(self) -> list[tuple[str, str]]:
        """What was told since the last time."""
        told = [(event.before, event.after) for event in self.events]
        self.events.clear()
        return told


class Seam(Policy):
    """A policy within the breaker whose flow is always needed."""

    name = "seam"

    def around(self, op: Operation) -> Flow:
        """Pass the operation on."""
        return (yield op)


class TestDefaults:
    """The numbers of the source system: 5 failures, 60 s, 1 call, 2 successes."""

    def test_fifth_failure_in_a_row_opens(self) -> None:
        """Four failures do not open a circuit; the fifth does."""
        store = Store()
        store.fail(4)
        assert (store.state(), store.info().failures) == (CLOSED, 4)

        store.fail()

        assert (store.state(), store.info().failures) == (OPEN, 5)
        assert store.changes() == [("closed", "open")]

    def test_success_starts_the_count_again(self) -> None:
        """Failures that are not in a row do not open a circuit."""
        store = Store()
        for _ in range(3):
            store.fail(4)
            store.succeed()
        assert (store.state(), store.info().failures) == (CLOSED, 0)

    def test_open_circuit_lets_nothing_through_for_60_seconds(self) -> None:
        """A refusal names the seconds that are left, and nothing is sent."""
        store = Store().opened()
        assert store.refusal().retry_after == 60

        store.clock.advance(59.5)

        assert store.refusal().retry_after == 0.5
        store.clock.advance(0.5)
        store.begin().end()

    def test_half_open_circuit_admits_one_call_at_a_time(self) -> None:
        """While one call tries, all others are refused; then the next one tries."""
        store = Store().half_open()
        probe = store.begin()
        store.refusal()
        store.refusal()
        probe.end()
        store.begin().cancel()
        assert store.permits() == 0

    def test_second_success_closes(self) -> None:
        """A half-open circuit closes after two successes and starts counting at 0."""
        store = Store().half_open()
        store.succeed()
        assert store.state() is HALF_OPEN

        store.succeed()

        assert (store.state(), store.info().failures) == (CLOSED, 0)
        assert store.changes() == [("half_open", "closed")]

    def test_one_failure_of_a_half_open_circuit_opens_it(self) -> None:
        """A success before it does not help, and the 60 s begin anew."""
        store = Store().half_open()
        store.succeed()
        store.clock.advance(7)
        store.fail()
        assert store.info().seconds_left == 60
        assert store.changes() == [("half_open", "open")]

    def test_successes_are_counted_anew_each_time(self) -> None:
        """One success before an opening and one after it do not close a circuit."""
        store = Store().half_open()
        store.succeed()
        store.fail()
        store.clock.advance(60)
        store.succeed()
        assert store.state() is HALF_OPEN

    def test_circuits_are_apart(self) -> None:
        """Uploads, downloads and listings have a circuit each."""
        store = Store()
        store.fail(5, Kind.WRITE)
        store.succeed(kind=Kind.READ)
        store.succeed(kind=Kind.LIST)
        states = {c.name: c.info().state for c in store.circuits.values()}
        assert states == {"upload": OPEN, "download": CLOSED, "list": CLOSED}

    def test_deletes_have_no_circuit(self) -> None:
        """A clean-up goes on through an outage, and says nothing of it (E22)."""
        store = Store()
        for circuit in store.circuits.values():
            circuit.force(CircuitState.FORCED_OPEN)
        store.fail(50, Kind.DELETE)
        store.succeed(kind=Kind.DELETE)
        assert Kind.DELETE not in store.circuits

    @pytest.mark.parametrize(
        "error",
        [OUTAGE, AttemptTimedOut("slow"), TimeoutError(), WrongAnswer("other bytes")],
        ids=lambda error: type(error).__name__,
    )
    def test_outages_count(self, error: Exception) -> None:
        """Resets, time-outs and wrong bytes are failures of the service."""
        store = Store()
        store.fail(5, error=error)
        assert store.state() is OPEN


class TestRefusal:
    """A refusal says which connector and circuit, how long still, and what to do."""

    def test_open(self) -> None:
        """One sentence; a `ConnectionError` with the facts as attributes."""
        store = Store().opened()
        store.clock.advance(17.2)
        error = store.refusal()
        assert isinstance(error, ConnectionError)
        assert str(error) == (
            "Connector 'reports': do_read of 'bucket/key' was not sent: the download "
            "circuit is open for another 43 s, since the service failed too often; try "
            "again then."
        )
        assert error.circuit == "download"
        assert error.retry_after == pytest.approx(42.8)

    def test_half_open(self) -> None:
        """Nobody knows how long another call tries: ask again in a second."""
        store = Store().half_open()
        probe = store.begin()
        error = store.refusal()
        assert "download circuit is half open" in str(error)
        assert error.retry_after == 1
        probe.end()

    def test_forced_open(self) -> None:
        """It names the line that ends it."""
        store = Store()
        store.circuits[Kind.WRITE].force(CircuitState.FORCED_OPEN)
        error = store.refusal(Kind.WRITE)
        assert "kit.circuits.reset('reports', 'upload')" in str(error)
        assert error.retry_after == 60

    def test_refusal_ends_retries_at_once(self) -> None:
        """An open circuit is no reason to wait, nor to come again."""
        store = Store(outer=(Retry(),)).opened()
        store.refusal()
        assert store.state() is OPEN


class TestNeutral:
    """What says nothing of the service's health counts neither way."""

    @pytest.mark.parametrize("error", PERMANENT, ids=lambda error: type(error).__name__)
    def test_permanent_answers_open_nothing(self, error: Exception) -> None:
        """A service that answers "no" is well: 5 missing keys open nothing (E4)."""
        store = Store()
        store.fail(4)
        store.fail(20, error=error)
        assert store.state() is CLOSED

    @pytest.mark.parametrize(
        ("error", "opens"),
        [
            (FileNotFoundError("gone"), False),
            (FileExistsError("there"), False),
            (ValueError("of the caller's own"), True),
            (asyncio.CancelledError(), True),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_answers_part_failures(self, error: BaseException, opens: bool) -> None:
        """Failures with a service's "not found" between them are not in a row."""
        store = Store()
        store.fail(4)
        store.begin().fail(error)
        store.fail(1)
        assert (store.state() is OPEN) is opens

    @given(st.lists(st.sampled_from(PERMANENT)), st.integers(0, 4))
    def test_no_sequence_of_them_changes_a_state(
        self, errors: list[Exception], failures: int
    ) -> None:
        """Whatever the order, each state stays what it is (E4)."""
        closed, half_open = Store(), Store().half_open()
        closed.fail(failures)
        for error in errors:
            closed.fail(error=error)
            half_open.fail(error=error)
        assert closed.state() is CLOSED
        assert (half_open.state(), half_open.permits()) == (HALF_OPEN, 0)
        assert half_open.changes() == []

    def test_permit_comes_back_from_a_mistake_before_the_request(self) -> None:
        """A call that fails before it sends anything does not wedge a circuit (E1)."""

        class Careless(Policy):
            name = "careless"
            fails = True

            def around(self, op: Operation) -> Flow:
                if self.fails:
                    raise ValueError("a file that is too small")
                return (yield op)

        careless = Careless()
        careless.fails = False
        store = Store(inner=(careless,)).half_open()
        careless.fails = True
        for _ in range(3):
            with pytest.raises(Exception, match="too small"):
                store.begin()
        careless.fails = False
        store.succeed(2)
        assert store.state() is CLOSED

    def test_missing_key_gives_the_permit_back(self) -> None:
        """To look for what is not there does not wedge a half-open circuit (E2)."""
        store = Store().half_open()
        store.fail(10, error=FileNotFoundError("gone"))
        store.succeed(2)
        assert store.state() is CLOSED

    @pytest.mark.parametrize(
        "error",
        [asyncio.CancelledError(), KeyboardInterrupt(), SystemExit(1)],
        ids=lambda error: type(error).__name__,
    )
    def test_abandoned_call_gives_the_permit_back(self, error: BaseException) -> None:
        """Cancelled, interrupted or gone: no failure, and no success either (E2)."""
        store = Store().half_open()
        store.succeed()
        store.begin().fail(error)
        assert (store.state(), store.permits()) == (HALF_OPEN, 0)
        store.succeed()
        assert store.state() is CLOSED

    def test_dropped_flow_gives_the_permit_back(self) -> None:
        """A flow whose thread has died is collected, and its permit with it (B1)."""
        store = Store().half_open()
        probe = store.begin()
        store.refusal()

        probe.drop()
        gc.collect()

        assert (store.state(), store.permits()) == (HALF_OPEN, 0)

    def test_thread_that_dies_gives_the_permit_back(self) -> None:
        """`SystemExit` within an attempt ends its thread, and no circuit (B1)."""
        store = Store().half_open()

        def die(_op: Operation) -> None:
            raise SystemExit

        def run() -> None:
            op = store.pipeline.operation("get_object", Kind.READ)
            with suppress(SystemExit):
                store.pipeline.run(op, die)

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        assert (store.state(), store.permits()) == (HALF_OPEN, 0)

    def test_cancelled_calls_count_nothing_while_closed(self) -> None:
        """A user who closes the page does not open a circuit (B5)."""
        store = Store()
        store.fail(4)
        for _ in range(20):
            store.begin().cancel()
        assert (store.state(), store.info().failures) == (CLOSED, 4)


class TestCancelAnywhere:
    """Wherever a call is cancelled, its permit comes back and nothing is counted."""

    @pytest.mark.parametrize("awaits", range(1, 6))
    def test_cancelled_at_the_nth_await(self, awaits: int) -> None:
        """Under the whole stack, at each await of an attempt (E2)."""
        store = Store(
            outer=(Deadline(), Retry(RetrySettings(jitter="none"))),
            inner=(Timeout(),),
        ).half_open()

        async def attempt(_op: Operation) -> None:
            for _ in range(5):
                await asyncio.sleep(0)

        async def main() -> None:
            op = store.pipeline.operation("get_object", Kind.READ)
            task = asyncio.ensure_future(store.pipeline.arun(op, attempt))
            for _ in range(awaits):
                await asyncio.sleep(0)
            assert store.permits() == 1
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert (store.state(), store.permits()) == (HALF_OPEN, 0)
        assert store.changes() == []

    def test_cancelled_while_a_retry_waits(self) -> None:
        """Between two attempts no permit is held."""

        class Clock(VirtualClock):
            async def asleep(self, seconds: float) -> None:
                self.advance(seconds)
                await asyncio.Event().wait()

        retry = Retry(RetrySettings(jitter="none"))
        store = Store(outer=(retry,), clock=Clock(), half_open_calls=2).half_open()

        async def attempt(_op: Operation) -> None:
            raise FileNotFoundError if store.permits() != 1 else OUTAGE

        async def main() -> None:
            op = store.pipeline.operation("get_object", Kind.READ)
            task = asyncio.ensure_future(store.pipeline.arun(op, attempt))
            for _ in range(5):
                await asyncio.sleep(0)
            assert (store.state(), store.permits()) == (OPEN, 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert (store.state(), store.permits()) == (OPEN, 0)

    def test_read_that_is_abandoned_gives_the_permit_back(self) -> None:
        """A body that nobody reads to its end says nothing, and holds nothing (B5)."""
        store = Store().half_open()
        for end in (Body.close, Body.__del__):
            body = _body(store, [b"12", b"34"], 4)
            asyncio.run(body.open())
            asyncio.run(body.read(2))
            assert store.permits() == 1
            end(body)
            assert (store.state(), store.permits()) == (HALF_OPEN, 0)


class _Source:
    """A body of pieces; one that is an error is raised."""

    def __init__(self, pieces: list[bytes | Exception]) -> None:
        self.pieces = pieces

    async def read(self, _amount: int) -> bytes:
        """The next piece."""
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if isinstance(piece, Exception):
            raise piece
        return piece

    def close(self) -> None:
        """Nothing to close."""


def _body(
    store: Store,
    pieces: list[Any],
    size: int,
    *,
    after: Callable[[], object] = lambda: None,
) -> Body:
    async def attempt(_op: Operation, _offset: int) -> Answer:
        after()
        return Answer(_Source([*pieces]), size)

    op = store.pipeline.operation("get_object", Kind.READ)
    return Body(store.pipeline, op, attempt)


class TestAttempts:
    """What is counted is an attempt, its body included, and each one once."""

    def test_bodies_that_break_off_open_a_circuit(self) -> None:
        """An answer that begins well is no success before its body has come (E5)."""
        store = Store()
        for _ in range(5):
            body = _body(store, [b"12", OUTAGE], 4)
            asyncio.run(body.open())
            with pytest.raises(ConnectionResetError):
                asyncio.run(body.read())
        assert store.state() is OPEN

    def test_body_that_was_read_is_one_success(self) -> None:
        """It counts when it has ended, and once."""
        store = Store().half_open()
        body = _body(store, [b"12", b"34"], 4)
        asyncio.run(body.open())
        assert asyncio.run(body.read()) == b"1234"
        assert (store.circuits[Kind.READ].era.successes, store.permits()) == (1, 0)

    def test_retries_are_attempts(self) -> None:
        """Three attempts a call: the second call's second attempt opens it (E7)."""
        store = Store(outer=(Retry(RetrySettings(jitter="none")),))
        sent = []

        def attempt(_op: Operation) -> None:
            sent.append(store.state())
            raise OUTAGE

        for _ in range(3):
            with suppress(ConnectionError):
                op = store.pipeline.operation("get_object", Kind.READ)
                store.pipeline.run(op, attempt)
        assert sent == [CLOSED] * 5
        assert store.state() is OPEN

    def test_attempt_is_counted_once_however_it_was_made(self) -> None:
        """With and without an inner flow, a window holds one entry an attempt."""
        for inner in ((), (Seam(),)):
            store = Store(inner=inner, window_calls=100)
            store.succeed(3)
            store.fail(2)
            store.succeed(1)
            window = store.circuits[Kind.READ].era.window
            assert window is not None
            assert window.counts(0) == (6, 2, 0)

    def test_failure_counts_that_an_outer_policy_kept_from_the_flow(self) -> None:
        """An attempt that has failed has failed, whoever refuses meanwhile."""

        class Moody(Policy):
            name = "moody"

            def around(self, op: Operation) -> Flow:
                raise DeadlineExceeded("too late")
                yield op

            def shortcut(self, op: Operation) -> bool:
                return True

        store = Store(outer=(Moody(),))
        assert store.state() is CLOSED
        store.fail()
        assert store.info().failures == 1

    def test_circuit_that_opens_meanwhile_lets_nothing_through(self) -> None:
        """What was true before another policy waited is asked for again."""

        class Waiting(Policy):
            name = "waiting"

            def around(self, op: Operation) -> Flow:
                store.opened()
                return (yield op)

            def shortcut(self, op: Operation) -> bool:
                return True

        store = Store(outer=(Waiting(),), inner=(Seam(),))
        assert store.state() is CLOSED
        store.refusal()

    def test_cancelled_amid_a_failure_is_cancelled(self) -> None:
        """An attempt that is given up while it handles a reset counts nothing."""
        store = Store()
        for _ in range(10):
            cancelled = asyncio.CancelledError()
            cancelled.__cause__ = OUTAGE
            store.begin().fail(cancelled)
        assert (store.state(), store.info().failures) == (CLOSED, 0)

    def test_plain_success_counts_though_it_began_before_the_failures(self) -> None:
        """Successes between failures start the count again, however they were run."""
        store = Store()
        store.succeed()
        healthy = [store.begin() for _ in range(4)]
        for each in healthy:
            store.fail(4)
            each.end()
            assert (store.state(), store.info().failures) == (CLOSED, 0)

    def test_closed_circuit_starts_no_flow(self) -> None:
        """While all is well an operation costs no generator."""
        store = Store()
        store.succeed()
        started: list[Operation] = []
        around = store.breaker.around

        def noted(op: Operation) -> Flow:
            started.append(op)
            return around(op)

        store.breaker.around = noted  # type: ignore[method-assign]
        store.succeed(3)
        store.succeed(kind=Kind.DELETE)
        assert started == []
        store.fail()
        assert len(started) == 1


class TestTime:
    """Time is the injected clock's, and an open circuit's end is fixed."""

    def test_wall_clock_is_never_read(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An hour's step of the machine's clock moves nothing (E13, B7)."""

        def forbidden() -> float:
            raise AssertionError("the machine's clock was read")

        for name in ("time", "monotonic", "perf_counter", "time_ns"):
            monkeypatch.setattr(time, name, forbidden)
        store = Store(window_seconds=10, minimum_calls=1, slow_seconds=1).half_open()
        store.succeed(2)
        assert store.state() is CLOSED
        monkeypatch.undo()

    def test_stragglers_do_not_keep_it_open(self) -> None:
        """Failures at 59 s of what began before do not start the 60 s anew (E14)."""
        store = Store()
        stragglers = [store.begin() for _ in range(10)]
        store.opened()
        store.clock.advance(59)
        for each in stragglers:
            each.fail(OUTAGE)
        assert store.refusal().retry_after == 1

        store.clock.advance(1)

        store.begin().end()
        assert store.state() is HALF_OPEN

    @pytest.mark.parametrize("outcome", [None, OUTAGE, FileNotFoundError("gone")])
    def test_result_of_before_changes_nothing_half_open(self, outcome: Any) -> None:
        """It is no success, no failure, and gives back no permit it never had (E15)."""
        store = Store()
        store.succeed()
        plain = [store.begin() for _ in range(3)]
        store.fail(1)
        flows = [store.begin() for _ in range(3)]
        store.half_open()
        probe = store.begin()
        for each in (*plain, *flows):
            with suppress(OSError):
                each.end(outcome)
            assert (store.state(), store.permits()) == (HALF_OPEN, 1)
            store.refusal()
        assert store.circuits[Kind.READ].era.successes == 0
        assert store.changes() == []
        probe.end()

    @pytest.mark.parametrize("outcome", [None, OUTAGE])
    def test_result_of_before_changes_nothing_when_closed_again(
        self, outcome: Any
    ) -> None:
        """Nor is it counted in the next closed time (B2)."""
        store = Store()
        stragglers = [store.begin() for _ in range(10)]
        store.half_open()
        late_probe = store.begin()
        store.clock.advance(120)
        store.refusal()
        store.clock.advance(60)
        store.succeed(2)
        store.fail(3)
        for each in (*stragglers, late_probe):
            with suppress(OSError):
                each.end(outcome)
        assert (store.state(), store.info().failures) == (CLOSED, 3)

    def test_reading_changes_nothing(self) -> None:
        """A thousand scrapes of one whose time is up: no transition, no event (E19)."""
        store = Store().opened()
        store.changes()
        store.clock.advance(61)
        era = store.circuits[Kind.READ].era
        for _ in range(1000):
            assert store.info().state is HALF_OPEN
            repr(store.circuits)
        assert store.circuits[Kind.READ].era is era
        assert store.changes() == []
        store.begin().end()
        assert store.changes() == [("open", "half_open")]

    def test_reading_cannot_gate(self) -> None:
        """There is no check apart from the operation, so nobody forgets one (E3)."""
        public = {name for name in dir(Breaker) if not name.startswith("_")}
        own = public - {name for name in dir(Policy) if not name.startswith("_")}
        assert own == {"circuits", "name"}


class TestHalfOpen:
    """A half-open circuit never wedges, and never lets in more than it should."""

    def test_lost_call_opens_it_again(self) -> None:
        """A call that does not end holds it for 120 s at most; then 60 s more (B4)."""
        store = Store().half_open()
        lost = store.begin()
        store.clock.advance(119)
        store.refusal()
        assert store.state() is HALF_OPEN

        store.clock.advance(1)

        assert store.refusal().retry_after == 60
        assert store.changes() == [("half_open", "open")]
        store.clock.advance(60)
        store.succeed()
        lost.end()
        assert store.state() is HALF_OPEN
        store.succeed()
        assert store.state() is CLOSED

    def test_a_call_within_its_own_limit_is_not_lost(self) -> None:
        """Who may take 300 s by `timeout` keeps its permit for them, and its success.

        Then it is over, and the permit with it (B4).
        """
        limit = Timeout(TimeoutSettings(seconds=300, slowest=100))

        async def main(size: int, *, is_late: bool) -> None:
            store = Store(inner=(limit,)).half_open()
            may_end = asyncio.Event()
            op = store.pipeline.operation("get_object", Kind.READ, size=size)
            slow = asyncio.create_task(
                store.pipeline.arun(op, lambda _op: may_end.wait())
            )
            await asyncio.sleep(0)
            store.clock.advance(299 + size / 100)
            store.refusal()
            assert store.state() is HALF_OPEN
            store.clock.advance(1 if is_late else 0)
            may_end.set()
            if is_late:
                store.refusal()
            await slow
            assert store.state() is (OPEN if is_late else HALF_OPEN)
            assert store.info().failures == 5

        for size in (0, 1000):
            for is_late in (False, True):
                asyncio.run(main(size, is_late=is_late))

    def test_quiet_is_no_failure(self) -> None:
        """A half-open circuit that nobody uses for a day admits the next call."""
        store = Store().half_open()
        store.succeed()
        store.clock.advance(86_400)
        store.succeed()
        assert store.state() is CLOSED

    def test_parallel_parts_ride_on_one_permit(self) -> None:
        """All parts of one call are let through, others are not; it counts once."""
        store = Store().half_open()
        call = store.call()
        parts = [store.begin(call=call) for _ in range(8)]
        store.refusal()
        store.refusal(call=store.call())
        for part in parts[:-1]:
            part.end()
            store.refusal()
        assert store.circuits[Kind.READ].era.successes == 0

        parts[-1].end()

        assert store.circuits[Kind.READ].era.successes == 1
        assert store.permits() == 0

    def test_first_part_that_fails_opens_it(self) -> None:
        """At once: the other parts change nothing, those to come are refused."""
        store = Store().half_open()
        call = store.call()
        parts = [store.begin(call=call) for _ in range(8)]
        parts[0].end()
        parts[1].fail(OUTAGE)
        assert store.state() is OPEN
        store.refusal(call=call)
        store.clock.advance(10)
        for part in parts[2:5]:
            part.end()
        for part in parts[5:]:
            part.fail(OUTAGE)
        assert store.info().seconds_left == 50

    def test_call_of_neutral_parts_is_neutral(self) -> None:
        """One success among missing keys counts one; none counts none."""
        store = Store().half_open()
        call = store.call()
        parts = [store.begin(call=call) for _ in range(3)]
        for part in parts:
            part.fail(FileNotFoundError("gone"))
        assert store.circuits[Kind.READ].era.successes == 0
        parts = [store.begin(call=call) for _ in range(3)]
        parts[0].fail(FileNotFoundError("gone"))
        parts[1].end()
        parts[2].cancel()
        assert store.circuits[Kind.READ].era.successes == 1

    def test_long_call_is_judged_as_it_goes_on(self) -> None:
        """A call of many overlapping parts closes it, though some are always on."""
        store = Store().half_open()
        call = store.call()
        parts = [store.begin(call=call)]
        begun = 1
        while store.state() is HALF_OPEN:
            store.refusal()
            parts.append(store.begin(call=call))
            begun += 1
            store.clock.advance(30)
            parts.pop(0).end()
        assert begun == 5
        parts.pop().end()

    def test_more_calls_at_a_time(self) -> None:
        """`half_open_calls` of them try, each with its parts."""
        store = Store(half_open_calls=3, successes=3).half_open()
        calls = [store.call() for _ in range(3)]
        flights = [store.begin(call=call) for call in calls for _ in range(4)]
        store.refusal()
        for flight in flights:
            flight.end()
        assert store.state() is CLOSED

    def test_call_that_goes_on_takes_one_place(self) -> None:
        """Its later parts leave room for another call, and for no third."""
        store = Store(half_open_calls=2, successes=9).half_open()
        call = store.call()
        first, second = (store.begin(call=call) for _ in range(2))
        first.end()
        later = store.begin(call=call)
        assert store.permits() == 2
        other = store.begin(call=store.call())
        store.refusal(call=store.call())
        for part in (second, later, other):
            part.end()
        assert store.circuits[Kind.READ].era.successes == 3

    def test_64_threads_meet_at_a_half_open_circuit(self) -> None:
        """One is let through, 63 are refused, as often as they come (E3)."""
        store = Store(successes=1000).opened()
        threads, rounds = 64, 5
        barrier = threading.Barrier(threads)
        all_refused = threading.Semaphore(0)
        admitted: list[int] = []
        refused: list[int] = []

        def attempt(_op: Operation) -> None:
            for _ in range(threads - 1):
                assert all_refused.acquire(timeout=60)

        def run() -> None:
            for number in range(rounds):
                if barrier.wait() == 0:
                    store.clock.advance(60 if number == 0 else 0)
                barrier.wait()
                op = store.pipeline.operation("get_object", Kind.READ)
                try:
                    store.pipeline.run(op, attempt)
                    admitted.append(number)
                except CircuitOpen:
                    refused.append(number)
                    all_refused.release()

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            workers = [threading.Thread(target=run) for _ in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            sys.setswitchinterval(interval)
        assert sorted(admitted) == [*range(rounds)]
        assert len(refused) == rounds * (threads - 1)
        assert (store.permits(), store.state()) == (0, HALF_OPEN)

    def test_permit_may_come_back_while_another_is_given_out(self) -> None:
        """The collector may end a flow in the midst of an admission: no deadlock."""
        store = Store().half_open()
        abandoned = [store.begin()]

        class Clock(VirtualClock):
            def __call__(self) -> float:
                while abandoned:
                    abandoned.pop().drop()
                return self.now()

        store.circuits[Kind.READ]._clock = Clock(2000.0 - 900)
        store.begin().end()
        assert (store.permits(), store.circuits[Kind.READ].era.successes) == (0, 1)


class TestBackOff:
    """The open time may grow while the service stays away."""

    def test_grows_to_its_cap_and_starts_again_when_closed(self) -> None:
        """60, 120, 240, 300, 300 s; after a recovery 60 s again."""
        store = Store(backoff=2, max_open_seconds=300, failures=1)
        seen = []
        for _ in range(5):
            store.fail()
            seen.append(store.info().seconds_left)
            store.clock.advance(seen[-1] or 0)
        store.succeed(2)
        store.fail()
        assert [*seen, store.info().seconds_left] == [60, 120, 240, 300, 300, 60]

    def test_without_it_all_openings_are_alike(self) -> None:
        """By default each opening is 60 s, and the cap does not matter."""
        store = Store(failures=1, open_seconds=60, max_open_seconds=1)
        for _ in range(3):
            store.fail()
            assert store.info().seconds_left == 60
            store.clock.advance(60)

    def test_outage_of_years_is_no_overflow(self) -> None:
        """However often it grows, it ends at its cap."""
        store = Store(failures=1, backoff=100, max_open_seconds=86_400)
        for _ in range(400):
            store.fail()
            store.clock.advance(store.info().seconds_left or 0)
        store.fail()
        assert store.info().seconds_left == 86_400

    def test_jitter_adds_a_share(self) -> None:
        """A fleet does not come back in step: 60 s and up to a fifth more (B4)."""
        store = Store(jitter=0.2).opened()
        assert store.info().seconds_left == 66

    def test_lost_call_backs_off_too(self) -> None:
        """A half-open time that leads nowhere is an opening like any other (B4)."""
        store = Store(backoff=2).half_open()
        lost = store.begin()
        store.clock.advance(120)
        assert store.refusal().retry_after == 120
        lost.cancel()


def _naive(events: list[tuple[float, bool, bool]], now: float, length: float) -> Any:
    kept = [e for e in events if now // length - e[0] // length < 10]
    return len(kept), sum(e[1] for e in kept), sum(e[2] for e in kept)


class TestWindow:
    """A sliding window judges by rates."""

    @given(
        st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60),
        st.integers(1, 12),
    )
    def test_count_window_is_the_last_so_many(
        self, outcomes: list[tuple[bool, bool]], size: int
    ) -> None:
        """Its counts are those of the last operations, counted by hand (B9)."""
        window = CountWindow(size)
        for end, (failed, slow) in enumerate(outcomes, 1):
            window.add(0, failed=failed, slow=slow)
            last = outcomes[max(0, end - size) : end]
            by_hand = (len(last), sum(o[0] for o in last), sum(o[1] for o in last))
            assert window.counts(0) == by_hand

    @given(
        st.lists(
            st.tuples(st.floats(0, 20, width=32), st.booleans(), st.booleans()),
            max_size=60,
        ),
        st.floats(0.5, 30, width=32),
        st.floats(0, 60, width=32),
    )
    def test_time_window_is_the_last_tenths(
        self, steps: list[tuple[float, bool, bool]], seconds: float, later: float
    ) -> None:
        """Its counts are those of its tenths, counted by hand, and reading is pure."""
        window = TimeWindow(seconds)
        now, events = 0.0, []
        for step, failed, slow in steps:
            now += step
            window.add(now, failed=failed, slow=slow)
            events.append((now, failed, slow))
            assert window.counts(now + later) == _naive(
                events, now + later, seconds / 10
            )
            assert window.counts(now) == _naive(events, now, seconds / 10)

    def test_time_window_is_small(self) -> None:
        """Ten numbers are kept, however many operations there are."""
        window = TimeWindow(10)
        for number in range(3000):
            window.add(number / 100, failed=True, slow=False)
        assert len(window._slices) == 10
        assert window.counts(29.99) == (1000, 1000, 0)

    def test_clock_that_lags_counts_in_the_newest_tenth(self) -> None:
        """Two threads that read the clock in turn lose no operation."""
        window = TimeWindow(10)
        window.add(5.0, failed=True, slow=False)
        window.add(3.0, failed=True, slow=True)
        assert window.counts(5.0) == (2, 2, 1)

    @given(
        st.lists(st.booleans(), max_size=80),
        st.integers(1, 20),
        st.integers(1, 20),
        st.sampled_from([0.1, 0.3, 0.5, 0.7, 1.0]),
    )
    def test_circuit_opens_when_the_rate_says_so(
        self, failures: list[bool], size: int, minimum: int, rate: float
    ) -> None:
        """It opens at the first operation at which the rate is reached (B9)."""
        minimum = min(minimum, size)
        store = Store(window_calls=size, minimum_calls=minimum, failure_rate=rate)
        for end, failed in enumerate(failures, 1):
            store.fail() if failed else store.succeed()
            last = failures[max(0, end - size) : end]
            is_open = len(last) >= minimum and sum(last) / len(last) >= rate
            assert (store.state() is OPEN) is is_open
            if is_open:
                break

    def test_seven_of_a_hundred_are_seven_percent(self) -> None:
        """0.07 times 100 is more than 7 to a machine; the rate is reached still."""
        store = Store(window_calls=100, minimum_calls=100, failure_rate=0.07)
        store.succeed(93)
        store.fail(6)
        assert store.state() is CLOSED
        store.fail()
        assert store.state() is OPEN

    @pytest.mark.parametrize("window", [{"window_calls": 20}, {"window_seconds": 60}])
    def test_four_failures_of_five_open_it(self, window: dict[str, Any]) -> None:
        """FFFFS is no row of five, and still an outage (E16)."""
        store = Store(**window, minimum_calls=20)
        for _ in range(4):
            assert store.state() is CLOSED
            store.fail(4)
            store.succeed()
        assert store.state() is OPEN
        assert store.info().failures == 16

    def test_few_operations_are_not_judged(self) -> None:
        """All of 19 failures below a minimum of 20 do not open it (E16)."""
        store = Store(window_seconds=60)
        store.fail(19)
        assert store.state() is CLOSED
        store.fail()
        assert store.state() is OPEN

    def test_old_failures_fall_out_of_a_time_window(self) -> None:
        """What was longer ago than the window counts no more, and a look says so."""
        store = Store(window_seconds=60, minimum_calls=10)
        store.fail(9)
        assert store.info().failures == 9
        store.clock.advance(60)
        assert store.info().failures == 0
        store.fail(9)
        assert store.state() is CLOSED

    def test_window_starts_empty_when_closed_again(self) -> None:
        """What led to the last opening does not lead to the next."""
        store = Store(window_calls=10, minimum_calls=10).half_open()
        store.succeed(2)
        store.fail(9)
        assert store.state() is CLOSED

    def test_neutral_ends_are_not_in_it(self) -> None:
        """A thousand missing keys do not hide an outage, nor make one."""
        store = Store(window_calls=10, minimum_calls=10)
        store.fail(9)
        store.fail(1000, error=FileNotFoundError("gone"))
        assert (store.state(), store.info().failures) == (CLOSED, 9)
        store.fail()
        assert store.state() is OPEN


class TestSlow:
    """A service that answers late is not well."""

    def slow(self, store: Store, seconds: float, **facts: Any) -> None:
        """Have an operation take so long."""
        flight = store.begin(**facts)
        store.clock.advance(seconds)
        flight.end()

    def test_slow_successes_open_it(self) -> None:
        """Eight of ten operations longer than 3 s are the default rate."""
        store = Store(window_calls=10, minimum_calls=10, slow_seconds=3)
        for seconds in (1, 1, 4, 4, 4, 4, 4, 4, 4):
            self.slow(store, seconds)
        assert store.state() is CLOSED
        self.slow(store, 4)
        assert store.state() is OPEN

    def test_limit_itself_is_not_slow(self) -> None:
        """Only what takes longer is."""
        store = Store(window_calls=1, minimum_calls=1, slow_seconds=3)
        self.slow(store, 3)
        assert store.state() is CLOSED

    def test_big_transfer_may_take_longer(self) -> None:
        """A second more for each megabyte that is sent."""
        store = Store(window_calls=1, minimum_calls=1, slow_seconds=3)
        self.slow(store, 102, size=100_000_000)
        assert store.state() is CLOSED
        self.slow(store, 104, size=100_000_000)
        assert store.state() is OPEN

    @pytest.mark.parametrize(("reading", "state"), [(102, CLOSED), (104, OPEN)])
    def test_big_body_may_take_longer(
        self, reading: float, state: CircuitState
    ) -> None:
        """The same for what is received, though nobody knew its size before."""
        inner = (Timeout(TimeoutSettings(seconds=3600)),)
        window: dict[str, Any] = {"window_calls": 1, "minimum_calls": 1}
        store = Store(inner=inner, **window, slow_seconds=3, slowest=1)
        body = _body(
            store, [b"x" * 100], 100, after=lambda: store.clock.advance(reading)
        )
        asyncio.run(body.open())
        asyncio.run(body.read())
        assert store.state() is state

    def test_slow_reader_is_no_slow_service(self) -> None:
        """The time for which a host thinks about a piece is not the service's."""
        store = Store(window_calls=1, minimum_calls=1, slow_seconds=3)
        body = _body(store, [b"1", b"2"], 2)
        asyncio.run(body.open())
        asyncio.run(body.read(1))
        store.clock.advance(3600)
        asyncio.run(body.read(1))
        assert store.state() is CLOSED

    def test_slow_success_does_not_close(self) -> None:
        """A half-open circuit takes it for a failure."""
        store = Store(window_calls=5, minimum_calls=5, slow_seconds=3).half_open()
        self.slow(store, 4)
        assert store.state() is OPEN

    def test_slow_and_missing_is_neutral(self) -> None:
        """What says nothing says nothing slowly."""
        store = Store(window_calls=1, minimum_calls=1, slow_seconds=3)
        flight = store.begin()
        store.clock.advance(60)
        flight.fail(FileNotFoundError("gone"))
        assert store.state() is CLOSED
        flight = store.half_open().begin()
        store.clock.advance(60)
        flight.fail(FileNotFoundError("gone"))
        assert store.state() is HALF_OPEN


class TestSharing:
    """A circuit is an identity's: all its clients share it, and nobody else's."""

    def test_clients_of_one_identity_share_it(self) -> None:
        """Two requests that make a client each see one breaker (E17)."""
        memory, clock = Memory(), VirtualClock()
        stores = [Store(memory=memory, clock=clock) for _ in range(5)]
        for store in stores:
            store.fail()
        assert [store.state() for store in stores] == [OPEN] * 5

    def test_identities_are_apart(self) -> None:
        """The outage of one storage leaves another's circuit closed (E17)."""
        memory, clock = Memory(), VirtualClock()
        one, other = (Store(memory=memory, clock=clock, identity=name) for name in "ab")
        one.fail(5)
        assert (one.state(), other.state()) == (OPEN, CLOSED)

    def test_settings_are_nobodys_to_change(self) -> None:
        """Two breakers made from one settings object share no changes (E18)."""
        settings = BreakerSettings(failures=2)
        with pytest.raises(ValueError, match="frozen"):
            settings.failures = 1
        assert Breaker(settings).settings.failures == 2

    def test_forked_child_starts_anew(self) -> None:
        """What a parent saw is forgotten, and the locks its threads held are free."""
        store = Store().opened()
        circuit = store.circuits[Kind.READ]
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with circuit._lock:
                held.set()
                done.wait()

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait()
        context = multiprocessing.get_context("fork")
        said = context.SimpleQueue()
        child = context.Process(target=_look, args=(store, circuit, said))
        child.start()
        child.join(30)
        done.set()
        holder.join()
        exitcode = child.exitcode
        child.kill()
        assert exitcode == 0
        assert said.get() == ("open", "closed")
        assert store.state() is OPEN


def _look(store: Store, inherited: BreakerCircuit, said: Any) -> None:
    said.put((str(inherited.info().state), str(store.state())))


class TestListeners:
    """Hooks hear of each transition, and cannot disturb it."""

    def test_all_transitions_are_told_in_order(self) -> None:
        """Each with the connector, its type and the circuit."""
        store = Store().opened()
        store.clock.advance(60)
        store.fail()
        store.clock.advance(60)
        store.succeed(2)
        assert store.events[0] == CircuitChanged(
            "reports", "s3", "download", "closed", "open"
        )
        assert store.changes() == [
            ("closed", "open"),
            ("open", "half_open"),
            ("half_open", "open"),
            ("open", "half_open"),
            ("half_open", "closed"),
        ]

    def test_listener_that_fails_changes_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Neither the outcome nor the state nor a permit; the log has it (B8)."""
        store = Store()

        def fail(_event: object) -> None:
            raise RuntimeError("a bad hook")

        store.emit = fail
        store.opened()
        store.clock.advance(60)
        probe = store.begin().end("content")
        assert probe.result == "content"
        assert (store.state(), store.permits()) == (HALF_OPEN, 0)
        store.succeed()
        assert store.state() is CLOSED
        assert len(caplog.records) == 3

    def test_listener_that_is_interrupted_gives_the_permit_back(self) -> None:
        """Ctrl-C within a hook wedges nothing."""
        store = Store().opened()
        store.clock.advance(60)

        def interrupt(_event: object) -> None:
            raise KeyboardInterrupt

        store.emit = interrupt
        with pytest.raises(KeyboardInterrupt):
            store.begin()
        assert (store.state(), store.permits()) == (HALF_OPEN, 0)

    def test_listeners_are_called_outside_of_locks(self) -> None:
        """Another thread may use the circuit while a listener waits for it (B8)."""
        store = Store()
        seen: list[object] = []

        def look(_event: object) -> None:
            thread = threading.Thread(target=lambda: seen.append(store.state()))
            thread.start()
            thread.join(60)
            seen.append(thread.is_alive())

        store.emit = look
        store.opened()
        assert seen == [OPEN, False]


BAD_SETTINGS: dict[str, dict[str, Any]] = {
    "failures: input should be greater": {"failures": 0},
    "open_seconds: input should be greater": {"open_seconds": -1},
    "open_seconds: input should be less": {"open_seconds": 1e9},
    "open_seconds: input should be a finite": {"open_seconds": float("nan")},
    "half_open_calls: input should be greater": {"half_open_calls": 0},
    "half_open_seconds: input should be greater": {"half_open_seconds": 0},
    "half_open_seconds: input should be a finite": {"half_open_seconds": float("inf")},
    "successes: input should be greater": {"successes": 0},
    "backoff: input should be greater": {"backoff": 0.5},
    "jitter: input should be less": {"jitter": 2},
    "failure_rate: input should be less": {"window_calls": 100, "failure_rate": 50},
    "failure_rate: input should be greater": {"window_calls": 100, "failure_rate": 0},
    "window_calls: input should be less": {"window_calls": 10**9},
    "set window_calls or window_seconds, not both": {
        "window_calls": 100,
        "window_seconds": 60,
    },
    "failure_rate is of a window": {"failure_rate": 0.5},
    "slow_seconds is of a window": {"slow_seconds": 3},
    "never holds the 20 of minimum_calls": {"window_calls": 10},
    "max_open_seconds": {"open_seconds": 1000, "backoff": 2},
    "failure_threshold": {"failure_threshold": 5},
}


class TestSettings:
    """Numbers that cannot be meant are refused, and say why."""

    @pytest.mark.parametrize("problem", BAD_SETTINGS)
    def test_absurd_numbers_are_refused(self, problem: str) -> None:
        """At the resolve, with the policy, the connector and the key."""
        connector = {"type": "memory", "breaker": BAD_SETTINGS[problem]}
        kit = ConnectorKit({"connectors": {"it": connector}})
        with pytest.raises(ConfigError, match="Policy 'breaker' of connector") as it:
            kit.resolve("it")
        assert problem in str(it.value)

    def test_a_window_may_override_a_count(self) -> None:
        """`failures` of all connectors does not stand in the way of a window."""
        settings = BreakerSettings(failures=3, window_calls=50)
        store = Store(**settings.model_dump(exclude_unset=True))
        store.fail(19)
        assert store.state() is CLOSED


def test_open_circuit_sends_nothing(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """On the wire: five failures, five requests, then none; uploads go on."""
    with FaultProxy(rclone_s3.endpoint_url) as proxy:
        settings = {
            "endpoint_url": proxy.url,
            "key": rclone_s3.key,
            "secret": rclone_s3.secret,
            "region_name": "us-east-1",
        }
        connector = {"type": "minio", "settings": settings, "policies": ["breaker"]}
        with ConnectorKit({"connectors": {"it": connector}}) as kit:
            fs = kit.resolve("it").fs
            path = f"{rclone_bucket}/key"
            fs.pipe_file(path, b"content")
            proxy.inject(Status(500), times=5, when="get_object")
            for _ in range(5):
                with pytest.raises(OSError, match="Injected"):
                    fs.cat_file(path)
            before = proxy.count("get_object")
            with pytest.raises(CircuitOpen, match="download circuit is open"):
                fs.cat_file(path)
            assert proxy.count("get_object") == before == 5
            fs.pipe_file(path, b"more")
            kit.circuits.reset("it", "download")
            assert fs.cat_file(path) == b"more"
