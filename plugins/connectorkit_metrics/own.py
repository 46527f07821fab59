"""The series by connectorkit's own names; to import this takes prometheus_client.

| series | labels | |
| --- | --- | --- |
| `connectorkit_operations_total` | connector, type, operation, bucket, outcome | |
| `connectorkit_operation_duration_seconds` | connector, operation, result | histogram |
| `connectorkit_operation_attempts` | connector | histogram; its sum is all attempts |
| `connectorkit_retry_attempts_total` | connector, operation, attempt | 2nd and on |
| `connectorkit_retries_total` | reason | why they are made: the service's word |
| `connectorkit_rejected_total` | policy, reason | what a policy did not let through |
| `connectorkit_bytes_total` | connector, direction | "read" or "written" |
| `connectorkit_circuit_state` | type, circuit | 0 closed, 1 half-open, 2 open |
| `connectorkit_circuits_open` | type, circuit | of how many identities they are open |
| `connectorkit_circuit_transitions_total` | type, circuit, from, to | |
| `connectorkit_pace_changes_total` | change | "limited" or "lifted" |
| `connectorkit_slots_used` | scope, organization | of the scope asked for last |
| `connectorkit_slots_limit` | scope, organization | likewise |
| `connectorkit_slot_decisions_total` | outcome, mode, scope, organization | |
| `connectorkit_slots_reaped_total` | | of holders that died |
| `connectorkit_slots_lost_total` | | of holders that go on |
| `connectorkit_slot_renew_seconds` | result | histogram |
| `connectorkit_cache_requests_total` | cache, result | hit, miss, stale or around |
| `connectorkit_cache_bytes_total` | cache, result | of content that it answered with |
| `connectorkit_cache_evictions_total` | cache | entries that made room for others |
| `connectorkit_resolves_total` | type, by | those that were not answered at once |
| `connectorkit_filesystems_opened_total` | type | |
| `connectorkit_filesystems_closed_total` | type | |
| `connectorkit_build_info` | version | always 1 |

`connectorkit_metrics.outcomes` explains outcomes and results. A scope is a kind, such
as "org" or "global"; organization is empty unless the settings name some.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final

import connectorkit
from connectorkit.events import (
    CacheEvicted,
    CacheUsed,
    CircuitChanged,
    ConnectorResolved,
    FilesystemClosed,
    FilesystemOpened,
    OperationRetried,
    PaceChanged,
    RetryRefused,
    SlotDecided,
    SlotsReaped,
    SlotsRenewed,
    SlotsUsed,
    SlotWasLost,
)
from connectorkit.operation import Kind
from connectorkit_metrics.labels import Bounded
from connectorkit_metrics.outcomes import OUTCOMES, Rejected
from connectorkit_metrics.series import Begun, Series, repeated

if TYPE_CHECKING:
    from collections import Counter as Tally
    from collections.abc import Mapping

    from connectorkit_metrics.ledger import Count

__all__ = ["OwnSeries"]

_ATTEMPTS: Final = (1, 2, 3, 5, 8)
# The kinds of scopes that are there without any of the host's own.
_SCOPES: Final = {"", "org", "global", "connector"}
_CIRCUITS: Final = ("upload", "download", "list")
# Reasons are the words of services, and of policies that others wrote.
_MOST_REASONS = 30


class OwnSeries(Series):
    """The series of `connectorkit_`."""

    names: ClassVar[str] = "connectorkit"

    def _make(self) -> None:
        self._operations = self._counter(
            "connectorkit_operations",
            "Operations that ended, by how they did.",
            *("connector", "type", "operation", "bucket", "outcome"),
        )
        self._durations = self._histogram(
            "connectorkit_operation_duration_seconds",
            "Seconds that operations took, all attempts and waits included; the time "
            "in which nobody read on aside.",
            *("connector", "operation", "result"),
        )
        self._attempts = self._histogram(
            "connectorkit_operation_attempts",
            "Attempts that operations took.",
            "connector",
            bounds=_ATTEMPTS,
        )
        self._retry_attempts = self._counter(
            "connectorkit_retry_attempts",
            "Attempts from the second on, by their number.",
            *("connector", "operation", "attempt"),
        )
        self._retries = self._counter(
            "connectorkit_retries",
            "Retries that were decided on, by the service's word for what went wrong.",
            "reason",
        )
        self._rejected = self._counter(
            "connectorkit_rejected",
            "Operations that a policy ended, and retries that it did not allow.",
            *("policy", "reason"),
        )
        self._bytes = self._counter(
            "connectorkit_bytes",
            "Bytes of bodies that were of use.",
            *("connector", "direction"),
        )
        self._state = self._gauge(
            "connectorkit_circuit_state",
            "The worst of all identities' circuits: 0 closed, 1 half-open, 2 open.",
            *("type", "circuit"),
            mode="livemax",
        )
        self._open = self._gauge(
            "connectorkit_circuits_open",
            "Circuits that are open, one for each identity and process.",
            *("type", "circuit"),
            mode="livesum",
        )
        self._transitions = self._counter(
            "connectorkit_circuit_transitions",
            "Changes of circuits.",
            *("type", "circuit", "from", "to"),
        )
        self._paces = self._counter(
            "connectorkit_pace_changes",
            "Limits that throttles brought about, or that ended.",
            "change",
        )
        self._used = self._gauge(
            "connectorkit_slots_used",
            "Slots in use, as Redis told last.",
            *("scope", "organization"),
            mode="mostrecent",
        )
        self._limit = self._gauge(
            "connectorkit_slots_limit",
            "Slots that there are, as Redis told last.",
            *("scope", "organization"),
            mode="mostrecent",
        )
        self._decisions = self._counter(
            "connectorkit_slot_decisions",
            "Slots that were asked for: what was decided, and by whom.",
            *("outcome", "mode", "scope", "organization"),
        )
        self._reaped = self._counter(
            "connectorkit_slots_reaped",
            "Slots that were taken back from holders that renewed them no more.",
        )
        self._lost = self._counter(
            "connectorkit_slots_lost",
            "Slots that were lost by holders that go on.",
        )
        self._renewals = self._histogram(
            "connectorkit_slot_renew_seconds",
            "Seconds that it took to renew the slots that a process holds.",
            "result",
        )
        self._cache_requests = self._counter(
            "connectorkit_cache_requests",
            "Answers of caches, and what was fetched around them.",
            *("cache", "result"),
        )
        self._cache_bytes = self._counter(
            "connectorkit_cache_bytes",
            "Bytes of the objects that caches answered with.",
            *("cache", "result"),
        )
        self._cache_evictions = self._counter(
            "connectorkit_cache_evictions",
            "Entries that left a cache to make room for others.",
            "cache",
        )
        self._resolves = self._counter(
            "connectorkit_resolves",
            "Connector IDs that were resolved, unless the answer was at hand.",
            *("type", "by"),
        )
        self._opened = self._counter(
            "connectorkit_filesystems_opened", "Filesystems that were opened.", "type"
        )
        self._closed = self._counter(
            "connectorkit_filesystems_closed", "Filesystems that left the pool.", "type"
        )
        self._build = self._gauge(
            "connectorkit_build_info",
            "The version that runs.",
            "version",
            mode="livemax",
        )
        self._reason = Bounded(_MOST_REASONS)
        self._refusal = Bounded(_MOST_REASONS)
        self._own_scope = Bounded(_MOST_REASONS)

    def _count(self, count: Count) -> None:
        connector, operation, many = (
            count.connector,
            count.operation,
            len(count.seconds),
        )
        of = self._of
        of(
            self._operations,
            *(connector, count.type, operation, count.bucket, count.outcome),
        ).inc(many)
        result = OUTCOMES[count.outcome]
        of(self._durations, connector, operation, result).extend(count.seconds)
        of(self._attempts, connector).repeat(count.attempts, many)
        for attempt, times in repeated(count):
            of(self._retry_attempts, connector, operation, attempt).inc(times)
        if count.bytes:
            direction = "written" if count.kind is Kind.WRITE else "read"
            of(self._bytes, connector, direction).inc(count.bytes)

    def _count_event(self, event: object) -> None:  # noqa: C901, PLR0912 - a table
        of = self._of
        match event:
            case OperationRetried():
                of(self._retries, self._reason(event.reason)).inc()
            case RetryRefused():
                of(self._rejected, "retry", self._refusal(event.reason)).inc()
            case Rejected():
                policy = self._refusal(event.policy)
                of(self._rejected, policy, self._refusal(event.reason)).inc()
            case CircuitChanged():
                name = event.type, event.circuit
                of(self._transitions, *name, event.before, event.after).inc()
            case PaceChanged():
                change = "lifted" if event.rate is None else "limited"
                of(self._paces, change).inc()
            case CacheUsed():
                what = event.cache, event.result
                of(self._cache_requests, *what).inc()
                if event.bytes:
                    of(self._cache_bytes, *what).inc(event.bytes)
            case CacheEvicted():
                of(self._cache_evictions, event.cache).inc(event.entries)
            case ConnectorResolved():
                of(self._resolves, event.type, event.by).inc()
            case FilesystemOpened():
                of(self._opened, event.type).inc()
                for circuit in _CIRCUITS:
                    # They are closed at first.
                    of(self._state, event.type, circuit)
                    of(self._open, event.type, circuit)
            case FilesystemClosed():
                of(self._closed, event.type).inc()
            case Begun():
                of(self._build, connectorkit.__version__).set(1)
            case _:
                self._count_slots(event)

    def _count_slots(self, event: object) -> None:
        of = self._of
        match event:
            case SlotsUsed():
                whose = self._organization(event.organization)
                name = self._scope(event.scope), whose
                of(self._used, *name).set(event.used)
                of(self._limit, *name).set(event.limit)
            case SlotDecided():
                whose = self._organization(event.organization)
                scope = self._scope(event.scope)
                of(self._decisions, event.outcome, event.mode, scope, whose).inc()
            case SlotsReaped():
                self._reaped.inc(event.count)
            case SlotWasLost():
                self._lost.inc()
            case SlotsRenewed():
                result = "error" if event.has_failed else "success"
                of(self._renewals, result).repeat(event.seconds, 1)

    def _scope(self, kind: str) -> str:
        return kind if kind in _SCOPES else self._own_scope(kind)

    def _show_circuits(self, circuits: Mapping[tuple[str, str], Tally[int]]) -> None:
        for name, levels in circuits.items():
            self._of(self._state, *name).set(max(levels, default=0))
            self._of(self._open, *name).set(levels[2])
