"""What a dataset costs through connector://, beside bare s3:// with s3fs.

A Parquet dataset of 64 files, 200 MB together, is read cold by pyarrow from a real S3
server: through `connector://` with the default policies, and through s3fs as it comes.
Both in turns, each time by a new filesystem in a process that has all imports behind
it; the ratio is the median of the pairs'.

Then the server is put 20 ms away, and the bytes of the files are read again, one file
after the other: by s3fs, and through `connector://` with a content cache that has them.
The cache asks what each object is each time, by a HEAD, or every ten seconds.

Run: python tests/benchmarks/tools.py
"""

from __future__ import annotations

import tempfile
import time
from typing import TYPE_CHECKING, Any

import fsspec
from _bench import finish, isolate, median, need, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from servers import RcloneS3

FILES, MEGABYTES, ROUNDS = 64, 200, 9
ROWS = MEGABYTES * 1_000_000 // FILES // 16


def main() -> None:
    """Measure."""
    isolate()
    need("pyarrow")
    with s3_server() as server:
        folder = f"{server.bucket()}/dataset"
        written = _write(server, folder)
        seconds, ratios = _cold(server, folder)
        again = _again(server, folder)
    for name, each in seconds.items():
        speed = written / median(each) / 1e6
        print(f"{name:>20} {median(each):6.3f} s  {speed:6.0f} MB/s")
    for name, each in again.items():
        speed = written / median(each) / 1e6
        print(f"{name:>20} {median(each):6.3f} s  {speed:6.0f} MB/s, again, 20 ms away")
    faster = {
        name: round(median(again["s3fs"]) / median(each), 2)
        for name, each in again.items()
    }
    finish(
        "tools",
        files=FILES,
        megabytes=round(written / 1e6),
        cold_ratio=round(median(ratios), 3),
        cold_ratio_spread=[round(min(ratios), 3), round(max(ratios), 3)],
        cold_seconds={name: round(median(each), 3) for name, each in seconds.items()},
        again_ratio=faster["seconds = 10"],
        again_ratio_asking_each_time=faster["seconds = 0"],
        again_seconds={name: round(median(each), 3) for name, each in again.items()},
        targets={"cold_ratio": 0.97, "again_ratio": 5},
    )


def _settings(server: RcloneS3) -> dict[str, str]:
    return {
        "key": server.key,
        "secret": server.secret,
        "endpoint_url": server.endpoint_url,
        "region_name": server.region_name,
    }


def _write(server: RcloneS3, folder: str) -> int:
    import os

    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    from connectorkit import ConnectorKit

    settings = _settings(server)
    with ConnectorKit(
        {"connectors": {"it": {"type": "minio", "settings": settings}}}
    ) as kit:
        fs = kit.resolve("it").fs
        noise = np.random.default_rng(int.from_bytes(os.urandom(4), "big"))
        for number in range(FILES):
            columns = {name: noise.random(ROWS) for name in ("x", "y")}
            with fs.open(f"{folder}/{number:02}.parquet", "wb") as file:
                pq.write_table(
                    pa.table(columns), file, compression="none", use_dictionary=False
                )
        return int(fs.du(folder))


def _cold(server: RcloneS3, folder: str) -> tuple[dict[str, list[float]], list[float]]:
    """Read by either in turns; return both's seconds, and how much faster ours was."""
    from connectorkit import ConnectorKit, set_default_kit

    its = _settings(server)

    def through_connector() -> int:
        config = {"connectors": {"it": {"type": "minio", "settings": its}}}
        with ConnectorKit(config) as kit, set_default_kit(kit):
            return _read("connector", f"it/{folder}")

    def bare() -> int:
        client: dict[str, Any] = {"region_name": its["region_name"]}
        reach = {k: its[k] for k in ("key", "secret", "endpoint_url")}
        # What it needs to read ranges from this server at all.
        config = {"response_checksum_validation": "when_required"}
        options = {**reach, "client_kwargs": client, "config_kwargs": config}
        return _read("s3", folder, **options)

    ways: dict[str, Callable[[], int]] = {
        "s3fs": bare,
        "connector": through_connector,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for read in ways.values():
        read()
    ratios = []
    for number in range(ROUNDS):
        # Who comes first finds the machine otherwise than who comes second.
        for name in sorted(ways, reverse=bool(number % 2)):
            began = time.perf_counter()
            rows = ways[name]()
            seconds[name].append(time.perf_counter() - began)
            assert rows == FILES * ROWS, rows
        ratios.append(seconds["s3fs"][-1] / seconds["connector"][-1])
    return seconds, ratios


def _again(server: RcloneS3, folder: str) -> dict[str, list[float]]:
    """Read the files' bytes again from afar; return each way's seconds."""
    from cache import Far, bare, kit_of

    from connectorkit import set_default_kit
    from connectorkit.testing import FaultProxy

    found = {}
    with FaultProxy(server.endpoint_url) as proxy:
        proxy.inject(Far(), times=None)
        found["s3fs"] = _bytes(bare(server, proxy), folder)
        for seconds in (0, 10):
            with (
                tempfile.TemporaryDirectory() as kept,
                kit_of(server, proxy, kept, seconds) as kit,
                set_default_kit(kit),
            ):
                fs = fsspec.filesystem("connector")
                found[f"seconds = {seconds}"] = _bytes(fs, f"it/{folder}")
    return found


def _bytes(fs: Any, folder: str) -> list[float]:
    """Read each file, again and again; return the seconds but for the first time."""
    paths = fs.find(folder)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        for path in paths:
            with fs.open(path) as file:
                file.read()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def _read(protocol: str, folder: str, **options: Any) -> int:
    import pyarrow.dataset as ds

    fs = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
    rows: int = ds.dataset(folder, filesystem=fs, format="parquet").to_table().num_rows
    return rows


if __name__ == "__main__":
    main()
