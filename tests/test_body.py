"""Bodies that are read lazily: whole and right, however often a read is cut."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import AttemptTimedOut, Fault, Kind, Policy, WrongAnswer
from connectorkit.body import Answer, Body
from connectorkit_deadline import Deadline
from connectorkit_retry import Retry
from connectorkit_timeout import Timeout
from stacks import Failed, Stack, failure

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from connectorkit import Operation
    from connectorkit.policy import Flow

CONTENT = bytes(range(256)) * 4


def patient(attempts: int = 100) -> Retry:
    """Return a retry that does not give up soon."""
    its = Retry.Settings(attempts=attempts, budget_ratio=None, budget_burst=None)
    return Retry(its)


class Listening(Policy):
    """Hears how operations end, and whether flows are closed."""

    name = "listening"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def around(self, op: Operation) -> Flow:
        try:
            result = yield op
        except BaseException as error:
            self.heard.append(type(error))
            raise
        self.heard.append("success")
        return result

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.heard.append(("ended", error if error is None else type(error)))


class Flowing(Policy):
    """Takes no shortcut, so that flows are at work."""

    name = "flowing"

    def around(self, op: Operation) -> Flow:
        return (yield op)


class Stream:
    """One answer's body.

    Args:
        content: What comes.
        cut: How many bytes come before `error`; None if all of them do.
        error: What is raised at the cut; None if the body just ends there.
        piece: The most bytes at once.
        before: Called before each read.
    """

    def __init__(
        self,
        content: bytes,
        cut: int | None = None,
        error: Exception | None = None,
        piece: int = 1 << 30,
        before: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self._content = content if cut is None else content[:cut]
        self._error = error
        self._piece = piece
        self._before = before
        self.closed = 0

    async def read(self, amount: int) -> bytes:
        assert not self.closed
        await asyncio.sleep(0)
        if self._before is not None:
            await self._before()
        amount = min(amount, self._piece)
        got, self._content = self._content[:amount], self._content[amount:]
        if not got and self._error is not None:
            raise self._error
        return got

    def close(self) -> None:
        self.closed += 1


class Store:
    """An object, and what befalls each attempt to read it.

    Args:
        fates: For each attempt in turn an error that is raised instead of an answer,
            or options of `Stream`; those after them have no such luck.
        content: The object.
        is_sized: Whether answers say how long they are.

    Attributes:
        asked: The offsets that were asked for.
        streams: The bodies of the answers.
    """

    def __init__(
        self, *fates: Any, content: bytes = CONTENT, is_sized: bool = True
    ) -> None:
        self._fates = [*fates]
        self._content = content
        self._is_sized = is_sized
        self.asked: list[int] = []
        self.streams: list[Stream] = []

    async def attempt(self, _op: Operation, offset: int) -> Answer:
        await asyncio.sleep(0)
        self.asked.append(offset)
        fate = self._fates.pop(0) if self._fates else {}
        if isinstance(fate, Exception):
            raise fate
        rest = self._content[offset:]
        size = fate.pop("size", len(rest))
        self.streams.append(Stream(rest, **fate))
        return Answer(self.streams[-1], size if self._is_sized else None)


def body_of(store: Store, *policies: Policy, stack: Stack | None = None) -> Body:
    """Return a body that is not opened yet."""
    stack = stack or Stack(*policies)
    op = stack.pipeline.operation("get_object", Kind.READ, path="b/k")
    return Body(stack.pipeline, op, store.attempt)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Run it on a loop."""
    return asyncio.run(main)


async def whole(body: Body, amount: int = -1) -> bytes:
    """Open a body and read it, by pieces of at most so many bytes."""
    await body.open()
    pieces = []
    while piece := await body.read(amount):
        pieces.append(piece)
    return b"".join(pieces)


def reset() -> Exception:
    """Return what a client raises when a connection breaks."""
    return ConnectionResetError("reset by peer")


def checksum() -> Failed:
    """Return what a client raises when a checksum does not fit."""
    return failure(Fault.CORRUPT)


