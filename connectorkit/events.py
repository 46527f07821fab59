"""What happens inside a kit, told to `connectorkit_event` hooks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "CacheEvicted",
    "CacheUsed",
    "CircuitChanged",
    "ConnectorResolved",
    "FilesystemClosed",
    "FilesystemOpened",
    "OperationRetried",
    "PaceChanged",
    "PluginLoaded",
    "RetryRefused",
    "SlotDecided",
    "SlotWasLost",
    "SlotsReaped",
    "SlotsRenewed",
    "SlotsUsed",
]


@dataclass(frozen=True, slots=True)
class PluginLoaded:
    """A plugin was loaded, or failed to.

    Attributes:
        plugin: Its name.
        seconds: How long its import and its hooks took.
        failed: Whether it cannot serve.
    """

    plugin: str
    seconds: float
    failed: bool


@dataclass(frozen=True, slots=True)
class ConnectorResolved:
    """A connector ID was resolved, and the answer was not at hand.

    Attributes:
        connector_id: The ID.
        type: The connector type's ID.
        by: "adapter", "configuration", "lookup" or "settings".
    """

    connector_id: str
    type: str
    by: str


@dataclass(frozen=True, slots=True)
class FilesystemOpened:
    """A connector's filesystem was opened.

    Attributes:
        connector_id: The ID under which it was first asked for.
        type: The connector type's ID.
    """

    connector_id: str
    type: str


@dataclass(frozen=True, slots=True)
class FilesystemClosed:
    """A filesystem left the pool.

    Attributes:
        type: The connector type's ID.
    """

    type: str


@dataclass(frozen=True, slots=True)
class CacheUsed:
    """A cache was asked for something.

    Attributes:
        connector: The connector's ID.
        type: The connector type's ID.
        cache: The policy's name: "hot", "content" or "listings".
        result: "hit" (it was at hand), "miss" (it was fetched and kept), "stale" (it
            was at hand, and nobody could ask whether it still holds) or "around" (it
            was fetched and not kept).
        bytes: Of content, how many bytes it has; 0 for what is fetched around the
            cache, and for listings.
    """

    connector: str
    type: str
    cache: str
    result: str
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class CacheEvicted:
    """A cache made room.

    Attributes:
        cache: The policy's name.
        entries: How many entries left.
        bytes: Of how many bytes of content.
    """

    cache: str
    entries: int
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class OperationRetried:
    """An operation is about to be tried again.

    Attributes:
        connector: The connector's ID.
        operation: Its name on the service.
        attempt: The number of the attempt to come; 2 is the first retry.
        reason: The service's word for what went wrong, or the class of the error.
    """

    connector: str
    operation: str
    attempt: int
    reason: str


@dataclass(frozen=True, slots=True)
class RetryRefused:
    """An operation would have been tried again, but for the budget.

    Attributes:
        connector: The connector's ID.
        operation: Its name on the service.
        reason: "budget".
    """

    connector: str
    operation: str
    reason: str


@dataclass(frozen=True, slots=True)
class CircuitChanged:
    """A circuit opened, half opened or closed.

    Attributes:
        connector: The ID of the connector whose operation changed it; its identity may
            serve others.
        type: The connector type's ID.
        circuit: "upload", "download" or "list".
        before: The state that it left: "closed", "half_open", "open", "forced_open" or
            "forced_closed".
        after: The state that it is in.
    """

    connector: str
    type: str
    circuit: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class PaceChanged:
    """A service throttled, or gave leave to go faster.

    Attributes:
        connector: The connector's ID.
        rate: Operations a second from now on; None for no limit.
    """

    connector: str
    rate: float | None


@dataclass(frozen=True, slots=True)
class SlotDecided:
    """A slot was asked for, and given or refused.

    Attributes:
        outcome: "granted" or "refused"; "waits" for a call that asks again in a moment.
        mode: Who decided: "redis", or, while it was away, what stands in for it:
            "local", "open" or "closed".
        scope: The kind of scope that was full, such as "org", "global" or "connector";
            empty if none was.
        organization: For whom; empty if for no organisation.
    """

    outcome: str
    mode: str
    scope: str = ""
    organization: str = ""


@dataclass(frozen=True, slots=True)
class SlotsUsed:
    """Redis told how many slots of a scope are in use.

    Attributes:
        scope: The kind of scope, such as "org", "global" or "connector".
        used: How many are.
        limit: How many there are.
        organization: Whose; empty if no organisation's.
    """

    scope: str
    used: int
    limit: int
    organization: str = ""


@dataclass(frozen=True, slots=True)
class SlotsReaped:
    """Slots were taken back from holders that renewed them no more.

    Attributes:
        count: How many.
    """

    count: int


@dataclass(frozen=True, slots=True)
class SlotWasLost:
    """A holder that goes on lost its slot: it could not renew it in time.

    Attributes:
        organization: Whose it was; empty if no organisation's.
    """

    organization: str = ""


@dataclass(frozen=True, slots=True)
class SlotsRenewed:
    """The slots that this process holds were renewed, or could not be, in one trip.

    Attributes:
        count: How many.
        seconds: How long it took.
        has_failed: Whether Redis was away, or refused it; it is tried again.
    """

    count: int
    seconds: float
    has_failed: bool = False
