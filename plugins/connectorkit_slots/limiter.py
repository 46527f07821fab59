"""Slots in Redis, for threads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack

from connectorkit_slots.desk import Desk
from connectorkit_slots.errors import SlotLimitExceeded
from connectorkit_slots.keys import checked_id
from connectorkit_slots.options import checked_seconds
from connectorkit_slots.slot import Holding, Slot
from connectorkit_slots.store import Away, Store, client_of, is_refusal
from connectorkit_slots.verbs import Moved

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from connectorkit_slots.options import SlotOptions
    from connectorkit_slots.slot import Usage
    from connectorkit_slots.verbs import Ask, Claim

__all__ = ["SlotLimiter"]


class SlotLimiter:
    """At most so many executions at once, in all processes that share a Redis.

    ```python
    limiter = SlotLimiter.from_url("redis://…", org_limit=20, global_limit=100)
    with limiter.slot("org_42", execution_id) as slot:  # one process does it all
        ...
    limiter.acquire("org_42", execution_id, lease=600)  # or: an API admits …
    with limiter.hold("org_42", execution_id) as slot:  # … and a worker takes over
        ...
    ```

    An execution has one slot, however often it asks. It may be used by many threads,
    and after a fork, where the child holds nothing.

    Args:
        client: A client of redis-py, of one node or of a cluster. Its time limits and
            retries are the caller's: let it not try again, as `from_url` does, for
            while it does so Redis does not count as away.
        options: See `SlotOptions`.

    Raises:
        MissingExtra: redis-py is not installed.
        ValueError: An option is out of bounds.
        ConfigError: A variable of the environment holds no number of hours.
    """

    def __init__(self, client: Any, **options: Unpack[SlotOptions]) -> None:
        self._store = Store(client)
        self._owned: Any = None
        self._desk = Desk(options, self._store, Slot, self._give_back)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        budget: float = 0.1,
        cluster: bool = False,
        **options: Unpack[SlotOptions],
    ) -> Self:
        """Return a limiter with a client of its own.

        Args:
            url: As redis-py takes it: `redis://`, `rediss://` or `unix://`.
            budget: Seconds for an answer, and for a connection, before Redis counts as
                away.
            cluster: Whether the URL is of a node of a Redis Cluster.
            options: See `SlotOptions`.

        Raises:
            MissingExtra: redis-py is not installed.
            ValueError: The URL cannot be read, or an option is out of bounds.
        """
        budget = checked_seconds("budget", budget)
        client = client_of(url, budget, is_cluster=cluster)
        limiter = cls(client, **options)
        limiter._owned = client
        return limiter

    # For an execution

    @contextmanager
    def slot(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
        on_lost: Callable[[Slot], object] | None = None,
    ) -> Iterator[Slot]:
        """Run a block with a slot: acquires, renews, and releases on any exit.

        Arguments and errors are those of `take`.
        """
        slot = self.take(org, execution_id, lease=lease, scopes=scopes, on_lost=on_lost)
        try:
            yield slot
        finally:
            slot.release()

    # What the API has admitted a worker takes over: it is the same slot.
    hold = slot

    def take(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
        on_lost: Callable[[Slot], object] | None = None,
    ) -> Slot:
        """Return a slot that is renewed until its `release()` is called.

        If the execution has one, the caller takes it over: whoever held it loses it.

        Args:
            org: The organisation's ID.
            execution_id: What is run.
            lease: Seconds for which it lasts without a renewal; the limiter's by
                default.
            scopes: Further scopes and their limits, such as `{"user:7": 3}`: `kind:ID`.
                Not looked at if the execution has a slot already.
            on_lost: Called once with the slot if it is lost, in whatever thread finds
                that out; it must return at once.

        Raises:
            SlotLimitExceeded: A scope is full.
            SlotsUnavailable: Redis is away, and nothing stands in for it.
            TypeError: An ID is none, but an object, say.
            ValueError: An ID is empty, or a limit or the lease is none; with
                names="source": the ID is that of another organisation's execution.
            redis.RedisError: Redis is there and says no: wrong credentials, say, or a
                full memory.
        """
        claim = self._desk.claim(org, execution_id, lease, scopes, is_taken=True)
        return self._acquire(claim, on_lost)

    def acquire(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
    ) -> Slot:
        """Admit an execution: the slot is not renewed, and lapses if nobody holds it.

        If the execution has one, it is that one: it lasts for another lease, and ends
        by the release of what was returned last, not of what was before. Arguments and
        errors are those of `take`.
        """
        claim = self._desk.claim(org, execution_id, lease, scopes, is_taken=False)
        return self._acquire(claim, None)

    def release(self, org: str | int, execution_id: str | int | UUID) -> bool:
        """Give back the slot of an execution, whoever has it; idempotent.

        Who holds it is told that it is lost, at the next renewal. While Redis is away
        what this process has is taken back at once, and the rest when Redis is there
        again, unless that is later than an hour.

        Returns:
            Whether it had one; while Redis is away, whether this process had it.

        Raises:
            SlotsUnavailable: Redis is away, and nothing stands in for it.
            TypeError: An ID is none.
            ValueError: An ID is empty.
        """
        desk, release = self._desk, self._desk.by_hand(org, execution_id)
        try:
            reply = self._store.run(release.ask())
        except Away as error:
            return desk.take_back_here(release, error)
        was_there, _ = desk.verbs.released(reply)
        if was_there:
            desk.forget(release.organization, release.execution_id)
        return was_there

    # For who looks after it

    def usage(self, org: str | int) -> Usage:
        """Say how far an organisation uses its slots; a pure read.

        Raises:
            SlotsUnavailable: Redis is away.
            TypeError: The ID is none.
        """
        name = checked_id("The organization", org)
        verbs, limit = self._desk.verbs, self._desk.rules.limit(name)
        return verbs.used(name, limit, self._run(verbs.usage(name)))

    def usages(self) -> list[Usage]:
        """Say so of each organisation that has a slot, by its ID; a pure read.

        Raises:
            SlotsUnavailable: Redis is away.
        """
        verbs = self._desk.verbs
        return verbs.all_used(self._run(verbs.usages()))

    def set_limit(self, org: str | int, limit: int | None) -> None:
        """Store an organisation's limit in Redis, for all processes; None forgets it.

        Who has a slot keeps it.

        Raises:
            SlotsUnavailable: Redis is away.
            TypeError: The ID is none.
            ValueError: The limit is no whole number from 1.
        """
        name = checked_id("The organization", org)
        try:
            self._store.command(*self._desk.verbs.set_limit(name, limit))
        except Away as error:
            raise self._desk.unavailable(error) from error.__cause__

    def clear(self, org: str | int) -> int:
        """Take all slots of an organisation back; return how many there were.

        Who holds one is told that it is lost, at the next renewal.

        Raises:
            SlotsUnavailable: Redis is away.
            TypeError: The ID is none.
        """
        name = checked_id("The organization", org)
        return int(self._run(self._desk.verbs.clear(name)))

    def close(self) -> None:
        """Renew nothing any more, and close the client, if `from_url` made it.

        What is held is not released: it lapses with its lease.
        """
        self._desk.close()
        if self._owned is not None:
            self._owned.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<SlotLimiter {self._desk.rules.keys.prefix!r}>"

    def _acquire(self, claim: Claim, on_lost: Callable[[Slot], object] | None) -> Slot:
        desk, cause = self._desk, None
        while desk.asks_redis():
            if desk.is_owing:
                desk.register()
            sent = desk.rules.clock()
            try:
                reply = self._store.run(desk.ask(claim))
                slot = desk.settle(claim, sent, reply, on_lost)
            except Away as error:
                desk.went_away()
                cause = error
                break
            except SlotLimitExceeded:
                raise
            except BaseException as error:
                # It may have been given all the same, and nobody has it.
                if not is_refusal(error):
                    desk.give_up(claim)
                raise
            if not isinstance(slot, Moved):
                return slot
            desk.recover(slot.epoch)
        return desk.stand_in(claim, cause, on_lost)

    def _give_back(self, slot: Holding) -> None:
        release = self._desk.let_go(slot)
        # The background does it if this is interrupted, or Redis is away.
        is_done = False
        try:
            if self._desk.asks_redis():
                reply = self._store.run(release.ask())
                is_done = True
                self._desk.given_back(slot, reply)
        except Away:
            self._desk.went_away()
        finally:
            if not is_done:
                self._desk.release_later(release)

    def _run(self, ask: Ask) -> Any:
        try:
            return self._store.run(ask)
        except Away as error:
            raise self._desk.unavailable(error) from error.__cause__
