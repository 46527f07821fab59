"""At most so many slots, in all scopes or in none, released by who has them."""

from __future__ import annotations

import copy
import json
import logging
import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import redis
from redis.exceptions import ResponseError

from connectorkit import ConnectorKitError, Refused
from connectorkit.testing import VirtualClock
from connectorkit_slots import Share, SlotLimiter, SlotLimitExceeded, SlotLost, Usage
from servers import RedisServer
from slotting import Bench, beat, benches
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


def test_slot_is_given_back_on_any_exit(bench: Bench) -> None:
    """After a block, and after one that failed, no set has a member."""
    limiter = bench.limiter(org_limit=1, global_limit=1)
    with limiter.slot("org", "a") as slot:
        assert slot.scopes == {"org:org": Share(1, 1), "global": Share(1, 1)}
        assert slot.mode == "redis"
        assert not slot.lost
    with pytest.raises(ZeroDivisionError), limiter.slot("org", "b"):
        _ = 1 / 0
    assert bench.keys() == {"state"}


def test_refusal_says_what_an_answer_429_needs(bench: Bench) -> None:
    """The error has scope, used, limit and seconds above 0, also a copy."""
    limiter = bench.limiter(org_limit=2, lease=30)
    limiter.acquire("org", "a")
    limiter.acquire("org", "b")
    with pytest.raises(SlotLimitExceeded, match="'c' of organization 'org'") as caught:
        limiter.acquire("org", "c")
    for error in (caught.value, copy.copy(caught.value)):
        assert (error.scope, error.used, error.limit) == ("org:org", 2, 2)
        assert 0 < error.retry_after <= 30
        assert isinstance(error, OSError)
        assert isinstance(error, Refused)
        assert isinstance(error, ConnectorKitError)
        assert not isinstance(error, TimeoutError)


def test_what_is_no_id_or_limit() -> None:
    """Each is said in a sentence, before Redis is asked."""
    limiter = SlotLimiter.from_url("redis://nowhere.invalid")
    with pytest.raises(TypeError, match="mapping"):
        limiter.acquire("org", 1, scopes=["user:7"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="has to be an ID"):
        limiter.acquire("org", 1, scopes={b"user:7": 1})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="UTF-8"):
        limiter.acquire("org", "\udcff")
    with pytest.raises(TypeError, match="org_limits has to be"):
        SlotLimiter.from_url("redis://x", org_limits=[1])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="cannot be read"):
        SlotLimiter.from_url("redis://x?colour=blue")


def test_all_scopes_or_none(bench: Bench) -> None:
    """Whichever scope is full, none has a new member."""
    limiter = bench.limiter(org_limit=2, global_limit=3)
    limiter.acquire("one", 1, scopes={"user:7": 1})
    with pytest.raises(SlotLimitExceeded) as caught:
        limiter.acquire("one", 2, scopes={"user:7": 1, "user:8": 1})
    assert caught.value.scope == "user:7"
    assert bench.keys() == {"state", "records", "global", "org:one", "user:7"}
    limiter.acquire("one", 2)
    limiter.acquire("two", 1)
    with pytest.raises(SlotLimitExceeded) as caught:
        limiter.acquire("three", 1)
    assert (caught.value.scope, caught.value.used) == ("global", 3)
    assert bench.members("org:three") == []


def test_acquire_is_idempotent(bench: Bench) -> None:
    """To acquire again takes no further slot, and who asked last may release it."""
    limiter = bench.limiter(org_limit=1)
    first = limiter.acquire("org", "a")
    again = bench.limiter(org_limit=1).acquire("org", "a")
    first.release()
    assert limiter.usage("org").used == 1
    again.release()
    assert limiter.usage("org").used == 0


def test_who_holds_takes_over(bench: Bench) -> None:
    """What was admitted is held under a new token; the old one releases nothing."""
    limiter = bench.limiter(org_limit=1)
    admitted = limiter.acquire("org", "a", lease=600)
    with bench.limiter(org_limit=1).hold("org", "a") as held:
        assert held.token != admitted.token
        admitted.release()
        assert limiter.usage("org").used == 1
    assert limiter.usage("org").used == 0


