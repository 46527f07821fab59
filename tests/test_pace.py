"""Pace: nothing until a service throttles, then what it can take, first come first."""

from __future__ import annotations

import asyncio
import heapq
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from botocore.retries.throttling import CubicCalculator
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectorkit import (
    CircuitOpen,
    DeadlineExceeded,
    Fault,
    Operation,
    Policy,
    Refused,
)
from connectorkit.events import PaceChanged
from connectorkit.scope import Memory
from connectorkit.testing import VirtualClock
from connectorkit_deadline import Deadline
from connectorkit_pace import Meter, Pace, Pacer, TooFast
from connectorkit_retry import Retry
from stacks import WAYS, Failed, Service, Stack, Way, failure

if TYPE_CHECKING:
    from connectorkit.policy import Flow

both_ways = pytest.mark.parametrize("way", WAYS)


def slow_down() -> Failed:
    """Return what a service says that is asked too fast."""
    return failure(Fault.THROTTLED, "SlowDown", is_sent=False)


def pacer_of(stack: Stack) -> Pacer:
    """Return the pacer of a stack's identity."""
    pace = next(p for p in stack.pipeline.policies if isinstance(p, Pace))
    return stack.scope.remembered(pace, pace._pacer)


def throttled(*policies: Policy, rate: float = 10, **seams: Any) -> Stack:
    """Return a stack that has sent so many requests a second and was throttled."""
    stack = Stack(*(policies or (Pace(),)), **seams)
    for _ in range(int(rate * 2)):
        stack.run(Service("content"))
        stack.clock.advance(1 / rate)
    stack.outcome(Service(slow_down()))
    return stack


class TestBefore:
    """A service that does not throttle is not held back."""

    @both_ways
    def test_nobody_waits(self, way: Way) -> None:
        """However many requests there are at once."""
        stack = Stack(Pace())
        for _ in range(200):
            stack.run(Service("content"), way=way)

        assert stack.clock.slept == stack.events == []
        assert pacer_of(stack).rate is None

    @both_ways
    @pytest.mark.parametrize("fault", sorted({*Fault} - {Fault.THROTTLED}))
    def test_no_other_fault_begins_a_limit(self, way: Way, fault: Fault) -> None:
        """An outage is the breaker's business."""
        stack = Stack(Pace())
        stack.outcome(Service(failure(fault)), way=way)

        assert pacer_of(stack).rate is None

    def test_it_takes_no_lock(self) -> None:
        """A shortcut is taken however many threads hold what they like."""
        stack = Stack(Pace())
        stack.run(Service("content"))
        pacer = pacer_of(stack)
        with pacer._lock, pacer.meter._lock:
            for _ in range(10):
                assert stack.run(Service("content")) == "content"


