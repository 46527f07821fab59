"""What is remembered by path: bounded, the longest not used out first."""

from __future__ import annotations

import itertools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator

__all__ = ["Tree"]

T = TypeVar("T")


class _Node:
    """A path's answers, and those below it."""

    __slots__ = ("below", "kept")

    def __init__(self) -> None:
        self.below: dict[str, _Node] = {}
        self.kept: set[Hashable] = set()


class Tree(Generic[T]):
    """Values by path and key; a path is forgotten with all below it, and those above.

    Args:
        most: What all of them may cost together.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Begin anew: a thread of the parent may have held the lock."""
        self._lock = threading.RLock()
        self._root = _Node()
        self._kept: OrderedDict[tuple[str, Hashable], tuple[T, int]] = OrderedDict()
        self.cost = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, path: str, key: Hashable = None) -> T | None:
        """Return what is remembered, or None."""
        with self._lock:
            found = self._kept.get((path, key))
            if found is None:
                return None
            self._kept.move_to_end((path, key))
            return found[0]

    def put(
        self, path: str, value: T, key: Hashable = None, cost: int = 1
    ) -> tuple[int, int]:
        """Remember a value; return how many had to leave for it, and their cost."""
        with self._lock:
            self.discard(path, key)
            self._kept[path, key] = value, cost
            self.cost += cost
            self._node(path).kept.add(key)
            entries = freed = 0
            while self.cost > self._most:
                where = next(iter(self._kept))
                entries, freed = entries + 1, freed + self._kept[where][1]
                self.discard(*where)
            return entries, freed

    def discard(self, path: str, key: Hashable = None) -> None:
        """Forget one value."""
        with self._lock:
            found = self._kept.pop((path, key), None)
            if found is not None:
                self.cost -= found[1]
                *_, (_, node) = self._way(path)
                node.kept.discard(key)
                self._prune(path)

    def forget(self, path: str) -> None:
        """Forget what is known of a path, of all below it, and of those above it."""
        with self._lock:
            self.forget_above(path)
            self.forget_below(path)

    def forget_above(self, path: str) -> None:
        """Forget what is known of a path and of those above it."""
        with self._lock:
            for above, node in [*self._way(path)]:
                self._clear(above, node)
            self._prune(path)

    def forget_below(self, path: str) -> None:
        """Forget what is known of a path and of all below it."""
        with self._lock:
            nodes = [*self._below(path)]
            for here, node in nodes:
                self._clear(here, node)
            if nodes:
                nodes[0][1].below.clear()
            self._prune(path)

    def above(self, path: str) -> list[tuple[str, Hashable]]:
        """Return under which keys something is known of a path and of those above."""
        with self._lock:
            return [(here, key) for here, it in self._way(path) for key in it.kept]

    def below(self, path: str) -> list[tuple[str, Hashable]]:
        """Return under which keys something is known of a path and of all below it."""
        with self._lock:
            return [(here, key) for here, it in self._below(path) for key in it.kept]

    def _below(self, path: str) -> Iterator[tuple[str, _Node]]:
        *_, (there, top) = self._way(path)
        waiting = [(path, top)] if there == path else []
        while waiting:
            here, node = waiting.pop()
            yield here, node
            waiting += (
                (f"{here}/{name}" if here else name, below)
                for name, below in node.below.items()
            )

    def _clear(self, path: str, node: _Node) -> None:
        for key in node.kept:
            _, cost = self._kept.pop((path, key))
            self.cost -= cost
        node.kept.clear()

    def _node(self, path: str) -> _Node:
        node = self._root
        for name in path.split("/") if path else ():
            node = node.below.setdefault(name, _Node())
        return node

    def _way(self, path: str) -> Iterator[tuple[str, _Node]]:
        """Yield the nodes from the root to a path, as far as there are any."""
        node, here = self._root, ""
        yield here, node
        for name in path.split("/") if path else ():
            if (below := node.below.get(name)) is None:
                return
            node, here = below, f"{here}/{name}" if here else name
            yield here, node

    def _prune(self, path: str) -> None:
        """Remove the nodes at the end of a way that hold nothing."""
        way = [*self._way(path)]
        for (_, above), (here, node) in reversed([*itertools.pairwise(way)]):
            if node.kept or node.below:
                return
            del above.below[here.rpartition("/")[2]]
