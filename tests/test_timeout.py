"""Timeout and deadline: the most that an attempt, and a whole call, may take."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectorkit import AttemptTimedOut, Call, DeadlineExceeded, Fault, Policy, Refused
from connectorkit_deadline import Deadline
from connectorkit_retry import Retry
from connectorkit_timeout import Timeout
from stacks import WAYS, Service, Stack, Way, failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit import Operation
    from connectorkit.policy import Flow

both_ways = pytest.mark.parametrize("way", WAYS)
# So that a test which hangs its attempt is over at once.
SOON = 0.001


def timeout(seconds: float = 60, slowest: float = 1e6) -> Timeout:
    """Return a timeout."""
    return Timeout(Timeout.Settings(seconds=seconds, slowest=slowest))


def deadline(seconds: float) -> Deadline:
    """Return a deadline."""
    return Deadline(Deadline.Settings(seconds=seconds))


def retry(**settings: Any) -> Retry:
    """Return a retry that waits as long as it may."""
    return Retry(Retry.Settings(**{"jitter": "none", **settings}))


class Hanging:
    """A service that never answers a coroutine.

    Attributes:
        count: How many requests came.
        dropped: How many were cancelled.
        asked: Set when one came.
    """

    def __init__(self) -> None:
        self.count = self.dropped = 0
        self.asked = asyncio.Event()

    async def __call__(self, _op: Operation) -> Any:
        self.count += 1
        self.asked.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.dropped += 1
            raise


class Flowing(Policy):
    """Takes no shortcut, so that flows are at work."""

    name = "flowing"

    def around(self, op: Operation) -> Flow:
        return (yield op)


def outcome(stack: Stack, attempt: Callable[[Operation], Any]) -> Any:
    """Return what comes of an operation on a loop."""

    async def main() -> Any:
        try:
            return await stack.pipeline.arun(stack.op(), attempt)
        except Exception as error:  # noqa: BLE001 - returned
            return error

    return asyncio.run(main())


@pytest.mark.parametrize("more", [(), (Flowing(),)], ids=["shortcut", "flow"])
class TestAnAttemptOnALoop:
    """It is cancelled when its time is up."""

    def test_it_is_cancelled_and_says_so(self, more: tuple[Policy, ...]) -> None:
        """The attempt is dropped, and the error names the operation."""
        service = Hanging()
        error = outcome(Stack(timeout(SOON), *more), service)

        assert isinstance(error, AttemptTimedOut)
        assert str(error).startswith("Connector 'reports': get_object of 'b/k'")
        assert service.dropped == service.count == 1

    def test_it_is_tried_again(self, more: tuple[Policy, ...]) -> None:
        """An attempt that timed out is an outage; each has its own time."""
        service = Hanging()
        error = outcome(
            Stack(retry(attempts=3, base_delay=0), timeout(SOON), *more), service
        )

        assert isinstance(error, AttemptTimedOut)
        assert service.dropped == service.count == 3

    def test_the_deadlines_own_cut_is_no_timeout(
        self, more: tuple[Policy, ...]
    ) -> None:
        """It says that the whole call's time is up, and nothing is tried again."""
        service = Hanging()
        error = outcome(
            Stack(deadline(SOON), retry(base_delay=0), timeout(60), *more), service
        )

        assert isinstance(error, DeadlineExceeded)
        assert isinstance(error, Refused)
        assert service.dropped == service.count == 1

    def test_a_clients_own_timeout_is_kept(self, more: tuple[Policy, ...]) -> None:
        """The time was not up: the error is the client's, with its text."""
        error = TimeoutError("read timed out on 10.0.0.1")

        async def attempt(_op: Operation) -> Any:
            raise error

        assert outcome(Stack(timeout(60), *more), attempt) is error

    def test_a_cancelled_caller_is_not_told_of_a_timeout(
        self, more: tuple[Policy, ...]
    ) -> None:
        """Who cancels gets his CancelledError, at whatever time."""
        service = Hanging()
        stack = Stack(deadline(60), retry(), timeout(60), *more)

        async def main() -> None:
            task = asyncio.create_task(stack.pipeline.arun(stack.op(), service))
            await service.asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        assert service.dropped == service.count == 1

    def test_a_late_success_is_a_success(self, more: tuple[Policy, ...]) -> None:
        """An attempt that has its answer when it is cancelled keeps it."""

        async def attempt(_op: Operation) -> str:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                return "content"
            raise AssertionError

        assert outcome(Stack(timeout(SOON), *more), attempt) == "content"


