"""Retry: one more attempt after what may pass, in time, and never too many."""

from __future__ import annotations

import math
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from connectorkit import DeadlineExceeded, Fault, Policy, Refused
from connectorkit.events import OperationRetried, RetryRefused
from connectorkit.scope import Memory
from connectorkit_deadline import Deadline
from connectorkit_retry import Budget, Retry
from stacks import WAYS, Service, Stack, Way, failure

if TYPE_CHECKING:
    from connectorkit import Operation
    from connectorkit.policy import Flow

both_ways = pytest.mark.parametrize("way", WAYS)

OUTAGES = sorted(fault for fault in Fault if fault.is_outage)
PASSING = [fault for fault in OUTAGES if fault is not Fault.CORRUPT]
ANSWERS = sorted(
    fault for fault in Fault if not (fault.is_outage or fault is Fault.EXPIRED)
)
UNLIMITED = {"budget_ratio": None, "budget_burst": None}


def retry(**settings: Any) -> Retry:
    """Return a retry without a budget, unless one is given."""
    return Retry(Retry.Settings(**{**UNLIMITED, **settings}))


class TestAttempts:
    """As many as are configured, and no more."""

    @given(attempts=st.integers(1, 8), fault=st.sampled_from(PASSING))
    @both_ways
    def test_an_outage_is_met_as_often_as_is_configured(
        self, way: Way, fault: Fault, attempts: int
    ) -> None:
        """Requests sent are attempts configured, and a sleep lies between two of them.

        The last one is followed by none.
        """
        stack, service = Stack(retry(attempts=attempts)), Service(failure(fault))
        stack.outcome(service, way=way)

        assert service.count == attempts
        assert len(stack.clock.slept) == attempts - 1

    @pytest.mark.parametrize("fault", ANSWERS)
    @both_ways
    def test_what_the_service_answered_is_not_tried_again(
        self, way: Way, fault: Fault
    ) -> None:
        """Not found, denied, a condition, a refusal and the unknown come once."""
        stack, service = Stack(retry()), Service(failure(fault))
        stack.outcome(service, way=way)

        assert service.count == 1
        assert stack.clock.slept == stack.events == []

    @pytest.mark.parametrize("fault", [Fault.EXPIRED, Fault.CORRUPT])
    @both_ways
    def test_what_can_be_renewed_is_tried_once_more(
        self, way: Way, fault: Fault
    ) -> None:
        """Expired credentials and wrong bytes come twice, however many attempts."""
        stack, service = Stack(retry(attempts=9)), Service(failure(fault))
        stack.outcome(service, way=way)

        assert service.count == 2

    def test_wrong_bytes_after_another_failure_are_final(self) -> None:
        """The one more attempt of theirs is the second, not one for each."""
        service = Service(failure(Fault.TRANSIENT), failure(Fault.CORRUPT), "content")
        outcome = Stack(retry(attempts=9)).outcome(service)

        assert outcome.verdict.fault is Fault.CORRUPT
        assert service.count == 2

    @both_ways
    def test_the_first_success_ends_it(self, way: Way) -> None:
        """Its result is the operation's."""
        service = Service(failure(Fault.TRANSIENT), failure(Fault.TIMEOUT), "content")

        assert Stack(retry()).run(service, way=way) == "content"
        assert service.count == 3

    @both_ways
    def test_of_two_retries_the_inner_has_done_its_part(self, way: Way) -> None:
        """What one gave up is not tried again by another around it: 3, not 9 (E11)."""
        inner, outer = Stack(retry()), Stack(retry())
        service = Service(lambda: failure(Fault.TRANSIENT))
        outcome = outer.outcome(Service(lambda: inner.outcome(service)), way=way)

        assert service.count == 3
        assert outer.clock.slept == []
        assert len(outcome.__notes__) == 1

    @pytest.mark.parametrize("attempts", [2, 3])
    def test_what_must_not_be_done_twice_is_not(self, attempts: int) -> None:
        """Unless the service cannot have acted on it."""
        stack = Stack(retry(attempts=attempts))
        for fault in OUTAGES:
            unknown = Service(failure(fault, is_sent=True))
            outcome = stack.outcome(unknown, stack.op(is_repeatable=False))
            assert unknown.count == 1
            assert "must not act twice" in outcome.__notes__[0]

        unsent = Service(failure(Fault.TRANSIENT, is_sent=False))
        stack.outcome(unsent, stack.op(is_repeatable=False))
        assert unsent.count == attempts

    def test_what_was_sent_at_last_is_not_repeated(self) -> None:
        """A refused connection may be tried again, the lost reply that follows not."""
        service = Service(
            failure(Fault.TRANSIENT, is_sent=False), failure(Fault.TRANSIENT), "twice"
        )
        stack = Stack(retry(attempts=5))
        stack.outcome(service, stack.op(is_repeatable=False))

        assert service.count == 2


