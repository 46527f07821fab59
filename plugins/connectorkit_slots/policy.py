"""The policy: at most so many calls at once on a connector, in the whole fleet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, SecretStr, field_validator

from connectorkit import ConfigError, Io, Policy, PolicySettings, Sleep
from connectorkit_slots.errors import SlotLimitExceeded, SlotsUnavailable
from connectorkit_slots.ride import Ride
from connectorkit_slots.station import Place, Station
from connectorkit_slots.store import client_of

if TYPE_CHECKING:
    from connectorkit.operation import Operation
    from connectorkit.policy import Flow
    from connectorkit.scope import Scope
    from connectorkit_slots.ride import Full

__all__ = ["Slots", "SlotsSettings"]

_SCHEMES = ("redis://", "rediss://", "unix://")


class SlotsSettings(PolicySettings):
    """How many calls there are at once, and who counts them.

    Attributes:
        url: Of Redis: `redis://…`, `rediss://…` or `unix://…`. A secret; better a
            reference such as `env:REDIS_URL`.
        limit: How many calls on a connector there are at once, in all processes.
        wait: Seconds for which a call waits for a slot, unless its deadline comes
            before; 0 to be refused at once.
        lease: Seconds after which the slot of a process that died is free.
        on_error: What stands in for Redis while it is away: "local", an in-process
            limit; "open", no limit; "closed", nothing: calls are refused.
        processes: How many processes share the limit: with "local" each has its share.
        cluster: Whether the URL is of a node of a Redis Cluster.
    """

    url: SecretStr
    limit: int = Field(ge=1, le=1_000_000)
    wait: float = Field(default=3600.0, ge=0, le=604_800, allow_inf_nan=False)
    lease: float = Field(default=30.0, ge=1, le=3600, allow_inf_nan=False)
    on_error: Literal["local", "open", "closed"] = "local"
    processes: int = Field(default=1, ge=1, le=1_000_000)
    cluster: bool = False

    @field_validator("url")
    @classmethod
    def _is_of_redis(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(_SCHEMES):
            raise ValueError(f"must begin with {', '.join(_SCHEMES)}")
        return url


class Slots(Policy):
    """Lets at most so many calls on a connector run at once, in the whole fleet.

    Whose slots count is told by type and settings, secrets included, under whatever ID.
    All operations of a call ride on its one slot, and so do retries; an operation that
    is part of no call has a slot of its own. A call that finds none waits, and is
    refused when its time would be up. Nobody is first in line.

    A slot that is lost (its process was stopped for longer than the lease, or Redis
    was away for so long) ends no call: that is told, and the call goes on beside
    whoever has the slot now.

    Raises:
        MissingExtra: redis-py is not installed.
        ConfigError: The URL cannot be read.
    """

    name = "slots"
    rank = 30
    is_by_call = True
    Settings = SlotsSettings
    settings: SlotsSettings

    def __init__(self, settings: SlotsSettings) -> None:
        super().__init__(settings)
        try:
            # Connects to nobody.
            url = settings.url.get_secret_value()
            client_of(url, 0.1, is_cluster=settings.cluster)
        except ValueError as error:
            raise ConfigError(f"Policy 'slots': {error}") from None

    def around(self, op: Operation) -> Flow:
        """Run an operation when its call has a slot."""
        ride = self._ride(op)
        try:
            if not ride.has_slot:
                yield from self._take(op, ride)
            return (yield op)
        finally:
            ride.leave()

    def _ride(self, op: Operation) -> Ride:
        """Return the ride of the operation's call, boarded."""
        call = op.call
        kept = op.kept if call is None else call.shared
        ride: Ride | None = kept.get(self)
        if ride is not None and ride.board():
            return ride
        if call is not None and ride is None and not call.is_over:
            new = Ride(self._place(op.scope), op.scope, is_over=False)
            ride = kept.setdefault(self, new)
            if ride is new:
                call.at_end(ride.end)
            if ride.board():
                return ride
        ride = op.kept[self] = Ride(self._place(op.scope), op.scope, is_over=True)
        ride.board()
        return ride

    def _place(self, scope: Scope) -> Place:
        memory = scope.memory

        def station() -> Station:
            key = self.name, self.identity
            return memory.of(key, lambda: Station(self.settings))

        return scope.remembered(self, lambda: Place(station))

    def _take(self, op: Operation, ride: Ride) -> Flow:
        """Wait for the slot."""
        clock = op.scope.clock
        until = clock() + min(self.settings.wait, op.left())
        full: Full | None
        while (full := (yield from self._ask(op, ride))) is not None:
            seconds = max(0.0, full.again - clock())
            if clock() + seconds >= until:
                raise SlotLimitExceeded(
                    f"{op} was not sent: the slots of the connector ({full.limit}) are "
                    "taken by other calls; try again later.",
                    "connector",
                    full.used,
                    full.limit,
                    full.retry_after,
                )
            yield Sleep(seconds)

    def _ask(self, op: Operation, ride: Ride) -> Flow:
        try:
            return (yield Io(sync=ride.take, async_=ride.take_on_loop))
        except SlotsUnavailable as error:
            raise SlotsUnavailable(
                f"{op} was not sent: Redis, where the connector's slots are counted, "
                "is away; try again later."
            ) from error
