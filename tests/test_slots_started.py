"""Start times instead of leases: as the system kept them that this one learned from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest

from connectorkit import ConfigError
from connectorkit.testing import VirtualClock
from connectorkit_slots import Share, SlotLimiter, SlotLimitExceeded
from connectorkit_slots.options import Rules
from slotting import Bench, beat, benches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RedisServer

STALE = "API_DEPLOYMENT_RATE_LIMIT_STALE_ENTRY_HOURS"
TTL = "API_DEPLOYMENT_RATE_LIMIT_TTL_HOURS"
PREFIX = "api_deployment:rate_limit:"


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Run on a Redis, whose names of the source's are this test's alone."""
    for bench in benches(redis_server):
        yield bench
        for key in bench.redis.keys(f"{PREFIX}*"):
            bench.redis.delete(key)


@pytest.fixture
def org() -> str:
    """Name an organisation."""
    return f"org_{uuid4()}"


def test_score_is_when_it_was_given(bench: Bench, org: str) -> None:
    """In the source's keys stands what its own code would read."""
    limiter = bench.limiter(scheme="started", names="source", org_limit=2)
    before = time.time()
    limiter.acquire(org, "execution")
    (started,) = [
        score
        for key in (f"{PREFIX}org:{org}", f"{PREFIX}global")
        for member, score in bench.redis.zrange(key, 0, -1, withscores=True)
        if member == "execution" and key != f"{PREFIX}global"
    ]
    assert before - 1 <= started <= time.time() + 1
    ttl = bench.redis.ttl(f"{PREFIX}org:{org}")
    assert 6 * 3600 - 5 <= ttl <= 6 * 3600
    oldest = limiter.usage(org).oldest
    assert oldest is not None
    assert oldest < 5


def test_what_the_source_has_taken_counts(bench: Bench, org: str) -> None:
    """Members of its own code take slots, lapse by the cutoff, and are released."""
    limiter = bench.limiter(scheme="started", names="source", org_limit=2)
    now = time.time()
    theirs = {"fresh": now - 600, "stale": now - 3700}
    for scope in (f"org:{org}", "global"):
        bench.redis.zadd(PREFIX + scope, theirs)
    assert limiter.usage(org).used == 1
    assert limiter.usage(org).oldest == pytest.approx(600, abs=5)
    limiter.acquire(org, "ours")
    with pytest.raises(SlotLimitExceeded) as caught:
        limiter.acquire(org, "late")
    # The first of them lapses when its hour is over.
    assert caught.value.retry_after == pytest.approx(3000, abs=5)
    assert bench.redis.zscore(f"{PREFIX}org:{org}", "stale") is None
    # An execution that its API has admitted is held, as one of ours would be.
    with limiter.hold(org, "fresh") as slot:
        assert slot.scopes[f"org:{org}"] == Share(2, 2)
    assert limiter.usage(org).used == 1
    bench.redis.zadd(f"{PREFIX}org:{org}", {"fresh": now})
    bench.redis.zadd(f"{PREFIX}global", {"fresh": now})
    assert limiter.release(org, "fresh")
    assert bench.redis.zscore(f"{PREFIX}global", "fresh") is None


def test_to_acquire_again_makes_nobody_younger(bench: Bench, org: str) -> None:
    """A repeated acquire and a hold leave the start time, and so the end."""
    clock = VirtualClock()
    limiter = bench.limiter(scheme="started", stale_cutoff=100, clock=clock)
    limiter.acquire(org, "a")
    key = f"{bench.prefix}org:{org}"
    for scope in (f"org:{org}", "global"):
        bench.redis.zincrby(bench.prefix + scope, -50, f"{org}/a")
    score = bench.redis.zscore(key, f"{org}/a")
    limiter.acquire(org, "a")
    slot = limiter.take(org, "a")
    assert bench.redis.zscore(key, f"{org}/a") == score
    assert slot.deadline == pytest.approx(49, abs=2)
    clock.advance(34)
    beat()
    # It is there still, and no renewal makes it last.
    assert bench.redis.zscore(key, f"{org}/a") == score
    slot.release()


def test_holder_is_told_before_the_cutoff(bench: Bench, org: str) -> None:
    """Nothing is renewed: what runs for longer than the cutoff is told."""
    clock = VirtualClock()
    limiter = bench.limiter(scheme="started", stale_cutoff=60, clock=clock)
    with limiter.slot(org, "a") as slot:
        clock.advance(58.9)
        assert not slot.lost
        clock.advance(0.2)
        assert slot.lost


