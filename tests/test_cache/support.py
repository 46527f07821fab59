"""What the tests of caches share: kits over storages that count what they are asked.

```python
with Shelves(policies=["hot"]) as shelves:
    shelf = shelves.shelf({"a/b": b"content"})
    assert shelves.fs().cat_file("a/b") == b"content"
    assert shelf.asked == ["info", "cat_file"]
```
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from connectorkit import (
    CacheEvicted,
    CacheUsed,
    ConnectorKit,
    ConnectorType,
    Settings,
    hookimpl,
)
from connectorkit.testing import VirtualClock
from guarding import AsyncShelf, Shelf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from connectorkit import Connector

__all__ = ["Ears", "Shelves", "entries"]


class Ears:
    """A plugin that hears what caches tell."""

    def __init__(self) -> None:
        self.events: list[Any] = []

    @hookimpl
    def connectorkit_event(self, event: object) -> None:
        if isinstance(event, CacheEvicted | CacheUsed):
            self.events.append(event)

    def results(self, cache: str = "content") -> list[str]:
        """Return how a cache answered since this was last asked."""
        found = [it.result for it in self.events if _is_use(it, cache)]
        self.events = [it for it in self.events if not _is_use(it, cache)]
        return found


def _is_use(event: object, cache: str) -> bool:
    return isinstance(event, CacheUsed) and event.cache == cache


class Shelves:
    """A kit whose connectors are shelves, by the name in their settings.

    Args:
        policies: Of all connectors.
        is_async: Whether the shelves are asynchronous.
        tables: The settings of policies.
    """

    def __init__(
        self, *policies: str, is_async: bool = False, clock: Any = None, **tables: Any
    ) -> None:
        self.is_async = is_async
        self.clock = clock or VirtualClock(1000.0)
        self.ears = Ears()
        self.shelves: dict[str, Any] = {}
        self.kit = ConnectorKit(
            {
                "connectors": {"it": {"type": "shelf", "settings": {"name": "it"}}},
                "policies": {"enabled": [*policies], **tables},
            },
            clock=self.clock,
        )
        shelves = self.shelves

        class ShelfSettings(Settings):
            name: str
            secret: str = ""

        class ShelfType(ConnectorType[ShelfSettings]):
            id = "shelf"
            Settings = ShelfSettings

            def open(self, settings: ShelfSettings, **options: Any) -> Any:
                shelf = shelves[settings.name]
                if "loop" in options:
                    again: Any = AsyncShelf({}, asynchronous=True, loop=options["loop"])
                    again.files, again.asked = shelf.files, shelf.asked
                    again.versions = shelf.versions
                    return again
                return shelf

        class Plugin:
            @hookimpl
            def connectorkit_connectors(self) -> list[type[ConnectorType[Any]]]:
                return [ShelfType]

        self.kit.register(Plugin(), "shelf")
        self.kit.register(self.ears, "ears")

    def shelf(self, files: Mapping[str, bytes] | None = None, name: str = "it") -> Any:
        """Return a new storage."""
        made = AsyncShelf(files) if self.is_async else Shelf(files)
        self.shelves[name] = made
        return made

    def connector(self, connector_id: str = "it", **settings: Any) -> Connector:
        """Return a connector."""
        return self.kit.resolve(connector_id, settings=settings or None)

    def fs(self, connector_id: str = "it", **settings: Any) -> Any:
        """Return the filesystem of a connector."""
        return self.connector(connector_id, **settings).fs

    def asked(self, name: str = "it") -> Counter[str]:
        """Return what a storage was asked since this was last asked."""
        shelf = self.shelves[name]
        found = Counter(shelf.asked)
        shelf.asked.clear()
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kit.close()


def entries(directory: Path) -> list[Path]:
    """Return the entries of a cache's directory, and parts of some."""
    return sorted((directory / "v1" / "objects").glob("??/*"))
