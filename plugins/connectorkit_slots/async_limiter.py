"""Slots in Redis, for event loops."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, AsyncIterator, Mapping
    from uuid import UUID

    from connectorkit_slots.options import SlotOptions
    from connectorkit_slots.slot import AsyncSlot, Usage

__all__ = ["AsyncSlotLimiter"]


class AsyncSlotLimiter:
    """At most so many executions at once, in all processes that share a Redis."""

    def __init__(
        self, client: Any, renewing: Any, **options: Unpack[SlotOptions]
    ) -> None:
        raise NotImplementedError

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        budget: float = 0.1,
        cluster: bool = False,
        **options: Unpack[SlotOptions],
    ) -> Self:
        """Return a limiter with a client of its own."""
        raise NotImplementedError

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
        """Run a block with a slot: acquires, renews, and releases on any exit."""
        raise NotImplementedError

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
        """Return a slot that is renewed until its `release()` is called."""
        raise NotImplementedError

    async def acquire(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
    ) -> AsyncSlot:
        """Admit an execution: the slot is not renewed, and lapses."""
        raise NotImplementedError

    async def release(self, org: str | int, execution_id: str | int | UUID) -> bool:
        """Give back the slot of an execution, whoever has it; tell whether it had one."""
        raise NotImplementedError

    async def usage(self, org: str | int) -> Usage:
        """Say how far an organisation uses its slots; a pure read."""
        raise NotImplementedError

    async def usages(self) -> list[Usage]:
        """Say so of each organisation that has a slot; a pure read."""
        raise NotImplementedError

    async def set_limit(self, org: str | int, limit: int | None) -> None:
        """Store an organisation's limit in Redis; None forgets it."""
        raise NotImplementedError

    async def clear(self, org: str | int) -> int:
        """Take all slots of an organisation back; return how many there were."""
        raise NotImplementedError

    async def close(self) -> None:
        """Close the client, if it is the limiter's own."""
        raise NotImplementedError
