"""The filesystem of the policy `hot`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from connectorkit import CircuitOpen, ObjectChanged
from connectorkit.guarded import is_async
from connectorkit_cache.answers import Tree
from connectorkit_cache.asynchronous import AsyncLayer
from connectorkit_cache.flights import Flights, OutOfTime
from connectorkit_cache.objects import ANSWERS, ATTEMPTS, ObjectLayer
from connectorkit_cache.snapshot import Bytes, Damaged, Snapshot, tag_of
from connectorkit_cache.states import shared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

    from connectorkit import Connector
    from connectorkit_cache.hot import Hot

__all__ = ["HotFileSystem", "hot_of"]


# Bytes: about what an object takes beside its content.
_ABOUT: Final = 1 << 10


@dataclass(frozen=True, slots=True)
class Held:
    """An object, and when the storage was last asked about it."""

    info: Mapping[str, Any]
    data: bytes
    at: float


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came of a fetch.

    Attributes:
        held: What is there, if it is for this cache.
        result: "hit" if it is what was held, "miss" if it was fetched, or "around".
        info: What the storage said of what is not for this cache.
    """

    held: Held | None
    result: str = "around"
    info: Mapping[str, Any] | None = None


class Memory(Tree[Held]):
    """What is held, and what is being fetched."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.flights: Flights[Fetched] = Flights()


class HotFileSystem(ObjectLayer):
    """Reads small objects from memory."""

    policy: Hot

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._settings = self.policy.settings
        self._largest = self._settings.largest
        self._memory = shared(self, lambda: Memory(self._settings.max_bytes))

    def obtain(
        self, path: str, info: Mapping[str, Any] | None = None
    ) -> Snapshot | None:
        """Return what is held, or what the object is now."""
        del info
        key = self.key(path)
        held, result = self._memory.get(key), "hit"
        if held is None or self.scope.clock() - held.at >= self._settings.seconds:
            # Who has written since is not served what was fetched before.
            flight = key, self.changes.now
            try:
                fetched, is_ours = self._memory.flights.join(
                    flight, lambda: self._fetched(path, key, held), self.left
                )
            except OutOfTime:
                # Who reads around it is told so.
                fetched, is_ours = Fetched(None), True
            held, info = fetched.held, fetched.info
            if is_ours or fetched.result != "miss":
                result = fetched.result
        if held is not None:
            self.teller.used(result, len(held.data))
            return Bytes(held.info, held.data)
        self.teller.used("around")
        if isinstance(self.inner, ObjectLayer):
            return self.inner.obtain(path, info)
        return None

    def _fetched(self, path: str, key: str, held: Held | None) -> Fetched:
        since, now = self.changes.now, self.scope.clock()
        tag = None if held is None else tag_of(held.info)
        fetched = Fetched(None)
        for _ in range(ATTEMPTS):
            try:
                info = self.look(path)
            except PermissionError:
                # Who may not look at it may be allowed to read it.
                break
            except CircuitOpen:
                if isinstance(self.inner, ObjectLayer):
                    # It has a rule for this.
                    break
                raise
            if held is not None and tag is not None and tag == tag_of(info):
                fetched = Fetched(Held(info, held.data, now), "hit")
                break
            size = info.get("size")
            if info.get("type") != "file" or not 0 <= (size or 0) <= self._largest:
                fetched = Fetched(None, info=info)
                break
            try:
                fetched = self._read(path, info, now)
                break
            except ObjectChanged:
                continue
        if fetched.held is not None and self.changes.are_none(since, key):
            size = len(fetched.held.data) + _ABOUT
            self.teller.evicted(*self._memory.put(key, fetched.held, cost=size))
        return fetched

    def _read(self, path: str, info: Mapping[str, Any], now: float) -> Fetched:
        if isinstance(self.inner, ObjectLayer):
            snapshot = self.inner.obtain(path, info)
            if snapshot is None:
                return Fetched(None, info=info)
            with snapshot:
                if tag_of(snapshot.info) != tag_of(info):
                    raise ObjectChanged(f"{path!r} was replaced while it was read.")
                try:
                    data = snapshot.read(0, snapshot.size)
                except Damaged:
                    data = self.inner.reread(path, snapshot, 0, snapshot.size)
            return Fetched(Held(info, data, now), "miss")
        options = self.reading_version(info)
        data = self.beneath.cat_file(path, **(options or {}))
        if options is None:
            # Nothing says that they belong together.
            info = {"name": info["name"], "type": "file", "size": len(data)}
        if len(data) > self._largest:
            return Fetched(None)
        return Fetched(Held(info, data, now), "miss")

    def damaged(self, path: str, snapshot: Snapshot) -> None:
        """Let the cache within know: what is held here is in memory."""
        if isinstance(self.inner, ObjectLayer):
            self.inner.damaged(path, snapshot)


class AsyncHotFileSystem(HotFileSystem, AsyncLayer):
    """The same around an asynchronous filesystem."""

    answers = ANSWERS


def hot_of(
    fs: AbstractFileSystem, policy: Hot, connector: Connector
) -> AbstractFileSystem:
    """Lay the cache around a filesystem."""
    its = AsyncHotFileSystem if is_async(fs) else HotFileSystem
    return its(fs, policy, connector)
