"""Who holds a slot keeps it while it lives, and is told before another one has it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import slotting
from connectorkit import SlotsReaped, SlotsRenewed, SlotWasLost
from connectorkit.testing import VirtualClock
from connectorkit_slots import SlotLimiter, SlotLimitExceeded
from connectorkit_slots.store import Store
from servers import RedisServer
from slotting import Bench, beat, benches
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Run on a Redis."""
    yield from benches(redis_server)


def _elsewhere(bench: Bench, script: str) -> subprocess.Popen[str]:
    """Run a script in a process of its own; it has a `limiter` with a limit of 1."""
    head = f"""
    import os, sys, time
    from connectorkit_slots import SlotLimiter, SlotLimitExceeded, SlotLost
    limiter = SlotLimiter.from_url(
        {bench.server.endpoint_url!r}, namespace={bench.namespace!r}, budget=5,
        org_limit=1, lease=float(sys.argv[1]),
    )
    def say(word):
        # In one piece, whoever else says something.
        os.write(1, str(word).encode() + b"\\n")
    """
    code = textwrap.dedent(head) + textwrap.dedent(script)
    return subprocess.Popen(
        [sys.executable, "-c", code, "0.6"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(slotting.__file__).parent)},
        text=True,
    )


def _heard(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


def test_live_holder_keeps_its_slot(bench: Bench) -> None:
    """For several leases, while nobody else gets one."""
    limiter = bench.limiter(org_limit=1, lease=0.6)
    renewals: list[object] = []
    holder = bench.limiter(org_limit=1, lease=0.6, emit=renewals.append)
    with holder.slot("org", "a") as slot:
        for _ in range(20):
            with pytest.raises(SlotLimitExceeded):
                limiter.acquire("org", "b")
            threading.Event().wait(0.1)
        assert not slot.lost
    assert sum(isinstance(event, SlotsRenewed) for event in renewals) >= 3


def test_killed_holder_frees_its_slot_within_the_lease(bench: Bench) -> None:
    """After SIGKILL, which runs no code, the slot is free when the lease is over."""
    limiter = bench.limiter(org_limit=1)
    holder = _elsewhere(
        bench, "with limiter.slot('org', 'a'):\n    say('holds')\n    time.sleep(60)"
    )
    try:
        assert _heard(holder) == "holds"
        with pytest.raises(SlotLimitExceeded) as caught:
            limiter.acquire("org", "b")
        assert caught.value.retry_after <= 0.6
        holder.kill()
        wait_until(lambda: not limiter.usage("org").used, seconds=5)
    finally:
        _end(holder)
    events: list[object] = []
    bench.limiter(org_limit=1, emit=events.append).acquire("org", "b")
    assert SlotsReaped(1) in events


def test_stopped_holder_sees_that_it_is_lost(bench: Bench) -> None:
    """What was stopped for longer than its lease reads `lost` first of all."""
    limiter = bench.limiter(org_limit=1)
    holder = _elsewhere(
        bench,
        """
        with limiter.slot("org", "a", on_lost=lambda slot: say("told")) as slot:
            say("holds")
            sys.stdin.readline()
            say(slot.lost)
        say(limiter.usage("org").used)
        """,
    )
    try:
        assert _heard(holder) == "holds"
        os.kill(holder.pid, signal.SIGSTOP)
        wait_until(lambda: not limiter.usage("org").used)
        with limiter.slot("org", "b"):
            os.kill(holder.pid, signal.SIGCONT)
            assert holder.stdin is not None
            holder.stdin.write("\n")
            holder.stdin.flush()
            words = [_heard(holder) for _ in range(3)]
            # Once, and the slot of the new holder is still there.
            assert sorted(words) == ["1", "True", "told"]
    finally:
        os.kill(holder.pid, signal.SIGCONT)
        _end(holder)


def test_lost_is_reckoned_when_it_is_read(bench: Bench) -> None:
    """No thread has to run for it, and once it is read it stays."""
    clock = VirtualClock()
    told: list[object] = []
    events: list[object] = []
    limiter = bench.limiter(lease=30, clock=clock, emit=events.append)
    with limiter.slot("org", "a", on_lost=told.append) as slot:
        clock.advance(28.9)
        assert not slot.lost
        assert told == []
        clock.advance(0.1)
        assert slot.lost
        # Redis has it still: a renewal that comes now comes too late.
        beat()
        assert slot.lost
        assert told == [slot]
    assert events.count(SlotWasLost("org")) == 1


def test_renewal_moves_the_deadline(bench: Bench) -> None:
    """It counts from when the renewal was sent, not from when it was answered."""
    clock = VirtualClock()
    limiter = bench.limiter(lease=30, clock=clock)
    with limiter.slot("org", "a") as slot:
        assert slot.deadline == pytest.approx(29, abs=0.01)
        clock.advance(10)
        beat()
        assert slot.deadline == pytest.approx(39, abs=0.01)
        clock.advance(5)
        beat()
        assert slot.deadline == pytest.approx(39, abs=0.01)


def test_closed_limiter_renews_nothing(bench: Bench) -> None:
    """What it holds lapses, and its holder is told."""
    clock = VirtualClock()
    limiter = bench.limiter(lease=30, clock=clock)
    slot = limiter.take("org", "a")
    limiter.close()
    clock.advance(10)
    beat()
    assert slot.deadline == pytest.approx(29, abs=0.01)
    clock.advance(20)
    assert slot.lost


def test_one_thread_renews_all_limiters_in_one_round_trip(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of one Redis go together, whichever limiter has given them."""
    trips: list[int] = []
    exchange = Store._exchange

    def counted(store: Store, commands: Sequence[bytes]) -> Any:
        trips.append(len(commands))
        return exchange(store, commands)

    clock = VirtualClock()
    limiters = [bench.limiter(lease=30, clock=clock) for _ in range(3)]
    slots = [each.take("org", i) for i, each in enumerate(limiters)]
    slots += [limiters[0].take("org", f"more{i}") for i in range(300)]
    clock.advance(10)
    monkeypatch.setattr(Store, "_exchange", counted)
    beat()
    # A script renews no more than 256, so that others need not wait for long.
    assert trips == [4]
    assert all(slot.deadline > 38 for slot in slots)
    assert len({each._desk.heartbeat._thread for each in limiters}) == 1
    for slot in slots:
        slot.release()
    assert bench.keys() == {"state"}


def test_slots_on_a_cluster_are_renewed(redis_cluster: RedisServer) -> None:
    """And their keys outlive them."""
    for bench in benches(redis_cluster):
        clock = VirtualClock()
        limiter = bench.limiter(lease=30, clock=clock)
        slots = [limiter.take("org", execution) for execution in range(3)]
        for scope in ("org:org", "global"):
            bench.redis.expire(bench.prefix + scope, 50)
        clock.advance(10)
        beat()
        assert all(slot.deadline > 38 for slot in slots)
        for scope in ("org:org", "global", "records"):
            assert bench.redis.ttl(bench.prefix + scope) > 86_400


def test_who_cannot_be_renewed_is_looked_at_in_time(bench: Bench) -> None:
    """The thread wakes when a lease is about to end, not when it is due again."""
    clock = VirtualClock()
    limiter = bench.limiter(lease=30, clock=clock)
    slot = limiter.take("org", "a")
    lease = limiter._desk.heartbeat._leases[slot.token]
    lease.due = 100.0
    assert lease.seconds_left == pytest.approx(29, abs=0.1)


def test_holder_is_told_who_was_taken_over(bench: Bench) -> None:
    """The latest to hold an execution has its slot; the earlier one is told."""
    first = bench.limiter(org_limit=1, lease=0.3)
    told = threading.Event()
    slot = first.take("org", "a", on_lost=lambda _: told.set())
    holder = _elsewhere(
        bench, "with limiter.hold('org', 'a'):\n    say('holds')\n    time.sleep(60)"
    )
    try:
        assert _heard(holder) == "holds"
        assert told.wait(20)
        assert slot.lost
        slot.release()
        assert first.usage("org").used == 1
    finally:
        _end(holder)


def test_holder_is_told_at_once_in_one_process(bench: Bench) -> None:
    """To take what this process holds needs no renewal to be told."""
    limiter = bench.limiter(org_limit=1)
    old = limiter.take("org", "a")
    with limiter.slot("org", "a") as new:
        assert old.lost
        assert not new.lost
        old.release()
        assert limiter.usage("org").used == 1


def test_who_was_taken_over_takes_nothing_back(bench: Bench) -> None:
    """Not even when the later holder has finished before the earlier one renews."""
    clock = VirtualClock()
    earlier = bench.limiter(org_limit=1, clock=clock).take("org", "a")
    with bench.limiter(org_limit=1).hold("org", "a"):
        pass
    clock.advance(10)
    beat()
    assert earlier.lost
    assert bench.limiter().usage("org").used == 0


@pytest.mark.parametrize("verb", ["release", "clear"])
def test_holder_is_told_of_what_was_taken_by_hand(bench: Bench, verb: str) -> None:
    """Released by hand, a slot does not come back by the renewal of who holds it."""
    limiter = bench.limiter(org_limit=1, lease=0.3)
    told = threading.Event()
    slot = limiter.take("org", "a", on_lost=lambda _: told.set())
    other = bench.limiter()
    if verb == "release":
        assert other.release("org", "a")
    else:
        assert other.clear("org") == 1
    assert told.wait(20)
    assert slot.lost
    assert limiter.usage("org").used == 0


def test_callback_that_fails_harms_no_renewal(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """What a callback or a listener raises is logged; other slots are renewed."""

    def fail(_: object) -> None:
        raise RuntimeError("callback")

    clock = VirtualClock()
    limiter = bench.limiter(lease=30, clock=clock, emit=fail)
    lost = limiter.take("org", "a", lease=10, on_lost=fail)
    kept = limiter.take("org", "b")
    clock.advance(10)
    beat()
    assert lost.lost
    assert kept.deadline > 38
    assert "The on_lost of <Slot of 'org', 'a': lost> failed." in caplog.text
    kept.release()


def test_what_was_renewed_while_it_ended_is_given_back(bench: Bench) -> None:
    """A renewal that overtakes the release leaves nothing behind."""
    limiter = bench.limiter(org_limit=1)
    slot = limiter.take("org", "a")
    lease = limiter._desk.heartbeat._leases[slot.token]
    slot.release()
    assert limiter.usage("org").used == 0
    limiter._desk.heartbeat._renew([lease])
    wait_until(lambda: not limiter.usage("org").used)


def test_child_of_a_fork_holds_nothing(bench: Bench) -> None:
    """It neither renews nor releases what its parent holds, and may have its own."""
    process = _elsewhere(
        bench,
        """
        slot = limiter.take("org", "a")
        child = os.fork()
        if not child:
            slot.release()
            held = limiter.usage("org").used
            limiter.set_limit("org", 2)
            with limiter.slot("org", "b") as own:
                time.sleep(1.5)
                say(f"child {held} {own.lost} {limiter.usage('org').used}")
            os._exit(0)
        os.waitpid(child, 0)
        say(f"parent {slot.lost} {limiter.usage('org').used}")
        slot.release()
        say(limiter.usage("org").used)
        """,
    )
    try:
        assert [_heard(process) for _ in range(3)] == [
            "child 1 False 2",
            "parent False 1",
            "0",
        ]
        assert process.wait(20) == 0
    finally:
        _end(process)


def test_exit_with_a_slot_ends_the_process(bench: Bench) -> None:
    """The thread that renews keeps no process alive."""
    process = _elsewhere(bench, "limiter.take('org', 'a')\nsay('holds')")
    try:
        assert _heard(process) == "holds"
        assert process.wait(20) == 0
    finally:
        _end(process)


def _forgets(server: RedisServer) -> None:
    server.kill()
    server.start()


def test_holders_come_first_after_a_restart() -> None:
    """An emptied Redis gives nothing away before the asker's own slots are there."""
    with RedisServer() as server:
        bench = Bench(server)
        limiter = bench.limiter(org_limit=2, lease=30, pause=0.001)
        slots = [limiter.take("org", i) for i in range(2)]
        _forgets(server)
        with pytest.raises(SlotLimitExceeded):
            limiter.acquire("org", "new")
        assert limiter.usage("org").used == 2
        assert not any(slot.lost for slot in slots)
        assert {slot.mode for slot in slots} == {"redis"}
        bench.close()


def test_holders_register_again_by_themselves() -> None:
    """After a restart, or a failover that lost them, at the next renewal."""
    with RedisServer() as server:
        bench = Bench(server)
        limiter = bench.limiter(org_limit=3, lease=1.0)
        slots = [limiter.take("org", i, scopes={"user:1": 3}) for i in range(3)]
        _forgets(server)
        looker = bench.limiter(org_limit=3)
        wait_until(lambda: looker.usage("org").used == 3)
        assert not any(slot.lost for slot in slots)
        oldest = looker.usage("org").oldest
        assert oldest is not None
        assert bench.redis.zcard(bench.prefix + "user:1") == 3
        bench.close()


def test_those_over_the_limit_are_told() -> None:
    """Where others were given slots before, the oldest holders get what is left."""
    with RedisServer() as server:
        bench = Bench(server)
        told: list[Any] = []
        limiter = bench.limiter(org_limit=2, lease=0.9)
        old = limiter.take("org", "old", on_lost=told.append)
        young = limiter.take("org", "young", on_lost=told.append)
        _forgets(server)
        # It has nothing to register, and does not know of the others.
        stranger = bench.limiter(org_limit=2)
        stranger.acquire("org", "new")
        wait_until(lambda: told)
        assert told == [young]
        assert not old.lost
        assert stranger.usage("org").used == 2
        bench.close()


def test_lease_that_is_no_time(bench: Bench) -> None:
    """A lease is a number of seconds above 0, at most a week."""
    limiter = bench.limiter()
    wrongs: list[Any] = [0, -1, float("nan"), float("inf"), "30", True, 8 * 86_400]
    for wrong in wrongs:
        with pytest.raises(ValueError, match="lease is"):
            limiter.acquire("org", "a", lease=wrong)
        with pytest.raises(ValueError, match="lease is"):
            SlotLimiter.from_url("redis://x", lease=wrong)
