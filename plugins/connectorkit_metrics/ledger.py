"""Ledgers: what operations left to be counted.

To count at once would cost an operation several microseconds, most of them for locks.
So each leaves an entry, which costs one, and the entries are counted together: some
thousand of them at a time, and whenever somebody asks. Where other processes ask,
which can only see what was counted, each entry is counted at once.
"""

from __future__ import annotations

import weakref
from collections import defaultdict, deque
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from connectorkit_metrics.labels import Labels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit.operation import Kind
    from connectorkit.scope import Memory, Scope
    from connectorkit_metrics.settings import MetricsSettings

__all__ = ["Count", "Entry", "Ledger"]

# Scope, operation, bucket, kind, outcome, attempts, bytes, seconds.
Entry: TypeAlias = "tuple[Scope, str, str, Kind, str, int, int, float]"


class Count(NamedTuple):
    """Operations that are alike.

    Attributes:
        connector: The connector's label.
        type: The connector type's ID.
        operation: The label of their name on the service.
        bucket: The bucket's label.
        kind: What they do.
        outcome: How they ended.
        attempts: How many attempts each took.
        bytes: How many bytes all of them transferred.
        seconds: How long each took.
    """

    connector: str
    type: str
    operation: str
    bucket: str
    kind: Kind
    outcome: str
    attempts: int
    bytes: int
    seconds: list[float]


class Ledger:
    """The entries of policies with the same settings.

    Attributes:
        labels: By those settings.
        pending: The entries, to append to.
        memories: Where the circuits of these operations are remembered.
    """

    def __init__(self, settings: MetricsSettings) -> None:
        self.labels = Labels(settings)
        self.pending: deque[Entry] = deque()
        self.memories: weakref.WeakSet[Memory] = weakref.WeakSet()

    def counts(self) -> Iterator[Count]:
        """Take what is pending, and yield it in groups; for one thread at a time."""
        groups: defaultdict[tuple[Scope, str, str, Kind, str, int], list[float]]
        groups = defaultdict(list)
        sizes: defaultdict[object, int] = defaultdict(int)
        take = self.pending.popleft
        for _ in range(len(self.pending)):
            scope, name, bucket, kind, outcome, attempts, size, seconds = take()
            key = scope, name, bucket, kind, outcome, attempts
            groups[key].append(seconds)
            if size:
                sizes[key] += size
        labels = self.labels
        for key, durations in groups.items():
            scope, name, bucket, kind, outcome, attempts = key
            self.memories.add(scope.memory)
            connector, place = labels.place(scope, bucket)
            yield Count(
                connector,
                scope.type,
                labels.operation(name),
                place,
                kind,
                outcome,
                attempts,
                sizes.get(key, 0),
                durations,
            )
