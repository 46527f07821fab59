"""The guard of an asynchronous filesystem, and a sync one's on an event loop."""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.asyn import AbstractAsyncStreamedFile
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from connectorkit import ConnectorKit, ObjectChanged
from connectorkit.guarded import GuardedFileSystem, ThreadedFileSystem, is_async
from guarding import FILES, AsyncShelf, Guard, ShelfStream, reset

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path


def _on_loop(
    use: Callable[[Any, AsyncShelf, Guard], Coroutine[Any, Any, Any]],
    kind: type[AsyncShelf] = AsyncShelf,
) -> Any:
    """Use a guarded filesystem on a loop of its own."""

    async def run() -> Any:
        shelf = kind(FILES, asynchronous=True, loop=asyncio.get_running_loop())
        guard = Guard(shelf)
        return await use(guard.fs, shelf, guard)

    return asyncio.run(run())


# (coroutine, arguments, the operations)
_EACH: list[tuple[str, tuple[Any, ...], list[str]]] = [
    ("_cat_file", ("a/b",), ["cat_file"]),
    ("_info", ("a/b",), ["info"]),
    ("_exists", ("a/b",), ["exists"]),
    ("_isfile", ("a/b",), ["isfile"]),
    ("_isdir", ("a",), ["isdir"]),
    ("_size", ("a/b",), ["info"]),
    ("_sizes", (["a/b"],), ["info"]),
    ("_ls", ("a",), ["ls"]),
    ("_find", ("a",), ["ls", "ls"]),
    ("_glob", ("a/*",), ["isdir", "info", "ls"]),
    ("_du", ("a/c",), ["ls", "info"]),
    ("_expand_path", ("a/b",), []),
    ("_cat", (["a/b", "e"],), ["cat_file", "cat_file"]),
    ("_cat_ranges", (["a/b", "e"], 0, 1), ["cat_file", "cat_file"]),
    ("_pipe", ({"f": b"1"},), ["pipe_file"]),
    ("_pipe_file", ("f", b"1"), ["pipe_file"]),
    ("_cp_file", ("a/b", "f"), ["cp_file"]),
    ("_copy", ("a/b", "f"), ["isdir", "isdir", "cp_file"]),
    ("_mv_file", ("a/b", "f"), ["cp_file", "rm_file"]),
    ("_rm", ("a/b",), ["rm_file"]),
    ("_rm_file", ("a/b",), ["rm_file"]),
    ("_mkdir", ("new",), ["mkdir"]),
    ("_makedirs", ("new",), ["makedirs"]),
    ("_touch", ("f",), ["touch"]),
]


@pytest.mark.parametrize(
    ("method", "args", "names"), _EACH, ids=[each[0] for each in _EACH]
)
def test_coroutine_is_guarded(
    method: str, args: tuple[Any, ...], names: list[str]
) -> None:
    """A coroutine is an operation by its own name, or made of such."""

    async def use(fs: Any, shelf: AsyncShelf, guard: Guard) -> None:
        await getattr(fs, method)(*args)
        assert guard.names == names
        assert len(shelf.asked) == len(names)

    _on_loop(use)


def test_files_come_and_go(tmp_path: Path) -> None:
    """Get and put are an operation each, between two looks at a version."""

    async def use(fs: Any, shelf: AsyncShelf, guard: Guard) -> None:
        await fs._get_file("a/b", str(tmp_path / "b"))
        assert guard.names == ["info", "get_file", "info"]
        await fs._put_file(str(tmp_path / "b"), "f")
        assert shelf.files["f"] == b"content"
        await fs._get("a", str(tmp_path / "all"), recursive=True)
        assert (tmp_path / "all" / "c" / "d").read_bytes() == b"deeper"
        await fs._put(str(tmp_path / "all"), "again", recursive=True)
        assert shelf.files["again/c/d"] == b"deeper"

    _on_loop(use)


def test_walk() -> None:
    """Each folder of a walk is listed by an operation."""

    async def use(fs: Any, _shelf: AsyncShelf, guard: Guard) -> None:
        found = [path async for path, *_ in fs._walk("")]
        assert found == ["", "a", "a/c"]
        assert guard.names == ["ls"] * 3

    _on_loop(use)


def test_walk_of_a_class_of_its_own() -> None:
    """Its `_walk` is used, and one that has failed does not come to its end."""

    class Walking(AsyncShelf):
        async def _walk(self, path: str, **_kwargs: Any) -> AsyncIterator[Any]:
            yield path, ["a"], []
            raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

    async def use(fs: Any, _shelf: AsyncShelf, guard: Guard) -> None:
        steps = fs._walk("")
        assert await anext(steps) == ("", ["a"], [])
        with pytest.raises(ConnectionRefusedError):
            await anext(steps)
        assert guard.names == ["walk", "walk"]

    _on_loop(use, Walking)


