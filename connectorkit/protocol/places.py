"""Places: a path of `connector://` is a connector's ID, and a path of its storage.

Nothing in an ID means anything to fsspec, to a shell's globs or to a URL, and nothing
in a path is decoded: a `%` is a `%`. In the ID alone, where it cannot stand for itself,
a percent escape is undone, for tools that write `|` as `%7C`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from connectorkit.connector_type import valid_id
from connectorkit.errors import InvalidConnectorID

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from fsspec import AbstractFileSystem

    from connectorkit.kit import ConnectorKit

__all__ = ["PROTOCOL", "Place", "by_connector", "place_of", "plain"]

PROTOCOL = "connector"


def plain(path: str) -> str:
    """Return a path without its protocol: `ID/path`; empty for the root."""
    path = path.removeprefix(f"{PROTOCOL}://").lstrip("/")
    connector_id, slash, rest = path.partition("/")
    if "%" in connector_id and "/" not in (known := unquote(connector_id)):
        connector_id = known
    return f"{connector_id}{slash}{rest}"


def place_of(kit: ConnectorKit, path: str) -> Place:
    """Resolve a path.

    Raises:
        InvalidConnectorID: It names no connector.
        ConnectorKitError: What `kit.resolve` raises.
    """
    connector_id, _, rest = plain(path).partition("/")
    if not connector_id:
        raise InvalidConnectorID(
            f"{path!r} names no connector: paths read {PROTOCOL}://ID/path."
        )
    fs = kit.resolve(valid_id(connector_id)).fs
    return Place(connector_id, fs, f"{fs.root_marker}{rest}")


@dataclass(frozen=True, slots=True)
class Place:
    """A path of a connector.

    Attributes:
        id: The connector's ID.
        fs: The connector's filesystem.
        path: The path there.
    """

    id: str
    fs: AbstractFileSystem
    path: str

    @property
    def is_root(self) -> bool:
        """Whether it is the whole connector."""
        return not self.path.strip("/.")

    def outer(self, name: str) -> str:
        """Return what a path of the connector's filesystem is called outside."""
        name = name.removeprefix(self.fs.root_marker)
        return f"{self.id}/{name}" if name else self.id

    # What the connector's filesystem answers, with outer paths

    def entry(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return an entry of a listing."""
        return {**info, "name": self.outer(info["name"])}

    def entries(self, found: Any) -> Any:
        """Return a listing: names, entries, or either by name."""
        if isinstance(found, dict):
            return {self.outer(name): self._one(each) for name, each in found.items()}
        return [self._one(each) for each in found]

    def _one(self, found: str | Mapping[str, Any]) -> Any:
        return self.outer(found) if isinstance(found, str) else self.entry(found)

    def keyed(self, found: Any) -> Any:
        """Return what is by path by the outer one, and anything else as it is."""
        if not isinstance(found, dict):
            return found
        return {self.outer(path): value for path, value in found.items()}

    def step(self, step: tuple[str, Any, Any]) -> tuple[str, Any, Any]:
        """Return a step of a walk; what is in it has no folders before its names."""
        root, *both = step
        folders, files = (
            {name: self.entry(info) for name, info in each.items()}
            if isinstance(each, dict)
            else each
            for each in both
        )
        return self.outer(root), folders, files


def by_connector(places: Iterable[Place]) -> list[tuple[Place, list[int], list[str]]]:
    """Put together what is of one connector: one of its places, numbers, paths."""
    groups: dict[str, tuple[Place, list[int], list[str]]] = {}
    for number, place in enumerate(places):
        _, numbers, paths = groups.setdefault(place.id, (place, [], []))
        numbers.append(number)
        paths.append(place.path)
    return list(groups.values())
