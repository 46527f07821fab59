"""listings: what a storage says is there, in memory, for a while.

`ls`, `info`, `exists`, `isfile`, `isdir`, `walk`, `find` and `glob`, and what is made
of them, agree: what a listing says answers for the files in it, and an answer that is
newer than another about the same path takes its place. What is written through this
process is seen by the next call, what others write `seconds` later; that something is
missing holds for a shorter time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectorkit import Policy, hookimpl
from connectorkit_cache.settings import ListingsSettings

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from connectorkit import Connector

__all__ = ["Listings"]


class Listings(Policy):
    """Remembers listings."""

    name = "listings"
    rank = 3
    Settings = ListingsSettings
    settings: ListingsSettings

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """Return a filesystem that lists by the cache."""
        from connectorkit_cache.listing import listings_of

        return listings_of(fs, self, connector)


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide listings."""
    return [Listings]
