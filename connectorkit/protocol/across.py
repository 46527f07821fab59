"""Transfers: within one connector its own; between two, and in transactions, a stream.

A stream holds a block or two of a file in memory, never a file. It reads one version of
the source, and the target appears whole or not at all.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.utils import other_paths

from connectorkit.moving import is_move
from connectorkit.protocol.moves import Seen, refuse_to_lose, same_storage, seen_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.protocol.places import Place

__all__ = ["Across"]

# Bytes that are read, and written, at a time.
_BLOCK: Final = 8 << 20
# S3 takes 10,000 parts.
_MOST_BLOCKS: Final = 9_000
# Files that are copied at a time between two connectors.
_AT_A_TIME: Final = 4


class Across(AbstractFileSystem):  # type: ignore[misc]
    """What moves files, for the `connector://` filesystem."""

    place: Callable[[Any], Place]
    _intrans: bool

    # Within the storages

    def copy(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        on_error: str | None = None,
        **kwargs: Any,
    ) -> None:
        """Copy files, within a connector or from one to another.

        Args:
            path1: A file, a folder, a pattern, or a list of files.
            path2: Where to: a file, a folder, or as many files.
            recursive: Whether folders are copied.
            maxdepth: How many levels of them; None for all.
            on_error: "ignore" skips what is not there any more.
            kwargs: The storage's own.

        Raises:
            FileNotFoundError: A file is not there.
            ObjectChanged: One was replaced while it was copied.
        """
        options: dict[str, Any] = {"recursive": recursive, "maxdepth": maxdepth}
        if (one := self._one(path1, path2)) is not None:
            fs, source, target = one
            fs.copy(source, target, on_error=on_error, **options, **kwargs)
            return
        skips = on_error == "ignore" or (on_error is None and recursive)
        self._copied(*self._pairs(path1, path2, **options), skips=skips)

    def cp_file(self, path1: Any, path2: Any, **kwargs: Any) -> None:
        """Copy a file; of a folder, make one.

        Raises:
            FileNotFoundError: It is not there.
            ObjectChanged: It was replaced while it was copied.
        """
        if (one := self._one(path1, path2)) is not None:
            fs, source, target = one
            fs.cp_file(source, target, **kwargs)
        else:
            self._copied([(path1, path2)], {}, skips=False)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move files: between two connectors, copy all and then delete the sources.

        What comes to a folder meanwhile stays there.

        Raises:
            FileNotFoundError: A file is not there; nothing was deleted.
            ObjectChanged: One was replaced before all were copied; nothing was deleted.
            ValueError: A transaction is under way, which could not put it back; or it
                goes into itself, where it would be deleted, be it by another ID.
        """
        if self._intrans:
            raise ValueError(
                "A transaction cannot take a move back: copy in it, and delete after."
            )
        options: dict[str, Any] = {"recursive": recursive, "maxdepth": maxdepth}
        if (one := self._one(path1, path2)) is not None:
            fs, source, target = one
            # A connector without policies has a filesystem that does not ask.
            if is_move(fs, source, target, recursive=recursive):
                fs.mv(source, target, **options, **kwargs)
            return
        sources, targets = (
            [self.place(each) for each in _all(path)] for path in (path1, path2)
        )
        # Two IDs may be one storage.
        if same_storage(self.kit, [*sources, *targets]):
            both = [[each.path for each in side] for side in (sources, targets)]
            if not is_move(sources[0].fs, *both, recursive=recursive):
                return
        pairs, kinds = self._pairs(path1, path2, **options)
        seen: Seen = {}
        folders = self._copied(pairs, kinds, skips=False, seen=seen)
        files = [pair for pair in pairs if pair[0] not in folders]
        _several_at_a_time(
            lambda source, target: refuse_to_lose(self, source, target, seen), files
        )
        if files:
            self.rm([source for source, _ in files])
        for folder in sorted(folders, reverse=True):
            # A folder that is only the front of names is gone with them, and one into
            # which something came stays.
            with contextlib.suppress(OSError, ValueError, NotImplementedError):
                self.rmdir(folder)

    def _one(
        self, path1: Any, path2: Any
    ) -> tuple[AbstractFileSystem, Any, Any] | None:
        """Return what one connector can do alone: its filesystem, and its paths."""
        if self._intrans:
            return None
        both = [_all(path1), _all(path2)]
        places = [[self.place(each) for each in paths] for paths in both]
        if len({each.id for side in places for each in side}) != 1:
            return None
        source, target = (
            [each.path for each in side] if isinstance(path, list) else side[0].path
            for path, side in zip((path1, path2), places, strict=True)
        )
        return places[0][0].fs, source, target

    def _pairs(
        self, path1: Any, path2: Any, *, recursive: bool, maxdepth: int | None
    ) -> tuple[list[tuple[str, str]], dict[str, bool]]:
        """Return which paths go where, by fsspec's rules, and which are folders."""
        kinds: dict[str, bool] = {}
        if isinstance(path1, list) and isinstance(path2, list):
            strip = self._strip_protocol
            return list(zip(strip(path1), strip(path2), strict=True)), kinds
        from fsspec.core import has_magic

        is_one = not isinstance(path1, list)
        if is_one:
            path1 = os.fspath(path1)
        if is_one and recursive and not has_magic(path1):
            # What `expand_path` does, and a listing says what is a folder.
            top = self._strip_protocol(path1)
            below = self.find(top, maxdepth=maxdepth, withdirs=True, detail=True)
            kinds = {k: v["type"] == "directory" for k, v in below.items()}
            if top not in kinds:
                kinds[top] = self.info(top)["type"] == "directory"
            found = sorted(kinds)
        else:
            found = self.expand_path(path1, recursive=recursive, maxdepth=maxdepth)
        if is_one and (not recursive or maxdepth is not None):
            kinds |= {each: self.isdir(each) for each in found if each not in kinds}
            found = [each for each in found if not kinds[each]]
        into = path2.endswith("/") or self.isdir(path2)
        exists = is_one and (
            len(found) == 1 if has_magic(path1) else into and not path1.endswith("/")
        )
        target = self._strip_protocol(path2)
        # Its end says whether it is a folder that may be new.
        target += "/" if path2.endswith("/") else ""
        targets = other_paths(found, target, exists=exists, flatten=not is_one)
        return list(zip(found, targets, strict=True)), kinds

    def _copied(
        self,
        pairs: list[tuple[str, str]],
        kinds: dict[str, bool],
        *,
        skips: bool,
        seen: Seen | None = None,
    ) -> set[str]:
        """Copy several files at a time; return which of them are folders.

        Args:
            pairs: From where to where.
            kinds: Which are folders, of those that are known.
            skips: Whether what is not there any more is passed over.
            seen: Gets what each file was before, by its path.
        """
        folders: set[str] = set()

        def copy(source: str, target: str) -> None:
            try:
                is_folder = kinds.get(source)
                if self.isdir(source) if is_folder is None else is_folder:
                    folders.add(source)
                    self.makedirs(target, exist_ok=True)
                elif (one := self._one(source, target)) is not None:
                    fs, *both = one
                    fs.cp_file(*both)
                else:
                    if seen is not None:
                        seen[source] = seen_of(self, source)
                    self._stream(source, target)
            except FileNotFoundError:
                # A bucket that is not there to write to is no reason to skip.
                if not skips or self.exists(source):
                    raise

        # A transaction's files are its thread's to gather.
        if self._intrans or len(pairs) == 1:
            for pair in pairs:
                copy(*pair)
        else:
            _several_at_a_time(copy, pairs)
        return folders

    def _stream(self, path1: Any, path2: Any) -> None:
        with self.open(path1, "rb", block_size=_BLOCK) as source:
            size = getattr(source, "size", None) or 0
            block = max(_BLOCK, -(-size // _MOST_BLOCKS))
            with self.open(path2, "wb", block_size=block) as target:
                shutil.copyfileobj(source, target, _BLOCK)

    # From and to this machine

    def get(self, rpath: Any, lpath: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy files to this machine; each appears whole."""
        places = [self.place(each) for each in _all(rpath)]
        if len({each.id for each in places}) != 1:
            return super().get(rpath, lpath, *args, **kwargs)
        paths = [each.path for each in places]
        its = paths if isinstance(rpath, list) else paths[0]
        return places[0].fs.get(its, lpath, *args, **kwargs)

    def put(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy files from this machine; each appears whole."""
        places = [self.place(each) for each in _all(rpath)]
        if self._intrans or len({each.id for each in places}) != 1:
            return super().put(lpath, rpath, *args, **kwargs)
        paths = [each.path for each in places]
        its = paths if isinstance(rpath, list) else paths[0]
        return places[0].fs.put(lpath, its, *args, **kwargs)

    def put_file(self, lpath: Any, rpath: Any, *args: Any, **kwargs: Any) -> Any:
        """Copy a file from this machine; it appears whole."""
        if self._intrans:
            return super().put_file(lpath, rpath, *args, **kwargs)
        place = self.place(rpath)
        return place.fs.put_file(lpath, place.path, *args, **kwargs)


def _several_at_a_time(
    do: Callable[[str, str], None], pairs: list[tuple[str, str]]
) -> None:
    """Do something with each pair; once one has failed, begin no other."""
    with ThreadPoolExecutor(_AT_A_TIME, "connectorkit-copy") as threads:
        # The caller's deadline goes with each.
        running = [
            threads.submit(copy_context().run, lambda its=pair: do(*its))
            for pair in pairs
        ]
        try:
            for each in running:
                each.result()
        except BaseException:
            for each in running:
                each.cancel()
            raise


def _all(path: Any) -> list[Any]:
    return path if isinstance(path, list) else [path]
