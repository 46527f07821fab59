"""The filesystem of the policy `listings`."""

from __future__ import annotations

import errno
import functools
import inspect
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from connectorkit.guarded import is_async
from connectorkit_cache.answers import Tree
from connectorkit_cache.asynchronous import AsyncLayer, bridged
from connectorkit_cache.delegation import before_magic
from connectorkit_cache.layer import Layer, bottom_of
from connectorkit_cache.states import shared
from connectorkit_cache.walking import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit import Connector
    from connectorkit_cache.listings import Listings

__all__ = ["ListingsFileSystem", "listings_of"]

# What a storage says when nothing is there: below a file, nothing can be.
_GONE = (FileNotFoundError, NotADirectoryError)
_TREES: Final = {"find", "glob"}
_POINTS: Final = {"exists", "info"}
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


@dataclass(frozen=True, slots=True)
class Answer:
    """What the storage answered, and when.

    Attributes:
        value: What it said; None if it said that nothing is there.
        is_there: Whether something is there.
        at: When it was asked.
    """

    value: Any
    is_there: bool
    at: float


def by_others(name: str) -> Any:
    """Make a method that is fsspec's, by those that are answered here."""
    fsspecs = getattr(AbstractFileSystem, name)

    @functools.wraps(fsspecs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return fsspecs(self, *args, **kwargs)

    return method


class ListingsFileSystem(Layer):
    """Answers what is there by what it has asked a moment ago."""

    policy: Listings

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._settings = self.policy.settings
        most = self._settings.max_entries
        self._known: Tree[Answer] = shared(self, lambda: Tree(most))
        bottom = bottom_of(self.inner)
        its = bottom._ls if is_async(bottom) else bottom.ls
        self._lists_detail = inspect.signature(its).parameters["detail"].default

    # Remembering

    def _held(self, key: str, what: Any) -> Answer | None:
        """Return an answer that still holds."""
        answer = self._known.get(key, what)
        if answer is None or not self._holds(answer.at, is_there=answer.is_there):
            return None
        return answer

    def _holds(self, at: float, *, is_there: bool) -> bool:
        its = self._settings
        most = its.seconds if is_there else min(its.missing_seconds, its.seconds)
        return self.scope.clock() - at < most

    def _asked(self, key: str, what: Any, ask: Callable[[], Any]) -> Any:
        """Return what the storage answers, now or a moment ago.

        Raises:
            FileNotFoundError: It says, or said, that nothing is there.
        """
        answer = self._held(key, what)
        self.teller.used("miss" if answer is None else "hit")
        if answer is not None:
            if answer.value is None:
                raise _missing(key)
            return answer.value
        since, now = self.changes.now, self.scope.clock()
        try:
            value = ask()
        except _GONE:
            self._keep(key, what, Answer(None, is_there=False, at=now), since)
            raise
        self._keep(key, what, Answer(value, bool(value), now), since)
        return value

    def _keep(self, key: str, what: Any, answer: Answer, since: int) -> None:
        if not self.changes.are_none(since, key):
            return
        # What is newer takes the place of all that says otherwise.
        if what[0] == "find":
            self._compare(key, what, answer)
        elif what[0] == "ls":
            for where in self._known.above(key):
                if where[1][0] in _TREES:  # type: ignore[index]
                    self._known.discard(*where)
        elif what[0] in _POINTS and self._says_otherwise(key, answer):
            self._known.forget_above(key)
        cost = 1
        if isinstance(answer.value, list | dict) and what[0] != "info":
            cost += len(answer.value)
        self.teller.evicted(self._known.put(key, answer, what, cost)[0])

    def _compare(self, key: str, what: Any, answer: Answer) -> None:
        """Forget listings of folders in which other files were found."""
        if len(what) > 3 and (what[2] or {*dict(what[3])} - {"detail"}):  # noqa: PLR2004
            # Who asks for a part of them has not found all.
            return
        files: dict[str, set[str]] = {}
        for path in map(self.key, answer.value or ()):
            files.setdefault(path.rpartition("/")[0], set()).add(path)
        for where, its in self._known.below(key):
            listed = self._known.get(where, its) if its == ("ls",) else None
            if listed is None:
                continue
            kept = {
                self.key(it["name"])
                for it in listed.value or ()
                if it["type"] != "directory"
            }
            if kept != files.get(where, set()):
                self._known.discard(where, its)

    def _says_otherwise(self, key: str, answer: Answer) -> bool:
        listed = self._listed(key)
        return (listed is not None and bool(listed[1]) != answer.is_there) or any(
            held.is_there != answer.is_there
            for what in (("info",), ("exists",))
            if (held := self._known.get(key, what)) is not None
        )

    def _listed(self, key: str) -> tuple[float, list[Any]] | None:
        """Look a path up in the listing of its folder; None if there is none.

        Returns:
            When it was listed, and what has this name: a file comes first.
        """
        parent, _, _ = key.rpartition("/")
        answer = self._held(parent, ("ls",)) if parent else None
        if answer is None or answer.value is None:
            return None
        found = [it for it in answer.value if self.key(it["name"]) == key]
        return answer.at, sorted(found, key=lambda it: it["type"] == "directory")

    def _by_listing(self, key: str) -> list[Any] | None:
        """Return what has a name, if a listing tells; None if it does not."""
        listed = self._listed(key)
        if listed is None or _is_versioned(key):
            return None
        at, found = listed
        if not found and not self._holds(at, is_there=False):
            return None
        self.teller.used("hit")
        return found

    # Answering

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
        if kwargs or _is_versioned(key):
            about: dict[str, Any] = self.beneath.info(path, **kwargs)
            return about
        found = self._by_listing(key)
        if found is None:
            return {**self._asked(key, ("info",), lambda: self.beneath.info(path))}
        if not found:
            raise _missing(key)
        return {**found[0]}

    def look(self, path: str) -> dict[str, Any]:
        """Ask the storage itself what a path is, and remember it."""
        key = self.key(path)
        since, now = self.changes.now, self.scope.clock()
        try:
            info = super().look(path)
        except _GONE:
            self._keep(key, ("info",), Answer(None, is_there=False, at=now), since)
            raise
        if not _is_versioned(key):
            self._keep(key, ("info",), Answer(info, is_there=True, at=now), since)
        return {**info}

    def exists(self, path: str, **kwargs: Any) -> bool:
        """Tell whether something is there."""
        key = self.key(path)
        if kwargs or _is_versioned(key):
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
        except _GONE:
            return False

    def isfile(self, path: str) -> bool:
        """Tell whether a file is there."""
        try:
            return bool(self.info(path)["type"] == "file")
        except _GONE:
            return False

    def isdir(self, path: str) -> bool:
        """Tell whether a folder is there."""
        key = self.key(path)
        found = self._by_listing(key)
        if found is not None:
            return any(it["type"] == "directory" for it in found)
        try:
            return bool(self._asked(key, ("isdir",), lambda: self.beneath.isdir(path)))
        except _GONE:
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


def _is_versioned(key: str) -> bool:
    """Tell whether a path may name a version: no listing has it by that name."""
    return "?" in key or "#" in key


def _missing(key: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)


def _copied(found: Any) -> Any:
    """Copy an answer: who gets it may change it."""
    if isinstance(found, dict):
        return {path: {**info} for path, info in found.items()}
    return [{**it} if isinstance(it, dict) else it for it in found]
