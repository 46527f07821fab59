"""The filesystem of the policy `content`."""

from __future__ import annotations

import contextlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectorkit import CircuitOpen, ObjectChanged, WrongAnswer
from connectorkit.guarded import is_async
from connectorkit_cache.answers import Tree
from connectorkit_cache.asynchronous import AsyncLayer, in_thread
from connectorkit_cache.entry import Unusable, length_for
from connectorkit_cache.flights import OutOfTime
from connectorkit_cache.objects import ANSWERS, ATTEMPTS, ObjectLayer
from connectorkit_cache.snapshot import Damaged, Snapshot, tag_of
from connectorkit_cache.states import shared
from connectorkit_cache.store import store_at
from connectorkit_cache.stream import ThreadedStream
from connectorkit_cache.usage import on_disk

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsspec import AbstractFileSystem

    from connectorkit import Connector
    from connectorkit_cache.content import Content
    from connectorkit_cache.entry import Entry, Sink

__all__ = ["ContentFileSystem", "content_of"]

_CHUNK = 1 << 20
# So many objects stay known for when nobody can ask about them.
_MOST_SEEN = 10_000


@dataclass(frozen=True, slots=True)
class Seen:
    """What the storage said of an object, and when."""

    info: Mapping[str, Any]
    tag: tuple[str, ...]
    at: float