class TestTheLimit:
    """What a throttle does to the rate, and the rate to those who come after."""

    @both_ways
    def test_a_throttle_cuts_what_was_sent(self, way: Way) -> None:
        """To 0.7 of it, and hooks hear of the new rate; the error is the caller's."""
        stack, error = Stack(Pace()), slow_down()
        for _ in range(40):
            stack.run(Service("content"), way=way)
            stack.clock.advance(0.1)

        assert stack.outcome(Service(error), way=way) is error
        (event,) = stack.events
        assert isinstance(event, PaceChanged)
        assert event.connector == "reports"
        assert event.rate == pytest.approx(7, rel=0.2)

    @both_ways
    def test_those_who_come_after_wait_their_turn(self, way: Way) -> None:
        """A turn comes each 1/rate seconds, for who was not throttled as well."""
        stack = throttled()
        rate = pacer_of(stack).rate
        assert rate is not None
        before = stack.clock()
        stack.run(Service("content"), way=way)

        assert stack.clock() - before == pytest.approx(1 / rate, abs=0.01)

    def test_a_burst_after_a_pause_is_a_burst(self) -> None:
        """It is what is sent now that counts, not the silence before it."""
        stack = Stack(Pace())
        stack.run(Service("content"))
        stack.clock.advance(3600)
        for _ in range(50):
            stack.run(Service("content"))
        stack.outcome(Service(slow_down()))

        assert pacer_of(stack).rate == pytest.approx(0.7 * 51 / 0.5)

    def test_what_was_under_way_cuts_once(self) -> None:
        """Of 64 requests that are throttled together one makes the rate fall.

        One cut each would leave the least rate of a service that gave 200 a second.
        """
        pacer = Pacer(0.5, 10)
        for _ in range(64):
            pacer.meter.record(1000.0)

        assert pacer.throttled(1000.0, 1000.1)
        rate = pacer.rate
        assert not any(pacer.throttled(1000.0, 1000.1 + i / 100) for i in range(63))
        assert pacer.rate == rate
        assert pacer.throttled(1000.2, 1001.0)
        assert pacer.rate is not None
        assert rate is not None
        assert pacer.rate < rate

    def test_it_is_one_for_all_clients_of_an_identity(self) -> None:
        """Two connectors of one storage share the turns; another has its own."""
        memory, clock = Memory(), VirtualClock(1000.0)
        one, same, other = (
            Stack(Pace(), memory=memory, clock=clock, identity=identity)
            for identity in ("one", "one", "other")
        )
        one.outcome(Service(slow_down()))
        other.run(Service("content"))
        assert clock.slept == []

        same.run(Service("content"))
        assert clock.slept != []
        assert pacer_of(same) is pacer_of(one)

    @pytest.mark.parametrize("least", [0.01, 0.5, 20.0])
    def test_it_never_falls_below_the_least(self, least: float) -> None:
        """However often a service throttles, something goes on."""
        stack = Stack(Pace(Pace.Settings(least=least)))
        for _ in range(50):
            stack.outcome(Service(slow_down()))
            assert (pacer_of(stack).rate or 0) >= least
        assert pacer_of(stack).rate == least

    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.05, 0.3, 0.5, 2.0, 9.0]),
                st.sampled_from([None, None, None, *Fault]),
            ),
            max_size=60,
        )
    )
    def test_it_is_at_most_twice_what_is_sent(
        self, steps: list[tuple[float, Fault | None]]
    ) -> None:
        """When there is an answer; and at least the least.

        A fall follows a throttle and nothing else.
        """
        stack = Stack(Pace())
        pacer = pacer_of(stack)
        for pause, fault in steps:
            before = len(stack.events)
            stack.outcome(Service(failure(fault) if fault else "content"))
            sent = pacer.meter.rate(stack.clock())
            assert pacer.rate is None or pacer.rate >= 0.5
            if fault is None and pacer.rate is not None:
                assert pacer.rate <= max(0.5, 2 * sent)
            for event in stack.events[before:]:
                assert isinstance(event, PaceChanged)
                assert event.rate is None or fault is Fault.THROTTLED
            stack.clock.advance(pause)


