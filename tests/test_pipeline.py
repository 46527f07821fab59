"""The pipeline: one flow for both worlds, and no outcome is lost to a policy."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    CircuitOpen,
    ConfigError,
    ConnectorKitError,
    DeadlineExceeded,
    Fault,
    Io,
    Kind,
    Operation,
    Pipeline,
    PluginFailed,
    Policy,
    Refused,
    Sleep,
)
from connectorkit.policy import check_order, is_filesystem, wrap
from connectorkit_breaker import Breaker
from connectorkit_deadline import Deadline
from connectorkit_pace import Pace
from connectorkit_retry import Retry
from connectorkit_timeout import Timeout
from stacks import WAYS, Failed, Service, Stack, Way, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit.policy import Flow

T = TypeVar("T")
both_ways = pytest.mark.parametrize("way", WAYS)


class Noted(Policy):
    """Writes down what it sees."""

    name = "noted"

    def __init__(self, log: list[str], name: str = "noted") -> None:
        super().__init__()
        self.log = log
        self.called = name

    def around(self, op: Operation) -> Flow:
        self.log.append(f"{self.called} begins")
        try:
            result = yield op
        except Exception as error:
            self.log.append(f"{self.called} sees {type(error).__name__}")
            raise
        except GeneratorExit:
            self.log.append(f"{self.called} is closed")
            raise
        self.log.append(f"{self.called} sees {result}")
        return result


class Told(Policy):
    """Hears how operations end."""

    name = "told"

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[BaseException | None] = []

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.ends.append(error)


def flowing(around: Callable[[Operation], Flow], **members: Any) -> Policy:
    """Return a policy with this flow."""

    def method(_self: Policy, op: Operation) -> Flow:
        return (yield from around(op))

    made = type("Made", (Policy,), {"name": "made", "around": method, **members})
    policy: Policy = made()
    return policy


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, "connectorkit.pipeline")


class TestTheFold:
    """Policies wrap each other in their order."""

    @both_ways
    def test_the_first_policy_is_outermost(self, way: Way) -> None:
        """The first begins first and sees the result last."""
        log: list[str] = []
        stack = Stack(Noted(log, "outer"), Noted(log, "inner"))

        assert stack.run(Service("content"), way=way) == "content"
        assert log == [
            "outer begins",
            "inner begins",
            "inner sees content",
            "outer sees content",
        ]

    @both_ways
    def test_an_error_passes_every_policy_from_within(self, way: Way) -> None:
        """It is raised at each yield, and at last to the caller, itself."""
        log: list[str] = []
        stack = Stack(Noted(log, "outer"), Noted(log, "inner"))
        error = failure(Fault.NOT_FOUND)

        with pytest.raises(Failed) as caught:
            stack.run(Service(error), way=way)
        assert caught.value is error
        assert log[2:] == ["inner sees Failed", "outer sees Failed"]

    @both_ways
    def test_without_policies_an_operation_is_its_attempt(self, way: Way) -> None:
        """A pipeline of none makes one attempt and gives what comes of it."""
        stack, error = Stack(), failure(Fault.TRANSIENT)

        assert stack.pipeline.is_bare
        assert stack.run(Service("content"), way=way) == "content"
        assert stack.outcome(Service(error), way=way) is error

    @both_ways
    def test_attempts_are_counted(self, way: Way) -> None:
        """An operation knows how many attempts were begun, as does each attempt."""
        stack = Stack(Retry())
        op = stack.op()
        stack.run(Service(failure(Fault.TRANSIENT), "content"), op, way)

        assert op.attempts == 2

    @both_ways
    def test_a_policy_does_io_its_own_way(self, way: Way) -> None:
        """An `Io` is done by the function for threads, or the one for loops."""
        got: list[str] = []

        async def on_loop() -> str:
            await asyncio.sleep(0)
            return "async"

        def around(op: Operation) -> Flow:
            got.append((yield Io(sync=lambda: "sync", async_=on_loop)))
            return (yield op)

        Stack(flowing(around)).run(Service("content"), way=way)

        assert got == [way]

    @both_ways
    def test_an_error_of_a_policys_io_is_raised_at_its_yield(self, way: Way) -> None:
        """A flow can catch what its own I/O raises, and go on."""
        got: list[str] = []

        def fails() -> str:
            raise ConnectionError("redis is down")

        async def on_loop() -> str:
            return fails()

        def around(op: Operation) -> Flow:
            try:
                yield Io(sync=fails, async_=on_loop)
            except ConnectionError as error:
                got.append(str(error))
            return (yield op)

        assert Stack(flowing(around)).run(Service("content"), way=way) == "content"
        assert got == ["redis is down"]

    @both_ways
    def test_nobody_sleeps_past_the_end_of_the_operation(self, way: Way) -> None:
        """A sleep that ends after the time is up is refused at once."""

        def around(op: Operation) -> Flow:
            yield Sleep(11)
            return (yield op)

        stack = Stack(Deadline(Deadline.Settings(seconds=10)), flowing(around))
        service = Service("content")

        with pytest.raises(DeadlineExceeded):
            stack.run(service, way=way)
        assert stack.clock.slept == []
        assert service.count == 0

    @both_ways
    def test_no_attempt_begins_when_the_time_is_up(self, way: Way) -> None:
        """A policy that lets the time pass ends the operation, unsent and uncounted."""
        stack = Stack(Deadline(Deadline.Settings(seconds=10)), Sleepless(10))
        service, op = Service("content"), stack.op()

        with pytest.raises(DeadlineExceeded):
            stack.run(service, op, way)
        assert service.count == op.attempts == 0

    @given(seconds=st.sampled_from([-1.0, float("nan"), -0.001]))
    @both_ways
    def test_a_sleep_is_some_seconds_long(self, way: Way, seconds: float) -> None:
        """What is no duration is a mistake of the policy, the same in both worlds."""

        def around(op: Operation) -> Flow:
            yield Sleep(seconds)
            return (yield op)

        with pytest.raises(PluginFailed, match="sleeps for"):
            Stack(flowing(around)).run(Service("content"), way=way)


class Sleepless(Policy):
    """Lets time pass and calls it by no name."""

    name = "sleepless"

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def around(self, op: Operation) -> Flow:
        op.scope.clock.sleep(self.seconds)
        return (yield op)


class TestMistakes:
    """A policy that fails takes no result and no error with it."""

    @both_ways
    def test_before_the_attempt_the_policy_is_named(self, way: Way) -> None:
        """What fails before the operation was tried ends it, and says who it was."""

        def around(op: Operation) -> Flow:
            int("x")
            return (yield op)

        with pytest.raises(PluginFailed, match=r"'made' failed before .* ValueErr"):
            Stack(flowing(around)).run(Service("content"), way=way)

    @both_ways
    def test_after_a_result_the_result_stands(
        self, way: Way, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The mistake is logged."""

        def around(op: Operation) -> Flow:
            yield op
            int("x")

        assert Stack(flowing(around)).run(Service("content"), way=way) == "content"
        assert "outcome stands" in caplog.text

    @both_ways
    def test_after_an_error_the_error_stands(
        self, way: Way, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The mistake is logged, and what the service said is raised."""

        def around(op: Operation) -> Flow:
            try:
                yield op
            except Failed:
                int("x")

        error = failure(Fault.NOT_FOUND)

        assert Stack(flowing(around)).outcome(Service(error), way=way) is error
        assert "outcome stands" in caplog.text

    @both_ways
    def test_what_a_flow_returns_is_not_looked_at(self, way: Way) -> None:
        """A flow that returns nothing, or something else, changes no result."""

        def around(op: Operation) -> Flow:
            yield op
            return "something else"

        assert Stack(flowing(around)).run(Service("content"), way=way) == "content"

    @both_ways
    def test_an_error_cannot_be_swallowed(self, way: Way) -> None:
        """A flow that ends as if nothing had happened changes no error."""

        def around(op: Operation) -> Flow:
            try:
                yield op
            except Failed:
                return "nothing happened"

        error = failure(Fault.NOT_FOUND)

        assert Stack(flowing(around)).outcome(Service(error), way=way) is error

    @both_ways
    def test_an_error_may_be_replaced_on_purpose(self, way: Way) -> None:
        """One that is raised `from` the operation's own passes, and so does ours."""

        def explains(op: Operation) -> Flow:
            try:
                yield op
            except Failed as error:
                raise LookupError("in plain words") from error

        def refuses(op: Operation) -> Flow:
            try:
                yield op
            except Failed:
                raise Refused("no more") from None

        error = failure(Fault.NOT_FOUND)
        explained = Stack(flowing(explains)).outcome(Service(error), way=way)

        assert type(explained) is LookupError
        assert explained.__cause__ is error
        refused = Stack(flowing(refuses)).outcome(Service(error), way=way)
        assert type(refused) is Refused

    @both_ways
    def test_a_flow_that_never_yields_is_named(self, way: Way) -> None:
        """It has not run the operation, so there is no outcome: that is an error."""

        def around(op: Operation) -> Flow:
            if op is None:
                yield op

        with pytest.raises(PluginFailed, match="'made' ended without running"):
            Stack(flowing(around)).run(Service("content"), way=way)

    @pytest.mark.parametrize("junk", [None, 7, "op", object(), Sleep, Operation])
    @both_ways
    def test_a_flow_that_yields_junk_is_named(self, way: Way, junk: Any) -> None:
        """What is no operation, sleep or I/O is raised at its yield."""

        def around(op: Operation) -> Flow:
            yield junk
            return (yield op)

        with pytest.raises(PluginFailed, match="its flow yields"):
            Stack(flowing(around)).run(Service("content"), way=way)

    @both_ways
    def test_junk_after_the_result_changes_nothing(self, way: Way) -> None:
        """The result stands."""

        def around(op: Operation) -> Flow:
            yield op
            yield "junk"  # type: ignore[misc]

        assert Stack(flowing(around)).run(Service("content"), way=way) == "content"

    @both_ways
    def test_who_hears_the_end_cannot_change_it(
        self, way: Way, caplog: pytest.LogCaptureFixture
    ) -> None:
        """An observer that fails is logged, and the next one is told all the same."""

        def fails(_self: Policy, op: Operation, error: BaseException | None) -> None:
            raise ValueError(op, error)

        told = Told()
        stack = Stack(flowing(passing, ended=fails), told)

        assert stack.run(Service("content"), way=way) == "content"
        assert told.ends == [None]
        assert "failed when" in caplog.text

    @both_ways
    def test_a_shortcut_that_fails_is_named(self, way: Way) -> None:
        """Nothing was tried yet: the operation ends, and the error says by whom."""

        def fails(_self: Policy, _op: Operation) -> bool:
            raise ValueError("oops")

        stack, service = Stack(flowing(passing, shortcut=fails)), Service("content")

        with pytest.raises(PluginFailed, match=r"'made' failed before .* oops"):
            stack.run(service, way=way)
        assert service.count == 0

    @both_ways
    def test_a_flow_that_does_not_close_is_logged(
        self, way: Way, caplog: pytest.LogCaptureFixture
    ) -> None:
        """One that ignores its GeneratorExit, or fails at it, does no harm."""

        def ignores(op: Operation) -> Flow:
            try:
                yield op
            except GeneratorExit:
                yield op

        def fails(op: Operation) -> Flow:
            try:
                yield op
            except GeneratorExit:
                raise ValueError("oops") from None

        log: list[str] = []
        stack = Stack(flowing(ignores), flowing(fails), Noted(log))

        with pytest.raises(KeyboardInterrupt):
            stack.run(Service(KeyboardInterrupt()), way=way)
        assert log == ["noted begins", "noted is closed"]
        assert caplog.text.count("when its flow was closed") == 2

    def test_what_is_no_generator_is_refused_at_once(self) -> None:
        """A policy whose `around` returns, or awaits, cannot wrap: its name is said."""

        class Returning(Policy):
            name = "returning"

            def around(self, op: Operation) -> Flow:
                return iter([op])  # type: ignore[return-value]

        class Awaiting(Policy):
            name = "awaiting"

            async def around(self, op: Operation) -> Any:  # type: ignore[override]
                return op

        for policy in (Returning(), Awaiting()):
            with pytest.raises(PluginFailed, match=policy.name):
                Stack(policy)

    @both_ways
    def test_a_classifier_that_fails_loses_no_error(self, way: Way) -> None:
        """Nobody can say what the error means, so it is raised as it came."""

        def fails(_error: BaseException) -> Any:
            raise ZeroDivisionError

        error = OSError("the service's own")
        stack = Stack(Deadline(), Retry(), Pace(), Timeout(), classify=fails)

        assert stack.outcome(Service(error), way=way) is error


def passing(op: Operation) -> Flow:
    """Pass an operation on."""
    return (yield op)


class TestStopIteration:
    """An attempt may raise what generators use for their own end."""

    def test_it_is_the_attempts_own_error(self) -> None:
        """It passes every policy and reaches the caller as it was raised."""
        log: list[str] = []
        error = StopIteration("the attempt's")

        with pytest.raises(StopIteration) as caught:
            Stack(Noted(log), Retry()).run(Service(error))
        assert caught.value is error
        assert log[-1].startswith("noted sees")

    def test_it_needs_no_flow(self) -> None:
        """Nor is it lost where policies take the shortcut."""
        error = StopIteration("the attempt's")

        with pytest.raises(StopIteration) as caught:
            Stack(Retry()).run(Service(error))
        assert caught.value is error


class TestItsEnd:
    """Flows are closed, and observers told, however an operation ends."""

    @both_ways
    def test_observers_hear_of_success_and_failure(self, way: Way) -> None:
        """None is success; an error is the one that the caller gets."""
        told, error = Told(), failure(Fault.NOT_FOUND)
        stack = Stack(Retry(), told)
        stack.run(Service("content"), way=way)
        stack.outcome(Service(error), way=way)

        assert told.ends == [None, error]

    @pytest.mark.parametrize("where", ["attempt", "sleep", "io"])
    def test_a_cancelled_operation_closes_its_flows(self, where: str) -> None:
        """Wherever it is awaited, each flow is closed once and observers are told."""
        log: list[str] = []
        told = Told()
        stack = Stack(Noted(log, "outer"), Noted(log, "inner"), told)
        begun = asyncio.Event()

        async def hangs(*_: object) -> Any:
            begun.set()
            await asyncio.Event().wait()

        def around(op: Operation) -> Flow:
            if where == "sleep":
                yield Sleep(1)
            if where == "io":
                yield Io(sync=lambda: None, async_=hangs)
            return (yield op)

        stack.pipeline = Pipeline(
            [*stack.pipeline.policies, flowing(around), told], stack.scope
        )
        stack.clock.asleep = hangs  # type: ignore[method-assign, assignment]

        async def main() -> None:
            task = asyncio.create_task(stack.pipeline.arun(stack.op(), hangs))
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())

        assert log == [
            "outer begins",
            "inner begins",
            "inner is closed",
            "outer is closed",
        ]
        assert [type(end) for end in told.ends] == [asyncio.CancelledError]

    def test_an_interrupt_closes_flows_of_a_thread(self) -> None:
        """Ctrl-C in an attempt is neither an error nor a success of the service."""
        log: list[str] = []
        told = Told()

        with pytest.raises(KeyboardInterrupt):
            Stack(Noted(log), told).run(Service(KeyboardInterrupt()))
        assert log == ["noted begins", "noted is closed"]
        assert [type(end) for end in told.ends] == [KeyboardInterrupt]

    @pytest.mark.parametrize("error", [ConnectionResetError, CircuitOpen])
    @pytest.mark.parametrize(
        "policies",
        [
            (),
            (Retry,),
            (Deadline, Retry, Pace, Timeout),
            (Deadline, Retry, Pace, Timeout, lambda: Noted([])),
            (Retry, lambda: flowing(passing, ended=lambda *_: None)),
        ],
    )
    @both_ways
    def test_nothing_is_kept_of_an_error(
        self,
        way: Way,
        policies: tuple[Callable[[], Policy], ...],
        error: type[Exception],
    ) -> None:
        """No cycle holds an operation that failed: memory is free without a collector.

        An error's traceback holds frames, and a body may be hundreds of megabytes.
        """

        def refusing(op: Operation) -> Flow:
            raise CircuitOpen("open")
            yield op

        def attempt(_op: Operation) -> str:
            raise ConnectionResetError

        async def on_loop(_op: Operation) -> str:
            raise ConnectionResetError

        last = [flowing(refusing)] if error is CircuitOpen else []
        pipeline = Stack(*(make() for make in policies), *last).pipeline
        left: list[weakref.ref[Operation]] = []

        def run() -> None:
            op = pipeline.operation("put_object", Kind.WRITE)
            left.append(weakref.ref(op))
            with suppress(error):
                pipeline.run(op, attempt)

        async def arun() -> None:
            op = pipeline.operation("put_object", Kind.WRITE)
            left.append(weakref.ref(op))
            with suppress(error):
                await pipeline.arun(op, on_loop)

        gc.collect()
        gc.disable()
        try:
            asyncio.run(arun()) if way == "async" else run()
            assert [each() for each in left] == [None]
        finally:
            gc.enable()


