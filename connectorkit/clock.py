"""The clock: monotonic seconds, and waiting by them."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock", "SystemClock"]


class Clock(Protocol):
    """What passes for time: a parameter, so that no test has to wait for it."""

    def __call__(self) -> float:
        """Return monotonic seconds."""

    def sleep(self, seconds: float) -> None:
        """Wait."""

    async def asleep(self, seconds: float) -> None:
        """Wait, and let others work."""


class SystemClock:
    """The machine's own monotonic clock."""

    __call__ = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)
    asleep = staticmethod(asyncio.sleep)

    def __repr__(self) -> str:
        return "<SystemClock>"


SYSTEM_CLOCK = SystemClock()