def test_what_was_admitted_in_vain_lapses(plain: Bench) -> None:
    """An admitted execution that no worker takes over frees its slot by itself."""
    limiter = plain.limiter(org_limit=1)
    slot = limiter.acquire("org", "a", lease=0.2)
    wait_until(lambda: not limiter.usage("org").used)
    assert slot.lost
    limiter.acquire("org", "b")


def test_late_release_frees_no_new_holder(bench: Bench) -> None:
    """Who lost a slot does not release that of who has it now, execution and all."""
    limiter = bench.limiter(org_limit=1)
    old = limiter.acquire("org", "a", lease=0.1)
    wait_until(lambda: not limiter.usage("org").used)
    new = limiter.acquire("org", "a", lease=30)
    assert new.token != old.token
    old.release()
    assert limiter.usage("org").used == 1


def test_release_by_hand_is_idempotent(bench: Bench) -> None:
    """By hand a slot leaves all its scopes, whoever releases it, and however often."""
    limiter = bench.limiter(org_limit=1)
    limiter.acquire("org", "a", scopes={"user:7": 1})
    assert bench.limiter().release("org", "a")
    assert bench.keys() - {"revoked"} == {"state"}
    assert not limiter.release("org", "a")
    assert not limiter.release("org", "never")


def test_to_release_twice_releases_once(plain: Bench) -> None:
    """A slot that is over is not given back again."""
    limiter = plain.limiter()
    slot = limiter.take("org", "a")
    slot.release()
    limiter.acquire("org", "a")
    slot.release()
    assert limiter.usage("org").used == 1
    assert not slot.lost


class Organization:
    """A host's model, with no text of its own: another one after each load."""


def test_an_object_is_no_id(plain: Bench) -> None:
    """What names another key on each load is refused, not taken for an ID."""
    limiter = plain.limiter()
    calls: list[Any] = [limiter.acquire, limiter.take, limiter.release]
    for call in calls:
        with pytest.raises(TypeError, match="not an object of Organization"):
            call(Organization(), "a")
    for wrong in (None, True, b"org", 1.5):
        with pytest.raises(TypeError, match="has to be an ID"):
            limiter.acquire("org", wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="The organization is empty"):
        limiter.acquire("", "a")


def test_release_after_the_organization_object_changed(plain: Bench) -> None:
    """Text, number and UUID of one ID name one slot."""
    limiter = plain.limiter(org_limit=1, global_limit=1)
    execution = UUID(int=7)
    limiter.acquire(42, execution)
    assert limiter.release("42", str(execution))
    assert plain.keys() - {"revoked"} == {"state"}


@pytest.mark.parametrize(
    ("one", "other"), [(("a/b", "c"), ("a", "b/c")), (("a%2Fb", "c"), ("a/b", "c"))]
)
def test_no_two_executions_are_one(
    plain: Bench, one: tuple[str, str], other: tuple[str, str]
) -> None:
    """Whatever IDs are made of, two pairs of them have two slots."""
    limiter = plain.limiter()
    limiter.acquire(*one)
    limiter.acquire(*other)
    assert len(plain.members("global")) == 2


def test_limit_that_was_stored_counts_first(bench: Bench) -> None:
    """Stored in Redis, then the organisation's own, then that of all."""
    limiter = bench.limiter(org_limit=3, org_limits={"own": 2})
    assert limiter.usage("other") == Usage("other", 0, 3, None)
    assert limiter.usage("own").limit == 2
    limiter.set_limit("own", 1)
    assert limiter.usage("own").limit == 1
    assert limiter.acquire("own", 1).scopes["org:own"] == Share(1, 1)
    with pytest.raises(SlotLimitExceeded):
        limiter.acquire("own", 2)
    limiter.set_limit("own", None)
    assert limiter.acquire("own", 2).scopes["org:own"] == Share(2, 2)


def test_limits_by_a_function(plain: Bench) -> None:
    """The host is asked for each decision; None leaves it to the limit of all."""
    limits = {"small": 1}
    limiter = plain.limiter(org_limit=9, org_limits=limits.get)
    assert limiter.usage("small").limit == 1
    assert limiter.usage("big").limit == 9
    limits["small"] = 0
    with pytest.raises(ValueError, match="'small' is 0"):
        limiter.acquire("small", 1)


def test_no_limit_is_counted(plain: Bench) -> None:
    """Without a limit slots are given and counted."""
    limiter = plain.limiter()
    slots = [limiter.acquire("org", i) for i in range(5)]
    assert slots[-1].scopes == {"org:org": Share(5, None), "global": Share(5, None)}


