"""The directory of `content` never holds more than it may, whatever happens to it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING

import pytest

from connectorkit_cache.entry import Sink
from connectorkit_cache.locks import take
from test_cache.support import Shelves, entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MOST, SIZE = 100_000, 20_000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Name the cache's directory."""
    return tmp_path / "cache"


@pytest.fixture
def shelves(directory: Path) -> Iterator[Shelves]:
    """Open a storage of ten objects, of which four find room."""
    content = {"directory": str(directory), "max_bytes": MOST, "largest": MOST}
    with Shelves("content", content=content) as shelves:
        shelves.shelf({f"k{n}": bytes([n]) * SIZE for n in range(10)})
        yield shelves


def held(directory: Path) -> int:
    """Return how many bytes of disk it takes."""
    held = 0
    for each in entries(directory):
        with contextlib.suppress(FileNotFoundError):
            held += each.stat().st_blocks * 512
    return held


def test_what_is_being_filled_counts(shelves: Shelves, directory: Path) -> None:
    """Who fetches while there is no room for it reads around the cache."""
    fs, shelf = shelves.fs(), shelves.shelves["it"]
    cut, gate, inside = shelf.cut, threading.Barrier(10), []

    def at_once(*args: object) -> bytes:
        gate.wait(20)
        inside.append(held(directory))
        data: bytes = cut(*args)
        return data

    shelf.cut = at_once
    results: dict[int, bytes] = {}

    def read(n: int) -> None:
        results[n] = fs.cat_file(f"k{n}")

    threads = [threading.Thread(target=read, args=(n,)) for n in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert results == {n: bytes([n]) * SIZE for n in range(10)}
    assert max(inside) <= MOST
    assert entries(directory)


def test_what_the_killed_have_left_counts(shelves: Shelves, directory: Path) -> None:
    """Parts that nobody fills any more make room for others."""
    fs = shelves.fs()
    for n in range(8):
        child = os.fork()
        if child == 0:
            write = Sink.write
            Sink.write = lambda *its, w=write: os._exit(w(*its) and 9)  # type: ignore[method-assign]
            shelves.fs().cat_file(f"k{n}")
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
        assert held(directory) <= MOST
    fs.cat_file("k9")
    fs.cat_file("k8")
    assert shelves.ears.results() == ["miss", "miss"]


def test_a_small_object_takes_a_block(shelves: Shelves, directory: Path) -> None:
    """What counts is how much of the disk is taken."""
    fs = shelves.fs()
    for n in range(30):
        shelves.shelves["it"].put("small", b"%d" % n)
        assert fs.cat_file("small") == b"%d" % n
    assert len(entries(directory)) * 4096 <= MOST


@pytest.mark.parametrize("number", [b"", b"garbage", b"9" * 31, b"\xb2"])
def test_a_number_that_is_lost_is_counted_anew(
    shelves: Shelves, directory: Path, number: bytes
) -> None:
    """Who meddles with the count changes nothing of the bound."""
    fs = shelves.fs()
    for n in range(10):
        fs.cat_file(f"k{n}")
        if n % 3 == 0:
            (directory / "v1" / "usage").write_bytes(number)
    assert held(directory) <= MOST
    assert {*shelves.ears.results()} == {"miss"}


def test_a_clock_that_is_put_back(shelves: Shelves, directory: Path) -> None:
    """What was used in the future leaves first: else nothing new would ever stay."""
    fs = shelves.fs()
    for n in range(4):
        fs.cat_file(f"k{n}")
    for each in entries(directory):
        os.utime(each, times=(time.time() + 86_400,) * 2)
    for n in (4, 5, 4, 5):
        fs.cat_file(f"k{n}")
    assert shelves.ears.results() == ["miss"] * 6 + ["hit"] * 2


def test_an_object_that_leaves_no_room_is_read_around(
    shelves: Shelves, directory: Path
) -> None:
    """With what is noted of it, it is more than the directory may hold."""
    shelves.shelves["it"].put("big", bytes(MOST))
    fs = shelves.fs()
    fs.cat_file("k1")
    shelves.asked()
    assert fs.cat_file("big") == bytes(MOST)
    assert shelves.asked() == {"info": 1, "cat_file": 1}
    assert len(entries(directory)) == 1


def test_who_writes_gets_on(tmp_path: Path) -> None:
    """A part has its length from the beginning: what is written is what counts."""
    part = tmp_path / "x.part"
    holder = take(part, 1)
    assert holder is not None
    os.ftruncate(holder, 1000)
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.02):
            os.pwrite(holder, b"x", 0)

    writer = threading.Thread(target=write)
    writer.start()
    begin = time.monotonic()
    threading.Timer(0.5, stop.set).start()
    assert take(part, 0.2) is None
    assert time.monotonic() - begin > 0.5
    writer.join()
    os.close(holder)
