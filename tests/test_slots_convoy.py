"""Commands that go together: each has its own answer, whoever leads."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit_slots.convoy import Convoy, _Item

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Shared(Exception):
    """What the service says to all of a trip."""


class Lost(Exception):
    """What those hear whose trip was another's to end."""


class Road:
    """An exchange that waits to be told how each trip ends.

    Attributes:
        trips: The commands of each trip.
    """

    def __init__(self) -> None:
        self.trips: list[list[bytes]] = []
        self._begun = threading.Semaphore(0)
        self._ends: list[Future[None]] = []

    def exchange(self, commands: Sequence[bytes]) -> list[Any]:
        """Answer each command with itself, once it may."""
        end: Future[None] = Future()
        self.trips.append([*commands])
        self._ends.append(end)
        self._begun.release()
        end.result(20)
        return [b"answer to " + command for command in commands]

    def begun(self) -> Future[None]:
        """Wait for the next trip; return what ends it."""
        assert self._begun.acquire(timeout=20)
        return self._ends.pop(0)


@pytest.fixture
def road() -> Road:
    """Make a road."""
    return Road()


@pytest.fixture
def convoy(road: Road) -> Convoy:
    """Go by it."""
    return Convoy(road.exchange, 20.0, Shared, Lost)


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    """Run what asks."""
    with ThreadPoolExecutor(100) as threads:
        yield threads


def _wait_for(convoy: Convoy, count: int) -> None:
    """Wait until so many wait."""
    gone = threading.Event()
    for _ in range(2000):
        if len(convoy._waiting) == count:
            return
        gone.wait(0.01)
    raise AssertionError(f"{len(convoy._waiting)} wait, not {count}.")


def _ask(
    threads: ThreadPoolExecutor, convoy: Convoy, count: int, waiting: int
) -> list[Future[Any]]:
    """Have so many asked for, one after the other."""
    asked = []
    for number in range(count):
        asked.append(threads.submit(convoy.ask, b"%d" % (waiting + number)))
        _wait_for(convoy, waiting + number + 1)
    return asked


def test_alone_it_goes_at_once() -> None:
    """In the caller's own thread, and by itself."""
    seen = []

    def exchange(commands: Sequence[bytes]) -> list[Any]:
        seen.append((threading.current_thread(), [*commands]))
        return [1]

    assert Convoy(exchange, 20.0, Shared, Lost).ask(b"a") == 1
    assert seen == [(threading.current_thread(), [b"a"])]


def test_who_comes_meanwhile_goes_together(
    road: Road, convoy: Convoy, threads: ThreadPoolExecutor
) -> None:
    """In the order in which they came, and each has its own answer."""
    first = threads.submit(convoy.ask, b"first")
    end = road.begun()
    others = _ask(threads, convoy, 5, 0)
    end.set_result(None)
    road.begun().set_result(None)
    assert first.result(20) == b"answer to first"
    assert [each.result(20) for each in others] == [
        b"answer to %d" % n for n in range(5)
    ]
    assert road.trips == [[b"first"], [b"%d" % n for n in range(5)]]


def test_not_more_than_64_go_together(
    road: Road, convoy: Convoy, threads: ThreadPoolExecutor
) -> None:
    """The rest takes the next trip."""
    first = threads.submit(convoy.ask, b"first")
    end = road.begun()
    others = _ask(threads, convoy, 70, 0)
    for _ in range(3):
        end.set_result(None)
        if len(road.trips) < 3:
            end = road.begun()
    assert {each.result(20) for each in others} == {
        b"answer to %d" % n for n in range(70)
    }
    assert first.result(20)
    assert [len(trip) for trip in road.trips] == [1, 64, 6]


@pytest.mark.parametrize("ends", [Shared("away"), KeyboardInterrupt()])
def test_a_trip_that_fails(
    road: Road, convoy: Convoy, threads: ThreadPoolExecutor, ends: BaseException
) -> None:
    """The service's error is everyone's; an interruption is the leader's own.

    Who waits meanwhile has waited for as long, and hears of it, too.
    """
    first = threads.submit(convoy.ask, b"first")
    end = road.begun()
    waiting = _ask(threads, convoy, 3, 0)
    end.set_exception(ends)
    assert first.exception(20) is ends
    kind = Shared if isinstance(ends, Shared) else Lost
    assert all(isinstance(each.exception(20), kind) for each in waiting)
    # Nobody leads any more, and the next one does.
    again = threads.submit(convoy.ask, b"again")
    road.begun().set_result(None)
    assert again.result(20) == b"answer to again"


@pytest.mark.parametrize("is_elected", [False, True])
def test_who_is_interrupted_while_it_waits_leaves(
    road: Road, convoy: Convoy, threads: ThreadPoolExecutor, *, is_elected: bool
) -> None:
    """Nobody asks for it any more; if it was to lead, another one does."""
    first = threads.submit(convoy.ask, b"first")
    end = road.begun()
    gone = _Item(b"gone")
    convoy._waiting.append(gone)
    other = threads.submit(convoy.ask, b"other")
    _wait_for(convoy, 2)
    if is_elected:
        end.set_result(None)
        assert first.result(20) == b"answer to first"
        assert gone.leads
    convoy._leave(gone)
    if not is_elected:
        end.set_result(None)
    road.begun().set_result(None)
    assert other.result(20) == b"answer to other"
    assert road.trips == [[b"first"], [b"other"]]


def test_a_leader_that_is_lost_is_not_waited_for(
    road: Road, threads: ThreadPoolExecutor
) -> None:
    """After a while somebody else sets out, and what comes late disturbs nobody."""
    convoy = Convoy(road.exchange, 0.05, Shared, Lost)
    first = threads.submit(convoy.ask, b"first")
    late = road.begun()
    other = threads.submit(convoy.ask, b"other")
    road.begun().set_result(None)
    assert other.result(20) == b"answer to other"
    late.set_result(None)
    assert first.result(20) == b"answer to first"
    third = threads.submit(convoy.ask, b"third")
    road.begun().set_result(None)
    assert third.result(20) == b"answer to third"


def test_a_child_waits_for_nobody(
    road: Road, convoy: Convoy, threads: ThreadPoolExecutor
) -> None:
    """Who is under way when a process forks is in the parent."""
    first = threads.submit(convoy.ask, b"first")
    end = road.begun()
    convoy.after_fork()
    second = threads.submit(convoy.ask, b"second")
    road.begun().set_result(None)
    assert second.result(20) == b"answer to second"
    end.set_result(None)
    assert first.result(20) == b"answer to first"


def test_many_threads_have_each_their_own_answers() -> None:
    """However they come together."""
    convoy = Convoy(
        lambda commands: [int(each) for each in commands], 20.0, Shared, Lost
    )

    def work(thread: int) -> bool:
        return all(
            convoy.ask(b"%d" % number) == number
            for number in range(thread * 1000, thread * 1000 + 300)
        )

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(work, range(16)))
