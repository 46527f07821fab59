"""What slots were broken by once: each is a way in which a slot leaked or was lost."""

from __future__ import annotations

import asyncio
import enum
import multiprocessing
import time
from typing import TYPE_CHECKING, Any

import pytest
from redis import Connection, Redis, ResponseError
from redis.sentinel import Sentinel

from connectorkit import ConnectorKit
from connectorkit.testing import VirtualClock
from connectorkit_slots import SlotLimiter, SlotLimitExceeded, SlotLost
from connectorkit_slots.store import Away, Store
from servers import RedisServer
from slotting import Bench, Relay, beat
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Run on a Redis."""
    bench = Bench(redis_server)
    try:
        yield bench
    finally:
        bench.close()


def test_who_admits_what_runs_cannot_end_it(bench: Bench) -> None:
    """An admission that is tried again, and given up, leaves the holder its slot."""
    holder = bench.limiter(org_limit=1, lease=30)
    with holder.hold("org", "a") as slot:
        again = bench.limiter(org_limit=1, lease=30).acquire("org", "a")
        assert again.token != slot.token
        again.release()
        mine = holder.acquire("org", "a")
        mine.release()
        assert holder.usage("org").used == 1
        beat()
        assert not slot.lost
    assert holder.usage("org").used == 0


def test_given_up_before_it_is_asked_for(bench: Bench) -> None:
    """A release that overtakes its own acquire is remembered: nothing is given."""
    limiter = bench.limiter(org_limit=1)
    desk = limiter._desk
    claim = desk.claim("org", "a", 600, None, is_taken=False)
    desk.store.run(desk.verbs.release("org", "a", claim.token))
    desk.store.run(desk.ask(claim))
    assert bench.members("org:org") == []
    limiter.acquire("org", "a")


@pytest.mark.parametrize("on_error", ["closed", "local"])
def test_what_was_given_unheard_is_taken_back(bench: Bench, on_error: Any) -> None:
    """A reply that was lost to who is then refused leaves no slot behind."""
    with Relay(bench.server) as relay:
        options = {"org_limit": 1, "lease": 30, "on_error": on_error, "pause": 0.05}
        limiter = bench.limiter(relay.url, **options)
        if on_error == "local":
            # This process has given out its share, so it refuses.
            limiter._desk._book.room = _full  # type: ignore[method-assign]
        relay.is_losing = True
        with pytest.raises(OSError, match=r"."):
            limiter.acquire("org", "a")
        relay.is_losing = False
        looks = bench.limiter(org_limit=1)
        wait_until(lambda: looks.usage("org").used == 0)


def test_further_scopes_outlive_what_redis_forgets(bench: Bench) -> None:
    """A holder that does not name them renews in them all the same."""
    api, worker = bench.limiter(org_limit=9), bench.limiter(org_limit=9)
    api.acquire("org", "a", scopes={"user:7": 1, "team:2": 5})
    with worker.hold("org", "a"):
        bench.forget()
        worker.acquire("org", "b")
        assert bench.members("user:7") == bench.members("team:2") == ["org/a"]
        with pytest.raises(SlotLimitExceeded, match=r"'user:7'"):
            api.acquire("org", "c", scopes={"user:7": 1})
        # And the next one who takes it over hears of them, too.
        with bench.limiter().hold("org", "a"):
            bench.forget()
            beat()
    assert bench.members("user:7") == []


def test_interrupted_admission_leaves_no_slot(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is interrupted when Redis has given one has none, and nobody else."""
    limiter = bench.limiter(org_limit=1)
    ask = Store.run

    def interrupted(self: Store, asked: Any) -> Any:
        ask(self, asked)
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        limiter.acquire("org", "a", lease=600)
    monkeypatch.undo()
    wait_until(lambda: limiter.usage("org").used == 0)


def test_a_step_back_of_the_clock_lengthens_no_lease(bench: Bench) -> None:
    """What was given by a clock that was ahead ends a lease from now, at most."""
    limiter = bench.limiter(org_limit=2, lease=30)
    for execution in ("a", "b"):
        limiter.acquire("org", execution, lease=60)
    state, hour = f"{bench.prefix}state", 3600
    for scope in ("org:org", "global"):
        for member in bench.members(scope):
            bench.redis.zincrby(bench.prefix + scope, hour, member)
    ahead = float(bench.redis.hget(state, "peak")) + hour
    bench.redis.hset(state, "peak", ahead)
    with pytest.raises(SlotLimitExceeded) as caught:
        limiter.acquire("org", "c")
    assert 50 < caught.value.retry_after <= 60
    for scope in ("org:org", "global"):
        scores = bench.redis.zrange(bench.prefix + scope, 0, -1, withscores=True)
        assert all(score < ahead for _, score in scores)
    assert float(bench.redis.hget(state, "peak")) < ahead - hour + 50


