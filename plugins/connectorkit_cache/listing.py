"""The filesystem of the policy `listings`."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from connectorkit.guarded import is_async
from connectorkit_cache.asynchronous import AsyncLayer, bridged
from connectorkit_cache.delegation import before_magic
from connectorkit_cache.known import GONE, Answer, KnownLayer, is_versioned, missing
from connectorkit_cache.layer import bottom_of
from connectorkit_cache.walking import walk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit import Connector
    from connectorkit_cache.listings import Listings

__all__ = ["ListingsFileSystem", "listings_of"]

_ANSWERS: Final = (
    "du",
    "exists",
    "expand_path",
    "find",
    "glob",
    "info",
    "isdir",
    "isfile",
    "ls",
    "size",
    "walk",
)


def by_others(name: str) -> Any:
    """Make a method that is fsspec's, by those that are answered here."""
    fsspecs = getattr(AbstractFileSystem, name)

    @functools.wraps(fsspecs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fsspecs(self, *args, **kwargs)

    return method


class ListingsFileSystem(KnownLayer):
    """Answers what is there by what it has asked a moment ago."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        bottom = bottom_of(self.inner)
        its = bottom._ls if is_async(bottom) else bottom.ls
        self._lists_detail = inspect.signature(its).parameters["detail"].default

    def ls(self, path: str, *args: Any, **kwargs: Any) -> list[Any]:
        """List a folder; `refresh=True` asks the storage in any case."""
        detail = args[0] if args else kwargs.pop("detail", self._lists_detail)
        if kwargs.pop("refresh", False):
            self.changes.add([self.key(path)])
        if len(args) > 1 or kwargs:
            its: list[Any] = self.beneath.ls(path, *(args or (detail,)), **kwargs)
            return its
        found = self._asked(
            self.key(path), ("ls",), lambda: self.beneath.ls(path, detail=True)
        )
        return _copied(found) if detail else sorted(each["name"] for each in found)

    def info(self, path: str, **kwargs: Any) -> dict[str, Any]:
        """Say what a path is.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        key = self.key(path)
        if kwargs.pop("refresh", False):
            self._known.forget_above(key)
        if kwargs or is_versioned(key):
            about: dict[str, Any] = self.beneath.info(path, **kwargs)
            return about
        found = self._by_listing(key)
        if found is None:
            return {**self._asked(key, ("info",), lambda: self.beneath.info(path))}
        if not found:
            raise missing(key)
        return {**found[0]}

    def look(self, path: str) -> dict[str, Any]:
        """Ask the storage itself what a path is, and remember it."""
        key = self.key(path)
        since, now = self.changes.now, self.scope.clock()
        try:
            info = super().look(path)
        except GONE:
            self._keep(key, ("info",), Answer(None, is_there=False, at=now), since)
            raise
        if not is_versioned(key):
            self._keep(key, ("info",), Answer(info, is_there=True, at=now), since)
        return {**info}

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Tell whether something is there."""
        key = self.key(path)
        if kwargs.pop("refresh", False):
            self._known.forget_above(key)
        if kwargs or is_versioned(key):
            return bool(self.beneath.exists(path, **kwargs))
        found = self._by_listing(key)
        if found is not None:
            return bool(found)
        if (held := self._held(key, ("info",))) is not None:
            self.teller.used("hit")
            return held.is_there
        try:
            return bool(
                self._asked(key, ("exists",), lambda: self.beneath.exists(path))
            )
        except GONE:
            return False

    def isfile(self, path: str) -> bool:
        """Tell whether a file is there."""
        try:
            return bool(self.info(path)["type"] == "file")
        except GONE:
            return False

    def isdir(self, path: str) -> bool:
        """Tell whether a folder is there."""
        key = self.key(path)
        found = self._by_listing(key)
        if found is not None:
            return any(it["type"] == "directory" for it in found)
        try:
            return bool(self._asked(key, ("isdir",), lambda: self.beneath.isdir(path)))
        except GONE:
            return False

    def find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Return all files below a path."""
        return self._tree("find", path, args, kwargs)

    def glob(self, path: str, *args: Any, **kwargs: Any) -> Any:
        """Return what fits a pattern."""
        return self._tree("glob", path, args, kwargs)

    def _tree(
        self, name: str, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        what = name, path, args, tuple(sorted(kwargs.items()))

        def ask() -> Any:
            return getattr(self.beneath, name)(path, *args, **kwargs)

        try:
            hash(what)
        except TypeError:
            return ask()
        return _copied(self._asked(self.key(before_magic(path)), what, ask))

    def walk(self, path: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield each folder below a path, with the folders and files in it."""
        return walk(self, path, *args, **kwargs)

    du = by_others("du")
    expand_path = by_others("expand_path")
    lexists = by_others("lexists")
    size = by_others("size")
    sizes = by_others("sizes")


class AsyncListingsFileSystem(ListingsFileSystem, AsyncLayer):
    """The same around an asynchronous filesystem."""

    answers = _ANSWERS

    sizes = bridged("sizes")
    _sizes = AsyncFileSystem._sizes


def listings_of(
    fs: AbstractFileSystem, policy: Listings, connector: Connector
) -> AbstractFileSystem:
    """Lay the cache around a filesystem."""
    its = AsyncListingsFileSystem if is_async(fs) else ListingsFileSystem
    return its(fs, policy, connector)


def _copied(found: Any) -> Any:
    """Copy an answer: who gets it may change it."""
    if isinstance(found, dict):
        return {path: {**info} for path, info in found.items()}
    return [{**it} if isinstance(it, dict) else it for it in found]
