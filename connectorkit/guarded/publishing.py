"""Publishing: a whole file goes to a storage, by an attempt that can be made again."""

from __future__ import annotations

import contextlib
import inspect
import io
import os
import shutil
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from connectorkit.atomic import Beside
from connectorkit.guarded.inner import GONE, beneath, brings_either, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "SMALL",
    "appended",
    "copied",
    "has_own",
    "opening",
    "piped",
    "published",
    "put",
    "told",
    "waits",
]

# Up to so many bytes are held in memory; more in a temporary file.
SMALL: Final = 16 << 20
_CHUNK = 1 << 20
_memory_appends = threading.Lock()


def opening(mode: str) -> str:
    """Return how a file is opened that fsspec is asked to "create" or "overwrite"."""
    return "xb" if mode == "create" else "wb"


def waits(inner: AbstractFileSystem, path: str) -> bool:
    """Tell whether `pipe_file` is by `open`, and waits for a transaction's end."""
    fs, _ = beneath(inner, path)
    return isinstance(fs, MemoryFileSystem) or not brings_either(fs, "pipe_file")


def piped(
    inner: AbstractFileSystem,
    path: str,
    value: bytes,
    mode: str,
    options: Mapping[str, Any],
) -> None:
    """Write bytes to a file: one attempt at `pipe_file`."""
    fs, place = beneath(inner, path)
    if (target := local_path(inner, path)) is not None:
        with _landing(fs, target, mode) as beside:
            Path(beside).write_bytes(value)
    elif brings_either(fs, "pipe_file") and (mode != "create" or _knows_mode(fs)):
        inner.pipe_file(path, value, **told(mode), **options)
    else:
        published(fs, place, io.BytesIO(value), opening(mode), options)


def put(  # noqa: PLR0913, PLR0917 - fsspec's own signature
    inner: AbstractFileSystem,
    lpath: str,
    rpath: str,
    callback: Any,
    mode: str,
    options: Mapping[str, Any],
) -> None:
    """Copy a file of this machine to a storage: one attempt at `put_file`."""
    fs, place = beneath(inner, rpath)
    if (target := local_path(inner, rpath)) is not None:
        with _landing(fs, target, mode, lpath) as beside:
            fs.put_file(lpath, beside, callback=callback, **options)
    elif brings_either(fs, "put_file"):
        inner.put_file(lpath, rpath, callback=callback, **told(mode), **options)
    else:
        fs.makedirs(fs._parent(place), exist_ok=True)
        with Path(lpath).open("rb") as source:
            size = source.seek(0, io.SEEK_END)
            callback.set_size(size)
            published(fs, place, source, opening(mode), options)
            callback.relative_update(size)


def copied(
    inner: AbstractFileSystem, path1: str, path2: str, options: Mapping[str, Any]
) -> None:
    """Copy a file within a storage: one attempt at `cp_file`."""
    fs, source = beneath(inner, path1)
    target = local_path(inner, path2)
    if target is not None and fs.isfile(source):
        with _landing(fs, target, "overwrite", source) as beside:
            fs.cp_file(source, beside, **options)
    else:
        inner.cp_file(path1, path2, **options)


@contextlib.contextmanager
def _landing(
    fs: AbstractFileSystem, target: str, mode: str, source: str | None = None
) -> Iterator[str]:
    """Yield where to write what becomes a file of this machine."""
    if fs.auto_mkdir:
        fs.makedirs(fs._parent(target), exist_ok=True)
    if source is not None and _are_one(source, target):
        raise shutil.SameFileError(f"{source!r} and {target!r} are the same file")
    with Beside(target, is_new=mode == "create") as beside:
        yield beside.path


def _are_one(source: str, target: str) -> bool:
    try:
        return Path(source).samefile(target)
    except OSError:
        return False


def told(mode: str) -> dict[str, str]:
    """Return how a filesystem is told of a mode: not all know the usual one's name."""
    return {} if mode == "overwrite" else {"mode": mode}


def appended(path: str, source: IO[bytes]) -> None:
    """Append to a file of this machine; if that fails, it is as it was.

    Raises:
        OSError: It failed.
    """
    source.seek(0)
    with Path(path).open("ab", buffering=0) as file:
        start = os.fstat(file.fileno()).st_size
        count = 0
        try:
            while chunk := memoryview(source.read(_CHUNK)):
                while chunk:
                    written = file.write(chunk)
                    count += written
                    chunk = chunk[written:]
        except BaseException:
            # If somebody else appends to it, nothing tells what is whose.
            if os.fstat(file.fileno()).st_size == start + count:
                file.truncate(start)
            raise


