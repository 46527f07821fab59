"""Whether something was done although nobody said so."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType

    from connectorkit import Operation

__all__ = ["Doubt"]


class Doubt:
    """Around each attempt: afterwards true if one may have been acted on unheard.

    Args:
        op: The operation.
    """

    def __init__(self, op: Operation) -> None:
        self._op = op
        self._is_there = False

    def __bool__(self) -> bool:
        return self._is_there

    def settle(self) -> None:
        """Take note that the service has said how things are."""
        self._is_there = False

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, asyncio.CancelledError):
            # As a rule, its time was up.
            self._is_there = True
        elif isinstance(error, Exception):
            verdict = self._op.classify(error)
            self._is_there |= verdict.is_sent and verdict.fault.is_outage
