"""Slots in Redis, for event loops."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack

from connectorkit_slots.desk import Desk
from connectorkit_slots.errors import SlotLimitExceeded
from connectorkit_slots.keys import checked_id
from connectorkit_slots.options import checked_seconds
from connectorkit_slots.slot import AsyncSlot, Holding
from connectorkit_slots.store import AsyncStore, Away, Store, client_of, is_refusal
from connectorkit_slots.verbs import Moved

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from uuid import UUID

    from connectorkit_slots.options import SlotOptions
    from connectorkit_slots.slot import Usage
    from connectorkit_slots.verbs import Ask, Claim

__all__ = ["AsyncSlotLimiter"]


class AsyncSlotLimiter:
    """As `SlotLimiter`, for one event loop.

    Its slots are renewed by the thread that renews all others, so that a busy event
    loop loses none. `on_lost` is called on the loop.

    Args:
        client: A client of `redis.asyncio`, of one node or of a cluster.
        renewing: A client of `redis` for the same Redis, for that thread.
        options: See `SlotOptions`.

    Raises:
        MissingExtra: redis-py is not installed.
        ValueError: An option is out of bounds.
        ConfigError: A variable of the environment holds no number of hours.
    """

    def __init__(
        self, client: Any, renewing: Any, **options: Unpack[SlotOptions]
    ) -> None:
        self._store = AsyncStore(client)
        self._owned: tuple[Any, ...] = ()
        self._desk = Desk(options, Store(renewing), AsyncSlot, self._give_back)

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        budget: float = 0.1,
        cluster: bool = False,
        **options: Unpack[SlotOptions],
    ) -> Self:
        """Return a limiter with clients of its own; see `SlotLimiter.from_url`."""
        budget = checked_seconds("budget", budget)
        client = client_of(url, budget, is_cluster=cluster, is_async=True)
        renewing = client_of(url, budget, is_cluster=cluster)
        limiter = cls(client, renewing, **options)
        limiter._owned = client, renewing
        return limiter

    # For an execution

    @asynccontextmanager
    async def slot(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
        on_lost: Callable[[AsyncSlot], object] | None = None,
    ) -> AsyncIterator[AsyncSlot]:
        """Run a block with a slot; see `SlotLimiter.slot`."""
        slot = await self.take(
            org, execution_id, lease=lease, scopes=scopes, on_lost=on_lost
        )
        try:
            yield slot
        finally:
            await slot.release()

    hold = slot

    async def take(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
        on_lost: Callable[[AsyncSlot], object] | None = None,
    ) -> AsyncSlot:
        """Return a slot that is renewed until released; see `SlotLimiter.take`."""
        claim = self._desk.claim(org, execution_id, lease, scopes, is_taken=True)
        return await self._acquire(claim, _on_loop(on_lost))

    async def acquire(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
    ) -> AsyncSlot:
        """Admit an execution; see `SlotLimiter.acquire`."""
        claim = self._desk.claim(org, execution_id, lease, scopes, is_taken=False)
        return await self._acquire(claim, None)

    async def release(self, org: str | int, execution_id: str | int | UUID) -> bool:
        """Give back the slot of an execution; see `SlotLimiter.release`."""
        desk, release = self._desk, self._desk.by_hand(org, execution_id)
        try:
            reply = await self._store.run(release.ask())
        except Away as error:
            return desk.take_back_here(release, error)
        was_there, _ = desk.verbs.released(reply)
        if was_there:
            desk.forget(release.organization, release.execution_id)
        return was_there

    # For who looks after it

    async def usage(self, org: str | int) -> Usage:
        """Say how far an organisation uses its slots; see `SlotLimiter.usage`."""
        name = checked_id("The organization", org)
        verbs, limit = self._desk.verbs, self._desk.rules.limit(name)
        return verbs.used(name, limit, await self._run(verbs.usage(name)))

    async def usages(self) -> list[Usage]:
        """Say so of each that has a slot; see `SlotLimiter.usages`."""
        verbs = self._desk.verbs
        return verbs.all_used(await self._run(verbs.usages()))

    async def set_limit(self, org: str | int, limit: int | None) -> None:
        """Store an organisation's limit; see `SlotLimiter.set_limit`."""
        name = checked_id("The organization", org)
        try:
            await self._store.command(*self._desk.verbs.set_limit(name, limit))
        except Away as error:
            raise self._desk.unavailable(error) from error.__cause__

    async def clear(self, org: str | int) -> int:
        """Take all slots of an organisation back; see `SlotLimiter.clear`."""
        name = checked_id("The organization", org)
        return int(await self._run(self._desk.verbs.clear(name)))

    async def close(self) -> None:
        """Renew nothing any more, and close the clients, if `from_url` made them.

        What is held is not released: it lapses with its lease.
        """
        self._desk.close()
        if self._owned:
            client, renewing = self._owned
            await client.aclose()
            renewing.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<AsyncSlotLimiter {self._desk.rules.keys.prefix!r}>"

    async def _acquire(
        self, claim: Claim, on_lost: Callable[[AsyncSlot], object] | None
    ) -> AsyncSlot:
        desk, cause = self._desk, None
        while desk.asks_redis():
            if desk.is_owing:
                await asyncio.to_thread(desk.register)
            sent = desk.rules.clock()
            try:
                reply = await self._store.run(desk.ask(claim))
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
            await asyncio.to_thread(desk.recover, slot.epoch)
        return desk.stand_in(claim, cause, on_lost)

    async def _give_back(self, slot: Holding) -> None:
        release = self._desk.let_go(slot)
        # The background does it if this is cancelled, or Redis is away.
        is_done = False
        try:
            if self._desk.asks_redis():
                reply = await self._store.run(release.ask())
                is_done = True
                self._desk.given_back(slot, reply)
        except Away:
            self._desk.went_away()
        finally:
            if not is_done:
                self._desk.release_later(release)

    async def _run(self, ask: Ask) -> Any:
        try:
            return await self._store.run(ask)
        except Away as error:
            raise self._desk.unavailable(error) from error.__cause__


def _on_loop(
    on_lost: Callable[[AsyncSlot], object] | None,
) -> Callable[[AsyncSlot], object] | None:
    if on_lost is None:
        return None
    loop = asyncio.get_running_loop()
    return lambda slot: loop.call_soon_threadsafe(on_lost, slot)
