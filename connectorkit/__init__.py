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
    from connectorkit.config import ConnectorConfig, KitConfig
    from connectorkit.connector import (
        Connector,
        ConnectorType,
        SystemAdapter,
    )
    from connectorkit.errors import (
        CheckFailed,
        ConfigError,
        ConnectorKitError,
        InvalidConnectorID,
        InvalidSettings,
        KitClosed,
        MissingExtra,
        NotPicklable,
        PluginBlocked,
        PluginConflict,
        PluginError,
        PluginFailed,
        UnknownConnector,
        UnknownPolicy,
    )
    from connectorkit.events import FilesystemClosed, FilesystemOpened, PluginLoaded
    from connectorkit.explain import Explanation
    from connectorkit.hookspecs import hookimpl
    from connectorkit.kit import ConnectorKit
    from connectorkit.objects import ObjectInfo
    from connectorkit.pipeline import Policy, PolicySettings
    from connectorkit.plugin import PluginInfo
    from connectorkit.settings import Endpoint, Secret, Settings, Text

__all__ = [
    "CheckFailed",
    "ConfigError",
    "Connector",
    "ConnectorConfig",
    "ConnectorKit",
    "ConnectorKitError",
    "ConnectorType",
    "Endpoint",
    "Explanation",
    "FilesystemClosed",
    "FilesystemOpened",
    "InvalidConnectorID",
    "InvalidSettings",
    "KitClosed",
    "KitConfig",
    "MissingExtra",
    "NotPicklable",
    "ObjectInfo",
    "PluginBlocked",
    "PluginConflict",
    "PluginError",
    "PluginFailed",
    "PluginInfo",
    "PluginLoaded",
    "Policy",
    "PolicySettings",
    "Secret",
    "Settings",
    "SystemAdapter",
    "Text",
    "UnknownConnector",
    "UnknownPolicy",
    "hookimpl",
]

_HOMES = {
    "config": ("ConnectorConfig", "KitConfig"),
    "connector": (
        "Connector",
        "ConnectorType",
        "SystemAdapter",
    ),
    "events": ("FilesystemClosed", "FilesystemOpened", "PluginLoaded"),
    "explain": ("Explanation",),
    "hookspecs": ("hookimpl",),
    "kit": ("ConnectorKit",),
    "objects": ("ObjectInfo",),
    "pipeline": ("Policy", "PolicySettings"),
    "plugin": ("PluginInfo",),
    "settings": ("Endpoint", "Secret", "Settings", "Text"),
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
