"""Where stalled requests wait until a test lets them go."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from connectorkit.testing.wire import Peer

__all__ = ["Stalls"]


class Stalls:
    """The requests that wait; they do so in the proxy's loop."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, client: Peer) -> None:
        """Wait for the release; ConnectionError if the client leaves before."""
        released = asyncio.Event()
        with self._changed:
            self._waiting[released] = asyncio.get_running_loop()
            self._changed.notify_all()
        either = [asyncio.ensure_future(e.wait()) for e in (released, client.gone)]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in either:
                each.cancel()
            with self._changed:
                self._waiting.pop(released, None)
                self._changed.notify_all()
        if not released.is_set():
            raise ConnectionResetError("the client left while it was stalled")

    def release(self) -> None:
        """Let all go on that wait now."""
        with self._changed:
            waiting, self._waiting = self._waiting, {}
            self._changed.notify_all()
        for released, loop in waiting.items():
            loop.call_soon_threadsafe(released.set)

    def wait_for(self, count: int, seconds: float) -> bool:
        """Wait until exactly `count` wait; False if they do not within the time."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self) == count, seconds)
