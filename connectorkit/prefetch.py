"""Reading ahead: an open file that is read in order has several ranges under way.

fsspec's own (`AdaptiveReadaheadCache`) does not fit: it begins a request for each of
the first small reads, holds 128 MB, waits at a seek or a close until all that is under
way has ended, retries included, and lets go of what a failed read had already got.

What is not read in order costs what it did with fsspec's `readahead` on S3, and with
gcsfs's `adaptive` on GCS: the same ranges. They are only read as they arrive, and
dropped when nobody wants the rest.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final

from fsspec.caching import BaseCache

from connectorkit.arriving import SMALL, Part, Source, fill
from connectorkit.bridge import start
from connectorkit.call import Call, current
from connectorkit.errors import CallCancelled, DeadlineExceeded
from connectorkit.faults import Fault
from connectorkit.fork import renew_in_child
from connectorkit.writing import drop_at_exit

__all__ = ["NAME", "Prefetch", "ReadsAhead"]

NAME: Final = "prefetch"
# The most of one range: S3 and GCS advise ranges of 8 to 16 MB for throughput alone;
# smaller ones give their first bytes sooner.
_STEP: Final = 5 << 20
_LEAST: Final = 1 << 18
# What makes reads a stream: so many, one behind the other, over so many bytes.
_READS, _RUN = 3, 2 << 20
_CLOSED: Final = "I/O operation on closed file."
# What is looked at for the end of a line.
_LINE: Final = 1 << 16


class Prefetch(BaseCache):  # type: ignore[misc]
    """Reads ahead in ranges, several at a time, once reads follow each other.

    The first read of a place asks for what it wants and `first` bytes more by one
    request, and is answered when its own have arrived. When at least three reads over
    2 MiB (less, with small blocks) have followed each other, or one that begins where
    the last one ended wants two ranges at once, ranges of up to 5 MiB follow, as far
    ahead as the reader has come in this run, and then twice as far. They are begun by
    several at once, when half of the way ahead is free. All are dropped when the file
    is closed, or read elsewhere.

    Ranges that are begun ahead belong to the call that the read is a part of, or are a
    call of their own: with one deadline, one slot, one half-open permit. A range that
    fails ends what is begun ahead. Its error is raised by the read that comes to it,
    which asks once more itself only if it was refused: a circuit was open, say.

    At most `ahead` bytes are held before the reader and one range behind it, besides
    what the read returns; until there is a stream, what fsspec's `readahead` holds.

    Threads may share it. A child of a fork has what has arrived, and no more.

    Args:
        source: The open file.
        first: Bytes to read on where nobody knows how it goes on.
        concurrency: The most ranges at a time.
        max_prefetch_size: The most bytes ahead; None for `concurrency` ranges, or the
            file's block size if that is more.
    """

    name = NAME

    def __init__(
        self,
        source: Any,
        *,
        first: int,
        concurrency: int,
        max_prefetch_size: int | None = None,
    ) -> None:
        if concurrency < 1:
            raise ValueError("concurrency must be at least 1")
        if max_prefetch_size is not None and max_prefetch_size < 0:
            raise ValueError("max_prefetch_size must be at least 0")
        super().__init__(source.blocksize, source._fetch_range, source.size)
        self._source: Source = source
        self._at_a_time = concurrency
        self._step = max(1, min(source.blocksize, _STEP))
        self.ahead = max(source.blocksize, concurrency * self._step)
        if max_prefetch_size is not None:
            self.ahead = max_prefetch_size
        self._first = min(first, self.ahead)
        self._run_from = 0
        self._reads = 0
        self._last = 0, 0
        self._parts: list[Part] = []
        self._is_closed = self._is_begun = False
        self._lock = threading.Lock()
        self._pid = os.getpid()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Let go of a lock that a thread of the parent may hold."""
        self._lock = threading.Lock()

    def _fetch(self, start: int | None, end: int | None) -> bytes:
        start = start or 0
        end = self.size if end is None else min(end, self.size)
        if start >= end:
            return b""
        with self._lock:
            if self._is_closed:
                raise ValueError(_CLOSED)
            is_stream = self._is_stream(start, end)
            held = self._parts
            if held and not held[0].start <= start <= held[-1].end:
                self._drop(0)
            found: list[bytes | memoryview] = []
            was = self.total_requested_bytes
            while start < end:
                views = self._views(start, end, is_stream=is_stream)
                found += views
                start += sum(map(len, views))
            self.hit_count += was == self.total_requested_bytes
            self.miss_count += was != self.total_requested_bytes
        return bytes(found[0]) if len(found) == 1 else b"".join(found)

    def _is_stream(self, start: int, end: int) -> bool:
        """Note a read; tell whether it follows on enough others."""
        first, last = self._last
        # A reader of lines goes back to behind the line's end.
        if first <= start <= last:
            self._reads += 1
        else:
            self._reads, self._run_from = 1, start
        self._last = start, end
        run = start - self._run_from
        is_long = self._reads >= _READS and run >= min(_RUN, 2 * self._step)
        is_big = end - start >= 2 * self._step
        follows = self._reads > 1 or start == 0
        is_stream = is_long or (follows and is_big)
        return is_stream and self.blocksize > 0 and self._source.is_pinned

    def _reach(self, start: int) -> int:
        """Return how far to read on behind what is wanted."""
        run = start - self._run_from if self._reads >= _READS else 0
        reach: int = max(self._first, min(self.ahead, 2 * run))
        return reach

    def _views(
        self, start: int, end: int, *, is_stream: bool
    ) -> list[bytes | memoryview]:
        """Return what comes next of what is wanted; none if it is to be asked anew."""
        if is_stream:
            self._go_ahead(start, end)
        if not self._parts or self._parts[-1].end <= start:
            stop = min(end + self._reach(start), self.size)
            self._begin(start, [start], stop)
        index, part = next(
            (i, each) for i, each in enumerate(self._parts) if start < each.end
        )
        upto = min(end, part.end)
        part.wait(upto, None if part.has(upto) else self._source.fs.loop)
        if part.at < upto:
            self._fail(index, part)
            return []
        return part.views(start, upto)

    def _go_ahead(self, start: int, end: int) -> None:
        """Begin ranges, if there is room for some of them."""
        is_of_parent = self._pid != os.getpid()
        if is_of_parent or any(part.error is not None for part in self._parts):
            return
        self._cut(start, end)
        reach = self._reach(start)
        goal = min(start + max(reach, min(end - start, self.ahead)), self.size)
        begin = self._parts[-1].end if self._parts else start
        free = goal - begin
        if free <= 0 or (begin > start and free < reach // 2 and goal < self.size):
            return
        step = max(1, min(self._step, max(reach // 2, end - start, _LEAST)))
        # Whole ones; but the object's last, and what a reader waits for.
        count = -(-free // step) if goal == self.size else free // step
        count = max(count, int(begin <= start))
        under_way = sum(part.is_under_way for part in self._parts)
        starts = [begin + n * step for n in range(count)][: self._at_a_time - under_way]
        if starts:
            self._begin(start, starts, min(starts[-1] + step, self.size))

    def _cut(self, start: int, end: int) -> None:
        """Have a long range that is slower than its reader end soon.

        Others take its rest. What is on its way by then is lost, with the connection.
        """
        last = self._parts[-1] if self._parts else None
        if last is None or last.is_done or last.at >= end:
            return
        stop = max(last.at, start) + min(SMALL, self._step)
        if last.end - stop > self._step:
            last.end = stop

    def _begin(self, place: int, starts: list[int], end: int) -> None:
        """Begin ranges that lie side by side, the first where all others end."""
        fs = self._source.fs
        loop, scope = fs.loop, fs.pipeline.scope
        is_ahead = starts[0] > place
        ends = [*starts[1:], end]
        parts = [
            Part(first, last, is_ahead=is_ahead)
            for first, last in zip(starts, ends, strict=True)
        ]
        call = current(scope)
        is_own = is_ahead and (call is None or call.is_read)
        if not self._is_begun:
            self._is_begun = True
            drop_at_exit(self)
        self._parts += parts
        self.total_requested_bytes += end - starts[0]
        start(loop, fill, self._source, parts, Call(scope) if is_own else None)
        if self._is_closed:
            # Another thread did so meanwhile.
            self.close()
            raise ValueError(_CLOSED)
        while self._parts[0].end <= place and end - self._parts[0].start > (
            self.ahead + self._step
        ):
            del self._parts[0]

    def _fail(self, index: int, part: Part) -> None:
        """Raise why a range has ended too soon, unless it is to be asked for anew."""
        error, part.error = part.error, None
        if self._is_closed:
            raise ValueError(_CLOSED)
        part.end = part.at
        self._drop(index + (part.at > part.start))
        try:
            if error is None:
                raise CallCancelled("What was read ahead was cancelled beneath.")
            if not (part.is_ahead and self._is_refusal(error)):
                raise error
        finally:
            # An error's traceback holds this frame, which would hold the error.
            del error

    def _is_refusal(self, error: Exception) -> bool:
        """Tell whether a policy let nothing through; a time that is up was tried."""
        verdict = self._source.fs.pipeline.scope.classify(error)
        is_late = isinstance(error, DeadlineExceeded)
        return verdict.fault is Fault.LOCAL and not is_late

    def _drop(self, index: int) -> None:
        """End all ranges from one on."""
        dropped, self._parts[index:] = self._parts[index:], []
        self._end(dropped)

    def _end(self, parts: list[Part]) -> None:
        if any(not part.is_done for part in parts):
            loop = self._source.fs.loop
            for part in parts:
                part.drop(loop)

    def close(self) -> None:
        """End all that is under way; waits for nothing, not for who reads either."""
        self._is_closed = True
        if self._pid == os.getpid():
            self._end([*self._parts])

    forsake = close


class ReadsAhead:
    """For an fsspec file that may have a `Prefetch` for its cache."""

    cache: Any

    def readuntil(self, char: bytes = b"\n", blocks: int | None = None) -> bytes:
        """Read up to a byte or more, and those.

        fsspec looks at a whole block for each line; that is 50 MB on S3.
        """
        if blocks is None and isinstance(self.cache, Prefetch):
            blocks = _LINE
        found: bytes = super().readuntil(char, blocks)  # type: ignore[misc]
        return found
