"""What the coroutines of a guarded asynchronous filesystem are made of."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.asyn import AsyncFileSystem

from connectorkit.guarded.inner import GONE, brings
from connectorkit.guarded.methods import Doubt, about, counted, handed_on
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.operation import Operation

__all__ = ["answer", "composite", "deletion", "primitive"]

T = TypeVar("T")


def primitive(name: str, kind: Kind, *, is_repeatable: bool = True) -> Any:
    """Make a coroutine that is one operation: the inner filesystem's own."""

    @_like_fsspecs(name)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        async def attempt(op: Operation) -> Any:
            return counted(op, await getattr(self.inner, f"_{name}")(*args, **kwargs))

        path = about(args, kwargs)
        return await self._arun(name, kind, path, attempt, is_repeatable=is_repeatable)

    return method


def deletion(name: str) -> Any:
    """Make a coroutine that is one operation, and may find its work done."""

    @_like_fsspecs(name)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = args[0] if args else kwargs.get("path")
        doubt = Doubt()

        async def attempt(op: Operation) -> Any:
            try:
                with doubt.of(op):
                    done = await getattr(self.inner, f"_{name}")(*args, **kwargs)
                    return handed_on(done)
            except FileNotFoundError:
                if not doubt.may_be_done(path):
                    raise
                try:
                    await self.inner._info(path)
                except GONE:
                    return None
                raise

        return await self._arun(name, Kind.DELETE, about(args, kwargs), attempt)

    return method


def composite(name: str, kind: Kind) -> Any:
    """Make a coroutine that is fsspec's, by others of the guarded filesystem.

    Where the inner class brings its own it is that, as one operation.
    """
    one = deletion(name) if kind is Kind.DELETE else primitive(name, kind)
    fsspecs = getattr(AsyncFileSystem, f"_{name}")

    @_like_fsspecs(name)
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        does = one if brings(self.inner, f"_{name}") else fsspecs
        return await does(self, *args, **kwargs)

    return method


def answer(name: str, kind: str | None = None) -> Any:
    """Make a coroutine that answers a question, no only if the storage says so."""

    @_like_fsspecs(name)
    async def method(self: Any, path: Any, **kwargs: Any) -> bool:
        is_own = brings(self.inner, f"_{name}")

        async def attempt(_op: Operation) -> bool:
            if is_own and await getattr(self.inner, f"_{name}")(path, **kwargs):
                return True
            try:
                info = await self.inner._info(path, **kwargs)
            except GONE:
                return False
            return not is_own and kind in {None, info["type"]}

        return bool(await self._arun(name, Kind.READ, path, attempt))

    return method


def _like_fsspecs(name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    return functools.wraps(getattr(AsyncFileSystem, f"_{name}"))
