"""A cached filesystem is an ordinary one: every public method is there, and works."""

from __future__ import annotations

import asyncio
import pickle
from typing import TYPE_CHECKING, Any

import fsspec
import pytest
from fsspec import AbstractFileSystem
from fsspec.asyn import AsyncFileSystem

from connectorkit import ConnectorKit, NotPicklable, set_default_kit
from connectorkit_cache.asynchronous import AsyncLayer
from connectorkit_cache.contents import AsyncContentFileSystem, ContentFileSystem
from connectorkit_cache.delegation import READS, WRITES
from connectorkit_cache.layer import Layer
from connectorkit_cache.listing import AsyncListingsFileSystem, ListingsFileSystem
from connectorkit_cache.memory import AsyncHotFileSystem, HotFileSystem
from test_cache.support import Shelves
from test_guarded_surface import CALLS, HARMLESS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.s3_places import Place

CACHES = ("hot", "content", "listings")
FILES = {"a/b": b"content", "a/c/d": b"deeper", "e": b"one\ntwo\nthree"}
LAYERS: tuple[type, ...] = (
    Layer,
    AsyncLayer,
    ContentFileSystem,
    AsyncContentFileSystem,
    HotFileSystem,
    AsyncHotFileSystem,
    ListingsFileSystem,
    AsyncListingsFileSystem,
)
# By other public methods, each of which is delegated, fsspec makes these.
MADE = {
    "cat",
    "cp",
    "delete",
    "disk_usage",
    "download",
    "get",
    "head",
    "listdir",
    "makedir",
    "mkdirs",
    "move",
    "open",
    "read_block",
    "read_bytes",
    "read_text",
    "rename",
    "stat",
    "tail",
    "tree",
    "upload",
    "write_bytes",
    "write_text",
}
# It does nothing on a storage, or is an attribute.
IDLE = HARMLESS.keys() - {"open_async"}


def public(*classes: type) -> set[str]:
    """Return the public names of classes."""
    return {name for each in classes for name in dir(each) if not name.startswith("_")}


@pytest.mark.parametrize("layer", LAYERS)
def test_every_public_method_is_delegated(layer: type) -> None:
    """What fsspec's filesystems can do is the inner one's, or made of what is."""
    left = public(AbstractFileSystem) - MADE - IDLE
    assert left == {*READS, *WRITES} & public(AbstractFileSystem)
    for name in left:
        assert getattr(layer, name) is not getattr(AbstractFileSystem, name), name


def test_every_coroutine_is_delegated() -> None:
    """The coroutine of each delegated method is the inner one's as well."""
    # These run others, or ask for a size.
    gathering = {"_cat", "_get", "_process_limits"}
    for name in dir(AsyncFileSystem):
        method = getattr(AsyncFileSystem, name)
        if asyncio.iscoroutinefunction(method) and name not in gathering:
            assert getattr(AsyncLayer, name) is not method, name
    assert AsyncLayer._walk is not AsyncFileSystem._walk


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def shelves(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Shelves]:
    """All caches around a storage."""
    content = {"directory": str(tmp_path / "cache")}
    with Shelves(*CACHES, "retry", is_async=request.param, content=content) as shelves:
        shelves.shelf(FILES)
        (tmp_path / "file").write_bytes(b"12345")
        yield shelves


@pytest.mark.parametrize("method", CALLS)
def test_method_answers_as_without(
    method: str, shelves: Shelves, tmp_path: Path
) -> None:
    """Each method answers through three caches, cold and warm, as with none."""
    if shelves.is_async and method in {"created", "modified", "rmdir", "sign"}:
        # An asynchronous filesystem has none of these.
        return
    bare = Shelves("retry", is_async=shelves.is_async)
    bare.shelf(FILES)
    with bare:
        for _ in range(2):
            expected = _outcome(method, bare.fs(), tmp_path)
            assert _outcome(method, shelves.fs(), tmp_path) == expected
        assert shelves.shelves["it"].files == bare.shelves["it"].files


def _outcome(method: str, fs: Any, tmp_path: Path) -> Any:
    try:
        found = CALLS[method](fs, tmp_path)
    except Exception as error:  # noqa: BLE001 - it is what is compared
        return type(error)
    return None if method in {"ukey", "checksum"} else found


def test_coroutines_answer(shelves: Shelves) -> None:
    """On a host's own loop each coroutine works, by the same caches."""
    if not shelves.is_async:
        return
    connector = shelves.connector()

    async def read() -> None:
        fs: Any = connector.async_fs()
        assert await fs._cat_file("a/b") == b"content"
        assert await fs._cat(["a/b", "e"]) == {"a/b": b"content", "e": FILES["e"]}
        assert await fs._ls("a", detail=False) == ["a/b", "a/c"]
        assert await anext(fs._walk("a")) == ("a", ["c"], ["b"])
        assert await fs._exists("a/x") is False
        await fs._pipe_file("a/x", b"new")
        assert await fs._exists("a/x") is True
        assert await fs._cat_file("a/x") == b"new"
        await fs._rm_file("a/x")
        assert await fs._find("a") == ["a/b", "a/c/d"]
        # By threads, what stands in the caches of the loop's filesystem is shared.
        assert await asyncio.to_thread(connector.fs.exists, "a/x") is False

    asyncio.run(read())
    shelves.asked()
    assert connector.fs.cat_file("a/b") == b"content"
    assert shelves.asked() == {}


