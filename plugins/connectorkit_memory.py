"""Memory: a store within the process, for tests and examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec.implementations.memory import MemoryFileSystem
from pydantic import Field, ValidationInfo, field_validator

from connectorkit import ConnectorType, Settings, hookimpl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

__all__ = ["Memory", "MemorySettings"]

_STRANGERS = "(settings of calls)"
_stores: dict[str, tuple[dict[str, Any], list[str]]] = {}


class MemorySettings(Settings):
    """Which store."""

    name: str = Field(
        default="",
        max_length=255,
        title="Name",
        description="Connectors of one name share a store for as long as the process "
        "lives. Settings that come with a call have one store of their own.",
    )

    @field_validator("name")
    @classmethod
    def _of_whom(cls, name: str, info: ValidationInfo) -> str:
        # What strangers may choose must not be a store of the host's.
        is_trusted = (info.context or {}).get("trusted", True)
        return name if is_trusted or name else _STRANGERS

    def refusals(self) -> Mapping[str, str]:
        """Refuse names: a store is the host's, or another tenant's."""
        return {} if self.name == _STRANGERS else {"name": "is the host's to choose"}


class NamedStore(MemoryFileSystem):  # type: ignore[misc]
    """fsspec's, on the store of a name; it pickles as the name, not as the content."""

    # fsspec's default is one store for the whole process: tenants would meet in it.
    cachable = False

    def __init__(self, name: str = "", **options: Any) -> None:
        super().__init__(global_store=False, **options)
        self.name = name
        # It outlives the filesystem, which may leave the pool and be opened again.
        self.store, self.pseudo_dirs = _stores.setdefault(name, ({}, [""]))

    def __reduce__(self) -> tuple[type[NamedStore], tuple[str]]:
        return NamedStore, (self.name,)


class Memory(ConnectorType[MemorySettings]):
    """A store within the process; each name has its own."""

    id = "memory"
    title = "Memory"
    Settings = MemorySettings

    def open(self, settings: MemorySettings, **options: Any) -> AbstractFileSystem:
        """Open the store of that name."""
        return NamedStore(settings.name, **options)


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """Memory."""
    return [Memory]
