"""A slot: the right to run one execution, for as long as its lease goes on."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from connectorkit import fork
from connectorkit_slots.errors import SlotLost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from connectorkit.clock import Clock

__all__ = ["AsyncSlot", "Holding", "Mode", "Share", "Slot", "Usage", "margin"]

Mode: TypeAlias = Literal["redis", "local", "open"]


def margin(left: float) -> float:
    """Return how many seconds before the end of a lease its holder is told."""
    return min(left / 10, 1.0)


@dataclass(frozen=True, slots=True)
class Share:
    """How far a scope is used.

    Attributes:
        used: How many slots are taken; with a slot, its own among them.
        limit: How many there are; None for no limit.
    """

    used: int
    limit: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """How far an organisation uses its slots.

    Attributes:
        organization: Its ID.
        used: How many slots are taken.
        limit: How many there are; None for no limit.
        oldest: Seconds since the oldest of them was given; None if there is none.
    """

    organization: str
    used: int
    limit: int | None
    oldest: float | None


class Holding:
    """What a slot is, whoever waits for its release.

    Attributes:
        organization: For whom it was given.
        execution_id: For what.
        token: What its release and its renewals show; opaque.
        mode: Who gave it: "redis", or, while Redis was away, "local" (the in-process
            limit) or "open" (nobody counted). A held one becomes "redis" once Redis is
            back and has found room for it.
        scopes: How far each scope was used when it was given: "org:…", "global" and
            those that the host named.
        lease: Seconds for which it lasts without a renewal.
        is_doubtful: Whether a renewal was sent that nobody heard of.
    """

    is_doubtful = False
    give_back: Callable[[Holding], Any]

    def __init__(  # noqa: PLR0913 - a record
        self,
        *,
        organization: str,
        execution_id: str,
        token: str,
        mode: Mode,
        scopes: Mapping[str, Share],
        lease: float,
        deadline: float,
        clock: Clock,
        tell: Callable[[Holding], None] | None = None,
    ) -> None:
        self.organization = organization
        self.execution_id = execution_id
        self.token = token
        self.mode: Mode = mode
        self.scopes = dict(scopes)
        self.lease = lease
        self._deadline = deadline
        self._clock = clock
        self._tell = tell
        self._generation = fork.generation
        self._lock = threading.Lock()
        self._is_lost = False
        self._is_over = False

    @property
    def lost(self) -> bool:
        """Whether another one may have the slot: True as soon as that may be so.

        It is reckoned when it is read, so that a process that was stopped for longer
        than its lease sees it as soon as it goes on. It is never taken back.
        """
        return self._is_lost or (
            not self._is_over and self._clock() >= self._deadline and self.lose()
        )

    @property
    def is_held(self) -> bool:
        """Whether it is renewed, and so can be lost."""
        return self._tell is not None

    @property
    def deadline(self) -> float:
        """When it is lost unless it is renewed, by the limiter's monotonic clock."""
        return self._deadline

    def check(self) -> None:
        """Go on only with the slot.

        Raises:
            SlotLost: It is lost, or was released.
        """
        if self._is_over:
            raise SlotLost(
                f"The slot of execution {self.execution_id!r} of organization "
                f"{self.organization!r} was released. Acquire a slot again."
            )
        if self.lost:
            raise SlotLost(
                f"The slot of execution {self.execution_id!r} of organization "
                f"{self.organization!r} is lost: it could not be renewed in time, and "
                "another execution may have it. Stop, and acquire a slot again."
            )

    def renewed(self, deadline: float) -> bool:
        """Keep it until then; tell whether it was not too late."""
        with self._lock:
            if self._is_lost or self._is_over:
                return False
            self._deadline = deadline
            return True

    def lose(self) -> bool:
        """Take it from its holder, and tell the holder, once; True if it is lost."""
        with self._lock:
            if self._is_lost or self._is_over:
                return self._is_lost
            self._is_lost = True
        if self._tell is not None:
            self._tell(self)
        return True

    def over(self) -> bool:
        """End it: it can be lost no more; True if this process is to give it back."""
        with self._lock:
            was_over, self._is_over = self._is_over, True
        # A child that was forked inside the block does not end its parent's slot.
        return not was_over and fork.generation == self._generation

    def __repr__(self) -> str:
        state = "lost" if self._is_lost else self.mode
        return (
            f"<{type(self).__name__} of {self.organization!r}, "
            f"{self.execution_id!r}: {state}>"
        )


class Slot(Holding):
    """The right to run one execution, until it is released or its lease ends."""

    def release(self) -> None:
        """Give it back; a second time does nothing.

        It goes by the slot's own token: what another holder has by now stays. If Redis
        is away it is tried again in the background; else the lease ends by itself.
        """
        if self.over():
            self.give_back(self)


class AsyncSlot(Holding):
    """As `Slot`, for an event loop."""

    async def release(self) -> None:
        """Give it back; a second time does nothing."""
        if self.over():
            await self.give_back(self)
