"""Reading ahead: open files of S3 and GCS that are read in order."""

from __future__ import annotations

import asyncio
import gc
import gzip
import io
import os
import pickle
import re
import subprocess
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec.asyn import get_loop, sync
from fsspec.caching import BaseCache, ReadAheadCache
from fsspec.spec import AbstractBufferedFile
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    CircuitOpen,
    ConnectorKit,
    DeadlineExceeded,
    ObjectChanged,
    set_default_kit,
)
from connectorkit.call import Call, current, joined
from connectorkit.pipeline import Pipeline
from connectorkit.prefetch import Prefetch, ReadsAhead
from connectorkit.scope import Scope
from connectorkit.testing import FaultProxy, ReplaceObject, ResetMidBody, Stall, Status
from faults.s3_places import ATTEMPTS

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator
    from pathlib import Path

    from connectorkit.testing.exchange import Request
    from faults.s3_places import Place
    from servers import GcsEmulator

_BLOCK = 1 << 16
_CONTENT = os.urandom(32 * _BLOCK + 5)
_RANGE = re.compile(r"bytes=(\d+)-(\d+)")


def _behind(place: int) -> Callable[[Request], bool]:
    """Tell of a request whether it asks for a range that begins there or later."""
    return lambda asked: asked.range is not None and _span(asked)[0] >= place


def _span(asked: Request) -> tuple[int, int]:
    match = _RANGE.fullmatch(asked.range or "")
    assert match is not None
    return int(match[1]), int(match[2]) + 1


def _spans(proxy: FaultProxy) -> list[tuple[int, int]]:
    return sorted(_span(each) for each in proxy.log if each.range)


def _assert_once(spans: list[tuple[int, int]], size: int) -> None:
    """See that each byte was asked for once."""
    assert [0, *(end for _, end in spans)] == [*(start for start, _ in spans), size]


def _blocks(file: Any, size: int = _BLOCK) -> bytes:
    return b"".join(iter(lambda: file.read(size), b""))


def _read(file: Any, size: int) -> bytes:
    return b"".join(file.read(10) for _ in range(size // 10))


def _blocks_into(got: bytearray, file: Any, size: int = _BLOCK) -> None:
    for data in iter(lambda: file.read(size), b""):
        got += data


def _assert_idle(fs: Any) -> None:
    """See that nothing runs on a filesystem's loop any more."""

    async def others() -> list[asyncio.Task[Any]]:
        me = asyncio.current_task()
        running = [each for each in asyncio.all_tasks() if each is not me]
        if running:
            await asyncio.wait(running, timeout=5)
        return [each for each in running if not each.done()]

    assert sync(fs.loop, others) == []
    assert fs.in_flight == 0


class _Fs:
    """What a file needs of its filesystem, and what was asked of it."""

    def __init__(self) -> None:
        self.loop: Any = get_loop()
        self.pipeline = Pipeline((), Scope("it", "memory", "it"))
        self.asked: list[tuple[int, int]] = []
        self.calls: list[Call | None] = []
        self.errors: dict[int, Exception] = {}
        self.piece = 7
        self.in_flight = 0


class _File(ReadsAhead, AbstractBufferedFile):  # type: ignore[misc]
    """Bytes that are read as an object's are."""

    def __init__(self, content: bytes, block: int, first: int, **options: Any) -> None:
        self.content = content
        super().__init__(
            _Fs(), "it", block_size=block, size=len(content), cache_type="none"
        )
        options = {"concurrency": 3, **options}
        self.cache = Prefetch(self, first=first, **options)

    is_pinned = True

    def _fetch_range(self, start: int, end: int) -> bytes:
        raise AssertionError((start, end))

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        self.fs.asked.append((start, end))
        self.fs.calls.append(current(self.fs.pipeline.scope))
        if start in self.fs.errors:
            raise self.fs.errors.pop(start)
        for place in range(start, end, self.fs.piece):
            await asyncio.sleep(0)
            yield self.content[place : min(place + self.fs.piece, end)]

    def read(self, length: int = -1) -> bytes:
        with joined(self.fs.pipeline.scope, is_read=True):
            data: bytes = super().read(length)
        return data


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 120)),
        st.tuples(st.just("seek"), st.integers(0, 1000)),
        st.tuples(st.just("readline"), st.just(0)),
        # A run is what makes it read ahead.
        st.tuples(st.just("run"), st.integers(1, 60)),
    ),
    max_size=12,
)


