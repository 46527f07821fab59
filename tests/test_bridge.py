"""The bridge from threads to a loop: no result is None, and no error is emptied."""

from __future__ import annotations

import asyncio
import concurrent.futures
import subprocess
import sys
import threading
from contextvars import ContextVar
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.asyn import get_loop

from connectorkit import CallCancelled, ConnectorKitError
from connectorkit.bridge import through

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER: ContextVar[int] = ContextVar("number", default=0)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Run a loop in a thread of its own."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield loop
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_a_result_crosses(loop: asyncio.AbstractEventLoop) -> None:
    """Arguments go there, and the result comes back; None only if it is the result."""

    async def double(number: int, *, times: int = 2) -> int:
        return number * times

    async def nothing() -> None:
        return None

    assert through(loop, double, 21) == 42
    assert through(loop, double, 21, times=3) == 63
    assert through(loop, nothing) is None


def test_a_context_crosses(loop: asyncio.AbstractEventLoop) -> None:
    """What the thread has set is seen on the loop, and stays as it was here."""

    async def read_and_set() -> int:
        number = NUMBER.get()
        NUMBER.set(7)
        return number

    token = NUMBER.set(5)
    try:
        assert through(loop, read_and_set) == 5
        assert NUMBER.get() == 5
    finally:
        NUMBER.reset(token)


def test_an_error_crosses_as_it_is(loop: asyncio.AbstractEventLoop) -> None:
    """The very instance, with its cause."""
    error = PermissionError("denied")
    error.__cause__ = ConnectionError("by the service")

    async def fails() -> None:
        raise error

    with pytest.raises(PermissionError) as caught:
        through(loop, fails)
    assert caught.value is error
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.parametrize(
    "kind", [TimeoutError, asyncio.TimeoutError, concurrent.futures.TimeoutError]
)
def test_a_timeout_keeps_its_text(
    loop: asyncio.AbstractEventLoop, kind: type[Exception]
) -> None:
    """An empty one is what fsspec's own bridge would raise."""

    async def times_out() -> None:
        raise kind("read timed out on 10.0.0.1")

    with pytest.raises(TimeoutError, match=r"10\.0\.0\.1"):
        through(loop, times_out)


def test_a_cancelled_call_is_an_error(loop: asyncio.AbstractEventLoop) -> None:
    """Beneath its caller: by itself, or by whoever ends the loop's tasks (F1).

    fsspec's own bridge returns None, which looks like an empty success.
    """

    async def cancels_itself() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    async def raises_it() -> None:
        raise asyncio.CancelledError

    for function in (cancels_itself, raises_it):
        with pytest.raises(CallCancelled) as caught:
            through(loop, function)
        assert isinstance(caught.value, OSError)
        assert isinstance(caught.value, ConnectorKitError)


def test_ctrl_c_cancels_what_it_waits_for(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt reaches the thread alone: the coroutine is told."""
    dropped = threading.Event()

    async def hangs() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            dropped.set()

    started = threading.Event()

    def interrupt(*_: object) -> Any:
        loop.call_soon_threadsafe(started.set)
        assert started.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        through(loop, hangs)
    assert dropped.wait(60)


def test_ctrl_c_waits_for_what_is_tidied_up(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may end right after it: no half of a download stays behind."""
    is_tidy = False
    started = threading.Event()

    async def hangs() -> None:
        nonlocal is_tidy
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            for _ in range(10):
                await asyncio.sleep(0.001)
            is_tidy = True

    def interrupt(*_: object) -> Any:
        assert started.wait(60)
        raise KeyboardInterrupt

    monkeypatch.setattr(concurrent.futures.Future, "result", interrupt)
    with pytest.raises(KeyboardInterrupt):
        through(loop, hangs)
    assert is_tidy


def test_at_the_interpreters_end_there_is_an_error() -> None:
    """The thread of the loop is gone by then: who asks something is told, at once."""
    script = """
        import fsspec.asyn
        from connectorkit.bridge import through

        async def answer():
            return 42

        class Late:
            def __del__(self, through=through, loop=fsspec.asyn.get_loop()):
                try:
                    through(loop, answer)
                except RuntimeError as error:
                    print(error)

        kept = Late()
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "Loop is not running\n"


def test_the_loop_does_not_wait_for_itself(loop: asyncio.AbstractEventLoop) -> None:
    """It would wait for ever: that is an error, and nothing is begun."""
    begun: list[int] = []

    async def begin() -> None:
        begun.append(1)

    async def waits() -> None:
        through(loop, begin)

    with pytest.raises(NotImplementedError):
        through(loop, waits)
    assert not begun


def test_another_loop_may_wait(loop: asyncio.AbstractEventLoop) -> None:
    """Synchronous use from within somebody else's loop works, as with fsspec."""

    async def answer() -> int:
        return 42

    async def main() -> int:
        return through(loop, answer)

    assert asyncio.run(main()) == 42


def test_without_a_loop_there_is_an_error() -> None:
    """A loop that is closed, or none, cannot run anything."""
    closed = asyncio.new_event_loop()
    closed.close()

    async def answer() -> int:
        return 42

    for gone in (closed, None):
        with pytest.raises(RuntimeError, match="not running"):
            through(gone, answer)


def test_it_works_on_fsspecs_loop() -> None:
    """Which is the one that filesystems use."""

    async def answer() -> int:
        return 42

    assert through(get_loop(), answer) == 42
