"""Commands that go together: who goes when, what is whose, whoever is interrupted."""

from __future__ import annotations

import dis
import gc
import os
import signal
import sys
import threading
import time
import traceback
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit_slots.convoy import Convoy
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from types import CodeType, FrameType


class _Refused(Exception):
    """What is an error of all."""


class _Lost(Exception):
    """What is told to those whose trip ended by another one's error."""


class _Soft(Exception):
    """What a signal's handler raises."""


class _Road:
    """Where trips go: each waits until it is let through, and answers in capitals."""

    def __init__(self, patience: float = 10.0) -> None:
        self.convoy = Convoy(self._exchange, patience, _Refused, _Lost)
        self.trips: list[list[bytes]] = []
        self.fails: Callable[[], Exception | None] = lambda: None
        self.is_free = threading.Event()
        self._threads = ThreadPoolExecutor(250)

    def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        self.trips.append([*commands])
        assert self.is_free.wait(10)
        error = self.fails()
        try:
            if error:
                raise error
        finally:
            del error
        return [command.upper() for command in commands]

    def ask(self, *commands: bytes) -> list[Future[Any]]:
        """Ask by threads of their own, one after the other."""
        asked = []
        for command in commands:
            before = len(self.convoy._waiting), len(self.trips)
            asked.append(self._threads.submit(self.convoy.ask, command))
            wait_until(
                lambda before=before: (
                    (len(self.convoy._waiting), len(self.trips)) != before
                )
            )
        return asked

    def close(self) -> None:
        """End the threads."""
        self.is_free.set()
        self._threads.shutdown()


@pytest.fixture
def road() -> Iterator[_Road]:
    """Make one."""
    road = _Road()
    yield road
    road.close()


class TestTogether:
    """Who goes with whom."""

    def test_alone_it_goes_at_once(self, road: _Road) -> None:
        """Nobody waits for company."""
        road.is_free.set()
        assert [road.convoy.ask(each) for each in (b"a", b"b")] == [b"A", b"B"]
        assert road.trips == [[b"a"], [b"b"]]

    def test_who_comes_meanwhile_goes_next(self, road: _Road) -> None:
        """All that wait go by one trip, and each gets its own answer."""
        asked = road.ask(b"a", b"b", b"c", b"d")
        road.is_free.set()
        assert [each.result(10) for each in asked] == [b"A", b"B", b"C", b"D"]
        assert road.trips == [[b"a"], [b"b", b"c", b"d"]]

    def test_not_too_many_go_at_once(self, road: _Road) -> None:
        """The others go by the next trips, in the order in which they came."""
        commands = [b"%d" % number for number in range(200)]
        asked = road.ask(*commands)
        road.is_free.set()
        assert [each.result(10) for each in asked] == commands
        assert [len(each) for each in road.trips] == [1, 64, 64, 64, 7]
        assert [*chain(*road.trips)] == commands

    def test_none_is_an_answer(self) -> None:
        """Redis says so, too."""
        convoy = Convoy(lambda commands: [None] * len(commands), 1, _Refused, _Lost)
        assert convoy.ask(b"a") is None


class TestErrors:
    """Whose they are."""

    def test_one_of_the_trip_is_everyones(self, road: _Road) -> None:
        """Those that wait have it as well; each has one of its own to raise."""
        error = _Refused("no")
        road.fails = lambda: error
        asked = road.ask(b"a", b"b", b"c")
        road.is_free.set()
        got = [each.exception(10) for each in asked]
        assert [type(each) for each in got] == [_Refused] * 3
        assert got[0] is error
        assert len({*map(id, got)}) == 3
        assert {str(each) for each in got} == {"no"}
        assert all(each.__cause__ is error for each in got[1:] if each)
        # What the others do with it leaves no trace in the first one's.
        assert len(traceback.extract_tb(error.__traceback__)) < 8
        assert road.trips == [[b"a"]]

    def test_a_leaders_own_is_not(self, road: _Road) -> None:
        """Who went along hears that the trip is lost; who waits goes by the next."""
        asked = road.ask(b"a", *[b"%d" % number for number in range(100)])
        outcomes = iter([None, _Soft("mine"), None])
        road.fails = lambda: next(outcomes)
        road.is_free.set()
        first, leader, *others = [each.exception(10) for each in asked]
        assert first is None
        assert type(leader) is _Soft
        assert {type(each) for each in others[:63]} == {_Lost}
        assert others[63:] == [None] * 36

    def test_errors_end_with_who_has_them(self, road: _Road) -> None:
        """No circle of errors and frames waits for the collector."""
        errors = [_Refused("no")]
        held = weakref.ref(errors[0])
        road.fails = errors.pop
        asked = road.ask(b"a", b"b", b"c")
        gc.collect()
        gc.disable()
        try:
            road.is_free.set()
            assert {type(each.exception(10)) for each in asked} == {_Refused}
            del asked
            # Each thread lets go of its work when it comes to wait for more.
            wait_until(lambda: held() is None)
        finally:
            gc.enable()


