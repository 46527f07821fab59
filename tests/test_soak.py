"""What is long: many forks, many tenants, many threads. Run by `make soak`."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import ConnectorKit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RcloneS3

pytestmark = pytest.mark.soak


@pytest.fixture
def kit(rclone_s3: RcloneS3) -> Iterator[ConnectorKit]:
    """A kit with a connector to a real server."""
    settings = {
        "endpoint_url": rclone_s3.endpoint_url,
        "key": rclone_s3.key,
        "secret": rclone_s3.secret,
    }
    config = {
        "connectors": {"it": {"type": "minio", "settings": settings}},
        "pool": {"size": 32},
    }
    with ConnectorKit(config) as kit:
        yield kit


def _read(kit: ConnectorKit, path: str) -> None:
    fs = kit.resolve("it").fs
    assert fs.cat_file(path) == b"shared"
    fs.pipe_file(f"{path}-{os.getpid()}", b"child")
    assert fs.cat_file(f"{path}-{os.getpid()}") == b"child"


def test_two_hundred_forks_under_load(kit: ConnectorKit, rclone_bucket: str) -> None:
    """Children forked while threads read neither hang nor harm their parent."""
    context = multiprocessing.get_context("fork")
    path = f"{rclone_bucket}/shared"
    kit.resolve("it").fs.pipe_file(path, b"shared")
    stop, wrong = threading.Event(), list[Any]()

    def load() -> None:
        while not stop.is_set():
            try:
                if kit.resolve("it").fs.cat_file(path) != b"shared":
                    wrong.append("bytes")
            except Exception as error:  # noqa: BLE001 - told by the main thread
                wrong.append(error)

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            children = [
                context.Process(target=_read, args=(kit, path)) for _ in range(4)
            ]
            for child in children:
                child.start()
            for child in children:
                child.join(60)
            assert [child.exitcode for child in children] == [0] * 4
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong


def test_ten_thousand_tenants_leave_nothing_behind(
    kit: ConnectorKit, rclone_s3: RcloneS3, rclone_bucket: str
) -> None:
    """Descriptors and memory stay flat however many settings come and go."""
    path = f"{rclone_bucket}/shared"
    kit.resolve("it").fs.pipe_file(path, b"shared")

    def tenant(number: int) -> None:
        settings = {
            "endpoint_url": rclone_s3.endpoint_url,
            "key": rclone_s3.key,
            "secret": rclone_s3.secret,
            "max_connections": 1 + number % 1000,
            "read_timeout": 10 + number // 1000,
        }
        connector = kit.resolve("minio", settings=settings)
        if number % 50 == 0:
            assert connector.fs.cat_file(path) == b"shared"

    def footprint() -> tuple[int, int]:
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return len(os.listdir("/proc/self/fd")), pages * 4096 >> 20  # noqa: PTH208

    for number in range(1000):
        tenant(number)
    fds, megabytes = footprint()
    for number in range(1000, 10_000):
        tenant(number)
    fds_after, megabytes_after = footprint()

    assert len(kit._pool) <= 32
    assert fds_after <= fds + 16
    assert megabytes_after <= megabytes + 100
