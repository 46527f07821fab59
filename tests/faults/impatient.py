"""A policy that loses patience with what is known to stall, and with nothing else."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from connectorkit import Policy, hookimpl, pipeline
from connectorkit.limit import Limit
from connectorkit.testing import Stall

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest

    from connectorkit import Operation
    from connectorkit.policy import Flow
    from connectorkit.testing import Relay

__all__ = ["Impatient", "Silence", "TeachesImpatience", "impatience"]

_LOOK_SECONDS = 0.01


class Impatient(Policy):
    """Limits what is known to stall, and nothing else.

    The time that a healthy request takes on a busy machine decides nothing.

    Attributes:
        stalls: How often the n-th operation of a name on a path stalls.
        seen: How many of them there were.
        begun: How many attempts were limited.
        silences: How many of them have met their `Silence`.
    """

    name = "impatient"
    rank = 70
    stalls: ClassVar[dict[tuple[str, str, int], float]] = {}
    seen: ClassVar[defaultdict[tuple[str, str], int]] = defaultdict(int)
    begun: ClassVar[int] = 0
    silences: ClassVar[int] = 0

    def around(self, op: Operation) -> Flow:
        place = op.name, op.path
        if op.origin.attempts == 0:
            self.seen[place] += 1
        if op.origin.attempts >= self.stalls.get((*place, self.seen[place]), 0):
            return (yield op)
        Impatient.begun += 1
        return (yield op.within(1.0))

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
        cls.begun = cls.silences = 0


@dataclass(frozen=True, slots=True, repr=False)
class Silence(Stall):
    """A stall that `Impatient` hears of."""

    async def play(self, relay: Relay) -> None:
        """Send a part, and wait until the client has lost its patience."""
        if self.at is not None:
            await relay.forward_part(await relay.ask(), self.at)
        Impatient.silences += 1
        await relay.stall()


class _Patience(Limit):
    """A limit that ends as soon as all that was limited has met its silence.

    Not by the time: on a busy machine a request may take longer than any limit to
    arrive, and on an idle one each stall would take as long as that.
    """

    __slots__ = ()

    def __init__(self, seconds: float) -> None:
        del seconds
        super().__init__(_LOOK_SECONDS)

    def _end(self) -> None:
        # Both numbers only grow, and this runs where attempts begin.
        if Impatient.begun > Impatient.silences:
            loop = asyncio.get_running_loop()
            self._handle = loop.call_later(_LOOK_SECONDS, self._end)
        else:
            super()._end()


class TeachesImpatience:
    """A plugin with the policy."""

    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Impatient]


def impatience(monkeypatch: pytest.MonkeyPatch) -> Iterator[TeachesImpatience]:
    """Let limits end by silence while a test runs; for a fixture."""
    monkeypatch.setattr(pipeline, "Limit", _Patience)
    yield TeachesImpatience()
    Impatient.forget()
