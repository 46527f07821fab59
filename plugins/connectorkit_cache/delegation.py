"""Delegation: which methods of a filesystem do what, for who wraps one."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem
from fsspec.core import has_magic

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["READS", "WRITES", "areading", "awriting", "named", "reading", "writing"]

# By other methods of the filesystem fsspec makes what stands in neither.
READS: Final = (
    "cat_file",
    "cat_ranges",
    "checksum",
    "created",
    "du",
    "exists",
    "expand_path",
    "find",
    "get_file",
    "glob",
    "info",
    "isdir",
    "isfile",
    "lexists",
    "ls",
    "modified",
    "sign",
    "size",
    "sizes",
    "ukey",
    "walk",
)
WRITES: Final = (
    "copy",
    "cp_file",
    "makedirs",
    "mkdir",
    "mv",
    "pipe",
    "pipe_file",
    "put",
    "put_file",
    "rm",
    "rm_file",
    "rmdir",
    "touch",
)


def reading(name: str) -> Any:
    """Make a method that is the inner filesystem's."""

    @functools.wraps(getattr(AbstractFileSystem, name))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self.beneath, name)(*args, **kwargs)

    return method


def writing(name: str) -> Any:
    """Make a method that is the inner filesystem's; what it may change is forgotten."""

    @functools.wraps(getattr(AbstractFileSystem, name))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return getattr(self.beneath, name)(*args, **kwargs)
        finally:
            # A write that failed may have been done.
            self.forget_all_of(args, kwargs)

    return method


def areading(name: str) -> Any:
    """Make a coroutine that is the inner filesystem's."""

    @functools.wraps(_of_asynchronous(name))
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await getattr(self.inner, f"_{name}")(*args, **kwargs)

    return method


def awriting(name: str) -> Any:
    """Make a coroutine that is the inner filesystem's, and forgets as `writing`."""

    @functools.wraps(_of_asynchronous(name))
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await getattr(self.inner, f"_{name}")(*args, **kwargs)
        finally:
            self.forget_all_of(args, kwargs)

    return method


def named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[str]:
    """Yield the paths that a method was called with; of a pattern, its folder."""
    for value in (*args, *kwargs.values()):
        several = value if isinstance(value, list | tuple | set | dict) else (value,)
        for each in several:
            if isinstance(each, str | os.PathLike):
                yield before_magic(os.fspath(each))


def before_magic(path: str) -> str:
    """Return the folder in which all lies that a pattern may fit."""
    while has_magic(path):
        path = path.rpartition("/")[0]
    return path


def _of_asynchronous(name: str) -> Any:
    return getattr(AsyncFileSystem, f"_{name}", getattr(AbstractFileSystem, name, name))
