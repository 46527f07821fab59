"""What all series share: they are one collector, and count in bulk.

To import this takes prometheus_client.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections import Counter as Tally
from collections import deque
from typing import TYPE_CHECKING, Any, ClassVar, Final

from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.registry import Collector

from connectorkit.circuits import circuits_in
from connectorkit.events import CircuitChanged, FilesystemClosed
from connectorkit.fork import renew_in_child
from connectorkit_metrics.gate import GATE
from connectorkit_metrics.labels import OTHER
from connectorkit_metrics.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from prometheus_client.metrics import MetricWrapperBase
    from prometheus_client.metrics_core import Metric

    from connectorkit_metrics.ledger import Count
    from connectorkit_metrics.settings import MetricsSettings

__all__ = ["SECONDS", "Begun", "Series", "repeated", "shared_directory"]

# From 1 ms, as OpenDAL's: a HEAD in the same room takes 5.
SECONDS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2.5, 5, 10, 30, 60, 120),
)
_LEVELS: Final = {"half_open": 1, "open": 2, "forced_open": 2}
_OF_CIRCUITS = (CircuitChanged, FilesystemClosed)
_MOST_ATTEMPTS = 10
# As many entries take a fifth of a megabyte, and half a millisecond to count.
_MANY = 1024


def shared_directory() -> str | None:
    """Return where processes leave what they count, in multiprocess mode."""
    # prometheus_client chooses when it is imported; the variable may come later.
    if not values.ValueClass._multiprocess:
        return None
    return os.environ.get("PROMETHEUS_MULTIPROC_DIR")


class Begun:
    """The first that series hear of in a process."""


class BulkHistogram(Histogram):
    """A histogram that takes many values for the price of a few."""

    def repeat(self, amount: float, times: int) -> None:
        """Observe an amount so many times."""
        self._sum.inc(amount * times)
        self._buckets[bisect_left(self._upper_bounds, amount)].inc(times)

    def extend(self, amounts: list[float]) -> None:
        """Observe each of `amounts`, which it sorts."""
        if len(amounts) == 1:
            self.repeat(amounts[0], 1)
            return
        amounts.sort()
        self._sum.inc(sum(amounts))
        below = 0
        for bound, bucket in zip(self._upper_bounds, self._buckets, strict=True):
            upto = bisect_right(amounts, bound, below)
            if upto > below:
                bucket.inc(upto - below)
            if upto == len(amounts):
                return
            below = upto


class Series(Collector):
    """The metrics of one vocabulary in one registry.

    Attributes:
        names: The vocabulary's name in the settings.
        most: How many entries of a ledger wait to be counted, at the most.
    """

    names: ClassVar[str]

    def __init__(self) -> None:
        self.most = 1 if shared_directory() is not None else _MANY
        self._ledgers: dict[str, Ledger] = {}
        self._heard: deque[object] = deque()
        self._begin()
        renew_in_child(self)
        if self.most == 1:
            self.count()

    def _begin(self) -> None:
        self._metrics: list[MetricWrapperBase] = []
        self._children: dict[tuple[MetricWrapperBase, tuple[str, ...]], Any] = {}
        self._circuits: dict[tuple[str, str], Tally[int]] = {}
        self._are_circuits_stale = False
        self._make()
        self._heard.append(Begun())

    def after_fork(self) -> None:
        """Begin at zero: what the parent counted, it exports itself."""
        self._heard.clear()
        for ledger in self._ledgers.values():
            ledger.pending.clear()
        if shared_directory() is not None:
            # prometheus_client begins a file of the child's own.
            self._circuits.clear()
            self._heard.append(Begun())
        else:
            self._begin()

    # Counting

    def ledger(self, key: str, settings: MetricsSettings) -> Ledger:
        """Return the ledger of all policies with these settings.

        Args:
            key: A digest of the settings.
            settings: Theirs.
        """
        return self._ledgers.setdefault(key, Ledger(settings))

    def hear(self, event: object) -> None:
        """Take note of an event; it is counted as entries are."""
        self._heard.append(event)
        # An entry holds what it is about, which shall not outlive a closed kit.
        if len(self._heard) >= self.most or isinstance(event, FilesystemClosed):
            self.count()

    def count(self) -> None:
        """Count what is pending."""
        while GATE.enter(wait=self.most == 1):
            try:
                self._count_all()
            finally:
                GATE.leave()
            # Whoever came meanwhile may have left it to this thread.
            waiting = [len(it.pending) for it in [*self._ledgers.values()]]
            if max([len(self._heard), *waiting]) < self.most:
                return

    def _count_all(self) -> None:
        for _ in range(len(self._heard)):
            event = self._heard.popleft()
            self._are_circuits_stale |= isinstance(event, _OF_CIRCUITS)
            self._count_event(event)
        has_counted = False
        for ledger in [*self._ledgers.values()]:
            for count in ledger.counts():
                has_counted = True
                self._count(count)
        # Its operation tells whose circuit it was, and ends after it has changed.
        if has_counted and self._are_circuits_stale:
            self._look_at_circuits()

    def _of(self, metric: MetricWrapperBase, *labels: str) -> Any:
        """Return the child of a metric; its own way to it takes a lock."""
        key = metric, labels
        if (child := self._children.get(key)) is None:
            child = self._children[key] = metric.labels(*labels)
        return child

    def _organization(self, name: str) -> str:
        """Return the label of an organisation, by the first policy that has any."""
        labels = (it.labels.organization(name) for it in [*self._ledgers.values()])
        return next(filter(None, labels), "")

    def _look_at_circuits(self) -> None:
        """Show what circuits there are: one that is forgotten is not open any more."""
        self._are_circuits_stale = False
        for tally in self._circuits.values():
            tally.clear()
        memories = {it for ledger in self._ledgers.values() for it in ledger.memories}
        for memory in memories:
            for circuit in circuits_in(memory):
                name = circuit.type, circuit.circuit
                tally = self._circuits.setdefault(name, Tally())
                tally[_LEVELS.get(circuit.state, 0)] += 1
        self._show_circuits(self._circuits)

    # For the registry

    def describe(self) -> Iterable[Metric]:
        """Return what is exported, without values."""
        return [it for metric in self._metrics for it in metric.describe()]

    def collect(self) -> Iterable[Metric]:
        """Count what is pending, and return all values."""
        is_inside = GATE.enter()
        try:
            self._count_all()
            self._look_at_circuits()
            return [it for metric in self._metrics for it in metric.collect()]
        finally:
            if is_inside:
                GATE.leave()

    # For vocabularies

    def _make(self) -> None:
        raise NotImplementedError

    def _count(self, count: Count) -> None:
        raise NotImplementedError

    def _count_event(self, event: object) -> None:
        raise NotImplementedError

    def _show_circuits(self, circuits: Mapping[tuple[str, str], Tally[int]]) -> None:
        """Show how many circuits of each type and name are at each level."""
        raise NotImplementedError

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        metric = Counter(name, about, labels, registry=None)
        self._metrics.append(metric)
        return metric

    def _gauge(self, name: str, about: str, *labels: str, mode: Any) -> Gauge:
        metric = Gauge(name, about, labels, registry=None, multiprocess_mode=mode)
        self._metrics.append(metric)
        return metric

    def _histogram(
        self, name: str, about: str, *labels: str, bounds: Sequence[float] = SECONDS
    ) -> BulkHistogram:
        metric = BulkHistogram(name, about, labels, registry=None, buckets=bounds)
        self._metrics.append(metric)
        return metric


def repeated(count: Count) -> Iterator[tuple[str, int]]:
    """Yield the number of each attempt from the second on, and how many there were."""
    for attempt in range(2, min(count.attempts, _MOST_ATTEMPTS) + 1):
        yield str(attempt), len(count.seconds)
    if count.attempts > _MOST_ATTEMPTS:
        beyond = count.attempts - _MOST_ATTEMPTS
        yield OTHER, beyond * len(count.seconds)
