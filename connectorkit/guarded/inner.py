"""What there is to know of a filesystem before it is guarded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem

from connectorkit.objects import modified_date

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "GONE",
    "beneath",
    "brings",
    "brings_either",
    "is_async",
    "local_path",
    "version",
]

# What a storage says when nothing is there: below a file, nothing can be.
GONE: Final = (FileNotFoundError, NotADirectoryError)

# What tells two versions of a file apart, in the words of several storages.
_TELLING: Final = (
    "ETag",
    "etag",
    "e_tag",
    "generation",
    "version",
    "versionId",
    "VersionId",
    "version_id",
    "md5Hash",
    "content_md5",
    "ino",
)


def is_async(fs: AbstractFileSystem) -> bool:
    """Tell whether its coroutines work: a DirFileSystem has them in any case."""
    while isinstance(fs, DirFileSystem):
        if not fs.async_impl:
            return False
        fs = fs.fs
    return bool(fs.async_impl)


def brings(fs: AbstractFileSystem, name: str) -> bool:
    """Tell whether a class has a method of its own, in place of fsspec's.

    What a DirFileSystem hands on is that of the filesystem below.
    """
    handed_on = vars(DirFileSystem).get(name)
    own = getattr(type(fs), name, None)
    while own is not None and own is handed_on:
        fs = fs.fs
        own = getattr(type(fs), name, None)
    fsspecs = (getattr(base, name, None) for base in _BASES)
    return own is not None and all(own is not each for each in fsspecs)


def brings_either(fs: AbstractFileSystem, name: str) -> bool:
    """Tell whether a class has a method of its own, or the coroutine of that name."""
    return brings(fs, name) or brings(fs, f"_{name}")


_BASES: Final = (AbstractFileSystem, AsyncFileSystem)


def beneath(fs: AbstractFileSystem, path: str) -> tuple[AbstractFileSystem, str]:
    """Return the filesystem that opens a path's file, and the path there."""
    while type(fs).open is DirFileSystem.open:
        path, fs = fs._join(path), fs.fs
    return fs, fs._strip_protocol(path)


def local_path(fs: AbstractFileSystem, path: str) -> str | None:
    """Return where on this machine a file is; None if fsspec's own does not open it."""
    fs, path = beneath(fs, path)
    is_local = isinstance(fs, LocalFileSystem)
    return path if is_local and type(fs)._open is LocalFileSystem._open else None


def version(info: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return what changes when a file does, as far as its storage says."""
    return (
        info.get("size"),
        modified_date(info),
        *(info[key] for key in _TELLING if key in info),
    )
