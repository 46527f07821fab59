"""Moves that would lose what they move: fsspec copies, and deletes what was there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["is_move"]


def is_move(fs: AbstractFileSystem, path1: Any, path2: Any, *, recursive: bool) -> bool:
    """Tell whether a move changes anything.

    Args:
        fs: Whose paths they are.
        path1: What is moved, one path or several.
        path2: Where to.
        recursive: Whether what lies below goes along, and is deleted.

    Raises:
        ValueError: It goes into itself, and would be deleted with what it came from.
    """
    sources, targets = _plain(fs, path1), _plain(fs, path2)
    if sources == targets and _is_folder(path1) == _is_folder(path2):
        return False
    for source in sources:
        for target in targets:
            is_within = f"{target}/".startswith(f"{source}/" if source else "")
            if source == target or (recursive and is_within):
                raise ValueError(f"{path1!r} cannot be moved into itself: {path2!r}.")
    return True


def _plain(fs: AbstractFileSystem, path: Any) -> list[str]:
    some = path if isinstance(path, list) else [path]
    return [str(fs._strip_protocol(each)).strip("/") for each in some]


def _is_folder(path: Any) -> bool:
    return isinstance(path, str) and path.endswith("/")
