"""A sync filesystem on a host's own event loop, by threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["ThreadedFileSystem"]

_END = object()


class ThreadedFileSystem(AsyncFileSystemWrapper):  # type: ignore[misc]
    """fsspec's, whose `_walk` is the sync one's: fsspec's own swallows errors."""

    async def _walk(self, path: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        steps = self.sync_fs.walk(path, *args, **kwargs)
        while (step := await asyncio.to_thread(next, steps, _END)) is not _END:
            yield step
