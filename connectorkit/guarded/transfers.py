"""Transfers: what is read or written by a guarded filesystem is whole or not at all."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import isfilelike, stringify_path

from connectorkit.call import joined
from connectorkit.guarded.arrival import Arrival
from connectorkit.guarded.inner import (
    GONE,
    brings,
    brings_either,
    local_path,
    version,
)
from connectorkit.guarded.methods import handed_on
from connectorkit.guarded.publishing import copied, opening, piped, put, told, waits
from connectorkit.guarded.reading import guarded_file
from connectorkit.guarded.staging import StagedFile, stage
from connectorkit.guarded.versions import changed
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit.operation import Operation
    from connectorkit.pipeline import Pipeline

__all__ = ["Transfers", "getting", "repeated", "size_of", "told"]


class Transfers:
    """The part of a guarded filesystem that moves whole files, and opens them."""

    inner: AbstractFileSystem
    pipeline: Pipeline
    _intrans: bool
    _run: Callable[..., Any]
    _seen: Callable[[str], dict[str, Any] | None]
    info: Callable[..., dict[str, Any]]
    makedirs: Callable[..., None]
    open: Callable[..., Any]

    # Writing

    def pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        """Write a file.

        Args:
            path: The file.
            value: All of it.
            mode: "create" refuses to replace one that is there.
            kwargs: The inner filesystem's own.

        Raises:
            FileExistsError: It is there, and must not be.
        """
        if self._intrans and waits(self.inner, path):
            with self.open(path, opening(mode), **kwargs) as file:
                file.write(value)
            return

        def attempt(op: Operation) -> None:
            piped(self.inner, path, value, mode, kwargs)
            op.origin.bytes = op.size

        size = memoryview(value).nbytes
        facts = {"size": size, "is_repeatable": mode != "create"}
        self._run("pipe_file", Kind.WRITE, path, attempt, **facts)

    def put_file(
        self,
        lpath: str,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        mode: str = "overwrite",
        **kwargs: Any,
    ) -> None:
        """Copy a file of this machine to the storage; for a folder, make one.

        Args:
            lpath: The file here.
            rpath: The file there.
            callback: Told of bytes as they pass.
            mode: "create" refuses to replace one that is there.
            kwargs: The inner filesystem's own.

        Raises:
            FileExistsError: It is there, and must not be.
        """
        lpath = stringify_path(lpath)
        if Path(lpath).is_dir():
            self.makedirs(rpath, exist_ok=True)
            return
        if self._intrans and not brings_either(self.inner, "put_file"):
            AbstractFileSystem.put_file(self, lpath, rpath, callback, mode, **kwargs)
            return

        def attempt(op: Operation) -> None:
            put(self.inner, lpath, rpath, callback, mode, kwargs)
            op.origin.bytes = op.size

        facts = {"size": size_of(lpath), "is_repeatable": mode != "create"}
        self._run("put_file", Kind.WRITE, rpath, attempt, **facts)

    def cp_file(self, path1: str, path2: str, **kwargs: Any) -> None:
        """Copy a file within the storage."""
        self._run(
            "cp_file",
            Kind.WRITE,
            path1,
            lambda _op: copied(self.inner, path1, path2, kwargs),
        )

    # Reading

    def get_file(
        self,
        rpath: str,
        lpath: Any = None,
        callback: Any = DEFAULT_CALLBACK,
        outfile: Any = None,
        **kwargs: Any,
    ) -> None:
        """Copy a file of the storage to this machine; for a folder, make one.

        It appears when all of it is there, and until then what was there before stays.

        Args:
            rpath: The file there.
            lpath: The file here, or something to write to.
            callback: Told of bytes as they pass.
            outfile: Something to write to.
            kwargs: The inner filesystem's own.

        Raises:
            ObjectChanged: It was replaced meanwhile.
        """
        is_file = outfile is not None
        if not is_file and local_path(self.inner, rpath) is not None:
            # As fsspec's own does: it may begin with ~.
            lpath = (
                lpath if isfilelike(lpath) else LocalFileSystem._strip_protocol(lpath)
            )
        arrival = Arrival(outfile if is_file else lpath, is_file=is_file)
        with joined(self.pipeline.scope):
            before = self._seen(rpath)
            if arrival.is_folder(before):
                return
            with arrival:

                def attempt(op: Operation) -> None:
                    place = arrival.begin()
                    try:
                        self.inner.get_file(rpath, place, callback=callback, **kwargs)
                    except Exception as error:
                        arrival.failed(error)
                        raise
                    op.origin.bytes = arrival.size()

                facts = getting(before, arrival)
                self._run("get_file", Kind.READ, rpath, attempt, **facts)
                self._compare(rpath, before)

    def cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> list[Any]:
        """Read ranges of files; several of one file are of one version of it.

        Args:
            paths: The files.
            starts: Where each range begins, or where all do.
            ends: Where each range ends, or where all do.
            max_gap: Join ranges of a file that are so near, if the storage can.
            on_error: "return" puts errors into the list.
            kwargs: The inner filesystem's own.

        Raises:
            ObjectChanged: A file was replaced meanwhile.
        """
        more = {"on_error": on_error, **kwargs}
        if max_gap is not None:
            more["max_gap"] = max_gap
        with joined(self.pipeline.scope):
            seen = {path: self._seen(path) for path in repeated(paths)}
            if brings(self.inner, "cat_ranges"):
                ranges = self._run(
                    "cat_ranges",
                    Kind.READ,
                    next(iter(paths), ""),
                    lambda _op: self.inner.cat_ranges(paths, starts, ends, **more),
                )
            else:
                ranges = AbstractFileSystem.cat_ranges(
                    self, paths, starts, ends, **more
                )
            for path, before in seen.items():
                self._compare(path, before)
        found: list[Any] = ranges if on_error == "return" else handed_on(ranges)
        return found

    def _compare(self, path: str, before: dict[str, Any] | None) -> None:
        """Raise if a file is not what it was, as far as its storage tells."""
        if before is None:
            return
        try:
            now = self.info(path)
        except GONE as error:
            raise changed(path) from error
        if version(now) != version(before):
            raise changed(path)

    # Opening

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        options = {"block_size": block_size, "cache_options": cache_options}
        options = {k: v for k, v in options.items() if v is not None} | kwargs
        first = next((each for each in mode if each in "rwax"), "r")
        is_both = "+" in mode
        if first == "r" or (first == "a" and is_both):
            its = f"{first}+b" if is_both else "rb"
            file = self._run(
                "open",
                Kind.WRITE if is_both else Kind.READ,
                path,
                lambda _op: self.inner.open(path, its, **options),
                is_repeatable=not is_both,
            )
            return guarded_file(self, path, its, file, options)
        return StagedFile(
            self,
            path,
            f"{first}+b" if is_both else f"{first}b",
            stage(self, path, f"{first}b", options),
            autocommit=autocommit,
        )


def size_of(path: str) -> int:
    """Return how many bytes a file of this machine has; 0 if that does not show."""
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def getting(before: Mapping[str, Any] | None, arrival: Arrival) -> dict[str, Any]:
    """Return what is known of an operation that gets a file."""
    size = (before or {}).get("size") or 0
    return {"size": size, "is_repeatable": arrival.is_repeatable}


def repeated(paths: Any) -> list[str]:
    """Return the paths of which several ranges are asked for."""
    if not isinstance(paths, list):
        return []
    return [path for path, count in Counter(paths).items() if count > 1]
