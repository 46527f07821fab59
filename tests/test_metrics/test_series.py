"""The series: all that is documented is there, and the sums agree."""

from __future__ import annotations

import asyncio
import gc
import importlib
import logging
import re
import sys
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectorkit import (
    ConfigError,
    ConnectorKit,
    FilesystemClosed,
    Kind,
    MissingExtra,
    Pipeline,
)
from connectorkit.scope import Memory
from connectorkit_metrics import Metrics, MetricsSettings, outcomes, own, series, source
from connectorkit_metrics.outcomes import OUTCOMES
from test_cache.support import Shelves
from test_metrics.support import ERRORS, EVENTS, Meter, matching, opened, smoke

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from prometheus_client.samples import Sample

OPERATIONS = "connectorkit_operations_total"
SECONDS = "connectorkit_operation_duration_seconds"
LEVELS = {"closed": 0, "forced_closed": 0, "half_open": 1, "forced_open": 2}
ATTEMPTS = "connectorkit_operation_attempts"


def table(module: Any) -> dict[str, set[str]]:
    """Return the labels of each series in the table of a module's docstring."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]*)\|", module.__doc__, re.MULTILINE)
    return {name: {*labels.replace(",", "").split()} for name, labels in rows}


def exported(meter: Meter) -> dict[str, set[str]]:
    """Return the labels of each series, histograms by the name of the whole."""
    found = {}
    for family in meter.registry.collect():
        assert family.samples, f"{family.name} has no series"
        for sample in family.samples:
            if sample.name.endswith("_created"):
                continue
            name = family.name if family.type == "histogram" else sample.name
            found[name] = {*sample.labels} - {"le"}
    return found


# What is exported


@pytest.mark.parametrize(
    ("names", "module"), [("connectorkit", own), ("source", source)]
)
def test_documented_series_are_there(names: str, module: Any) -> None:
    """The table has exactly the series, and labels, that a run of all leaves (E20)."""
    meter = Meter(names=names)
    smoke(meter)
    assert exported(meter) == table(module)


def test_documented_outcomes_are_there() -> None:
    """Each way of ending has its outcome and its result, as the table says."""
    meter = Meter()
    total = smoke(meter)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", outcomes.__doc__ or "", re.MULTILINE)
    assert dict(rows) == OUTCOMES
    for outcome in ERRORS:
        assert meter.value(OPERATIONS, outcome=outcome) == 1 + (outcome == "success")
    assert meter.value(OPERATIONS, outcome="abandoned") == 1
    assert meter.value(OPERATIONS) == total
    for result in {*OUTCOMES.values()}:
        of_result = [it for it in OUTCOMES if OUTCOMES[it] == result]
        counted = sum(meter.value(OPERATIONS, outcome=it) for it in of_result)
        assert meter.value(f"{SECONDS}_count", result=result) == counted


def test_interrupts_are_cancellations() -> None:
    """What is no error of the service's is none in the metrics."""
    meter = Meter()
    for error in (KeyboardInterrupt(), asyncio.CancelledError(), SystemExit()):
        meter.run(error)
    assert meter.value(OPERATIONS, outcome="cancelled") == 3


def test_source_names() -> None:
    """By the source's names there are its four series, with its values of labels."""
    meter = Meter(names="source")
    total = smoke(meter)
    by_result = {
        result: meter.value("s3_operations_total", result=result)
        for result in ("success", "error", "circuit_open")
    }
    # Abandoned is not failed.
    assert by_result == {"success": 3, "error": total - 4, "circuit_open": 1}
    assert meter.value("s3_operations_total", operation="put_object", bucket="b") == 1
    assert meter.value("s3_operation_duration_seconds_count") == total
    assert meter.value("s3_retry_attempts_total", operation="put_object") == 1
    assert meter.value("s3_retry_attempts_total", attempt="2") == 1
    state = "s3_circuit_breaker_state"
    assert meter.value(state, circuit_name="s3-upload") == 2
    assert meter.value(state, circuit_name="s3-download") == 0
    names = {it.labels["circuit_name"] for it in meter.samples() if it.name == state}
    assert names == {"s3-upload", "s3-download"}


def test_source_circuits_are_there_from_the_start() -> None:
    """An alert on a circuit's state has a series before anything happened."""
    samples = [it for it in Meter(names="source").samples() if "state" in it.name]
    assert {(it.labels["circuit_name"], it.value) for it in samples} == {
        ("s3-upload", 0),
        ("s3-download", 0),
    }


