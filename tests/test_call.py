"""Calls: all that one method of a filesystem does, in threads and on loops."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING

import pytest

from connectorkit import Call
from connectorkit.bridge import through
from connectorkit.call import current, joined
from stacks import Service, Stack

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from connectorkit import Scope


@pytest.fixture
def scope() -> Scope:
    """Return the scope of a connector."""
    return Stack().scope


def test_there_is_none_at_first(scope: Scope) -> None:
    """Outside of a call, and after one, operations are by themselves."""
    assert current(scope) is None
    with Call(scope) as call:
        assert current(scope) is call
    assert current(scope) is None
    assert call.is_over


def test_it_ends_with_an_error_too(scope: Scope) -> None:
    """What it was a part of is under way again."""
    with Call(scope) as outer:
        with pytest.raises(ValueError, match="oops"), Call(scope):
            raise ValueError("oops")
        assert current(scope) is outer


def test_operations_belong_to_it() -> None:
    """They have it as theirs, by which deadline and permits go."""
    stack = Stack()
    service = Service("content")
    with Call(stack.scope) as call:
        stack.run(service)
    stack.run(service)

    assert [op.call for op in service.seen] == [call, None]


def test_a_call_within_a_call_is_a_part_of_it(scope: Scope) -> None:
    """`joined` begins one, or joins the one under way."""
    with joined(scope):
        outer = current(scope)
        with joined(scope):
            assert current(scope) is outer
        assert current(scope) is outer
        assert outer is not None
        assert not outer.is_over
    assert outer.is_over


def test_what_is_to_be_done_at_its_end(scope: Scope) -> None:
    """It is done once, however the call ends; at once if it has ended already."""
    done: list[str] = []
    call = Call(scope)
    call.at_end(lambda: done.append("first"))
    call.at_end(lambda: done.append("second"))
    with pytest.raises(ValueError, match="oops"), call:
        raise ValueError("oops")
    assert sorted(done) == ["first", "second"]
    call.at_end(lambda: done.append("late"))
    assert done[-1] == "late"
    assert len(done) == 3


def test_its_end_is_told_once_in_any_thread(scope: Scope) -> None:
    """Whoever adds something while it ends has it done, and nothing is done twice."""
    for _ in range(200):
        done: list[int] = []
        call = Call(scope)
        adder = threading.Thread(
            target=lambda call=call, done=done: [
                call.at_end(lambda number=number: done.append(number))
                for number in range(5)
            ]
        )
        with call:
            adder.start()
        adder.join()
        assert sorted(done) == [*range(5)]


def test_another_connectors_call_is_none_of_ours(scope: Scope) -> None:
    """A copy from one to another is a call of each, and neither ends the other's."""
    other = Stack().scope
    with joined(scope) as mine:
        assert current(other) is None
        with joined(other) as its:
            assert current(other) is its
            assert current(scope) is None
        assert current(scope) is mine


def test_it_knows_when_it_began() -> None:
    """By the scope's clock."""
    stack = Stack()
    stack.clock.advance(5)

    assert Call(stack.scope).started == 1005


def test_it_crosses_gather(scope: Scope) -> None:
    """All the parts of a big read are parts of one call, and share what it keeps."""

    async def part(number: int) -> Call | None:
        await asyncio.sleep(0)
        call = current(scope)
        assert call is not None
        call.shared[number] = True
        return call

    async def main() -> tuple[Call, list[Call | None]]:
        with Call(scope) as call:
            return call, await asyncio.gather(*(part(n) for n in range(10)))

    call, parts = asyncio.run(main())

    assert parts == [call] * 10
    assert sorted(call.shared) == [*range(10)]


def test_it_crosses_to_a_loop_in_another_thread(scope: Scope) -> None:
    """The bridge carries it, and there it joins what the thread began."""

    async def there() -> Call | None:
        with joined(scope):
            return current(scope)

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    with Call(scope) as call:
        assert through(loop, there) is call
    assert through(loop, there) is not call
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def test_it_crosses_to_threads_with_its_context(scope: Scope) -> None:
    """A pool's thread is a part of it if it runs in a copy of the context."""
    with ThreadPoolExecutor(1) as threads, Call(scope) as call:
        assert threads.submit(copy_context().run, current, scope).result() is call
        assert threads.submit(current, scope).result() is None


def test_who_is_left_behind_begins_anew(scope: Scope) -> None:
    """A task that outlives its call has not its deadline, nor its permit."""

    async def main() -> tuple[Call, Call | None, Call | None]:
        go_on = asyncio.Event()

        async def straggle() -> tuple[Call | None, Call | None]:
            await go_on.wait()
            before = current(scope)
            with joined(scope):
                return before, current(scope)

        with Call(scope) as call:
            task = asyncio.create_task(straggle())
            await asyncio.sleep(0)
        go_on.set()
        return call, *await task

    call, before, within = asyncio.run(main())

    assert before is None
    assert within is not None
    assert within is not call


def test_calls_at_the_same_time_are_apart(scope: Scope) -> None:
    """Each task of a host has its own."""

    async def one() -> Call | None:
        with joined(scope):
            await asyncio.sleep(0)
            return current(scope)

    async def main() -> list[Call | None]:
        return await asyncio.gather(*(one() for _ in range(10)))

    assert len(set(asyncio.run(main()))) == 10


def test_it_may_end_in_another_context(scope: Scope) -> None:
    """An asynchronous generator may be closed by another task than began it."""

    async def steps() -> AsyncIterator[int]:
        with joined(scope):
            yield 1
            yield 2

    async def begin(walk: AsyncIterator[int]) -> int:
        return await anext(walk)

    async def main() -> None:
        walk = steps()
        await asyncio.create_task(begin(walk))
        await walk.aclose()  # type: ignore[attr-defined]
        assert current(scope) is None

    asyncio.run(main())
