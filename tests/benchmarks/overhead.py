"""What the default policies cost, beside the same assembled by hand.

Around a call that does nothing: the default stack, and what a careful engineer puts
around it today: tenacity (stop, jittered exponential wait, a predicate, a counter of
retries), pybreaker, a counter and a histogram of prometheus-client, and in a coroutine
`asyncio.timeout`. By hand there is no retry budget, no pacing, no deadline that ends a
wait, and one circuit for everybody.

Around 1 KiB from a real S3 server: the default stack, bare s3fs with one request, and
s3fs as it comes, which asks for the size first.

Run: python tests/benchmarks/overhead.py
"""

from __future__ import annotations

import asyncio
import functools
import time
from typing import TYPE_CHECKING, Any

from _bench import finish, isolate, median, need, s3_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectorkit import ConnectorKit
    from connectorkit.operation import Operation
    from servers import RcloneS3

ROUNDS, CALLS = 15, 2_000
READ_ROUNDS, READS = 9, 60


class ByHand:
    """The policies of the default stack, from the libraries of their trade."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, Counter, Histogram
        from pybreaker import CircuitBreaker

        registry = CollectorRegistry()
        self.operations = Counter(
            "by_hand_operations",
            "Operations.",
            ["operation", "bucket", "result"],
            registry=registry,
        )
        self.seconds = Histogram(
            "by_hand_operation_duration_seconds",
            "Seconds.",
            ["operation", "bucket"],
            registry=registry,
        )
        self.retries = Counter(
            "by_hand_retry_attempts",
            "Retries.",
            ["operation", "attempt"],
            registry=registry,
        )
        self.breaker = CircuitBreaker(fail_max=5, reset_timeout=60, success_threshold=2)

    def retrying(self, operation: str) -> Any:
        """Return tenacity's decorator."""
        from pybreaker import CircuitBreakerError
        from tenacity import (
            retry,
            retry_if_exception,
            stop_after_attempt,
            stop_after_delay,
            wait_random_exponential,
        )

        def may_pass(error: BaseException) -> bool:
            is_outage = isinstance(error, ConnectionError | TimeoutError)
            return is_outage and not isinstance(error, CircuitBreakerError)

        def count(state: Any) -> None:
            self.retries.labels(operation, state.attempt_number).inc()

        return retry(
            stop=stop_after_attempt(3) | stop_after_delay(3600),
            wait=wait_random_exponential(multiplier=1, max=30),
            retry=retry_if_exception(may_pass),
            before_sleep=count,
            reraise=True,
        )

    def counted(self, operation: str, bucket: str, began: float, result: str) -> None:
        """Count an operation; its bucket comes with each call, as a service's does."""
        self.operations.labels(operation, bucket, result).inc()
        self.seconds.labels(operation, bucket).observe(time.perf_counter() - began)

    def sync(
        self, function: Callable[[str], Any], operation: str
    ) -> Callable[..., Any]:
        """Wrap a function."""
        from pybreaker import CircuitBreakerError

        tried = self.retrying(operation)(self.breaker(function))

        @functools.wraps(function)
        def wrapped(bucket: str) -> Any:
            began, result = time.perf_counter(), "error"
            try:
                answer = tried(bucket)
                result = "success"
            except CircuitBreakerError:
                result = "circuit_open"
                raise
            else:
                return answer
            finally:
                self.counted(operation, bucket, began, result)

        return wrapped

    def asynchronous(
        self, function: Callable[[str], Awaitable[Any]], operation: str
    ) -> Callable[..., Awaitable[Any]]:
        """Wrap a coroutine function."""
        from pybreaker import CircuitBreakerError

        @self.retrying(operation)  # type: ignore[untyped-decorator]
        async def tried(bucket: str) -> Any:
            # Its decorator would take a coroutine that was made for one that succeeded.
            with self.breaker.calling():
                async with asyncio.timeout(60):
                    return await function(bucket)

        @functools.wraps(function)
        async def wrapped(bucket: str) -> Any:
            began, result = time.perf_counter(), "error"
            try:
                answer = await tried(bucket)
                result = "success"
            except CircuitBreakerError:
                result = "circuit_open"
                raise
            else:
                return answer
            finally:
                self.counted(operation, bucket, began, result)

        return wrapped


def nothing(_bucket: str) -> None:
    """Do nothing."""


async def nothing_later(_bucket: str) -> None:
    """Do nothing, as a coroutine."""


