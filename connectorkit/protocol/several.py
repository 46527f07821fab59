"""Methods that take several paths: each connector is asked once for all of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

from connectorkit.protocol.places import by_connector

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.protocol.places import Place

__all__ = ["Several"]


class Several(AbstractFileSystem):  # type: ignore[misc]
    """What takes lists of paths, for the `connector://` filesystem."""

    place: Callable[[Any], Place]
    rm_file: Callable[[Any], None]
    _intrans: bool

    def cat(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Return a file's content, or the contents of several by their paths."""
        if isinstance(path, str | os.PathLike):
            place = self.place(path)
            return place.keyed(place.fs.cat(place.path, *args, **kwargs))
        found: dict[str, Any] = {}
        for place, _, paths in by_connector(self._places(path)):
            found |= place.keyed(place.fs.cat(paths, *args, **kwargs))
        return found

    def cat_ranges(
        self, paths: list[Any], starts: Any, ends: Any, *args: Any, **kwargs: Any
    ) -> list[Any]:
        """Return a range of each file; several at a time, where its storage can."""
        if not isinstance(paths, list):
            raise TypeError("cat_ranges takes a list of paths.")
        found: list[Any] = [b""] * len(paths)

        def of(numbers: list[int], each: Any) -> Any:
            return [each[n] for n in numbers] if isinstance(each, list) else each

        for each in (starts, ends):
            if isinstance(each, list) and len(each) != len(paths):
                raise ValueError("cat_ranges takes as many starts and ends as paths.")
        for place, numbers, its in by_connector(self._places(paths)):
            pieces = place.fs.cat_ranges(
                its, of(numbers, starts), of(numbers, ends), *args, **kwargs
            )
            for number, piece in zip(numbers, pieces, strict=True):
                found[number] = piece
        return found

    def sizes(self, paths: Any) -> list[int | None]:
        """Return the files' numbers of bytes."""
        found: list[int | None] = [None] * len(paths)
        for place, numbers, its in by_connector(self._places(paths)):
            for number, size in zip(numbers, place.fs.sizes(its), strict=True):
                found[number] = size
        return found

    def expand_path(self, path: Any, *args: Any, **kwargs: Any) -> list[str]:
        """Return what patterns and folders stand for, sorted.

        Raises:
            FileNotFoundError: That is nothing.
        """
        if isinstance(path, str | os.PathLike):
            place = self.place(path)
            found = place.fs.expand_path(place.path, *args, **kwargs)
            return sorted(map(place.outer, found))
        all_found: set[str] = set()
        for place, _, paths in by_connector(self._places(path)):
            found = place.fs.expand_path(paths, *args, **kwargs)
            all_found |= {*map(place.outer, found)}
        return sorted(all_found)

    def pipe(self, path: Any, value: Any = None, **kwargs: Any) -> None:
        """Write a file, or several by their paths; each appears whole."""
        values = path if isinstance(path, dict) else {path: value}
        if self._intrans:
            super().pipe(values, **kwargs)
            return
        groups = by_connector(self._places(values))
        contents = list(values.values())
        for place, numbers, paths in groups:
            its = dict(zip(paths, (contents[n] for n in numbers), strict=True))
            place.fs.pipe(its, **kwargs)

    def rm(self, path: Any, recursive: bool = False, maxdepth: Any = None) -> None:
        """Delete files, and folders with all that is in them.

        Raises:
            ValueError: It is a whole connector.
        """
        paths = [path] if isinstance(path, str | os.PathLike) else path
        places = self._places(paths)
        for place in places:
            if place.is_root:
                raise ValueError(
                    f"{place.id!r} is a whole connector, which is not removed: name "
                    "a path in it."
                )
        for place, _, its in by_connector(places):
            one = its if len(its) > 1 else its[0]
            place.fs.rm(one, recursive=recursive, maxdepth=maxdepth)

    def _rm(self, path: Any) -> None:
        self.rm_file(path)

    def _places(self, paths: Any) -> list[Place]:
        return [self.place(path) for path in paths]