def handling(error: Exception, do: Callable[[], T]) -> T:
    """Do something in an `except` block."""
    try:
        raise error
    except type(error):
        return do()


class TestACallerThatIsHandlingAnError:
    """Its error has nothing to do with those of the operation that it makes."""

    @both_ways
    def test_its_error_classifies_none_of_ours(self, way: Way) -> None:
        """An append after a refused connection elsewhere is not sent twice."""
        service = Service(lambda: OSError("nobody knows"), "again")
        stack = Stack(Retry())

        outcome = handling(
            ConnectionRefusedError("of another service"),
            lambda: stack.outcome(service, stack.op(is_repeatable=False), way),
        )
        assert isinstance(outcome, OSError)
        assert service.count == 1

    @both_ways
    def test_what_was_behind_an_error_is_kept(self, way: Way) -> None:
        """The chain that a client left in an error reaches policies and the caller."""

        def fails() -> None:
            handling(ConnectionResetError("reset by peer"), fails_in_turn)

        def fails_in_turn() -> None:
            raise RuntimeError("the client's")

        service = Service(fails, "content")
        stack = Stack(Noted([]), Retry())

        elses = FileNotFoundError("of another service")
        got = handling(elses, lambda: stack.run(service, way=way))
        last = handling(elses, lambda: stack.outcome(Service(fails), way=way))

        assert got == "content"
        assert isinstance(last.__cause__, ConnectionResetError)

    @both_ways
    def test_a_refusal_is_a_refusal(self, way: Way) -> None:
        """It is not retried, whatever the caller's error would mean."""
        refused = Refused("not now")

        def around(op: Operation) -> Flow:
            raise refused
            yield op

        stack = Stack(Retry(), flowing(around), classify=lambda _: THROTTLE)

        outcome = handling(
            failure(Fault.THROTTLED), lambda: stack.outcome(Service("content"), way=way)
        )
        assert outcome is refused
        assert stack.clock.slept == []


