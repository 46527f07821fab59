"""Moves between two connectors: nothing is deleted that was not copied elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from connectorkit.errors import ObjectChanged

if TYPE_CHECKING:
    from collections.abc import Iterable

    from connectorkit.kit import ConnectorKit
    from connectorkit.protocol.across import Across
    from connectorkit.protocol.places import Place

__all__ = ["Seen", "refuse_to_lose", "same_storage", "seen_of"]

# What a storage said of each file, but for its name.
Seen: TypeAlias = dict[str, dict[str, Any]]


def same_storage(kit: ConnectorKit, places: Iterable[Place]) -> bool:
    """Tell whether all are of one connector type with the same settings."""
    ids = {place.id for place in places}
    return len({kit.resolve(each)._key[0] for each in ids}) == 1


def seen_of(fs: Across, path: str) -> dict[str, Any]:
    """Return what the storage itself says of a file now, but for its name."""
    fs.invalidate_cache(path)
    return {key: value for key, value in fs.info(path).items() if key != "name"}


def refuse_to_lose(fs: Across, source: str, target: str, seen: Seen) -> None:
    """See that a file may be deleted that was copied.

    Args:
        fs: Whose paths they are.
        source: The file.
        target: Its copy.
        seen: What each file was before it was copied.

    Raises:
        ObjectChanged: It is not what it was any more.
        ValueError: The copy may be the file itself, by other settings.
    """
    now = seen_of(fs, source)
    its_path, its_copys = (fs.place(path).path for path in (source, target))
    if its_path == its_copys and now == seen_of(fs, target):
        raise ValueError(
            f"{source!r} cannot be moved into itself: {target!r} seems to be the same "
            "file, by another connector."
        )
    if now != seen.get(source, now):
        raise ObjectChanged(
            f"{source!r} was replaced while it was moved, and stays: move it again."
        )
