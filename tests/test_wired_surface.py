"""Every public method of S3's and GCS's filesystems is a call, or harmless.

s3fs and gcsfs make aliases of their coroutines that go by fsspec's own bridge, which
knows neither calls nor what became of them; a new release may bring more.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar

import gcsfs.core
import pytest
import s3fs
from fsspec.asyn import sync

from connectorkit import Policy, hookimpl
from connectorkit.testing import FaultProxy
from connectorkit_gcs.filesystem import ConnectorGCSFileSystem
from connectorkit_s3.filesystem import ConnectorS3FileSystem
from contracts.places import kit_at, settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit import Operation
    from servers import GcsEmulator, MotoS3

_CLASSES = {"s3": ConnectorS3FileSystem, "gcs": ConnectorGCSFileSystem}

# What sends nothing by itself, and why.
HARMLESS = {
    "accept": "a part of a call: reads an answer",
    "ask": "a part of a call: the one request of an attempt",
    "at_work": "counts what is under way",
    "end_transaction": "closes files, each of which is a call",
    "get_mapper": "makes a mapping that uses the filesystem",
    "get_s3": "connects",
    "invalidate_cache": "forgets listings",
    "may_serve": "compares pipelines",
    "on_endpoint": "writes a URL in another way",
    "operate": "a part of a call: one operation of its",
    "operation": "names an operation",
    "reading_version": "says how to ask for a version",
    "seen": "says by which options to open what was looked up",
    "send": "a part of a call: one attempt of an operation",
    "set_session": "connects",
    "sign": "makes a URL; of it nobody is asked",
    "split_path": "takes a path apart",
    "start_transaction": "opens nothing",
    "to_dict": "refuses",
    "to_json": "refuses",
    "unstrip_protocol": "writes a path in another way",
    "until_read": "counts what is under way",
    "uploaded": "a part of a call: how far an upload is",
    "url": "makes a URL; of it nobody is asked",
    "without_client_certificate": "sets how it connects",
}


def _written(tmp: Path) -> str:
    (tmp / "file").write_bytes(b"1")
    return str(tmp / "file")


def _opened(fs: Any, path: str) -> bytes:
    with fs.open(path) as file:
        content: bytes = file.read()
    return content


async def _opened_on_a_loop(fs: Any, path: str) -> bytes:
    file = await fs.open_async(path)
    content: bytes = await file.read()
    await file.close()
    return content


def _read_range(fs: Any, path: str) -> Any:
    bucket, key, *_ = fs.split_path(path)
    if isinstance(fs, ConnectorS3FileSystem):
        asked = {"Bucket": bucket, "Key": key, "Range": "bytes=0-2"}
        return sync(fs.loop, fs.read_range, asked)
    return sync(fs.loop, fs.read_range, path, 0, 3, None, 1)


# What goes by another method, and how it is called; `d` is a folder with "a" in it.
OTHERS: dict[str, Callable[[Any, str, Path], Any]] = {
    "buckets": lambda fs, *_: fs.buckets,
    "checksum": lambda fs, d, _: fs.checksum(f"{d}/a"),
    "cp": lambda fs, d, _: fs.cp(f"{d}/a", f"{d}/b"),
    "created": lambda fs, d, _: fs.created(f"{d}/a"),
    "delete": lambda fs, d, _: fs.delete(f"{d}/a"),
    "disk_usage": lambda fs, d, _: fs.disk_usage(d),
    "download": lambda fs, d, tmp: fs.download(f"{d}/a", str(tmp / "got")),
    "get_tags": lambda fs, d, _: fs.get_tags(f"{d}/a"),
    "lexists": lambda fs, d, _: fs.lexists(f"{d}/a"),
    "listdir": lambda fs, d, _: fs.listdir(d),
    "makedir": lambda fs, d, _: fs.makedir(f"{d.partition('/')[0]}-2"),
    "mkdirs": lambda fs, d, _: fs.mkdirs(f"{d.partition('/')[0]}-3"),
    "modified": lambda fs, d, _: fs.modified(f"{d}/a"),
    "move": lambda fs, d, _: fs.move(f"{d}/a", f"{d}/b"),
    "open": lambda fs, d, _: _opened(fs, f"{d}/a"),
    "open_async": lambda fs, d, _: sync(fs.loop, _opened_on_a_loop, fs, f"{d}/a"),
    "put_tags": lambda fs, d, _: fs.put_tags(f"{d}/a", {"colour": "red"}),
    "read_bytes": lambda fs, d, _: fs.read_bytes(f"{d}/a"),
    "read_range": lambda fs, d, _: _read_range(fs, f"{d}/a"),
    "read_text": lambda fs, d, _: fs.read_text(f"{d}/a"),
    "rename": lambda fs, d, _: fs.rename(f"{d}/a", f"{d}/b"),
    "stat": lambda fs, d, _: fs.stat(f"{d}/a"),
    "touch": lambda fs, d, _: fs.touch(f"{d}/b"),
    "tree": lambda fs, d, _: fs.tree(d),
    "ukey": lambda fs, d, _: fs.ukey(f"{d}/a"),
    "upload": lambda fs, d, tmp: fs.upload(_written(tmp), f"{d}/b"),
    "walk": lambda fs, d, _: [*fs.walk(d)],
    "write_bytes": lambda fs, d, _: fs.write_bytes(f"{d}/b", b"1"),
    "write_text": lambda fs, d, _: fs.write_text(f"{d}/b", "1"),
}


# What a class does not have, though it has the name.
ABSENT = {("s3", "created"), ("gcs", "open_async")}
# What has nothing to ask: a folder of GCS is but a beginning of names.
SILENT = {("gcs", "mkdirs")}


def _cells() -> Iterator[tuple[str, str]]:
    for type_id, kind in _CLASSES.items():
        for method in OTHERS:
            if hasattr(kind, method):
                yield type_id, method


def _methods(kind: type) -> dict[str, Any]:
    found = {name: inspect.getattr_static(kind, name) for name in dir(kind)}
    return {name: each for name, each in found.items() if inspect.isfunction(each)}


def _bridged_by_fsspec(kind: type) -> set[str]:
    return {
        name
        for name, method in _methods(kind).items()
        if "sync_wrapper" in method.__code__.co_qualname
    }


@pytest.mark.parametrize("type_id", _CLASSES)
def test_no_alias_goes_by_fsspecs_bridge(type_id: str) -> None:
    """Each of those that the class beneath has is replaced (F1)."""
    beneath = {"s3": s3fs.S3FileSystem, "gcs": gcsfs.core.GCSFileSystem}
    assert {"url", "merge"} & _bridged_by_fsspec(beneath[type_id])
    assert _bridged_by_fsspec(_CLASSES[type_id]) == set()


@pytest.mark.parametrize("type_id", _CLASSES)
def test_every_public_method_is_known(type_id: str) -> None:
    """It begins a call, or is called below, or is harmless for a reason (F5)."""
    methods = _methods(_CLASSES[type_id])
    rest = {
        name
        for name, method in methods.items()
        if not name.startswith("_") and not hasattr(method, "begins_call")
    }
    assert rest - HARMLESS.keys() - OTHERS.keys() == set()
    assert HARMLESS.keys().isdisjoint(OTHERS)


@pytest.mark.parametrize("type_id", _CLASSES)
def test_every_coroutine_with_a_twin_begins_a_call(type_id: str) -> None:
    """Who uses a filesystem on a loop of his own has the same calls (F5)."""
    methods = _methods(_CLASSES[type_id])
    bare = {
        name
        for name, method in methods.items()
        if inspect.iscoroutinefunction(method) and not hasattr(method, "begins_call")
    }
    public = {name for name in methods if not name.startswith("_")}
    assert {name for name in bare if name[1:] in public} == set()


def test_what_is_known_is_there() -> None:
    """Nothing stands in the tables that neither class has any more."""
    names = {name for each in _CLASSES.values() for name in dir(each)}
    assert HARMLESS.keys() | OTHERS.keys() <= names


class Attempts(Policy):
    """Counts the attempts of each operation."""

    name = "attempts"
    of: ClassVar[Counter[str]] = Counter()

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.of[op.name] += op.attempts


class _Teaches:
    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Attempts]


class Watched:
    """A filesystem, and the proxy that it goes through."""

    def __init__(self, fs: Any, proxy: FaultProxy, bucket: str) -> None:
        self.fs = fs
        self.proxy = proxy
        self.bucket = bucket


@pytest.fixture(scope="module")
def watched(
    moto_s3: MotoS3, gcs_emulator: GcsEmulator
) -> Iterator[Callable[[str], Watched]]:
    """Open a filesystem of a type whose attempts are counted."""
    opened: dict[str, tuple[Watched, Any]] = {}

    def watch(type_id: str) -> Watched:
        if type_id not in opened:
            server: Any = {"s3": moto_s3, "gcs": gcs_emulator}[type_id]
            proxy = FaultProxy(server.endpoint_url)
            proxy.start()
            settings = {**settings_for(type_id, server), "endpoint_url": proxy.url}
            kit = kit_at(type_id, settings, policies={"enabled": ["attempts"]})
            kit.register(_Teaches(), "attempts")
            its = Watched(kit.resolve("it").fs, proxy, server.bucket())
            opened[type_id] = its, kit
        return opened[type_id][0]

    yield watch
    for its, kit in opened.values():
        kit.close()
        its.proxy.close()


@pytest.mark.parametrize(("type_id", "method"), [*_cells()])
def test_each_request_is_an_attempt(
    watched: Callable[[str], Watched], type_id: str, method: str, tmp_path: Path
) -> None:
    """What goes by another method goes through the pipeline: once for each request."""
    it = watched(type_id)
    folder = f"{it.bucket}/{method}"
    it.fs.pipe_file(f"{folder}/a", b"content")
    it.proxy.clear()
    Attempts.of.clear()
    try:
        OTHERS[method](it.fs, folder, tmp_path)
    except NotImplementedError:
        assert (type_id, method) in ABSENT
    requests = it.proxy.count()
    assert (requests > 0) is ((type_id, method) not in ABSENT | SILENT)
    assert sum(Attempts.of.values()) == requests
    assert it.fs.in_flight == 0
