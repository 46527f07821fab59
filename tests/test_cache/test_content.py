"""content: what is read is what the storage has, and is fetched once."""

from __future__ import annotations

import hashlib
import logging
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import CacheEvicted, CircuitOpen, ConfigError, ConnectorKit
from connectorkit.testing import ReplaceObject, VirtualClock
from connectorkit_cache.snapshot import tag_of
from contracts.places import settings_for
from test_cache.support import Ears, Shelves, entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.s3_places import Place
    from servers import GcsEmulator


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def shelves(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelves]:
    """A storage with a cache."""
    content = {"directory": str(tmp_path / "cache"), "largest": 1_000_000}
    with Shelves("content", "retry", is_async=request.param, content=content) as it:
        it.shelf({"a/b": b"content", "a/c": b"another"})
        yield it


def reads(asked: Counter[str]) -> int:
    """Return how often content was asked for."""
    return asked["cat_file"] + asked["fetch"] + asked["get_file"]


# Hits and misses


def test_fetched_once(shelves: Shelves) -> None:
    """All ways of reading an object are answered by what was fetched once."""
    fs = shelves.fs()
    assert fs.cat_file("a/b") == b"content"
    assert reads(shelves.asked()) == 1
    assert fs.cat_file("a/b", 1, 4) == b"ont"
    assert fs.cat_file("a/b", -3) == b"ent"
    assert fs.cat_ranges(["a/b"] * 2, [0, 4], [2, None]) == [b"co", b"ent"]
    assert fs.cat(["a/b"]) == {"a/b": b"content"}
    assert fs.open("a/b", "r").read() == "content"
    assert fs.head("a/b", 2) == b"co"
    assert fs.tail("a/b", 2) == b"nt"
    assert fs.read_block("a/b", 1, 2) == b"on"
    assert reads(shelves.asked()) == 0
    assert shelves.ears.results() == ["miss", *["hit"] * 8]


def test_downloads_are_answered(shelves: Shelves, tmp_path: Path) -> None:
    """A file is copied from the cache, and a file-like target is written."""
    fs = shelves.fs()
    fs.get("a/b", str(tmp_path / "one"))
    shelves.asked()
    fs.get_file("a/b", str(tmp_path / "sub" / "two"))
    assert (tmp_path / "one").read_bytes() == b"content"
    assert (tmp_path / "sub" / "two").read_bytes() == b"content"
    assert reads(shelves.asked()) == 0


@pytest.mark.parametrize("cache", ["hot", "content"])
def test_a_folders_marker_is_an_object_of_its_own(
    s3: Place, key: str, tmp_path: Path, cache: str
) -> None:
    """On S3 `k` and `k/` are two objects, and each read gets its own."""
    s3.put(key, b"an object")
    s3.put(f"{key}/", b"a marker")
    content = {"directory": str(tmp_path / "cache")}
    with s3.kit_with(policies={"enabled": [cache], "content": content}) as kit:
        fs = kit.resolve("it").fs
        for _ in range(2):
            assert fs.cat_file(s3.path(key)) == b"an object"
            assert fs.cat_file(s3.path(f"{key}/")) == b"a marker"
            assert fs.cat_ranges([s3.path(f"{key}/")], 2, 8) == [b"marker"]
            fs.get_file(s3.path(f"{key}/"), str(tmp_path / "it"))
            assert (tmp_path / "it").read_bytes() == b"a marker"


def test_another_version_is_another_entry(shelves: Shelves) -> None:
    """What somebody else has written is read by the next call."""
    fs = shelves.fs()
    assert fs.cat_file("a/b") == b"content"
    with fs.open("a/b") as opened:
        shelves.shelves["it"].put("a/b", b"CONTENT")
        assert fs.cat_file("a/b") == b"CONTENT"
        assert opened.read() == b"content"
    shelves.shelves["it"].drop("a/b")
    with pytest.raises(FileNotFoundError):
        fs.cat_file("a/b")


def test_own_writes_are_read(shelves: Shelves) -> None:
    """So is what is written through it, however."""
    fs = shelves.fs()
    fs.pipe_file("a/b", b"1")
    assert fs.cat_file("a/b") == b"1"
    fs.pipe({"a/b": b"2"})
    assert fs.cat_file("a/b") == b"2"
    with fs.open("a/b", "wb") as file:
        file.write(b"3")
    assert fs.cat_file("a/b") == b"3"
    fs.cp_file("a/c", "a/b")
    assert fs.cat_file("a/b") == b"another"


