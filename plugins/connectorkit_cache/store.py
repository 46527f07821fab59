"""The store: a directory of entries that all processes of a machine share.

```
DIRECTORY/v1/key                      32 bytes by which names are made
DIRECTORY/v1/usage                    how many bytes all of them take; locked to count
DIRECTORY/v1/objects/ab/ab…           an entry
DIRECTORY/v1/objects/ab/ab….part      an entry that is being filled, locked by who does
```

An entry takes its name when it is whole. Who is killed while filling one leaves a part,
whose lock is free at once: the next one begins it anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import threading
import time
from typing import TYPE_CHECKING, Any

from connectorkit.fork import renew_in_child
from connectorkit_cache.entry import Entry, Sink, Unusable, length_for, seal
from connectorkit_cache.flights import Flights, OutOfTime
from connectorkit_cache.locks import locked
from connectorkit_cache.snapshot import Damaged
from connectorkit_cache.usage import Usage, on_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from connectorkit_cache.settings import ContentSettings

__all__ = ["Store", "store_at"]

_KEY_SIZE = 32
_STUCK = "another process fills the entry and does not get on"
# By real time, as other processes work; in times of the patience.
_UNTIL = 10


class Store:
    """A cache's directory.

    Args:
        directory: Where it is; made when it is first needed, for this user alone.
    """

    def __init__(self, directory: Path) -> None:
        self.root = directory / "v1"
        self.objects = self.root / "objects"
        self.usage = Usage(self.root / "usage", self.objects)
        self.flights: Flights[Entry | None] = Flights()
        self._key: bytes | None = None
        # Until when nobody waits for who does not get on.
        self._given_up: dict[str, float] = {}

    # Names

    def key(self) -> bytes:
        """Return the key by which names are made, the same for all processes.

        Raises:
            Unusable: There is none, and none can be made.
        """
        if self._key is None:
            with _troubles():
                self._prepare()
                self._key = self._read_key(secrets.token_bytes(_KEY_SIZE))
        return self._key

    def name(self, identity: str, path: str, tag: tuple[str, ...]) -> str:
        """Return the name of the entry of an object: it says nothing of it."""
        told = "\0".join([identity, path, *tag]).encode(errors="surrogatepass")
        return hashlib.blake2b(told, key=self.key(), digest_size=24).hexdigest()

    def _place(self, name: str) -> Path:
        return self.objects / name[:2] / name

    def _prepare(self) -> None:
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = self.root.stat()
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise Unusable("others may write to it")
        self.objects.mkdir(mode=0o700, exist_ok=True)

    def _read_key(self, new: bytes) -> bytes:
        """Return the key, which is `new` if there was none."""
        path = self.root / "key"
        with contextlib.suppress(FileNotFoundError):
            return _whole(path)
        mine = path.with_name(f"key.{secrets.token_hex(8)}")
        mine.touch(mode=0o600)
        try:
            mine.write_bytes(new)
            # Of several that make one, the first is the one of all.
            with contextlib.suppress(FileExistsError):
                path.hardlink_to(mine)
        finally:
            mine.unlink()
        return _whole(path)

    # Reading

    def find(self, name: str, info: Mapping[str, Any]) -> Entry | None:
        """Open an entry, which counts as used; None if it is not there, or damaged.

        Raises:
            Unusable: It cannot be opened.
        """
        with _troubles():
            try:
                descriptor = os.open(self._place(name), os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            try:
                entry = Entry(name, descriptor, info)
            except (Damaged, ValueError, KeyError, TypeError):
                os.close(descriptor)
                self.remove(name)
                raise Damaged(name) from None
            except BaseException:
                os.close(descriptor)
                raise
            # Which was not used for longest shows by this; a full disk forbids nothing.
            with contextlib.suppress(OSError):
                os.utime(descriptor)
            return entry

    def remove(self, name: str) -> None:
        """Remove an entry; who has it open goes on reading."""
        with contextlib.suppress(OSError):
            place = self._place(name)
            size = on_disk(place.stat().st_size)
            place.unlink()
            self.usage.add(-size)

    # Filling

    def fill(  # noqa: PLR0913, PLR0917 - each is the caller's to say
        self,
        name: str,
        info: Mapping[str, Any],
        write: Callable[[Sink], None],
        about: Mapping[str, Any],
        settings: ContentSettings,
        evicted: Callable[[int, int], None],
        left: float,
    ) -> Entry | None:
        """Fill an entry and open it, unless another process fills it meanwhile.

        Args:
            name: The entry's.
            info: What the storage said of the object.
            write: Writes its bytes.
            about: What to note in it.
            settings: How many bytes there may be, and how long to wait for another
                process that does not get on.
            evicted: Is told how many entries left for it, and their bytes.
            left: For how many seconds to wait for another process in any case.

        Returns:
            The entry; None if it was not filled here.

        Raises:
            Unusable: It cannot be.
            OutOfTime: Another process fills it, and no time is left.
            Exception: What `write` raised; nothing is left of it.
        """
        place = self._place(name)
        part = place.with_name(f"{name}.part")
        if self._given_up.get(name, 0) > time.monotonic():
            raise Unusable(_STUCK)
        with self._lock(part, settings.patience, left) as descriptor:
            if place.exists():
                _unlink(part)
                return None
            size, taken = info["size"], 0
            try:
                with _troubles():
                    # Its place is taken from now on, for all who count.
                    os.ftruncate(descriptor, 0)
                    os.ftruncate(descriptor, length_for(size))
                    length = on_disk(length_for(size))
                    evicted(*self.usage.take(part, length, settings.max_bytes))
                taken = length
                write(sink := Sink(descriptor))
                with _troubles():
                    if sink.end != size:
                        raise Unusable("an object came that is not as long as it was")  # noqa: TRY301 - as one of the directory
                    seal(descriptor, size, about)
                    # Whoever needs room may evict it before it is opened by its name.
                    reader = os.open(part, os.O_RDONLY | os.O_CLOEXEC)
                    entry = Entry(name, reader, info)
                    part.rename(place)
            except BaseException:
                # On a full disk, what is there of it is in everybody's way.
                _unlink(part)
                if taken:
                    with contextlib.suppress(OSError):
                        self.usage.add(-taken)
                raise
        return entry

    @contextlib.contextmanager
    def _lock(self, part: Path, patience: float, left: float) -> Iterator[int]:
        begun = time.monotonic()
        with contextlib.ExitStack() as stack:
            with _troubles():
                try:
                    descriptor = stack.enter_context(locked(part, patience, left))
                except FileNotFoundError:
                    # The folder is a new one, or somebody deleted the whole directory.
                    self._prepare()
                    self._key = self._read_key(self.key())
                    part.parent.mkdir(mode=0o700, exist_ok=True)
                    descriptor = stack.enter_context(locked(part, patience, left))
            if descriptor is None:
                if time.monotonic() - begun >= left:
                    raise OutOfTime
                # The next ones shall not wait as long again, each.
                self._given_up[part.stem] = time.monotonic() + _UNTIL * patience
                raise Unusable(_STUCK)
            self._given_up.pop(part.stem, None)
            yield descriptor


def _whole(path: Path) -> bytes:
    key = path.read_bytes()
    if len(key) != _KEY_SIZE:
        raise Unusable(f"its key has {len(key)} bytes: delete the directory")
    return key


def _unlink(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


@contextlib.contextmanager
def _troubles() -> Iterator[None]:
    """Let an error of the directory be told from those of the storage."""
    try:
        yield
    except OSError as error:
        raise Unusable.by(error) from error


class _Stores:
    """This process's stores, by directory."""

    def __init__(self) -> None:
        self._stores: dict[Path, Store] = {}
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def at(self, directory: Path) -> Store:
        with self._lock:
            if directory not in self._stores:
                self._stores[directory] = Store(directory)
            return self._stores[directory]


store_at = _Stores().at
