"""deadline: the most that one call may take, whatever it is made of."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from connectorkit import DeadlineExceeded, Policy, PolicySettings, hookimpl

if TYPE_CHECKING:
    from connectorkit.call import Call
    from connectorkit.operation import Operation
    from connectorkit.policy import Flow

__all__ = ["Deadline", "DeadlineSettings"]


class DeadlineSettings(PolicySettings):
    """How long one call may take.

    Attributes:
        seconds: The most for one call: a whole method of a filesystem, or one read,
            flush or close of an open file. An hour lets big transfers and listings end.
    """

    seconds: float = Field(default=3600.0, gt=0, le=604_800, allow_inf_nan=False)


class Deadline(Policy):
    """Ends a call that takes too long: its attempts, its retries and its waits.

    What it cannot end in a thread is what `timeout` cannot.
    """

    name = "deadline"
    rank = 20
    Settings = DeadlineSettings
    settings: DeadlineSettings

    def around(self, op: Operation) -> Flow:
        """Run the operation in what is left of its call's time."""
        left = self._until(op) - op.now()
        if left <= 0:
            raise DeadlineExceeded(f"{op}: the time of the whole call is up.")
        return (yield op.within(left, DeadlineExceeded))

    def shortcut(self, op: Operation) -> bool:
        """Limit the operation, if there is time left."""
        until = self._until(op)
        op.tighten(until, DeadlineExceeded)
        return op.started < until

    def expires(self, call: Call) -> float:
        """Return when a call has to be over."""
        return call.started + self.settings.seconds

    def _until(self, op: Operation) -> float:
        begun: float = op.started if op.call is None else op.call.started
        return begun + self.settings.seconds


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide deadline."""
    return [Deadline]
