"""How throughput holds when users become many.

An execution resolves a connector ID and reads 1 KiB from a real S3 server. The source
system made a filesystem for each execution and broke down near 250 users; the kit
should serve 300 users as it serves 50.

Run: python tests/benchmarks/cliff.py
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING, Any

from _bench import Load, finish, isolate, median, run_users, s3_server, sockets

if TYPE_CHECKING:
    from collections.abc import Callable

FEW, MANY, ROUNDS = 50, 300, 5
EXECUTIONS = 600
SYSTEM_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"


def show(name: str, users: int, load: Load) -> None:
    """Print one measurement."""
    print(
        f"{name:>9} {users:>4} users {load.rate:8.1f}/s  p50 {load.p50 * 1e3:8.1f} ms"
        f"  p99 {load.p99 * 1e3:8.1f} ms  {load.errors} errors",
        flush=True,
    )


def open_sessions() -> int:
    """Count the HTTP sessions that are open in this process."""
    from aiohttp import ClientSession

    gc.collect()
    found = [each for each in gc.get_objects() if isinstance(each, ClientSession)]
    return sum(not each.closed for each in found)


def main() -> None:
    """Measure."""
    isolate()
    import fsspec

    from connectorkit import ConnectorKit

    with s3_server() as server:
        reach = {
            "endpoint_url": server.endpoint_url,
            "key": server.key,
            "secret": server.secret,
        }
        options: dict[str, Any] = {
            **reach,
            "client_kwargs": {"region_name": "us-east-1"},
            "config_kwargs": {"response_checksum_validation": "when_required"},
        }
        path = f"{server.bucket()}/object"
        kit = ConnectorKit(
            {
                "system": {
                    "WORKFLOW_EXECUTION": {"provider": "minio", "credentials": reach}
                },
                "connectors": {"user": {"type": "minio", "settings": reach}},
            }
        )
        kit.resolve("user").fs.pipe_file(path, b"x" * 1024)
        limit = kit.explain("user").settings["max_connections"]

        variants: dict[str, Callable[[], Any]] = {
            "system": lambda: kit.resolve(SYSTEM_ID).fs.cat_file(path),
            "user": lambda: kit.resolve("user").fs.cat_file(path),
        }
        for execute in variants.values():
            run_users(FEW, FEW, execute)
        sessions, connections = open_sessions(), sockets(server.port)
        variants["cached"] = lambda: fsspec.filesystem("s3", **options).cat_file(path)
        run_users(FEW, FEW, variants["cached"])

        rates: dict[str, dict[int, list[float]]] = {
            name: {FEW: [], MANY: []} for name in variants
        }
        errors = 0
        for _ in range(ROUNDS):
            for users in (FEW, MANY):
                for name, execute in variants.items():
                    load = run_users(users, EXECUTIONS, execute)
                    show(name, users, load)
                    rates[name][users].append(load.rate)
                    if name != "cached":
                        errors += load.errors
                        connections = max(connections, sockets(server.port))

        def fresh() -> Any:
            fs = fsspec.filesystem("s3", skip_instance_cache=True, **options)
            return fs.cat_file(path)

        fresh_rates, fresh_p99 = {}, {}
        for users in (FEW, MANY):
            # One each: a fresh filesystem costs a tenth of a second and 12 MiB.
            load = run_users(users, users, fresh)
            show("fresh", users, load)
            fresh_rates[users], fresh_p99[users] = load.rate, load.p99
        kit.close()

    held = {
        name: median([many / few for few, many in zip(by[FEW], by[MANY], strict=True)])
        for name, by in rates.items()
    }
    finish(
        "cliff",
        held_system=round(held["system"], 3),
        held_user=round(held["user"], 3),
        held_cached=round(held["cached"], 3),
        rate_at_300={name: round(median(by[MANY]), 1) for name, by in rates.items()},
        rate_at_50={name: round(median(by[FEW]), 1) for name, by in rates.items()},
        fresh_rate_at_300=round(fresh_rates[MANY], 1),
        fresh_p99_at_300_seconds=round(fresh_p99[MANY], 1),
        times_the_old_way=round(median(rates["user"][MANY]) / fresh_rates[MANY], 1),
        errors=errors,
        sessions_of_two_connectors=sessions,
        # The two of the kit and fsspec's own, which has 10.
        most_connections=connections,
        connections_allowed=2 * limit + 10,
        targets={"held": 0.85, "errors": 0},
    )


if __name__ == "__main__":
    main()