THROTTLE = failure(Fault.THROTTLED).verdict


# Random stacks

ENDS = st.sampled_from(["pass", "sleep", "mistake", "junk", "refuse", "replace"])
BEGINNINGS = st.sampled_from(["", "", "", "sleep", "io", "mistake", "junk", "refuse"])


class Scripted(Policy):
    """Does what it is told, and notes it."""

    name = "scripted"

    def __init__(
        self, begins: str, ends: str, fails: list[str], *, is_short: bool = False
    ) -> None:
        super().__init__()
        self.begins = begins
        self.ends = ends
        self.fails = fails
        self.is_short = is_short
        self.log: list[str] = []

    def shortcut(self, op: Operation) -> bool:
        return self.is_short

    def around(self, op: Operation) -> Flow:
        fails = iter(self.fails)
        try:
            yield from self._does(self.begins)
            while True:
                try:
                    result = yield op
                except Exception as error:
                    self.log.append(f"error {type(error).__name__}")
                    what = next(fails, "pass")
                    if what == "again":
                        continue
                    if what == "swallow":
                        return None
                    yield from self._does(what, error)
                    raise
                self.log.append(f"result {result}")
                yield from self._does(self.ends)
                return result
        finally:
            self.log.append("closed")

    def _does(self, what: str, error: Exception | None = None) -> Iterator[Any]:
        self.log.append(what)
        match what:
            case "sleep":
                yield Sleep(0.5)
            case "io":
                yield Io(sync=lambda: None, async_=lambda: asyncio.sleep(0))
            case "mistake":
                raise ZeroDivisionError
            case "junk":
                yield "junk"
            case "refuse":
                raise Refused("scripted")
            case "replace":
                raise LookupError("replaced") from error


