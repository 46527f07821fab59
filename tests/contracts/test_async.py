"""A host with an event loop of its own gets a filesystem that runs on it."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit.releasable import Releasable
from connectorkit.testing import FaultProxy, Stall, VirtualClock
from contracts.places import kit_at, settings_for, sockets_to
from contracts.stub import Answer, Request, Stub, gcs_object, s3_object

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from connectorkit import ConnectorKit
    from servers import GcsEmulator, S3Server

_SERVERS = {"s3": "moto_s3", "minio": "rclone_s3", "gcs": "gcs_emulator"}
_CONTENT = b"content" * 1000

on_linux = pytest.mark.skipif(
    sys.platform != "linux", reason="sockets are counted by what Linux tells of them"
)


@pytest.fixture(params=[*_SERVERS, "local", "memory"])
def place(
    request: pytest.FixtureRequest, tmp_path: Path
) -> tuple[str, dict[str, Any], str]:
    """Name a type, settings for a real storage of it, and a folder there."""
    if request.param == "local":
        return "local", {"path": str(tmp_path / "root")}, "folder"
    if request.param == "memory":
        return "memory", {"name": str(tmp_path)}, "/folder"
    server: S3Server | GcsEmulator = request.getfixturevalue(_SERVERS[request.param])
    return request.param, settings_for(request.param, server), server.bucket()


def test_runs_on_the_hosts_loop(place: tuple[str, dict[str, Any], str]) -> None:
    """Its coroutines write, list and read, many at a time, for each connector type."""
    type_id, settings, folder = place

    async def main() -> None:
        async with kit_at(type_id, settings) as kit:
            fs = kit.resolve("it").async_fs()
            assert fs.asynchronous
            paths = [f"{folder}/{number}" for number in range(8)]
            await asyncio.gather(*(fs._pipe_file(p, p.encode()) for p in paths))
            assert sorted(await fs._find(folder)) == paths
            read = await asyncio.gather(*(fs._cat_file(p) for p in paths))
            assert read == [p.encode() for p in paths]
            with pytest.raises(FileNotFoundError):
                await fs._cat_file(f"{folder}/missing")

    asyncio.run(main())


def test_one_for_each_loop(place: tuple[str, dict[str, Any], str]) -> None:
    """A loop gets the same filesystem each time, and another loop another."""
    type_id, settings, folder = place

    async def main(kit: ConnectorKit) -> object:
        connector = kit.resolve("it")
        fs = connector.async_fs()
        assert connector.async_fs() is fs
        await fs._pipe_file(f"{folder}/file", b"content")
        assert await fs._cat_file(f"{folder}/file") == b"content"
        if isinstance(fs, Releasable):
            # Its connections cannot be closed once their loop is.
            await fs._release()
        return fs

    with kit_at(type_id, settings) as kit:
        first, second = asyncio.run(main(kit)), asyncio.run(main(kit))
        assert first is not second
        assert kit.resolve("it").fs.cat_file(f"{folder}/file") == b"content"


@pytest.mark.parametrize("fault", [Stall(), Stall(at=0.5)], ids=str)
@pytest.mark.parametrize("verb", ["cat", "pipe", "find", "rm"])
@pytest.mark.parametrize("type_id", _SERVERS)
def test_loop_goes_on_while_the_server_stalls(
    type_id: str, verb: str, fault: Stall, request: pytest.FixtureRequest
) -> None:
    """While a request stands still the loop turns as it likes (E8).

    With the default policies, and by count: a loop that waited for the server would
    never come to let it go.
    """
    server: S3Server | GcsEmulator = request.getfixturevalue(_SERVERS[type_id])
    folder = f"{server.bucket()}/folder"

    async def beat(proxy: FaultProxy) -> int:
        await asyncio.to_thread(proxy.wait_stalled)
        beats = 0
        for _ in range(1000):
            await asyncio.sleep(0)
            beats += proxy.stalled
        return beats

    async def main(proxy: FaultProxy, settings: dict[str, Any]) -> Any:
        policies: dict[str, Any] = {}
        async with kit_at(type_id, settings, policies=policies) as kit:
            fs = kit.resolve("it").async_fs()
            path = f"{folder}/file"
            await fs._pipe_file(path, _CONTENT)
            calls = {
                "cat": lambda: fs._cat_file(path),
                "pipe": lambda: fs._pipe_file(path, _CONTENT),
                "find": lambda: fs._find(folder),
                "rm": lambda: fs._rm_file(path),
            }
            proxy.inject(fault)
            stalled = asyncio.create_task(calls[verb]())
            assert await asyncio.create_task(beat(proxy)) == 1000
            assert not stalled.done()
            proxy.release()
            return await stalled

    with FaultProxy(server.endpoint_url) as proxy:
        settings = {**settings_for(type_id, server), "endpoint_url": proxy.url}
        result = asyncio.run(main(proxy, settings))
    assert result == {"cat": _CONTENT, "find": [f"{folder}/file"]}.get(verb, result)


@pytest.mark.parametrize("type_id", _SERVERS)
def test_threads_go_on_while_the_server_stalls(
    type_id: str, request: pytest.FixtureRequest
) -> None:
    """A thread whose request stands still holds up none of the others (E8)."""
    server: S3Server | GcsEmulator = request.getfixturevalue(_SERVERS[type_id])
    folder = f"{server.bucket()}/folder"
    with FaultProxy(server.endpoint_url) as proxy:
        settings = {**settings_for(type_id, server), "endpoint_url": proxy.url}
        with kit_at(type_id, settings, policies={}) as kit:
            fs = kit.resolve("it").fs
            for name in ("stalled", "other"):
                fs.pipe_file(f"{folder}/{name}", _CONTENT)
            proxy.inject(Stall())
            with ThreadPoolExecutor(1) as threads:
                stalled = threads.submit(fs.cat_file, f"{folder}/stalled")
                proxy.wait_stalled()
                for _ in range(10):
                    assert fs.cat_file(f"{folder}/other") == _CONTENT
                assert not stalled.done()
                proxy.release()
                assert stalled.result() == _CONTENT


def test_outside_of_a_loop() -> None:
    """Where no loop runs there is none to give a filesystem for."""
    with kit_at("memory", {}) as kit, pytest.raises(RuntimeError, match="no running"):
        kit.resolve("it").async_fs()


def _object(type_id: str, request: Request) -> Answer:
    answer = gcs_object if type_id == "gcs" else s3_object
    return answer(request, _CONTENT)


@on_linux
@pytest.mark.parametrize("type_id", ["s3", "minio", "gcs"])
def test_aclose_closes(type_id: str) -> None:
    """When `aclose` returns, no connection is left: of the loop's or of fsspec's.

    At a stub that keeps connections alive, as the real storages do and the emulators
    do not.
    """

    async def main(stub: Stub) -> None:
        async with kit_at(type_id, settings_for(type_id, stub)) as kit:
            connector = kit.resolve("it")
            assert await connector.async_fs()._cat_file("bucket/key") == _CONTENT
            read = await asyncio.to_thread(connector.fs.cat_file, "bucket/key")
            assert read == _CONTENT
            assert sockets_to(stub.port) == 2
        # A transport ends its socket one turn of the loop after it is closed.
        await asyncio.sleep(0)
        assert sockets_to(stub.port) == 0

    with Stub(lambda request: _object(type_id, request)) as stub:
        asyncio.run(main(stub))


@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_stream_is_left_alone(type_id: str) -> None:
    """A stream that is not read to its end yet is not closed for being idle.

    At a stub that waits in the middle of the body.
    """
    may_end = threading.Event()

    def pieces() -> Iterator[bytes]:
        yield _CONTENT[:10]
        assert may_end.wait(30)
        yield _CONTENT[10:]

    def answer(request: Request) -> Answer:
        about = s3_object(request, _CONTENT)
        if request.method == "HEAD":
            return about
        length = {"Content-Length": str(len(_CONTENT))}
        return Answer(200, pieces(), {**about.headers, **length})

    async def main(stub: Stub) -> None:
        clock = VirtualClock()
        settings = settings_for(type_id, stub)
        async with kit_at(type_id, settings, clock=clock) as kit:
            fs = kit.resolve("it").async_fs()
            stream = await fs.open_async("bucket/key")
            assert await stream.read(10) == _CONTENT[:10]
            for _ in range(2):
                kit._pool.sweep()
                clock.advance(10_000)
            assert len(kit._pool) == 1
            may_end.set()
            assert await stream.read() == _CONTENT[10:]
            del stream

    with Stub(answer) as stub:
        asyncio.run(main(stub))