def test_a_lower_limit_takes_nothing_away(plain: Bench) -> None:
    """Who has a slot keeps it when the limit falls."""
    limiter = plain.limiter(org_limit=2)
    slots = [limiter.take("org", i) for i in range(2)]
    limiter.set_limit("org", 1)
    assert limiter.acquire("org", 0).scopes["org:org"] == Share(2, 1)
    assert not slots[1].lost
    for slot in slots:
        slot.release()


@pytest.mark.parametrize("limit", [0, -1, True, 1.5, "3", 10**10])
def test_nonsense_is_no_limit(plain: Bench, limit: Any) -> None:
    """A limit is a whole number from 1, wherever it comes from."""
    for options in (
        {"org_limit": limit},
        {"global_limit": limit},
        {"org_limits": {"org": limit}},
    ):
        with pytest.raises(ValueError, match="whole number from 1"):
            plain.limiter(**options)
    limiter = plain.limiter()
    with pytest.raises(ValueError, match="whole number from 1"):
        limiter.set_limit("org", limit)
    with pytest.raises(ValueError, match="whole number from 1"):
        limiter.acquire("org", 1, scopes={"user:7": limit})


@pytest.mark.parametrize("name", ["user", "org:other", ":7", "user:", "global"])
def test_a_further_scope_has_a_kind(plain: Bench, name: str) -> None:
    """No further scope has the name of one that is there anyway."""
    with pytest.raises(ValueError, match="no further scope"):
        plain.limiter().acquire("org", 1, scopes={name: 1})


def test_nonsense_that_was_stored_is_no_limit(plain: Bench) -> None:
    """What somebody else wrote into Redis opens and closes nothing."""
    limiter = plain.limiter(org_limit=1)
    for nonsense in ("0", "-3", "none", "nan", "inf"):
        plain.redis.hset(plain.prefix + "state", "limit:org:org", nonsense)
        limiter.acquire("org", "a")
        with pytest.raises(SlotLimitExceeded) as caught:
            limiter.acquire("org", "b")
        assert caught.value.limit == 1
        assert limiter.usage("org").limit == limiter.usages()[0].limit == 1


def test_usages_tell_each_organization(bench: Bench) -> None:
    """Who has slots is listed with used, limit and the age of the oldest."""
    limiter = bench.limiter(org_limit=4)
    limiter.set_limit("b", 9)
    limiter.acquire("a", 1)
    limiter.acquire("b", 1)
    limiter.acquire("b", 2)
    found = {each.organization: each for each in limiter.usages()}
    assert {name: (each.used, each.limit) for name, each in found.items()} == {
        "a": (1, 4),
        "b": (2, 9),
    }
    assert all(each.oldest is not None and each.oldest >= 0 for each in found.values())


def test_clear_takes_all_back(bench: Bench) -> None:
    """An organisation's slots leave all scopes; others' stay."""
    limiter = bench.limiter()
    for i in range(3):
        limiter.acquire("a", i, scopes={"user:7": 9})
    limiter.acquire("b", 1)
    assert limiter.clear("a") == 3
    assert bench.members("global") == ["b/1"]
    assert bench.members("user:7") == []
    assert limiter.clear("a") == 0


def test_all_keys_have_one_hash_tag_and_an_end(bench: Bench) -> None:
    """One node of a cluster has them all; only limits outlive the slots."""
    limiter = bench.limiter(lease=30)
    limiter.set_limit("org", 3)
    held = limiter.take("org", 1, scopes={"user:7": 1})
    limiter.release("org", 1)
    held.release()
    limiter.acquire("org", 2, scopes={"user:7": 1}, lease=300)
    limiter.acquire("org", 3)
    keys = bench.keys()
    assert keys == {"state", "records", "revoked", "global", "org:org", "user:7"}
    ttl = {key: bench.redis.ttl(bench.prefix + key) for key in keys}
    assert ttl.pop("state") == -1
    # Twice as long as a slot may last without a renewal.
    assert all(1_200_000 < seconds <= 1_209_600 for seconds in ttl.values())


def _commands(bench: Bench) -> dict[str, int]:
    """Count what clients have sent, and what scripts have run, by command."""
    stats = bench.redis.info("commandstats")
    return {
        name.removeprefix("cmdstat_"): each["calls"]
        for name, each in stats.items()
        if name != "cmdstat_info"
    }