FAILS = st.lists(
    st.sampled_from(
        ["pass", "again", "swallow", "sleep", "mistake", "junk", "replace"]
    ),
    max_size=3,
)
STACKS = st.lists(st.tuples(BEGINNINGS, ENDS, FAILS), max_size=4)
# Whose flow passes on what succeeds.
SHORT = st.lists(st.tuples(st.just(""), st.just("pass"), FAILS), max_size=4)
ANSWERS = st.lists(
    st.sampled_from([None, *Fault]).map(lambda f: f and failure(f)), min_size=1
)


def played(
    scripts: list[tuple[str, str, list[str]]],
    answers: list[Failed | None],
    way: Way = "sync",
    *,
    is_short: bool = False,
) -> list[object]:
    """Return all that can be seen of an operation under such policies."""
    policies = [Scripted(*script, is_short=is_short) for script in scripts]
    told = Told()
    stack = Stack(*policies, told)
    service = Service(*(answer or "content" for answer in answers))
    op = stack.op()
    outcome = stack.outcome(service, op, way)
    kind = outcome if outcome in (*answers, "content") else type(outcome)
    seen: list[object] = [kind, service.count, op.attempts, stack.clock.slept]
    assert told.ends == [outcome if isinstance(outcome, Exception) else None]
    return [*seen, [policy.log for policy in policies]]


