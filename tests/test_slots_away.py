"""While Redis is away something stands in for it, which is said and counted."""

from __future__ import annotations

import json
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
import redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MaxConnectionsError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from connectorkit import ConnectorKitError, Refused, SlotDecided, SlotsRenewed
from connectorkit.testing import VirtualClock
from connectorkit_slots import (
    Share,
    SlotLimiter,
    SlotLimitExceeded,
    SlotsUnavailable,
)
from connectorkit_slots.store import is_away
from servers import RedisServer, free_port
from slotting import Bench, Relay, beat, benches
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOWHERE = f"redis://127.0.0.1:{free_port()}"


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Run on a Redis."""
    yield from benches(redis_server)


@pytest.fixture
def relay(redis_server: RedisServer) -> Iterator[Relay]:
    """Put a relay before the Redis."""
    with Relay(redis_server) as relay:
        yield relay


def test_local_limit_stands_in(bench: Bench) -> None:
    """By default this process gives out as many as the limits say, and no more."""
    events: list[object] = []
    limiter = bench.limiter(NOWHERE, org_limit=2, global_limit=3, emit=events.append)
    with limiter.slot("org", "a") as slot:
        assert slot.mode == "local"
        assert slot.scopes == {"org:org": Share(1, 2), "global": Share(1, 3)}
        limiter.acquire("org", "b")
        with pytest.raises(SlotLimitExceeded, match="while Redis is away") as caught:
            limiter.acquire("org", "c")
        assert (caught.value.scope, caught.value.used) == ("org:org", 2)
        assert caught.value.retry_after > 0
        limiter.acquire("other", "a")
        with pytest.raises(SlotLimitExceeded) as caught:
            limiter.acquire("other", "b")
        assert caught.value.scope == "global"
        assert not slot.lost
    assert events == [
        SlotDecided("granted", "local", "", "org"),
        SlotDecided("granted", "local", "", "org"),
        SlotDecided("refused", "local", "org", "org"),
        SlotDecided("granted", "local", "", "other"),
        SlotDecided("refused", "local", "global", "other"),
    ]
    limiter.acquire("org", "c")


def test_local_limit_is_shared_by_processes(bench: Bench) -> None:
    """Each of so many processes gives out its share, rounded up."""
    limiter = bench.limiter(NOWHERE, org_limit=5, processes=3)
    for i in range(2):
        limiter.acquire("org", i)
    with pytest.raises(SlotLimitExceeded) as caught:
        limiter.acquire("org", 2)
    assert caught.value.limit == 2


def test_local_acquire_is_idempotent(bench: Bench) -> None:
    """Admitted twice, held and released, an execution has one slot."""
    limiter = bench.limiter(NOWHERE, org_limit=1)
    limiter.acquire("org", "a")
    first = limiter.acquire("org", "a")
    with limiter.hold("org", "a") as held:
        assert held.token != first.token
    limiter.acquire("org", "b")
    assert limiter.release("org", "b")
    assert not limiter.release("org", "b")
    limiter.acquire("org", "c")


def test_local_slot_that_nobody_holds_lapses(bench: Bench) -> None:
    """What was admitted without Redis lapses as well."""
    clock = VirtualClock()
    limiter = bench.limiter(NOWHERE, org_limit=1, clock=clock, lease=30)
    limiter.acquire("org", "a")
    clock.advance(29)
    with pytest.raises(SlotLimitExceeded):
        limiter.acquire("org", "b")
    clock.advance(1)
    limiter.acquire("org", "b")


def test_open_lets_all_in(bench: Bench) -> None:
    """With "open" nobody is refused, and each slot says so."""
    events: list[object] = []
    limiter = bench.limiter(NOWHERE, org_limit=1, on_error="open", emit=events.append)
    slots = [limiter.acquire("org", i) for i in range(3)]
    assert {slot.mode for slot in slots} == {"open"}
    assert slots[0].scopes == {}
    assert events == [SlotDecided("granted", "open", "", "org")] * 3


def test_closed_lets_none_in(bench: Bench) -> None:
    """With "closed" all are refused by an error that is a ConnectionError."""
    events: list[object] = []
    limiter = bench.limiter(NOWHERE, on_error="closed", emit=events.append)
    with pytest.raises(SlotsUnavailable, match="is away") as caught:
        limiter.acquire("org", "a")
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value, Refused)
    assert isinstance(caught.value, ConnectorKitError)
    assert isinstance(caught.value.__cause__, redis.ConnectionError)
    with pytest.raises(SlotsUnavailable):
        limiter.release("org", "a")
    assert events == [SlotDecided("refused", "closed", "", "org")]


@pytest.mark.parametrize("mode", ["local", "open", "closed"])
def test_nobody_guesses_what_is_used(bench: Bench, mode: str) -> None:
    """What only Redis can tell or do raises, whatever stands in for admission."""
    limiter = bench.limiter(NOWHERE, on_error=mode)
    for call in (
        lambda: limiter.usage("org"),
        limiter.usages,
        lambda: limiter.set_limit("org", 1),
        lambda: limiter.clear("org"),
    ):
        with pytest.raises(SlotsUnavailable):
            call()


def test_server_that_does_not_answer_costs_the_budget_once(bench: Bench) -> None:
    """With a Redis that hangs, one asker waits for the budget; those after do not."""
    with RedisServer() as server:
        clock = VirtualClock()
        limiter = bench.limiter(
            server.endpoint_url, org_limit=99, budget=0.1, clock=clock
        )
        assert limiter.acquire("org", 0).mode == "redis"
        os.kill(server.pid, signal.SIGSTOP)
        try:
            began = time.monotonic()
            assert limiter.acquire("org", 1).mode == "local"
            assert time.monotonic() - began >= 0.09
            sent = [limiter.acquire("org", i).mode for i in range(2, 50)]
            # They would have waited for 4.8 s together.
            assert time.monotonic() - began < 4
            assert set(sent) == {"local"}
        finally:
            os.kill(server.pid, signal.SIGCONT)
        clock.advance(0.5)

        def is_back() -> bool:
            clock.advance(1)
            return limiter.acquire("org", 99).mode == "redis"

        wait_until(is_back)


def test_paused_server_is_away(bench: Bench) -> None:
    """During CLIENT PAUSE, as in a failover, what is given locally keeps the limit."""
    with RedisServer() as server, redis.Redis.from_url(server.endpoint_url) as client:
        limiter = bench.limiter(server.endpoint_url, org_limit=3, budget=0.1, lease=30)
        held = limiter.take("org", "a")
        client.client_pause(1000)
        slots = [limiter.take("org", i) for i in ("b", "c")]
        assert {slot.mode for slot in slots} == {"local"}
        with pytest.raises(SlotLimitExceeded):
            limiter.take("org", "d")
        # Registered as soon as Redis is back, by the thread that renews.
        wait_until(lambda: {slot.mode for slot in slots} == {"redis"})
        assert limiter.usage("org").used == 3
        for slot in (held, *slots):
            slot.release()
        assert limiter.usage("org").used == 0


def test_local_slots_over_the_limit_are_told(bench: Bench, relay: Relay) -> None:
    """Two halves of a fleet that were apart keep the limit once they are together."""
    clock = VirtualClock()
    told: list[object] = []
    apart = bench.limiter(relay.url, org_limit=2, lease=30, clock=clock)
    relay.is_refusing = True
    slots = [apart.take("org", i, on_lost=told.append) for i in range(2)]
    bench.limiter(org_limit=2).acquire("org", "others")
    relay.is_refusing = False
    clock.advance(1)
    beat()
    assert [slot.mode for slot in slots] == ["redis", "local"]
    assert [slot.lost for slot in slots] == [False, True]
    assert told == [slots[1]]
    assert bench.limiter(org_limit=2).usage("org").used == 2


@pytest.mark.parametrize("mode", ["local", "open"])
def test_reply_that_is_lost_counts_once(bench: Bench, relay: Relay, mode: str) -> None:
    """Redis has granted, and nobody heard: the same slot is registered, not another."""
    clock = VirtualClock()
    limiter = bench.limiter(relay.url, org_limit=1, clock=clock, on_error=mode)
    looker = bench.limiter(org_limit=1)
    # Later there is a connection, and the script.
    limiter.acquire("other", "a")
    relay.is_losing = True
    slot = limiter.take("org", "a")
    assert relay.lost
    assert slot.mode == mode
    assert looker.usage("org").used == 1
    relay.is_losing = False
    clock.advance(5)
    beat()
    assert slot.mode == "redis"
    assert looker.usage("org").used == 1
    slot.release()
    assert looker.usage("org").used == 0


def test_acquire_after_a_lost_reply_is_granted(bench: Bench, relay: Relay) -> None:
    """The host asks again: it has the slot that was granted, and uses no other."""
    clock = VirtualClock()
    limiter = bench.limiter(relay.url, org_limit=1, clock=clock, on_error="closed")
    # Later there is a connection, and the script.
    limiter.acquire("other", "a")
    relay.is_losing = True
    with pytest.raises(SlotsUnavailable):
        limiter.acquire("org", "a")
    assert bench.members("org:org") == ["org/a"]
    relay.is_losing = False
    clock.advance(1)
    slot = limiter.acquire("org", "a")
    assert slot.scopes["org:org"] == Share(1, 1)
    # What nobody heard of was given up, and that takes nothing from this one.
    beat()
    assert bench.members("org:org") == ["org/a"]
    slot.release()
    assert bench.members("org:org") == []


def test_release_whose_way_was_cut_is_tried_again(bench: Bench, relay: Relay) -> None:
    """A block ends without an error, and its slot is free as soon as Redis hears."""
    limiter = bench.limiter(relay.url, org_limit=1, lease=3600)
    with limiter.slot("org", "a"):
        relay.is_refusing = True
        relay.break_off()
    assert bench.members("org:org") == ["org/a"]
    relay.is_refusing = False
    wait_until(lambda: not bench.members("org:org"))


def test_renewals_that_fail_are_tried_again(bench: Bench, relay: Relay) -> None:
    """While Redis is away for less than a lease, nobody loses a slot."""
    clock = VirtualClock()
    events: list[object] = []
    limiter = bench.limiter(relay.url, lease=30, clock=clock, emit=events.append)
    with limiter.slot("org", "a") as slot:
        relay.is_refusing = True
        relay.break_off()
        for _ in range(2):
            clock.advance(10)
            beat()
        assert not slot.lost
        relay.is_refusing = False
        clock.advance(2.5)
        beat()
        assert slot.deadline == pytest.approx(22.5 + 29, abs=0.1)
    told = [each.has_failed for each in events if isinstance(each, SlotsRenewed)]
    assert told == [*[True] * (len(told) - 1), False]
    assert len(told) > 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (redis.ConnectionError("reset"), True),
        (redis.TimeoutError("slow"), True),
        (BusyLoadingError("LOADING"), True),
        (ReadOnlyError("a replica since the failover"), True),
        (ResponseError("Error running script (call to f_1): -READONLY You"), True),
        (ResponseError("BUSY Redis is busy running a script"), True),
        (ClusterDownError("CLUSTERDOWN"), True),
        (TryAgainError("slots move"), True),
        (AuthenticationError("wrong password"), False),
        (MaxConnectionsError("too many"), False),
        (redis.ConnectionError("No connection available."), False),
        (OutOfMemoryError("full"), False),
        (ResponseError("WRONGTYPE"), False),
        (TypeError("a mistake"), False),
        (OSError("of somebody else"), False),
    ],
)
def test_what_is_away(error: Exception, expected: bool) -> None:
    """No connection, no answer and a node that says so; no mistake, no contention."""
    assert is_away(error) is expected


def test_what_was_held_meanwhile_comes_first(bench: Bench, relay: Relay) -> None:
    """No slot of this process's own takes its place when Redis is there again."""
    clock = VirtualClock()
    limiter = bench.limiter(relay.url, org_limit=1, lease=30, clock=clock)
    relay.is_refusing = True
    with limiter.hold("org", "a") as slot:
        modes = [slot.mode]
        relay.is_refusing = False
        clock.advance(1)
        with pytest.raises(SlotLimitExceeded):
            limiter.acquire("org", "b")
        assert [*modes, slot.mode] == ["local", "redis"]
        assert not slot.lost


