"""Slots on a real Redis against a plain reference: whatever is asked, in any order."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar
from uuid import uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)
from redis import Redis

from connectorkit.testing import VirtualClock
from connectorkit_slots import Share, SlotLimiter, SlotLimitExceeded
from slotting import beat

if TYPE_CHECKING:
    from connectorkit_slots import Slot
    from servers import RedisServer

ORGANIZATIONS = ("a", "b")
EXECUTIONS = st.integers(0, 1)
USERS = st.sampled_from([None, "user:1", "user:2"])
# So few that all of them are full now and then.
LIMITS = {"a": 1, "b": 2, "user": 1, "global": 2}


@dataclass
class Entry:
    """What the reference knows of an execution that has a slot."""

    scopes: tuple[str, ...]
    token: str
    is_held: bool = False
    slots: list[Slot] = field(default_factory=list)


class Reference:
    """The rules as they are told: a dictionary, and a count over it."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, int], Entry] = {}
        self.stored: dict[str, int] = {}

    def limit(self, scope: str) -> int:
        """Return a scope's limit."""
        kind, _, name = scope.partition(":")
        if kind == "org":
            return self.stored.get(name, LIMITS[name])
        return LIMITS[kind]

    def used(self, scope: str) -> int:
        """Count who is in a scope."""
        return sum(scope in entry.scopes for entry in self.entries.values())

    def full(self, scopes: tuple[str, ...]) -> str | None:
        """Return the first scope without room."""
        for scope in scopes:
            if self.used(scope) >= self.limit(scope):
                return scope
        return None


class Slots(RuleBasedStateMachine):
    """Two limiters, as two processes would have them, on one namespace."""

    server: ClassVar[RedisServer]

    @initialize()
    def begin(self) -> None:
        """Take a namespace that is nobody's."""
        self.namespace = f"model-{uuid4()}"
        self.clock = VirtualClock()
        self.limiters = [
            SlotLimiter.from_url(
                self.server.endpoint_url,
                namespace=self.namespace,
                org_limits={name: LIMITS[name] for name in ORGANIZATIONS},
                global_limit=LIMITS["global"],
                lease=3600,
                budget=10,
                on_error="closed",
                clock=self.clock,
            )
            for _ in range(2)
        ]
        self.redis = Redis.from_url(self.server.endpoint_url, decode_responses=True)
        self.reference = Reference()

    def teardown(self) -> None:
        """Let go of all."""
        for entry in self.reference.entries.values():
            for slot in entry.slots:
                slot.release()
        for limiter in self.limiters:
            limiter.close()
        self.redis.close()

    @rule(
        which=st.integers(0, 1),
        org=st.sampled_from(ORGANIZATIONS),
        execution=EXECUTIONS,
        user=USERS,
        is_held=st.booleans(),
    )
    def ask(
        self, which: int, org: str, execution: int, user: str | None, is_held: bool
    ) -> None:
        """Acquire, or take over."""
        limiter, reference = self.limiters[which], self.reference
        scopes = (f"org:{org}", *([user] if user else []), "global")
        further = {user: LIMITS["user"]} if user else None
        call = limiter.take if is_held else limiter.acquire
        known = reference.entries.get((org, execution))
        full = None if known else reference.full(scopes)
        try:
            slot = call(org, execution, scopes=further)
        except SlotLimitExceeded as error:
            assert error.scope == full
            assert error.used == reference.used(full)
            assert error.limit == reference.limit(full)
            assert error.retry_after > 0
            return
        assert full is None
        if known is None:
            known = reference.entries[org, execution] = Entry(scopes, slot.token)
            known.is_held = is_held
        elif is_held or not known.is_held:
            # It is the last one's. But who admits what is held has no part in it.
            known.token, known.is_held = slot.token, is_held
        assert slot.scopes == {
            scope: Share(reference.used(scope), reference.limit(scope))
            for scope in scopes
        }
        known.slots.append(slot)

    @rule(which=st.integers(0, 1), data=st.data())
    def take_over(self, which: int, data: st.DataObject) -> None:
        """Hold what has a slot."""
        if self.reference.entries:
            org, execution = data.draw(st.sampled_from([*self.reference.entries]))
            self.ask(which, org, execution, None, is_held=True)

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        """Release by a slot's own token, which may be another's by now."""
        slots = [
            (key, slot)
            for key, entry in self.reference.entries.items()
            for slot in entry.slots
        ]
        if slots:
            key, slot = data.draw(st.sampled_from(slots))
            entry = self.reference.entries[key]
            slot.release()
            entry.slots.remove(slot)
            if slot.token == entry.token:
                del self.reference.entries[key]

    @rule(
        which=st.integers(0, 1),
        org=st.sampled_from(ORGANIZATIONS),
        execution=EXECUTIONS,
    )
    def release_by_hand(self, which: int, org: str, execution: int) -> None:
        """Release whatever the execution has."""
        was_there = self.limiters[which].release(org, execution)
        assert was_there is ((org, execution) in self.reference.entries)
        self.reference.entries.pop((org, execution), None)

    @rule(org=st.sampled_from(ORGANIZATIONS), limit=st.none() | st.integers(1, 3))
    def store(self, org: str, limit: int | None) -> None:
        """Store a limit, or forget it."""
        self.limiters[0].set_limit(org, limit)
        self.reference.stored.pop(org, None)
        if limit:
            self.reference.stored[org] = limit

    @rule()
    def renew(self) -> None:
        """Renew what is held: who was released or taken over is told, nobody else."""
        self.clock.advance(1200)
        beat()
        for entry in self.reference.entries.values():
            for slot in [*entry.slots]:
                is_its_own = slot.token == entry.token
                if slot._tell is not None:
                    assert slot.lost is not is_its_own
                else:
                    # It was acquired, and is not renewed.
                    entry.slots.remove(slot)

    # One rule, so that what is asked is not drowned by what disturbs.
    @rule(
        org=st.sampled_from(ORGANIZATIONS),
        what=st.sampled_from(["clear", "flush", "stale"]),
    )
    def disturb(self, org: str, what: str) -> None:
        """Take all back, forget the scripts, or leave one that lapsed long ago."""
        if what == "clear":
            self.clear(org)
        elif what == "flush":
            self.redis.script_flush()
        else:
            key = f"connectorkit:{{{self.namespace}}}:global"
            self.redis.zadd(key, {"gone/1": 1, "gone/2": time.time() - 1})

    def clear(self, org: str) -> None:
        """Take all back."""
        gone = [key for key in self.reference.entries if key[0] == org]
        assert self.limiters[1].clear(org) == len(gone)
        for key in gone:
            del self.reference.entries[key]

    @invariant()
    def as_many_are_used(self) -> None:
        """Each organisation uses what the reference counts."""
        if not hasattr(self, "limiters"):
            return
        for org in ORGANIZATIONS:
            usage = self.limiters[0].usage(org)
            assert usage.used == self.reference.used(f"org:{org}")
            assert usage.limit == self.reference.limit(f"org:{org}")
        told = {each.organization: each.used for each in self.limiters[1].usages()}
        counts = {org: self.reference.used(f"org:{org}") for org in ORGANIZATIONS}
        assert told == {org: n for org, n in counts.items() if n}


def test_slots_are_as_the_reference(redis_server: RedisServer) -> None:
    """Whatever two limiters are asked, they answer as a plain count does."""
    Slots.server = redis_server
    run_state_machine_as_test(
        Slots,
        settings=settings(max_examples=100, stateful_step_count=40, deadline=None),
    )