class TestDelays:
    """How long it waits: jittered, bounded, and as the service asks."""

    def test_without_jitter_they_double_up_to_the_most(self) -> None:
        """1, 2, 4 … seconds, and never more than `max_delay`."""
        policy = retry(attempts=8, jitter="none", max_delay=20)
        stack = Stack(policy)
        stack.outcome(Service(failure(Fault.TRANSIENT)))

        assert stack.clock.slept == [1, 2, 4, 8, 16, 20, 20]

    def test_a_delay_lies_between_nothing_and_its_most(self) -> None:
        """Of 10,000 draws none is below 0 or above the cap, and they are spread (E9).

        A thousand clients that failed together come back apart: no twentieth of the
        time sees three times its share.
        """
        dice = Random(11)  # noqa: S311 - the same ones each time
        stack = Stack(retry(attempts=6, max_delay=10), random=dice.random)
        for _ in range(2000):
            stack.outcome(Service(failure(Fault.TRANSIENT)))
        slept = stack.clock.slept
        caps = [1, 2, 4, 8, 10]

        assert len(slept) == 10_000
        for i, cap in enumerate(caps):
            its = slept[i::5]
            assert all(0 <= delay <= cap for delay in its)
            bins = Counter(int(delay / cap * 20) for delay in its)
            assert len(bins) == 20
            assert max(bins.values()) < 3 * len(its) / 20

    @given(
        base=st.floats(0, 3600),
        most=st.floats(0, 3600),
        wait=st.none() | st.floats(0, 100),
        dice=st.floats(0, 1),
        attempts=st.integers(2, 100),
    )
    def test_a_delay_obeys_every_bound(
        self, base: float, most: float, wait: float | None, dice: float, attempts: int
    ) -> None:
        """Retry-After is the least, `max_delay` the most of the jittered part."""
        policy = retry(
            attempts=attempts, base_delay=base, max_delay=most, max_retry_after=100
        )
        stack = Stack(policy, random=lambda: dice)
        service = Service(failure(Fault.THROTTLED, retry_after=wait))
        stack.outcome(service)

        assert service.count == attempts
        assert all(delay <= max(most, wait or 0) for delay in stack.clock.slept)
        if wait:
            assert min(stack.clock.slept) >= wait

    @both_ways
    def test_retry_after_is_heeded(self, way: Way) -> None:
        """A service that says 7 seconds is left alone for 7, whatever the dice say."""
        stack = Stack(retry(), random=lambda: 0.0)
        stack.run(Service(failure(Fault.THROTTLED, retry_after=7), "content"), way=way)

        assert stack.clock.slept == [7]

    def test_retry_after_does_not_shorten_a_wait(self) -> None:
        """It is the least; a delay that is longer anyway stays."""
        stack = Stack(retry(jitter="none"))
        stack.outcome(Service(failure(Fault.THROTTLED, retry_after=1.5)))

        assert stack.clock.slept == [1.5, 2]

    def test_nobody_waits_for_ever(self) -> None:
        """A service that asks for more than `max_retry_after` is not asked again."""
        service = Service(failure(Fault.THROTTLED, retry_after=61))
        stack = Stack(retry())
        outcome = stack.outcome(service)

        assert service.count == 1
        assert stack.clock.slept == []
        assert "longer wait than is allowed" in outcome.__notes__[0]

    @both_ways
    def test_the_first_hang_up_is_tried_again_at_once(self, way: Way) -> None:
        """A connection that was kept too long says nothing; the next one may."""
        service = Service(failure(Fault.TRANSIENT, is_hangup=True))
        stack = Stack(retry(jitter="none"))
        stack.outcome(service, way=way)

        assert service.count == 3
        assert stack.clock.slept == [2]

    @both_ways
    def test_without_time_for_it_there_is_no_delay(self, way: Way) -> None:
        """The service's own error is raised, and says why it was the last."""
        deadline = Deadline(Deadline.Settings(seconds=3))
        stack, error = Stack(deadline, retry(jitter="none")), failure(Fault.TIMEOUT)

        assert stack.outcome(Service(error), way=way) is error
        assert stack.clock.slept == [1]
        assert "2 attempts in 1.0 s" in error.__notes__[0]
        assert "no time left" in error.__notes__[0]

    @given(left=st.floats(0.001, 10), dice=st.floats(0, 1))
    @both_ways
    def test_no_sleep_ends_after_the_deadline(
        self, way: Way, left: float, dice: float
    ) -> None:
        """If there is no time for it, the last error is raised without it.

        One that ends with it, to a rounding, is followed by no attempt.
        """
        deadline = Deadline(Deadline.Settings(seconds=left))
        stack = Stack(deadline, retry(attempts=9), random=lambda: dice)
        began = stack.clock()
        error = failure(Fault.TRANSIENT)
        outcome = stack.outcome(Service(error), way=way)

        assert outcome is error or isinstance(outcome, DeadlineExceeded)
        assert stack.clock() <= began + left


