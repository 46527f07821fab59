"""Several things at a time: the first failure ends all, and leaves nothing running."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit.together import together

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator


class Work:
    """Steps that can be watched.

    Attributes:
        running: How many are under way.
        most: The most that ever were.
        taken: How many were taken so far.
        done: Which have ended well, in that order.
        cancelled: Which were cancelled.
    """

    def __init__(self) -> None:
        self.running = self.most = self.taken = 0
        self.done: list[int] = []
        self.cancelled: list[int] = []

    async def step(self, number: int, turns: int = 1) -> None:
        """Take so many turns of the loop."""
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            for _ in range(turns):
                await asyncio.sleep(0)
            self.done.append(number)
        except asyncio.CancelledError:
            self.cancelled.append(number)
            raise
        finally:
            self.running -= 1

    def steps(
        self, count: int, of: Callable[[int], Coroutine[Any, Any, None]] | None = None
    ) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield steps, counting those that are taken."""
        for number in range(count):
            self.taken += 1
            yield (of or self.step)(number)


@given(turns=st.lists(st.integers(0, 5), max_size=20), at_a_time=st.integers(1, 8))
def test_all_are_done(turns: list[int], at_a_time: int) -> None:
    """Each is done once, never more than so many at a time, and none is taken early."""
    work = Work()

    def of(number: int) -> Coroutine[Any, Any, None]:
        assert work.taken <= len(work.done) + at_a_time
        return work.step(number, turns[number])

    asyncio.run(together(work.steps(len(turns), of), at_a_time))
    assert sorted(work.done) == [*range(len(turns))]
    assert work.most <= at_a_time
    assert work.running == 0


@given(failing=st.integers(0, 9), at_a_time=st.integers(1, 8), turns=st.integers(0, 3))
def test_the_first_failure_ends_all(failing: int, at_a_time: int, turns: int) -> None:
    """It is raised itself; the others are cancelled, have ended, and none is begun."""
    work, error = Work(), ValueError("why")

    async def fail() -> None:
        await work.step(failing, turns)
        raise error

    def of(number: int) -> Coroutine[Any, Any, None]:
        return fail() if number == failing else work.step(number, 99)

    async def main() -> set[asyncio.Task[Any]]:
        with pytest.raises(ValueError, match="why") as caught:
            await together(work.steps(10, of), at_a_time)
        assert caught.value is error
        return asyncio.all_tasks() - {asyncio.current_task()}

    assert asyncio.run(main()) == set()
    assert work.running == 0
    assert work.taken <= failing + at_a_time
    assert len(work.cancelled) + len(work.done) == work.taken


def test_two_failures_at_once() -> None:
    """One is raised, and the other warns nobody that it was not looked at."""

    async def fail(number: int) -> None:
        raise ValueError(number)

    async def main() -> None:
        with pytest.raises(ValueError, match=r"[01]"):
            await together((fail(number) for number in range(2)), 2)

    asyncio.run(main())


def test_who_cancels_all() -> None:
    """Whoever waits is cancelled, and with it all that it waits for."""
    work = Work()

    async def main() -> None:
        task = asyncio.ensure_future(together(work.steps(9), 3))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert work.running == 0

    work.step = lambda number, turns=99: Work.step(work, number, turns)  # type: ignore[method-assign]
    asyncio.run(main())
    assert work.cancelled
    assert work.done == []


def test_the_source_fails() -> None:
    """What is to come may fail as well: what is under way is cancelled."""
    work = Work()

    def steps() -> Iterator[Coroutine[Any, Any, None]]:
        yield work.step(0, 99)
        raise OSError("cannot be read")

    with pytest.raises(OSError, match="cannot be read"):
        asyncio.run(together(steps(), 3))
    assert work.running == 0
    assert work.done == []