class TestRandomStacks:
    """What is true of any policies, and of any answers."""

    @given(scripts=STACKS, answers=ANSWERS)
    def test_both_drivers_do_the_same(
        self, scripts: list[tuple[str, str, list[str]]], answers: list[Failed | None]
    ) -> None:
        """Outcome, attempts, sleeps and what each flow sees are equal."""
        assert played(scripts, answers, "sync") == played(scripts, answers, "async")

    @given(scripts=STACKS, answers=ANSWERS)
    def test_an_outcome_is_an_attempts_or_on_purpose(
        self, scripts: list[tuple[str, str, list[str]]], answers: list[Failed | None]
    ) -> None:
        """No mistake of a policy takes its place."""
        outcome, *_ = played(scripts, answers)

        its = (*answers, "content", Refused, PluginFailed, LookupError)
        assert outcome in its

    @given(scripts=SHORT, answers=ANSWERS)
    def test_a_shortcut_shows_nowhere(
        self, scripts: list[tuple[str, str, list[str]]], answers: list[Failed | None]
    ) -> None:
        """With it and without, outcome, attempts and sleeps are the same.

        What flows see is, too, if the first attempt failed; else they were spared it.
        """
        slow = played(scripts, answers, is_short=False)
        quick = played(scripts, answers, is_short=True)

        assert quick[:4] == slow[:4]
        if answers[0] is not None:
            assert quick == slow

    @given(
        answers=st.lists(
            st.tuples(
                st.sampled_from([None, None, *Fault]),
                st.sampled_from([None, 0.5, 90.0]),
                st.booleans(),
            ),
            min_size=1,
            max_size=30,
        ),
        pause=st.floats(0, 3),
        takes=st.sampled_from([0.0, 0.1, 20.0]),
    )
    @both_ways
    def test_nor_does_one_of_the_policies_of_the_house(
        self,
        way: Way,
        answers: list[tuple[Fault | None, float | None, bool]],
        pause: float,
        takes: float,
    ) -> None:
        """Many operations one after the other end as they would without shortcuts."""
        seen = []
        for is_short in (True, False):
            policies = [
                (kind if is_short else without_shortcut(kind))(kind.Settings(**its))
                for kind, its in HOUSE
            ]
            stack = Stack(*policies)
            service = Service(
                *("content" if f is None else failure(f, retry_after=wait, is_sent=s)
                  for f, wait, s in answers),
                clock=stack.clock, takes=takes,
            )  # fmt: skip
            ends: list[object] = []
            for _ in answers:
                op = stack.op()
                end = stack.outcome(service, op, way)
                said = end.verdict if isinstance(end, Failed) else end
                notes = getattr(end, "__notes__", None)
                if isinstance(end, ConnectorKitError):
                    said, notes = str(end), None
                ends.append((said, notes, op.attempts, stack.clock()))
                stack.clock.advance(pause)
            seen.append((ends, stack.clock.slept, stack.events))

        assert seen[0] == seen[1]