class TestTheLimitOfAnAttempt:
    """How long it is, by the operation that the attempt gets."""

    @given(
        size=st.integers(0, 10**12),
        seconds=st.floats(0.001, 86_400),
        slowest=st.floats(1, 1e12),
    )
    @pytest.mark.parametrize("more", [(), (Flowing(),)], ids=["shortcut", "flow"])
    def test_a_body_has_time_to_come(
        self, more: tuple[Policy, ...], size: int, seconds: float, slowest: float
    ) -> None:
        """A second more for each so many bytes."""
        stack = Stack(timeout(seconds, slowest), *more)
        left: list[float] = []

        def attempt(op: Operation) -> None:
            left.append(op.left())

        stack.pipeline.run(stack.op(size=size), attempt)

        assert left == [pytest.approx(seconds + size / slowest, abs=1e-6)]

    @pytest.mark.parametrize("more", [(), (Flowing(),)], ids=["shortcut", "flow"])
    def test_a_body_does_not_outlast_the_call(self, more: tuple[Policy, ...]) -> None:
        """Nor one whose size only the answer tells."""
        stack = Stack(deadline(100), timeout(10, 1000), *more)
        left: list[float] = []

        def attempt(op: Operation) -> None:
            left.append(op.left())
            op.expect(20_000)
            left.append(op.left())
            op.expect(1)
            left.append(op.left())
            op.expect(1_000_000)
            left.append(op.left())

        stack.pipeline.run(stack.op(), attempt)

        assert left == [10, 30, 30, 100]

    @pytest.mark.parametrize("more", [(), (Flowing(),)], ids=["shortcut", "flow"])
    def test_the_deadline_is_the_last_limit(self, more: tuple[Policy, ...]) -> None:
        """If it comes before the attempt's, it is the one; a size buys no time."""
        stack = Stack(deadline(5), timeout(10, 1000), *more)
        left: list[float] = []

        def attempt(op: Operation) -> None:
            op.expect(1_000_000)
            left.append(op.left())
            assert isinstance(op.overrun(), DeadlineExceeded)

        stack.pipeline.run(stack.op(), attempt)

        assert left == [5]

    @both_ways
    def test_each_attempt_begins_anew(self, way: Way) -> None:
        """The second one has as long as the first."""
        stack = Stack(retry(), timeout(10))
        left: list[float] = []

        def answer() -> Any:
            left.append(service.seen[-1].left())
            stack.clock.advance(4)
            return failure(Fault.TRANSIENT)

        service = Service(answer)
        stack.outcome(service, way=way)

        assert left == [10, 10, 10]


class TestTheDeadline:
    """It bounds a call: attempts, sleeps and all its operations."""

    @both_ways
    def test_it_goes_by_the_call(self, way: Way) -> None:
        """The second operation of a call has what the first one left."""
        stack = Stack(deadline(10))
        service = Service("content", clock=stack.clock, takes=6)
        with Call(stack.scope):
            stack.run(service, way=way)
            left = service.seen[-1].left()
            stack.run(service, way=way)
            with pytest.raises(DeadlineExceeded, match="whole call is up"):
                stack.run(service, way=way)

        assert left == 4
        assert service.count == 2
        assert stack.run(service, way=way) == "content"

    @given(
        seconds=st.floats(0.01, 20),
        takes=st.floats(0, 5),
        base=st.floats(0, 5),
        after=st.none() | st.floats(0, 5),
    )
    @both_ways
    def test_nothing_begins_after_it(
        self, way: Way, seconds: float, takes: float, base: float, after: float | None
    ) -> None:
        """No attempt begins and no sleep ends when it is past, whatever is tried."""
        stack = Stack(deadline(seconds), retry(attempts=20, base_delay=base))
        began = stack.clock()
        starts: list[float] = []

        def answer() -> Any:
            starts.append(stack.clock())
            stack.clock.advance(takes)
            return failure(Fault.THROTTLED, retry_after=after)

        stack.outcome(Service(answer), way=way)

        assert all(start < began + seconds for start in starts)
        assert stack.clock() <= max(began + seconds, starts[-1] + takes)

    def test_the_services_error_is_not_lost_to_it(self) -> None:
        """If the attempt failed, that is raised, though the time is up meanwhile."""
        stack = Stack(deadline(1), retry())
        error = failure(Fault.TRANSIENT)

        service = Service(error, clock=stack.clock, takes=2)

        assert stack.outcome(service) is error

    def test_waiting_for_a_reader_does_not_count(self) -> None:
        """Seconds for which an operation was idle are no one's."""
        stack = Stack(deadline(10))

        def attempt(op: Operation) -> float:
            stack.clock.advance(100)
            op.origin.idle += 100
            return op.left()

        assert stack.pipeline.run(stack.op(), attempt) == 10


@pytest.mark.parametrize("seconds", [0, -1, math.nan, math.inf, 1e9, "soon"])
def test_absurd_times_are_refused(seconds: Any) -> None:
    """Negative, endless and unreadable ones are errors."""
    for settings in (Timeout.Settings, Deadline.Settings):
        with pytest.raises(ValidationError):
            settings(seconds=seconds)


@pytest.mark.parametrize("slowest", [0, -1, math.nan, math.inf])
def test_absurd_speeds_are_refused(slowest: float) -> None:
    """As absurd times are."""
    with pytest.raises(ValidationError):
        Timeout.Settings(slowest=slowest)
