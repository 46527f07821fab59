"""Open files with coroutines."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import TracebackType

    from connectorkit_cache.layer import Layer

__all__ = ["OuterStream"]


class OuterStream:
    """A file with coroutines that belongs to a layer; what is written is forgotten.

    Attributes:
        fs: The layer.
        path: Its path there.
    """

    def __init__(self, fs: Layer, path: str, file: Any) -> None:
        self.fs = fs
        self.path = path
        self._inner = file

    async def close(self) -> None:
        """Close it; what was written takes its place."""
        try:
            done = self._inner.close()
            if inspect.isawaitable(done):
                await done
        finally:
            self._forget()

    def _forget(self) -> None:
        if "r" not in getattr(self._inner, "mode", "rb"):
            self.fs.forget_all_of((self.path,), {})

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._inner, name)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            await self._inner.__aexit__(kind, error, traceback)
        finally:
            self._forget()


class ThreadedStream:
    """A file whose methods are coroutines, over one that is read in threads."""

    def __init__(self, file: Any) -> None:
        self._file = file

    async def read(self, length: int = -1) -> bytes:
        """Read at most so many bytes, or all that are left; none at the end."""
        from connectorkit_cache.asynchronous import in_thread

        data: bytes = await in_thread(self._file.read, length)
        return data

    async def close(self) -> None:
        """Close it."""
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        # Where it is, how big: nothing of that asks the storage.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._file, name)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.close()