@given(
    steps=_STEPS,
    block=st.sampled_from([1, 10, 64]),
    is_s3=st.booleans(),
    concurrency=st.integers(1, 4),
)
def test_any_reads_give_what_is_there(
    steps: list[tuple[str, int]],
    block: int,
    is_s3: bool,
    concurrency: int,
) -> None:
    """Whatever is read in whatever order is what a file in memory gives."""
    content = bytes(range(ord("0"), ord("z"))) * 9 + b"\n\nlines\n" * 20
    first = block if is_s3 else 0
    file, expected = (
        _File(content, block, first, concurrency=concurrency),
        io.BytesIO(content),
    )
    with file:
        for name, number in steps:
            if name == "readline":
                assert file.readline() == expected.readline()
            elif name == "run":
                for _ in range(8):
                    assert file.read(number) == expected.read(number)
            else:
                its = getattr(file, name)(number), getattr(expected, name)(number)
                assert its[0] == its[1]
            assert file.tell() == expected.tell()


class TestWhatIsBegun:
    """How far ahead, by which ranges, as parts of which calls."""

    def test_as_far_as_the_reader_came(self) -> None:
        """A stream's ranges grow to blocks; as many as are allowed run at once."""
        file = _File(bytes(4000), 100, 0)
        for _ in range(3):
            file.read(100)
        # Nobody knew how it would go on, then it was a stream.
        assert file.fs.asked[:2] == [(0, 100), (100, 200)]
        _blocks(file, 100)
        spans = sorted(file.fs.asked)
        _assert_once(spans, 4000)
        assert max(end - start for start, end in spans) == 100

    def test_no_more_is_held_than_is_said(self) -> None:
        """The bound is that of `ahead`, one range behind, and what is read."""
        file = _File(bytes(20_000), 100, 0, concurrency=4)
        assert file.cache.ahead == 400
        for _ in range(600):
            file.read(33)
            parts = file.cache._parts
            assert parts[-1].end - file.tell() <= file.cache.ahead
            assert parts[-1].end - parts[0].start <= file.cache.ahead + 100

    def test_the_bound_can_be_set(self) -> None:
        """`max_prefetch_size` is the most bytes ahead, `concurrency` is no less."""
        file = _File(bytes(20_000), 100, 0, max_prefetch_size=150)
        for _ in range(100):
            place = file.tell()
            file.read(100)
            assert file.cache._parts[-1].end - place <= 150
        with pytest.raises(ValueError, match="concurrency"):
            _File(b"", 100, 0, concurrency=0)
        with pytest.raises(ValueError, match="max_prefetch_size"):
            _File(b"", 100, 0, max_prefetch_size=-1)

    def test_what_is_there_keeps_no_other_from_beginning(self) -> None:
        """A range that has all its bytes counts no more, though its end takes time."""
        may_end = asyncio.Event()

        class Lingering(_File):
            async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
                self.fs.asked.append((start, end))
                try:
                    yield self.content[start:end]
                finally:
                    await may_end.wait()

        file = Lingering(bytes(4000), 100, 0)
        for _ in range(20):
            file.read(100)
        # A long one is what is left to who may begin no other.
        assert max(end - start for start, end in file.fs.asked) == 100
        file.fs.loop.call_soon_threadsafe(may_end.set)
        _assert_idle(file.fs)

    def test_ranges_ahead_are_a_call_of_their_own(self) -> None:
        """What is wanted belongs to the read; what comes after it does not end so."""
        file = _File(bytes(4000), 100, 100)
        _blocks(file, 100)
        first, *others = file.fs.calls
        assert first.is_read
        ahead = [call for call in others if not call.is_read]
        assert ahead
        assert len({*ahead}) < len(ahead)

    def test_a_longer_call_has_its_ranges(self) -> None:
        """A copy is one call, with one deadline and one slot, whatever it reads."""
        file = _File(bytes(4000), 100, 100)
        with Call(file.fs.pipeline.scope) as call:
            _blocks(file, 100)
        assert {*file.fs.calls} == {call}

    def test_nothing_ahead_of_an_unknown_version(self) -> None:
        """Where nothing tells one version from another, ranges are not multiplied."""
        file = _File(bytes(4000), 100, 100)
        file.is_pinned = False
        _blocks(file, 100)
        _assert_once(file.fs.asked, 4000)
        assert all(call.is_read for call in file.fs.calls)

    def test_a_jump_ends_the_stream(self) -> None:
        """Who jumps is asked of nothing more until reads follow each other again."""
        file = _File(bytes(40_000), 100, 0)
        for _ in range(10):
            file.read(100)
        begun = len(file.fs.asked)
        for place in (20_000, 9_000, 30_000):
            file.seek(place)
            file.read(50)
        wanted = [(20_000, 20_050), (9_000, 9_050), (30_000, 30_050)]
        assert file.fs.asked[begun:] == wanted

    def test_lines_are_looked_for_in_little(self) -> None:
        """A line does not cost a block: fsspec would read 50 MB for each."""
        file = _File(b"line\n" * 40_000, 1 << 24, 0)
        file.fs.piece = 1 << 16
        assert file.readline() == b"line\n"
        assert file.fs.asked == [(0, 1 << 16)]