class Subjects:
    """What is measured around a no-op, by name: a function and a coroutine function."""

    def __init__(self, kit: ConnectorKit, by_hand: ByHand) -> None:
        from connectorkit import Kind

        connector = kit.resolve("noop")
        pipeline = connector.opened().pipeline

        def attempt(_op: Operation) -> None:
            pass

        async def attempt_later(_op: Operation) -> None:
            pass

        def no() -> None:
            pass

        async def no_later() -> None:
            pass

        self.sync: dict[str, Callable[[], Any]] = {
            "bare": functools.partial(nothing, "bucket"),
            "by hand": functools.partial(by_hand.sync(nothing, "noop"), "bucket"),
            # As S3's filesystem has it.
            "pipeline": lambda: pipeline.run(
                pipeline.operation("noop", Kind.READ, bucket="bucket"), attempt
            ),
            # As a host has it.
            "call": lambda: connector.call("noop", "read", no, bucket="bucket"),
        }
        self.asynchronous: dict[str, Callable[[], Awaitable[Any]]] = {
            "bare": functools.partial(nothing_later, "bucket"),
            "by hand": functools.partial(
                by_hand.asynchronous(nothing_later, "noop"), "bucket"
            ),
            "pipeline": lambda: pipeline.arun(
                pipeline.operation("noop", Kind.READ, bucket="bucket"), attempt_later
            ),
            "call": lambda: connector.call("noop", "read", no_later, bucket="bucket"),
        }


def timed(function: Callable[[], Any]) -> float:
    """Return the microseconds of a call."""
    began = time.perf_counter()
    for _ in range(CALLS):
        function()
    return (time.perf_counter() - began) / CALLS * 1e6


async def timed_later(function: Callable[[], Awaitable[Any]]) -> float:
    """Return the microseconds of a call that is awaited."""
    began = time.perf_counter()
    for _ in range(CALLS):
        await function()
    return (time.perf_counter() - began) / CALLS * 1e6


def around_nothing(subjects: Subjects) -> dict[str, dict[str, float]]:
    """Return the microseconds of each, by world and name: medians of all rounds."""
    times: dict[str, dict[str, list[float]]] = {
        world: {name: [] for name in subjects.sync} for world in ("sync", "async")
    }

    async def round_later() -> None:
        for name, function in subjects.asynchronous.items():
            times["async"][name].append(await timed_later(function))

    for _ in range(ROUNDS + 1):
        for name, function in subjects.sync.items():
            times["sync"][name].append(timed(function))
        asyncio.run(round_later())
    # The first round warms up.
    return {
        world: {name: median(each[1:]) for name, each in by.items()}
        for world, by in times.items()
    }


def costs(kit: ConnectorKit) -> dict[str, dict[str, float]]:
    """Return what each policy adds by itself, in microseconds, sync and async."""
    from connectorkit import Pipeline
    from connectorkit.operation import Kind

    scope = kit.resolve("noop").opened().pipeline.scope
    policies = kit.default_policies()
    stacks = {"none": Pipeline((), scope)}
    for policy in policies:
        stacks[policy.name] = Pipeline((policy,), scope)

    def attempt(_op: Operation) -> None:
        pass

    async def attempt_later(_op: Operation) -> None:
        pass

    times: dict[str, dict[str, list[float]]] = {
        name: {"sync": [], "async": []} for name in stacks
    }
    for _ in range(ROUNDS):
        for name, pipeline in stacks.items():

            def once(pipeline: Pipeline = pipeline) -> None:
                pipeline.run(pipeline.operation("none", Kind.READ), attempt)

            async def once_later(pipeline: Pipeline = pipeline) -> None:
                op = pipeline.operation("none", Kind.READ)
                await pipeline.arun(op, attempt_later)

            times[name]["sync"].append(timed(once))
            times[name]["async"].append(asyncio.run(timed_later(once_later)))
    found = {
        name: {world: median(each) for world, each in by.items()}
        for name, by in times.items()
    }
    none = found.pop("none")
    added = {
        name: {world: each - none[world] for world, each in by.items()}
        for name, by in found.items()
    }
    return {"none": none, **added}


def counted() -> float:
    """Return how many operations were counted: what is put off is not left out."""
    from prometheus_client import REGISTRY

    return sum(
        sample.value
        for metric in REGISTRY.collect()
        for sample in metric.samples
        if sample.name == "connectorkit_operations_total"
        and sample.labels["operation"] == "noop"
    )


