"""A policy that loses patience with what is known to stall, and with nothing else."""

from __future__ import annotations

import math
from collections import defaultdict
from typing import TYPE_CHECKING, ClassVar

from connectorkit import Policy, hookimpl

if TYPE_CHECKING:
    from connectorkit import Operation
    from connectorkit.policy import Flow

__all__ = ["Impatient", "TeachesImpatience"]


class Impatient(Policy):
    """Waits for a second for what is known to stall, and for ever for all else.

    The time that a healthy request takes on a busy machine decides nothing.

    Attributes:
        stalls: How often the n-th operation of a name on a path stalls.
    """

    name = "impatient"
    rank = 70
    stalls: ClassVar[dict[tuple[str, str, int], float]] = {}
    seen: ClassVar[defaultdict[tuple[str, str], int]] = defaultdict(int)

    def around(self, op: Operation) -> Flow:
        place = op.name, op.path
        if op.origin.attempts == 0:
            self.seen[place] += 1
        stalls = self.stalls.get((*place, self.seen[place]), 0)
        return (yield op.within(1.0) if op.origin.attempts < stalls else op)

    @classmethod
    def expect(
        cls, operation: str, path: str, number: int = 1, *, times: int | None
    ) -> None:
        """Know of one that stalls; `times` is how often, None for ever."""
        cls.stalls[operation, path, number] = math.inf if times is None else times

    @classmethod
    def forget(cls) -> None:
        """Know nothing."""
        cls.stalls.clear()
        cls.seen.clear()


class TeachesImpatience:
    """A plugin with the policy."""

    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Impatient]
