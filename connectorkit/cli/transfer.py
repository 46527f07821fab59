"""Copying a file from one place to another: the whole of it, or nothing."""

from __future__ import annotations

import contextlib
import secrets
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from connectorkit.atomic import replacing
from connectorkit.cli.exits import NOT_FOUND, Failure, OutputClosed
from connectorkit.cli.places import BLOCK, STANDARD, Place
from connectorkit.releasable import Releasable

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

__all__ = ["chunks", "copy", "to_stdout"]

_CHUNK = 1 << 20
# S3 takes 10,000 parts of one size; a file may grow while it is read.
_MOST_PARTS = 9_000


def copy(
    source: Place, target: Place, size: int | None, advance: Callable[[int], None]
) -> int:
    """Copy a file and return its number of bytes.

    Until all of it is there, what `target` held before stays.

    Args:
        source: An existing file, or standard input.
        target: A file that may exist, or standard output.
        size: How many bytes are expected; None if nobody knows.
        advance: Told of bytes as they pass.

    Raises:
        Failure: One of the two refused; names it.
    """
    if target.text == STANDARD:
        return to_stdout(source, advance)
    if size is not None and _are_one_storage(source, target):
        with target.told():
            target.fs.cp_file(source.path, target.path)
        advance(size)
        return size
    count = 0
    with target.told(), _writing(target, size or 0) as file:
        for chunk in chunks(source):
            file.write(chunk)
            count += len(chunk)
            advance(len(chunk))
    return count


def to_stdout(source: Place, advance: Callable[[int], None] = lambda _n: None) -> int:
    """Write a file to standard output and return its number of bytes.

    Raises:
        OutputClosed: Nobody reads it any more.
        Failure: The source refused.
    """
    count, out = 0, sys.stdout.buffer
    for chunk in chunks(source):
        try:
            out.write(chunk)
            out.flush()
        except BrokenPipeError:
            raise OutputClosed from None
        count += len(chunk)
        advance(len(chunk))
    return count


def chunks(source: Place) -> Iterator[bytes]:
    """Yield the content of a file.

    Raises:
        Failure: The source refused, or what came is not all there was.
    """
    if source.text == STANDARD:
        # Not read, which between the pieces of a chunk hears no signal.
        read = cast("io.BufferedReader", sys.stdin.buffer).read1
        while chunk := read(_CHUNK):
            yield chunk
        return
    with source.told(), source.open() as file:
        count = 0
        while chunk := file.read(_CHUNK):
            count += len(chunk)
            yield chunk
        size = getattr(file, "size", None)
        if isinstance(size, int) and size != count:
            raise OSError(
                f"{count} bytes came of {size}: the object changed, or the storage "
                "fell short; try again"
            )


def _are_one_storage(source: Place, target: Place) -> bool:
    """Tell whether a storage can copy by itself, with no half-written object."""
    if source.connector is None or target.connector is None:
        return False
    return source.fs is target.fs and isinstance(_beneath(source.fs), Releasable)


def _beneath(fs: AbstractFileSystem) -> Any:
    """Return what fsspec's wrappers are wrapped around."""
    while not isinstance(fs, Releasable) and not _is_guarded(fs) and hasattr(fs, "fs"):
        fs = fs.fs
    return fs


def _is_guarded(fs: AbstractFileSystem) -> bool:
    from connectorkit.guarded import GuardedFileSystem

    return isinstance(fs, GuardedFileSystem)


def local_path(place: Place) -> Path | None:
    """Return where on this machine a place is, or None if it is elsewhere."""
    path, fs = place.path, place.fs
    while _is_guarded(fs) or (hasattr(fs, "fs") and hasattr(fs, "_join")):
        if _is_guarded(fs):
            fs = fs.inner
        else:
            path, fs = fs._join(path), fs.fs
    return Path(path) if getattr(fs, "local_file", False) else None


def _writing(target: Place, size: int) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Open a file so that an exception leaves what was there before."""
    if _is_guarded(_beneath(target.fs)):
        return cast(
            "contextlib.AbstractContextManager[IO[bytes]]",
            target.fs.open(target.path, "wb"),
        )
    if (path := local_path(target)) is not None:
        return _replacing(path)
    if isinstance(_beneath(target.fs), Releasable):
        return _uploading(target, size)
    return _moving(target)


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """Write a file of this machine beside its place, then rename it."""
    path.resolve().parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        yield file


def _uploading(
    target: Place, size: int
) -> contextlib.AbstractContextManager[IO[bytes]]:
    """Write an object, which appears when its upload is completed."""
    if "/" not in target.path:
        raise Failure(
            f"{target}: there is no such bucket: write ID:bucket/name.", NOT_FOUND
        )
    part = max(BLOCK, -(-size // _MOST_PARTS))
    # gcsfs wants multiples of 256 KiB.
    part = -(-part // _CHUNK) * _CHUNK
    return cast(
        "contextlib.AbstractContextManager[IO[bytes]]",
        target.fs.open(target.path, "wb", block_size=part),
    )


@contextlib.contextmanager
def _moving(target: Place) -> Iterator[IO[bytes]]:
    """Write beside the place on the storage, then move it there."""
    fs, path = target.fs, target.path
    folder, slash, _ = path.rpartition("/")
    beside = f"{folder}{slash}{_passing_name()}"
    try:
        with fs.open(beside, "wb") as file:
            yield cast("IO[bytes]", file)
        fs.mv(beside, path)
    except BaseException:
        with contextlib.suppress(Exception):
            fs.rm_file(beside)
        raise


def _passing_name() -> str:
    return f".connectorkit-{secrets.token_hex(6)}.part"
