"""Objects: what is read of them, by snapshots of one version each."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.utils import isfilelike

from connectorkit import ObjectChanged
from connectorkit.atomic import replacing
from connectorkit.call import joined
from connectorkit_cache.layer import Layer, bottom_of
from connectorkit_cache.snapshot import Damaged, Snapshot, SnapshotFile, tag_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["ANSWERS", "ATTEMPTS", "ObjectLayer"]

# The methods that a cache of objects answers.
ANSWERS: Final = ("cat_file", "cat_ranges", "get_file")
# An object that is replaced as often while it is fetched is read around the cache.
ATTEMPTS: Final = 3
_CHUNK = 1 << 20
# How a file is buffered changes nothing of what is read.
_HARMLESS = {"block_size", "cache_options", "cache_type", "fill_cache", "size"}


class ObjectLayer(Layer):
    """Reads objects from snapshots; a subclass obtains them."""

    @abstractmethod
    def obtain(
        self, path: str, info: Mapping[str, Any] | None = None
    ) -> Snapshot | None:
        """Return a version that is the object's now, or None to read around the cache.

        Args:
            path: The object.
            info: What the storage has just said of it, if it was asked.

        Raises:
            Exception: What the storage said.
        """

    def damaged(self, path: str, snapshot: Snapshot) -> None:
        """Take note that a snapshot was damaged."""
        del path, snapshot

    def reading_version(self, info: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return how the storage is asked for one version; None if it cannot be."""
        bottom = bottom_of(self)
        if not hasattr(type(bottom), "reading_version"):
            return None
        options: dict[str, Any] | None = bottom.reading_version(info)
        return options

    def reread(self, path: str, snapshot: Snapshot, start: int, end: int) -> bytes:
        """Read from the storage what is damaged, of the same version.

        Raises:
            ObjectChanged: It has another by now.
        """
        self.damaged(path, snapshot)
        options = self.reading_version(snapshot.info)
        tag = tag_of(snapshot.info)
        data: bytes
        with joined(self.scope):
            if options is not None:
                data = self.beneath.cat_file(path, start=start, end=end, **options)
                return data
            # It cannot be asked for one version: it has to be the same afterwards.
            if tag_of(self.look(path)) == tag:
                data = self.beneath.cat_file(path, start=start, end=end)
                if tag_of(self.look(path)) == tag:
                    return data
        raise ObjectChanged(
            f"{path!r} was replaced since it was opened, and what was kept of it is "
            "damaged: read it again."
        )

    # Reading

    def cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        **kwargs: Any,
    ) -> bytes:
        """Return the content of an object, or a range of it, of one version."""
        data: bytes
        with joined(self.scope):
            if not kwargs:
                [data] = self._slices(path, [(start, end)]) or [None]
                if data is not None:
                    return data
            data = self.beneath.cat_file(path, start=start, end=end, **kwargs)
            return data

    def _slices(
        self, path: str, ranges: Iterable[tuple[int | None, int | None]]
    ) -> list[Any] | None:
        """Return ranges of one version, or None to read around the cache."""
        for _ in range(0 if _is_folder(path) else 2):
            snapshot = self.obtain(path)
            if snapshot is None:
                return None
            with snapshot:
                try:
                    return [snapshot.slice(start, end) for start, end in ranges]
                except Damaged:
                    self.damaged(path, snapshot)
        return None

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> list[Any]:
        """Read ranges, those of one object of one version.

        Raises:
            Exception: The first error of any range, unless `on_error` is "return": then
                each stands in place of its range.
        """
        if not isinstance(paths, list):
            raise TypeError("paths must be a list")
        starts = starts if isinstance(starts, list) else [starts] * len(paths)
        ends = ends if isinstance(ends, list) else [ends] * len(paths)
        if len(starts) != len(paths) or len(ends) != len(paths):
            raise ValueError("There are not as many ranges as paths.")
        del max_gap
        found: dict[int, Any] = {}
        with joined(self.scope):
            for path in dict.fromkeys(paths):
                of_it = [i for i, each in enumerate(paths) if each == path]
                ranges = [(starts[i], ends[i]) for i in of_it]
                try:
                    data = None if kwargs else self._slices(path, ranges)
                    if data is None:
                        of_one = [path] * len(of_it)
                        data = self.beneath.cat_ranges(
                            of_one,
                            *map(list, zip(*ranges, strict=True)),
                            on_error=on_error,
                            **kwargs,
                        )
                except Exception as error:
                    if on_error != "return":
                        raise
                    data = [error] * len(of_it)
                failed = next((it for it in data if isinstance(it, Exception)), None)
                if failed is not None and on_error != "return":
                    raise failed
                found.update(zip(of_it, data, strict=True))
        return [found[i] for i in range(len(paths))]

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Copy an object to this machine; it appears when all of it is there."""
        target = lpath if outfile is None else outfile
        options = {"callback": callback, **kwargs}
        with joined(self.scope):
            is_folder = not isfilelike(target) and Path(target).is_dir()
            if not (kwargs or is_folder or _is_folder(rpath)):
                snapshot = self.obtain(rpath)
                if snapshot is not None:
                    with snapshot:
                        self._deliver(rpath, snapshot, target, callback)
                    return
            if outfile is not None:
                options["outfile"] = outfile
            self.beneath.get_file(rpath, lpath, **options)

    def _deliver(
        self, path: str, snapshot: Snapshot, target: Any, callback: Any
    ) -> None:
        callback.set_size(snapshot.size)
        if isfilelike(target):
            self._write(path, snapshot, target, callback)
            return
        Path(target).parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file:
            self._write(path, snapshot, file, callback)

    def _write(self, path: str, snapshot: Snapshot, file: Any, callback: Any) -> None:
        for start in range(0, snapshot.size, _CHUNK):
            end = min(start + _CHUNK, snapshot.size)
            try:
                data = snapshot.read(start, end)
            except Damaged:
                # What was written is the file's: it may be a pipe.
                data = self.reread(path, snapshot, start, end)
            file.write(data)
            callback.relative_update(len(data))

    # Opening

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        options = {name: it for name, it in kwargs.items() if it is not None}
        options.pop("autocommit", None)
        if mode == "rb" and not args and options.keys() <= _HARMLESS:
            with joined(self.scope):
                snapshot = self.obtain(path)
                if snapshot is None:
                    return super()._open(path, mode, **kwargs)
                return SnapshotFile(self, path, snapshot, options)
        return super()._open(path, mode, *args, **kwargs)


def _is_folder(path: Any) -> bool:
    """Tell whether a path names a folder, or the object by which some mark one.

    Its name, but for the slash, may be another object's.
    """
    return str(path).endswith("/")