def around_a_read(server: RcloneS3) -> tuple[dict[str, float], float, dict[str, int]]:
    """Return milliseconds by name, the ratio to one bare request, and the requests."""
    import s3fs

    from connectorkit import ConnectorKit
    from connectorkit.testing import FaultProxy

    path = f"{server.bucket()}/object"

    def readers(url: str) -> tuple[ConnectorKit, dict[str, Callable[[], bytes]]]:
        reach = {"endpoint_url": url, "key": server.key, "secret": server.secret}
        options: dict[str, Any] = {
            **reach,
            "client_kwargs": {"region_name": "us-east-1"},
            "skip_instance_cache": True,
        }
        kit = ConnectorKit({"connectors": {"mine": {"type": "s3", "settings": reach}}})
        kit.resolve("mine").fs.pipe_file(path, b"x" * 1024)
        one = s3fs.S3FileSystem(max_concurrency=1, **options)
        as_it_comes = s3fs.S3FileSystem(**options)
        return kit, {
            "kit": lambda: kit.resolve("mine").fs.cat_file(path),
            "s3fs, 1 request": lambda: one.cat_file(path),
            "s3fs": lambda: as_it_comes.cat_file(path),
        }

    requests = {}
    with FaultProxy(server.endpoint_url) as proxy:
        kit, variants = readers(proxy.url)
        for name, read in variants.items():
            read()
            before = proxy.requests
            assert len(read()) == 1024
            requests[name] = proxy.requests - before
        kit.close()

    kit, variants = readers(server.endpoint_url)
    rounds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(READ_ROUNDS + 1):
        times: dict[str, list[float]] = {name: [] for name in variants}
        turns = [*variants.items()]
        for _ in range(READS):
            # One after the other, so that what else the machine does meets all of
            # them; and each of them after each.
            turns.append(turns.pop(0))
            for name, read in turns:
                began = time.perf_counter()
                read()
                times[name].append(time.perf_counter() - began)
        for name, each in times.items():
            rounds[name].append(median(each) * 1e3)
    kit.close()
    ratios = [
        kit / one
        for kit, one in zip(rounds["kit"], rounds["s3fs, 1 request"], strict=True)
    ]
    millis = {name: median(each[1:]) for name, each in rounds.items()}
    return millis, median(ratios[1:]), requests


def main() -> None:
    """Measure."""
    isolate()
    need("prometheus-client", "pybreaker", "tenacity")
    from connectorkit import ConnectorKit

    kit = ConnectorKit({"connectors": {"noop": {"type": "memory"}}})
    policies = [policy.name for policy in kit.default_policies()]
    micros = around_nothing(Subjects(kit, ByHand()))
    done = 2 * 2 * (ROUNDS + 1) * CALLS
    if "metrics" in policies and counted() != done:
        raise AssertionError(f"Of {done} operations {counted()} were counted.")
    for world, by in micros.items():
        for name, each in by.items():
            print(f"{world:>6} {name:>16} {each:7.2f} µs")
    by_policy = costs(kit)
    for name, by in by_policy.items():
        print(f"{name:>16} {by['sync']:+7.2f} µs sync {by['async']:+7.2f} µs async")
    kit.close()
    with s3_server() as server:
        millis, ratio, requests = around_a_read(server)
    for name, each in millis.items():
        print(f"{name:>16} {each:7.3f} ms, {requests[name]} requests")
    finish(
        "overhead",
        sync_ratio=round(micros["sync"]["call"] / micros["sync"]["by hand"], 3),
        async_ratio=round(micros["async"]["call"] / micros["async"]["by hand"], 3),
        sync_pipeline_ratio=round(
            micros["sync"]["pipeline"] / micros["sync"]["by hand"], 3
        ),
        async_pipeline_ratio=round(
            micros["async"]["pipeline"] / micros["async"]["by hand"], 3
        ),
        microseconds={
            world: {name: round(each, 2) for name, each in by.items()}
            for world, by in micros.items()
        },
        policies=policies,
        cat_file_ratio=round(ratio, 3),
        cat_file_requests=requests["kit"],
        cat_file_of_default_s3fs=round(millis["kit"] / millis["s3fs"], 3),
        targets={"sync_ratio": 0.25, "async_ratio": 0.25, "cat_file_ratio": 1.05},
    )


if __name__ == "__main__":
    main()