def published(
    fs: AbstractFileSystem,
    path: str,
    source: IO[bytes],
    mode: str,
    options: Mapping[str, Any],
) -> None:
    """Write a file by the best way that its filesystem has: one attempt.

    One that writes small files by one request does. Else the file is written through
    the filesystem's own, not to be committed before all of it is there; what knows no
    such thing may be left with half of it, if it fails halfway.

    Args:
        fs: The filesystem that opens it.
        path: The file's path there.
        source: What to write, from its beginning.
        mode: "wb", "xb" or "ab".
        options: The filesystem's own, for `open`.

    Raises:
        FileExistsError: It is there, for "xb".
        Exception: What the filesystem raised.
    """
    if mode == "xb":
        _refuse_to_replace(fs, path)
    is_memory = isinstance(fs, MemoryFileSystem)
    if mode == "ab" and is_memory:
        _append_in_memory(fs, path, source)
    elif mode != "ab" and not options and _is_piped(fs, source, is_memory=is_memory):
        source.seek(0)
        create = {"mode": "create"} if mode == "xb" and _knows_mode(fs) else {}
        fs.pipe_file(path, source.read(), **create)
    elif brings_either(fs, "_open") or brings_either(fs, "open"):
        _stream(fs, path, source, mode, dict(options))
    else:
        # fsspec's own file would take it all and write it nowhere.
        raise NotImplementedError(f"{type(fs).__name__} cannot write a file.")


def _refuse_to_replace(fs: AbstractFileSystem, path: str) -> None:
    # Not by `exists`, which takes any error for a no.
    try:
        fs.info(path)
    except GONE:
        return
    raise FileExistsError(path)


def _append_in_memory(fs: MemoryFileSystem, path: str, source: IO[bytes]) -> None:
    # All who open it share one file with one place, which others move.
    source.seek(0)
    with _memory_appends:
        old = fs.store[path].getvalue() if path in fs.store else b""
        fs.pipe_file(path, old + source.read())


def _is_piped(fs: AbstractFileSystem, source: IO[bytes], *, is_memory: bool) -> bool:
    if not brings_either(fs, "pipe_file"):
        return False
    if is_memory or not (brings_either(fs, "_open") or brings_either(fs, "open")):
        return True
    return source.seek(0, io.SEEK_END) <= SMALL


def _knows_mode(fs: AbstractFileSystem) -> bool:
    return "mode" in inspect.signature(fs.pipe_file).parameters


def _stream(
    fs: AbstractFileSystem,
    path: str,
    source: IO[bytes],
    mode: str,
    options: dict[str, Any],
) -> None:
    try:
        file = _opened(fs, path, mode, options)
    except (NotImplementedError, ValueError):
        if mode != "xb":
            raise
        # It knows no exclusive mode; that nothing is there was seen a moment ago.
        file = _opened(fs, path, "wb", options)
    is_deferred = _is_deferred(file)
    try:
        source.seek(0)
        while chunk := source.read(_CHUNK):
            while chunk:
                written = file.write(chunk)
                chunk = chunk[written:] if isinstance(written, int) else b""
        file.close()
        if is_deferred:
            file.commit()
    except BaseException as error:
        _drop(file, error, is_deferred=is_deferred)
        raise


def _opened(
    fs: AbstractFileSystem, path: str, mode: str, options: dict[str, Any]
) -> Any:
    if type(fs).open is not AbstractFileSystem.open:
        return fs.open(path, mode, **options)
    # Not by `open`, which keeps what is not committed for a transaction.
    known = {"block_size": None, "cache_options": None, **options}
    return fs._open(path, mode=mode, autocommit=False, **known)


def _is_deferred(file: Any) -> bool:
    """Tell whether a file waits for its `commit`."""
    if getattr(file, "autocommit", False):
        return False
    return has_own(file, "commit") and has_own(file, "discard")


def has_own(file: Any, name: str) -> bool:
    """Tell whether a file has a method that is not fsspec's empty one."""
    if isinstance(file, AbstractBufferedFile):
        fsspecs = getattr(AbstractBufferedFile, name)
        return getattr(type(file), name) is not fsspecs or name in vars(file)
    return callable(getattr(file, name, None))


def _drop(file: Any, error: BaseException, *, is_deferred: bool) -> None:
    try:
        if isinstance(file, AbstractBufferedFile):
            # Else it would send the rest when it is collected.
            file.closed = True
        else:
            with contextlib.suppress(Exception):
                file.close()
        if is_deferred:
            file.discard()
    except Exception as left:  # noqa: BLE001 - the first error says more
        error.add_note(f"What was written of it may still be there: {left!r}")
