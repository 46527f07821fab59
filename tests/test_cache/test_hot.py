"""hot: small objects in memory, for a while."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import CacheEvicted, CallCancelled, CircuitOpen
from connectorkit_cache.flights import Flights
from test_cache.support import Shelves

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.s3_places import Place


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def shelves(request: pytest.FixtureRequest) -> Iterator[Shelves]:
    """A storage with a cache of two seconds."""
    hot = {"max_bytes": 4500, "largest": 400}
    with Shelves("hot", is_async=request.param, hot=hot) as shelves:
        shelves.shelf({"a/b": b"content", "a/c": b"another"})
        yield shelves


def test_asked_once_in_its_time(shelves: Shelves) -> None:
    """For two seconds nobody is asked; then whether it is still the same."""
    fs = shelves.fs()
    for _ in range(3):
        assert fs.cat_file("a/b") == b"content"
        assert fs.cat_file("a/b", 1, 3) == b"on"
        with fs.open("a/b") as file:
            assert file.read() == b"content"
    assert shelves.asked() == {"info": 1, "cat_file": 1}
    shelves.clock.advance(2)
    shelves.shelves["it"].put("a/b", b"CONTENT")
    assert fs.cat_file("a/b") == b"CONTENT"
    assert shelves.asked() == {"info": 1, "cat_file": 1}


def test_others_writes_are_seen_when_its_time_is_up(shelves: Shelves) -> None:
    """So old may be what is read, and no older."""
    fs = shelves.fs()
    assert fs.cat_file("a/b") == b"content"
    shelves.shelves["it"].put("a/b", b"CONTENT")
    shelves.clock.advance(1.9)
    assert fs.cat_file("a/b") == b"content"
    shelves.clock.advance(0.1)
    assert fs.cat_file("a/b") == b"CONTENT"


def test_own_writes_are_seen_at_once(shelves: Shelves) -> None:
    """Whatever writes, the next read has it."""
    fs = shelves.fs()
    fs.cat_file("a/b")
    fs.pipe_file("a/b", b"1")
    assert fs.cat_file("a/b") == b"1"
    fs.mv("a/c", "a/b")
    assert fs.cat_file("a/b") == b"another"
    fs.rm("a/b")
    with pytest.raises(FileNotFoundError):
        fs.cat_file("a/b")


def test_large_objects_are_read_around(shelves: Shelves) -> None:
    """What is larger than `largest` is not kept."""
    fs = shelves.fs()
    shelves.shelves["it"].put("big", bytes(401))
    assert len(fs.cat_file("big")) == 401
    assert fs.open("big").read() == bytes(401)
    assert shelves.ears.results("hot") == ["around", "around"]


def test_the_longest_unused_leaves(shelves: Shelves) -> None:
    """It holds so many bytes; who leaves is told."""
    fs = shelves.fs()
    for name in "wxyz":
        shelves.shelves["it"].put(name, bytes(300))
    for name in "wxywz":
        fs.cat_file(name)
    events = [it for it in shelves.ears.events if isinstance(it, CacheEvicted)]
    assert events == [CacheEvicted("hot", 1, 300 + 1024)]
    shelves.ears.results("hot")
    fs.cat_file("w")
    fs.cat_file("x")
    assert shelves.ears.results("hot") == ["hit", "miss"]


def test_a_small_object_takes_more_than_its_bytes(shelves: Shelves) -> None:
    """What is known of it is in memory, too, however little that is all about."""
    fs = shelves.fs()
    for n in range(10):
        shelves.shelves["it"].put(f"{n}", b"x")
        fs.cat_file(f"{n}")
    left = [it for it in shelves.ears.events if isinstance(it, CacheEvicted)]
    assert sum(it.entries for it in left) == 6


def test_without_versions_it_is_read_again() -> None:
    """A storage that names no versions is read again when its time is up."""
    with Shelves("hot") as shelves:
        shelf = shelves.shelf({"k": b"content"})
        entry = shelf.entry

        def plain(path: str) -> dict[str, Any]:
            about: dict[str, Any] = entry(path)
            about.pop("ETag", None)
            return about

        shelf.entry = plain
        fs = shelves.fs()
        for _ in range(2):
            assert fs.cat_file("k") == b"content"
        assert shelves.asked() == {"info": 1, "cat_file": 1}
        # Of the same size.
        shelf.put("k", b"CONTENT")
        shelves.clock.advance(2)
        assert fs.cat_file("k") == b"CONTENT"


def test_threads_fetch_once(place: Place, key: str) -> None:
    """Sixteen threads that read a cold object make one GET."""
    place.put(key, b"content")
    with place.kit_with(policies={"enabled": ["hot"]}) as kit:
        fs = kit.resolve("it").fs
        barrier = threading.Barrier(16)

        def read() -> bytes:
            barrier.wait()
            data: bytes = fs.cat_file(place.path(key))
            return data

        with ThreadPoolExecutor(16) as threads:
            found = [it.result() for it in [threads.submit(read) for _ in range(16)]]
    assert {*found} == {b"content"}
    assert place.asked() == {"head_object": 1, "get_object": 1}


def test_an_open_circuit_is_an_error(s3: Place, key: str) -> None:
    """Alone it serves nothing that nobody could ask about."""
    s3.put(key, b"content")
    with s3.kit_with(policies={"enabled": ["hot", "breaker"]}) as kit:
        fs = kit.resolve("it").fs
        fs.cat_file(s3.path(key))
        kit.circuits.force_open("it")
        assert fs.cat_file(s3.path(key)) == b"content"
        s3.clock.advance(2)
        with pytest.raises(CircuitOpen):
            fs.cat_file(s3.path(key))


def test_around_content(s3: Place, key: str, tmp_path: Path) -> None:
    """Around `content` it saves the HEAD, and serves what is stale as that does."""
    s3.put(key, b"content")
    s3.put(f"{key}-big", bytes(2_000_000))
    content = {"directory": str(tmp_path)}
    enabled = ["hot", "content", "breaker"]
    with s3.kit_with(policies={"enabled": enabled, "content": content}) as kit:
        fs = kit.resolve("it").fs
        for _ in range(3):
            assert fs.cat_file(s3.path(key)) == b"content"
        assert s3.asked() == {"head_object": 1, "get_object": 1}
        s3.proxy.clear()
        for _ in range(2):
            assert fs.cat_file(s3.path(f"{key}-big")) == bytes(2_000_000)
        assert s3.asked() == {"head_object": 2, "get_object": 1}
        kit.circuits.force_open("it")
        s3.clock.advance(2)
        assert fs.cat_file(s3.path(key)) == b"content"
        assert fs.cat_file(s3.path(f"{key}-big")) == bytes(2_000_000)


# Flights


def test_who_was_cancelled_hands_over() -> None:
    """The next of those who wait fetches, and the others get what it has."""
    flights: Flights[str] = Flights()
    begun, go = threading.Event(), threading.Event()
    fetched: list[str] = []

    def cancelled() -> str:
        begun.set()
        go.wait(5)
        raise CallCancelled("nobody wants it any more")

    def fetch() -> str:
        fetched.append("once")
        return "content"

    with ThreadPoolExecutor(5) as threads:
        first = threads.submit(flights.join, "k", cancelled)
        begun.wait(5)
        others = [threads.submit(flights.join, "k", fetch) for _ in range(4)]
        go.set()
        with pytest.raises(CallCancelled):
            first.result()
        found = Counter(it.result() for it in others)
    assert found[("content", True)] == len(fetched)
    assert found.total() == 4


def test_an_error_is_everybodys() -> None:
    """What the storage said is not asked for again by each of those who wait."""
    flights: Flights[str] = Flights()
    begun, go = threading.Event(), threading.Event()

    def fail() -> str:
        begun.set()
        go.wait(5)
        raise FileNotFoundError("k")

    with ThreadPoolExecutor(4) as threads:
        first = threads.submit(flights.join, "k", fail)
        begun.wait(5)
        others = [threads.submit(flights.join, "k", fail) for _ in range(3)]
        go.set()
        for each in (first, *others):
            with pytest.raises(FileNotFoundError):
                each.result()