def test_an_interrupted_command_leaves_no_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between question and answer: the next one would take it for its own."""
    limiter = bench.limiter(org_limit=1)
    limiter.acquire("org", "a")
    send, usages = Connection.send_packed_command, limiter._desk.verbs.usages()

    def interrupted(self: Connection, *args: Any, **kwargs: Any) -> None:
        send(self, *args, **kwargs)  # type: ignore[no-untyped-call]
        raise KeyboardInterrupt

    for ask in (limiter.usages, lambda: limiter._desk.store.run_all([usages] * 2)):
        monkeypatch.setattr(Connection, "send_packed_command", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ask()
        monkeypatch.undo()
        with pytest.raises(SlotLimitExceeded):
            limiter.acquire("org", "b")


def test_a_late_acquire_takes_nothing_over(bench: Bench) -> None:
    """Who has given it up is not there to have what another one has."""
    limiter = bench.limiter(org_limit=1)
    desk = limiter._desk
    late = desk.claim("org", "a", 600, None, is_taken=True)
    desk.store.run(desk.verbs.release("org", "a", late.token))
    with limiter.hold("org", "a") as slot:
        desk.store.run(desk.ask(late))
        beat()
        assert not slot.lost
    assert bench.members("org:org") == []


def test_a_late_renewal_brings_nothing_back(bench: Bench) -> None:
    """Nobody heard of it, and by now its slot is released."""
    limiter = bench.limiter(org_limit=1)
    slot = limiter.take("org", "a")
    lease = limiter._desk.heartbeat._leases[slot.token]
    limiter._desk.heartbeat._failed([lease], Away())
    slot.release()
    limiter._desk.store.run(limiter._desk.verbs.renew([(lease.claim, 0.0)]))
    wait_until(lambda: bench.members("org:org") == [])


def test_all_that_is_held_is_registered_before_more_is_given(bench: Bench) -> None:
    """Redis forgot all of it, and one of them happened to be renewed."""
    limiter = bench.limiter(org_limit=2)
    with limiter.hold("org", "a") as first, limiter.hold("org", "b") as second:
        bench.forget()
        heartbeat = limiter._desk.heartbeat
        heartbeat._renew([heartbeat._leases[first.token]])
        with pytest.raises(SlotLimitExceeded):
            limiter.acquire("org", "c")
        assert not first.lost
        assert not second.lost


def test_an_admission_prolongs_no_holder(bench: Bench) -> None:
    """A holder that is killed has its slot for its own lease."""
    limiter = bench.limiter(org_limit=1)
    with limiter.hold("org", "a", lease=30):
        admitted = limiter.acquire("org", "a", lease=600)
        assert admitted.deadline < time.monotonic() + 31
        admitted.release()
        assert limiter.usage("org").used == 1


def test_a_full_redis_is_not_filled_further() -> None:
    """What it refuses was not given, and there is nothing to give back."""
    with RedisServer() as server:
        bench = Bench(server)
        limiter = bench.limiter()
        limiter.usage("org")
        bench.redis.config_set("maxmemory", 1)
        for _ in range(3):
            with pytest.raises(ResponseError, match="OOM"):
                limiter.acquire("org", "a")
        beat()
        assert bench.keys() == set()
        bench.close()


def test_who_hangs_keeps_nobody_from_renewing(bench: Bench) -> None:
    """Another Redis has a thread of its own, and so has a client of other bounds."""
    limiters = [
        bench.limiter(),
        bench.limiter(),
        bench.limiter(budget=0.5),
        SlotLimiter.from_url("redis://elsewhere.invalid"),
        SlotLimiter(Redis.from_url(bench.server.endpoint_url, socket_timeout=1)),
    ]
    heartbeats = [each._desk.heartbeat for each in limiters]
    assert heartbeats[0] is heartbeats[1]
    assert len(set(heartbeats)) == 4


def test_schemes_are_not_mixed(bench: Bench) -> None:
    """A start time would be taken for the end of a lease, or that for a start time."""
    limiter = bench.limiter()
    admitted = limiter.acquire("org", "a")
    started = bench.limiter(scheme="started")
    with pytest.raises(ValueError, match="scheme 'leases'"):
        started.acquire("org", "b")
    admitted.release()
    bench.limiter(scheme="started", stale_cutoff=60).acquire("org", "b")
    started.acquire("org", "c")
    with pytest.raises(ValueError, match="scheme 'started 3600'"):
        limiter.acquire("org", "d")


def _full(claim: Any) -> Any:
    from connectorkit_slots.local import Full

    return Full(claim.scopes[0][0], 1, 1)


def test_a_late_release_lasts_as_long_as_its_slot(bench: Bench) -> None:
    """What could not be given back is tried for the slot's lease, not the limiter's."""
    clock = VirtualClock()
    limiter = bench.limiter(org_limit=1, lease=1, clock=clock)
    slot = limiter.take("org", "a", lease=600)
    release = limiter._desk.let_go(slot)
    slot.over()
    limiter._desk.release_later(release)
    clock.advance(500)
    beat()
    assert limiter.usage("org").used == 0


@pytest.mark.parametrize("error", [SystemExit, asyncio.CancelledError, ValueError])
def test_on_lost_may_raise(bench: Bench, error: type[BaseException]) -> None:
    """Whatever a callback raises ends no renewal of others."""

    def leave(_slot: object) -> None:
        raise error

    limiter = bench.limiter(org_limit=5, lease=0.6)
    other = limiter.take("org", "other")
    gone = limiter.take("org", "gone", on_lost=leave)
    limiter.release("org", "gone")
    wait_until(lambda: gone.lost)
    time.sleep(0.8)
    assert not other.lost
    assert limiter.usage("org").used == 1


def test_an_error_of_one_redis_is_not_anothers(bench: Bench) -> None:
    """What one refuses for reasons of its own keeps nobody else from being renewed."""
    clock = VirtualClock()
    with RedisServer() as full:
        sick = SlotLimiter.from_url(full.endpoint_url, lease=30, clock=clock, budget=5)
        well = bench.limiter(lease=30, clock=clock)
        with sick, well.hold("org", "a") as slot, sick.hold("org", "b"):
            with Redis.from_url(full.endpoint_url) as redis:
                redis.config_set("maxmemory", 1)
            for _ in range(4):
                clock.advance(15)
                beat()
            assert not slot.lost
            with Redis.from_url(full.endpoint_url) as redis:
                redis.config_set("maxmemory", 0)


def test_clients_of_a_sentinel_are_not_taken_for_one() -> None:
    """They name no host: the renewals of one would go to another's master."""
    sentinel: Any = Sentinel([("127.0.0.1", 1)])  # type: ignore[no-untyped-call]
    names = ("main", "other")
    stores = [Store(sentinel.master_for(name, socket_timeout=1)) for name in names]
    assert stores[0].address != stores[1].address


