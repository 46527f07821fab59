"""metrics: to be written."""

from __future__ import annotations

from connectorkit import Policy, hookimpl

__all__ = ["Metrics"]


class Metrics(Policy):
    """To be written."""

    name = "metrics"
    rank = 10


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide metrics."""
    return [Metrics]
