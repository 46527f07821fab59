"""Reading in order: an open file of 64 MiB beside s3fs, at several distances.

By 1 MiB at a time, and by lines. The server is here; or 20 ms away; or 20 ms away with
50 MB/s for each connection, which is what one connection to S3 gives, more or less.
s3fs is bare, on the same server through the same proxy, which runs in a process of its
own. `readahead` is the same connector with fsspec's cache of that name, s3fs's default.
"""

from __future__ import annotations

import asyncio
import io
import multiprocessing
import time
from typing import TYPE_CHECKING, Any

from _bench import finish, isolate, median, s3_server
from cache import LATENCY, Far, bare

from connectorkit import ConnectorKit
from connectorkit.testing import FaultProxy
from connectorkit.testing.faults import Fault

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from connectorkit.testing.relay import Relay
    from servers import RcloneS3

MIB = 1 << 20
SIZE = 64 * MIB
BANDWIDTH = 50e6
ROUNDS = 5
LINE = b"%07d,connectorkit reads this line,and this\n"


class Narrow(Fault):
    """The server is far away, and each connection has so many bytes a second."""

    async def play(self, relay: Relay) -> None:
        """Pass it on, later and slowly."""
        await asyncio.sleep(LATENCY)
        answer = await relay.ask()
        await relay.begin(answer)
        due = time.perf_counter()
        while piece := await answer.body.read(MIB // 8):
            await relay.send(piece)
            due += len(piece) / BANDWIDTH
            await asyncio.sleep(due - time.perf_counter())
        await relay.end(answer)


DISTANCES = {"here": Fault, "far": Far, "far_and_narrow": Narrow}


class Proxy:
    """A fault proxy in a process of its own, which takes no time from the readers."""

    def __init__(self, target: str) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, its = context.Pipe()
        self._process = context.Process(target=_serve, args=(target, its), daemon=True)
        self._process.start()
        self.url: str = self._pipe.recv()

    def put(self, distance: str) -> None:
        """Put the server so far away."""
        self._pipe.send(distance)
        self._pipe.recv()

    def seen(self) -> tuple[int, int]:
        """Return how many requests there were since the last time, and their bytes."""
        self._pipe.send(None)
        count, sent = self._pipe.recv()
        return count, sent


def _serve(target: str, pipe: Connection) -> None:
    with FaultProxy(target) as proxy:
        pipe.send(proxy.url)
        while True:
            distance = pipe.recv()
            if distance is not None:
                proxy.heal()
                proxy.inject(DISTANCES[distance](), times=None, when="get_object")
            seen = [each for each in proxy.log if each.operation == "get_object"]
            pipe.send((len(seen), sum(each.sent for each in seen)))
            proxy.clear()


def by_blocks(fs: Any, path: str, **options: Any) -> int:
    """Read a MiB at a time."""
    count = 0
    with fs.open(path, "rb", **options) as file:
        while data := file.read(MIB):
            count += len(data)
    return count


def by_lines(fs: Any, path: str, **options: Any) -> int:
    """Read lines of text, as csv does."""
    with fs.open(path, "rb", **options) as file:
        return sum(map(len, io.TextIOWrapper(file, newline="")))


def header(fs: Any, path: str, **options: Any) -> int:
    """Read a little."""
    with fs.open(path, "rb", **options) as file:
        return len(file.read(10))


WAYS: dict[str, Callable[..., int]] = {
    "blocks": by_blocks,
    "lines": by_lines,
    "header": header,
}


def connector(server: RcloneS3, url: str) -> Any:
    """Return a connector's filesystem under the default policies."""
    settings = {
        "key": server.key,
        "secret": server.secret,
        "endpoint_url": url,
        "region_name": "us-east-1",
    }
    kit = ConnectorKit({"connectors": {"it": {"type": "minio", "settings": settings}}})
    return kit.resolve("it").fs


def main() -> None:
    """Measure."""
    isolate()
    figures: dict[str, Any] = {"bytes": SIZE}
    with s3_server() as server:
        proxy = Proxy(server.endpoint_url)
        s3, fs = bare(server, proxy), connector(server, proxy.url)
        path = f"{server.bucket()}/lines"
        lines = SIZE // len(LINE % 0)
        s3.pipe_file(path, b"".join(LINE % number for number in range(lines)))
        whose: dict[str, tuple[Any, dict[str, Any]]] = {
            "s3fs": (s3, {}),
            "readahead": (fs, {"cache_type": "readahead"}),
            "connectorkit": (fs, {}),
        }
        for distance in DISTANCES:
            proxy.put(distance)
            for way, read in WAYS.items():
                taken: dict[str, list[float]] = {name: [] for name in whose}
                counts = {name: [0, 0] for name in whose}
                # In turn, so that a busy moment meets all alike.
                for _ in range(ROUNDS):
                    for name, (its, options) in whose.items():
                        begin = time.perf_counter()
                        read(its, path, **options)
                        taken[name].append(time.perf_counter() - begin)
                        requests, sent = proxy.seen()
                        counts[name][0] += requests
                        counts[name][1] += sent
                middle = {name: median(each) for name, each in taken.items()}
                figures[f"{distance}_{way}"] = {
                    name: {
                        "seconds": round(middle[name], 3),
                        "requests": round(counts[name][0] / ROUNDS, 1),
                        "megabytes": round(counts[name][1] / ROUNDS / 1e6, 1),
                    }
                    for name in whose
                }
                figures[f"{distance}_{way}_times_faster"] = round(
                    middle["s3fs"] / middle["connectorkit"], 1
                )
    for name, value in figures.items():
        print(f"{name}: {value}")
    finish("stream", **figures)


if __name__ == "__main__":
    main()