class TestInterrupted:
    """Threads that are called away."""

    def test_a_waiter_leaves(self, road: _Road) -> None:
        """Nobody asks for it any more, and the others go on."""
        asked = road.ask(b"a")
        with pytest.raises(_Soft), _alarm(0.05):
            road.convoy.ask(b"mine")
        asked += road.ask(b"b")
        road.is_free.set()
        assert [each.result(10) for each in asked] == [b"A", b"B"]
        assert road.trips == [[b"a"], [b"b"]]

    def test_a_handler_asks_while_its_thread_leads(self, road: _Road) -> None:
        """It waits for nobody: who leads waits for it."""
        answers: list[Any] = []

        def handle(*_: object) -> None:
            road.is_free.set()
            answers.append(road.convoy.ask(b"b"))

        with _alarm(0.05, handle):
            answers.append(road.convoy.ask(b"a"))
        assert answers == [b"B", b"A"]

    def test_a_handler_asks_while_its_thread_waits(self, road: _Road) -> None:
        """It may be its thread that is to lead next."""
        answers: list[Any] = []

        def handle(*_: object) -> None:
            road.is_free.set()
            asked[0].result(10)
            answers.append(road.convoy.ask(b"c"))

        asked = road.ask(b"a")
        begun = time.monotonic()
        with _alarm(0.05, handle):
            answers.append(road.convoy.ask(b"b"))
        assert answers == [b"C", b"B"]
        assert time.monotonic() - begun < 5

    def test_wherever_a_leader_is(self) -> None:
        """At each place where a signal may come; all others are served, and at once."""
        patience = 5.0
        for place in range(1000):
            road = _Road(patience)
            begun = time.monotonic()
            try:
                is_reached = _interrupted_at(place, road)
            finally:
                road.close()
            assert time.monotonic() - begun < patience / 2, place
            if not is_reached:
                break
        assert 15 < place < 1000

    def test_a_lost_leader_is_replaced(self) -> None:
        """A thread that never comes back keeps the others for `patience` only."""
        road = _Road(patience=0.1)
        # As one that was interrupted twice leaves it.
        road.convoy._is_under_way = True
        road.is_free.set()
        assert road.convoy.ask(b"a") == b"A"
        begun = time.monotonic()
        assert road.convoy.ask(b"b") == b"B"
        assert time.monotonic() - begun < 0.1
        road.close()

    def test_a_slow_trip_is_lost(self) -> None:
        """Who went along hears so; who did not go sets out without it."""
        road = _Road(patience=0.2)
        asked = road.ask(b"a")
        waits = road.ask(b"b")[0]
        wait_until(lambda: len(road.trips) == 2)
        road.is_free.set()
        assert [each.result(10) for each in (*asked, waits)] == [b"A", b"B"]
        road.close()


def test_a_child_waits_for_nobody(road: _Road) -> None:
    """Those that are under way are in the parent."""
    asked = road.ask(b"a", b"b")
    if not (child := os.fork()):
        code = 1
        try:
            road.is_free = threading.Event()
            road.is_free.set()
            code = int(road.convoy.ask(b"c") != b"C" or road.trips[1:] != [[b"c"]])
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    road.is_free.set()
    assert [each.result(10) for each in asked] == [b"A", b"B"]


class _alarm:  # noqa: N801 - reads as a verb
    """Interrupt the main thread soon, by a handler that raises or does as told."""

    def __init__(self, seconds: float, handle: Any = None) -> None:
        self._seconds = seconds
        self._handle = handle or self._raise

    @staticmethod
    def _raise(*_: object) -> None:
        raise _Soft

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGALRM, self._handle)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, self._before)


def _interrupted_at(place: int, road: _Road) -> bool:
    """Interrupt who leads others at the n-th place; tell whether there are so many."""
    left = place
    codes = {
        each.__code__: _after_calls(each.__code__)
        for each in vars(Convoy).values()
        if hasattr(each, "__code__")
    }
    others: list[Future[Any]] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal left
        if frame.f_code not in codes:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in codes[frame.f_code]:
            left -= 1
            if left < 0:
                sys.settrace(None)
                raise _Soft
        return trace

    def lead() -> None:
        sys.settrace(trace)
        try:
            road.convoy.ask(b"mine")
        except _Soft:
            pass
        finally:
            sys.settrace(None)

    # The first goes; of the next trip, which the traced one leads, two are a part.
    others += road.ask(b"a")
    leads = road._threads.submit(lead)
    wait_until(lambda: road.convoy._waiting or leads.done())
    others += road.ask(b"b", b"c")
    road.is_free.set()
    leads.result(10)
    for each, answer in zip(others, [b"A", b"B", b"C"], strict=True):
        error = each.exception(10)
        assert type(error) is _Lost or each.result() == answer
    assert road.convoy.ask(b"d") == b"D"
    assert not road.convoy._inside
    return left < 0


def _after_calls(code: CodeType) -> set[int]:
    """Return where signals come: behind calls, and where a function begins."""
    found, names = set(), ("CALL", "CALL_FUNCTION_EX", "RESUME")
    is_after = False
    for each in dis.get_instructions(code):
        if is_after:
            found.add(each.offset)
        is_after = each.opname in names
    return found