@pytest.mark.parametrize("mode", ["r", "rb"])
@pytest.mark.parametrize("path", ["a/b", "e"])
def test_files_belong_to_the_outermost(shelves: Shelves, path: str, mode: str) -> None:
    """An open file carries the cached filesystem, and its path there."""
    fs = shelves.fs()
    for way in ({}, {"version_id": "1"}):
        try:
            file = fs.open(path, mode, **way)
        except TypeError:
            continue
        with file:
            binary = getattr(file, "buffer", file)
            assert binary.fs is fs
            assert binary.path == path
            data = file.read()
            assert (data if mode == "rb" else data.encode()) == FILES[path]


@pytest.mark.parametrize("cache", ["hot", "content", "listings"])
# Its block cache leaves its own file open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_fsspecs_block_cache_lies_around_it(
    s3: Place, key: str, tmp_path: Path, cache: str
) -> None:
    """It reads files as those of any other filesystem."""
    s3.put(key, b"content" * 100_000)
    content = {"directory": str(tmp_path / "cache")}
    policies = {"enabled": [cache], "content": content}
    options = {"blockcache": {"cache_storage": str(tmp_path / "theirs")}}
    url = f"blockcache::connector://it/{s3.path(key)}"
    with (
        s3.kit_with(policies=policies) as kit,
        set_default_kit(kit),
        fsspec.open(url, **options) as file,
    ):
        assert file.read(10) == b"contentcon"
        file.seek(-7, 2)
        assert file.read() == b"content"
        file.seek(400_004)
        assert file.read(4) == b"tent"


def test_written_files_belong_to_the_outermost(shelves: Shelves) -> None:
    """So does one that is written; it is whole, or not there, and seen at once."""
    fs = shelves.fs()
    assert not fs.exists("a/new")
    with fs.open("a/new", "wb") as file:
        assert file.fs is fs
        file.write(b"new")
    assert fs.exists("a/new")
    assert fs.cat_file("a/new") == b"new"

    class Oops(Exception):
        pass

    def fail() -> None:
        with fs.open("a/new", "wb") as file:
            file.write(b"half")
            raise Oops

    with pytest.raises(Oops):
        fail()
    assert fs.cat_file("a/new") == b"new"


def test_transactions_are_the_storages(shelves: Shelves) -> None:
    """What a transaction defers is seen when it ends."""
    if shelves.is_async:
        return
    fs = shelves.fs()
    assert not fs.exists("a/t")
    with fs.transaction:
        with fs.open("a/t", "wb") as file:
            file.write(b"later")
        assert not fs.exists("a/t")
    assert fs.cat_file("a/t") == b"later"


def test_pickles_as_its_connector(tmp_path: Path) -> None:
    """A filesystem and its files travel as the connector's ID, without a secret."""
    config = tmp_path / "connectorkit.toml"
    config.write_text(
        '[connectors.notes]\ntype = "memory"\npolicies = ["hot", "listings"]\n'
        '[connectors.notes.settings]\nname = "travel"\n'
    )
    with ConnectorKit(config) as kit:
        fs = kit.resolve("notes").fs
        fs.pipe_file("/k", b"0123456789")
        sent = pickle.dumps(fs)
        assert b"travel" not in sent
        assert pickle.loads(sent) is fs  # noqa: S301 - our own
        assert pickle.loads(pickle.dumps(fs.inner)) is fs.inner  # noqa: S301
        with fs.open("/k") as file:
            file.seek(4)
            with pickle.loads(pickle.dumps(file)) as again:  # noqa: S301
                assert (again.fs, again.read()) == (fs, b"456789")
        with fs.open("/w", "wb") as file, pytest.raises(TypeError, match="written"):
            pickle.dumps(file)


def test_refuses_to_travel_with_settings(shelves: Shelves) -> None:
    """One from a configuration in memory says how to configure it."""
    with pytest.raises(NotPicklable, match=r"connectorkit\.toml"):
        pickle.dumps(shelves.fs())
    with pytest.raises(NotPicklable, match="ID"):
        shelves.fs().to_json()


def test_dir_filesystem_lies_around_it(shelves: Shelves) -> None:
    """Wrappers of fsspec's own take it for what it is."""
    fs = fsspec.filesystem("dir", path="a", fs=shelves.fs())
    assert fs.cat_file("b") == b"content"
    assert fs.ls("", detail=False) == ["b", "c"]
