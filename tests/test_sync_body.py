"""Bodies for threads: whole and right, however often a read is cut."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import AttemptTimedOut, Fault, Kind, Policy, WrongAnswer
from connectorkit.sync_body import SyncAnswer, SyncBody
from connectorkit_retry import Retry
from connectorkit_timeout import Timeout
from stacks import Failed, Stack, failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit import Operation
    from connectorkit.policy import Flow

CONTENT = bytes(range(256)) * 4


def patient(attempts: int = 100) -> Retry:
    """Return a retry that does not give up soon."""
    its = Retry.Settings(attempts=attempts, budget_ratio=None, budget_burst=None)
    return Retry(its)


class Listening(Policy):
    """Hears how operations end."""

    name = "listening"

    def __init__(self) -> None:
        super().__init__()
        self.heard: list[Any] = []

    def around(self, op: Operation) -> Flow:
        return (yield op)

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.heard.append(error if error is None else type(error))


class Stream:
    """One answer's body, of which `cut` bytes come before `error`, or a silent end."""

    def __init__(
        self,
        content: bytes,
        cut: int | None = None,
        error: Exception | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        self._content = content if cut is None else content[:cut]
        self._error = error
        self._before = before
        self.asked: list[int] = []
        self.closed = 0

    def read(self, amount: int) -> bytes:
        assert not self.closed
        self.asked.append(amount)
        self._before()
        got, self._content = self._content[:amount], self._content[amount:]
        if not got and self._error is not None:
            raise self._error
        return got

    def close(self) -> None:
        self.closed += 1


class Store:
    """An object; `fates` are what befalls each attempt to read it, in turn."""

    def __init__(self, *fates: Any, content: bytes = CONTENT) -> None:
        self._fates = [*fates]
        self._content = content
        self.asked: list[int] = []
        self.streams: list[Stream] = []

    def attempt(self, _op: Operation, offset: int) -> SyncAnswer:
        self.asked.append(offset)
        fate = self._fates.pop(0) if self._fates else {}
        if isinstance(fate, Exception):
            raise fate
        rest = self._content[offset:]
        size = fate.pop("size", len(rest))
        self.streams.append(Stream(rest, **fate))
        return SyncAnswer(self.streams[-1], size)


def body_of(
    store: Store,
    *policies: Policy,
    stack: Stack | None = None,
    ended: Callable[[], object] = lambda: None,
) -> SyncBody:
    """Return a body that is opened."""
    stack = stack or Stack(*policies)
    op = stack.pipeline.operation("get_object", Kind.READ, path="b/k")
    body = SyncBody(stack.pipeline, op, store.attempt, ended)
    body.open()
    return body


def reset() -> Exception:
    """Return what a client raises when a connection breaks."""
    return ConnectionResetError("reset by peer")


class TestReading:
    """What is read is the object, whatever befalls the connections."""

    @given(
        content=st.binary(max_size=64),
        cuts=st.lists(st.integers(0, 64), max_size=8),
        amount=st.sampled_from([1, 3, 7, 64, 1000]),
    )
    def test_cuts_anywhere_change_no_byte(
        self, content: bytes, cuts: list[int], amount: int
    ) -> None:
        """Each read has as many bytes as were asked for, fewer only at the end."""
        fates = ({"cut": cut, "error": reset()} for cut in cuts)
        store = Store(*fates, content=content)
        body = body_of(store, patient())
        for start in range(0, len(content), amount):
            assert body.read(amount) == content[start : start + amount]
        assert body.read(amount) == body.read() == b""
        assert len(store.asked) <= len(cuts) + 1

    @pytest.mark.parametrize("amount", [-1, None])
    def test_all_of_it_goes_on_where_it_stopped(self, amount: int | None) -> None:
        """What has come is not asked for again; each answer is closed once."""
        store = Store({"cut": 100, "error": reset()}, {"cut": 50}, reset())
        assert body_of(store, patient()).read(amount) == CONTENT
        assert store.asked == [0, 100, 150, 150]
        assert [stream.closed for stream in store.streams] == [1, 1, 1]

    def test_a_read_of_much_is_made_of_pieces(self) -> None:
        """A cut late in a big read loses a piece of it, not all."""
        content = bytes(3 << 20)
        store = Store({"cut": 5 << 19, "error": reset()}, content=content)
        assert body_of(store, patient()).read(len(content)) == content
        assert store.asked == [0, 5 << 19]
        assert max(store.streams[0].asked) <= 1 << 20

    def test_to_read_nothing_reads_nothing(self) -> None:
        """It asks for no bytes, and is no end."""
        store = Store()
        body = body_of(store)
        assert body.read(0) == b""
        assert store.streams[0].asked == []
        assert not body.closed

    def test_another_size_is_another_object(self) -> None:
        """An answer to a resume that would end elsewhere is not used."""
        store = Store({"cut": 100, "error": reset()}, {"size": 5}, {"size": 5})
        with pytest.raises(WrongAnswer, match="ended at 1024 and now at 105"):
            body_of(store, patient()).read()

    def test_wrong_bytes_that_nobody_saw_are_read_again(self) -> None:
        """A read of all, or of as many, is begun anew from the start."""
        for amount in (-1, len(CONTENT), 10**9):
            store = Store({"error": failure(Fault.CORRUPT)})
            assert body_of(store, patient()).read(amount) == CONTENT
            assert store.asked == [0, 0]

    def test_wrong_bytes_that_somebody_saw_are_an_error(self) -> None:
        """It is too late to take them back."""
        store = Store({"error": failure(Fault.CORRUPT)})
        body = body_of(store, patient())
        assert body.read(1) == CONTENT[:1]
        with pytest.raises(Failed):
            body.read()
        assert store.asked == [0]


class TestWaiting:
    """Nothing of it needs an event loop, and nothing of it uses one."""

    def test_it_sleeps_by_the_clock(self) -> None:
        """Between attempts the thread waits, by the scope's own clock."""
        stack = Stack(patient())
        store = Store(reset(), {"cut": 1, "error": reset()})
        assert body_of(store, stack=stack).read() == CONTENT
        assert stack.clock.slept == [1.0, 2.0]

    def test_it_may_be_read_within_a_loop(self) -> None:
        """A coroutine that reads blocks its loop, and gets its bytes."""

        async def main() -> bytes:
            return body_of(Store({"cut": 9, "error": reset()}), patient()).read()

        assert asyncio.run(main()) == CONTENT

    def test_a_reader_who_takes_long_is_not_timed_out(self) -> None:
        """The time between two reads is the reader's."""
        stack, store = Stack(patient(), Timeout()), Store()
        body = body_of(store, stack=stack)
        while body.read(100):
            stack.clock.advance(3000)
        assert store.asked == [0]

    def test_a_slow_service_is_timed_out(self) -> None:
        """What it needs for its pieces adds up; then nothing more is asked of it."""
        stack = Stack(Timeout(Timeout.Settings(seconds=10)))
        store = Store({"before": lambda: stack.clock.advance(4)})
        body = body_of(store, stack=stack)
        for _ in range(3):
            assert len(body.read(100)) == 100
        with pytest.raises(AttemptTimedOut):
            body.read(100)
        assert len(store.streams[0].asked) == 3


class TestItsEnd:
    """The operation ends with its body, and everybody hears of it once."""

    def test_success(self) -> None:
        """At the last byte."""
        listening, ends = Listening(), list[str]()
        body = body_of(Store(), listening, ended=lambda: ends.append("ended"))
        assert body.read(1000)
        assert (listening.heard, ends) == ([], [])
        assert body.read(1000)
        assert (listening.heard, ends) == ([None], ["ended"])
        assert body.closed
        body.close()
        assert len(ends) == 1
        assert body.read() == b""

    @pytest.mark.parametrize("how", ["close", "collect"])
    @pytest.mark.parametrize("read", [0, 100])
    def test_abandoned(self, how: str, read: int) -> None:
        """It says nothing of the service; its connection is dropped at once."""
        listening, store, ends = Listening(), Store(), list[str]()
        body = body_of(store, listening, ended=lambda: ends.append("ended"))
        body.read(read)
        gc.disable()
        try:
            if how == "close":
                body.close()
            del body
            assert (listening.heard, ends) == ([GeneratorExit], ["ended"])
        finally:
            gc.enable()
        assert store.streams[0].closed == 1

    def test_closed_before_its_end(self) -> None:
        """To read on is an error: no bytes would look like its end."""
        body = body_of(Store())
        body.read(100)
        body.close()
        with pytest.raises(ValueError, match="closed before its end"):
            body.read()

    def test_failed(self) -> None:
        """Its error is raised; to read on is another."""
        listening, ends = Listening(), list[str]()
        store = Store({"cut": 9, "error": reset()})
        body = body_of(store, listening, ended=lambda: ends.append("ended"))
        with pytest.raises(ConnectionResetError):
            body.read()
        assert (listening.heard, ends) == ([ConnectionResetError], ["ended"])
        with pytest.raises(OSError, match="ended in an error"):
            body.read()

    def test_not_opened(self) -> None:
        """The error of an attempt that no policy tries again is raised and told."""
        listening, ends = Listening(), list[str]()
        error = failure(Fault.NOT_FOUND)
        with pytest.raises(Failed) as caught:
            body_of(Store(error), listening, ended=lambda: ends.append("ended"))
        assert caught.value is error
        assert (listening.heard, ends) == ([Failed], ["ended"])

    def test_interrupted(self) -> None:
        """Ctrl-C drops the connection, and is no failure of the service's."""

        def interrupt() -> None:
            raise KeyboardInterrupt

        listening, store = Listening(), Store({"before": interrupt})
        body = body_of(store, listening, patient())
        with pytest.raises(KeyboardInterrupt):
            body.read()
        assert listening.heard == [KeyboardInterrupt]
        assert store.streams[0].closed == 1

    def test_nothing_holds_it(self) -> None:
        """A body that was dropped is gone without the collector, after errors too."""
        gc.disable()
        try:
            body = body_of(Store({"cut": 9, "error": reset()}), patient())
            gone = weakref.ref(body)
            assert body.read(100)
            del body
            assert gone() is None
        finally:
            gc.enable()

    def test_threads_read_their_own(self) -> None:
        """Eight threads with a body each get each their bytes."""
        stack, got = Stack(patient()), list[bytes]()

        def read() -> None:
            store = Store(*({"cut": 50, "error": reset()} for _ in range(20)))
            got.append(body_of(store, stack=stack).read())

        threads = [threading.Thread(target=read) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert got == [CONTENT] * 8
