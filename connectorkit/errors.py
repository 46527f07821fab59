"""Everything connectorkit raises of its own.

```
ConnectorKitError
├── ConfigError (ValueError)            a configuration file or variable is wrong
├── InvalidConnectorID (ValueError)     the text cannot be a connector ID
├── InvalidSettings (ValueError)        settings do not fit the connector type
├── UnknownConnector (LookupError)      nothing answers to this connector ID
├── UnknownPolicy (LookupError)         no plugin provides this policy
├── PluginError                         a plugin cannot serve
│   ├── PluginBlocked                   it is turned off
│   ├── PluginConflict                  two distributions offer one name
│   └── PluginFailed                    it did not load, or broke its contract
├── MissingExtra (ImportError)          a client library is not installed
├── Refused                             a policy did not let an operation through
│   ├── CircuitOpen (ConnectionError)   the service failed too often a moment ago
│   └── DeadlineExceeded (OSError)      the time of the whole call is up
├── AttemptTimedOut (OSError)           one attempt did not end in its time
├── CallCancelled (OSError)             the call was cancelled beneath its caller
├── ObjectChanged (OSError)             another object came than was being read
├── WrongAnswer (OSError)               other bytes came than were asked for
├── NotReplayable (ValueError)          a body cannot be sent a second time
├── CheckFailed (ConnectionError)       credentials or endpoint need mending
├── KitClosed (RuntimeError)            the kit was closed
└── NotPicklable (pickle.PicklingError) a connector whose source cannot be named
```

`connectorkit.compat` adds a `ConnectorError` for hosts that know it by that name.

Each error derives from `ConnectorKitError` and from the built-in family that a
caller would catch anyway. None derives from `TimeoutError`: fsspec's bridge from
sync to async replaces those by an empty one. No message contains a secret.
"""

from pickle import PicklingError

__all__ = [
    "AttemptTimedOut",
    "CallCancelled",
    "CheckFailed",
    "CircuitOpen",
    "ConfigError",
    "ConnectorKitError",
    "DeadlineExceeded",
    "InvalidConnectorID",
    "InvalidSettings",
    "KitClosed",
    "MissingExtra",
    "NotPicklable",
    "NotReplayable",
    "ObjectChanged",
    "PluginBlocked",
    "PluginConflict",
    "PluginError",
    "PluginFailed",
    "Refused",
    "UnknownConnector",
    "UnknownPolicy",
    "WrongAnswer",
]


class ConnectorKitError(Exception):
    """The base of every error of connectorkit's own."""


class ConfigError(ConnectorKitError, ValueError):
    """A configuration cannot be read; names the file and the line or the key."""


class InvalidConnectorID(ConnectorKitError, ValueError):
    """The text is outside the alphabet of connector IDs."""


class InvalidSettings(ConnectorKitError, ValueError):
    """Settings do not fit a connector type; lists every bad field at once.

    Attributes:
        problems: What is wrong, by the field's path; never a value.
    """

    def __init__(self, message: str, problems: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or {}


class UnknownConnector(ConnectorKitError, LookupError):
    """Nothing answers to this connector ID; names close matches and failures."""


class UnknownPolicy(ConnectorKitError, LookupError):
    """No plugin provides a policy of this name."""


class PluginError(ConnectorKitError):
    """A plugin cannot serve what was asked of it."""


class PluginBlocked(PluginError):
    """The plugin is turned off by the configuration or the environment."""


class PluginConflict(PluginError):
    """Two distributions offer one name; names both and how to choose."""


class PluginFailed(PluginError):
    """The plugin did not load or broke the contract; the cause is attached."""


class MissingExtra(ConnectorKitError, ImportError):
    """A client library is not installed; says the line for pip."""


class Refused(ConnectorKitError):
    """A policy did not let an operation through; derive a policy's own from it.

    It says nothing of the service's health: no circuit counts it, and no retry tries
    it again.

    Attributes:
        policy: The policy's name.
        reason: One word for metrics.
    """

    policy: str = ""
    reason: str = "refused"


class CircuitOpen(Refused, ConnectionError):
    """The service failed too often a moment ago: nothing was sent.

    Attributes:
        circuit: `upload`, `download` or `list`.
        retry_after: Seconds until a call is let through to try.
    """

    policy = "breaker"
    reason = "open"

    def __init__(
        self, message: str, circuit: str = "", retry_after: float = 0.0
    ) -> None:
        super().__init__(message)
        self.circuit = circuit
        self.retry_after = retry_after


class DeadlineExceeded(Refused, OSError):
    """The time that the whole call was given is up."""

    policy = "deadline"
    reason = "deadline"


class AttemptTimedOut(ConnectorKitError, OSError):
    """One attempt did not end in the time that it was given."""


class CallCancelled(ConnectorKitError, OSError):
    """The call was cancelled beneath its caller, such as by a loop that ended."""


class ObjectChanged(ConnectorKitError, OSError):
    """Another object came than was being read: somebody replaced it meanwhile."""


class WrongAnswer(ConnectorKitError, OSError):
    """The service answered with other bytes than were asked for; none were used."""


class NotReplayable(ConnectorKitError, ValueError):
    """A body can be read only once, so it cannot be sent a second time."""


class CheckFailed(ConnectorKitError, ConnectionError):
    """A connector does not work as configured.

    Attributes:
        remedy: One sentence: what is wrong and what to mend.
    """

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy or message


class KitClosed(ConnectorKitError, RuntimeError):
    """The kit was closed; nothing can be opened through it."""


class NotPicklable(ConnectorKitError, PicklingError):
    """The connector could not be resolved again elsewhere; says how to change that."""
