"""The guarded filesystem of an asynchronous one, on an event loop and by threads."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec.asyn import AsyncFileSystem
from fsspec.callbacks import DEFAULT_CALLBACK

from connectorkit.guarded.arrival import Arrival
from connectorkit.guarded.coroutines import answer, composite, deletion, primitive
from connectorkit.guarded.filesystem import GuardedFileSystem, raise_unless_gone
from connectorkit.guarded.inner import GONE, brings, version
from connectorkit.guarded.methods import about, handed_on
from connectorkit.guarded.streams import GuardedStream, StagedStream
from connectorkit.guarded.transfers import getting, repeated, size_of, told
from connectorkit.guarded.versions import changed
from connectorkit.operation import Kind
from connectorkit.wired import Wired

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from fsspec import AbstractFileSystem

    from connectorkit.operation import Operation
    from connectorkit.pipeline import Pipeline

__all__ = ["GuardedAsyncFileSystem"]

T = TypeVar("T")
_END = object()


class GuardedAsyncFileSystem(GuardedFileSystem, Wired, AsyncFileSystem):  # type: ignore[misc]
    """As `GuardedFileSystem`, with coroutines; the sync methods run those."""

    def __init__(self, inner: AbstractFileSystem, pipeline: Pipeline) -> None:
        super().__init__(
            inner,
            pipeline,
            asynchronous=inner.asynchronous,
            loop=inner._loop,
            batch_size=inner.batch_size,
        )
        self.disable_throttling = inner.disable_throttling

    async def _arun(
        self,
        name: str,
        kind: Kind,
        path: Any,
        attempt: Callable[[Operation], Awaitable[T]],
        **facts: Any,
    ) -> T:
        op = self._operation(name, kind, path, facts)
        return await self.pipeline.arun(op, attempt)

    def _extra(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        if not inspect.iscoroutinefunction(method):
            return super()._extra(name, method)

        @functools.wraps(method)
        async def guarded(*args: Any, **kwargs: Any) -> Any:
            async def attempt(_op: Operation) -> Any:
                return await method(*args, **kwargs)

            path = about(args, kwargs)
            facts = {"is_repeatable": False}
            return await self._arun(name, Kind.WRITE, path, attempt, **facts)

        return guarded

    def _coroutine(self, name: str) -> Any:
        method = getattr(self.inner, name, None)
        if not inspect.iscoroutinefunction(method):
            return super()._coroutine(name)
        return self._extra(name.removeprefix("_"), method)

    async def _aseen(self, path: str) -> dict[str, Any] | None:
        try:
            info: dict[str, Any] = await self._info(path)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - judged
            self._accept_unseen(error)
            return None
        return info

    async def _acompare(self, path: str, before: dict[str, Any] | None) -> None:
        if before is None:
            return
        try:
            now = await self._info(path)
        except GONE as error:
            raise changed(path) from error
        if version(now) != version(before):
            raise changed(path)

    # One operation each

    _cat_file = primitive("cat_file", Kind.READ)
    _cp_file = primitive("cp_file", Kind.WRITE)
    _info = primitive("info", Kind.READ)
    _ls = primitive("ls", Kind.LIST)
    _mkdir = primitive("mkdir", Kind.WRITE, is_repeatable=False)
    _rm_file = deletion("rm_file")

    _exists = answer("exists")
    _isdir = answer("isdir", "directory")
    _isfile = answer("isfile", "file")

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        async def attempt(_op: Operation) -> None:
            await self.inner._makedirs(path, exist_ok=exist_ok)

        facts = {"is_repeatable": exist_ok}
        await self._arun("makedirs", Kind.WRITE, path, attempt, **facts)

    async def _mv_file(self, path1: str, path2: str) -> None:
        if not brings(self.inner, "_mv_file"):
            await AsyncFileSystem._mv_file(self, path1, path2)
            return

        async def attempt(_op: Operation) -> None:
            await self.inner._mv_file(path1, path2)

        facts = {"is_repeatable": False}
        await self._arun("mv_file", Kind.WRITE, path1, attempt, **facts)

    # One operation, or many: as the inner class has it

    _copy = composite("copy", Kind.WRITE)
    _du = composite("du", Kind.LIST)
    _expand_path = composite("expand_path", Kind.LIST)
    _find = composite("find", Kind.LIST)
    _glob = composite("glob", Kind.LIST)
    _rm = composite("rm", Kind.DELETE)
    _size = composite("size", Kind.READ)
    _sizes = composite("sizes", Kind.READ)

    walk = Wired.walk

    async def _walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = None,
        detail: bool = False,
        **kwargs: Any,
    ) -> AsyncIterator[Any]:
        on_error = on_error or raise_unless_gone
        if not brings(self.inner, "_walk"):
            async for level in Wired._walk(
                self, path, maxdepth, topdown, on_error, detail, **kwargs
            ):
                yield level
            return
        if "on_error" in inspect.signature(self.inner._walk).parameters:
            kwargs["on_error"] = on_error
        told = {"maxdepth": maxdepth, "topdown": topdown, "detail": detail, **kwargs}
        steps = self.inner._walk(path, **told)
        failed: Exception | None = None

        async def attempt(_op: Operation) -> Any:
            nonlocal failed
            if failed is not None:
                # A generator that has raised would seem to have come to its end.
                raise failed
            try:
                return await anext(steps, _END)
            except Exception as error:
                failed = error
                raise

        facts = {"is_repeatable": False}
        while True:
            step = await self._arun("walk", Kind.LIST, path, attempt, **facts)
            if step is _END:
                return
            yield step

    # Whole files

    async def _pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        async def attempt(op: Operation) -> None:
            await self.inner._pipe_file(path, value, **told(mode), **kwargs)
            op.origin.bytes = op.size

        size = memoryview(value).nbytes
        facts = {"size": size, "is_repeatable": mode != "create"}
        await self._arun("pipe_file", Kind.WRITE, path, attempt, **facts)

    async def _put_file(
        self, lpath: str, rpath: str, mode: str = "overwrite", **kwargs: Any
    ) -> None:
        async def attempt(op: Operation) -> None:
            await self.inner._put_file(lpath, rpath, **told(mode), **kwargs)
            op.origin.bytes = op.size

        facts = {"size": size_of(lpath), "is_repeatable": mode != "create"}
        await self._arun("put_file", Kind.WRITE, rpath, attempt, **facts)

    async def _get_file(
        self, rpath: str, lpath: Any, callback: Any = DEFAULT_CALLBACK, **kwargs: Any
    ) -> None:
        arrival = Arrival(lpath)
        before = await self._aseen(rpath)
        if arrival.is_folder(before):
            return
        with arrival:

            async def attempt(op: Operation) -> None:
                place = arrival.begin()
                try:
                    await self.inner._get_file(
                        rpath, place, callback=callback, **kwargs
                    )
                except BaseException as error:
                    arrival.failed(error)
                    raise
                op.origin.bytes = arrival.size()

            facts = getting(before, arrival)
            await self._arun("get_file", Kind.READ, rpath, attempt, **facts)
            await self._acompare(rpath, before)

    async def _cat_ranges(  # noqa: PLR0913, PLR0917 - fsspec's own signature
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "raise",
        **kwargs: Any,
    ) -> list[Any]:
        more = {"max_gap": max_gap, "batch_size": batch_size}
        more = {k: v for k, v in more.items() if v is not None} | kwargs
        seen = {path: await self._aseen(path) for path in repeated(paths)}
        if brings(self.inner, "_cat_ranges"):

            async def attempt(_op: Operation) -> Any:
                return await self.inner._cat_ranges(
                    paths, starts, ends, on_error=on_error, **more
                )

            about_path = next(iter(paths), "")
            ranges = await self._arun("cat_ranges", Kind.READ, about_path, attempt)
        else:
            ranges = await AsyncFileSystem._cat_ranges(
                self, paths, starts, ends, on_error=on_error, **more
            )
        for path, before in seen.items():
            await self._acompare(path, before)
        found: list[Any] = ranges if on_error == "return" else handed_on(ranges)
        return found

    # Opening

    async def open_async(self, path: str, mode: str = "rb", **kwargs: Any) -> Any:
        """Open a file whose methods are coroutines.

        What is written takes its place when it is closed; an exception within its
        `async with` drops it.

        Args:
            path: The file.
            mode: "rb" or "wb".
            kwargs: The inner filesystem's own.

        Raises:
            ValueError: The mode is none of these.
        """
        if mode not in {"rb", "wb"} or kwargs.get("compression"):
            raise ValueError(f"open_async knows 'rb' and 'wb', not {mode!r}")
        if mode == "wb":
            return StagedStream(self, path, kwargs)

        async def attempt(_op: Operation) -> Any:
            return await self.inner.open_async(path, mode, **kwargs)

        file = await self._arun("open", Kind.READ, path, attempt)
        return GuardedStream(self, path, file)
