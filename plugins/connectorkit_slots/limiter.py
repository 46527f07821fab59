"""Slots in Redis, for threads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, Unpack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from connectorkit_slots.options import SlotOptions
    from connectorkit_slots.slot import Slot, Usage

__all__ = ["SlotLimiter"]


class SlotLimiter:
    """At most so many executions at once, in all processes that share a Redis."""

    def __init__(self, client: Any, **options: Unpack[SlotOptions]) -> None:
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
        """Run a block with a slot: acquires, renews, and releases on any exit."""
        raise NotImplementedError

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
        """Return a slot that is renewed until its `release()` is called."""
        raise NotImplementedError

    def acquire(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        *,
        lease: float | None = None,
        scopes: Mapping[str, int] | None = None,
    ) -> Slot:
        """Admit an execution: the slot is not renewed, and lapses."""
        raise NotImplementedError

    def release(self, org: str | int, execution_id: str | int | UUID) -> bool:
        """Give back the slot of an execution, whoever has it; tell whether it had one."""
        raise NotImplementedError

    def usage(self, org: str | int) -> Usage:
        """Say how far an organisation uses its slots; a pure read."""
        raise NotImplementedError

    def usages(self) -> list[Usage]:
        """Say so of each organisation that has a slot; a pure read."""
        raise NotImplementedError

    def set_limit(self, org: str | int, limit: int | None) -> None:
        """Store an organisation's limit in Redis; None forgets it."""
        raise NotImplementedError

    def clear(self, org: str | int) -> int:
        """Take all slots of an organisation back; return how many there were."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the client, if it is the limiter's own."""
        raise NotImplementedError