class TestResuming:
    """A read that is cut goes on where it stopped."""

    @given(
        content=st.binary(max_size=64),
        cuts=st.lists(st.integers(0, 64), max_size=8),
        amount=st.sampled_from([-1, 1, 3, 7, 64, 1000]),
        piece=st.sampled_from([1, 5, 1000]),
    )
    @pytest.mark.parametrize("is_sized", [True, False])
    @pytest.mark.parametrize("more", [(), (Flowing(),)], ids=["shortcut", "flow"])
    def test_cuts_anywhere_change_no_byte(  # noqa: PLR0913, PLR0917 - each is a choice
        self,
        more: tuple[Policy, ...],
        content: bytes,
        cuts: list[int],
        amount: int,
        piece: int,
        is_sized: bool,
    ) -> None:
        """Whatever is cut where, and however it is read; each cut is one request."""
        store = Store(
            *({"cut": cut, "error": reset(), "piece": piece} for cut in cuts),
            content=content,
            is_sized=is_sized,
        )

        assert run(whole(body_of(store, patient(), *more), amount)) == content
        assert len(store.asked) <= len(cuts) + 1
        assert store.asked == sorted(store.asked)

    def test_it_asks_from_where_it_stopped(self) -> None:
        """What has come is not asked for again."""
        store = Store({"cut": 100, "error": reset()}, {"cut": 50, "error": reset()})

        assert run(whole(body_of(store, patient()))) == CONTENT
        assert store.asked == [0, 100, 150]
        assert [stream.closed for stream in store.streams] == [1, 1, 1]

    @pytest.mark.parametrize("error", [reset, checksum])
    def test_an_end_that_fails_takes_its_piece_with_it(
        self, error: Callable[[], Exception]
    ) -> None:
        """A last piece that came, and whose end did not, is asked for once more."""
        store = Store({"error": error()})

        assert run(whole(body_of(store, patient()))) == CONTENT
        assert store.asked == [0, 0]

    def test_an_end_that_fails_late_is_asked_for_alone(self) -> None:
        """Of what was delivered nothing comes twice."""
        store = Store({"error": reset()})

        assert run(whole(body_of(store, patient()), 1000)) == CONTENT
        assert store.asked == [0, 1000]

    def test_a_resume_is_an_attempt(self) -> None:
        """It is counted, told as a retry, and there are as many as are configured."""
        fates = [{"cut": 1, "error": reset()} for _ in range(9)]
        stack, store = Stack(patient(attempts=3)), Store(*fates)
        body = body_of(store, stack=stack)

        with pytest.raises(ConnectionResetError) as caught:
            run(whole(body))
        assert store.asked == [0, 1, 2]
        assert len(stack.events) == len(stack.clock.slept) == 2
        assert "3 attempts" in caught.value.__notes__[0]

    def test_a_short_body_is_an_error(self) -> None:
        """One that ends too soon, without a word, goes on or fails; it never passes."""
        assert run(whole(body_of(Store({"cut": 100}), patient()))) == CONTENT

        listening = Listening()
        with pytest.raises(asyncio.IncompleteReadError):
            run(whole(body_of(Store({"cut": 100}), listening)))
        assert listening.heard[-1] == ("ended", asyncio.IncompleteReadError)

    def test_another_size_is_another_object(self) -> None:
        """An answer to a resume that would end elsewhere is not used."""
        store = Store({"cut": 100, "error": reset()}, {"size": 5}, {"size": 5})

        with pytest.raises(WrongAnswer, match="ended at 1024 and now at 105"):
            run(whole(body_of(store, patient())))
        assert [stream.closed for stream in store.streams] == [1, 1]

    def test_an_attempt_that_fails_to_open_goes_on_as_well(self) -> None:
        """At first and at a resume."""
        store = Store(reset(), {"cut": 9, "error": reset()}, reset(), {})

        assert run(whole(body_of(store, patient()))) == CONTENT
        assert store.asked == [0, 0, 9, 9]

    def test_the_errors_of_two_attempts_are_not_linked(self) -> None:
        """What the first one met says nothing of the second."""
        store = Store({"cut": 9, "error": ConnectionRefusedError()}, OSError("unknown"))

        with pytest.raises(OSError, match="unknown") as caught:
            run(whole(body_of(store, patient())))
        assert caught.value.__context__ is None
        assert store.asked == [0, 9]


