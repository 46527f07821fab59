"""hot: small objects in memory.

An object is served for `seconds` after the storage was last asked about it, and asked
about after that: where it names versions, by a HEAD that fetches nothing if nothing has
changed. So what others write is seen `seconds` later, by default two, and what is
written through this process at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectorkit import Policy, hookimpl
from connectorkit_cache.settings import HotSettings

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from connectorkit import Connector

__all__ = ["Hot"]


class Hot(Policy):
    """Keeps small objects in memory."""

    name = "hot"
    rank = 1
    Settings = HotSettings
    settings: HotSettings

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """Return a filesystem that reads by the cache."""
        from connectorkit_cache.memory import hot_of

        return hot_of(fs, self, connector)


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide hot."""
    return [Hot]
