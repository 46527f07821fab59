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
    "CheckFailed",
    "ConfigError",
    "ConnectorKitError",
    "InvalidConnectorID",
    "InvalidSettings",
    "KitClosed",
    "MissingExtra",
    "NotPicklable",
    "PluginBlocked",
    "PluginConflict",
    "PluginError",
    "PluginFailed",
    "UnknownConnector",
    "UnknownPolicy",
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