def test_a_release_by_hand_waits_for_redis(bench: Bench, relay: Relay) -> None:
    """It takes what the execution had then, from whoever had it, and nothing later."""
    clock = VirtualClock()
    limiter = bench.limiter(relay.url, org_limit=9, clock=clock)
    others = bench.limiter(org_limit=9)
    records = f"{bench.prefix}records"
    for execution in ("a", "b"):
        others.acquire("org", execution, lease=600)
        record = json.loads(bench.redis.hget(records, f"org/{execution}"))
        record["started"] -= 10_000
        bench.redis.hset(records, f"org/{execution}", json.dumps(record))
    relay.is_refusing = True
    relay.break_off()
    for execution in ("a", "b"):
        assert not limiter.release("org", execution)
    # By Redis's clock this one begins later than the release was asked for.
    clock.advance(5)
    others.release("org", "b")
    again = others.acquire("org", "b", lease=600)
    relay.is_refusing = False

    def is_done() -> bool:
        clock.advance(1.1)
        beat()
        return bench.members("org:org") == ["org/b"]

    wait_until(is_done)
    again.release()
    assert bench.members("org:org") == []


def test_one_broken_connection_is_no_outage(bench: Bench) -> None:
    """Redis has closed it, and the next one serves."""
    limiter = bench.limiter(org_limit=9)
    limiter.acquire("org", "a")
    bench.redis.client_kill_filter(_type="normal", skipme=True)
    assert limiter.acquire("org", "b").mode == "redis"


