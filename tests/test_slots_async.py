"""The twin for event loops does as the limiter for threads does."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
import redis.asyncio

from connectorkit import SlotDecided
from connectorkit_slots import (
    AsyncSlotLimiter,
    Share,
    SlotLimitExceeded,
    SlotsUnavailable,
)
from connectorkit_slots.store import AsyncStore
from servers import RedisServer
from slotting import Bench, Relay, benches
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(params=["redis_server", "redis_cluster"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Run each test on a Redis, and on a cluster of one node."""
    yield from benches(request.getfixturevalue(request.param))


@pytest.fixture
def plain(redis_server: RedisServer) -> Iterator[Bench]:
    """For what is no different on a cluster."""
    yield from benches(redis_server)


def _limiter(bench: Bench, url: str = "", **options: Any) -> AsyncSlotLimiter:
    return AsyncSlotLimiter.from_url(
        url or bench.server.endpoint_url,
        cluster=bench.server.is_cluster,
        **{"namespace": bench.namespace, "budget": 5.0, **options},
    )


def test_all_verbs(bench: Bench) -> None:
    """Acquire, hold, refusal, usage, limits, release and clear."""

    async def run() -> None:
        async with _limiter(bench, org_limit=1, global_limit=3) as limiter:
            admitted = await limiter.acquire("org", "a", scopes={"user:7": 1})
            assert admitted.scopes["user:7"] == Share(1, 1)
            async with limiter.hold("org", "a") as held:
                await admitted.release()
                with pytest.raises(SlotLimitExceeded) as caught:
                    await limiter.acquire("org", "b")
                assert caught.value.scope == "org:org"
                assert (await limiter.usage("org")).used == 1
                assert not held.lost
            await limiter.set_limit("org", 2)
            slots = [await limiter.take("org", i) for i in range(2)]
            assert [(each.used, each.limit) for each in await limiter.usages()] == [
                (2, 2)
            ]
            bench.redis.script_flush()
            await slots[0].release()
            await slots[0].release()
            assert await limiter.release("org", 1)
            assert not await limiter.release("org", 1)
            slots[1].over()
            await limiter.acquire("org", "c")
            assert await limiter.clear("org") == 1

    asyncio.run(run())
    assert bench.keys() <= {"state", "revoked"}


def test_busy_loop_loses_no_slot(plain: Bench) -> None:
    """A loop that is blocked for several leases keeps its slot: a thread renews it."""

    async def run() -> None:
        async with (
            _limiter(plain, org_limit=1, lease=0.6) as limiter,
            limiter.slot("org", "a") as slot,
        ):
            looker = plain.limiter(org_limit=1)
            for _ in range(20):
                assert looker.usage("org").used == 1
                # On purpose: this is what nobody should do on a loop.
                threading.Event().wait(0.1)
            assert not slot.lost

    asyncio.run(run())


def test_loss_is_told_on_the_loop(plain: Bench) -> None:
    """`on_lost` is called on the event loop, where it may cancel a task."""

    async def run() -> None:
        async with _limiter(plain, org_limit=1, lease=0.3) as limiter:
            told: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            async with limiter.slot("org", "a", on_lost=told.set_result) as slot:
                plain.limiter().release("org", "a")
                assert await asyncio.wait_for(told, 20) is slot
                assert slot.lost

    asyncio.run(run())


def test_slot_is_given_back_when_its_task_is_cancelled(bench: Bench) -> None:
    """In the block, and while it asks: nothing is left either way."""

    async def run() -> None:
        async with _limiter(bench, org_limit=1) as limiter:
            inside = asyncio.Event()

            async def hold() -> None:
                async with limiter.slot("org", "a"):
                    inside.set()
                    await asyncio.sleep(60)

            task = asyncio.create_task(hold())
            await inside.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            for turns in range(8):
                task = asyncio.create_task(hold())
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
            async with asyncio.timeout(20):
                while (await limiter.usage("org")).used:  # noqa: ASYNC110 - Redis knows
                    await asyncio.sleep(0.01)

    asyncio.run(run())


def test_cancelled_admission_leaves_no_slot(
    plain: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis has given it, and its lease is longer than anybody would wait."""
    ask = AsyncStore.run

    async def slow(self: AsyncStore, asked: Any) -> Any:
        await ask(self, asked)
        given.set()
        await asyncio.sleep(60)

    async def run() -> None:
        async with _limiter(plain, org_limit=1) as limiter:
            monkeypatch.setattr(AsyncStore, "run", slow)
            task = asyncio.create_task(limiter.acquire("org", "a", lease=600))
            await given.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            looks = plain.limiter()
            wait_until(lambda: looks.usage("org").used == 0)

    given = asyncio.Event()
    asyncio.run(run())


@pytest.mark.parametrize("mode", ["local", "open", "closed"])
def test_redis_is_away(plain: Bench, mode: str) -> None:
    """What stands in for it is the same."""
    events: list[object] = []

    async def run(url: str) -> None:
        async with _limiter(
            plain, url, org_limit=1, on_error=mode, emit=events.append
        ) as limiter:
            if mode == "closed":
                with pytest.raises(SlotsUnavailable):
                    await limiter.acquire("org", "a")
                with pytest.raises(SlotsUnavailable):
                    await limiter.release("org", "a")
                return
            async with limiter.slot("org", "a") as slot:
                assert slot.mode == mode
            await limiter.acquire("org", "b")
            assert await limiter.release("org", "b")
            for call in (
                limiter.usage("org"),
                limiter.usages(),
                limiter.set_limit("org", 1),
                limiter.clear("org"),
            ):
                with pytest.raises(SlotsUnavailable):
                    await call

    with Relay(plain.server) as relay:
        relay.is_refusing = True
        asyncio.run(run(relay.url))
    outcome = "refused" if mode == "closed" else "granted"
    assert events[0] == SlotDecided(outcome, mode, "", "org")


def test_holders_come_first_after_a_restart() -> None:
    """An emptied Redis gives nothing away before the asker's own slots are there."""
    with RedisServer() as server:
        bench = Bench(server)

        async def run() -> None:
            async with (
                _limiter(bench, org_limit=1, pause=0.001) as limiter,
                limiter.slot("org", "a") as slot,
            ):
                server.kill()
                server.start()
                with pytest.raises(SlotLimitExceeded):
                    await limiter.acquire("org", "b")
                assert not slot.lost

        asyncio.run(run())
        bench.close()


def test_clients_of_the_host(plain: Bench) -> None:
    """It takes a client for the loop and one for the thread that renews."""

    async def run() -> None:
        url = plain.server.endpoint_url
        async with redis.asyncio.Redis.from_url(url) as client:
            with redis.Redis.from_url(url) as renewing:
                limiter = AsyncSlotLimiter(
                    client, renewing, namespace=plain.namespace, org_limit=1
                )
                async with limiter.slot("org", "a") as slot:
                    assert slot.mode == "redis"
                await limiter.close()
                assert await client.ping()

    asyncio.run(run())