class TestErrors:
    """What fails ahead of the reader."""

    def test_is_raised_where_it_is_read(self) -> None:
        """The very error, once; then it is asked for anew."""
        file = _File(bytes(4000), 100, 100)
        error = file.fs.errors[900] = OSError("lost")
        with pytest.raises(OSError, match="lost") as raised:
            _blocks(file, 100)
        assert raised.value is error
        # The read that wanted a byte of it; the next one asks for the range anew.
        assert file.tell() == 900
        assert len(_blocks(file, 100)) == 4000 - 900

    def test_what_nobody_reads_raises_nothing(self) -> None:
        """An error beyond the last read is nobody's; what came before is read."""
        file = _File(bytes(4000), 100, 100)
        file.fs.errors = {place: OSError("lost") for place in range(700, 4000)}
        while not any(start >= 700 for start, _ in file.fs.asked):
            file.read(10)
            _assert_idle(file.fs)
        begun, place = len(file.fs.asked), file.tell()
        while file.tell() < 700:
            assert len(file.read(10)) == 10
        _assert_idle(file.fs)
        assert place < 700
        # Nothing more is begun behind what has failed.
        assert len(file.fs.asked) == begun
        file.close()

    def test_a_refusal_ahead_is_asked_again(self) -> None:
        """What a policy did not let through cost no request: the read makes it."""
        file = _File(bytes(4000), 100, 100)
        file.fs.errors[900] = CircuitOpen("not now")
        assert len(_blocks(file, 100)) == 4000
        assert [start for start, _ in file.fs.asked].count(900) == 2

    def test_a_time_that_is_up_is_raised(self) -> None:
        """What was tried until its deadline is not tried again by the read."""
        file = _File(bytes(4000), 100, 100)
        file.fs.errors[900] = DeadlineExceeded("late")
        with pytest.raises(DeadlineExceeded):
            _blocks(file, 100)
        assert [start for start, _ in file.fs.asked].count(900) == 1

    def test_a_refusal_of_the_read_is_raised(self) -> None:
        """What the read itself asks for is asked for once."""
        file = _File(bytes(4000), 100, 100)
        file.fs.errors[0] = CircuitOpen("not now")
        with pytest.raises(CircuitOpen):
            file.read(1)

    def test_an_object_that_is_too_short(self) -> None:
        """Fewer bytes than the object had are no end of the file."""
        file = _File(bytes(4000), 100, 100)
        file.content = bytes(3000)
        with pytest.raises(ObjectChanged, match="ends at 3000"):
            _blocks(file, 100)