def test_contention_admits_nobody(bench: Bench) -> None:
    """A pool that is empty is no outage: its error is raised."""
    client = redis.Redis.from_url(
        bench.server.endpoint_url, max_connections=1, protocol=2
    )
    with client:
        limiter = SlotLimiter(client, namespace=bench.namespace, on_error="open")
        limiter.acquire("org", "a")
        taken = client.connection_pool.get_connection()
        with pytest.raises(MaxConnectionsError):
            limiter.acquire("org", "b")
        client.connection_pool.release(taken)


def test_mistake_admits_nobody(bench: Bench) -> None:
    """What the host's own code raises is raised."""

    def limits(org: str) -> int:
        raise TypeError(org)

    with pytest.raises(TypeError):
        bench.limiter(org_limits=limits, on_error="open").acquire("org", "a")


def test_cluster_that_is_away() -> None:
    """So is one whose node is gone, and one that was never found."""
    with RedisServer(is_cluster=True) as server:
        bench = Bench(server)
        limiter = bench.limiter(org_limit=2, budget=0.2)
        assert limiter.acquire("org", 1).mode == "redis"
        server.kill()
        assert limiter.acquire("org", 2).mode == "local"
        unfound = bench.limiter(org_limit=2, budget=0.2)
        assert unfound.acquire("org", 1).mode == "local"
        with pytest.raises(SlotsUnavailable):
            bench.limiter(on_error="closed", budget=0.2).acquire("org", 1)
        bench.redis.close()
