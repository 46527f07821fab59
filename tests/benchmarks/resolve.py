"""What a hot resolve costs beside a cached `fsspec.filesystem(...)`.

Run: python tests/benchmarks/resolve.py
"""

from __future__ import annotations

import timeit
from typing import TYPE_CHECKING, Any

from _bench import finish, isolate, median

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, CALLS = 9, 20_000
SYSTEM_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"


def main() -> None:
    """Measure."""
    isolate()
    import fsspec

    from connectorkit import ConnectorKit

    reach = {"endpoint_url": "http://127.0.0.1:9", "key": "k" * 20, "secret": "s" * 40}
    system = {"WORKFLOW_EXECUTION": {"provider": "minio", "credentials": reach}}
    options: dict[str, Any] = {**reach, "client_kwargs": {"region_name": "us-east-1"}}

    def kit_of(count: int) -> ConnectorKit:
        each = {"type": "minio", "settings": reach}
        return ConnectorKit(
            {"system": system, "connectors": {f"c{i}": each for i in range(count)}}
        )

    kits = {count: kit_of(count) for count in (10, 1_000, 100_000)}
    calls: dict[str, Callable[[], Any]] = {
        "fsspec": lambda: fsspec.filesystem("s3", **options),
        "system": lambda: kits[10].resolve(SYSTEM_ID),
        "system with .fs": lambda: kits[10].resolve(SYSTEM_ID).fs,
        **{
            f"configured, {count}": lambda kit=kit, it=f"c{count - 1}": kit.resolve(it)  # type: ignore[misc]
            for count, kit in kits.items()
        },
    }
    for call in calls.values():
        call()
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            times[name].append(timeit.timeit(call, number=CALLS) / CALLS * 1e6)
    micros = {name: median(each) for name, each in times.items()}
    for name, each in micros.items():
        print(f"{name:>20} {each:7.2f} µs")
    finish(
        "resolve",
        configured_ratio=round(micros["configured, 10"] / micros["fsspec"], 3),
        system_ratio=round(micros["system"] / micros["fsspec"], 3),
        with_fs_ratio=round(micros["system with .fs"] / micros["fsspec"], 3),
        growth_from_10_to_100000=round(
            micros["configured, 100000"] / micros["configured, 10"], 3
        ),
        targets={"ratio": 0.333, "growth": "about 1"},
    )


if __name__ == "__main__":
    main()