class TestTheCurve:
    """How the rate recovers."""

    @given(sent=st.integers(1, 5000), seconds=st.floats(0, 60))
    def test_it_is_that_of_the_sdks(self, sent: int, seconds: float) -> None:
        """Botocore's own calculator says the same of any rate at any time."""
        theirs = CubicCalculator(starting_max_rate=0, start_time=0)
        pacer = Pacer(0.0, 10)
        for _ in range(sent):
            pacer.meter.record(100.0)
        pacer.throttled(100.0, 100.1)
        cut = theirs.error_received(sent / 0.5, 100.1)

        assert pacer.rate == pytest.approx(cut)
        assert pacer._curve(100.1 + seconds) == pytest.approx(
            theirs.success_received(100.1 + seconds)
        )

    def test_steady_traffic_is_measured(self) -> None:
        """In half seconds, smoothed; who stops is soon known to have stopped."""
        meter, now = Meter(), 50.0
        for _ in range(200):
            meter.record(now)
            now += 0.05
        assert meter.rate(now) == pytest.approx(20, rel=0.05)
        assert meter.rate(now + 60) < 5

    def test_answers_raise_it_and_it_ends(self) -> None:
        """Then nobody waits any more, and hooks hear of it."""
        stack = throttled(rate=20)
        began = stack.clock()
        rates = []
        while (rate := pacer_of(stack).rate) is not None:
            rates.append(rate)
            stack.run(Service("content"))
            stack.clock.advance(0.05)

        assert rates[0] == pytest.approx(14, rel=0.2)
        assert max(rates) > 20
        assert stack.events[-1] == PaceChanged("reports", None)
        assert 10 <= stack.clock() - began < 20
        slept = len(stack.clock.slept)
        stack.run(Service("content"))
        assert len(stack.clock.slept) == slept

    def test_an_answer_that_says_no_is_an_answer(self) -> None:
        """A service that finds nothing is not throttling."""
        stack = throttled(rate=20)
        while pacer_of(stack).rate is not None:
            stack.outcome(Service(failure(Fault.NOT_FOUND)))
            stack.clock.advance(0.05)

        assert stack.events[-1] == PaceChanged("reports", None)

    @pytest.mark.parametrize("fault", [Fault.TRANSIENT, Fault.TIMEOUT, Fault.LOCAL])
    def test_an_outage_does_not_raise_it(self, fault: Fault) -> None:
        """Who does not answer has not said that it can take more."""
        stack = throttled(rate=20)
        before = pacer_of(stack).rate
        for _ in range(20):
            stack.outcome(Service(failure(fault)))

        assert pacer_of(stack).rate == before

    def test_who_waits_looks_each_second(self) -> None:
        """The rate may rise, or the limit end, long before a turn was to come."""
        stack = Stack(Pace())
        for _ in range(20):
            stack.outcome(Service(slow_down()))
        assert pacer_of(stack).rate == 0.5
        before = len(stack.clock.slept)
        stack.run(Service("content"))

        assert stack.clock.slept[before:] == [1, 1]

    def test_silence_ends_it_too(self) -> None:
        """The first one after an hour does not wait."""
        stack = throttled()
        stack.clock.advance(3600)
        stack.run(Service("content"))

        assert stack.clock.slept == []
        assert stack.events[-1] == PaceChanged("reports", None)

    def test_it_does_not_end_before_the_calm(self) -> None:
        """A throttle now and then keeps it up, at whatever rate."""
        stack = throttled(Pace(Pace.Settings(calm=60)), rate=20)
        began = stack.clock()
        while pacer_of(stack).rate is not None:
            stack.run(Service("content"))
            stack.clock.advance(0.5)

        assert stack.clock() - began >= 60

    def test_a_service_gets_what_it_can_take(self) -> None:
        """Ten times too much traffic: throttles become few, and little goes to waste.

        Without it nine of ten requests would be throttled.
        """

        def share(*policies: Policy) -> tuple[float, float]:
            stack, tokens, last = Stack(*policies), 0.0, 1000.0
            good = bad = 0
            while stack.clock() < 1060:
                now = stack.clock()
                tokens, last = min(10, tokens + (now - last) * 10), now
                is_good = tokens >= 1
                tokens -= is_good
                stack.outcome(Service("content" if is_good else slow_down()))
                good, bad = good + is_good, bad + (not is_good)
                stack.clock.advance(0.01)
            return good / 600, bad / (good + bad)

        used, wasted = share(Pace())
        assert used > 0.8
        assert wasted < 0.2
        assert share()[1] > 0.85


