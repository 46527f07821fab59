"""Windows: how the last operations went."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple, Protocol

__all__ = ["CountWindow", "Counts", "TimeWindow", "Window"]

_SLICES = 10


class Counts(NamedTuple):
    """How the operations in a window went.

    Attributes:
        calls: How many there are.
        failures: How many of them failed.
        slow: How many of them were slow, failed or not.
    """

    calls: int = 0
    failures: int = 0
    slow: int = 0


class Window(Protocol):
    """How the last operations went, as many or as long as it holds."""

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count an operation that has ended."""

    def counts(self, now: float) -> Counts:
        """Say how those in it went; changes nothing."""


class CountWindow:
    """How the last so many operations went.

    Args:
        size: How many.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._last: deque[tuple[bool, bool]] = deque()
        self._failures = 0
        self._slow = 0

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count an operation; the oldest falls out."""
        del now
        self._last.append((failed, slow))
        self._failures += failed
        self._slow += slow
        if len(self._last) > self._size:
            failed, slow = self._last.popleft()
            self._failures -= failed
            self._slow -= slow

    def counts(self, now: float) -> Counts:
        """Say how those in it went."""
        del now
        return Counts(len(self._last), self._failures, self._slow)


class TimeWindow:
    """How the operations of the last seconds went, counted in tenths of them.

    The tenth that has begun counts as a whole one, so it holds nine to ten of them.

    Args:
        seconds: How long it is.
    """

    def __init__(self, seconds: float) -> None:
        self._length = seconds / _SLICES
        self._slices: deque[tuple[int, Counts]] = deque()

    def add(self, now: float, *, failed: bool, slow: bool) -> None:
        """Count an operation in its tenth; those that are too old fall out."""
        number = int(now // self._length)
        counts = Counts()
        if self._slices and self._slices[-1][0] >= number:
            number, counts = self._slices.pop()
        calls, failures, slows = counts
        counts = Counts(calls + 1, failures + failed, slows + slow)
        self._slices.append((number, counts))
        while self._slices[0][0] <= number - _SLICES:
            self._slices.popleft()

    def counts(self, now: float) -> Counts:
        """Say how those of its tenths went."""
        oldest = int(now // self._length) - _SLICES
        inside = [counts for number, counts in self._slices if number > oldest]
        return Counts(*map(sum, zip(*inside, strict=True))) if inside else Counts()