def test_retry_and_lost_answer() -> None:
    """What may pass is tried again; what may have been deleted is not missed."""

    async def use(fs: Any, shelf: AsyncShelf, guard: Guard) -> None:
        shelf.fail(reset())
        assert await fs._cat_file("a/b") == b"content"
        shelf.lost = True
        shelf.fail(reset())
        await fs._rm_file("a/b")
        assert "a/b" not in shelf.files
        assert guard.attempts == 4
        with pytest.raises(FileNotFoundError):
            await fs._rm_file("a/b")

    _on_loop(use)


@pytest.mark.parametrize(
    "call",
    [
        lambda fs: fs._exists("a/b"),
        lambda fs: fs._isfile("a/b"),
        lambda fs: fs._isdir("a"),
        lambda fs: fs._find(""),
        lambda fs: fs._glob("*"),
        lambda fs: fs._rm("a", recursive=True),
        lambda fs: fs._cat_ranges(["a/b"], [0], [1]),
        lambda fs: fs._cat_ranges(["a/b"] * 2, [0, 1], [1, 2]),
        lambda fs: fs._get("a", "/dev/null/nowhere", recursive=True),
    ],
)
@pytest.mark.parametrize("is_sync", [False, True])
def test_refusal_is_raised(call: Callable[[Any], Any], is_sync: bool) -> None:
    """Nothing is swallowed, on a loop or by a thread."""

    class Refusing(AsyncShelf):
        def access(self, name: str, act: Any) -> Any:
            raise PermissionError(13, "denied")

    if is_sync:
        fs = Guard(Refusing(FILES)).fs

        class Sync:
            def __getattr__(self, name: str) -> Any:
                return getattr(fs, name.removeprefix("_"))

        with pytest.raises(PermissionError):
            call(Sync())
        return

    async def use(fs: Any, _shelf: AsyncShelf, _guard: Guard) -> None:
        with pytest.raises(PermissionError):
            await call(fs)

    _on_loop(use, Refusing)


def test_gone_is_no() -> None:
    """What is not there is not there."""

    async def use(fs: Any, _shelf: AsyncShelf, _guard: Guard) -> None:
        for ask in (fs._exists, fs._isfile, fs._isdir):
            assert not await ask("no")
        assert [path async for path, *_ in fs._walk("no")] == ["no"]

    _on_loop(use)


def test_no_of_a_class_that_swallows() -> None:
    """A no that a class made of an error is not believed; a yes is."""

    class Swallowing(AsyncShelf):
        async def _exists(self, path: str, **_kwargs: Any) -> bool:
            return path == "e"

    async def use(fs: Any, shelf: AsyncShelf, _guard: Guard) -> None:
        assert await fs._exists("e")
        assert not await fs._exists("a/b")
        shelf.fail(PermissionError(13, "denied"))
        with pytest.raises(PermissionError):
            await fs._exists("a/b")

    _on_loop(use, Swallowing)


def test_inner_methods_are_used() -> None:
    """What the inner class brings is one operation."""

    class Finding(AsyncShelf):
        async def _find(self, path: str, **_kwargs: Any) -> list[str]:
            found: list[str] = self.access("find", lambda: sorted(self.files))
            return found

        async def _mv_file(self, path1: str, path2: str) -> None:
            self.access("mv_file", lambda: self.put(path2, self.files.pop(path1)))

        async def _cat_ranges(self, *_args: Any, **_kwargs: Any) -> list[Any]:
            done: list[Any] = self.access("cat_ranges", lambda: [reset()])
            return done

    async def use(fs: Any, _shelf: AsyncShelf, guard: Guard) -> None:
        assert await fs._find("") == sorted(FILES)
        assert await fs._glob("e") == ["e"]
        await fs._mv_file("e", "f")
        with pytest.raises(ConnectionResetError):
            await fs._cat_ranges(["a/b"], [0], [1])
        assert guard.names == ["find", "exists", "mv_file", "cat_ranges"]
        assert not guard.ops[2].is_repeatable

    _on_loop(use, Finding)


def test_changed_file_does_not_arrive(tmp_path: Path) -> None:
    """A file that is replaced while it is got leaves what was there before."""

    class Changing(AsyncShelf):
        async def _get_file(self, rpath: str, lpath: str, **_kwargs: Any) -> None:
            await super()._get_file(rpath, lpath)
            self.put(rpath, b"another")

    async def use(fs: Any, _shelf: AsyncShelf, _guard: Guard) -> None:
        with pytest.raises(ObjectChanged):
            await fs._get_file("a/b", str(tmp_path / "b"))

    _on_loop(use, Changing)
    assert list(tmp_path.iterdir()) == []


