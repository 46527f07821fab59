"""content: objects on disk, each fetched once for all processes of a machine.

Before an object is served the storage is asked what it is: one HEAD in place of a GET.
Its ETag, or its generation, is in the name of its entry. So an entry is never wrong, it
is only not asked for any more; and nobody is served what their own credentials may not
look at. A storage that names no versions is read around the cache.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectorkit import ConfigError, Policy, hookimpl
from connectorkit_cache.settings import ContentSettings

if TYPE_CHECKING:
    import click
    from fsspec import AbstractFileSystem

    from connectorkit import Connector

__all__ = ["Content"]


class Content(Policy):
    """Keeps objects on disk."""

    name = "content"
    rank = 2
    Settings = ContentSettings
    settings: ContentSettings

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """Return a filesystem that reads by the cache.

        Raises:
            ConfigError: The system has no locks that end with their process.
        """
        try:
            import fcntl
        except ImportError as error:
            raise ConfigError(
                f"Policy 'content' of connector {connector.id!r} needs file locks that "
                "this system does not have: use 'hot' in its place."
            ) from error
        del fcntl
        from connectorkit_cache.contents import content_of

        return content_of(fs, self, connector)


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide content."""
    return [Content]


@hookimpl
def connectorkit_commands(cli: click.Group) -> None:
    """Add `connectorkit cache`."""
    from connectorkit_cache.commands import cache

    cli.add_command(cache)