def test_a_client_without_a_limit_is_refused() -> None:
    """One thread renews for all limiters: a Redis that hangs would stop it."""
    with pytest.raises(ValueError, match="no socket_timeout"):
        SlotLimiter(Redis(socket_timeout=None))


def test_a_released_slot_is_not_gone_on_with(bench: Bench) -> None:
    """Who looks after the release is told, whoever released it."""
    slot = bench.limiter().take("org", "a")
    slot.check()
    slot.release()
    with pytest.raises(SlotLost, match="was released"):
        slot.check()


def test_by_hand_while_redis_is_away(bench: Bench) -> None:
    """What this process holds is lost to its holder at once, and Redis hears of it."""
    with Relay(bench.server) as relay:
        limiter = bench.limiter(relay.url, org_limit=1, lease=30, pause=0.05)
        slot = limiter.take("org", "a")
        relay.is_refusing = True
        relay.break_off()
        assert limiter.release("org", "a")
        assert slot.lost
        relay.is_refusing = False
        looks = bench.limiter()
        wait_until(lambda: looks.usage("org").used == 0)


def test_members_of_an_enumeration_are_their_values(bench: Bench) -> None:
    """An ID is what it is elsewhere: the text, and not the member's name (U1)."""

    class Org(str, enum.Enum):  # noqa: UP042 - the kind whose text is its name
        ACME = "acme"

    limiter = bench.limiter()
    limiter.acquire(Org.ACME, "a")
    assert limiter.usage("acme").used == 1


def test_keys_outlive_a_cutoff_of_less_than_a_second(bench: Bench) -> None:
    """A time to live is never cut to none: the limit would be, too."""
    limiter = bench.limiter(
        org_limit=1, scheme="started", stale_cutoff=0.9, key_ttl=0.9
    )
    limiter.acquire("org", "a")
    with pytest.raises(SlotLimitExceeded):
        limiter.acquire("org", "b")


def test_a_child_of_multiprocessing_leaves_no_slot(bench: Bench) -> None:
    """It ends without the interpreter's own end, and still gives its last slot back."""
    table = {"url": bench.server.endpoint_url, "limit": 2, "wait": 0}
    notes = {"type": "memory", "policies": ["slots"], "slots": table}
    config = {
        "connectors": {
            "notes": {**notes, "settings": {"name": bench.namespace}},
        }
    }
    context = multiprocessing.get_context("fork")
    told: Any = context.Queue()
    with ConnectorKit(config) as kit:
        for _ in range(5):
            child = context.Process(target=_one_call, args=(kit, told))
            child.start()
            assert told.get(timeout=60) == 42
            child.join(60)


def _one_call(kit: ConnectorKit, told: Any) -> None:
    try:
        told.put(kit.resolve("notes").call("query", "read", lambda: 42))
    except OSError as error:
        told.put(repr(error))