def test_cancelled_get_leaves_nothing(tmp_path: Path) -> None:
    """A get that is cancelled leaves what was there before, alone."""

    class Hanging(AsyncShelf):
        async def _get_file(self, rpath: str, lpath: str, **_kwargs: Any) -> None:
            await super()._get_file(rpath, lpath)
            begun.set()
            await asyncio.Event().wait()

    begun = asyncio.Event()

    async def use(fs: Any, _shelf: AsyncShelf, _guard: Guard) -> None:
        task = asyncio.ensure_future(fs._get_file("a/b", str(tmp_path / "b")))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    _on_loop(use, Hanging)
    assert list(tmp_path.iterdir()) == []


class TestThreads:
    """The sync methods of an asynchronous filesystem run its coroutines."""

    def test_sync_methods(self, tmp_path: Path) -> None:
        """They give what the coroutines give."""
        guard = Guard(AsyncShelf(FILES))
        fs = guard.fs
        assert fs.cat_file("a/b") == b"content"
        assert fs.find("") == sorted(FILES)
        assert [path for path, *_ in fs.walk("")] == ["", "a", "a/c"]
        fs.put(str(tmp_path), "new/", recursive=True)
        fs.touch("f")
        fs.mv("e", "g")
        assert fs.cat("g") == b"top"
        assert fs.async_impl
        assert isinstance(fs, GuardedFileSystem)

    def test_files(self) -> None:
        """Files are read and written as those of a sync filesystem."""
        shelf = AsyncShelf(FILES)
        guard = Guard(shelf)
        with guard.fs.open("a/b", cache_type="none") as file:
            shelf.fail(reset())
            assert file.read(3) + file.read() == b"content"
        with pytest.raises(KeyError), guard.fs.open("a/b", "w") as file:  # noqa: PT012 - the block is it
            file.write("half")
            raise KeyError
        assert shelf.files == FILES
        with guard.fs.open("a/b", "w") as file:
            file.write("whole")
        assert shelf.files["a/b"] == b"whole"

    def test_extra_methods(self) -> None:
        """What only the inner class has is guarded, coroutine or not."""

        class More(AsyncShelf):
            async def _ask(self, path: str) -> str:
                return str(self.access("ask", lambda: path))

            def tell(self, path: str) -> str:
                return str(self.access("tell", lambda: path))

        async def use(fs: Any, _shelf: AsyncShelf, guard: Guard) -> None:
            assert await fs._ask("a") == "a"
            assert fs.tell("b") == "b"
            assert guard.names == ["ask", "tell"]
            with pytest.raises(AttributeError):
                _ = fs._no_such_coroutine

        _on_loop(use, More)


