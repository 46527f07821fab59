"""Whatever happens, a read is of one version, and of one that was there meanwhile."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connectorkit import CircuitOpen, ObjectChanged, WrongAnswer
from test_cache.support import Shelves, entries

KEYS = st.sampled_from(["a/k", "a/l"])
KITS = st.integers(0, 1)
SIZES = st.sampled_from([0, 1, 300_000])


class CachedReads(RuleBasedStateMachine):
    """Two kits with one directory, beside a plain history of each key's versions.

    Both kits are of one process here, but for their caches: as two processes, the one
    sees what the other writes only by asking.
    """

    hot = 0.0
    policies: tuple[str, ...] = ("content",)

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp())
        self._begin()
        content = {
            "directory": str(self.directory),
            "max_bytes": 700_000,
            "largest": 400_000,
        }
        self.worlds = [
            Shelves(*self.policies, content=content, hot={"seconds": self.hot})
            for _ in range(2)
        ]
        self.shelf: Any = self.worlds[0].shelf()
        self.worlds[1].shelves["it"] = self.shelf
        self.history: dict[str, list[bytes | None]] = {"a/k": [None], "a/l": [None]}
        # The versions of which no read of a kit may be older than.
        self.floors: dict[tuple[int, str], int] = {}
        self.numbers = iter(range(1_000_000))
        self.soon: list[tuple[int, str, int]] = []
        access = self.shelf.access

        def watched(name: str, act: Any) -> Any:
            self.soon = [(n - 1, key, size) for n, key, size in self.soon]
            due = [it for it in self.soon if it[0] <= 0]
            self.soon = [it for it in self.soon if it[0] > 0]
            found = access(name, act)
            for _, key, size in due:
                self._put_behind(key, size)
            return found

        self.shelf.access = watched

    def teardown(self) -> None:
        for world in self.worlds:
            world.kit.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _content(self, size: int) -> bytes:
        mark = b"%d." % next(self.numbers)
        return (mark * (size // len(mark) + 1))[: max(size, len(mark))] if size else b""

    def _put_behind(self, key: str, size: int) -> None:
        data = self._content(size)
        self.shelf.put(key, data)
        self.history[key].append(data)

    # What writes

    @rule(kit=KITS, key=KEYS, size=SIZES, way=st.sampled_from(["pipe", "open"]))
    def write(self, kit: int, key: str, size: int, way: str) -> None:
        data = self._content(size)
        fs = self.worlds[kit].fs()
        if way == "pipe":
            fs.pipe_file(key, data)
        else:
            with fs.open(key, "wb") as file:
                file.write(data)
        # What somebody writes while it is closed may stand after it, or before.
        self.history[key].append(data)
        now = self.shelf.files[key]
        if now != data:
            self.history[key].append(now)
        self.floors[kit, key] = self.history[key].index(data)

    @rule(key=KEYS, size=SIZES)
    def somebody_writes(self, key: str, size: int) -> None:
        self._put_behind(key, size)

    @rule(key=KEYS, size=SIZES, after=st.integers(1, 6))
    def somebody_writes_soon(self, key: str, size: int, after: int) -> None:
        """After so many requests, in the middle of whatever runs then."""
        self.soon.append((after, key, size))

    @rule(kit=KITS, key=KEYS)
    def delete(self, kit: int, key: str) -> None:
        if key in self.shelf.files:
            self.worlds[kit].fs().rm_file(key)
            if key not in self.shelf.files:
                self.history[key].append(None)

    # What reads

    @rule(
        kit=KITS,
        key=KEYS,
        way=st.sampled_from(["cat", "range", "open", "ranges", "get", "halves"]),
    )
    def read(self, kit: int, key: str, way: str) -> None:
        first = len(self.history[key]) - 1
        try:
            found = self._read(self.worlds[kit].fs(), key, way)
        except FileNotFoundError:
            found = None
        except (ObjectChanged, WrongAnswer):
            # Right bytes, or a clear error: of a storage that cannot be asked for one
            # version, what is replaced while it is read around the cache.
            assert len(self.history[key]) > first + 1
            return
        allowed = self.history[key][first:]
        if way == "range":
            allowed = [it and it[1:5] for it in allowed]
        assert found in allowed or (way == "range" and found == b"" in allowed)

    def _read(self, fs: Any, key: str, way: str) -> bytes:
        data: bytes
        match way:
            case "cat":
                data = fs.cat_file(key)
            case "range":
                data = fs.cat_file(key, 1, 5)
            case "open":
                with fs.open(key) as file:
                    data = file.read()
            case "halves":
                with fs.open(key) as file:
                    data = file.read(100_000)
                    data += file.read()
            case "ranges":
                data = b"".join(fs.cat_ranges([key] * 2, [0, 7], [7, None]))
            case _:
                target = self.directory / "got"
                fs.get_file(key, str(target))
                data = target.read_bytes()
        return data

    @rule(kit=KITS, key=KEYS)
    def read_while_the_circuit_is_open(self, kit: int, key: str) -> None:
        """What is served then is no older than the kit's own last write."""
        self.soon.clear()
        self.shelf.fail(*[CircuitOpen("open")] * 10)
        try:
            found = self.worlds[kit].fs().cat_file(key)
        except CircuitOpen:
            return
        finally:
            self.shelf.faults.clear()
        assert found in self.history[key][self.floors.get((kit, key), 0) :]

    # What befalls the cache

    @rule(at=st.integers(0, 500_000), number=st.integers(0, 3))
    def damage(self, at: int, number: int) -> None:
        found = entries(self.directory)
        if found:
            entry = found[number % len(found)]
            whole = bytearray(entry.read_bytes())
            whole[at % len(whole)] ^= 1
            entry.write_bytes(whole)

    @rule()
    def lose_the_directory(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        self._begin()

    def _begin(self) -> None:
        """Make the directory; what is named by the same key has the same name again."""
        (self.directory / "v1").mkdir(mode=0o700, parents=True)
        (self.directory / "v1" / "key").write_bytes(bytes(32))

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0]))
    def pass_time(self, seconds: float) -> None:
        for world in self.worlds:
            world.clock.advance(seconds)

    @invariant()
    def is_bounded(self) -> None:
        sizes = [it.stat().st_size for it in entries(self.directory)]
        assert sum(sizes) <= 700_000


class LayeredReads(CachedReads):
    """The same with `hot` around it, which asks each time, and `retry` within."""

    policies = ("hot", "content", "listings", "retry")


TestCachedReads = CachedReads.TestCase
TestLayeredReads = LayeredReads.TestCase
TestCachedReads.settings = TestLayeredReads.settings = hypothesis_settings(
    max_examples=20, stateful_step_count=25, deadline=None
)