@pytest.mark.parametrize("names", ["connectorkit", "source"])
def test_failures_are_in_the_durations(names: str) -> None:
    """Half of all timed out after 50 s: the 99th percentile shows it (E21)."""
    meter = Meter(names=names)
    for _ in range(10):
        meter.run(seconds=0.002)
        meter.run(TimeoutError(), seconds=50)
    name = "s3_operation_duration_seconds" if names == "source" else SECONDS
    slow = meter.value(f"{name}_count") - meter.value(f"{name}_bucket", le="30.0")
    assert slow == 10
    assert meter.value(f"{name}_bucket", le="0.0025") == 10


# Sums


ENDS = st.lists(
    st.tuples(
        st.sampled_from([*ERRORS]),
        st.integers(1, 12),
        st.sampled_from(["get_object", "put_object"]),
        # Whole parts of a power of two: sums of these are exact.
        st.sampled_from([0.0, 2**-10, 2**-9, 3.0, 100.0, 2.0**20]),
        st.integers(0, 10),
    ),
    max_size=12,
)


@given(ENDS)
def test_sums_agree(ends: list[tuple[str, int, str, float, int]]) -> None:
    """Outcomes add up to operations, attempts to those made, seconds and bytes too."""
    meter = Meter()
    for outcome, attempts, name, seconds, size in ends:
        kind = Kind.WRITE if name == "put_object" else Kind.READ
        meter.run(
            ERRORS[outcome],
            name=name,
            kind=kind,
            seconds=seconds,
            size=size,
            attempts=attempts,
        )
    samples = meter.samples()
    made = sum(attempts for _, attempts, *_ in ends)
    assert matching(samples, OPERATIONS) == len(ends)
    for outcome, many in Counter(outcome for outcome, *_ in ends).items():
        assert matching(samples, OPERATIONS, outcome=outcome) == many
    assert matching(samples, f"{SECONDS}_count") == len(ends)
    assert matching(samples, f"{SECONDS}_sum") == sum(it[3] for it in ends)
    for bound in (0.001, 0.0025, 5.0, 120.0):
        at_most = sum(it[3] <= bound for it in ends)
        assert matching(samples, f"{SECONDS}_bucket", le=str(bound)) == at_most
    assert matching(samples, f"{ATTEMPTS}_sum") == made
    assert matching(samples, "connectorkit_retry_attempts_total") == made - len(ends)
    for verb, direction in (("get", "read"), ("put", "written")):
        moved = [it for it in ends if it[0] == "success" and it[2].startswith(verb)]
        total = sum(size for *_, size in moved)
        assert (
            matching(samples, "connectorkit_bytes_total", direction=direction) == total
        )
    rejected = sum(it[0] in {"open", "full", "refused", "deadline"} for it in ends)
    assert matching(samples, "connectorkit_rejected_total") == rejected


@given(st.lists(st.sampled_from([*series.SECONDS, 0.0, 0.0011, 7.0, 1e9])))
def test_bulk_is_as_one_by_one(amounts: list[float]) -> None:
    """A histogram that is given all at once shows what one does that sees each."""
    bulk = series.BulkHistogram("x", "", registry=None, buckets=series.SECONDS)
    each = prometheus_client.Histogram("x", "", registry=None, buckets=series.SECONDS)
    for amount in amounts:
        each.observe(amount)
    half = len(amounts) // 2
    for part in (amounts[:half], amounts[half:]):
        if part:
            bulk.extend([*part])

    def shown(histogram: prometheus_client.Histogram) -> list[tuple[Any, ...]]:
        (family,) = histogram.collect()
        samples = [it for it in family.samples if not it.name.endswith("_created")]
        return [(it.name, it.labels, pytest.approx(it.value)) for it in samples]

    assert shown(bulk) == shown(each)


def test_rejections_name_policy_and_reason() -> None:
    """It is said who did not let an operation through, and why."""
    meter = Meter()
    smoke(meter)
    names = ("breaker", "open"), ("slots", "full"), ("moody", "monday")
    for policy, reason in (*names, ("deadline", "deadline"), ("retry", "budget")):
        rejected = "connectorkit_rejected_total"
        assert meter.value(rejected, policy=policy, reason=reason) == 1


def test_time_in_which_nobody_read_is_not_counted() -> None:
    """A reader that takes its time does not make the service slow."""
    meter = Meter()
    pipeline = Pipeline([meter.policy], meter.scope())

    async def read_slowly() -> bytes:
        body = await opened(pipeline, b"0123456789")
        meter.clock.advance(1000)
        return await body.read()

    assert asyncio.run(read_slowly()) == b"0123456789"
    assert meter.value(f"{SECONDS}_sum") == 0
    assert meter.value("connectorkit_bytes_total", direction="read") == 10
    assert meter.value(OPERATIONS, outcome="success") == 1