class TestStreams:
    """Files with coroutines."""

    def test_read(self) -> None:
        """Each read is an operation, and repeated from where it was."""

        async def use(fs: Any, shelf: AsyncShelf, guard: Guard) -> None:
            async with await fs.open_async("a/b") as file:
                first = await file.read(3)
                shelf.fail(reset())
                assert first + await file.read() == b"content"
                assert await file.read(1) == b""
                assert (file.size, file.tell()) == (7, 7)
            assert guard.names.count("read") == 3

        _on_loop(use)

    def test_replaced(self) -> None:
        """A file that is replaced between two reads is told of."""

        async def use(fs: Any, shelf: AsyncShelf, _guard: Guard) -> None:
            file = await fs.open_async("a/b")
            await file.read(3)
            shelf.put("a/b", b"another")
            await file.read(2)
            with pytest.raises(ObjectChanged):
                await file.close()
            with pytest.raises(KeyError):  # noqa: PT012 - the block is it
                async with await fs.open_async("a/b") as file:
                    await file.read(1)
                    await file.read(1)
                    shelf.put("a/b", b"another")
                    raise KeyError

        _on_loop(use)

    def test_body_that_failed(self) -> None:
        """A body that is read onwards is not read again after a failure."""

        class Onwards(AbstractAsyncStreamedFile):  # type: ignore[misc]
            async def read(self, length: int = -1) -> bytes:
                data: bytes = self.fs.access("read", lambda: b"abc")
                return data

        class Streaming(AsyncShelf):
            async def open_async(
                self, path: str, mode: str = "rb", **_kwargs: Any
            ) -> Any:
                return Onwards(self, path, mode, 8, cache_type="none", size=7)

        async def use(fs: Any, shelf: AsyncShelf, _guard: Guard) -> None:
            file = await fs.open_async("a/b")
            assert await file.read(3) == b"abc"
            shelf.fail(ConnectionRefusedError(errno.ECONNREFUSED, "refused"))
            for _ in range(2):
                with pytest.raises(ConnectionRefusedError):
                    await file.read(3)
            assert shelf.asked == ["read", "read"]
            await file.close()

        _on_loop(use, Streaming)

    def test_write(self) -> None:
        """What is written is there when the file is closed, by one operation."""

        async def use(fs: Any, shelf: AsyncShelf, guard: Guard) -> None:
            async with await fs.open_async("a/b", "wb") as file:
                await file.write(b"new ")
                await file.write(b"content")
                await file.flush()
                assert file.tell() == 11
                assert shelf.files["a/b"] == b"content"
                shelf.fail(reset())
            assert shelf.files["a/b"] == b"new content"
            assert guard.names == ["close"]
            with pytest.raises(ValueError, match="closed"):
                await file.write(b"more")
            await file.close()

        _on_loop(use)

    @pytest.mark.parametrize("options", [{}, {"owner": "me"}])
    def test_big_or_special(self, options: dict[str, str]) -> None:
        """A big file, or one with options, is sent through the inner filesystem's."""

        async def use(fs: Any, shelf: AsyncShelf, _guard: Guard) -> None:
            size = 3 << 20 if options else 17 << 20
            async with await fs.open_async("f", "wb", **options) as file:
                await file.write(bytes(size))
                shelf.fail(None, None, reset())
            assert shelf.files["f"] == bytes(size)
            assert "upload" in shelf.asked

        _on_loop(use)

    def test_exception_drops(self) -> None:
        """An exception leaves what was there before; so does a failed close."""

        async def use(fs: Any, shelf: AsyncShelf, _guard: Guard) -> None:
            with pytest.raises(KeyError):  # noqa: PT012 - the block is it
                async with await fs.open_async("a/b", "wb") as file:
                    await file.write(b"half")
                    raise KeyError
            assert shelf.asked == []
            file = await fs.open_async("a/b", "wb", owner="me")
            await file.write(b"new")
            shelf.fail(PermissionError(13, "denied"), OSError(5, "broken"))
            with pytest.raises(PermissionError) as caught:
                await file.close()
            assert shelf.files == FILES
            assert "may still be there" in caught.value.__notes__[0]

        class Discarding(AsyncShelf):
            async def open_async(
                self, path: str, mode: str = "rb", **_kwargs: Any
            ) -> Any:
                return DiscardingStream(self, path, mode, 8, cache_type="none")

        _on_loop(use, Discarding)

    def test_other_modes(self) -> None:
        """There is no other mode."""

        async def use(fs: Any, _shelf: AsyncShelf, _guard: Guard) -> None:
            for mode in ("r", "ab", "w"):
                with pytest.raises(ValueError, match="open_async"):
                    await fs.open_async("a/b", mode)

        _on_loop(use)


class DiscardingStream(ShelfStream):
    """A file whose upload can be dropped."""

    async def discard(self) -> None:
        self.fs.access("discard", lambda: None)


class TestSyncOnALoop:
    """A sync filesystem on a host's own loop, by threads."""

    def test_kit_gives_one(self, tmp_path: Path) -> None:
        """The kit's filesystem for a loop is guarded as the sync one is."""
        settings = {"path": str(tmp_path)}
        config = {"connectors": {"it": {"type": "local", "settings": settings}}}

        async def use() -> None:
            async with ConnectorKit(config) as kit:
                fs = kit.resolve("it").async_fs()
                await fs._pipe_file("a/b", b"content")
                assert await fs._cat_file("a/b") == b"content"
                assert [path async for path, *_ in fs._walk("")] == ["", "a"]
                assert await fs._find("") == ["a/b"]

        asyncio.run(use())

    def test_walk_swallows_nothing(self) -> None:
        """A folder that cannot be listed is told of; fsspec's wrapper hides it."""

        class Refusing(MemoryFileSystem):  # type: ignore[misc]
            def ls(self, path: str, detail: bool = True, **_kwargs: Any) -> list[Any]:
                raise PermissionError(13, "denied")

        async def use() -> None:
            fs = ThreadedFileSystem(Guard(Refusing()).fs, asynchronous=True)
            with pytest.raises(PermissionError):
                [each async for each in fs._walk("/")]

        asyncio.run(use())

    def test_third_party_that_only_seems_asynchronous(self) -> None:
        """A DirFileSystem around a sync filesystem has no coroutines that work."""
        memory = MemoryFileSystem(global_store=False, skip_instance_cache=True)
        memory.pipe_file("/a/b", b"content")
        seeming = DirFileSystem(path="/a", fs=memory)
        assert seeming.async_impl
        assert not is_async(seeming)
        fs = Guard(seeming).fs
        assert not fs.async_impl
        assert fs.cat_file("b") == b"content"

        async def use() -> bytes:
            content: bytes = await ThreadedFileSystem(fs, asynchronous=True)._cat_file(
                "b"
            )
            return content

        assert asyncio.run(use()) == b"content"
        shelf = DirFileSystem(path="a", fs=AsyncShelf(FILES))
        assert is_async(shelf)
        assert Guard(shelf).fs.find("") == ["b", "c/d"]
