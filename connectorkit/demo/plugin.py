"""Zip archives: all that it takes to teach the kit a storage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from connectorkit import ConnectorType, Settings, hookimpl

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem


class ZipSettings(Settings):
    """Which archive."""

    path: Path = Field(title="Archive", description="A zip file of this machine.")


class Zip(ConnectorType[ZipSettings]):
    """A zip archive, read through fsspec."""

    id = "zip"
    title = "Zip archive"
    reads_host = True
    Settings = ZipSettings

    def open(self, settings: ZipSettings, **options: Any) -> AbstractFileSystem:
        """Open the archive."""
        from fsspec.implementations.zip import ZipFileSystem

        return ZipFileSystem(str(settings.path), **options)


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """Zip archives."""
    return [Zip]