@given(st.lists(st.sampled_from(list(LEVELS)), min_size=3, max_size=30))
def test_circuits_show_the_worst(steps: list[str]) -> None:
    """With several identities' circuits of one name, the worst state is shown (E19)."""
    meter = Meter()
    scopes = [meter.scope(identity=number) for number in range(3)]
    for scope in scopes:
        meter.run(scope=scope)
    for number, state in enumerate(steps):
        meter.put(state, scopes[number % 3])
    levels = [LEVELS[steps[max(range(n, len(steps), 3))]] for n in range(3)]
    labels = {"type": "s3", "circuit": "upload"}
    assert meter.value("connectorkit_circuit_state", **labels) == max(levels)
    assert meter.value("connectorkit_circuits_open", **labels) == levels.count(2)


def test_circuits_change_by_time_alone() -> None:
    """An open circuit whose time is up is half open, though nobody has tried (E19)."""
    meter = Meter()
    meter.run()
    circuit = meter.upload_circuit()
    circuit._open(meter.clock(), 5)
    labels = {"type": "s3", "circuit": "upload"}
    assert meter.value("connectorkit_circuit_state", **labels) == 2
    meter.clock.advance(60)
    assert meter.value("connectorkit_circuit_state", **labels) == 1
    assert meter.value("connectorkit_circuits_open", **labels) == 0


@pytest.mark.parametrize("names", ["connectorkit", "source"])
def test_circuits_that_are_forgotten_are_not_open(names: str) -> None:
    """A tenant who does not come back leaves no open circuit to be alarmed of."""
    meter = Meter(names=names)
    meter.memory = Memory(most=1)
    meter.run()
    meter.put("forced_open")
    states = {"connectorkit_circuit_state", "s3_circuit_breaker_state"}
    shown = [it.value for it in meter.samples() if it.name in states]
    assert max(shown) == 2
    meter.memory.of("another", Memory)
    gc.collect()
    shown = [it.value for it in meter.samples() if it.name in states]
    assert max(shown) == 0


def test_a_closed_kit_is_let_go() -> None:
    """What waits to be counted holds nothing of a kit that was closed."""
    meter = Meter()
    meter.run()
    assert len(meter.policy._pending) == 1
    meter.hear(FilesystemClosed("s3"))
    assert len(meter.policy._pending) == 0
    assert meter.value(OPERATIONS) == 1


def test_threads_lose_nothing() -> None:
    """Many threads that count and one that asks: nothing is lost, or counted twice."""
    meter = Meter()
    pipeline = Pipeline([meter.policy], meter.scope())
    each, threads = 3000, 4

    def work() -> None:
        for _ in range(each):
            op = pipeline.operation("get_object", Kind.READ)
            pipeline.run(op, lambda _op: None)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    while any(worker.is_alive() for worker in workers):
        meter.samples()
    assert meter.value(OPERATIONS) == each * threads
    assert meter.value(f"{SECONDS}_bucket", le="+Inf") == each * threads


# One of each in a process


@pytest.fixture
def imported_anew() -> Iterator[Any]:
    """Import the plugin once more, as a reloader does."""
    before = {k: v for k, v in sys.modules.items() if "connectorkit_metrics" in k}
    for name in before:
        del sys.modules[name]
    yield importlib.import_module("connectorkit_metrics")
    for name in [name for name in sys.modules if "connectorkit_metrics" in name]:
        del sys.modules[name]
    sys.modules.update(before)


def test_a_reload_goes_on(imported_anew: Any) -> None:
    """Whoever imports the plugin anew counts in the same series, and hears events."""
    meter = Meter()
    meter.run()
    again = Meter()
    again.registry = meter.registry
    again.policy = imported_anew.Metrics(None, meter.registry)
    again.run()
    imported_anew.connectorkit_event(EVENTS[0])
    assert meter.value(OPERATIONS) == 2
    assert meter.value("connectorkit_resolves_total") == 1


def test_policies_of_two_kits_share_series() -> None:
    """Policies with other settings count in one registry, each by its own labels."""
    meter = Meter()
    strict = Metrics(MetricsSettings(connectors=frozenset({"notes"})), meter.registry)
    both = Metrics(MetricsSettings(names="source"), meter.registry)
    for policy in (meter.policy, strict, both, Metrics(None, meter.registry)):
        meter.policy = policy
        meter.run()
    assert meter.value(OPERATIONS, connector="reports") == 2
    assert meter.value(OPERATIONS, connector="other") == 1
    assert meter.value("s3_operations_total") == 1