def test_an_execution_of_another_organization(bench: Bench, org: str) -> None:
    """The source's members do not say whose they are: none is given or taken twice."""
    limiter = bench.limiter(scheme="started", names="source", org_limit=9)
    limiter.acquire(org, "1")
    theirs = {"2": time.time()}
    for scope in (f"org:{org}", "global"):
        bench.redis.zadd(PREFIX + scope, theirs)
    for execution in ("1", "2"):
        with pytest.raises(ValueError, match=r"another organization"):
            limiter.acquire(f"{org}x", execution)
        assert not limiter.release(f"{org}x", execution)
    assert limiter.usage(org).used == 2
    assert limiter.release(org, "1")
    assert limiter.release(org, "2")


def test_what_the_source_takes_back_leaves_no_records(bench: Bench, org: str) -> None:
    """Its code knows of no records, so later admissions drop some each."""
    limiter = bench.limiter(scheme="started", names="source")
    for number in range(100):
        limiter.acquire(org, number)
    for scope in (f"org:{org}", "global"):
        bench.redis.delete(PREFIX + scope)
    for number in range(100, 108):
        limiter.acquire(org, number)
    assert bench.redis.hlen(f"{PREFIX}records") < 50


def test_source_names_need_start_times(bench: Bench) -> None:
    """Its code would take when a lease ends for when it began."""
    with pytest.raises(ValueError, match="names='source' needs scheme='started'"):
        bench.limiter(names="source")


def test_source_names_do_not_go_with_a_cluster(redis_cluster: RedisServer) -> None:
    """They have no hash tag, and the error says what to do."""
    for bench in benches(redis_cluster):
        with pytest.raises(ValueError, match=r"not go with a cluster.*'own'"):
            bench.limiter(names="source", scheme="started")


def _cutoff_and_ttl(**options: Any) -> tuple[float, float]:
    given: Any = {"scheme": "started", **options}
    rules = Rules.of(given)
    return rules.window, rules.key_ttl


def test_cutoff_is_one_hour_and_keys_last_for_six() -> None:
    """The source's defaults are ours."""
    assert _cutoff_and_ttl() == (3600, 6 * 3600)


def test_argument_before_config_before_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each overrides what comes after it, and all of them the default."""
    monkeypatch.setenv(STALE, "12")
    assert _cutoff_and_ttl() == (12 * 3600, 12 * 3600)
    monkeypatch.setenv(STALE, "2")
    monkeypatch.setenv(TTL, "0.5")
    with pytest.raises(ValueError, match="is less than stale_cutoff"):
        _cutoff_and_ttl()
    monkeypatch.setenv(TTL, "12")
    assert _cutoff_and_ttl() == (2 * 3600, 12 * 3600)
    config = {"stale_cutoff": 30, "key_ttl": 40}
    assert _cutoff_and_ttl(config=config) == (30, 40)
    assert _cutoff_and_ttl(config=config, stale_cutoff=10) == (10, 40)
    assert _cutoff_and_ttl(config=config, stale_cutoff=10, key_ttl=20) == (10, 20)


@pytest.mark.parametrize("nonsense", ["0", "-1", "soon", "nan", "inf"])
def test_environment_without_a_number(
    monkeypatch: pytest.MonkeyPatch, nonsense: str
) -> None:
    """Nonsense in the environment is said with the variable's name, if it counts."""
    monkeypatch.setenv(STALE, nonsense)
    with pytest.raises(ConfigError, match=STALE):
        _cutoff_and_ttl()
    assert Rules.of({"org_limit": 3}).lease == 30


def test_a_lease_goes_with_leases_only(bench: Bench, org: str) -> None:
    """A start time is when a slot was given, and no other time."""
    limiter = bench.limiter(scheme="started")
    with pytest.raises(ValueError, match="stale cutoff"):
        limiter.acquire(org, "a", lease=600)


def test_options_that_do_not_exist() -> None:
    """A misspelt option or word is an error, wherever it stands."""
    with pytest.raises(TypeError, match="'leese'"):
        SlotLimiter.from_url("redis://x", leese=3)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="'leese'"):
        SlotLimiter.from_url("redis://x", config={"leese": 3})
    for name in ("scheme", "names", "on_error"):
        with pytest.raises(ValueError, match=f"{name} is 'no'"):
            Rules.of({name: "no"})  # type: ignore[misc]
    for namespace in ("", "a{b", "a}b", "a\nb"):
        with pytest.raises(ValueError, match="no namespace"):
            Rules.of({"namespace": namespace})
