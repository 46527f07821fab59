"""A limit on what a task awaits: its own cancellation is undone, another's is not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from connectorkit.limit import Limit

if TYPE_CHECKING:
    from collections.abc import Awaitable


class Late(Exception):
    """The time is up."""


async def within(
    seconds: float, work: Awaitable[object], limits: list[Limit] | None = None
) -> object:
    """Await something under a limit."""
    limit = Limit(seconds)
    if limits is not None:
        limits.append(limit)
    try:
        return await work
    except asyncio.CancelledError as error:
        if limit.lift():
            raise Late from error
        raise
    finally:
        limit.lift()


def test_what_ends_in_time_is_left_alone() -> None:
    """The limit is lifted with it, and cancels nothing later."""

    async def main() -> None:
        assert await within(0.001, asyncio.sleep(0, "done")) == "done"
        await asyncio.sleep(0.01)

    asyncio.run(main())


@pytest.mark.parametrize("seconds", [0.001, 0, -1])
def test_what_takes_longer_is_cancelled(seconds: float) -> None:
    """The task itself goes on, and nobody holds it for cancelled."""

    async def main() -> None:
        with pytest.raises(Late):
            await within(seconds, asyncio.Event().wait())
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0
        await asyncio.sleep(0)

    asyncio.run(main())


@pytest.mark.parametrize("is_late", [False, True])
def test_the_hosts_cancellation_is_the_hosts(is_late: bool) -> None:
    """Who cancels the task sees it cancelled, be it at the moment of the limit."""

    async def main() -> None:
        limits: list[Limit] = []
        task = asyncio.create_task(within(60, asyncio.Event().wait(), limits))
        await asyncio.sleep(0)
        if is_late:
            limits[0]._end()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_limits_within_limits() -> None:
    """The inner one ends the inner work, and the outer one goes on."""

    async def main() -> None:
        async def both() -> str:
            with pytest.raises(Late):
                await within(0.001, asyncio.Event().wait())
            await asyncio.Event().wait()
            raise AssertionError

        with pytest.raises(Late):
            await within(0.05, both())

    asyncio.run(main())


def test_what_swallows_its_cancellation_is_done() -> None:
    """Its result counts, and no cancellation is left over."""

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "done"
        raise AssertionError

    async def main() -> None:
        assert await within(0.001, stubborn()) == "done"
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    asyncio.run(main())


def test_it_needs_a_task() -> None:
    """Outside of one there is nothing to cancel."""
    loop = asyncio.new_event_loop()
    failed: list[BaseException] = []

    def begin() -> None:
        try:
            Limit(1)
        except RuntimeError as error:
            failed.append(error)
        loop.stop()

    loop.call_soon(begin)
    loop.run_forever()
    loop.close()
    assert failed