def test_names_that_are_taken() -> None:
    """A host that has the source's series itself is told so when a policy is made."""
    registry = CollectorRegistry()
    prometheus_client.Counter("s3_operations", "The host's.", registry=registry)
    with pytest.raises(ConfigError, match="s3_operations"):
        Metrics(MetricsSettings(names="source"), registry)
    Metrics(None, registry)


def test_some_series_can_be_asked_for() -> None:
    """`name[]` picks series, and they are up to date."""
    meter = Meter()
    meter.run()
    some = meter.registry.restricted_registry([OPERATIONS])
    (family,) = some.collect()
    assert [(it.name, it.value) for it in family.samples] == [(OPERATIONS, 1)]


# What can go wrong


def test_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without prometheus_client the policy says what to install when it is made."""
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match=r"pip install 'connectorkit\[metrics\]'"):
        Metrics()


def test_its_failure_breaks_no_operation(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An operation has its result and its error, though it cannot be counted."""
    meter = Meter()
    monkeypatch.setattr(meter.policy, "_most", 1)

    def fail(*_args: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(own.OwnSeries, "_count", fail)
    pipeline = Pipeline([meter.policy], meter.scope())
    with caplog.at_level(logging.CRITICAL, "connectorkit.pipeline"):
        op = pipeline.operation("get_object", Kind.READ)
        assert pipeline.run(op, lambda _op: 7) == 7
    monkeypatch.undo()
    meter.run()
    assert meter.value(OPERATIONS) == 1


def test_errors_that_cannot_be_classified_are_counted() -> None:
    """A connector type that fails on an error does not keep it from being counted."""
    meter = Meter()
    scope = meter.scope()

    def fail(_error: object) -> Any:
        raise RuntimeError("a mistake in a plugin")

    scope.classify = fail
    meter.run(ValueError("x"), scope=scope)
    assert meter.value(OPERATIONS, outcome="permanent") == 1


# In a kit


def test_a_kit_is_counted() -> None:
    """A kit's connectors are counted with the default policies, pool and resolve too.

    By its name, however many connectors this process has counted before.
    """
    before = _whole()
    named = {"type": "memory", "metrics": {"connectors": ["counted"]}}
    with ConnectorKit({"connectors": {"counted": named}}) as kit:
        fs = kit.resolve("counted").fs
        fs.pipe_file("/m/a", b"12345")
        assert fs.cat_file("/m/a") == b"12345"
        with pytest.raises(FileNotFoundError):
            fs.cat_file("/m/b")
        kit.resolve("counted")
    after = _whole()

    def more(name: str, **labels: str) -> float:
        return matching(after, name, **labels) - matching(before, name, **labels)

    of_it = {"connector": "counted"}
    assert more(OPERATIONS, outcome="success", **of_it) >= 2
    assert more(OPERATIONS, outcome="not_found", **of_it) == 1
    assert more("connectorkit_resolves_total", type="memory", by="configuration") == 1
    assert more("connectorkit_filesystems_opened_total", type="memory") == 1
    assert more("connectorkit_filesystems_closed_total", type="memory") == 1


def _whole() -> list[Sample]:
    families = prometheus_client.REGISTRY.collect()
    return [sample for family in families for sample in family.samples]


def test_caches_are_counted(tmp_path: Path) -> None:
    """What caches answer and let go is counted by result, and its bytes."""
    meter = Meter()
    content = {"directory": str(tmp_path), "max_bytes": 60_000, "largest": 20_000}
    with Shelves("content", "breaker", content=content) as shelves:
        shelves.shelf(
            {f"k{n}": bytes(10_000) for n in range(6)} | {"huge": bytes(1 << 15)}
        )
        fs = shelves.fs()
        for name in ("k0", "k0", "k1", "k2", "k3", "k4", "huge"):
            fs.cat_file(name)
        shelves.kit.circuits.force_open("it")
        fs.cat_file("k4")
        meter.hear(*shelves.ears.events)
    requests = {
        result: meter.value(
            "connectorkit_cache_requests_total", cache="content", result=result
        )
        for result in ("hit", "miss", "stale", "around")
    }
    assert requests == {"hit": 1, "miss": 5, "stale": 1, "around": 1}
    for result in ("hit", "stale"):
        name = "connectorkit_cache_bytes_total"
        assert meter.value(name, cache="content", result=result) == 10_000
    assert meter.value("connectorkit_cache_evictions_total", cache="content") == 1