class TestChecksums:
    """What was wrong cannot be taken back once it was delivered."""

    def test_wrong_bytes_that_nobody_saw_are_read_again(self) -> None:
        """A read of all is begun anew, from the start."""
        content = CONTENT * 3000  # Three pieces of what is read at once.
        store = Store({"error": checksum()}, content=content)

        assert run(whole(body_of(store, patient()))) == content
        assert store.asked == [0, 0]

    def test_wrong_bytes_that_somebody_saw_are_an_error(self) -> None:
        """It is raised, and not tried again."""
        store = Store({"error": checksum()})

        async def main() -> None:
            body = body_of(store, patient())
            await body.open()
            assert await body.read(100) == CONTENT[:100]
            with pytest.raises(Failed) as caught:
                await body.read()
            assert caught.value.verdict.fault is Fault.CORRUPT
            assert body.closed

        run(main())
        assert store.asked == [0]

    def test_wrong_twice_is_wrong(self) -> None:
        """There is one more attempt, and no third."""
        store = Store({"error": checksum()}, {"error": checksum()})

        with pytest.raises(Failed):
            run(whole(body_of(store, patient())))
        assert store.asked == [0, 0]


class TestItsEnd:
    """The operation ends with its body."""

    def test_a_body_that_was_read_is_a_success(self) -> None:
        """Observers and flows hear of it at the last byte; the bytes are counted."""
        listening, store = Listening(), Store()

        async def main() -> Body:
            body = body_of(store, listening)
            await body.open()
            await body.read(1000)
            assert listening.heard == []
            await body.read(1000)
            return body

        body = run(main())

        assert listening.heard == ["success", ("ended", None)]
        assert body.closed
        assert body._op.bytes == 1024

    @pytest.mark.parametrize("read", [0, 100])
    @pytest.mark.parametrize("how", ["close", "collect"])
    def test_an_abandoned_body_is_neutral(self, how: str, read: int) -> None:
        """It says nothing of the service: neither success nor failure is heard."""
        listening, store = Listening(), Store()

        async def main() -> None:
            body = body_of(store, listening)
            await body.open()
            await body.read(read)
            if how == "close":
                body.close()
            del body

        run(main())

        assert listening.heard == [GeneratorExit, ("ended", GeneratorExit)]
        assert store.streams[0].closed == 1

    def test_to_close_it_twice_is_to_close_it_once(self) -> None:
        """Before its end or after it; then there is nothing left to read."""
        listening, store = Listening(), Store()

        async def main() -> None:
            body = body_of(store, listening)
            await body.open()
            body.close()
            body.close()
            assert await body.read() == b""
            done = body_of(Store(), listening)
            await whole(done)
            done.close()

        run(main())

        assert listening.heard == [
            GeneratorExit,
            ("ended", GeneratorExit),
            "success",
            ("ended", None),
        ]
        assert store.streams[0].closed == 1

    def test_a_body_that_cannot_be_opened_is_a_failure(self) -> None:
        """Its error is raised and told."""
        listening, error = Listening(), failure(Fault.NOT_FOUND)

        async def main() -> None:
            body = body_of(Store(error), listening, patient())
            with pytest.raises(Failed) as caught:
                await body.open()
            assert caught.value is error
            assert body.closed

        run(main())

        assert listening.heard == [Failed, ("ended", Failed)]

    def test_a_body_that_failed_has_no_end(self) -> None:
        """To read on is an error: no bytes would look like its end."""
        body = body_of(Store({"cut": 100, "error": reset()}))

        async def main() -> None:
            with pytest.raises(ConnectionResetError):
                await whole(body)
            with pytest.raises(OSError, match="ended in an error"):
                await body.read()

        run(main())

    def test_a_cancelled_read_drops_its_connection(self) -> None:
        """Flows are closed and observers told that it was cancelled."""
        listening = Listening()
        reading = asyncio.Event()

        async def hangs() -> None:
            reading.set()
            await asyncio.Event().wait()

        store = Store({"before": hangs})

        async def main() -> None:
            body = body_of(store, listening, patient())
            await body.open()
            task = asyncio.create_task(body.read())
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert body.closed

        run(main())

        assert listening.heard == [GeneratorExit, ("ended", asyncio.CancelledError)]
        assert store.streams[0].closed == 1

    @pytest.mark.parametrize("is_sized", [True, False])
    def test_no_bytes_are_a_body(self, *, is_sized: bool) -> None:
        """An empty object is read, and a success."""
        listening, store = Listening(), Store(content=b"", is_sized=is_sized)

        assert run(whole(body_of(store, listening))) == b""
        assert listening.heard == ["success", ("ended", None)]

    def test_to_read_nothing_reads_nothing(self) -> None:
        """Nor does it end anything."""

        async def main() -> None:
            body = body_of(Store())
            await body.open()
            assert await body.read(0) == b""
            assert await body.read(None) == CONTENT

        run(main())

    def test_nothing_is_kept_of_an_error(self) -> None:
        """No cycle holds the body of a read that failed."""
        left: list[weakref.ref[object]] = []

        class Failing:
            async def read(self, _amount: int) -> bytes:
                raise ConnectionResetError

            def close(self) -> None:
                pass

        async def attempt(_op: Operation, _offset: int) -> Answer:
            return Answer(Failing(), 9)

        stack = Stack(Deadline(), patient(3), Timeout())

        async def main() -> None:
            op = stack.pipeline.operation("get_object", Kind.READ)
            body = Body(stack.pipeline, op, attempt)
            left.extend((weakref.ref(op), weakref.ref(body)))
            try:
                await body.open()
                await body.read()
            except ConnectionResetError:
                return

        gc.collect()
        gc.disable()
        try:
            run(main())
            assert [each() for each in left] == [None, None]
        finally:
            gc.enable()


