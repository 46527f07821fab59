"""What happens inside a kit, told to `connectorkit_event` hooks."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FilesystemClosed", "FilesystemOpened", "PluginLoaded"]


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