def _sent(bench: Bench, call: Any) -> dict[str, int]:
    before = _commands(bench)
    call()
    after = _commands(bench)
    return {name: n - before.get(name, 0) for name, n in after.items()}


def test_each_verb_is_one_round_trip(plain: Bench) -> None:
    """Each sends one EVALSHA, a limit one HSET, and nothing else."""
    limiter = plain.limiter(org_limit=1)

    def refused() -> None:
        with pytest.raises(SlotLimitExceeded):
            limiter.acquire("org", "b")

    verbs: list[Any] = [
        lambda: limiter.acquire("org", "a"),
        refused,
        lambda: limiter.usage("org"),
        limiter.usages,
        lambda: limiter.release("org", "a"),
        lambda: limiter.clear("org"),
    ]
    for verb in [*verbs]:
        verb()
    for verb in verbs:
        with plain.redis.monitor() as heard:
            verb()
            plain.redis.echo("over")
            sent = []
            for each in iter(heard.next_command, None):
                if each["command"].startswith("ECHO over"):
                    break
                if each["client_type"] != "lua":
                    sent.append(each["command"].partition(" ")[0])
        assert sent == ["EVALSHA"]
    assert _sent(plain, lambda: limiter.set_limit("org", 3))["hset"] == 1


def test_age_of_the_oldest(plain: Bench) -> None:
    """It is counted from when a slot was given, whatever was renewed or forgotten."""
    clock = VirtualClock()
    limiter = plain.limiter(lease=30, clock=clock)
    with limiter.hold("org", "a"):
        record = json.loads(plain.redis.hget(f"{plain.prefix}records", "org/a"))
        record["started"] -= 100
        plain.redis.hset(f"{plain.prefix}records", "org/a", json.dumps(record))
        for usage in (limiter.usage("org"), *limiter.usages()):
            assert usage.oldest == pytest.approx(100, abs=5)
    with limiter.hold("org", "b"):
        clock.advance(20)
        plain.forget()
        beat()
        assert limiter.usage("org").oldest == pytest.approx(20, abs=5)


def test_usage_writes_nothing(plain: Bench) -> None:
    """To look reaps nothing: no command that Redis runs for it is one that writes."""
    limiter = plain.limiter(org_limit=1)
    limiter.acquire("org", "a", lease=0.05)
    limiter.usage("org")
    limiter.usages()
    wait_until(lambda: not limiter.usage("org").used)

    def look() -> None:
        limiter.usage("org")
        limiter.usages()

    sent = {name for name, n in _sent(plain, look).items() if n}
    reads = {"time", "zrangebyscore", "zcount", "zscore", "hget"}
    assert sent <= {"evalsha"} | reads
    assert plain.members("org:org") == ["org/a"]


def test_usage_is_read_from_a_replica(plain: Bench) -> None:
    """A replica, which takes no writes, tells the usage."""
    with RedisServer() as server:
        replica: Any = redis.Redis.from_url(server.endpoint_url, protocol=2)
        with replica, plain.limiter(url=server.endpoint_url, org_limit=4) as reader:
            plain.limiter().acquire("org", "a")
            replica.execute_command("REPLICAOF", "127.0.0.1", str(plain.server.port))
            wait_until(lambda: reader.usage("org").used == 1)
            assert reader.usages()[0].organization == "org"


def test_scripts_are_loaded_again(bench: Bench) -> None:
    """After SCRIPT FLUSH all goes on."""
    limiter = bench.limiter(org_limit=1)
    with limiter.slot("org", "a"):
        bench.redis.script_flush()
        assert limiter.usage("org").used == 1
        bench.redis.script_flush()
    assert limiter.usage("org").used == 0


def test_client_that_decodes_or_not(plain: Bench) -> None:
    """A limiter takes any client of redis-py."""
    for protocol in (2, 3):
        for decode in (True, False):
            client: Any = redis.Redis.from_url(
                plain.server.endpoint_url, decode_responses=decode, protocol=protocol
            )
            with client:
                limiter = SlotLimiter(client, namespace=plain.namespace, org_limit=2)
                limiter.set_limit("org", 1)
                limiter.acquire("org", "a")
                with limiter.hold("org", "a"):
                    assert limiter.usage("org").limit == 1
                    assert [each.used for each in limiter.usages()] == [1]


