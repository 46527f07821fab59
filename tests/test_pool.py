"""The pool: bounded, single-flight, and never two filesystems of one key."""

from __future__ import annotations

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connectorkit import KitClosed, Pipeline, Scope
from connectorkit.pool import Opened, Pool
from connectorkit.releasable import Releasable

if TYPE_CHECKING:
    from collections.abc import Callable

BARE = Pipeline((), Scope("it", "memory", "it"))


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Storage(Releasable, MemoryFileSystem):  # type: ignore[misc]
    """A filesystem that says whether it is connected."""

    cachable = False

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.connected = False

    @property
    def loop(self) -> Any:
        from fsspec.asyn import get_loop

        return get_loop()

    def use(self) -> None:
        """Send a request."""
        with self.at_work():
            self.connected = True

    async def _let_go(self) -> None:
        self.connected = False


def opener(made: list[Storage] | None = None) -> Callable[[], Opened]:
    """Return what opens a filesystem and keeps count in `made`."""

    def opens() -> Opened:
        fs = Storage()
        if made is not None:
            made.append(fs)
        return Opened("it", "memory", fs, fs, fs, BARE)

    return opens


def test_one_key_has_one_filesystem() -> None:
    """Who asks twice gets the same."""
    pool = Pool(8, 600, Clock())

    assert pool.get("a", opener()) is pool.get("a", opener())
    assert pool.get("a", opener()) is not pool.get("b", opener())


def test_a_hundred_threads_open_one() -> None:
    """Threads that ask for one key together share one opening."""
    pool, made = Pool(8, 600, Clock()), list[Storage]()
    barrier = threading.Barrier(100)

    def ask(_: int) -> object:
        barrier.wait()
        return pool.get("a", opener(made))

    with ThreadPoolExecutor(100) as threads:
        got = set(threads.map(ask, range(100)))

    assert len(got) == len(made) == 1


def test_a_slow_opening_keeps_nobody_else_waiting() -> None:
    """While one key is being opened, another is opened and used."""
    pool = Pool(8, 600, Clock())
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Opened:
        begun.set()
        assert go_on.wait(60)
        return opener()()

    with ThreadPoolExecutor(1) as thread:
        opening = thread.submit(pool.get, "slow", slow)
        assert begun.wait(60)
        pool.get("quick", opener())
        assert not opening.done()
        go_on.set()
        opening.result(60)


def test_a_failed_opening_leaves_nothing_behind() -> None:
    """The error is raised, and the next one to ask tries again."""
    pool = Pool(8, 600, Clock())

    def fails() -> Opened:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        pool.get("a", fails)

    assert not pool._turns
    assert pool.get("a", opener()).outer.protocol


def test_the_least_recently_used_leaves_first() -> None:
    """Beyond its size, the pool lets go of what was asked for longest ago."""
    pool, made = Pool(2, 600, Clock()), list[Storage]()
    for key in ("a", "b", "a", "c"):
        pool.get(key, opener(made)).outer.use()
    a, b, c = made

    assert (a.connected, b.connected, c.connected) == (True, False, True)
    assert len(pool) == 2


def test_an_idle_one_is_closed_after_its_time() -> None:
    """Connections are not kept for who does not come back."""
    clock = Clock()
    pool, made = Pool(8, 600, clock), list[Storage]()
    pool.get("a", opener(made)).outer.use()

    clock.now += 599
    pool.sweep()  # It was used since the last look: its time begins now.
    clock.now += 599
    pool.sweep()
    assert made[0].connected
    clock.now += 1
    pool.sweep()

    assert not made[0].connected
    assert len(pool) == 0


def test_a_holder_who_works_keeps_it_open() -> None:
    """Requests count as use, though nobody asked the pool."""
    clock = Clock()
    pool = Pool(8, 600, clock)
    held = pool.get("a", opener()).outer

    for _ in range(10):
        held.use()
        clock.now += 500
        pool.sweep()

    assert held.connected


def test_asking_sweeps_now_and_then() -> None:
    """No thread and no call of the host's is needed for idle ones to leave."""
    clock = Clock()
    pool, made = Pool(8, 600, clock), list[Storage]()
    pool.get("a", opener(made))
    pool.get("b", opener(made))

    clock.now += 400
    pool.get("b", opener(made))
    clock.now += 400
    pool.get("b", opener(made))

    assert len(pool) == 1


