"""Reading again: the content cache warm, beside s3fs, 20 ms away from the server.

64 objects of 3 MB, one after the other, as a reader of Parquet does (open, the end,
four columns) and whole; and all of them by one `cat`. s3fs is bare, on the same server
through the same proxy. The cache asks what each object is each time, by a HEAD, or once
a minute.
"""

from __future__ import annotations

import asyncio
import hashlib
import tempfile
import time
from typing import TYPE_CHECKING, Any

from _bench import finish, isolate, median, s3_server

from connectorkit import ConnectorKit
from connectorkit.testing import FaultProxy
from connectorkit.testing.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.testing.relay import Relay
    from servers import RcloneS3

FILES, SIZE = 64, 3_000_000
LATENCY = 0.02
ROUNDS = 3


class Far(Fault):
    """The server is far away."""

    async def play(self, relay: Relay) -> None:
        """Pass it on, later."""
        await asyncio.sleep(LATENCY)
        await relay.forward()


def like_parquet(fs: Any, paths: list[str]) -> int:
    """Read the end of each object, and four pieces of it."""
    count = 0
    for path in paths:
        with fs.open(path) as file:
            file.seek(-65_536, 2)
            count += len(file.read())
            for column in range(4):
                file.seek(column * 700_000)
                count += len(file.read(300_000))
    return count


def whole(fs: Any, paths: list[str]) -> int:
    """Read each object."""
    return sum(len(fs.cat_file(path)) for path in paths)


def together(fs: Any, paths: list[str]) -> int:
    """Read all of them by one call."""
    return sum(map(len, fs.cat(paths).values()))


WAYS: dict[str, Callable[[Any, list[str]], int]] = {
    "like_parquet": like_parquet,
    "whole": whole,
    "together": together,
}


def measure(
    fs: Any, paths: list[str], proxy: FaultProxy
) -> dict[str, dict[str, float]]:
    """Return the seconds and the requests of each way."""
    found = {}
    for name, read in WAYS.items():
        seconds = []
        proxy.clear()
        for _ in range(ROUNDS):
            begin = time.perf_counter()
            read(fs, paths)
            seconds.append(time.perf_counter() - begin)
        requests = proxy.requests / ROUNDS
        found[name] = {"seconds": round(median(seconds), 3), "requests": requests}
    return found


def kit_of(
    server: RcloneS3, proxy: FaultProxy, folder: str, seconds: float
) -> ConnectorKit:
    """Return a kit with a cache and the default policies."""
    settings = {
        "key": server.key,
        "secret": server.secret,
        "endpoint_url": proxy.url,
        "region_name": "us-east-1",
    }
    enabled = ["content", "metrics", "deadline", "retry", "pace", "breaker", "timeout"]
    content = {"directory": folder, "seconds": seconds}
    return ConnectorKit(
        {
            "connectors": {"it": {"type": "minio", "settings": settings}},
            "policies": {"enabled": enabled, "content": content},
        }
    )


def bare(server: RcloneS3, proxy: Any) -> Any:
    """Return s3fs as it comes."""
    import s3fs

    quiet = {"response_checksum_validation": "when_required"}
    return s3fs.S3FileSystem(
        key=server.key,
        secret=server.secret,
        endpoint_url=proxy.url,
        client_kwargs={"region_name": "us-east-1"},
        config_kwargs=quiet,
        skip_instance_cache=True,
    )


def main() -> None:
    """Measure."""
    isolate()
    figures: dict[str, Any] = {"files": FILES, "bytes": FILES * SIZE}
    with (
        s3_server() as server,
        FaultProxy(server.endpoint_url) as proxy,
        tempfile.TemporaryDirectory() as folder,
    ):
        bucket = server.bucket()
        paths = [f"{bucket}/part-{n}.parquet" for n in range(FILES)]
        proxy.inject(Far(), times=None)
        s3 = bare(server, proxy)
        for number, path in enumerate(paths):
            s3.pipe_file(path, hashlib.shake_256(b"%d" % number).digest(SIZE))
        figures["s3fs"] = measure(s3, paths, proxy)
        for name, seconds in (("asks_each_time", 0.0), ("asks_each_minute", 60.0)):
            with kit_of(server, proxy, folder, seconds) as kit:
                fs = kit.resolve("it").fs
                proxy.clear()
                begin = time.perf_counter()
                together(fs, paths)
                cold = time.perf_counter() - begin
                if not seconds:
                    figures["cold_seconds"] = round(cold, 3)
                    figures["cold_gets"] = proxy.count("get_object")
                figures[name] = measure(fs, paths, proxy)
                figures[f"{name}_times_faster"] = {
                    way: round(
                        figures["s3fs"][way]["seconds"] / figures[name][way]["seconds"],
                        1,
                    )
                    for way in WAYS
                }
    for name, value in figures.items():
        print(f"{name}: {value}")
    finish("cache", **figures)


if __name__ == "__main__":
    main()