@pytest.mark.parametrize("size", [0, 1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 900_000])
def test_any_size(shelves: Shelves, size: int) -> None:
    """Ranges are right at the edges of what is checked at a time."""
    data = hashlib.shake_256(b"seed").digest(size)
    fs = shelves.fs()
    shelves.shelves["it"].put("big", data)
    edge = 1 << 18
    for start, end in [(None, None), (0, 1), (edge - 1, edge + 1), (edge, None)]:
        assert fs.cat_file("big", start, end) == data[start:end]
    with fs.open("big") as file:
        file.seek(max(0, size - 10))
        assert file.read() == data[-10:]
        assert file.size == size
    assert shelves.ears.results()[0] == "miss"


def test_large_objects_are_read_around(shelves: Shelves, tmp_path: Path) -> None:
    """What is larger than `largest` is read as if there were no cache."""
    fs = shelves.fs()
    shelves.shelves["it"].put("big", b"x" * 1_000_001)
    for _ in range(2):
        assert len(fs.cat_file("big")) == 1_000_001
    assert shelves.ears.results() == ["around"] * 2
    assert entries(tmp_path / "cache") == []


def test_options_are_the_storages(shelves: Shelves) -> None:
    """A call with options of the storage's own goes to the storage."""
    fs = shelves.fs()
    fs.cat_file("a/b")
    shelves.asked()
    assert fs.cat_file("a/b", version_id="7") == b"content"
    assert reads(shelves.asked()) == 1


def test_unnamed_versions_are_read_around(tmp_path: Path) -> None:
    """A storage that names no versions is never cached: size and time may stay."""
    config = {
        "connectors": {"notes": {"type": "memory", "policies": ["content"]}},
        "policies": {"content": {"directory": str(tmp_path / "cache")}},
    }
    with ConnectorKit(config) as kit:
        fs = kit.resolve("notes").fs
        fs.pipe_file("/k", b"1")
        assert fs.cat_file("/k") == b"1"
        assert not (tmp_path / "cache").exists()


def test_names_of_versions() -> None:
    """An ETag or a generation names a version; a time, a size or a weak one do not."""
    assert tag_of({"size": 1, "type": "file", "mtime": 1.0, "ino": 7}) is None
    assert tag_of({"size": 1, "ETag": 'W/"a"'}) is None
    assert tag_of({"size": 0, "ETag": "a", "type": "directory"}) is None
    assert tag_of({"size": None, "ETag": "a"}) is None
    assert tag_of({"size": 1, "ETag": "a"}) != tag_of({"size": 2, "ETag": "a"})
    assert tag_of({"size": 1, "generation": 5}) == ("size=1", "generation=5")
    assert tag_of({"size": 1, "ETag": "a", "VersionId": "null"}) == ("size=1", "ETag=a")


def test_fresh_for_some_seconds(tmp_path: Path) -> None:
    """With `seconds`, what was asked about a moment ago is served without asking."""
    content = {"directory": str(tmp_path / "cache"), "seconds": 10}
    with Shelves("content", content=content) as shelves:
        shelf = shelves.shelf({"a/b": b"content"})
        fs = shelves.fs()
        fs.cat_file("a/b")
        shelf.put("a/b", b"CONTENT")
        shelves.asked()
        assert fs.cat_file("a/b") == b"content"
        assert shelves.asked() == {}
        shelves.clock.advance(10)
        assert fs.cat_file("a/b") == b"CONTENT"
        fs.pipe_file("a/b", b"mine")
        assert fs.cat_file("a/b") == b"mine"


# One fetch


def test_threads_fetch_once(shelves: Shelves) -> None:
    """Sixteen threads that read a cold object make one request for its content."""
    shelf = shelves.shelves["it"]
    shelf.put("big", b"x" * 500_000)
    fs = shelves.fs()
    barrier = threading.Barrier(16)

    def read() -> bytes:
        barrier.wait()
        data: bytes = fs.cat_file("big")
        return data

    with ThreadPoolExecutor(16) as threads:
        found = [it.result() for it in [threads.submit(read) for _ in range(16)]]
    assert {*found} == {b"x" * 500_000}
    results = Counter(shelves.ears.results())
    assert results == {"miss": 1, "hit": 15}


def test_failures_are_all_of_them(shelves: Shelves) -> None:
    """An error of the storage is raised, and the next read works."""
    fs = shelves.fs()
    shelves.shelves["it"].fail(None, *[PermissionError("no")] * 1)
    with pytest.raises(PermissionError):
        fs.cat_file("a/b")
    assert fs.cat_file("a/b") == b"content"


