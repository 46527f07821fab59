"""connectorkit turns a connector ID into a filesystem that survives production.

```python
from connectorkit import ConnectorKit

kit = ConnectorKit()
kit.resolve("reports").fs.cat_file("bucket/key")
```

To import this package loads neither fsspec nor pydantic: each public name is imported
when it is first used (PEP 562).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectorkit.call import (
        Call,
    )
    from connectorkit.circuits import (
        CircuitInfo,
        CircuitState,
    )
    from connectorkit.clock import (
        Clock,
        SystemClock,
    )
    from connectorkit.config import (
        ConnectorConfig,
        KitConfig,
    )
    from connectorkit.connector import Connector
    from connectorkit.connector_type import ConnectorType, SystemAdapter
    from connectorkit.default import (
        default_kit,
        filesystem,
        open,  # noqa: A004 - as fsspec's
        set_default_kit,
    )
    from connectorkit.errors import (
        AttemptTimedOut,
        CallCancelled,
        CheckFailed,
        CircuitOpen,
        ConfigError,
        ConnectorKitError,
        DeadlineExceeded,
        InvalidConnectorID,
        InvalidSettings,
        KitClosed,
        MissingExtra,
        NotPicklable,
        NotReplayable,
        ObjectChanged,
        PluginBlocked,
        PluginConflict,
        PluginError,
        PluginFailed,
        Refused,
        UnknownConnector,
        UnknownPolicy,
        WrongAnswer,
    )
    from connectorkit.events import (
        CacheEvicted,
        CacheUsed,
        CircuitChanged,
        ConnectorResolved,
        FilesystemClosed,
        FilesystemOpened,
        OperationRetried,
        PaceChanged,
        PluginLoaded,
        RetryRefused,
        SlotDecided,
        SlotsReaped,
        SlotsRenewed,
        SlotsUsed,
        SlotWasLost,
    )
    from connectorkit.explain import (
        Explanation,
    )
    from connectorkit.faults import (
        Fault,
        Verdict,
        classify,
    )
    from connectorkit.hookspecs import (
        hookimpl,
    )
    from connectorkit.kit import (
        ConnectorKit,
    )
    from connectorkit.objects import (
        ObjectInfo,
    )
    from connectorkit.operation import (
        Io,
        Kind,
        Operation,
        Sleep,
    )
    from connectorkit.pipeline import Pipeline
    from connectorkit.plugin import (
        PluginInfo,
    )
    from connectorkit.policy import Policy, PolicySettings
    from connectorkit.scope import (
        Scope,
    )
    from connectorkit.settings import (
        Endpoint,
        Secret,
        Settings,
        Text,
    )

__all__ = [
    "AttemptTimedOut",
    "CacheEvicted",
    "CacheUsed",
    "Call",
    "CallCancelled",
    "CheckFailed",
    "CircuitChanged",
    "CircuitInfo",
    "CircuitOpen",
    "CircuitState",
    "Clock",
    "ConfigError",
    "Connector",
    "ConnectorConfig",
    "ConnectorKit",
    "ConnectorKitError",
    "ConnectorResolved",
    "ConnectorType",
    "DeadlineExceeded",
    "Endpoint",
    "Explanation",
    "Fault",
    "FilesystemClosed",
    "FilesystemOpened",
    "InvalidConnectorID",
    "InvalidSettings",
    "Io",
    "Kind",
    "KitClosed",
    "KitConfig",
    "MissingExtra",
    "NotPicklable",
    "NotReplayable",
    "ObjectChanged",
    "ObjectInfo",
    "Operation",
    "OperationRetried",
    "PaceChanged",
    "Pipeline",
    "PluginBlocked",
    "PluginConflict",
    "PluginError",
    "PluginFailed",
    "PluginInfo",
    "PluginLoaded",
    "Policy",
    "PolicySettings",
    "Refused",
    "RetryRefused",
    "Scope",
    "Secret",
    "Settings",
    "Sleep",
    "SlotDecided",
    "SlotWasLost",
    "SlotsReaped",
    "SlotsRenewed",
    "SlotsUsed",
    "SystemAdapter",
    "SystemClock",
    "Text",
    "UnknownConnector",
    "UnknownPolicy",
    "Verdict",
    "WrongAnswer",
    "classify",
    "default_kit",
    "filesystem",
    "hookimpl",
    "open",
    "set_default_kit",
]

_HOMES = {
    "call": ("Call",),
    "circuits": (
        "CircuitInfo",
        "CircuitState",
    ),
    "clock": (
        "Clock",
        "SystemClock",
    ),
    "config": (
        "ConnectorConfig",
        "KitConfig",
    ),
    "connector": ("Connector",),
    "connector_type": ("ConnectorType", "SystemAdapter"),
    "default": (
        "default_kit",
        "filesystem",
        "open",
        "set_default_kit",
    ),
    "events": (
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
    ),
    "explain": ("Explanation",),
    "faults": (
        "Fault",
        "Verdict",
        "classify",
    ),
    "hookspecs": ("hookimpl",),
    "kit": ("ConnectorKit",),
    "objects": ("ObjectInfo",),
    "operation": (
        "Io",
        "Kind",
        "Operation",
        "Sleep",
    ),
    "pipeline": ("Pipeline",),
    "policy": ("Policy", "PolicySettings"),
    "plugin": ("PluginInfo",),
    "scope": ("Scope",),
    "settings": (
        "Endpoint",
        "Secret",
        "Settings",
        "Text",
    ),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name == "__version__":
        from importlib.metadata import version

        return version("connectorkit")
    if name not in __all__:
        raise AttributeError(f"module 'connectorkit' has no attribute {name!r}")
    # What has no home named above is an error class.
    module = import_module(f"connectorkit.{_HOME.get(name, 'errors')}")
    value = globals()[name] = getattr(module, name)
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
