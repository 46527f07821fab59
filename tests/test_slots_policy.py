"""The policy slots: so many calls on a connector at once, wherever they come from."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from redis import Redis

from connectorkit import (
    Call,
    ConfigError,
    ConnectorKit,
    DeadlineExceeded,
    Fault,
    MissingExtra,
    Refused,
    SlotDecided,
    SlotsUsed,
    SlotWasLost,
)
from connectorkit.testing import LoseReply, Stall, VirtualClock
from connectorkit_deadline import Deadline, DeadlineSettings
from connectorkit_retry import Retry
from connectorkit_slots import (
    SlotLimiter,
    SlotLimitExceeded,
    Slots,
    SlotsSettings,
    SlotsUnavailable,
)
from servers import RedisServer, free_port
from stacks import WAYS, Service, Stack, Way, failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit import Connector, Policy
    from faults.s3_places import Place

both_ways = pytest.mark.parametrize("way", WAYS)
TESTS = Path(__file__).parent
SECRET = "a-secret-that-nobody-may-see"


class Street:
    """Stacks and kits whose calls are counted in one Redis.

    Attributes:
        name: What the fleet calls the stacks' identity.
        limiter: A look at it from outside.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.name = uuid4().hex
        self.limiter = SlotLimiter.from_url(url, namespace="calls", budget=5.0)
        self.kits: list[ConnectorKit] = []

    def slots(self, **settings: Any) -> Slots:
        """Return the policy, with one slot if nothing else is said."""
        return Slots(SlotsSettings(**{"url": self.url, "limit": 1, **settings}))

    def stack(self, *others: Policy, clock: Any = None, **settings: Any) -> Stack:
        """Return a pipeline with it, outside of others but a deadline."""
        outer = [it for it in others if (it.rank or 0) < 30]
        inner = [it for it in others if it not in outer]
        policies = (*outer, self.slots(**settings), *inner)
        return Stack(*policies, identity=self.name, clock=clock)

    def connector(self, type_id: str = "memory", **table: Any) -> Connector:
        """Return a connector with it; each of its own, if it is in memory."""
        config = {
            "type": type_id,
            "settings": {"name": self.name},
            "policies": ["deadline", "slots", "retry"],
            "slots": {"url": self.url, "limit": 1},
            **table,
        }
        kit = ConnectorKit({"connectors": {"reports": config}})
        self.kits.append(kit)
        return kit.resolve("reports")

    def used(self, name: str | None = None) -> int:
        """Return how many slots are in use."""
        return self.limiter.usage(name or self.name).used

    def total(self) -> int:
        """Return how many slots of all connectors are in use."""
        return sum(each.used for each in self.limiter.usages())

    def close(self) -> None:
        for kit in self.kits:
            kit.close()
        self.limiter.close()


@pytest.fixture
def street(redis_server: RedisServer) -> Iterator[Street]:
    """Count calls in the tests' Redis."""
    street = Street(redis_server.endpoint_url)
    yield street
    soon(lambda: street.total() == 0)
    street.close()


@pytest.fixture
def own() -> Iterator[tuple[RedisServer, Street]]:
    """Count calls in a Redis of the test's own, to do to it what one likes."""
    with RedisServer() as server:
        street = Street(server.endpoint_url)
        yield server, street
        street.close()