class TestTurns:
    """Who comes first is served first, and who leaves holds up nobody."""

    @given(
        arrivals=st.lists(st.floats(0, 20), max_size=40).map(sorted),
        patience=st.lists(st.sampled_from([math.inf, math.inf, 0.5, 3]), min_size=40),
        rate=st.sampled_from([0.5, 1.0, 2.5, 10.0]),
    )
    def test_they_come_no_sooner_than_the_tokens(
        self, arrivals: list[float], patience: list[float], rate: float
    ) -> None:
        """Beside a bucket that knows the future: by turns, none early, none forgotten.

        At most a look later than it could have been, if one ahead has left.
        """
        pacer = Pacer(rate, 10)
        pacer.throttled(-1.0, 0.0)
        assert pacer.rate == rate
        passed: list[tuple[int, float]] = []
        events = [(at, i, None) for i, at in enumerate(arrivals)]
        queue: list[tuple[float, int, Any]] = [*events]
        heapq.heapify(queue)
        while queue:
            now, i, turn = heapq.heappop(queue)
            if turn is None:
                turn = pacer.queue(now)
            elif now >= arrivals[i] + patience[i]:
                pacer.leave(turn)
                continue
            seconds = pacer.wait(turn, now)
            if seconds == 0:
                pacer.leave(turn)
                passed.append((i, now))
                # Who passes those ahead, who look later, leaves a token for each.
                ahead = [it for it in pacer._waiting if it.number < turn.number]
                assert pacer._tokens >= len(ahead) - 1e-6
            else:
                looks = min(now + min(seconds, 1), arrivals[i] + patience[i])
                heapq.heappush(queue, (looks, i, turn))

        assert pacer._waiting == []
        stayed = {i for i, _ in passed}
        assert stayed >= {i for i in range(len(arrivals)) if patience[i] == math.inf}
        tokens, last = 0.0, 0.0
        for i, at in passed:
            tokens = min(max(rate, 1), tokens + (at - last) * rate) - 1
            last = at
            assert tokens > -1e-6
            assert at <= arrivals[i] + (len(arrivals) + 1) / rate + 1

    def test_those_behind_move_up(self) -> None:
        """Ten who leave take their places with them."""
        pacer = Pacer(1, 10)
        pacer.throttled(-1.0, 0.0)
        turns = [pacer.queue(0.0) for _ in range(12)]
        assert [pacer.wait(turn, 0.0) for turn in turns] == [*range(1, 13)]
        for turn in turns[1:11]:
            pacer.leave(turn)
            pacer.leave(turn)

        assert pacer.wait(turns[11], 0.0) == 2
        assert pacer.wait(turns[0], 1.0) == 0
        assert pacer.wait(turns[11], 2.0) == 0

    def test_a_loop_that_is_held_up_holds_up_nobody(self) -> None:
        """Who does not look when due loses the claim, and has it back when he does."""
        pacer = Pacer(0.5, 10)
        pacer.throttled(-1.0, 0.0)
        frozen, awake = pacer.queue(0.0), pacer.queue(0.0)
        pacer.wait(frozen, 0.0)
        for second in range(4):
            seconds = pacer.wait(awake, float(second))
        assert seconds == 0

        behind = pacer.queue(3.5)
        assert pacer.wait(frozen, 3.5) < pacer.wait(behind, 3.5)

    def test_a_cancelled_wait_leaves_no_place(self) -> None:
        """Nor a token taken, nor a flow open."""
        stack = throttled(rate=2)

        async def hangs(_seconds: float) -> None:
            await asyncio.Event().wait()

        stack.clock.asleep = hangs  # type: ignore[method-assign, assignment]
        service = Service("content")

        async def main() -> None:
            tasks = [
                asyncio.create_task(stack.pipeline.arun(stack.op(), service.on_loop))
                for _ in range(5)
            ]
            await asyncio.sleep(0)
            assert len(pacer_of(stack)._waiting) == 5
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())

        assert service.count == 0
        assert pacer_of(stack)._waiting == []
        assert pacer_of(stack)._tokens == 0

    @both_ways
    def test_what_was_not_sent_costs_nothing(self, way: Way) -> None:
        """An open circuit within gives the turn back, and is no traffic."""

        class Opening(Policy):
            name = "opening"
            is_open = False

            def around(self, op: Operation) -> Flow:
                if self.is_open:
                    raise CircuitOpen("open")
                return (yield op)

        opening = Opening()
        stack = throttled(Pace(), opening)
        opening.is_open = True
        pacer = pacer_of(stack)
        stack.outcome(Service("content"), way=way)
        now, sent = stack.clock(), pacer.meter._slice[0]
        for _ in range(20):
            stack.outcome(Service("content"), way=way)

        assert stack.clock() == now
        assert pacer.meter._slice[0] == sent

    def test_sixteen_threads_all_have_their_turn(self) -> None:
        """None is lost and none hangs, whatever the answers are."""
        stack = throttled(rate=100)
        barrier = threading.Barrier(16)

        def work(number: int) -> int:
            barrier.wait()
            got = 0
            for i in range(25):
                is_slow = (number + i) % 7 == 0
                service = Service(slow_down() if is_slow else "content")
                stack.outcome(service)
                got += service.count
            return got

        with ThreadPoolExecutor(16) as threads:
            counts = [*threads.map(work, range(16))]

        assert counts == [25] * 16
        assert pacer_of(stack)._waiting == []


