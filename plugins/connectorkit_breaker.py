"""breaker: to be written."""

from __future__ import annotations

from connectorkit import Policy, hookimpl

__all__ = ["Breaker"]


class Breaker(Policy):
    """To be written."""

    name = "breaker"
    rank = 60


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide breaker."""
    return [Breaker]
