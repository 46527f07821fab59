"""What forked workers of a parent that used its connectors do: hang, fail, connect.

In each round a parent, whose threads read all the while, forks 8 children that read and
write at once: through `connector://`, and beside it through the s3fs filesystem that
they inherit. Counted: children that hang, fail, and the connections and filesystems
that each opens, and all of them together.

Run: python tests/benchmarks/fork.py
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from _bench import finish, isolate, median, s3_server, sockets

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import RcloneS3

ROUNDS, BARE_ROUNDS, CHILDREN, READERS = 200, 10, 8, 2
# A child that has not ended by then hangs.
PATIENCE = 30.0


def main() -> None:
    """Measure."""
    isolate()
    with s3_server() as server:
        bucket = server.bucket()
        figures = {
            "connector": _through_connector(server, bucket),
            "s3fs": _through_s3fs(server, bucket),
        }
    for name, each in figures.items():
        print(
            f"{name:>10}", *(f"{key} {value}" for key, value in each.items()), sep="  "
        )
    finish("fork", **figures, targets={"hung": 0, "failed": 0})


def _through_connector(server: RcloneS3, bucket: str) -> dict[str, Any]:
    import fsspec

    from connectorkit import ConnectorKit, set_default_kit

    settings = {
        "key": server.key,
        "secret": server.secret,
        "endpoint_url": server.endpoint_url,
    }
    config = {"connectors": {"it": {"type": "minio", "settings": settings}}}
    with ConnectorKit(config) as kit, set_default_kit(kit):
        fs = fsspec.filesystem("connector")
        return _rounds(ROUNDS, server.port, fs, f"it/{bucket}", lambda: len(kit._pool))


def _through_s3fs(server: RcloneS3, bucket: str) -> dict[str, Any]:
    import s3fs

    fs = s3fs.S3FileSystem(
        key=server.key,
        secret=server.secret,
        endpoint_url=server.endpoint_url,
        skip_instance_cache=True,
    )
    return _rounds(BARE_ROUNDS, server.port, fs, bucket, lambda: 0)


def _rounds(
    rounds: int, port: int, fs: Any, folder: str, filesystems: Callable[[], int]
) -> dict[str, Any]:
    fs.pipe_file(f"{folder}/shared", b"shared")
    ends: Counter[str] = Counter()
    connected, opened, seconds = [], [], []
    with _load(fs, f"{folder}/shared"):
        for _ in range(rounds):
            read, write = os.pipe()
            began = time.perf_counter()
            children = [
                _fork(lambda: _work(fs, folder), write, port, filesystems)
                for _ in range(CHILDREN)
            ]
            os.close(write)
            ends += _wait(children)
            seconds.append(time.perf_counter() - began)
            with os.fdopen(read) as told:
                for line in told:
                    sockets_of_child, its_filesystems = map(int, line.split())
                    connected.append(sockets_of_child)
                    opened.append(its_filesystems)
    return {
        "rounds": rounds,
        "children": rounds * CHILDREN,
        "hung": ends["hung"],
        "failed": ends["failed"],
        "connections": sum(connected),
        "filesystems": sum(opened),
        "connections_of_a_child": max(connected, default=0),
        "filesystems_of_a_child": max(opened, default=0),
        "connections_of_the_parent": sockets(port),
        "seconds_of_a_round": round(median(seconds), 3),
    }


def _work(fs: Any, folder: str) -> None:
    assert fs.cat_file(f"{folder}/shared") == b"shared"
    path = f"{folder}/{os.getpid()}"
    fs.pipe_file(path, b"child")
    assert fs.cat_file(path) == b"child"


def _fork(
    work: Callable[[], None],
    told: int,
    port: int,
    filesystems: Callable[[], int],
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with suppress(BaseException):
        inherited = sockets(port)
        work()
        os.write(told, f"{sockets(port) - inherited} {filesystems()}\n".encode())
        code = 0
    os._exit(code)


def _wait(children: list[int]) -> Counter[str]:
    ends: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE
    for pid in children:
        while True:
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                ends["failed" if status else "done"] += 1
                break
            if time.monotonic() > deadline:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                ends["hung"] += 1
                break
            time.sleep(0.002)
    return ends


@contextmanager
def _load(fs: Any, path: str) -> Iterator[None]:
    """Have threads read meanwhile: locks are held when the parent forks."""
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            fs.cat_file(path)

    threads = [threading.Thread(target=read) for _ in range(READERS)]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        stop.set()
        for each in threads:
            each.join()


if __name__ == "__main__":
    main()
