"""From threads to a loop and back: errors keep their cause, and no result is None.

fsspec's own bridge returns None for a coroutine that was cancelled, replaces time-outs
by an empty error, and leaves a coroutine running whose caller was interrupted.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import sys
import time
from inspect import CORO_CLOSED, getcoroutinestate
from typing import TYPE_CHECKING, Any, TypeVar, cast

from connectorkit.errors import CallCancelled

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["start", "through"]

T = TypeVar("T")
# Seconds for which an interrupted caller waits for what it leaves, and between looks.
_PATIENCE = 5.0
_LOOK = 0.005


def through(
    loop: asyncio.AbstractEventLoop | None,
    function: Callable[..., Coroutine[Any, Any, T]],
    *args: Any,
    **kwargs: Any,
) -> T:
    """Run a coroutine function on a loop of another thread, and wait for it.

    Raises:
        CallCancelled: It was cancelled.
        NotImplementedError: This thread is the loop's own.
    """
    if loop is None or loop.is_closed() or sys.is_finalizing():
        # The interpreter's end stops the loop's thread, and nobody would answer.
        raise RuntimeError("Loop is not running")
    if asyncio._get_running_loop() is loop:
        raise NotImplementedError("Calling sync() from within a running loop")
    told = _told(function(*args, **kwargs))
    future = asyncio.run_coroutine_threadsafe(told, loop)
    failure: Exception | None = None
    try:
        result, failure = future.result()
        if failure is not None:
            raise failure  # noqa: TRY301 - as if it were raised here
        return cast("T", result)
    except concurrent.futures.CancelledError as error:
        raise CallCancelled(
            "The call was cancelled beneath its caller; nothing came of it."
        ) from error
    except BaseException:
        # Ctrl-C reaches this thread alone.
        future.cancel()
        _wait_for(told)
        raise
    finally:
        # An error's traceback holds this frame, and the frame would hold the error.
        del future, failure, told


def _wait_for(work: Coroutine[Any, Any, object]) -> None:
    """Give what was cancelled time to tidy up: the process may end right after."""
    end = time.monotonic() + _PATIENCE
    while getcoroutinestate(work) != CORO_CLOSED and time.monotonic() < end:
        time.sleep(_LOOK)


def start(
    loop: asyncio.AbstractEventLoop | None,
    function: Callable[..., Coroutine[Any, Any, object]],
    *args: Any,
) -> None:
    """Have a coroutine function run on a loop of another thread, and wait for nothing.

    If the loop is gone, nothing runs.
    """
    if loop is not None:
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_start, function, *args)


_started: set[asyncio.Task[Any]] = set()


def _start(function: Callable[..., Coroutine[Any, Any, object]], *args: Any) -> None:
    # A loop holds its tasks weakly.
    task = asyncio.get_running_loop().create_task(function(*args))
    _started.add(task)
    task.add_done_callback(_started.discard)


async def _told(
    work: Coroutine[Any, Any, T],
) -> tuple[T, None] | tuple[None, Exception]:
    """Return the outcome: to raise it here would make a time-out another one.

    A future that crosses threads takes its words along, and leaves its cause and its
    notes behind.
    """
    try:
        return await work, None
    except Exception as error:  # noqa: BLE001 - raised where it is waited for
        return None, error
