"""Doing several things at a time, of which the first failure ends all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

__all__ = ["together"]


async def together(work: Iterable[Coroutine[Any, Any, None]], at_a_time: int) -> None:
    """Run coroutines, a bounded number at a time; take each when its turn comes.

    Raises:
        BaseException: What the first that failed raised, itself; the others were
            cancelled and have ended.
    """
    running: set[asyncio.Task[None]] = set()
    try:
        for each in work:
            running.add(asyncio.ensure_future(each))
            if len(running) >= at_a_time:
                running = await _some(running)
        while running:
            running = await _some(running)
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def _some(running: set[asyncio.Task[None]]) -> set[asyncio.Task[None]]:
    done, waiting = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    failed = [task for task in done if task.cancelled() or task.exception()]
    for task in failed:
        # Of two that failed at once, the other's error is nobody's.
        running.discard(task)
    for task in failed:
        task.result()
    return waiting