def soon(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def events(stack: Stack, kind: type[Any], **facts: Any) -> list[Any]:
    """Return the events of a kind that were heard."""
    return [
        it
        for it in stack.events
        if isinstance(it, kind)
        and all(getattr(it, name) == value for name, value in facts.items())
    ]


class Knock(VirtualClock):
    """A clock by which something happens after so many sleeps."""

    def __init__(self, sleeps: int, what: Callable[[], object]) -> None:
        super().__init__(1000.0)
        self._left = sleeps
        self._what = what

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._knock()

    async def asleep(self, seconds: float) -> None:
        await super().asleep(seconds)
        self._knock()

    def _knock(self) -> None:
        self._left -= 1
        if self._left == 0:
            self._what()


class TestFull:
    """All slots are taken."""

    @both_ways
    def test_a_call_waits_until_there_is_one(self, street: Street, way: Way) -> None:
        """It asks again, sooner at first; then it is let through."""
        other = street.limiter.take(street.name, "another call")
        stack = street.stack(clock=Knock(5, other.release))
        assert stack.run(Service("content"), way=way) == "content"
        slept = stack.clock.slept
        assert len(slept) == 5
        assert 0.01 <= slept[0] <= 0.02
        assert max(slept) <= 0.5

    @both_ways
    def test_it_waits_no_longer_than_it_may(self, street: Street, way: Way) -> None:
        """By `wait`, or at once; nothing is sent, and the error tells all."""
        with street.limiter.slot(street.name, "another call"):
            for wait in (0, 7.0):
                stack, service = street.stack(wait=wait), Service("content")
                began = stack.clock()
                error = stack.outcome(service, way=way)
                assert isinstance(error, SlotLimitExceeded)
                assert (error.scope, error.used, error.limit) == ("connector", 1, 1)
                assert 0 < error.retry_after <= 30
                assert (error.policy, error.reason) == ("slots", "full")
                assert stack.clock() - began <= wait
                assert service.count == 0
                assert "reports" in str(error)
                assert street.name not in str(error)
        soon(lambda: street.used() == 0)

    @both_ways
    def test_it_waits_within_the_deadline(self, street: Street, way: Way) -> None:
        """And is told that it was refused, not that it was slow."""
        deadline = Deadline(DeadlineSettings(seconds=10))
        with street.limiter.slot(street.name, "another call"):
            stack = street.stack(deadline)
            began = stack.clock()
            error = stack.outcome(Service("content"), way=way)
        assert isinstance(error, SlotLimitExceeded)
        assert not isinstance(error, DeadlineExceeded)
        assert 9 < stack.clock() - began <= 10

    def test_a_refusal_is_nobodys_failure(self, street: Street) -> None:
        """It is not tried again, and counts as `full`."""
        with street.limiter.slot(street.name, "another call"):
            stack = street.stack(Retry(), wait=0)
            error = stack.outcome(Service("content"))
        assert isinstance(error, Refused)
        assert isinstance(error, OSError)
        assert stack.clock.slept == []

    def test_who_waits_is_told_apart_from_who_is_refused(self, street: Street) -> None:
        """Hooks hear of connectors, and of no name that is only the fleet's."""
        other = street.limiter.take(street.name, "another call")
        stack = street.stack(clock=Knock(2, other.release))
        stack.run(Service("content"))
        waits = SlotDecided("waits", "redis", "connector")
        decided = [it for it in stack.events if isinstance(it, SlotDecided)]
        assert decided == [waits, waits, SlotDecided("granted", "redis")]
        soon(lambda: SlotsUsed("connector", 0, 1) in stack.events)
        assert SlotsUsed("connector", 1, 1) in stack.events
        assert street.name not in str(stack.events)

    @both_ways
    def test_ones_own_last_call_is_none_of_them(self, street: Street, way: Way) -> None:
        """One call after the other needs one slot, and nobody waits for himself."""
        stack = street.stack(wait=0)
        for _ in range(50):
            assert stack.run(Service("content"), way=way) == "content"
        assert stack.clock.slept == []


class TestRide:
    """One call has one slot, whatever it is made of."""

    @both_ways
    def test_parallel_operations_ride_on_one(self, street: Street, way: Way) -> None:
        """With a single slot many parts of a call run together."""
        stack = street.stack()
        together = threading.Barrier(4)

        def part() -> None:
            stack.pipeline.run(stack.op(), lambda _op: together.wait(10))

        async def parts() -> None:
            inside = 0
            all_in = asyncio.Event()

            async def attempt(_op: object) -> None:
                nonlocal inside
                inside += 1
                if inside == 4:
                    all_in.set()
                await asyncio.wait_for(all_in.wait(), 10)

            run = stack.pipeline.arun
            await asyncio.gather(*(run(stack.op(), attempt) for _ in range(4)))

        with Call(stack.scope), ThreadPoolExecutor(4) as threads:
            if way == "async":
                asyncio.run(parts())
            else:
                done = [threads.submit(copy_context().run, part) for _ in range(4)]
                for each in done:
                    each.result()
            assert street.used() == 1
        soon(lambda: street.used() == 0)
        assert len(events(stack, SlotDecided)) == 1

    def test_it_is_kept_between_operations(self, street: Street) -> None:
        """No other call gets in between the pages of a listing."""
        stack = street.stack()
        with Call(stack.scope):
            for _ in range(3):
                stack.run(Service("page"))
                assert street.used() == 1
        soon(lambda: street.used() == 0)
        assert len(events(stack, SlotDecided)) == 1

    def test_parallel_operations_ask_as_one(self, street: Street) -> None:
        """While a call waits, its parts do not all ask Redis."""
        with street.limiter.slot(street.name, "another call"):
            stack = street.stack(wait=0.2, clock=None)
            with Call(stack.scope), ThreadPoolExecutor(8) as threads:
                done = [
                    threads.submit(
                        copy_context().run, stack.outcome, Service("content")
                    )
                    for _ in range(8)
                ]
                for each in done:
                    assert isinstance(each.result(), SlotLimitExceeded)
        assert len(events(stack, SlotDecided, outcome="waits")) < 8

    @both_ways
    def test_retries_ride_on_it(self, street: Street, way: Way) -> None:
        """Three attempts, and the wait between them, take one slot."""
        stack = street.stack(Retry())
        service = Service(*[failure(Fault.TRANSIENT)] * 2, "content")
        assert stack.run(service, way=way) == "content"
        assert service.count == 3
        soon(lambda: street.used() == 0)
        assert len(events(stack, SlotDecided)) == 1

    @both_ways
    def test_an_operation_without_a_call_has_its_own(
        self, street: Street, way: Way
    ) -> None:
        """It is given back with the operation, whatever came of it."""
        stack = street.stack()
        used: list[int] = []
        stack.run(Service(lambda: used.append(street.used())), way=way)
        assert used == [1]
        soon(lambda: street.used() == 0)
        stack.outcome(Service(ValueError("oops")), way=way)
        soon(lambda: street.used() == 0)

    def test_calls_within_calls(self, street: Street) -> None:
        """What a call of the host's own calls on the same connector is a part of it."""
        notes = street.connector()

        def outer() -> bytes:
            notes.fs.pipe_file("/a", b"hello")
            content: bytes = notes.call(
                "inner", "read", lambda: notes.fs.cat_file("/a")
            )
            return content

        assert notes.call("outer", "write", outer) == b"hello"

        async def aouter() -> int:
            async def ainner() -> int:
                return len(await asyncio.to_thread(notes.fs.cat_file, "/a"))

            return await notes.call("inner", "read", ainner)

        assert asyncio.run(notes.call("outer", "read", aouter)) == 5
        soon(lambda: street.total() == 0)

    def test_one_that_came_too_late(self, street: Street) -> None:
        """An operation whose call ended before it began has a slot of its own."""
        stack = street.stack()
        with Call(stack.scope):
            stack.run(Service("content"))
            late = stack.op()
        soon(lambda: street.used() == 0)
        used: list[int] = []
        stack.run(Service(lambda: used.append(street.used())), late)
        assert used == [1]
        soon(lambda: street.used() == 0)

    def test_one_that_outlives_its_call(self, street: Street) -> None:
        """The slot is kept for it: what is under way counts."""
        stack = street.stack()
        began, end = threading.Event(), threading.Event()

        def attempt(_op: object) -> None:
            began.set()
            end.wait(10)

        with Call(stack.scope):
            context = copy_context()
            thread = threading.Thread(
                target=context.run, args=(stack.pipeline.run, stack.op(), attempt)
            )
            thread.start()
            began.wait(10)
        assert street.used() == 1
        end.set()
        thread.join()
        soon(lambda: street.used() == 0)


class TestEnds:
    """A slot is given back, once, whatever ends the call."""

    def test_one_that_runs_is_cancelled(self, street: Street) -> None:
        """The slot is free for the next."""
        stack = street.stack()

        async def main() -> None:
            running = asyncio.Event()

            async def attempt(_op: object) -> None:
                running.set()
                await asyncio.sleep(60)

            task = asyncio.create_task(stack.pipeline.arun(stack.op(), attempt))
            await asyncio.wait_for(running.wait(), 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        soon(lambda: street.used() == 0)

    def test_one_that_waits_is_cancelled(self, street: Street) -> None:
        """It takes none afterwards."""
        stack = street.stack(clock=None)

        async def attempt(_op: object) -> None:
            raise AssertionError

        async def main() -> None:
            task = asyncio.create_task(stack.pipeline.arun(stack.op(), attempt))
            await asyncio.to_thread(soon, lambda: events(stack, SlotDecided))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        with street.limiter.slot(street.name, "another call"):
            asyncio.run(main())
            assert street.used() == 1
        soon(lambda: street.used() == 0)
        assert not events(stack, SlotDecided, outcome="granted")

    def test_one_that_asks_is_cancelled(
        self, own: tuple[RedisServer, Street], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What Redis grants to who has gone is given back."""
        _, street = own
        stack = street.stack()
        asked, answer = threading.Event(), threading.Event()
        take = SlotLimiter.take

        def slow(*args: Any, **kwargs: Any) -> Any:
            asked.set()
            slot = take(*args, **kwargs)
            answer.wait(10)
            return slot

        monkeypatch.setattr(SlotLimiter, "take", slow)

        async def attempt(_op: object) -> None:
            raise AssertionError

        async def main() -> None:
            task = asyncio.create_task(stack.pipeline.arun(stack.op(), attempt))
            await asyncio.to_thread(asked.wait, 10)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(main())
        soon(lambda: street.used() == 1)
        answer.set()
        soon(lambda: street.used() == 0)

    def test_an_abandoned_one_is_collected(self, street: Street) -> None:
        """A listing that nobody goes on with ends when the collector finds it."""
        notes = street.connector()
        notes.fs.pipe_file("/a/b/c", b"")
        walk = notes.fs.walk("/")
        next(walk)
        del walk
        gc.collect()
        soon(lambda: street.total() == 0)

    def test_a_program_ends(self, street: Street) -> None:
        """What was given back in the last moment is, before the process is gone."""
        run_program(street, "connector.call('query', 'read', lambda: 42)")
        assert street.total() == 0

    def test_a_process_is_killed(self, street: Street) -> None:
        """Its slots are free when the lease is over."""
        code = "connector.call('query', 'read', lambda: print(flush=True) or input())"
        with program(street, code, lease=1) as process:
            assert process.stdout is not None
            process.stdout.readline()
            assert street.total() == 1
            process.kill()
            process.wait()
            began = time.monotonic()
            soon(lambda: street.total() == 0)
            assert time.monotonic() - began < 3

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_fork_in_a_call(self, street: Street) -> None:
        """The child has no part in the slot: it cannot use it, nor give it back."""
        code = """
def outer():
    if (child := os.fork()) == 0:
        try:
            connector.call("inner", "read", lambda: 42)
        except SlotLimitExceeded:
            return "refused"
        return "let through"
    _, status = os.waitpid(child, 0)
    with SlotLimiter.from_url(sys.argv[1], namespace="calls") as limiter:
        print(os.waitstatus_to_exitcode(status), *[it.used for it in limiter.usages()])
    return "parent"

told = connector.call("outer", "read", outer)
if told != "parent":
    # Its part of the call has ended, and so has its program, in order.
    sys.exit(7 if told == "refused" else 8)
"""
        assert run_program(street, code, wait=0) == "7 1\n"
        soon(lambda: street.total() == 0)

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
    def test_a_forked_worker_has_slots_of_its_own(self, street: Street) -> None:
        """It takes them and gives them back, though its parent had some."""
        code = """
connector.call("query", "read", lambda: 42)
if (child := os.fork()) == 0:
    connector.call("query", "read", lambda: 42)
    sys.exit(0)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
connector.call("query", "read", lambda: 42)
"""
        assert run_program(street, code, wait=5) == "0\n"
        assert street.total() == 0


PROGRAM = """
import json, os, sys
from connectorkit import ConnectorKit
from connectorkit_slots import SlotLimiter, SlotLimitExceeded

settings = {{"url": sys.argv[1], "limit": 1, **json.loads(sys.argv[3])}}
connector = ConnectorKit({{"connectors": {{"reports": {{
    "type": "memory", "settings": {{"name": sys.argv[2]}},
    "policies": ["slots"], "slots": settings,
}}}}}}).resolve("reports")
{code}
"""


def program(street: Street, code: str, **settings: Any) -> subprocess.Popen[str]:
    """Start a program that has a connector."""
    import json

    return subprocess.Popen(
        [
            sys.executable,
            "-c",
            PROGRAM.format(code=code),
            street.url,
            street.name,
            json.dumps(settings),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_program(street: Street, code: str, **settings: Any) -> str:
    """Run a program that has a connector; return what it prints."""
    with program(street, code, **settings) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert err == ""
    return out


class TestFleet:
    """The limit holds in all processes together, by the identity alone."""

    def test_two_processes_never_exceed_it(self, street: Street) -> None:
        """Threads and loops of two processes, on one connector under two IDs."""
        code = """
import asyncio, threading, time
from redis import Redis

redis = Redis.from_url(sys.argv[1], protocol=2)
key = sys.argv[2]

def work():
    now = redis.incr(key)
    redis.zadd(key + ":seen", {str(now): now})
    time.sleep(0.01)
    redis.decr(key)

def in_thread():
    for _ in range(6):
        connector.call("query", "read", work)

async def on_loop():
    async def query():
        await asyncio.to_thread(work)
    await asyncio.gather(*[connector.call("query", "read", query) for _ in range(12)])

threads = [threading.Thread(target=in_thread) for _ in range(6)]
threads.append(threading.Thread(target=lambda: asyncio.run(on_loop())))
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
        with (
            program(street, code, limit=3) as one,
            program(street, code, limit=3) as two,
        ):
            for process in (one, two):
                _, err = process.communicate(timeout=100)
                assert process.returncode == 0, err
        with Redis.from_url(street.url, protocol=2) as redis:
            peak = redis.zrevrange(f"{street.name}:seen", 0, 0)
        assert peak == [b"3"]
        assert street.total() == 0

    def test_identity_counts_not_id(self, street: Street) -> None:
        """The same settings share slots under any ID, and other ones do not."""
        settings = {"endpoint_url": "http://127.0.0.1:9", "key": "k", "secret": SECRET}
        connectors = {
            name: {
                "type": "minio",
                "settings": {**settings, **more},
                "policies": ["slots"],
                "slots": {"url": street.url, "limit": 1, "wait": 0},
            }
            for name, more in (
                ("one", {}),
                ("same", {}),
                ("other", {"secret": f"{SECRET}!"}),
            )
        }
        with ConnectorKit({"connectors": connectors}) as kit:
            one, same, other = map(kit.resolve, connectors)

            def inside() -> None:
                assert other.call("query", "read", lambda: 42) == 42
                with pytest.raises(SlotLimitExceeded):
                    same.call("query", "read", lambda: 42)
                with Redis.from_url(street.url, protocol=2) as redis:
                    stored = [
                        *redis.scan_iter("connectorkit:{calls}:*"),
                        redis.hgetall("connectorkit:{calls}:records"),
                    ]
                assert SECRET not in str(stored)
                assert "reports" not in str(stored)

            one.call("query", "read", inside)
        soon(lambda: street.total() == 0)

    def test_settings_do_not_part_the_fleet(self, street: Street) -> None:
        """During a rollout of another limit, those with the old one count along."""
        old, new = street.stack(limit=1), street.stack(limit=2, wait=0)
        seen: list[Any] = []

        def third() -> None:
            seen.append(new.outcome(Service("third")))

        old.run(Service(lambda: new.run(Service(third))))
        assert isinstance(seen[0], SlotLimitExceeded)


class TestLoops:
    """Asking holds up no loop, and no loop owns what others use."""

    def test_a_loop_goes_on_while_redis_is_slow(
        self, own: tuple[RedisServer, Street]
    ) -> None:
        """Though the answer takes its whole time, others have their turns."""
        server, street = own
        stack = street.stack(on_error="open")
        stack.run(Service("content"))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.001)

        async def main() -> None:
            nonlocal ticks
            ticking = asyncio.create_task(tick())
            os.kill(server.pid, signal.SIGSTOP)
            await asyncio.sleep(0)
            ticks, began = 0, time.monotonic()
            await stack.pipeline.arun(stack.op(), Service("content").on_loop)
            assert time.monotonic() - began >= 0.09
            ticking.cancel()

        try:
            asyncio.run(main())
        finally:
            os.kill(server.pid, signal.SIGCONT)
        assert ticks > 3

    def test_loops_come_and_go(self, street: Street) -> None:
        """A connector is used on one loop after the other, and from threads between."""
        notes = street.connector()
        notes.fs.pipe_file("/a", b"hello")

        async def read() -> bytes:
            content: bytes = await notes.async_fs()._cat_file("/a")
            return content

        for _ in range(3):
            assert asyncio.run(read()) == b"hello"
            assert notes.fs.cat_file("/a") == b"hello"
        soon(lambda: street.total() == 0)


class TestAway:
    """Redis cannot be asked."""

    @both_ways
    def test_closed_refuses(self, way: Way) -> None:
        """Nothing is sent, and it is told what is away, though not where."""
        url = f"redis://:{SECRET}@127.0.0.1:{free_port()}"
        stack, service = Street(url).stack(on_error="closed"), Service("content")
        error = stack.outcome(service, way=way)
        assert isinstance(error, SlotsUnavailable)
        assert (error.policy, error.reason) == ("slots", "away")
        assert service.count == 0
        assert "reports" in str(error)
        assert SECRET not in str(error)
        assert events(stack, SlotDecided) == [SlotDecided("refused", "closed")]

    @both_ways
    def test_open_lets_all_through(self, way: Way) -> None:
        """However many; it is told who decided."""
        stack = Street(f"redis://127.0.0.1:{free_port()}").stack(on_error="open")
        inner: list[Any] = []
        stack.run(Service(lambda: inner.append(stack.run(Service("inner")))), way=way)
        assert inner == ["inner"]
        assert {it.mode for it in events(stack, SlotDecided)} == {"open"}

    @both_ways
    def test_local_limits_this_process(self, way: Way) -> None:
        """To its share: with two processes, to half."""
        street = Street(f"redis://127.0.0.1:{free_port()}")
        stack = street.stack(limit=2, processes=2, wait=0)
        inner: list[Any] = []
        stack.run(Service(lambda: inner.append(stack.outcome(Service("x")))), way=way)
        assert isinstance(inner[0], SlotLimitExceeded)
        assert stack.run(Service("x"), way=way) == "x"
        assert {it.mode for it in events(stack, SlotDecided)} == {"local"}

    def test_it_comes_back(self, own: tuple[RedisServer, Street]) -> None:
        """A server that is restarted, empty, counts on with the calls to come."""
        server, street = own
        stack = street.stack()
        stack.run(Service("content"))
        server.stop()
        assert stack.run(Service("content")) == "content"
        assert events(stack, SlotDecided)[-1].mode == "local"
        server.start()
        soon(
            lambda: (
                stack.run(Service("content"))
                and events(stack, SlotDecided)[-1].mode == "redis"
            )
        )


@pytest.mark.parametrize("type_id", ["memory", "local"])
def test_one_slot_will_do(street: Street, tmp_path: Path, type_id: str) -> None:
    """Whatever a call of a filesystem is made of, it never waits for itself."""
    settings = {"memory": {"name": street.name}, "local": {"path": str(tmp_path)}}
    fs = street.connector(
        type_id,
        settings=settings[type_id],
        slots={"url": street.url, "limit": 1, "wait": 0},
    ).fs
    content = {f"a/b/{number}": b"x" * number for number in range(5)}
    fs.makedirs("a/b", exist_ok=True)
    fs.pipe(content)
    assert {f"/{path.lstrip('/')}": it for path, it in fs.cat(list(content)).items()}
    with fs.open("a/file", "wb") as file:
        file.write(b"0123456789")
        assert fs.exists("a/b/1")
    assert fs.cat_ranges(["a/file"] * 3, [0, 1, 2], [3, 4, 5])[2] == b"234"
    for folder, _, names in fs.walk("a"):
        for name in names:
            fs.info(f"{folder}/{name}")
    assert len(fs.glob("a/**")) >= 6
    fs.copy("a/b", "a/c", recursive=True)
    fs.mv("a/c/3", "a/c/33")
    assert fs.tail("a/file", 3) == b"789"
    assert fs.du("a") > 0
    fs.rm("a/b", recursive=True)


def test_a_lost_slot_ends_no_call(street: Street) -> None:
    """It is told, and the call goes on beside whoever has the slot now."""
    stack = street.stack(lease=1)

    def attempt() -> str:
        assert street.limiter.clear(street.name) == 1
        soon(lambda: events(stack, SlotWasLost))
        return "content"

    assert stack.run(Service(attempt)) == "content"
    assert events(stack, SlotWasLost) == [SlotWasLost()]


def test_a_long_call_keeps_its_slot(street: Street) -> None:
    """It is renewed for as long as the call goes on."""
    stack = street.stack(lease=1)

    def attempt() -> None:
        for _ in range(5):
            time.sleep(0.5)
            assert street.used() == 1

    stack.run(Service(attempt))
    soon(lambda: street.used() == 0)
    assert not events(stack, SlotWasLost)


class TestS3:
    """On real filesystems, whose operations run on fsspec's loop."""

    @pytest.fixture
    def shelf(self, street: Street, place: Place) -> Connector:
        """A connector with a single slot, which no call waits for."""
        return street.connector(
            place.type_id,
            settings=place.settings,
            slots={"url": street.url, "limit": 1, "wait": 0},
        )

    def test_parts_ride_on_one_slot(self, shelf: Connector, place: Place) -> None:
        """A parallel upload, reads of ranges, many files and a listing: one each."""
        big, path = os.urandom(17 << 20), place.path(f"big-{uuid4()}")
        fs = shelf.fs
        fs.pipe_file(path, big, chunksize=5 << 20)
        assert place.asked()["upload_part"] >= 3
        ranges = [(n << 20, (n + 1) << 20) for n in range(17)]
        pieces = fs.cat_ranges([path] * 17, *zip(*ranges, strict=True))
        assert b"".join(pieces) == big
        small = {place.path(f"small-{uuid4()}"): b"x" for _ in range(20)}
        fs.pipe(small)
        assert fs.cat(list(small)) == small
        assert path in fs.find(place.bucket)
        fs.rm([path, *small])

    def test_no_more_requests_than_slots(self, street: Street, place: Place) -> None:
        """Of many calls, by two kits, so many are on the wire at once."""
        path = place.path(f"key-{uuid4()}")
        shelves = [
            street.connector(
                place.type_id,
                settings=place.settings,
                slots={"url": street.url, "limit": 2},
            )
            for _ in range(2)
        ]
        shelves[0].fs.pipe_file(path, b"hello")
        place.proxy.inject(Stall(), when="get_object", times=None)
        with ThreadPoolExecutor(8) as threads:
            done = [threads.submit(shelves[n % 2].fs.cat_file, path) for n in range(8)]
            place.proxy.wait_stalled(2)
            time.sleep(0.3)
            assert place.asked()["get_object"] == 2
            place.proxy.heal()
            place.proxy.release()
            assert [each.result(30) for each in done] == [b"hello"] * 8

    def test_an_open_file_holds_none(self, shelf: Connector, place: Place) -> None:
        """Its reads are calls; between them others have their turn."""
        path = place.path(f"key-{uuid4()}")
        shelf.fs.pipe_file(path, b"0123456789")
        with shelf.fs.open(path) as file:
            assert file.read(5) == b"01234"
            assert shelf.fs.cat_file(path) == b"0123456789"
            assert file.read() == b"56789"

    def test_one_slot_will_do_for_a_stream(
        self, shelf: Connector, place: Place
    ) -> None:
        """What is read ahead finds no slot then, and never keeps a read from one."""
        content, path = os.urandom(2 << 20), place.path(f"key-{uuid4()}")
        shelf.fs.pipe_file(path, content)
        block = 1 << 16
        with shelf.fs.open(path, block_size=block) as file:
            assert b"".join(iter(lambda: file.read(block), b"")) == content

    def test_a_body_holds_its_slot(self, shelf: Connector, place: Place) -> None:
        """That of a client's: until it is read, or closed."""
        key = f"key-{uuid4()}"
        shelf.fs.pipe_file(place.path(key), b"0123456789")
        names = {"Bucket": place.bucket, "Key": key}
        client = shelf.client()
        body = client.get_object(**names)["Body"]
        assert body.read(1) == b"0"
        with pytest.raises(SlotLimitExceeded):
            client.head_object(**names)
        assert body.read() == b"123456789"
        assert client.head_object(**names)["ContentLength"] == 10

    def test_a_look_after_a_lost_reply_rides_along(
        self, street: Street, s3: Place
    ) -> None:
        """A client that looks whether its write was done does not wait for itself."""
        shelf = street.connector(
            "s3",
            settings=s3.settings,
            slots={"url": street.url, "limit": 1, "wait": 0},
        )
        names = {"Bucket": s3.bucket, "Key": f"key-{uuid4()}"}
        s3.proxy.inject(LoseReply(), when="put_object")
        shelf.client().put_object(**names, Body=b"hello", IfNoneMatch="*")
        assert s3.asked()["head_object"] == 1
        assert s3.content(names["Key"]) == b"hello"


class TestConfiguration:
    """What the configuration may say."""

    def kit(self, connector: dict[str, Any], **policies: Any) -> ConnectorKit:
        config: dict[str, Any] = {"connectors": {"notes": connector}}
        return ConnectorKit({**config, "policies": policies} if policies else config)

    def test_the_url_may_be_a_reference(
        self, street: Street, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """To a variable or a file, in a connector's table or everybody's."""
        monkeypatch.setenv("REDIS_URL", street.url)
        (tmp_path / "url").write_text(f"{street.url}\n")
        for url in ("env:REDIS_URL", f"file:{tmp_path / 'url'}"):
            table = {"url": url, "limit": 2}
            for kit in (
                self.kit({"type": "memory", "policies": ["slots"], "slots": table}),
                self.kit({"type": "memory", "policies": ["slots"]}, slots=table),
                self.kit({"type": "memory"}, enabled=["slots"], slots=table),
            ):
                with kit:
                    (policy,) = kit.resolve("notes")._policies
                    assert policy.settings.url.get_secret_value() == street.url

    def test_a_reference_that_leads_nowhere(self) -> None:
        """The connector, the policy and the variable are named."""
        table = {"url": "env:NO_SUCH_URL", "limit": 2}
        with (
            self.kit({"type": "memory", "policies": ["slots"], "slots": table}) as kit,
            pytest.raises(ConfigError) as caught,
        ):
            kit.resolve("notes")
        for word in ("'slots'", "'notes'", "'NO_SUCH_URL'"):
            assert word in str(caught.value)

    def test_the_url_is_a_secret(self) -> None:
        """It is in no repr, no explanation and no error."""
        url = f"redis://:{SECRET}@127.0.0.1:{free_port()}"
        table = {"url": url, "limit": 2, "on_error": "closed"}
        with self.kit({"type": "memory", "policies": ["slots"], "slots": table}) as kit:
            notes = kit.resolve("notes")
            (policy,) = notes._policies
            told = [policy.settings, kit.config, kit.explain("notes"), notes, policy]
            with pytest.raises(SlotsUnavailable) as caught:
                notes.call("query", "read", lambda: 42)
            assert SECRET not in repr(told) + str(told) + str(caught.value)

    @pytest.mark.parametrize(
        ("settings", "field"),
        [
            ({"limit": 3}, "url"),
            ({"url": "redis://h"}, "limit"),
            ({"url": "redis://h", "limit": 0}, "limit"),
            ({"url": f"http://:{SECRET}@h", "limit": 3}, "url"),
            ({"url": f"redis://:{SECRET}@h:many", "limit": 3}, "URL"),
            ({"url": "redis://h", "limit": 3, "on_error": "shrug"}, "on_error"),
            ({"url": "redis://h", "limit": 3, "lease": 0}, "lease"),
            ({"url": "redis://h", "limits": 3}, "did you mean 'limit'"),
        ],
    )
    def test_mistakes_are_told_at_the_resolve(
        self, settings: dict[str, Any], field: str
    ) -> None:
        """By the name of the setting, and without the password."""
        with (
            self.kit(
                {"type": "memory", "policies": ["slots"], "slots": settings}
            ) as kit,
            pytest.raises(ConfigError, match=field) as caught,
        ):
            kit.resolve("notes")
        assert SECRET not in str(caught.value)

    def test_it_is_not_on_by_default(self, street: Street) -> None:
        """Settings alone do not turn it on, which is said."""
        table = {"url": street.url, "limit": 2}
        with (
            self.kit({"type": "memory", "slots": table}) as kit,
            pytest.raises(ConfigError, match="`policies`"),
        ):
            kit.resolve("notes")

    def test_a_tenants_settings_refer_to_nothing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What a lookup returns for a tenant reaches no variable of the host's."""
        monkeypatch.setenv("REDIS_URL", "redis://h")
        table = {"url": "env:REDIS_URL", "limit": 2}
        with (
            self.kit(
                {
                    "type": "memory",
                    "trusted": False,
                    "policies": ["slots"],
                    "slots": table,
                }
            ) as kit,
            pytest.raises(ConfigError, match="refused"),
        ):
            kit.resolve("notes")

    def test_it_stands_outside_of_retry(self, street: Street) -> None:
        """Else each attempt would wait for a slot."""
        table = {"url": street.url, "limit": 2}
        names = ["retry", "slots"]
        with (
            self.kit({"type": "memory", "policies": names, "slots": table}) as kit,
            pytest.raises(ConfigError, match="slots, retry"),
        ):
            kit.resolve("notes")

    def test_it_says_what_to_install(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without redis-py, when a connector that names it is resolved."""
        monkeypatch.setitem(sys.modules, "redis", None)
        table = {"url": "redis://h", "limit": 2}
        with (
            self.kit({"type": "memory", "policies": ["slots"], "slots": table}) as kit,
            pytest.raises(MissingExtra, match=r"pip install 'connectorkit\[redis\]'"),
        ):
            kit.resolve("notes")

    def test_nobody_pays_who_has_none(self) -> None:
        """A connector without it makes no call of an operation, and loads no redis."""
        code = """
import sys
from connectorkit import ConnectorKit
from connectorkit.call import current
kit = ConnectorKit({"connectors": {"notes": {"type": "memory"}}})
notes = kit.resolve("notes")
assert notes.call("query", "read", lambda: current(notes.pipeline.scope)) is None
assert not {"redis", "connectorkit_slots"} & {*sys.modules}
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_slots_of_a_cluster(redis_cluster: RedisServer) -> None:
    """The policy counts on a cluster, too."""
    street = Street(redis_cluster.endpoint_url)
    table = {"url": street.url, "limit": 1, "cluster": True}
    assert street.connector(slots=table).call("query", "read", lambda: 42) == 42
    street.close()
