"""The four series of the system that this one learned from, by its names and labels.

| series | labels | |
| --- | --- | --- |
| `s3_operations_total` | operation, bucket, result | success, error or circuit_open |
| `s3_operation_duration_seconds` | operation, bucket | histogram, of all results |
| `s3_circuit_breaker_state` | circuit_name | 0 closed, 1 half-open, 2 open |
| `s3_retry_attempts_total` | operation, attempt | attempts from the second on |

Operations have the service's own names, such as `put_object`. The circuits are
`s3-upload` and `s3-download`, of S3 and MinIO alike; another type's bear its own ID.
Deletes have none. To import this takes prometheus_client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

from connectorkit_metrics.outcomes import OUTCOMES
from connectorkit_metrics.series import Begun, Series, repeated

if TYPE_CHECKING:
    from collections import Counter as Tally
    from collections.abc import Mapping

    from connectorkit_metrics.ledger import Count

__all__ = ["SourceSeries"]

_CIRCUITS: Final = ("upload", "download")
# What the source calls S3, whoever makes it.
_S3: Final = {"s3", "minio"}


class SourceSeries(Series):
    """The series of `s3_`."""

    names: ClassVar[str] = "source"

    def _make(self) -> None:
        self._operations = self._counter(
            "s3_operations", "Total operations.", "operation", "bucket", "result"
        )
        self._durations = self._histogram(
            "s3_operation_duration_seconds",
            "Operation duration in seconds.",
            *("operation", "bucket"),
        )
        self._state = self._gauge(
            "s3_circuit_breaker_state",
            "Circuit state: 0 closed, 1 half-open, 2 open.",
            "circuit_name",
            mode="livemax",
        )
        self._retry_attempts = self._counter(
            "s3_retry_attempts", "Retry attempts.", "operation", "attempt"
        )

    def _count(self, count: Count) -> None:
        operation, bucket = count.operation, count.bucket
        result = OUTCOMES[count.outcome]
        if result != "success":
            result = "circuit_open" if count.outcome == "open" else "error"
        self._of(self._operations, operation, bucket, result).inc(len(count.seconds))
        self._of(self._durations, operation, bucket).extend(count.seconds)
        for attempt, times in repeated(count):
            self._of(self._retry_attempts, operation, attempt).inc(times)

    def _count_event(self, event: object) -> None:
        if isinstance(event, Begun):
            for circuit in _CIRCUITS:
                self._of(self._state, f"s3-{circuit}").set(0)

    def _show_circuits(self, circuits: Mapping[tuple[str, str], Tally[int]]) -> None:
        worst: dict[str, int] = {}
        for (type_id, circuit), levels in circuits.items():
            if circuit in _CIRCUITS:
                name = f"{'s3' if type_id in _S3 else type_id}-{circuit}"
                worst[name] = max(worst.get(name, 0), *levels, 0)
        for name, level in worst.items():
            self._of(self._state, name).set(level)