class TestItsEnd:
    """Closing, forking, sharing."""

    def test_a_closed_file_wakes_its_readers(self) -> None:
        """A thread that waits for bytes hears that there will be none."""
        begun = threading.Event()

        class Endless(_File):
            async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
                begun.set()
                await asyncio.Event().wait()
                yield b""

        file = Endless(bytes(4000), 100, 100)
        with ThreadPoolExecutor(1) as threads:
            read = threads.submit(file.read, 10)
            begun.wait()
            file.close()
            with pytest.raises(ValueError, match="closed"):
                read.result()

    def test_a_child_reads_what_is_there(self) -> None:
        """It begins nothing, though a read in order would: its parent's loop is not."""
        file = _File(bytes(4000), 100, 100)
        for _ in range(8):
            file.read(100)
        _assert_idle(file.fs)
        there = file.cache._parts[-1].end - file.tell()
        assert there
        # As in a child, where the loop is not to be had.
        file.cache._pid, begun = 0, [*file.fs.asked]
        assert len(_read(file, there)) == there
        assert file.fs.asked == begun

    def test_threads_share_a_file(self) -> None:
        """Each gets bytes that lie side by side, and all of them are read once."""
        content = os.urandom(40_000)
        file = _File(content, 100, 100)
        lock = threading.Lock()
        got: dict[int, bytes] = {}

        def read() -> None:
            while True:
                with lock:
                    place = file.tell()
                    data = file.read(77)
                if not data:
                    return
                got[place] = data

        with ThreadPoolExecutor(4) as threads:
            for each in [threads.submit(read) for _ in range(4)]:
                each.result()
        assert b"".join(got[place] for place in sorted(got)) == content

    def test_ranges_by_threads_at_once(self) -> None:
        """The cache itself gives each thread what it asked for."""
        content = os.urandom(4000)
        cache = _File(content, 100, 100).cache

        def read(start: int) -> bool:
            return bool(cache._fetch(start, start + 90) == content[start : start + 90])

        with ThreadPoolExecutor(4) as threads:
            assert all(threads.map(read, [*range(0, 3900, 50)] * 3))

    def test_its_own_loop_does_not_wait_for_it(self) -> None:
        """A read on the loop itself is refused: it would wait for ever."""
        file = _File(bytes(4000), 100, 100)

        async def read() -> None:
            with pytest.raises(NotImplementedError):
                file.read(10)

        asyncio.run_coroutine_threadsafe(read(), file.fs.loop).result(10)


