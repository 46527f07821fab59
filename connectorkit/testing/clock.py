"""A clock for tests: its time moves when it is told to, and nobody waits."""

from __future__ import annotations

import asyncio
import threading

__all__ = ["VirtualClock"]


class VirtualClock:
    """Monotonic seconds that pass only by `advance`, `sleep` and `asleep`.

    It goes wherever a clock is a parameter, and its `sleep` wherever a sleep is:
    `ConnectorKit(config, clock=clock)`. Threads may share it: the sleeps of two pass
    one after the other.

    Args:
        start: The seconds that it shows at first.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._slept: list[float] = []
        self._lock = threading.Lock()

    def now(self) -> float:
        """Return the seconds that it shows."""
        return self._now

    __call__ = now

    def advance(self, seconds: float) -> None:
        """Let time pass.

        Raises:
            ValueError: It would go back.
        """
        self._pass(seconds)

    def sleep(self, seconds: float) -> None:
        """Let time pass and note it in `slept`; returns at once.

        Raises:
            ValueError: The seconds are negative, which `time.sleep` refuses as well.
        """
        self._pass(seconds, is_sleep=True)

    async def asleep(self, seconds: float) -> None:
        """Let time pass and note it in `slept`; other tasks get their turn.

        Raises:
            ValueError: The seconds are negative.
        """
        self._pass(seconds, is_sleep=True)
        await asyncio.sleep(0)

    @property
    def slept(self) -> list[float]:
        """The seconds of each sleep so far, in order."""
        with self._lock:
            return [*self._slept]

    def _pass(self, seconds: float, *, is_sleep: bool = False) -> None:
        # Not `seconds < 0`, which NaN would slip through.
        if not seconds >= 0:
            raise ValueError(f"Time does not pass by {seconds!r} seconds.")
        with self._lock:
            self._now += seconds
            if is_sleep:
                self._slept.append(seconds)

    def __repr__(self) -> str:
        return f"<VirtualClock at {self._now:g} s>"
