"""Walking: by the listings of a filesystem, a folder at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from connectorkit.guarded.filesystem import raise_unless_gone

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["walk"]


def walk(  # noqa: PLR0913, PLR0917 - fsspec's own
    fs: AbstractFileSystem,
    path: str,
    maxdepth: int | None = None,
    topdown: bool = True,
    on_error: Any = None,
    detail: bool = False,
    **kwargs: Any,
) -> Iterator[tuple[str, Any, Any]]:
    """Yield each folder below a path, with the folders and files in it.

    fsspec's own takes any refusal for an empty folder, and asks `on_error` of the first
    one alone.

    Raises:
        OSError: A folder cannot be listed, and `on_error` does not say what then.
        ValueError: `maxdepth` is less than 1.
    """
    if maxdepth is not None and maxdepth < 1:
        raise ValueError("maxdepth must be at least 1")
    on_error = raise_unless_gone if on_error is None else on_error
    for root, folders, files in AbstractFileSystem.walk(
        fs, path, 1, detail=True, on_error=on_error, **kwargs
    ):
        below = folders if detail else [*folders]
        step = root, below, files if detail else [*files]
        if topdown:
            yield step
        # Who walks from the top may have removed some.
        if maxdepth is None or maxdepth > 1:
            left = None if maxdepth is None else maxdepth - 1
            for name in [*below]:
                yield from walk(
                    fs,
                    folders[name]["name"].rstrip("/"),
                    left,
                    topdown,
                    on_error,
                    detail,
                    **kwargs,
                )
        if not topdown:
            yield step
