"""Wired filesystems: fsspec classes whose every request goes through a pipeline.

Their public methods are calls: the operations that one makes, however parallel, share
its deadline and its half-open permit.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import re
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from connectorkit.bridge import through
from connectorkit.call import joined
from connectorkit.moving import is_move
from connectorkit.pipeline import Pipeline
from connectorkit.releasable import Releasable
from connectorkit.standalone import standalone_pipeline

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator


__all__ = ["Wired", "without_policies"]

T = TypeVar("T")
_PRIVATE = re.compile(r"_[^_]")
_END = object()
_without: ContextVar[bool] = ContextVar("connectorkit_without", default=False)
# Made of other public methods, in the caller's own thread.
_COMPOSITE = ("head", "mv", "read_block", "tail")


@contextlib.contextmanager
def without_policies() -> Iterator[None]:
    """Have wired filesystems make one attempt at each request, whatever circuits say.

    For finding out what is wrong now.
    """
    token = _without.set(True)
    try:
        yield
    finally:
        _without.reset(token)


class Wired(Releasable):
    """For an asynchronous fsspec class that puts each request through `pipeline`.

    Every coroutine `_x` that has a public twin `x` begins a call, unless it is a part
    of one, and the twin runs it on the filesystem's loop by our own bridge.

    Attributes:
        connector_type: The ID of the connector type, for one that stands alone.
    """

    connector_type: ClassVar[str]
    _loop: asyncio.AbstractEventLoop | None
    _pid: int
    _pipeline: Pipeline | None = None

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in dir(cls):
            method, twin = getattr(cls, name), getattr(cls, name[1:], None)
            if not (_PRIVATE.match(name) and inspect.isfunction(twin)):
                continue
            if not inspect.iscoroutinefunction(method):
                continue
            if not hasattr(method, "begins_call"):
                setattr(cls, name, _beginning_a_call(method))
            if not hasattr(twin, "begins_call"):
                setattr(cls, name[1:], _bridged(name, twin))
        for name in _COMPOSITE:
            method = getattr(cls, name, None)
            if method is not None and not hasattr(method, "begins_call"):
                setattr(cls, name, _composite(method))

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop that it runs on.

        Raises:
            RuntimeError: It runs in the process that this one was forked from.
        """
        if self._pid != os.getpid():
            whose = self.connector.id if self.connector else self.connector_type
            raise RuntimeError(
                f"This filesystem of {whose!r} is of the process that this one was "
                "forked from: ask its connector for `fs` again."
            )
        return self._loop

    @property
    def pipeline(self) -> Pipeline:
        """Its policies; the defaults, if it stands alone."""
        if self._pipeline is None:
            self._pipeline = standalone_pipeline(self)
        if _without.get():
            return Pipeline((), self._pipeline.scope)
        return self._pipeline

    @pipeline.setter
    def pipeline(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline

    def may_serve(self, pipeline: Pipeline) -> bool:
        """Tell whether `pipeline` may take the place of what it has."""
        return self._pipeline is None or self._pipeline.is_like(pipeline)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move files.

        Raises:
            ValueError: They would go into what is deleted.
        """
        if is_move(self, path1, path2, recursive=recursive):
            super().mv(path1, path2, recursive, maxdepth, **kwargs)  # type: ignore[misc]

    def walk(self, path: str, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield each folder below `path`, with the folders and files in it."""
        steps = self._walk(path, *args, **kwargs)
        while True:
            step = through(self.loop, _next, steps)
            if step is _END:
                return
            yield step

    async def _walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = None,
        detail: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        """Yield each folder; `on_error` holds for all of them.

        fsspec takes any refusal for an empty folder, and asks `on_error` of the first
        one alone.
        """
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        on_error = on_error or _raise_unless_gone
        level = {"maxdepth": 1, "on_error": on_error, "detail": True, **kwargs}
        left = None if maxdepth is None else maxdepth - 1
        async for here, folders, files in super()._walk(path, **level):  # type: ignore[misc]
            below = {name: info["name"].rstrip("/") for name, info in folders.items()}
            step = (here, folders, files)
            if not detail:
                step = (here, list(folders), list(files))
            if topdown:
                yield step
            # Who walks from the top may have removed some.
            for name in list(step[1]) if left != 0 else ():
                more = self._walk(
                    below[name], left, topdown, on_error, detail, **kwargs
                )
                async for each in more:
                    yield each
            if not topdown:
                yield step

    async def _isdir(self, path: str) -> bool:
        # fsspec takes any refusal for a no.
        try:
            info = await self._info(path)  # type: ignore[attr-defined]
        except FileNotFoundError:
            return False
        return bool(info["type"] == "directory")

    async def _isfile(self, path: str) -> bool:
        try:
            info = await self._info(path)  # type: ignore[attr-defined]
        except FileNotFoundError:
            return False
        return bool(info["type"] == "file")


async def _next(steps: AsyncIterator[Any]) -> Any:
    return await anext(steps, _END)


def _raise_unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _beginning_a_call(
    method: Callable[..., Awaitable[T]],
) -> Callable[..., Awaitable[T]]:
    @functools.wraps(method)
    async def begin(self: Wired, *args: Any, **kwargs: Any) -> T:
        with joined(self.pipeline.scope):
            return await method(self, *args, **kwargs)

    begin.begins_call = True  # type: ignore[attr-defined]
    return begin


def _bridged(name: str, twin: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(twin)
    def cross(self: Wired, *args: Any, **kwargs: Any) -> Any:
        return through(self.loop, getattr(self, name), *args, **kwargs)

    cross.begins_call = True  # type: ignore[attr-defined]
    return cross


def _composite(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def begin(self: Wired, *args: Any, **kwargs: Any) -> Any:
        with joined(self.pipeline.scope):
            return method(self, *args, **kwargs)

    begin.begins_call = True  # type: ignore[attr-defined]
    return begin
