"""Box: a connector type, a policy and a lookup, as a third party ships them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field, SecretStr

from connectorkit import (
    ConnectorConfig,
    ConnectorType,
    Policy,
    PolicySettings,
    Settings,
    hookimpl,
)

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from connectorkit import Connector

__all__ = ["Box", "BoxSettings", "Fence", "FenceSettings"]

_OFFICE = "acme-office-"


class BoxSettings(Settings):
    """How to reach a box."""

    token: SecretStr = Field(title="Token", description="From the box's console.")
    room: str = Field("hall", title="Room", description="Boxes of a room share files.")


class Box(ConnectorType[BoxSettings]):
    """A folder in memory that stands for a service on the network."""

    id = "box"
    title = "Acme Box"
    aliases = ("box|0c0a7e2e-4f3f-4a53-9d0e-6a4a2f3e8b11", "acme_box")
    Settings = BoxSettings

    def open(self, settings: BoxSettings, **options: Any) -> AbstractFileSystem:
        """Open the folder of the room."""
        from fsspec.implementations.dirfs import DirFileSystem
        from fsspec.implementations.memory import MemoryFileSystem

        memory = MemoryFileSystem()
        memory.makedirs(f"/acme/{settings.room}", exist_ok=True)
        return DirFileSystem(path=f"/acme/{settings.room}", fs=memory, **options)

    def endpoint(self, settings: BoxSettings) -> str:
        """Say which room."""
        return f"room {settings.room!r}"


class FenceSettings(PolicySettings):
    """Where the fence stands."""

    folder: str = Field("fenced", title="Folder", description="Nothing else is seen.")


class Fence(Policy):
    """Keeps a connector within one folder."""

    name = "fence"
    Settings = FenceSettings

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """Show the folder alone."""
        from fsspec.implementations.dirfs import DirFileSystem

        del connector
        return DirFileSystem(path=self.settings.folder, fs=fs, skip_instance_cache=True)


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """Boxes."""
    return [Box]


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Fences."""
    return [Fence]


@hookimpl
def connectorkit_lookup(connector_id: str) -> ConnectorConfig | None:
    """Know the box of every office."""
    if not connector_id.startswith(_OFFICE):
        return None
    room = connector_id.removeprefix(_OFFICE)
    return ConnectorConfig(type="box", settings={"token": "staff", "room": room})