class TestTheBudget:
    """An outage must not multiply the traffic."""

    def test_an_outage_adds_a_fifth_and_ten(self) -> None:
        """Of 100 failing operations in 10 s, 30 attempts are retries."""
        stack = Stack(Retry(Retry.Settings(attempts=10, base_delay=0)))
        service = Service(lambda: failure(Fault.TRANSIENT))
        for _ in range(100):
            stack.outcome(service)

        assert service.count == 100 + 20 + 10

    def test_it_says_that_it_refused(self) -> None:
        """The error has a note, and hooks hear of it."""
        stack = Stack(Retry(Retry.Settings(budget_ratio=0, budget_burst=0)))
        outcome = stack.outcome(Service(failure(Fault.TRANSIENT, "InternalError")))

        assert "too many operations" in outcome.__notes__[0]
        assert stack.events == [RetryRefused("reports", "get_object", "budget")]

    def test_it_is_one_for_all_clients_of_an_identity(self) -> None:
        """Two connectors of one storage share it; those of another do not."""
        memory, service = Memory(), Service(lambda: failure(Fault.TRANSIENT))
        settings = Retry.Settings(
            attempts=6, base_delay=0, budget_ratio=0, budget_burst=5
        )
        stacks = [
            Stack(Retry(settings), memory=memory, identity=identity)
            for identity in ("one", "one", "another")
        ]
        counts = []
        for stack in stacks:
            before = service.count
            stack.outcome(service)
            counts.append(service.count - before)

        assert counts == [6, 1, 6]

    def test_no_budget_is_no_limit(self) -> None:
        """With None for both, attempts alone count; for one alone it is a mistake."""
        stack, service = Stack(retry(attempts=100)), Service(failure(Fault.TRANSIENT))
        stack.outcome(service)
        assert service.count == 100

        with pytest.raises(ValidationError, match="None together"):
            Retry.Settings(budget_ratio=None)

    # An operation, or a retry, of just before the window.
    @example(steps=[(0.0, False), (10.5, True)], ratio=1.0, burst=0)
    @example(steps=[(0.0, True), (6.0, True), (3.9, True)], ratio=0.0, burst=1)
    @given(
        steps=st.lists(
            st.tuples(
                st.sampled_from([0.0, 0.1, 0.5, 1.0, 1.5, 4.0, 6.0, 9.5, 10.0, 11.0])
                | st.floats(0, 3),
                st.booleans(),
            ),
            max_size=100,
        ),
        ratio=st.sampled_from([0.0, 0.2, 0.5, 1.0]),
        burst=st.integers(0, 4),
    )
    def test_no_window_has_more_than_its_share(
        self, steps: list[tuple[float, bool]], ratio: float, burst: int
    ) -> None:
        """Against a list of all that happened: any 10 s, whenever they begin."""
        budget, now = Budget(ratio, burst, 10), 0.0
        operations: list[float] = []
        retries: list[float] = []
        for pause, is_retry in steps:
            now += pause
            if not is_retry:
                budget.deposit(now)
                operations.append(now)
            elif budget.withdraw(now):
                retries.append(now)
                share = sum(now - 10 < each <= now for each in operations)
                used = sum(now - 10 < each <= now for each in retries)
                assert used <= ratio * share + burst

    @given(pauses=st.lists(st.floats(0, 5), min_size=1, max_size=60))
    def test_it_does_not_starve(self, pauses: list[float]) -> None:
        """After a window and its slice of silence the whole burst is there again."""
        budget, now = Budget(0, 3, 10), 0.0
        for pause in pauses:
            now += pause
            budget.withdraw(now)
        now += 11.01

        assert [budget.withdraw(now) for _ in range(4)] == [True, True, True, False]

    def test_sixty_four_threads_take_no_more_than_there_is(self) -> None:
        """Withdrawals are counted one by one, whoever makes them."""
        budget, barrier = Budget(0.2, 10, 10), threading.Barrier(64)

        def spend(_: int) -> int:
            barrier.wait()
            granted = 0
            for _ in range(50):
                budget.deposit(1.0)
                granted += budget.withdraw(1.0)
            return granted

        with ThreadPoolExecutor(64) as threads:
            granted = sum(threads.map(spend, range(64)))

        assert granted <= 0.2 * 64 * 50 + 10

    def test_an_operation_is_counted_once(self) -> None:
        """By its shortcut or by its flow: here every second takes the other way."""

        class Choosy(Policy):
            name = "choosy"
            turn = False

            def shortcut(self, op: Operation) -> bool:
                self.turn = not self.turn
                return self.turn

            def around(self, op: Operation) -> Flow:
                return (yield op)

        policy = Retry(Retry.Settings(attempts=2, budget_ratio=1, budget_burst=0))
        stack = Stack(policy, Choosy())
        for _ in range(10):
            stack.run(Service("content"))
        budget = stack.scope.remembered(policy, lambda: None)
        assert isinstance(budget, Budget)

        assert sum(budget.withdraw(stack.clock()) for _ in range(20)) == 10


