"""Which request meets which fault."""

from __future__ import annotations

import threading
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from connectorkit.testing.operations import known

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from connectorkit.testing.exchange import Request
    from connectorkit.testing.faults import Fault

    When: TypeAlias = str | Callable[[Request], bool] | None
    Choose: TypeAlias = Callable[[], Fault | None]

__all__ = ["Rule", "Rules", "draw"]


class Rule:
    """Faults for some requests.

    Attributes:
        seen: How many requests it was for, those skipped or spared included.
        fired: How many met its fault.
    """

    def __init__(
        self, choose: Choose, *, times: int | None, when: When, after: int
    ) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times={times}: a fault happens once at least.")
        if after < 0:
            raise ValueError(f"after={after}: there is no such request.")
        self._choose = choose
        self._times = times
        self._after = after
        self._when = _condition(when)
        self.seen = 0
        self.fired = 0

    def offer(self, request: Request) -> Fault | None:
        """Return the fault that a request is due to meet by this rule, if any."""
        if not self._when(request):
            return None
        fault = self._choose()
        if fault is not None and not fault.applies(request):
            return None
        self.seen += 1
        is_spent = self._times is not None and self.fired >= self._times
        return None if is_spent or self.seen <= self._after else fault

    def __repr__(self) -> str:
        return f"<Rule: fired {self.fired} times, seen {self.seen} requests>"


class Rules:
    """All of them; a request meets the fault of the first that has one for it."""

    def __init__(self) -> None:
        # Reentrant: a test's condition may ask the proxy.
        self._lock = threading.RLock()
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        """Add one, after those that are there."""
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Remove all."""
        with self._lock:
            self._rules.clear()

    def pick(self, request: Request) -> Fault | None:
        """Return the fault that a request meets; each rule takes note of it."""
        with self._lock:
            offers = [(rule, rule.offer(request)) for rule in self._rules]
            for rule, fault in offers:
                if fault is not None:
                    rule.fired += 1
                    return fault
        return None


def draw(seed: str, rate: float, faults: Sequence[Fault]) -> Choose:
    """Return a choice by lot; the n-th is the same for the same seed.

    Raises:
        ValueError: The rate is no share, or there is no fault.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate={rate}: it is a share of the requests, from 0 to 1.")
    if not faults:
        raise ValueError("There is no fault to choose from.")
    lot = Random(seed)  # noqa: S311 - meant to be foretold

    def choose() -> Fault | None:
        # Both are drawn each time, so that the rate does not change the order.
        is_hit, fault = lot.random() < rate, lot.choice(faults)
        return fault if is_hit else None

    return choose


def _condition(when: When) -> Callable[[Request], bool]:
    if when is None:
        return lambda _: True
    if callable(when):
        return when
    operation = known(when)
    return lambda request: request.operation == operation