class TestItsTime:
    """Limits count the transfer, and not who reads it."""

    def test_a_slow_reader_is_no_slow_service(self) -> None:
        """A body that lies half read for an hour is read on as if nothing had been."""
        stack, store = Stack(Deadline(), patient(), Timeout()), Store({"piece": 100})

        async def main() -> bytes:
            body = body_of(store, stack=stack)
            await body.open()
            got = b""
            while not body.closed:
                stack.clock.advance(3000)
                got += await body.read(100)
            assert body._op.idle >= 11 * 3000
            return got

        assert run(main()) == CONTENT
        assert store.asked == [0]

    def test_a_slow_service_is_timed_out(self) -> None:
        """What it needs for its pieces adds up; then there is another attempt."""
        stack = Stack(patient(), Timeout(Timeout.Settings(seconds=10)))

        async def crawls() -> None:
            stack.clock.advance(4)
            await asyncio.sleep(0)

        store = Store({"piece": 100, "before": crawls})

        assert run(whole(body_of(store, stack=stack), 100)) == CONTENT
        assert store.asked == [0, 300]

    def test_a_service_that_hangs_is_cut(self) -> None:
        """A read that never ends is cancelled when the time is up."""

        async def hangs() -> None:
            await asyncio.Event().wait()

        store = Store({"before": hangs})
        soon = Timeout(Timeout.Settings(seconds=0.001))

        with pytest.raises(AttemptTimedOut):
            run(whole(body_of(store, soon)))
        assert store.streams[0].closed == 1

    def test_a_size_that_the_answer_tells_gives_it_time(self) -> None:
        """A second more for so many bytes, though nobody knew before."""
        its = Timeout.Settings(seconds=10, slowest=100)
        stack, left = Stack(Timeout(its)), list[float]()

        async def attempt(op: Operation, _offset: int) -> Answer:
            left.append(op.left())
            return Answer(Stream(CONTENT), len(CONTENT))

        async def main() -> None:
            op = stack.pipeline.operation("get_object", Kind.READ)
            body = Body(stack.pipeline, op, attempt)
            await body.open()
            left.append(body._effect.left())
            body.close()

        run(main())

        assert left == [10, pytest.approx(10 + 10.24)]

    def test_the_callers_own_error_classifies_none(self) -> None:
        """A read inside an `except` is classified by what the service did."""
        store = Store({"cut": 9, "error": OSError("unknown")})

        async def main() -> None:
            body = body_of(store, patient())
            await body.open()
            try:
                raise ConnectionRefusedError  # noqa: TRY301 - of somebody else's
            except ConnectionRefusedError:
                with pytest.raises(OSError, match="unknown"):
                    await body.read()

        run(main())

        assert store.asked == [0]
