"""A host's own callable, run through its connector's policies."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import AttemptTimedOut, ConnectorKit
from connectorkit.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit import Connector

POLICIES = {
    "enabled": ["deadline", "retry", "breaker", "timeout"],
    "retry": {"attempts": 3, "jitter": "none"},
}


class Service:
    """Fails as often as it is told to, then answers."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.count = 0

    def answer(self) -> int:
        self.count += 1
        if self.count <= self.failures:
            raise ConnectionResetError("reset")
        return self.count

    async def later(self) -> int:
        await asyncio.sleep(0)
        return self.answer()

    async def __call__(self) -> int:
        return await self.later()


@pytest.fixture
def clock() -> VirtualClock:
    """Time that nobody waits for."""
    return VirtualClock()


@pytest.fixture
def connector(clock: VirtualClock) -> Iterator[Connector]:
    """A connector whose policies have nothing to do with its storage."""
    config = {"connectors": {"notes": {"type": "memory"}}, "policies": POLICIES}
    with ConnectorKit(config, clock=clock) as kit:
        yield kit.resolve("notes")


def test_a_function_is_tried_again(connector: Connector, clock: VirtualClock) -> None:
    """Its attempts and waits are those of the policies."""
    service = Service(failures=2)
    assert connector.call("query", "read", service.answer) == 3
    assert clock.slept == [1, 2]


@pytest.mark.parametrize(
    "form",
    [
        lambda service: service.later,
        lambda service: service,
        lambda service: functools.partial(service.later),
    ],
    ids=["coroutine function", "object", "partial"],
)
def test_a_coroutine_function_is_tried_again(
    form: Callable[[Service], Any], connector: Connector, clock: VirtualClock
) -> None:
    """However it is written, the call is to be awaited and has the policies."""
    service = Service(failures=2)

    async def main() -> Any:
        return await connector.call("query", "read", form(service))

    assert asyncio.run(main()) == 3
    assert clock.slept == [1, 2]


def test_a_function_that_gives_a_coroutine_is_refused(connector: Connector) -> None:
    """It would run without any policy: the error says what to pass instead."""
    service = Service(failures=2)

    async def main() -> None:
        give: Any = lambda: service.later()  # noqa: E731, PLW0108 - the form itself
        with pytest.raises(TypeError, match=r"'notes': query.* `async def`"):
            connector.call("query", "read", give)

    asyncio.run(main())
    assert service.count == 0


def test_time_runs_from_the_await(connector: Connector, clock: VirtualClock) -> None:
    """What a host prepares and awaits later is not late when it begins."""
    service = Service()

    async def main() -> None:
        prepared = [connector.call("query", "read", service.later) for _ in range(8)]
        clock.advance(10_000)
        for each in prepared:
            await each

    asyncio.run(main())
    assert service.count == 8


def test_an_attempt_has_a_limit() -> None:
    """One that does not end is cancelled when its time is up."""
    policies = {"enabled": ["timeout"], "timeout": {"seconds": 0.01}}
    config = {"connectors": {"notes": {"type": "memory"}}, "policies": policies}

    async def main() -> None:
        with ConnectorKit(config) as kit, pytest.raises(AttemptTimedOut):
            await kit.resolve("notes").call("query", "read", asyncio.Event().wait)

    asyncio.run(main())
