"""Layers around asynchronous filesystems: on an event loop, and by threads.

What a cache answers is decided in threads, since it locks files and reads them; what it
does not is the inner filesystem's coroutine, on the loop.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from fsspec.asyn import AsyncFileSystem

from connectorkit.bridge import through
from connectorkit.fork import renew_in_child
from connectorkit_cache.delegation import READS, WRITES, areading, awriting
from connectorkit_cache.layer import Layer
from connectorkit_cache.stream import OuterStream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from fsspec import AbstractFileSystem

    from connectorkit import Connector, Policy

__all__ = ["AsyncLayer", "in_thread"]

T = TypeVar("T")
_END = object()
_WORKERS = 32


class Threads:
    """Threads of the caches' own: some wait for what others fetch.

    A loop's default ones resolve the names of hosts, and who fetches needs those.
    """

    def __init__(self) -> None:
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Forget the parent's."""
        self._pool: ThreadPoolExecutor | None = None

    async def run(self, function: Callable[..., T], *args: Any, **kwargs: Any) -> T:
        """Run a function in a thread, in the caller's context."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(_WORKERS, "connectorkit-cache")
        context = contextvars.copy_context()
        call = functools.partial(context.run, function, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._pool, call)


_threads = Threads()
in_thread = _threads.run


def answered(name: str) -> Any:
    """Make a coroutine that is the layer's own method, in a thread."""

    @functools.wraps(getattr(AsyncFileSystem, f"_{name}"))
    async def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await in_thread(getattr(self, name), *args, **kwargs)

    return method


def bridged(name: str) -> Any:
    """Make a method that runs fsspec's coroutine, many files at a time."""

    @functools.wraps(getattr(AsyncFileSystem, f"_{name}"))
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        its = getattr(AsyncFileSystem, f"_{name}")
        return through(self.loop, its, self, *args, **kwargs)

    return method


class OnLoop:
    """A filesystem on a host's own loop, whose coroutines are called from threads."""

    def __init__(self, fs: Any, loop: asyncio.AbstractEventLoop) -> None:
        self._fs = fs
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        coroutine = getattr(self._fs, f"_{name}", None)
        if name.startswith("_") or not asyncio.iscoroutinefunction(coroutine):
            return getattr(self._fs, name)

        @functools.wraps(coroutine)
        def call(*args: Any, **kwargs: Any) -> Any:
            return through(self._loop, coroutine, *args, **kwargs)

        return call


class AsyncLayer(Layer, AsyncFileSystem):  # type: ignore[misc]
    """A layer around an asynchronous filesystem, which is one itself.

    Attributes:
        answers: The methods that the cache answers; a subclass names them.
    """

    answers: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self, inner: AbstractFileSystem, policy: Policy, connector: Connector
    ) -> None:
        super().__init__(
            inner,
            policy,
            connector,
            asynchronous=inner.asynchronous,
            loop=inner._loop,
            batch_size=inner.batch_size,
        )
        self.disable_throttling = inner.disable_throttling
        self._beneath: Any = inner
        if inner.asynchronous and not isinstance(inner, Layer):
            self._beneath = OnLoop(inner, asyncio.get_running_loop())

    @property
    def beneath(self) -> Any:
        """The inner filesystem, for who calls it from a thread."""
        return self._beneath

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in cls.answers:
            # That of `walk` is a generator, below.
            if name != "walk" and hasattr(AsyncFileSystem, f"_{name}"):
                setattr(cls, f"_{name}", answered(name))

    for _name in READS:
        if hasattr(AsyncFileSystem, f"_{_name}"):
            locals()[f"_{_name}"] = areading(_name)
    for _name in (*WRITES, "mv_file"):
        if hasattr(AsyncFileSystem, f"_{_name}"):
            locals()[f"_{_name}"] = awriting(_name)
    del _name

    cat = bridged("cat")
    get = bridged("get")

    async def _walk(self, path: str, *args: Any, **kwargs: Any) -> AsyncIterator[Any]:
        if "walk" in self.answers:
            steps = self.walk(path, *args, **kwargs)
            while (step := await in_thread(next, steps, _END)) is not _END:
                yield step
            return
        async for step in self.inner._walk(path, *args, **kwargs):
            yield step

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """Open a file whose methods are coroutines, as the inner filesystem does."""
        file = await self.inner.open_async(path, mode, **kwargs)
        return OuterStream(self, path, file)

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        """Connect."""
        return await self.inner.set_session(*args, **kwargs)
