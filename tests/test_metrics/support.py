"""What the tests of metrics share: a registry, and operations that end as told."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import connectorkit_metrics
from connectorkit import (
    CacheEvicted,
    CacheUsed,
    CallCancelled,
    CircuitChanged,
    CircuitOpen,
    CircuitState,
    ConnectorResolved,
    DeadlineExceeded,
    Fault,
    FilesystemClosed,
    FilesystemOpened,
    Kind,
    OperationRetried,
    PaceChanged,
    Pipeline,
    Policy,
    Refused,
    RetryRefused,
    Scope,
    SlotDecided,
    SlotsReaped,
    SlotsRenewed,
    SlotsUsed,
    SlotWasLost,
    Verdict,
    WrongAnswer,
    classify,
)
from connectorkit.body import Answer, Body
from connectorkit.scope import Memory
from connectorkit.testing import VirtualClock
from connectorkit_breaker import Breaker
from connectorkit_metrics import Metrics, MetricsSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from prometheus_client.metrics_core import Metric
    from prometheus_client.samples import Sample

    from connectorkit import Operation
    from connectorkit_breaker.circuit import BreakerCircuit

__all__ = [
    "ERRORS",
    "EVENTS",
    "Meter",
    "Told",
    "matching",
    "opened",
    "parsed",
    "smoke",
]


class Told(Exception):
    """An error that means what it says."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.value)
        self.fault = fault


class Full(Refused):
    """As of a policy that hands out slots."""

    policy = "slots"
    reason = "full"


class Unwilling(Refused):
    """Of somebody's own policy."""

    policy = "moody"
    reason = "monday"


# By outcome, an error that leads to it; an abandoned body has none that is raised.
ERRORS: dict[str, BaseException | None] = {
    "success": None,
    "not_found": FileNotFoundError("b/k"),
    "precondition": FileExistsError("b/k"),
    "auth": PermissionError("b/k"),
    "expired": Told(Fault.EXPIRED),
    "permanent": RuntimeError("never heard of"),
    "throttled": Told(Fault.THROTTLED),
    "transient": ConnectionResetError("reset"),
    "timeout": TimeoutError("late"),
    "corrupt": WrongAnswer("other bytes"),
    "deadline": DeadlineExceeded("late"),
    "cancelled": CallCancelled("by the caller"),
    "open": CircuitOpen("open", "download", 1.0),
    "full": Full("no slot"),
    "refused": Unwilling("not today"),
}
# One of each kind that is exported.
EVENTS: tuple[object, ...] = (
    ConnectorResolved("reports", "s3", "configuration"),
    FilesystemOpened("reports", "s3"),
    OperationRetried("reports", "get_object", 2, "SlowDown"),
    RetryRefused("reports", "get_object", "budget"),
    CircuitChanged("reports", "s3", "upload", "closed", "open"),
    PaceChanged("reports", 5.0),
    PaceChanged("reports", None),
    SlotDecided("granted", "redis", organization="org_42"),
    SlotDecided("refused", "local", "global", "org_42"),
    SlotsUsed("org", 1, 20, "org_42"),
    SlotsUsed("global", 90, 100),
    SlotsReaped(3),
    SlotWasLost("org_42"),
    SlotsRenewed(2, 0.004),
    CacheUsed("reports", "s3", "content", "hit", 10),
    CacheUsed("reports", "s3", "listings", "miss"),
    CacheEvicted("hot", 2, 20),
    FilesystemClosed("s3"),
)


class Again(Policy):
    """Tries so many times, whatever comes of it."""

    name = "again"
    is_retrying = True
    attempts = 1

    def around(self, op: Any) -> Any:
        for attempt in range(1, self.attempts + 1):
            try:
                yield op
            except Exception:
                if attempt == self.attempts:
                    raise
            else:
                return


