"""Ranges that arrive: a filesystem's loop fills them, a reader's thread takes of them.

Neither locks anything: only the loop adds to a range, and says last how far it came.
"""

from __future__ import annotations

import asyncio
import contextlib
from bisect import bisect_right
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Final, Protocol

from connectorkit.bridge import through
from connectorkit.errors import ObjectChanged

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from connectorkit.call import Call

__all__ = ["SMALL", "Part", "Source", "fill"]

# A range up to this is waited for as a whole: to drop its rest would cost a connection.
SMALL: Final = 1 << 20


class Source(Protocol):
    """An open file whose ranges are read on its filesystem's loop."""

    fs: Any
    path: str
    size: int
    blocksize: int

    @property
    def is_pinned(self) -> bool:
        """Whether all its ranges are known to be of one version."""

    def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to `end` as they arrive, all of one version."""


class Part:
    """One range, under way or there. The loop fills it, a reader's thread cuts it.

    Attributes:
        start: Its first byte.
        end: The first byte that is not wanted any more.
        at: The first byte that is not there yet.
        error: Why there will be no more.
        is_ahead: Whether nobody waited for it when it was begun.
        is_done: Whether no more is to come.
    """

    def __init__(self, start: int, end: int, *, is_ahead: bool) -> None:
        self.start = self.at = start
        self.end = end
        self.error: Exception | None = None
        self.is_ahead = is_ahead
        self.is_done = False
        self._is_small = end - start <= SMALL
        self._is_dropped = False
        self._task: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._offsets: list[int] = []
        self._pieces: list[bytes] = []

    # On the loop

    async def fill(self, source: Source) -> None:
        """Read it."""
        self._task = asyncio.current_task()
        try:
            if not self._is_dropped:
                await self._read(source)
        except Exception as error:  # noqa: BLE001 - raised to who reads so far
            self.error = error
        finally:
            self.is_done = True
            self._changed.set()

    async def _read(self, source: Source) -> None:
        async with aclosing(source.pieces(self.start, self.end)) as pieces:
            async for piece in pieces:
                # A reader looks at `at` last.
                self._offsets.append(self.at)
                self._pieces.append(piece)
                self.at += len(piece)
                self._changed.set()
                if self.at >= self.end:
                    return
        raise ObjectChanged(
            f"{source.path!r} ends at {self.at}: it is shorter than when it was opened."
        )

    async def arrived(self, upto: int) -> None:
        """Wait until it is there up to a byte, or no more is to come."""
        while self.at < upto and not self.is_done:
            self._changed.clear()
            await self._changed.wait()

    def cancel(self) -> None:
        """End it, its connection included."""
        if self._task is not None:
            self._task.cancel()

    # In a reader's thread

    @property
    def is_under_way(self) -> bool:
        """Whether bytes are to come; its task ends a moment after the last one."""
        return self.at < self.end and not self.is_done

    def has(self, upto: int) -> bool:
        """Tell whether who wants the bytes up to one has to wait for nothing."""
        wanted = self.end if self._is_small else upto
        return self.at >= wanted or self.is_done

    def wait(self, upto: int, loop: asyncio.AbstractEventLoop | None) -> None:
        """Wait until it is there up to a byte, or no more is to come."""
        if not self.has(upto):
            through(loop, self.arrived, self.end if self._is_small else upto)

    def drop(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Have it ended; waits for nothing."""
        self._is_dropped = True
        if not self.is_done and loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self.cancel)

    def views(self, start: int, end: int) -> list[bytes | memoryview]:
        """Return the bytes from one to another, which are there."""
        found: list[bytes | memoryview] = []
        index = bisect_right(self._offsets, start) - 1
        while start < end:
            piece, offset = self._pieces[index], self._offsets[index]
            first, last = start - offset, min(end - offset, len(piece))
            is_whole = last - first == len(piece)
            found.append(piece if is_whole else memoryview(piece)[first:last])
            start, index = offset + last, index + 1
        return found


async def fill(source: Source, parts: list[Part], call: Call | None) -> None:
    """Read ranges, all at a time, as parts of a call if there is one for them."""
    with call or nullcontext():
        # Each has its own end; a gather that is cancelled ends them all.
        await asyncio.gather(
            *(part.fill(source) for part in parts), return_exceptions=True
        )
