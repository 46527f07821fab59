"""The whole plugin contract.

A plugin is a module, or an object, named by an entry point of the group
`connectorkit`, with any of these hooks, each marked by `@connectorkit.hookimpl`:

```python
from connectorkit import hookimpl

@hookimpl
def connectorkit_connectors():
    return [Box]
```

Hooks are for loading, lookup and events; operations on storage are never hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Iterable

    import click

    from connectorkit.config import ConnectorConfig
    from connectorkit.connector_type import ConnectorType, SystemAdapter
    from connectorkit.policy import Policy

GROUP = "connectorkit"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def connectorkit_connectors() -> Iterable[type[ConnectorType[Any]]]:  # type: ignore[empty-body]
    """Connector types that this plugin teaches."""


@hookspec
def connectorkit_adapters() -> Iterable[SystemAdapter]:  # type: ignore[empty-body]
    """Adapters for system-internal IDs; a third party's serve if the config says so."""


@hookspec
def connectorkit_policies() -> Iterable[type[Policy]]:  # type: ignore[empty-body]
    """Policies that this plugin provides."""


@hookspec(firstresult=True)
def connectorkit_lookup(connector_id: str) -> ConnectorConfig | None:
    """The configuration of a connector ID, from a database or a vault, or None."""


@hookspec
def connectorkit_event(event: object) -> None:
    """Hear of plugins loaded, filesystems opened and closed; may not break a call."""


@hookspec
def connectorkit_commands(cli: click.Group) -> None:
    """Add verbs to the command line."""