# On real servers


def kit_of(place: Place, tmp_path: Path, *policies: str, **tables: Any) -> ConnectorKit:
    """Return a kit whose connector `it` has a cache."""
    content = {"directory": str(tmp_path / "cache"), **tables.pop("content", {})}
    enabled = ["content", *policies]
    return place.kit_with(policies={"enabled": enabled, "content": content, **tables})


def test_a_hit_is_a_head(place: Place, key: str, tmp_path: Path) -> None:
    """On S3 and MinIO a cold read is a HEAD and a GET, a warm one a HEAD."""
    place.put(key, b"content" * 1000)
    with kit_of(place, tmp_path) as kit:
        fs = kit.resolve("it").fs
        assert fs.cat_file(place.path(key)) == b"content" * 1000
        assert place.asked() == {"head_object": 1, "get_object": 1}
        place.proxy.clear()
        with fs.open(place.path(key)) as file:
            file.seek(7)
            assert file.read(7) == b"content"
        assert place.asked() == {"head_object": 1}


def test_replaced_between(place: Place, key: str, tmp_path: Path) -> None:
    """What is replaced between the HEAD and the GET is never kept under its old name.

    That holds for a server that ignores If-Match, as well.
    """
    place.put(key, b"old" * 1000)
    with kit_of(place, tmp_path) as kit:
        fs = kit.resolve("it").fs
        swap = ReplaceObject(lambda _request: place.put(key, b"new" * 1000))
        place.proxy.inject(swap, when="get_object")
        assert fs.cat_file(place.path(key)) == b"new" * 1000
        place.put(key, b"old" * 1000)
        assert fs.cat_file(place.path(key)) == b"old" * 1000


def test_never_still(s3: Place, key: str, tmp_path: Path) -> None:
    """An object that is replaced at each GET is read around, of one version."""
    s3.put(key, b"0")
    numbers = iter(range(1, 100))
    with kit_of(s3, tmp_path) as kit:
        swap = ReplaceObject(lambda _request: s3.put(key, b"%d" % next(numbers)))
        s3.proxy.inject(swap, when="get_object", times=None)
        assert kit.resolve("it").fs.cat_file(s3.path(key)) == b"4"
    assert entries(tmp_path / "cache") == []


def test_versions_of_gcs(gcs_emulator: GcsEmulator, tmp_path: Path) -> None:
    """On GCS the generation names the entry."""
    bucket = gcs_emulator.bucket()
    config = {
        "connectors": {
            "it": {"type": "gcs", "settings": settings_for("gcs", gcs_emulator)}
        },
        "policies": {
            "enabled": ["hot", "content", "listings"],
            "content": {"directory": str(tmp_path / "cache")},
        },
    }
    ears = Ears()
    with ConnectorKit(config) as kit:
        kit.register(ears, "ears")
        fs = kit.resolve("it").fs
        for content in (b"one", b"two", b"three" * 100_000):
            fs.pipe_file(f"{bucket}/k", content)
            for start in (None, 1):
                assert fs.cat_file(f"{bucket}/k", start) == content[start:]
            with fs.open(f"{bucket}/k") as file:
                assert file.read() == content
        assert ears.results() == ["miss"] * 3
    assert len(entries(tmp_path / "cache")) == 3


def test_a_huge_object_is_fetched_in_ranges(
    minio: Place, key: str, tmp_path: Path
) -> None:
    """What s3fs reads by several requests is put together in its entry."""
    data = hashlib.shake_256(b"huge").digest(60 << 20)
    minio.put(key, data)
    with kit_of(minio, tmp_path) as kit:
        fs = kit.resolve("it").fs
        assert fs.cat_file(minio.path(key)) == data
        assert fs.cat_file(minio.path(key)) == data
    assert minio.asked() == {"head_object": 2, "get_object": 2}


# Stale