def test_a_busy_one_is_not_closed_under_its_request() -> None:
    """What leaves the pool with a request under way is left alone."""
    pool, made = Pool(1, 600, Clock()), list[Storage]()
    busy = pool.get("a", opener(made)).outer
    busy.use()

    with busy.at_work():
        pool.get("b", opener(made))
        pool.get("c", opener(made))
        pool.close()
        assert busy.connected


def test_a_held_one_is_found_again() -> None:
    """While anybody holds a filesystem, its key never leads to a second one."""
    pool, made = Pool(1, 600, Clock()), list[Storage]()
    held = pool.get("a", opener(made)).outer
    pool.get("b", opener(made))
    assert len(pool) == 1

    assert pool.get("a", opener(made)).outer is held
    assert len(made) == 2


def test_what_nobody_holds_is_collected() -> None:
    """The pool is the only one to keep what left it; it does not."""
    pool = Pool(1, 600, Clock())
    gone = weakref.ref(pool.get("a", opener()).outer)
    pool.get("b", opener())

    gc.collect()

    assert gone() is None
    assert list(pool._alive) == ["b"]


def test_a_body_that_is_read_counts_as_work() -> None:
    """A request is under way until its answer is read or dropped."""

    class Body:
        closed = False

    fs = Storage()
    kept, dropped = Body(), Body()
    fs.until_read(kept)
    fs.until_read(dropped)
    assert fs.in_flight == 2

    kept.closed = True
    del dropped

    assert fs.in_flight == 0


def test_what_a_holder_opened_again_is_closed_when_idle() -> None:
    """A filesystem that left the pool and connected anew is not forgotten."""
    clock = Clock()
    pool = Pool(1, 600, clock)
    held = pool.get("a", opener()).outer
    pool.get("b", opener())
    held.use()

    for _ in range(2):
        clock.now += 600
        pool.sweep()
    assert not held.connected

    held.use()
    pool.close()
    assert not held.connected


def test_one_that_cannot_be_closed_is_nobody_elses_affair(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The others are closed all the same, and the caller gets what it asked for."""

    class Stuck(Storage):
        async def _let_go(self) -> None:
            raise OSError("stuck")

    pool, made = Pool(8, 600, Clock()), list[Storage]()
    pool.get("stuck", lambda: Opened("it", "memory", fs := Stuck(), fs, fs, BARE))
    pool.get("a", opener(made)).outer.use()

    pool.close()

    assert not made[0].connected
    assert "stuck" in caplog.text


def test_a_pool_that_was_closed_meanwhile_keeps_nothing() -> None:
    """Who opens while the pool is closed gets an error, not a leak."""
    pool, made = Pool(8, 600, Clock()), list[Storage]()

    def closes() -> Opened:
        pool.close()
        entry = opener(made)()
        made[0].use()
        return entry

    with pytest.raises(KitClosed):
        pool.get("a", closes)

    assert len(pool) == 0
    assert not made[0].connected


def test_a_finalizer_may_use_the_pool() -> None:
    """The collector may run anywhere, in the pool's own sections, too."""
    pool = Pool(8, 600, Clock())

    with pool._lock:
        assert pool.get("a", opener()).outer


class PoolMachine(RuleBasedStateMachine):
    """The pool beside what it promises, in any order of events."""

    keys = st.sampled_from("abcde")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.pool = Pool(3, 600, self.clock)
        self.held: dict[str, Storage] = {}

    @rule(key=keys)
    def take(self, key: str) -> None:
        """Ask, and hold what is given."""
        fs = self.pool.get(key, opener()).outer
        assert self.held.setdefault(key, fs) is fs

    @rule(key=keys)
    def ask(self, key: str) -> None:
        """Ask, and hold nothing."""
        fs = self.pool.get(key, opener()).outer
        assert self.held.get(key, fs) is fs

    @rule(key=keys)
    def drop(self, key: str) -> None:
        """Let go of what was held."""
        self.held.pop(key, None)

    @rule(key=keys)
    def work(self, key: str) -> None:
        """Use what is held, whether or not it is still in the pool."""
        if key in self.held:
            self.held[key].use()
            assert self.held[key].connected

    @rule(seconds=st.sampled_from([1, 200, 700]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.now += seconds
        self.pool.sweep()

    @invariant()
    def is_bounded(self) -> None:
        """The pool keeps no more than its size."""
        assert len(self.pool) <= 3
        assert not self.pool._turns


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(max_examples=60, deadline=None)
