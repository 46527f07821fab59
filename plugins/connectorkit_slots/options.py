"""What a limiter may be given, and what holds if nothing is."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from connectorkit import ConfigError
from connectorkit.clock import SYSTEM_CLOCK
from connectorkit_slots.keys import Keys, checked_id, checked_limit

if TYPE_CHECKING:
    from connectorkit.clock import Clock

__all__ = ["Rules", "SlotOptions", "checked_seconds"]

_HOUR: Final = 3600.0
# No slot lasts for longer without a renewal, and no key of slots ends before.
_LONGEST: Final = 7 * 24 * _HOUR

_STALE_VARIABLE: Final = "API_DEPLOYMENT_RATE_LIMIT_STALE_ENTRY_HOURS"
_TTL_VARIABLE: Final = "API_DEPLOYMENT_RATE_LIMIT_TTL_HOURS"


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
            after a third of it. 30 by default; not looked at with scheme "started".
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
            default the hours of API_DEPLOYMENT_RATE_LIMIT_TTL_HOURS, or 6 h, or the
            stale cutoff if that is longer.
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


@dataclass(frozen=True, slots=True)
class Rules:
    """What a limiter's options come to.

    Attributes:
        keys: The names of its keys.
        window: What is added to a score to have the time at which a slot lapses.
        is_started: Whether scores are start times, which nobody renews.
        lease: Seconds for which a slot lasts.
        key_ttl: Seconds for which keys outlive the last slot that was given.
    """

    keys: Keys
    window: float
    is_started: bool
    lease: float
    key_ttl: float
    org_limit: int | None
    org_limits: Mapping[str, int] | Callable[[str], int | None] | None
    global_limit: int | None
    on_error: str
    processes: int
    pause: float
    emit: Callable[[Any], None] | None
    clock: Clock

    @classmethod
    def of(cls, given: SlotOptions) -> Rules:
        """Return the rules of options.

        Raises:
            ValueError: An option is out of bounds, or does not fit another one.
            TypeError: There is no such option.
            ConfigError: A variable of the environment holds no number of hours.
        """
        its = _merged(given)
        is_started = _one_of("scheme", its, "leases", "started") == "started"
        is_source = _one_of("names", its, "own", "source") == "source"
        if is_source and not is_started:
            raise ValueError(
                "names='source' needs scheme='started': the source's own code, which "
                "shares those keys, takes scores for start times."
            )
        stale, ttl = _cutoff_and_ttl(its) if is_started else (0.0, 2 * _LONGEST)
        return cls(
            keys=Keys.source()
            if is_source
            else Keys.own(its.get("namespace", "slots")),
            window=stale,
            is_started=is_started,
            lease=stale if is_started else _seconds("lease", its, 30.0),
            key_ttl=ttl,
            org_limit=_limit("org_limit", its),
            global_limit=_limit("global_limit", its),
            org_limits=_limits(its.get("org_limits")),
            on_error=_one_of("on_error", its, "local", "open", "closed"),
            processes=checked_limit("processes", its.get("processes", 1)),
            pause=_seconds("pause", its, 0.5),
            emit=its.get("emit"),
            clock=its.get("clock", SYSTEM_CLOCK),
        )

    @property
    def scheme(self) -> str:
        """What scores are, and for how long: as it is noted in Redis."""
        return f"started {self.window:g}" if self.is_started else "leases"

    def lasting(self, lease: float | None) -> float:
        """Return for how many seconds a slot lasts if this was asked for.

        Raises:
            ValueError: It is no number of seconds, or scores are start times.
        """
        if lease is None:
            return self.lease
        if self.is_started:
            raise ValueError(
                "With scheme='started' a slot lasts until the stale cutoff: pass no "
                "lease."
            )
        return checked_seconds("lease", lease)

    def limit(self, org: str) -> int | None:
        """Return an organisation's limit, but for the one that Redis may have stored.

        Raises:
            ValueError: What the host says is no limit.
        """
        own = self.org_limits
        said = own(org) if callable(own) else own.get(org) if own else None
        if said is None:
            return self.org_limit
        return checked_limit(f"The limit of organization {org!r}", said)


def checked_seconds(what: str, value: object) -> float:
    """Return a number of seconds.

    Raises:
        ValueError: It is none, or is not above 0 and at most a week.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (is_number and 0 < value <= _LONGEST):  # type: ignore[operator]
        raise ValueError(
            f"{what} is {value!r}: it has to be a number of seconds above 0, and at "
            "most a week."
        )
    return float(value)  # type: ignore[arg-type]


def _merged(given: SlotOptions) -> dict[str, Any]:
    config = given.get("config") or {}
    its = {**config, **given}
    if unknown := sorted(its.keys() - SlotOptions.__annotations__.keys()):
        raise TypeError(f"A limiter has no option {unknown[0]!r}.")
    return its


def _one_of(name: str, its: Mapping[str, Any], *words: str) -> str:
    """Return a word; the first is the default."""
    word = its.get(name, words[0])
    if word not in words:
        raise ValueError(f"{name} is {word!r}: it has to be one of {', '.join(words)}.")
    return str(word)


def _limit(name: str, its: Mapping[str, Any]) -> int | None:
    limit = its.get(name)
    return None if limit is None else checked_limit(name, limit)


def _cutoff_and_ttl(its: Mapping[str, Any]) -> tuple[float, float]:
    cutoff = _seconds("stale_cutoff", its, _hours(_STALE_VARIABLE, 1))
    ttl = _seconds("key_ttl", its, _hours(_TTL_VARIABLE, max(6, cutoff / _HOUR)))
    if ttl < cutoff:
        raise ValueError(
            f"key_ttl, {ttl:g} s, is less than stale_cutoff, {cutoff:g} s: slots "
            "would vanish with their key."
        )
    return cutoff, ttl


def _seconds(name: str, its: Mapping[str, Any], default: float) -> float:
    return checked_seconds(name, its.get(name, default))


def _hours(variable: str, default: float) -> float:
    text = os.environ.get(variable)
    if not text:
        return default * _HOUR
    try:
        hours = float(text)
    except ValueError:
        hours = math.nan
    if not 0 < hours * _HOUR <= _LONGEST:
        raise ConfigError(
            f"{variable} is {text!r} in the environment: it has to be a number of "
            "hours above 0, at most a week of them."
        )
    return hours * _HOUR


def _limits(
    given: Mapping[str, int] | Callable[[str], int | None] | None,
) -> Mapping[str, int] | Callable[[str], int | None] | None:
    """Check what can be checked now."""
    if isinstance(given, Mapping):
        return {
            checked_id("An organization in org_limits", org): checked_limit(
                f"The limit of organization {org!r}", limit
            )
            for org, limit in given.items()
        }
    if given is not None and not callable(given):
        raise TypeError(
            "org_limits has to be a mapping, or a function of the organization's ID, "
            f"not {given!r}."
        )
    return given
