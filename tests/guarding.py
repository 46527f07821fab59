"""What the tests of guarded filesystems share: a storage that counts, and a guard.

```python
shelf = Shelf({"a/b": b"content"})
guard = Guard(shelf)
assert guard.fs.cat_file("a/b") == b"content"
assert guard.names == ["cat_file"]
assert shelf.asked == ["cat_file"]
```
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.asyn import AbstractAsyncStreamedFile, AsyncFileSystem
from fsspec.spec import AbstractBufferedFile

from connectorkit import Pipeline, Policy, Scope
from connectorkit.guarded import GuardedFileSystem
from connectorkit.scope import Memory
from connectorkit.testing import VirtualClock
from connectorkit_retry import Retry, RetrySettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit import Operation
    from connectorkit.policy import Flow

__all__ = ["BLOCK", "FILES", "AsyncShelf", "Guard", "Shelf", "reset"]

BLOCK = 8
FILES = {"a/b": b"content", "a/c/d": b"deeper", "e": b"top"}


def reset() -> ConnectionResetError:
    """Return an error that may pass."""
    return ConnectionResetError(104, "Connection reset by peer")


class Seeing(Policy):
    """Keeps every operation, and counts the attempts."""

    name = "seeing"

    def __init__(self) -> None:
        super().__init__()
        self.ops: list[Operation] = []
        self.attempts = 0

    def around(self, op: Operation) -> Flow:
        self.attempts += 1
        return (yield op)

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.ops.append(op)


class Guard:
    """A guarded filesystem, and what went through its pipeline.

    Attributes:
        fs: The filesystem.
        clock: Its clock: retries wait for nobody.
    """

    def __init__(self, inner: AbstractFileSystem, attempts: int = 3) -> None:
        self._seeing = Seeing()
        self.clock = VirtualClock()
        settings = RetrySettings(
            attempts=attempts, budget_ratio=None, budget_burst=None
        )
        scope = Scope("it", "shelf", "it", clock=self.clock, memory=Memory())
        pipeline = Pipeline((Retry(settings), self._seeing), scope)
        self.fs: Any = GuardedFileSystem(inner, pipeline)

    @property
    def ops(self) -> list[Operation]:
        """The operations that have ended."""
        return self._seeing.ops

    @property
    def names(self) -> list[str]:
        """Their names."""
        return [op.name for op in self.ops]

    @property
    def attempts(self) -> int:
        """How many attempts were made."""
        return self._seeing.attempts


class _Rows:
    """What a shelf keeps, and what it is asked for.

    Attributes:
        files: Content by path.
        asked: Every access, by its name.
        faults: What the next accesses raise; None for one that works.
        lost: Whether what fails is done nevertheless.
    """

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.folders: set[str] = set()
        self.versions = dict.fromkeys(self.files, 0)
        self.asked: list[str] = []
        self.faults: deque[Exception | None] = deque()
        self.lost = False
        self._numbers = itertools.count(1)

    def fail(self, *errors: Exception | None) -> None:
        """Let the next accesses fail."""
        self.faults.extend(errors)

    def access(self, name: str, act: Any) -> Any:
        """Do something, unless it is to fail."""
        self.asked.append(name)
        fault = self.faults.popleft() if self.faults else None
        if fault is not None and not self.lost:
            raise fault
        done = act()
        if fault is not None:
            raise fault
        return done

    def put(self, path: str, value: bytes) -> None:
        """Write a file."""
        self.files[path] = bytes(value)
        self.versions[path] = next(self._numbers)

    def entry(self, path: str) -> dict[str, Any]:
        """Describe a path."""
        if path in self.files:
            content = self.files[path]
            facts = {"size": len(content), "ETag": str(self.versions[path])}
            return {"name": path, "type": "file", **facts}
        if path in self.all_folders():
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def all_folders(self) -> set[str]:
        """Return the folders, those that only a file implies included."""
        found = {"", *self.folders}
        for path in [*self.files, *self.folders]:
            parts = path.split("/")[:-1]
            found |= {"/".join(parts[: n + 1]) for n in range(len(parts))}
        return found

    def listing(self, path: str) -> list[dict[str, Any]]:
        """List a folder."""
        if self.entry(path)["type"] == "file":
            return [self.entry(path)]
        prefix = f"{path}/" if path else ""
        names = {*self.files, *self.all_folders()} - {""}
        return [
            self.entry(name)
            for name in sorted(names)
            if name.startswith(prefix) and "/" not in name[len(prefix) :]
        ]

    def drop(self, path: str) -> None:
        """Delete a file."""
        if path not in self.files:
            raise FileNotFoundError(path)
        del self.files[path]

    def cut(self, path: str, start: int | None, end: int | None) -> bytes:
        """Read a range."""
        self.entry(path)
        return self.files[path][start:end]


class Shelf(_Rows, AbstractFileSystem):  # type: ignore[misc]
    """A storage of a third party's, with fsspec's own way of doing most things."""

    protocol = "shelf"
    cachable = False

    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        AbstractFileSystem.__init__(self)
        _Rows.__init__(self, files)

    def info(self, path: str, **_kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        found: dict[str, Any] = self.access("info", lambda: self.entry(path))
        return found

    def ls(self, path: str, detail: bool = True, **_kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        found = self.access("ls", lambda: self.listing(path))
        return found if detail else [each["name"] for each in found]

    def cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        data: bytes = self.access("cat_file", lambda: self.cut(path, start, end))
        return data

    def get_file(self, rpath: str, lpath: Any, **_kwargs: Any) -> None:
        def act() -> None:
            data = self.cut(rpath, None, None)
            if hasattr(lpath, "write"):
                lpath.write(data)
                return
            with open(lpath, "wb") as file:  # noqa: PTH123
                file.write(data)

        self.access("get_file", act)

    def cp_file(self, path1: str, path2: str, **_kwargs: Any) -> None:
        self.access("cp_file", lambda: self.put(path2, self.cut(path1, None, None)))

    def rm_file(self, path: str) -> None:
        self.access("rm_file", lambda: self.drop(path))

    def mkdir(self, path: str, create_parents: bool = True, **_kwargs: Any) -> None:
        self.access("mkdir", lambda: self.folders.add(path))

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.access("makedirs", lambda: self.folders.add(path))

    def rmdir(self, path: str) -> None:
        self.access("rmdir", lambda: self.folders.discard(path))

    def created(self, path: str) -> int:
        return int(self.access("created", lambda: 1))

    modified = created

    def sign(self, path: str, expiration: int = 100, **_kwargs: Any) -> str:
        return str(self.access("sign", lambda: f"https://shelf.test/{path}"))

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: Any = None,
        **kwargs: Any,
    ) -> AbstractBufferedFile:
        return ShelfFile(
            self,
            path,
            mode,
            block_size or BLOCK,
            autocommit=autocommit,
            cache_options=cache_options,
            cache_type=kwargs.get("cache_type", "none"),
        )


class ShelfFile(AbstractBufferedFile):  # type: ignore[misc]
    """A file that is sent in pieces, and is there when it is committed."""

    def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.access(
            "fetch", lambda: self.fs.cut(self.path, start, end)
        )
        return data

    def _initiate_upload(self) -> None:
        self.sent = b""

    def _upload_chunk(self, final: bool = False) -> bool:
        piece = self.buffer.getvalue()
        self.fs.access("upload", lambda: None)
        self.sent += piece
        if final and self.autocommit:
            self.commit()
        return True

    def commit(self) -> None:
        old = self.fs.files.get(self.path, b"") if self.mode == "ab" else b""
        self.fs.access("commit", lambda: self.fs.put(self.path, old + self.sent))

    def discard(self) -> None:
        self.fs.access("discard", lambda: None)


class AsyncShelf(_Rows, AsyncFileSystem):  # type: ignore[misc]
    """The same, asynchronous."""

    protocol = "ashelf"
    cachable = False

    def __init__(
        self, files: Mapping[str, bytes] | None = None, **options: Any
    ) -> None:
        AsyncFileSystem.__init__(self, **options)
        _Rows.__init__(self, files)

    async def _info(self, path: str, **_kwargs: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        found: dict[str, Any] = self.access("info", lambda: self.entry(path))
        return found

    async def _ls(self, path: str, detail: bool = True, **_kwargs: Any) -> list[Any]:
        path = self._strip_protocol(path)
        found = self.access("ls", lambda: self.listing(path))
        return found if detail else [each["name"] for each in found]

    async def _cat_file(
        self, path: str, start: int | None = None, end: int | None = None, **_: Any
    ) -> bytes:
        data: bytes = self.access("cat_file", lambda: self.cut(path, start, end))
        return data

    async def _pipe_file(
        self, path: str, value: bytes, mode: str = "overwrite", **_kwargs: Any
    ) -> None:
        if mode == "create" and path in self.files:
            raise FileExistsError(path)
        self.access("pipe_file", lambda: self.put(path, value))

    async def _put_file(
        self, lpath: str, rpath: str, mode: str = "overwrite", **_kwargs: Any
    ) -> None:
        def act() -> None:
            with open(lpath, "rb") as file:  # noqa: PTH123
                self.put(rpath, file.read())

        self.access("put_file", act)

    async def _get_file(self, rpath: str, lpath: str, **_kwargs: Any) -> None:
        def act() -> None:
            with open(lpath, "wb") as file:  # noqa: PTH123
                file.write(self.cut(rpath, None, None))

        self.access("get_file", act)

    async def _cp_file(self, path1: str, path2: str, **_kwargs: Any) -> None:
        self.access("cp_file", lambda: self.put(path2, self.cut(path1, None, None)))

    async def _rm_file(self, path: str, **_kwargs: Any) -> None:
        self.access("rm_file", lambda: self.drop(path))

    async def _mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        self.access("mkdir", lambda: self.folders.add(path))

    async def _makedirs(self, path: str, exist_ok: bool = False) -> None:
        self.access("makedirs", lambda: self.folders.add(path))

    async def _touch(self, path: str, truncate: bool = True, **_kwargs: Any) -> None:
        self.access("touch", lambda: self.put(path, b""))

    def touch(self, path: str, truncate: bool = True, **_kwargs: Any) -> None:
        self.access("touch", lambda: self.put(path, b""))

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> ShelfFile:
        cache_type = kwargs.pop("cache_type", "none")
        block = kwargs.pop("block_size", None) or BLOCK
        return ShelfFile(self, path, mode, block, cache_type=cache_type, **kwargs)

    async def open_async(
        self, path: str, mode: str = "rb", **_kwargs: Any
    ) -> ShelfStream:
        info = await self._info(path) if mode == "rb" else {"size": None}
        return ShelfStream(
            self, path, mode, BLOCK, cache_type="none", **info_size(info)
        )


def info_size(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return the size that a file is told at once."""
    return {"size": info["size"]}


class ShelfStream(AbstractAsyncStreamedFile):  # type: ignore[misc]
    """A file with coroutines."""

    async def _fetch_range(self, start: int, end: int) -> bytes:
        data: bytes = self.fs.access(
            "fetch", lambda: self.fs.cut(self.path, start, end)
        )
        return data

    async def _initiate_upload(self) -> None:
        self.sent = b""

    async def _upload_chunk(self, final: bool = False) -> bool:
        piece = self.buffer.getvalue()
        self.fs.access("upload", lambda: None)
        self.sent += piece
        if final:
            self.fs.access("commit", lambda: self.fs.put(self.path, self.sent))
        return True