def test_stale_only_while_the_circuit_is_open(
    s3: Place, key: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """While the circuit is open, what was read before is served; it is told, once."""
    s3.put(key, b"content")
    ears = Ears()
    with kit_of(s3, tmp_path, "breaker") as kit, caplog.at_level(logging.WARNING):
        kit.register(ears, "ears")
        fs = kit.resolve("it").fs
        assert fs.cat_file(s3.path(key)) == b"content"
        kit.circuits.force_open("it")
        for _ in range(2):
            assert fs.cat_file(s3.path(key)) == b"content"
        assert ears.results() == ["miss", "stale", "stale"]
        said = [it.message for it in caplog.records]
        assert len(said) == 1
        assert "circuit is open" in said[0]
        with pytest.raises(CircuitOpen):
            fs.cat_file(s3.path("never-read"))
        with pytest.raises(CircuitOpen):
            fs.pipe_file(s3.path(key), b"mine")
        # Nobody knows whether that write was done: what was there may be older.
        with pytest.raises(CircuitOpen):
            fs.cat_file(s3.path(key))
        kit.circuits.reset("it")
        s3.put(key, b"CONTENT")
        assert fs.cat_file(s3.path(key)) == b"CONTENT"
        # The next outage is another one, unless it comes and goes.
        kit.circuits.force_open("it")
        fs.cat_file(s3.path(key))
        assert len(caplog.records) == 1
        kit.circuits.reset("it")
        fs.cat_file(s3.path(key))
        s3.clock.advance(60)
        kit.circuits.force_open("it")
        caplog.clear()
        for _ in range(2):
            assert fs.cat_file(s3.path(key)) == b"CONTENT"
        [said_again] = [it.message for it in caplog.records]
        assert said_again == said[0]


def test_an_error_is_not_answered_by_what_is_stale(
    s3: Place, key: str, tmp_path: Path
) -> None:
    """A denial, or a server that fails, is raised though there is an entry."""
    from connectorkit.testing import Status

    s3.put(key, b"content")
    with kit_of(s3, tmp_path) as kit:
        fs = kit.resolve("it").fs
        fs.cat_file(s3.path(key))
        s3.proxy.inject(Status(503), times=None)
        with pytest.raises(OSError, match="Unavailable"):
            fs.cat_file(s3.path(key))
        s3.proxy.heal()
        s3.proxy.inject(Status(403), times=None)
        with pytest.raises(PermissionError):
            fs.cat_file(s3.path(key))


def test_stale_can_be_refused(s3: Place, key: str, tmp_path: Path) -> None:
    """With `stale = false` an open circuit is an error."""
    s3.put(key, b"content")
    with kit_of(s3, tmp_path, "breaker", content={"stale": False}) as kit:
        fs = kit.resolve("it").fs
        fs.cat_file(s3.path(key))
        kit.circuits.force_open("it")
        with pytest.raises(CircuitOpen):
            fs.cat_file(s3.path(key))


# Bounds


def test_the_longest_unused_leaves(tmp_path: Path) -> None:
    """The directory holds so many bytes; what was not used for longest leaves."""
    content = {"directory": str(tmp_path / "c"), "max_bytes": 60_000, "largest": 20_000}
    with Shelves("content", content=content) as shelves:
        shelf = shelves.shelf({f"k{n}": bytes(10_000) for n in range(6)})
        fs = shelves.fs()
        for name in ("k0", "k1", "k2", "k3", "k0", "k4"):
            fs.cat_file(name)
        assert sum(it.stat().st_size for it in entries(tmp_path / "c")) <= 60_000
        [event] = [it for it in shelves.ears.events if isinstance(it, CacheEvicted)]
        assert (event.cache, event.entries) == ("content", 1)
        assert event.bytes > 10_000
        shelf.asked.clear()
        shelves.ears.results()
        fs.cat_file("k0")
        fs.cat_file("k1")
        assert shelves.ears.results() == ["hit", "miss"]


def test_an_object_that_could_not_stay_is_a_mistake() -> None:
    """`largest` above `max_bytes` is an error that says so."""
    with (
        ConnectorKit(
            {
                "connectors": {"it": {"type": "memory", "policies": ["content"]}},
                "policies": {"content": {"max_bytes": 10, "largest": 20}},
            }
        ) as kit,
        pytest.raises(ConfigError, match="never stay"),
    ):
        kit.resolve("it")


def test_the_order_of_caches_is_checked() -> None:
    """Outermost is `hot`, then `content`, and what operations go through is within."""
    wrong = ["content", "hot", "listings", "retry"]
    config = {"connectors": {"it": {"type": "memory", "policies": wrong}}}
    with ConnectorKit(config) as kit, pytest.raises(ConfigError, match="hot, content"):
        kit.resolve("it")


def test_a_clock_of_ones_own() -> None:
    """Times are the kit's clock's."""
    assert isinstance(Shelves("hot").clock, VirtualClock)
