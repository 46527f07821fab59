"""pace: to be written."""

from __future__ import annotations

from connectorkit import Policy, hookimpl

__all__ = ["Pace"]


class Pace(Policy):
    """To be written."""

    name = "pace"
    rank = 50


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide pace."""
    return [Pace]
