"""An idle filesystem holds no connection, and one at work never loses its own."""

from __future__ import annotations

import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit.testing import VirtualClock
from contracts.places import kit_at, settings_for, sockets_to
from contracts.stub import Answer, Request, Stub, gcs_object, s3_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fsspec import AbstractFileSystem

    from connectorkit import ConnectorKit

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="sockets are counted by what Linux tells of them"
)

_IDLE = 600.0
_CONTENT = bytes(range(256)) * 4000


def _let_idle(kit: ConnectorKit, clock: VirtualClock) -> None:
    """Let what nobody uses become idle."""
    # The first sweep finds what was used since the last one.
    kit._pool.sweep()
    clock.advance(_IDLE + 1)
    kit._pool.sweep()


def _object(type_id: str, request: Request) -> Answer:
    answer = gcs_object if type_id == "gcs" else s3_object
    return answer(request, _CONTENT)


@pytest.mark.parametrize("type_id", ["s3", "minio", "gcs"])
def test_idle_filesystem_is_released(type_id: str) -> None:
    """After the sweep of an idle filesystem no socket of it is left; it can go on.

    Who holds it reads the right bytes over a new connection, and who resolves it again
    gets the same one. At a stub that keeps connections alive, as the real storages do
    and the emulators do not.
    """
    clock = VirtualClock()
    with Stub(lambda request: _object(type_id, request)) as stub:
        settings = settings_for(type_id, stub)
        with kit_at(type_id, settings, clock=clock, pool={"idle": _IDLE}) as kit:
            connector = kit.resolve("it")
            fs = connector.fs
            for _ in range(3):
                assert fs.cat_file("bucket/key") == _CONTENT
                assert sockets_to(stub.port, fs.loop) > 0
                _let_idle(kit, clock)
                assert len(kit._pool) == 0
                assert sockets_to(stub.port, fs.loop) == 0
            assert fs.cat_file("bucket/key") == _CONTENT
            assert connector.fs is fs
        assert sockets_to(stub.port, fs.loop) == 0


def _read(fs: AbstractFileSystem) -> bytes:
    with fs.open("bucket/key", block_size=len(_CONTENT)) as file:
        content: bytes = file.read()
    return content


def _get(fs: AbstractFileSystem, folder: Path) -> bytes:
    fs.get_file("bucket/key", str(folder / "file"))
    return (folder / "file").read_bytes()


_READS: dict[str, Callable[[AbstractFileSystem, Path], Any]] = {
    "cat_file": lambda fs, _: fs.cat_file("bucket/key"),
    "get_file": _get,
    "open_read": lambda fs, _: _read(fs),
}


@pytest.mark.parametrize("how", ["idle", "crowded", "closed"])
@pytest.mark.parametrize("call", _READS)
@pytest.mark.parametrize("type_id", ["s3", "gcs"])
def test_request_under_way_is_left_alone(
    type_id: str, call: str, how: str, tmp_path: Path
) -> None:
    """A filesystem whose answer still arrives is not closed under it.

    Not for being idle, nor in favour of another, nor with its kit. At a stub that
    waits in the middle of a body.
    """
    clock = VirtualClock()
    has_begun, may_end = threading.Event(), threading.Event()

    def answer(request: Request) -> Answer:
        about = _object(type_id, request)
        assert isinstance(about.body, bytes)
        if request.method == "HEAD" or len(about.body) < len(_CONTENT):
            return about
        half = len(about.body) // 2
        body: bytes = about.body

        def pieces() -> Iterator[bytes]:
            yield body[:half]
            has_begun.set()
            assert may_end.wait(30)
            yield body[half:]

        length = {"Content-Length": str(len(body))}
        return Answer(about.status, pieces(), {**about.headers, **length})

    with Stub(answer) as stub, ThreadPoolExecutor() as threads:
        settings = settings_for(type_id, stub)
        pool = {"idle": _IDLE, "size": 1}
        with kit_at(type_id, settings, clock=clock, pool=pool) as kit:
            reading = threads.submit(_READS[call], kit.resolve("it").fs, tmp_path)
            assert has_begun.wait(30)
            if how == "idle":
                _let_idle(kit, clock)
            elif how == "crowded":
                kit.resolve("memory")
                assert len(kit._pool) == 1
            else:
                kit.close()
            assert sockets_to(stub.port) > 0
            may_end.set()
            assert reading.result(30) == _CONTENT