class Meter:
    """A registry, the policy that counts in it, and operations."""

    def __init__(self, **settings: Any) -> None:
        self.registry = CollectorRegistry()
        self.policy = Metrics(MetricsSettings(**settings), self.registry)
        self.clock = VirtualClock()
        self.memory = Memory()

    def scope(self, connector: str = "reports", **facts: Any) -> Scope:
        """Return the scope of a connector."""
        options = {"type_id": "s3", "identity": connector, **facts}
        return Scope(
            connector,
            options.pop("type_id"),
            options.pop("identity"),
            clock=self.clock,
            classify=_classify,
            memory=self.memory,
            **options,
        )

    def upload_circuit(self, scope: Scope | None = None) -> BreakerCircuit:
        """Return the circuit for uploads of a connector."""
        circuit: BreakerCircuit
        circuit = Breaker().circuits(scope or self.scope())[Kind.WRITE]
        return circuit

    def put(self, state: str, scope: Scope | None = None) -> None:
        """Put the circuit for uploads into a state, and tell of it."""
        circuit, level = self.upload_circuit(scope), CircuitState(state)
        if level is CircuitState.HALF_OPEN:
            # As an open one whose time is up.
            circuit._open(self.clock() - 60, 5)
        else:
            circuit.force(level)
        circuit.tell("reports", connectorkit_metrics.connectorkit_event)

    def run(  # noqa: PLR0913 - the facts of an operation
        self,
        error: BaseException | None = None,
        *,
        scope: Scope | None = None,
        name: str = "get_object",
        kind: Kind = Kind.READ,
        bucket: str = "b",
        path: str = "b/a-path",
        size: int = 0,
        seconds: float = 0.0,
        attempts: int = 1,
    ) -> None:
        """Run an operation that ends with an error, or with None for a success."""
        again = Again()
        again.attempts = attempts
        pipeline = Pipeline([self.policy, again], scope or self.scope())
        made = 0

        def attempt(op: Operation) -> None:
            nonlocal made
            made += 1
            self.clock.advance(seconds if made == 1 else 0)
            if error is not None:
                raise error
            if made < attempts:
                raise ConnectionResetError("once more")
            op.origin.bytes = size

        op = pipeline.operation(name, kind, bucket=bucket, path=path, size=size)
        try:
            pipeline.run(op, attempt)
        except BaseException as raised:
            if raised is not error:
                raise

    def hear(self, *events: object) -> None:
        """Tell the plugin of events."""
        for event in events:
            connectorkit_metrics.connectorkit_event(event)

    def samples(self) -> list[Sample]:
        """Return all that is exported."""
        return [it for family in self.registry.collect() for it in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the series of a name that have these labels."""
        return matching(self.samples(), name, **labels)


def parsed(text: str) -> list[Sample]:
    """Return the samples in what was served."""
    families: Iterable[Metric] = text_string_to_metric_families(text)
    return [sample for family in families for sample in family.samples]


def matching(samples: Iterable[Sample], name: str, **labels: str) -> float:
    """Return the sum of the samples of a name that have these labels."""

    def fitting() -> Iterator[float]:
        for sample in samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                yield sample.value

    return sum(fitting())


def _classify(error: BaseException) -> Verdict:
    return Verdict(error.fault) if isinstance(error, Told) else classify(error)


class Bytes:
    """A body that is at hand."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    async def read(self, amount: int) -> bytes:
        piece, self._rest = self._rest[:amount], self._rest[amount:]
        return piece

    def close(self) -> None:
        self._rest = b""


async def opened(pipeline: Pipeline, content: bytes) -> Body:
    """Return a body that was begun."""

    async def attempt(_op: Operation, offset: int) -> Answer:
        return Answer(Bytes(content[offset:]), len(content) - offset)

    op = pipeline.operation("get_object", Kind.READ, bucket="b")
    body = Body(pipeline, op, attempt)
    await body.open()
    return body


def smoke(meter: Meter) -> int:
    """Let operations end in every way, and everything happen; return how many."""
    for error in ERRORS.values():
        meter.run(error, seconds=0.2)
    meter.run(name="put_object", kind=Kind.WRITE, size=10, attempts=2)
    pipeline = Pipeline([meter.policy], meter.scope())
    asyncio.run(opened(pipeline, b"abandoned")).close()
    meter.put("forced_open")
    meter.hear(*EVENTS)
    return len(ERRORS) + 2