HOUSE: list[tuple[type[Policy], dict[str, Any]]] = [
    (Deadline, {"seconds": 40}),
    (Retry, {"budget_burst": 3}),
    (Pace, {}),
    (Breaker, {"failures": 4, "open_seconds": 15}),
    (Timeout, {"seconds": 15}),
]


def without_shortcut(kind: type[Policy]) -> type[Policy]:
    """Return the policy with a flow for each operation."""
    return type(kind.__name__, (kind,), {"shortcut": Policy.shortcut})


class Ranked(Policy):
    """Stands somewhere."""

    name = "ranked"


def ranked(name: str, rank: int | None, *, is_retrying: bool = False) -> Policy:
    """Return a policy that stands there."""
    members = {"name": name, "rank": rank, "is_retrying": is_retrying}
    policy: Policy = type(name, (Ranked,), members)()
    return policy


class TestTheirOrder:
    """Policies that have a place have to stand in it."""

    def test_the_order_of_the_house_is_right(self) -> None:
        """Deadline, retry, pace and timeout stand so; who has no rank, anywhere."""
        check_order(
            [ranked("a", None), Deadline(), Retry(), ranked("b", None), Pace(),
             Timeout()],
            "connector 'c'",
        )  # fmt: skip

    @given(order=st.permutations(range(4)))
    def test_any_other_is_refused_with_the_right_one(self, order: list[int]) -> None:
        """The error says how it has to be."""
        kinds = (Deadline, Retry, Pace, Timeout)
        policies = [kinds[i]() for i in order]
        if order == sorted(order):
            check_order(policies, "connector 'c'")
            return
        with pytest.raises(ConfigError) as caught:
            check_order(policies, "connector 'c'")
        assert "connector 'c'" in str(caught.value)
        assert "has to be deadline, retry, pace, timeout" in str(caught.value)

    def test_none_stands_twice(self) -> None:
        """The error names it."""
        with pytest.raises(ConfigError, match="'retry' stands twice"):
            check_order([Retry(), Retry()], "connector 'c'")

    def test_one_alone_tries_again(self) -> None:
        """Two retries would multiply: the error names both."""
        mine = ranked("mine", None, is_retrying=True)

        with pytest.raises(ConfigError, match="'mine' and 'retry' try operations"):
            check_order([mine, Retry()], "connector 'c'")

    def test_whoever_tries_again_stands_where_retry_does(self) -> None:
        """Within the pace or the timeout it would go by a limit of one attempt."""
        mine = ranked("mine", None, is_retrying=True)
        check_order([Deadline(), mine, Pace()], "connector 'c'")
        with pytest.raises(ConfigError, match="has to be deadline, mine, pace"):
            check_order([Deadline(), Pace(), mine], "connector 'c'")


