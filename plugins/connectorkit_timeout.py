"""timeout: the most that one attempt may take."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from connectorkit import AttemptTimedOut, Policy, PolicySettings, hookimpl

if TYPE_CHECKING:
    from connectorkit.operation import Operation
    from connectorkit.policy import Flow

__all__ = ["Timeout", "TimeoutSettings"]


class TimeoutSettings(PolicySettings):
    """How long one attempt may take, the transfer of its body included.

    Attributes:
        seconds: The most for an attempt without a body.
        slowest: Bytes a second: a body of so many has a second more.
    """

    seconds: float = Field(default=60.0, gt=0, le=86_400, allow_inf_nan=False)
    slowest: float = Field(default=1e6, gt=0, allow_inf_nan=False)


class Timeout(Policy):
    """Ends an attempt that takes too long.

    On an event loop (S3 and GCS always) the attempt is cancelled and its connection
    dropped. In a thread the client is told how long to wait for each answer and each
    piece of a body; a call into C, or into a filesystem that knows no timeout, runs to
    its own end: nothing can kill it.
    """

    name = "timeout"
    rank = 70
    Settings = TimeoutSettings
    settings: TimeoutSettings

    def around(self, op: Operation) -> Flow:
        """Run the attempt under a limit."""
        its = self.settings
        return (yield op.within(its.seconds, AttemptTimedOut, its.slowest))

    def shortcut(self, op: Operation) -> bool:
        """Limit the attempt."""
        its = self.settings
        op.tighten(op.started + its.seconds, AttemptTimedOut, its.slowest)
        return True


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide timeout."""
    return [Timeout]
