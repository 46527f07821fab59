"""The settings of the policy."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from connectorkit import PolicySettings

__all__ = ["MetricsSettings"]


class MetricsSettings(PolicySettings):
    """Which series are exported, and how many values their labels take.

    A connector beyond them is counted as `other`, and so is a bucket.

    Attributes:
        names: "connectorkit" for the series described in `connectorkit_metrics.series`,
            "source" for the four of the system that this one learned from, with its
            names and labels.
        connectors: The IDs to export by name, and no others; None for the first
            `most_connectors`. Connectors whose settings came with a call are exported
            by their type.
        most_connectors: How many, at the most. Each connector has some 20 series for
            each operation that it makes: the default keeps them all below 2,000.
        buckets: The buckets to export by name, and no others; None for the first
            `most_buckets`, and of connectors whose settings came with a call for none.
        most_buckets: How many, at the most, those of all connectors together.
        organizations: The organisations whose slots are told by name, and no others;
            None for the first `most_organizations`.
        most_organizations: How many, at the most; the default names none.
    """

    names: Literal["connectorkit", "source"] = "connectorkit"
    connectors: frozenset[str] | None = None
    most_connectors: int = Field(default=10, ge=0, le=10_000)
    buckets: frozenset[str] | None = None
    most_buckets: int = Field(default=20, ge=0, le=10_000)
    organizations: frozenset[str] | None = None
    most_organizations: int = Field(default=0, ge=0, le=10_000)