class TestFilesystems:
    """A policy may wrap the filesystem as well."""

    def test_they_are_folded_outermost_first(self) -> None:
        """The first policy's filesystem is the one that the host gets."""

        def wrapping(name: str) -> Policy:
            def filesystem(_self: Policy, fs: Any, _connector: Any) -> Any:
                return Storage((name, *fs.wrapped))

            policy: Policy = type(
                name, (Policy,), {"name": name, "filesystem": filesystem}
            )()
            return policy

        fs: Any = wrap(Storage(), [wrapping("a"), Deadline(), wrapping("b")], NAMED)

        assert fs.wrapped == ("a", "b")

    def test_a_mistake_is_named(self) -> None:
        """Who fails, or returns what is no filesystem, is said with the connector."""

        def fails(*_: object) -> Any:
            raise ValueError("oops")

        for method in (fails, lambda *_: None, lambda *_: Storage):
            members = {"name": "bad", "filesystem": method}
            policy: Policy = type("Bad", (Policy,), members)()
            with pytest.raises(PluginFailed, match=r"'bad' .*'reports'"):
                wrap(Storage(), [policy], NAMED)

    def test_our_own_errors_pass(self) -> None:
        """They say themselves what is wrong."""

        def fails(*_: object) -> Any:
            raise ConfigError("say so")

        policy: Policy = type("P", (Policy,), {"name": "p", "filesystem": fails})()

        with pytest.raises(ConfigError, match="say so"):
            wrap(Storage(), [policy], NAMED)

    def test_an_instance_of_a_filesystem_is_one(self) -> None:
        """Its class is not, nor is anything else."""
        assert is_filesystem(Storage())
        assert not is_filesystem(Storage)
        assert not is_filesystem(object())


class Storage:
    """What looks like a filesystem."""

    def __init__(self, wrapped: tuple[str, ...] = ()) -> None:
        self.wrapped = wrapped

    def unstrip_protocol(self, name: str) -> str:
        return name


class Named:
    """What looks like a connector."""

    id = "reports"


NAMED: Any = Named()


def test_an_operation_says_what_it_is() -> None:
    """Its text names connector, operation and path, for errors."""
    op = Stack().op(path="bucket/key", bucket="bucket")

    assert str(op) == "Connector 'reports': get_object of 'bucket/key'"
    assert op.kind is Kind.READ
    assert "bucket/key" in repr(op)