class TestS3:
    """On real servers."""

    def test_several_ranges_at_once(self, place: Place, key: str) -> None:
        """Of what is read in order several ranges are under way, of one version."""
        place.put(key, _CONTENT)
        with place.fs.open(place.path(key), block_size=_BLOCK) as file:
            place.proxy.inject(Stall(), times=None, when=_behind(8 * _BLOCK))
            got = b"".join(file.read(_BLOCK) for _ in range(6))
            place.proxy.wait_stalled(7)
            place.proxy.heal()
            assert got + _blocks(file) == _CONTENT
        _assert_once(_spans(place.proxy), len(_CONTENT))
        pins = [e.headers.get("if-match") for e in place.proxy.log if e.range]
        assert len({*pins}) == 1
        assert pins[0]
        _assert_idle(place.fs)

    def test_no_more_ranges_than_connections(self, place: Place, key: str) -> None:
        """The setting `max_connections` bounds what is under way at a time."""
        place.put(key, _CONTENT)
        its = {
            "type": place.type_id,
            "settings": {**place.settings, "max_connections": 2},
        }
        with ConnectorKit({"connectors": {"few": its}}) as kit:
            fs = kit.resolve("few").fs
            with fs.open(place.path(key), block_size=_BLOCK) as file:
                assert file.cache._at_a_time == 2
                most = 0
                for _ in range(30):
                    file.read(_BLOCK)
                    most = max(most, sum(not it.is_done for it in file.cache._parts))
                assert most <= 2
            _assert_idle(fs)

    def test_a_header_costs_one_request(self, place: Place, key: str) -> None:
        """Who reads a little asks for what `readahead` asked for, once."""
        place.put(key, _CONTENT)
        with place.fs.open(place.path(key), block_size=_BLOCK) as file:
            assert file.read(10) == _CONTENT[:10]
            assert file.read(10) == _CONTENT[10:20]
        assert _spans(place.proxy) == [(0, _BLOCK + 10)]

    @pytest.mark.parametrize("cache", ["prefetch", "readahead"])
    def test_jumps_cost_what_they_did(self, minio: Place, key: str, cache: str) -> None:
        """Who jumps about asks for the same ranges as by fsspec's `readahead`."""
        minio.put(key, _CONTENT)
        options: Any = {"block_size": _BLOCK, "cache_type": cache}
        with minio.fs.open(minio.path(key), **options) as file:
            for start, size in [(-9, 9), (0, 100), (5 * _BLOCK, 10), (9, 10), (99, 9)]:
                file.seek(start, 2 * (start < 0))
                assert file.read(size) == _CONTENT[start:][:size]
        asked = [_span(each) for each in minio.proxy.log if each.range]
        end = len(_CONTENT)
        assert asked == [
            (end - 9, end),
            (0, _BLOCK + 100),
            (5 * _BLOCK, 6 * _BLOCK + 10),
            (9, _BLOCK + 19),
        ]

    def test_a_long_range_is_read_as_it_comes(self, minio: Place, key: str) -> None:
        """The first bytes do not wait for the block, whose rest others take over."""
        minio.put(key, content := _CONTENT * 7)
        minio.proxy.inject(Stall(at=5 << 19), when="get_object")
        with minio.fs.open(minio.path(key), block_size=50 << 20) as file:
            got = file.read(1 << 20) + file.read(1 << 20)
            assert got == content[: 2 << 20]
            minio.proxy.wait_stalled()
            with ThreadPoolExecutor(1) as threads:
                rest = threads.submit(_blocks, file, 1 << 20)
                # The rest is asked for while the first range stands still.
                while not any(_behind(1)(each) for each in minio.proxy.log):
                    assert not rest.done()
                minio.proxy.release()
                assert got + rest.result() == content
        assert _spans(minio.proxy)[0] == (0, len(content))
        _assert_idle(minio.fs)

    def test_replaced_midway(self, place: Place, key: str) -> None:
        """An object that was replaced raises; no byte is of the other version."""
        place.put(key, _CONTENT)
        other = bytes(len(_CONTENT))
        replace = ReplaceObject(lambda _: place.put(key, other))
        place.proxy.inject(replace, when=_behind(6 * _BLOCK))
        got = bytearray()
        with (
            place.fs.open(place.path(key), block_size=_BLOCK) as file,
            pytest.raises(ObjectChanged),
        ):
            _blocks_into(got, file)
        assert got
        assert _CONTENT.startswith(got)
        _assert_idle(place.fs)

    def test_a_range_that_is_lost(self, place: Place, key: str) -> None:
        """N attempts are N requests; its error comes after all that came before."""
        place.put(key, _CONTENT)
        rule = place.proxy.inject(
            Status(500), times=None, when=lambda e: _span_begins(e, 6 * _BLOCK)
        )
        got = bytearray()
        with place.fs.open(place.path(key), block_size=_BLOCK) as file:
            with pytest.raises(OSError, match=r".") as lost:
                _blocks_into(got, file, 1000)
            assert rule.fired == ATTEMPTS
            assert f"{ATTEMPTS} attempts" in "".join(lost.value.__notes__)
            # All of its read that was there is read once it is asked for.
            assert len(got) > 5 * _BLOCK
            place.proxy.heal()
            assert got + _blocks(file) == _CONTENT
        _assert_idle(place.fs)

    def test_a_range_that_breaks_off_goes_on(self, place: Place, key: str) -> None:
        """A fault in a range that is read ahead costs one request, and no reader."""
        place.put(key, _CONTENT)
        place.proxy.inject(ResetMidBody(), when=_behind(6 * _BLOCK))
        with place.fs.open(place.path(key), block_size=_BLOCK) as file:
            assert _blocks(file) == _CONTENT
        asked = sum(end - start for start, end in _spans(place.proxy))
        assert len(_CONTENT) < asked <= len(_CONTENT) + _BLOCK

    def test_a_closed_file_leaves_nothing(self, place: Place, key: str) -> None:
        """Ranges under way are ended, with their connections, by a close or a jump."""
        place.put(key, _CONTENT)
        place.proxy.inject(Stall(), times=None, when=_behind(8 * _BLOCK))
        for jumps in (False, True):
            with place.fs.open(place.path(key), block_size=_BLOCK) as file:
                for _ in range(7):
                    file.read(_BLOCK)
                place.proxy.wait_stalled(7)
                assert place.fs.in_flight >= 7
                if jumps:
                    file.seek(0)
                    assert file.read(9) == _CONTENT[:9]
                    _assert_idle(place.fs)
                    place.proxy.wait_stalled(0)
            _assert_idle(place.fs)
            place.proxy.wait_stalled(0)

    def test_a_file_that_nobody_closed_is_collected(
        self, minio: Place, key: str
    ) -> None:
        """What it has under way ends by itself, and then it is gone."""
        minio.put(key, _CONTENT)
        file = minio.fs.open(minio.path(key), block_size=_BLOCK)
        for _ in range(5):
            file.read(_BLOCK)
        cache = weakref.ref(file.cache)
        del file
        gc.collect()
        _assert_idle(minio.fs)
        gc.collect()
        assert cache() is None

    def test_a_child_has_what_was_there(self, minio: Place, key: str) -> None:
        """A fork reads what its parent had, is refused the rest, and ends quietly."""
        minio.put(key, _CONTENT)
        minio.proxy.inject(Stall(), times=None, when=_behind(8 * _BLOCK))
        file = minio.fs.open(minio.path(key), block_size=_BLOCK)
        for _ in range(7):
            file.read(_BLOCK)
        # A small range is waited for as a whole.
        file.read(100)
        minio.proxy.wait_stalled(7)
        if not (child := os.fork()):
            code = 1
            with suppress(BaseException):
                assert file.read(100) == _CONTENT[7 * _BLOCK + 100 :][:100]
                with pytest.raises(RuntimeError, match="forked"):
                    _blocks(file)
                file.close()
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        minio.proxy.heal()
        assert _blocks(file) == _CONTENT[7 * _BLOCK + 100 :]
        file.close()

    def test_the_process_ends_with_ranges_under_way(
        self, minio: Place, key: str
    ) -> None:
        """Nothing hangs, and nothing is said, when nobody closed the file."""
        minio.put(key, _CONTENT)
        minio.proxy.inject(Stall(), times=None, when=_behind(8 * _BLOCK))
        script = f"""
from connectorkit import ConnectorKit
kit = ConnectorKit()
fs = kit.resolve({minio.type_id!r}, settings={minio.settings!r}).fs
file = fs.open({minio.path(key)!r}, block_size={_BLOCK})
for _ in range(7):
    file.read({_BLOCK})
print("read")
"""
        done = subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            timeout=30,
            check=False,
            text=True,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "read\n", "")

    def test_other_caches_stay(self, minio: Place, key: str) -> None:
        """`cache_type` is fsspec's, for a file or by the settings for all."""
        minio.put(key, _CONTENT)
        path = minio.path(key)
        with minio.fs.open(path, cache_type="readahead") as file:
            assert type(file.cache) is ReadAheadCache
        with minio.fs.open(path, cache_type="none") as file:
            assert type(file.cache) is BaseCache
        settings = {**minio.settings, "default_cache_type": "none"}
        with ConnectorKit() as kit:
            fs = kit.resolve(minio.type_id, settings=settings).fs
            assert type(fs.open(path).cache) is BaseCache
            with fs.open(path, cache_type="prefetch") as file:
                assert type(file.cache) is Prefetch

    def test_a_file_travels(self, minio: Place, key: str) -> None:
        """A pickled file reads on ahead, from its place, in its version."""
        minio.put(key, _CONTENT)
        options: Any = {"cache_options": {"concurrency": 2}, "block_size": _BLOCK}
        with minio.fs.open(minio.path(key), **options) as file:
            got = b"".join(file.read(_BLOCK) for _ in range(5))
            travelled = file.__reduce__()
        again = travelled[0](*travelled[1])
        assert type(again.cache) is Prefetch
        assert got + _blocks(again) == _CONTENT
        pickle.dumps(travelled[1][-1])

    def test_text_and_compression(self, minio: Place, key: str) -> None:
        """What lies over the file reads ahead as the file does."""
        text = "".join(f"line {number}\n" for number in range(30_000))
        minio.put(key, text.encode())
        minio.put(f"{key}.gz", gzip.compress(os.urandom(1 << 19) + _CONTENT))
        path = minio.path(key)
        options: Any = {"block_size": _BLOCK}
        with minio.fs.open(path, "r", **options) as file:
            assert "".join(file) == text
        with minio.fs.open(path, "rb", **options) as file:
            assert b"".join(file) == text.encode()
        with minio.fs.open(f"{path}.gz", compression="infer", **options) as file:
            assert file.read()[1 << 19 :] == _CONTENT


