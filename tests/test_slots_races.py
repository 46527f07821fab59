"""The limit holds however many ask at once, and whatever becomes of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import slotting
from connectorkit_slots import SlotLimitExceeded
from servers import RedisServer
from slotting import Bench, benches
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

# Whoever has a slot counts itself in, in one atomic step, and sees how many there are:
# a count of its own, which has nothing to do with how slots are kept.
_WORKER = """
import json, random, sys, threading, time
from redis import Redis
from connectorkit_slots import SlotLimitExceeded, SlotLimiter

url, namespace, number = sys.argv[1:]
limiter = SlotLimiter.from_url(
    url, namespace=namespace, org_limit=2, global_limit=8, budget=30, lease=30,
    on_error="closed",
)
witness = Redis.from_url(url, protocol=2)
most, granted, refused = {}, [], []

def work(thread):
    dice = random.Random(f"{number}/{thread}")
    for i in range(20):
        # Half of them on one, so that it is hot.
        org = "org0" if dice.random() < 0.5 else f"org{dice.randrange(50)}"
        try:
            with limiter.slot(org, f"{number}-{thread}-{i}"):
                pipeline = witness.pipeline(transaction=False)
                for name in (org, "all"):
                    pipeline.hincrby(f"witness-{namespace}", name, 1)
                for name, seen in zip((org, "all"), pipeline.execute()):
                    most[name] = max(most.get(name, 0), seen)
                time.sleep(0.005)
                for name in (org, "all"):
                    pipeline.hincrby(f"witness-{namespace}", name, -1)
                pipeline.execute()
                granted.append(i)
        except SlotLimitExceeded as error:
            refused.append(error.scope)

print("ready", flush=True)
sys.stdin.readline()
threads = [threading.Thread(target=work, args=(t,)) for t in range(16)]
for each in threads: each.start()
for each in threads: each.join()
print(json.dumps([most, len(granted), refused]), flush=True)
"""


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Run on a Redis."""
    yield from benches(redis_server)


def _worker(script: str, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(slotting.__file__).parent)},
        text=True,
    )


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def _heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_limit_is_exact(bench: Bench) -> None:
    """8 processes with 16 threads on 50 organisations never run more than they may."""
    args = (bench.server.endpoint_url, bench.namespace)
    workers = [_worker(_WORKER, *args, str(i)) for i in range(8)]
    try:
        for each in workers:
            assert _heard(each) == "ready"
        for each in workers:
            _say(each)
        told = [json.loads(_heard(each)) for each in workers]
    finally:
        for each in workers:
            each.kill()
            each.communicate()
    most: dict[str, int] = {}
    for seen, _, _ in told:
        for name, count in seen.items():
            most[name] = max(most.get(name, 0), count)
    # Both limits are met, and neither is exceeded.
    assert most.pop("all") <= 8
    assert max(most.values()) <= 2
    refused = [scope for each in told for scope in each[2]]
    assert {"global", "org:org0"} <= {*refused}
    granted = sum(each[1] for each in told)
    assert granted + len(refused) == 8 * 16 * 20
    assert granted > 50
    assert bench.keys() == {"state"}


def test_exactly_as_many_as_the_limit_get_one(bench: Bench) -> None:
    """Of 64 that ask at once 20 get a slot: not fewer, and not more."""
    limiter = bench.limiter(org_limit=20, global_limit=1000, budget=30)
    barrier = threading.Barrier(64)

    def ask(i: int) -> bool:
        barrier.wait()
        try:
            limiter.acquire("org", i)
        except SlotLimitExceeded:
            return False
        return True

    with ThreadPoolExecutor(64) as threads:
        assert sum(threads.map(ask, range(64))) == 20
    assert limiter.usage("org").used == 20


def test_global_limit_is_exact_over_organizations(bench: Bench) -> None:
    """100 organisations with room of their own share what is left for all."""
    limiter = bench.limiter(org_limit=1, global_limit=30, budget=30)

    def ask(i: int) -> bool:
        with suppress(SlotLimitExceeded):
            limiter.acquire(f"org{i}", i)
            return True
        return False

    with ThreadPoolExecutor(32) as threads:
        assert sum(threads.map(ask, range(100))) == 30


_HOLDER = """
import sys, time
from connectorkit_slots import SlotLimitExceeded, SlotLimiter
url, namespace, number = sys.argv[1:]
limiter = SlotLimiter.from_url(
    url, namespace=namespace, org_limit=4, lease=1.5, budget=5
)
for i in range(1000):
    try:
        limiter.take("org", f"{number}-{i}")
    except SlotLimitExceeded:
        time.sleep(0.02)
    else:
        print("holds", flush=True)
        break
time.sleep(60)
"""


def test_holders_that_are_killed_leak_nothing(bench: Bench) -> None:
    """Generation after generation is killed, and the next one gets its slots."""
    args = (bench.server.endpoint_url, bench.namespace)
    looker = bench.limiter(org_limit=4)
    for generation in range(2):
        holders = [_worker(_HOLDER, *args, f"{generation}{i}") for i in range(4)]
        try:
            assert [_heard(each) for each in holders] == ["holds"] * 4
            assert looker.usage("org").used == 4
        finally:
            for each in holders:
                os.kill(each.pid, signal.SIGKILL)
                each.communicate()
    wait_until(lambda: not looker.usage("org").used, seconds=9)


def test_restarted_empty_mid_run() -> None:
    """Redis is killed and comes back empty while slots come and go: none is stuck."""
    with RedisServer() as server:
        bench = Bench(server)
        limiter = bench.limiter(
            org_limit=4, global_limit=9, lease=20, budget=1, pause=0.02
        )
        held = limiter.take("held", "for ever")
        stop = threading.Event()
        modes: set[str] = set()
        failed: list[BaseException] = []

        def run(thread: int) -> None:
            dice = random.Random(thread)  # noqa: S311
            count = 0
            while not stop.is_set():
                count += 1
                try:
                    with limiter.slot(
                        f"org{dice.randrange(3)}", f"{thread}-{count}"
                    ) as s:
                        modes.add(s.mode)
                        stop.wait(0.002)
                except SlotLimitExceeded:
                    stop.wait(0.002)
                except BaseException as error:  # noqa: BLE001 - told to the test
                    failed.append(error)
                    return

        threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
        for each in threads:
            each.start()
        for _ in range(2):
            server.kill()
            wait_until(lambda: "local" in modes)
            server.start()
            modes.clear()
            wait_until(lambda: "redis" in modes)
        stop.set()
        for each in threads:
            each.join()
        assert not failed
        assert not held.lost
        held.release()
        wait_until(lambda: bench.keys() <= {"state", "revoked"})
        bench.close()