class TestInItsPlace:
    """Inside of retry and deadline."""

    @both_ways
    def test_each_attempt_takes_a_turn(self, way: Way) -> None:
        """A retry after a throttle waits for its own delay, and for the rate."""
        stack = throttled(Retry(Retry.Settings(base_delay=0)), Pace(), rate=1)
        stack.clock.advance(1)
        service = Service(slow_down(), slow_down(), "content")
        before = stack.clock()

        assert stack.run(service, way=way) == "content"
        # 0.7, and half a request a second, the least.
        assert stack.clock() - before > 2

    @both_ways
    def test_who_would_wait_too_long_is_told_at_once(self, way: Way) -> None:
        """With an error of the deadline's family, and without any wait."""
        deadline = Deadline(Deadline.Settings(seconds=0.5))
        stack = throttled(deadline, Pace(), rate=1)
        slept, service = stack.clock.slept, Service("content")

        with pytest.raises(TooFast, match=r"turn would come in 0\.\d s") as caught:
            stack.run(service, way=way)
        assert isinstance(caught.value, DeadlineExceeded)
        assert isinstance(caught.value, Refused)
        assert (caught.value.policy, caught.value.reason) == ("pace", "throttled")
        assert stack.clock.slept == slept
        assert service.count == 0
        assert pacer_of(stack)._waiting == []

    @given(seconds=st.floats(0.1, 30), ahead=st.integers(0, 20))
    def test_no_wait_ends_after_the_deadline(self, seconds: float, ahead: int) -> None:
        """Whoever waits before, and whatever the rate."""
        stack = throttled(Deadline(Deadline.Settings(seconds=seconds)), Pace(), rate=3)
        pacer = pacer_of(stack)
        for _ in range(ahead):
            pacer.queue(math.inf)
        before = stack.clock()
        stack.outcome(Service("content"))

        assert stack.clock() <= before + seconds

    def test_a_throttle_that_is_known_late_is_no_news(self) -> None:
        """A request that was sent before the rate fell does not cut it again."""
        stack = Stack(Pace())
        pacer = pacer_of(stack)

        def answer() -> Any:
            stack.clock.advance(0.1)
            stack.outcome(Service(slow_down()))
            return slow_down()

        stack.outcome(Service(answer))
        rates = [event.rate for event in stack.events if isinstance(event, PaceChanged)]

        assert rates == [pacer.rate]


@pytest.mark.parametrize(
    "wrong",
    [
        {"least": 0},
        {"least": -1},
        {"least": math.nan},
        {"least": math.inf},
        {"least": 1e9},
        {"calm": -1},
        {"calm": math.inf},
        {"lest": 1},
    ],
)
def test_absurd_numbers_are_refused(wrong: dict[str, Any]) -> None:
    """Negative, endless and misspelt settings are errors."""
    with pytest.raises(ValidationError):
        Pace.Settings(**wrong)


def test_the_numbers_are_those_of_the_sdks() -> None:
    """Half a request a second is the least of their adaptive mode."""
    assert Pace.Settings().least == 0.5
