"""What `listings` knows: answers of the storage, and which of them still hold."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from connectorkit.guarded.inner import GONE
from connectorkit_cache.answers import Tree
from connectorkit_cache.layer import Layer
from connectorkit_cache.states import shared

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit_cache.listings import Listings

__all__ = ["GONE", "Answer", "KnownLayer", "is_versioned", "missing"]

_TREES: Final = {"find", "glob"}
_POINTS: Final = {"exists", "info"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the storage answered, and when.

    Attributes:
        value: What it said; None if it said that nothing is there.
        is_there: Whether something is there.
        at: When it was asked.
        by_key: What a listing has, by its key; empty until somebody looks there.
    """

    value: Any
    is_there: bool
    at: float
    by_key: dict[str, list[Any]] = field(default_factory=dict)


class KnownLayer(Layer):
    """Remembers answers, each by its path and what was asked."""

    policy: Listings

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._settings = self.policy.settings
        most = self._settings.max_entries
        self._known: Tree[Answer] = shared(self, lambda: Tree(most))

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
                raise missing(key)
            return answer.value
        since, now = self.changes.now, self.scope.clock()
        try:
            value = ask()
        except GONE:
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
        if not answer.by_key:
            by_key: dict[str, list[Any]] = {}
            for it in sorted(answer.value, key=lambda it: it["type"] == "directory"):
                by_key.setdefault(self.key(it["name"]), []).append(it)
            # All at once, for other threads.
            answer.by_key.update(by_key)
        return answer.at, answer.by_key.get(key, [])

    def _by_listing(self, key: str) -> list[Any] | None:
        """Return what has a name, if a listing tells; None if it does not."""
        listed = self._listed(key)
        if listed is None or is_versioned(key):
            return None
        at, found = listed
        if not found and not self._holds(at, is_there=False):
            return None
        self.teller.used("hit")
        return found


def is_versioned(key: str) -> bool:
    """Tell whether a path may name a version: no listing has it by that name."""
    return "?" in key or "#" in key


def missing(key: str) -> FileNotFoundError:
    """Return the error that says that nothing is there."""
    return FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key)