class TestWhatIsTold:
    """The error that is raised, its note, and what hooks hear."""

    @both_ways
    def test_the_last_error_itself_is_raised(self, way: Way) -> None:
        """Not a wrapper: what the client raised at the last attempt."""
        errors = [failure(Fault.TRANSIENT) for _ in range(3)]
        stack = Stack(retry(jitter="none"))

        assert stack.outcome(Service(*errors), way=way) is errors[-1]
        (note,) = errors[-1].__notes__
        assert note == (
            "connectorkit: 3 attempts in 3.0 s. Connector 'reports': get_object of "
            "'b/k'. No further one: all attempts were made."
        )
        assert not hasattr(errors[0], "__notes__")

    @both_ways
    def test_an_error_that_is_raised_again_is_tried_again(self, way: Way) -> None:
        """That of a shared future, say: it was given up at another time."""
        stack = Stack(retry(budget_ratio=None, budget_burst=None))
        service = Service(failure(Fault.TRANSIENT))
        for calls in range(1, 4):
            stack.outcome(service, way=way)
            assert service.count == 3 * calls

    @both_ways
    @pytest.mark.parametrize("is_first_plain", [True, False])
    def test_what_a_connector_beneath_gave_up_is_left(
        self, is_first_plain: bool, way: Way
    ) -> None:
        """Of a connector on top of a connector one alone tries again."""

        class Busy(Policy):
            name = "busy"

            def around(self, op: Operation) -> Flow:
                return (yield op)

            def shortcut(self, op: Operation) -> bool:
                return is_first_plain

        beneath = Stack(retry())
        service = Service(failure(Fault.TRANSIENT))
        Stack(retry(), Busy()).outcome(Service(lambda: beneath.run(service)), way=way)
        assert service.count == 3

    def test_a_first_answer_needs_no_note(self) -> None:
        """Who asks for what is not there hears that, and nothing of attempts."""
        error = failure(Fault.NOT_FOUND)
        Stack(retry()).outcome(Service(error))

        assert not hasattr(error, "__notes__")

    def test_an_answer_after_a_retry_is_noted(self) -> None:
        """It tells why it took so long."""
        outcome = Stack(retry()).outcome(
            Service(failure(Fault.TRANSIENT), failure(Fault.NOT_FOUND))
        )

        assert "2 attempts" in outcome.__notes__[0]
        assert "would meet the same again" in outcome.__notes__[0]

    def test_hooks_hear_of_each_retry(self) -> None:
        """With the number of the attempt to come, and the service's word."""
        stack = Stack(retry())
        stack.outcome(
            Service(failure(Fault.THROTTLED, "SlowDown"), failure(Fault.TIMEOUT), "c")
        )

        assert stack.events == [
            OperationRetried("reports", "get_object", 2, "SlowDown"),
            OperationRetried("reports", "get_object", 3, "timeout"),
        ]

    @both_ways
    def test_a_refusal_from_within_ends_it(self, way: Way) -> None:
        """An open circuit is not tried again; attempts so far, and why, are told."""

        class Opening(Policy):
            name = "opening"
            seen = 0

            def around(self, op: Operation) -> Flow:
                self.seen += 1
                if self.seen == 2:
                    raise Refused("open")
                return (yield op)

        error = failure(Fault.TRANSIENT)
        service = Service(error)
        outcome = Stack(retry(attempts=9), Opening()).outcome(service, way=way)

        assert type(outcome) is Refused
        assert "1 attempt in" in outcome.__notes__[0]
        assert "it was not let through" in outcome.__notes__[0]
        assert outcome.__cause__ is error
        assert service.count == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"attempts": 0},
        {"attempts": 101},
        {"base_delay": -1},
        {"base_delay": math.nan},
        {"max_delay": math.inf},
        {"max_retry_after": -1},
        {"budget_ratio": -0.1},
        {"budget_ratio": math.nan},
        {"budget_burst": -1},
        {"budget_window": 0},
        {"jitter": "some"},
        {"attempst": 3},
    ],
)
def test_absurd_numbers_are_refused(wrong: dict[str, Any]) -> None:
    """Negative, endless and misspelt settings are errors."""
    with pytest.raises(ValidationError):
        Retry.Settings(**wrong)


def test_the_numbers_are_those_of_the_source() -> None:
    """3 attempts, from 1 s doubled, 30 s at most, as the system that we come from."""
    its = Retry.Settings()

    assert (its.attempts, its.base_delay, its.max_delay) == (3, 1.0, 30.0)
    assert its.jitter == "full"
    assert (its.budget_ratio, its.budget_burst, its.budget_window) == (0.2, 10, 10)