@pytest.mark.parametrize("skew", [-3600.0, 3600.0])
def test_clocks_of_clients_decide_nothing(
    plain: Bench, monkeypatch: pytest.MonkeyPatch, skew: float
) -> None:
    """A host an hour ahead or behind reaps no one, and holds for no longer."""
    limiter = plain.limiter(org_limit=1)
    limiter.acquire("org", "a", lease=30)
    wall = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: wall() + skew)
        skewed = plain.limiter(org_limit=1, clock=VirtualClock(max(0.0, skew)))
        with pytest.raises(SlotLimitExceeded) as caught:
            skewed.acquire("org", "b")
        assert 0 < caught.value.retry_after <= 30
        skewed.release("org", "a")
        skewed.acquire("org", "b", lease=0.1)
    wait_until(lambda: not limiter.usage("org").used)


def test_clock_of_redis_that_has_gone_back(plain: Bench) -> None:
    """What Redis gave while its clock was an hour ahead does not last for an hour."""
    limiter = plain.limiter(org_limit=2, lease=30)
    for execution in ("a", "b"):
        limiter.acquire("org", execution)
    # As if the clock had gone back since.
    ahead = time.time() + 3600
    for scope in ("org:org", "global"):
        for member in plain.members(scope):
            plain.redis.zadd(plain.prefix + scope, {member: ahead + 30})
    plain.redis.hset(plain.prefix + "state", "peak", ahead)
    with pytest.raises(SlotLimitExceeded) as caught:
        limiter.acquire("org", "c")
    assert caught.value.retry_after <= 30


def test_ten_thousand_that_lapsed(plain: Bench) -> None:
    """They take no slot, and one call reaps few of them, so that none is slow."""
    limiter = plain.limiter(org_limit=1)
    stale = {f"org/old{i}": 1 + i for i in range(10_000)}
    for scope in ("org:org", "global"):
        plain.redis.zadd(plain.prefix + scope, stale)
    plain.redis.config_resetstat()
    for i in range(20):
        with limiter.slot("org", i) as slot:
            assert slot.scopes["org:org"] == Share(1, 1)
    assert plain.redis.zcard(plain.prefix + "org:org") == 10_000 - 20 * 128
    per_call = plain.redis.info("commandstats")["cmdstat_evalsha"]["usec_per_call"]
    assert per_call < 20_000
    assert limiter.usage("org").used == 0


def test_wrong_use_of_redis_is_no_outage(plain: Bench) -> None:
    """What is not a matter of the connection is raised, and admits nobody."""
    limiter = plain.limiter(on_error="open")
    plain.redis.set(plain.prefix + "org:org", "no set")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        limiter.acquire("org", "a")


def test_password_stays_in(plain: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """No text that a person may see has the URL's password."""
    caplog.set_level(logging.DEBUG)
    with RedisServer(password="hidden-word") as server:
        limiter = plain.limiter(url=server.endpoint_url, on_error="closed")
        with limiter.slot("org", "a") as slot:
            texts = [repr(limiter), repr(slot), str(vars(slot))]
        wrong = server.endpoint_url.replace("hidden-word", "other-hidden-word")
        with pytest.raises(redis.AuthenticationError) as denied:
            plain.limiter(url=wrong, on_error="open").acquire("org", "a")
        texts.append(str(denied.value))
    with pytest.raises(ConnectionError) as away:
        limiter.acquire("org", "b")
    texts.append(str(away.value))
    for url in ("redis://:hidden-word/@host:99999999", "hidden-word://x"):
        with pytest.raises(ValueError, match="URL of Redis cannot be read") as broken:
            plain.limiter(url=url)
        texts.append(str(broken.value))
        assert broken.value.__suppress_context__
    assert "hidden-word" not in " ".join([*texts, caplog.text])


def test_lost_slot_raises_when_it_is_checked(plain: Bench) -> None:
    """Who goes on only with a slot is told by an error that is an OSError."""
    clock = VirtualClock()
    limiter = plain.limiter(lease=30, clock=clock)
    slot = limiter.acquire("org", "a")
    clock.advance(28.9)
    slot.check()
    clock.advance(0.2)
    with pytest.raises(SlotLost, match="'a' of organization 'org'") as caught:
        slot.check()
    assert isinstance(caught.value, OSError)