class ContentFileSystem(ObjectLayer):
    """Reads objects by entries on disk."""

    policy: Content

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._settings = self.policy.settings
        self._store = store_at(self._settings.folder)
        self._seen: Tree[Seen] = shared(self, lambda: Tree(_MOST_SEEN))
        self._identity = b"", ""

    def obtain(  # noqa: C901 - each way around it is a line
        self, path: str, info: Mapping[str, Any] | None = None
    ) -> Snapshot | None:
        """Return the entry of what the object is now, fetched if there is none."""
        key = self.key(path)
        for _ in range(ATTEMPTS):
            since = self.changes.now
            try:
                seen = self._looked(path, key, info)
            except CircuitOpen:
                if (stale := self._stale(path, key)) is None:
                    raise
                return stale
            except PermissionError:
                # Who may not look at it may be allowed to read it.
                break
            self.teller.settle("stale")
            if seen is None or not self._is_for_this(seen.info["size"]):
                break
            try:
                entry, is_new = self._entry(path, key, seen)
            except ObjectChanged:
                self._seen.discard(key)
                info = None
                continue
            except OutOfTime:
                # Who reads around it is told so.
                break
            except Unusable as error:
                self._say(error)
                if error.is_full:
                    self._shrink(seen.info["size"])
                break
            self.teller.settle("unusable")
            if self.changes.are_none(since, key):
                self._seen.put(key, seen)
            self.teller.used("miss" if is_new else "hit", entry.size)
            return entry
        self.teller.used("around")
        return None

    def _is_for_this(self, size: int) -> bool:
        its = self._settings
        return size <= its.largest and on_disk(length_for(size)) <= its.max_bytes

    def _looked(
        self, path: str, key: str, info: Mapping[str, Any] | None
    ) -> Seen | None:
        """Ask what an object is; None if nothing names its version."""
        now = self.scope.clock()
        seen = self._seen.get(key) if self._settings.seconds else None
        if seen is not None and now - seen.at < self._settings.seconds:
            return seen
        if info is None:
            info = self.look(path)
        tag = tag_of(info)
        return None if tag is None else Seen(info, tag, now)

    def _entry(self, path: str, key: str, seen: Seen) -> tuple[Entry, bool]:
        """Return an entry, and whether it was fetched for this.

        Raises:
            ObjectChanged: It is not what was seen any more.
            Unusable: The directory cannot be used.
        """
        name = self._entry_name(key, seen.tag)
        for _ in range(ATTEMPTS):
            try:
                if (entry := self._store.find(name, seen.info)) is not None:
                    return entry, False
            except Damaged:
                self._tell_damaged()
            entry, is_ours = self._store.flights.join(
                name, lambda: self._fill(path, name, seen), self.left
            )
            if entry is not None and is_ours:
                return entry, True
        raise Unusable("entries leave it as soon as they are there")

    def _entry_name(self, key: str, tag: tuple[str, ...]) -> str:
        if self._identity[0] != (by := self._store.key()):
            self._identity = by, self.connector.fingerprint(by)
        return self._store.name(self._identity[1], key, tag)

    def _fill(self, path: str, name: str, seen: Seen) -> Entry | None:
        def write(sink: Sink) -> None:
            self._fetch(path, seen, sink)

        about = {"connector": self.scope.connector, "type": self.scope.type}
        return self._store.fill(
            name,
            seen.info,
            write,
            about,
            self._settings,
            self.teller.evicted,
            self.left(),
        )

    def _fetch(self, path: str, seen: Seen, sink: Sink) -> None:
        options = self.reading_version(seen.info)
        try:
            if options is not None:
                self.beneath.get_file(path, None, outfile=sink, **options)
                return
            failed = self._copy(path, sink)
            now = tag_of(self.look(path))
        except FileNotFoundError as error:
            raise ObjectChanged(f"{path!r} was deleted while it was read.") from error
        if now != seen.tag:
            raise ObjectChanged(f"{path!r} was replaced while it was read.") from failed
        if failed is not None:
            raise failed

    def _copy(self, path: str, sink: Sink) -> Exception | None:
        """Copy what is there, of a storage that cannot be asked for one version.

        Returns:
            An error that may be because it was replaced meanwhile.
        """
        try:
            if getattr(self.inner, "asynchronous", False):
                # Its files would have to be read on the host's loop.
                sink.write(self.beneath.cat_file(path))
            else:
                with self.inner.open(path, "rb") as file:
                    shutil.copyfileobj(file, sink, _CHUNK)
        except WrongAnswer as error:
            return error
        return None

    def _stale(self, path: str, key: str) -> Snapshot | None:
        """Return what this process has seen last, if it is still there."""
        seen = self._seen.get(key)
        if seen is None or not self._settings.stale:
            return None
        try:
            entry = self._store.find(self._entry_name(key, seen.tag), seen.info)
        except (Damaged, Unusable):
            return None
        if entry is not None:
            self.teller.used("stale", entry.size)
            self.teller.say_once(
                "stale",
                "the circuit is open, so objects are served that nobody could ask "
                f"about, the first of them {path!r}.",
            )
        return entry

    def _shrink(self, size: int) -> None:
        """Let go of what the next one of this size needs: others need the disk, too."""
        with contextlib.suppress(OSError):
            self.teller.evicted(*self._store.usage.give_up(2 * size))

    def damaged(self, path: str, snapshot: Snapshot) -> None:
        """Remove an entry that is not what it was."""
        del path
        self._store.remove(snapshot.name)  # type: ignore[attr-defined]
        self._tell_damaged()

    def _tell_damaged(self) -> None:
        self.teller.say_once(
            "damaged",
            f"an entry in {self._settings.folder} is damaged; it is fetched again.",
        )

    def _say(self, error: Unusable) -> None:
        self.teller.say_once(
            "unusable",
            f"{self._settings.folder} cannot be used, so objects are read around it: "
            f"{error}.",
        )


class AsyncContentFileSystem(ContentFileSystem, AsyncLayer):
    """The same around an asynchronous filesystem."""

    answers = ANSWERS

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """Open a file whose methods are coroutines."""
        if mode == "rb" and not kwargs:
            file = await in_thread(self.open, path, mode)
            return ThreadedStream(file)
        return await super().open_async(path, mode, **kwargs)


def content_of(
    fs: AbstractFileSystem, policy: Content, connector: Connector
) -> AbstractFileSystem:
    """Lay the cache around a filesystem."""
    its = AsyncContentFileSystem if is_async(fs) else ContentFileSystem
    return its(fs, policy, connector)
