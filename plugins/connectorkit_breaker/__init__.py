"""breaker: nothing is sent to a service that has failed too often a moment ago."""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectorkit import Fault, Kind, Policy, hookimpl
from connectorkit.circuits import CircuitSet, HasCircuits
from connectorkit_breaker.circuit import BreakerCircuit, Outcome
from connectorkit_breaker.settings import BreakerSettings

if TYPE_CHECKING:
    from connectorkit.operation import Operation
    from connectorkit.policy import Flow
    from connectorkit.scope import Scope

__all__ = ["Breaker", "BreakerSettings"]

# Deletes have none: they are best effort, and have to go on when uploads do not.
_NAMES = {Kind.WRITE: "upload", Kind.READ: "download", Kind.LIST: "list"}

_ANSWERS = {Fault.NOT_FOUND, Fault.PRECONDITION}


class Breaker(Policy, HasCircuits):
    """Lets nothing through to a service that has failed too often a moment ago.

    Each identity has a circuit for its uploads, one for its downloads and one for its
    listings; deletes have none. What the service did answer for good (not found,
    denied, a condition that does not hold), what another policy refused and what the
    caller gave up count neither way; though failures with a "not found" between them
    are not in a row.
    """

    name = "breaker"
    rank = 60
    Settings = BreakerSettings
    settings: BreakerSettings

    def circuits(self, scope: Scope) -> CircuitSet[BreakerCircuit]:
        """Return the circuits of an identity."""
        circuits: CircuitSet[BreakerCircuit] = scope.remembered(self, CircuitSet)
        if len(circuits) < len(_NAMES):
            for kind, name in _NAMES.items():
                circuits.setdefault(kind, BreakerCircuit(name, self.settings, scope))
        return circuits

    def around(self, op: Operation) -> Flow:
        """Let the operation through, if its circuit does, and judge how it ends."""
        circuit = self.circuits(op.scope).get(op.kind)
        if circuit is None:
            return (yield op)
        ticket = op.kept.pop(self, None)
        if op.origin.known is None:
            # No attempt was made yet, so what the shortcut noted is for nothing.
            ticket = None
        outcome, began = Outcome.NEUTRAL, op.now()
        try:
            if ticket is None:
                ticket = circuit.admit(op)
            circuit.tell(op.scope.connector, op.scope.emit)
            result = yield op
            outcome = Outcome.SUCCESS
        except Exception as error:
            outcome = _outcome(op, error)
            raise
        finally:
            if ticket is not None:
                circuit.leave(ticket, outcome, slow=self._is_slow(op, began))
            circuit.tell(op.scope.connector, op.scope.emit)
        return result

    def shortcut(self, op: Operation) -> bool:
        """Tell whether the circuit lets all through; note what that is good for."""
        circuits: CircuitSet[BreakerCircuit] = op.scope.remembered(self, CircuitSet)
        circuit = circuits.get(op.kind)
        if circuit is None:
            # The first operation of an identity goes the long way.
            return op.kind not in _NAMES
        era = circuit.era
        if not era.is_plain:
            return False
        op.kept[self] = era
        return True

    def ended(self, op: Operation, error: BaseException | None) -> None:
        """Judge an operation that no flow has judged."""
        era = op.kept.pop(self, None)
        if era is None or (error is None and not era.failures and era.window is None):
            return
        circuit = self.circuits(op.scope)[op.kind]
        circuit.leave(era, _outcome(op, error), slow=False)
        circuit.tell(op.scope.connector, op.scope.emit)

    def _is_slow(self, op: Operation, began: float) -> bool:
        its = self.settings
        if its.slow_seconds is None:
            return False
        size = max(op.size, op.origin.bytes)
        return op.now() - began > its.slow_seconds + size / its.slowest


def _outcome(op: Operation, error: BaseException | None) -> Outcome:
    if error is None:
        return Outcome.SUCCESS
    if not isinstance(error, Exception):
        return Outcome.NEUTRAL
    fault = op.classify(error).fault
    if fault.is_outage:
        return Outcome.FAILURE
    return Outcome.ANSWERED if fault in _ANSWERS else Outcome.NEUTRAL


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide breaker."""
    return [Breaker]
