"""A limit in time on what a task awaits: asyncio.timeout at half the price.

Every attempt has one, and it is the most that a pipeline adds to it.
"""

from __future__ import annotations

import asyncio

__all__ = ["Limit"]


class Limit:
    """Cancels the running task when so many seconds are over; begins at once.

    ```python
    limit = Limit(seconds)
    try:
        await work()
    except asyncio.CancelledError as error:
        if limit.lift():
            raise Late from error
        raise
    finally:
        limit.lift()
    ```

    Args:
        seconds: From now on.
    """

    __slots__ = ("_cancelling", "_handle", "_is_over", "_task")

    def __init__(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task(loop)
        if task is None:
            raise RuntimeError("A limit holds for what a task awaits.")
        self._task = task
        # Somebody else may have cancelled it before, and is owed that.
        self._cancelling = task.cancelling()
        self._is_over = False
        self._handle = loop.call_later(seconds, self._end)

    def _end(self) -> None:
        self._is_over = True
        self._task.cancel()

    def lift(self) -> bool:
        """End it; once more changes nothing.

        Returns:
            Whether it alone has cancelled the task, and that is undone.
        """
        self._handle.cancel()
        if not self._is_over:
            return False
        self._is_over = False
        return self._task.uncancel() <= self._cancelling
