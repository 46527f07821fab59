"""What a dataset costs through connector://, beside bare s3:// with s3fs.

A Parquet dataset of 64 files, 200 MB together, is read cold by pyarrow from a real S3
server: through `connector://` with the default policies, and through s3fs as it comes.
Both in turns, each time by a new filesystem in a process that has all imports behind
it; the ratio is the median of the pairs'.

Run: python tests/benchmarks/tools.py
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

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
    for name, each in seconds.items():
        speed = written / median(each) / 1e6
        print(f"{name:>20} {median(each):6.3f} s  {speed:6.0f} MB/s")
    finish(
        "tools",
        files=FILES,
        megabytes=round(written / 1e6),
        cold_ratio=round(median(ratios), 3),
        cold_ratio_spread=[round(min(ratios), 3), round(max(ratios), 3)],
        cold_seconds={name: round(median(each), 3) for name, each in seconds.items()},
        targets={"cold_ratio": 0.97},
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


def _read(protocol: str, folder: str, **options: Any) -> int:
    import fsspec
    import pyarrow.dataset as ds

    fs = fsspec.filesystem(protocol, skip_instance_cache=True, **options)
    rows: int = ds.dataset(folder, filesystem=fs, format="parquet").to_table().num_rows
    return rows


if __name__ == "__main__":
    main()
