"""Outcomes: in one word, how an operation ended.

| outcome | result | the operation |
| --- | --- | --- |
| `success` | success | did what was asked |
| `abandoned` | success | was read as far as somebody wanted to |
| `not_found` | error | was answered: it is not there |
| `precondition` | error | was answered: a condition does not hold |
| `auth` | error | was answered: not with these credentials |
| `expired` | error | was answered: the credentials were good until a moment ago |
| `permanent` | error | met what the same request would meet again |
| `throttled` | error | was answered: not so fast |
| `transient` | error | failed, or the way to the service did |
| `timeout` | error | was not answered in time |
| `corrupt` | error | got other bytes than were asked for or sent |
| `deadline` | error | had no time left: that of its whole call was up |
| `cancelled` | cancelled | was cancelled by its caller |
| `open` | refused | met an open circuit |
| `full` | refused | found no slot |
| `refused` | refused | was not let through by another policy |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from connectorkit.errors import CallCancelled, DeadlineExceeded, Refused
from connectorkit.faults import Fault
from connectorkit.remedies import chain

if TYPE_CHECKING:
    from connectorkit.operation import Operation

__all__ = ["OUTCOMES", "Rejected", "outcome_of"]

# The result of each outcome: the label of durations, of which there shall be few.
OUTCOMES: Final = {
    "success": "success",
    "abandoned": "success",
    **{fault.value: "error" for fault in Fault if fault is not Fault.LOCAL},
    "deadline": "error",
    "cancelled": "cancelled",
    "open": "refused",
    "full": "refused",
    "refused": "refused",
}
_LOCAL: Final = {"deadline", "open", "full"}


@dataclass(frozen=True, slots=True)
class Rejected:
    """A policy ended an operation.

    Attributes:
        policy: Its name.
        reason: One word.
    """

    policy: str
    reason: str


def outcome_of(op: Operation, error: BaseException) -> tuple[str, Rejected | None]:
    """Return the outcome of an operation that failed; by whom, if it was a policy."""
    if isinstance(error, GeneratorExit):
        return "abandoned", None
    # A KeyboardInterrupt, too, is no error of the operation's.
    if isinstance(error, CallCancelled) or not isinstance(error, Exception):
        return "cancelled", None
    try:
        fault = op.classify(error).fault
    except Exception:  # noqa: BLE001 - a plugin's; the operation is counted in any case
        return Fault.PERMANENT.value, None
    if fault is not Fault.LOCAL:
        return fault.value, None
    refusal = next((it for it in chain(error) if isinstance(it, Refused)), Refused())
    outcome = "deadline" if isinstance(refusal, DeadlineExceeded) else refusal.reason
    if outcome not in _LOCAL:
        outcome = "refused"
    return outcome, Rejected(refusal.policy, refusal.reason)