def _span_begins(asked: Request, place: int) -> bool:
    return (
        asked.range is not None
        and _span(asked)[0] <= place < _span(asked)[1]
        and (_span(asked)[0] > 0)
    )


class TestGCS:
    """On an emulator."""

    @pytest.fixture
    def proxy(self, gcs_emulator: GcsEmulator) -> Iterator[FaultProxy]:
        """Stand before it."""
        with FaultProxy(gcs_emulator.endpoint_url) as proxy:
            yield proxy

    @pytest.fixture
    def fs(self, proxy: FaultProxy) -> Iterator[Any]:
        """Reach it."""
        settings = {"project_id": "p", "token": "anon", "endpoint_url": proxy.url}
        with ConnectorKit() as kit:
            yield kit.resolve("gcs", settings=settings).fs

    def test_it_is_read_ahead(
        self, fs: Any, proxy: FaultProxy, gcs_bucket: str
    ) -> None:
        """The first reads cost what they want; then several ranges are under way."""
        fs.pipe_file(path := f"{gcs_bucket}/key", _CONTENT)
        proxy.clear()
        options: Any = {"block_size": _BLOCK, "cache_options": {"concurrency": 10}}
        with fs.open(path, **options) as file:
            assert file.read(10) == _CONTENT[:10]
            assert _spans(proxy) == [(0, 10)]
            proxy.inject(Stall(), times=None, when=_behind(6 * _BLOCK + 1))
            got = _CONTENT[:10] + b"".join(file.read(_BLOCK) for _ in range(6))
            proxy.wait_stalled(8)
            proxy.heal()
            assert got + _blocks(file) == _CONTENT
        _assert_once(_spans(proxy), len(_CONTENT))
        _assert_idle(fs)

    def test_small_reads_cost_few_requests(
        self, fs: Any, proxy: FaultProxy, gcs_bucket: str
    ) -> None:
        """Lines cost no request each: what is read ahead doubles."""
        fs.pipe_file(path := f"{gcs_bucket}/key", _CONTENT)
        with fs.open(path) as file:
            assert _blocks(file, 4096) == _CONTENT
        assert proxy.count("objects.download") < 14
        _assert_once(_spans(proxy), len(_CONTENT))

    def test_replaced_midway(
        self, fs: Any, proxy: FaultProxy, gcs_bucket: str, gcs_emulator: GcsEmulator
    ) -> None:
        """An object that was replaced raises."""
        fs.pipe_file(path := f"{gcs_bucket}/key", _CONTENT)
        with fs.open(path, block_size=_BLOCK) as file:
            got = bytearray().join(file.read(_BLOCK) for _ in range(3))
            fs.pipe_file(path, bytes(len(_CONTENT)))
            with pytest.raises(ObjectChanged):
                _blocks_into(got, file)
        assert _CONTENT.startswith(got)
        _assert_idle(fs)

    def test_other_caches_stay(self, fs: Any, gcs_bucket: str) -> None:
        """The one of gcsfs is there for who asks for it."""
        fs.pipe_file(path := f"{gcs_bucket}/key", _CONTENT)
        for cache_type in ("adaptive", "readahead"):
            with fs.open(path, cache_type=cache_type) as file:
                assert file.cache.name == cache_type
                assert _blocks(file) == _CONTENT


def test_by_url(minio: Place, key: str, tmp_path: Path) -> None:
    """`connector://` and the caches of a connector read ahead beneath."""
    minio.put(key, _CONTENT)
    content = {"directory": str(tmp_path), "largest": 1}
    policies = {"enabled": ["content", "retry"], "content": content}
    with minio.kit_with(policies=policies) as kit, set_default_kit(kit):
        fs = fsspec.filesystem("connector")
        with fs.open(f"it/{minio.path(key)}", block_size=_BLOCK) as file:
            minio.proxy.inject(Stall(), times=None, when=_behind(8 * _BLOCK))
            got = b"".join(file.read(_BLOCK) for _ in range(6))
            minio.proxy.wait_stalled(7)
            minio.proxy.heal()
            assert got + _blocks(file) == _CONTENT
