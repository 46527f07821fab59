"""What a limiter may be given, and what holds if nothing is."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from connectorkit import ConfigError
from connectorkit.clock import SYSTEM_CLOCK
from connectorkit_slots.keys import Keys, checked_limit

if TYPE_CHECKING:
    from connectorkit.clock import Clock

__all__ = ["Rules", "SlotOptions"]

_HOUR: Final = 3600.0
_DAY: Final = 24 * _HOUR

STALE_VARIABLE: Final = "API_DEPLOYMENT_RATE_LIMIT_STALE_ENTRY_HOURS"
TTL_VARIABLE: Final = "API_DEPLOYMENT_RATE_LIMIT_TTL_HOURS"


class SlotOptions(TypedDict, total=False):
    """The options of a limiter, each optional.

    An organisation's limit is what was stored in Redis for it by `set_limit`; else what
    `org_limits` says; else `org_limit`. None is no limit.

    Attributes:
        org_limit: How many slots an organisation has, unless it has a limit of its own.
        org_limits: Limits of single organisations: a mapping, or a function of the
            organisation's ID; None for one that has none of its own. A function is
            called in the caller's thread, or on its event loop, for each decision.
        global_limit: How many slots there are for all organisations together.
        lease: Seconds after which a slot is free unless it is renewed; held ones are,
            after a third of it. 30 by default.
        namespace: Limiters of one namespace share their slots; the hash tag of all
            keys, so that one node of a cluster has them all. "slots" by default.
        scheme: "leases" (default): scores are when a slot lapses. "started": they are
            when it was given; nothing is renewed, and it lapses after the stale cutoff.
        names: "own" (default), or "source" for the keys of the system that this one
            learned from (`api_deployment:rate_limit:…`): only with scheme "started",
            and not on a cluster, since they have no hash tag.
        stale_cutoff: Seconds after which a slot lapses with scheme "started". By
            default the hours of API_DEPLOYMENT_RATE_LIMIT_STALE_ENTRY_HOURS, or 1 h.
        key_ttl: Seconds for which its keys outlive the last slot that was given. By
            default the hours of API_DEPLOYMENT_RATE_LIMIT_TTL_HOURS, or 6 h.
        on_error: What stands in for Redis while it is away: "local" (default), an
            in-process limit; "open", no limit; "closed", nothing: SlotsUnavailable.
        processes: How many processes share the limits: with "local", each gives out
            its share of them, rounded up. 1 by default.
        pause: Seconds for which Redis is not asked again once it was away: 0.5.
        config: A mapping of the same names, for what is not given here.
        emit: Is called with each event (`connectorkit.SlotDecided` and its kin). It
            must be quick and must not raise.
        clock: For tests.
    """

    org_limit: int | None
    org_limits: Mapping[str, int] | Callable[[str], int | None] | None
    global_limit: int | None
    lease: float
    namespace: str
    scheme: Literal["leases", "started"]
    names: Literal["own", "source"]
    stale_cutoff: float
    key_ttl: float
    on_error: Literal["local", "open", "closed"]
    processes: int
    pause: float
    config: Mapping[str, Any] | None
    emit: Callable[[Any], None] | None
    clock: Clock
