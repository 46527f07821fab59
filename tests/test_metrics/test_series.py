"""The series: all that is documented is there, and the sums agree."""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import re
import sys
import threading
from collections import Counter
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from connectorkit import (
    CircuitChanged,
    ConfigError,
    ConnectorKit,
    Kind,
    MissingExtra,
    Operation,
    OperationRetried,
    Pipeline,
)
from connectorkit.body import Answer, Body
from connectorkit_metrics import Metrics, MetricsSettings, outcomes, own, series, source
from connectorkit_metrics.outcomes import OUTCOMES
from test_metrics.support import ERRORS, EVENTS, Meter, matching

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.samples import Sample

OPERATIONS = "connectorkit_operations_total"
SECONDS = "connectorkit_operation_duration_seconds"
ATTEMPTS = "connectorkit_operation_attempts"


class Bytes:
    """A body that is at hand."""

    def __init__(self, content: bytes) -> None:
        self._rest = content

    async def read(self, amount: int) -> bytes:
        piece, self._rest = self._rest[:amount], self._rest[amount:]
        return piece

    def close(self) -> None:
        self._rest = b""


async def opened(pipeline: Pipeline, content: bytes) -> Body:
    """Return a body that was begun."""

    async def attempt(_op: Operation, offset: int) -> Answer:
        return Answer(Bytes(content[offset:]), len(content) - offset)

    op = pipeline.operation("get_object", Kind.READ, bucket="b")
    body = Body(pipeline, op, attempt)
    await body.open()
    return body


def smoke(meter: Meter) -> int:
    """Let operations end in every way, and everything happen; return how many."""
    for error in ERRORS.values():
        meter.run(error, seconds=0.2)
    meter.run(name="put_object", kind=Kind.WRITE, size=10, attempts=2)
    pipeline = Pipeline([meter.policy], meter.scope())
    asyncio.run(opened(pipeline, b"abandoned")).close()
    meter.hear(*EVENTS)
    return len(ERRORS) + 2


def table(module: Any) -> dict[str, set[str]]:
    """Return the labels of each series in the table of a module's docstring."""
    rows = re.findall(r"^\| `(\w+)` \| ([\w, ]+) \|", module.__doc__, re.MULTILINE)
    return {name: {*labels.split(", ")} for name, labels in rows}


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
    """The table has exactly the series that a run of everything leaves, and labels."""
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
    """Half of all timed out after 50 s: the 99th percentile shows it."""
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
    made = sum(attempts for _, attempts, *_ in ends)
    assert meter.value(OPERATIONS) == len(ends)
    for outcome, many in Counter(outcome for outcome, *_ in ends).items():
        assert meter.value(OPERATIONS, outcome=outcome) == many
    assert meter.value(f"{SECONDS}_count") == len(ends)
    assert meter.value(f"{SECONDS}_sum") == sum(it[3] for it in ends)
    for bound in (0.001, 0.0025, 5.0, 120.0):
        at_most = sum(it[3] <= bound for it in ends)
        assert meter.value(f"{SECONDS}_bucket", le=str(bound)) == at_most
    assert meter.value(f"{ATTEMPTS}_sum") == made
    assert meter.value("connectorkit_retry_attempts_total") == made - len(ends)
    for verb, direction in (("get", "read"), ("put", "written")):
        moved = [it for it in ends if it[0] == "success" and it[2].startswith(verb)]
        total = sum(size for *_, size in moved)
        assert meter.value("connectorkit_bytes_total", direction=direction) == total
    rejected = sum(it[0] in {"open", "full", "refused", "deadline"} for it in ends)
    assert meter.value("connectorkit_rejected_total") == rejected


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


@given(st.lists(st.integers(0, 3), max_size=30))
def test_circuits_show_the_worst(steps: list[int]) -> None:
    """With several identities' circuits of one name, the worst state is shown."""
    meter = Meter()
    order = ["closed", "open", "half_open", "forced_open"]
    states = ["closed"] * 3
    for number, step in enumerate(steps):
        who = number % 3
        after = order[step]
        event = CircuitChanged("reports", "s3", "upload", states[who], after)
        states[who] = after
        meter.hear(event)
    level = {"closed": 0, "half_open": 1, "open": 2, "forced_open": 2}
    worst = max(level[state] for state in states)
    labels = {"type": "s3", "circuit": "upload"}
    is_open = sum(level[state] == 2 for state in states)
    assert meter.value("connectorkit_circuit_state", **labels) == worst
    assert meter.value("connectorkit_circuits_open", **labels) == is_open
    changes = meter.value("connectorkit_circuit_transitions_total", **labels)
    assert changes == len(steps)


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


# Labels


def test_labels_are_bounded() -> None:
    """However many connectors, buckets, operations and reasons, there are few series.

    2,000 is the budget of a process.
    """
    meter = Meter()
    names = ["get_object", "put_object", "head_object", "list_objects_v2"]
    names += ["delete_object", "upload_part", "copy_object", "create_multipart_upload"]
    for number in range(300):
        scope = meter.scope(f"connector-{number}")
        for name in names:
            meter.run(scope=scope, name=name, bucket=f"bucket-{number}")
    samples = meter.samples()
    created = [it for it in samples if it.name.endswith("_created")]
    assert len(samples) - len(created) < 2000
    assert meter.value(OPERATIONS) == 300 * len(names)
    assert meter.value(OPERATIONS, connector="connector-3") == len(names)
    assert meter.value(OPERATIONS, connector="other", bucket="other") == 290 * len(
        names
    )


@settings(max_examples=30)
@given(st.lists(st.text(), max_size=80), st.lists(st.text(), max_size=80))
def test_any_names_are_bounded_text(names: list[str], reasons: list[str]) -> None:
    """Whatever a host or a service calls things, it can be served, and ends."""
    meter = Meter(most_connectors=2, most_buckets=3)
    for name in names:
        meter.run(scope=meter.scope(name), name=name, bucket=name)
        meter.run(scope=meter.scope(name), name=name, bucket=f"{name}\udc80" * 90)
    for reason in reasons:
        meter.hear(OperationRetried("reports", "get_object", 2, reason))
    text = prometheus_client.generate_latest(meter.registry).decode()
    assert max(map(len, text.splitlines())) < 1000
    samples = meter.samples()
    labels = [it.labels for it in samples if it.name == OPERATIONS]
    assert len({it["connector"] for it in labels}) <= 3
    assert len({(it["connector"], it["bucket"]) for it in labels}) <= 8
    assert len({it["operation"] for it in labels}) <= 51
    retries = [it for it in samples if it.name == "connectorkit_retries_total"]
    assert len(retries) <= 31


def test_adhoc_connectors_are_labelled_by_type() -> None:
    """A tenant's settings leave no name of theirs, however many tenants there are."""
    meter = Meter()
    for number in range(50):
        tenant = f"minio|{number}"
        scope = meter.scope(tenant, type_id="minio", is_adhoc=True)
        meter.run(scope=scope, bucket=f"tenant-{number}")
    (sample,) = [it for it in meter.samples() if it.name == OPERATIONS]
    assert sample.value == 50
    assert (sample.labels["connector"], sample.labels["bucket"]) == ("minio", "other")


def test_listed_labels() -> None:
    """Connectors and buckets that are listed are named, and no others."""
    meter = Meter(connectors={"reports"}, buckets={"b"}, most_connectors=0)
    for connector in ("reports", "notes"):
        for bucket in ("b", "c", ""):
            meter.run(scope=meter.scope(connector), bucket=bucket)
    adhoc = meter.scope("minio", is_adhoc=True, type_id="minio")
    meter.run(scope=adhoc, bucket="b")
    labels = {
        (it.labels["connector"], it.labels["bucket"])
        for it in meter.samples()
        if it.name == OPERATIONS
    }
    named = {("reports", "b"), ("reports", "other"), ("reports", "")}
    rest = {("other", "b"), ("other", "other"), ("other", ""), ("minio", "b")}
    assert labels == named | rest


@pytest.mark.parametrize("names", ["connectorkit", "source"])
def test_no_path_and_no_secret(names: str) -> None:
    """What an operation is about, and what its error says, is in no label."""
    meter = Meter(names=names)
    for error in (None, PermissionError("key=sesame"), ConnectionError("sesame")):
        meter.run(error, bucket="b", path="b/private/sesame")
    assert "sesame" not in prometheus_client.generate_latest(meter.registry).decode()


# Dashboard


def test_dashboard_shows_what_is_there() -> None:
    """Each series and each label in the dashboard is one that is exported."""
    meter = Meter()
    smoke(meter)
    labels: dict[str, set[str]] = {}
    for sample in meter.samples():
        labels.setdefault(sample.name, set()).update(sample.labels)
    text = files("connectorkit_metrics").joinpath("dashboard.json").read_text("utf-8")
    board = json.loads(text)
    panels = [it for it in board["panels"] if it["type"] != "row"]
    targets = [(p["title"], it) for p in panels for it in p["targets"]]
    assert len(targets) > 20
    for title, target in targets:
        check(target["expr"], labels, target["legendFormat"], title)
    (variable,) = [it for it in board["templating"]["list"] if it["type"] == "query"]
    name, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
    assert label in labels[name]
    ids = [it["id"] for it in board["panels"]]
    assert sorted(ids) == sorted({*ids})


def test_alerts_watch_what_is_there() -> None:
    """Each series and each label in the alerts is one that is exported."""
    meter = Meter()
    smoke(meter)
    labels: dict[str, set[str]] = {}
    for sample in meter.samples():
        labels.setdefault(sample.name, set()).update(sample.labels)
    text = files("connectorkit_metrics").joinpath("alerts.yml").read_text("utf-8")
    rules = text.split("- alert: ")[1:]
    assert len(rules) == 14
    for rule in rules:
        legend = rule.partition("annotations:")[2].replace("$labels.", "")
        expr = re.sub(r"#.*", "", rule.partition("expr:")[2].partition("labels:")[0])
        check(expr, labels, legend, rule.splitlines()[0])
    words = {
        value for rule in rules for value in re.findall(r'outcome=~?"(.*?)"', rule)
    }
    assert {it for value in words for it in value.split("|")} <= {*OUTCOMES}


def check(expr: str, labels: dict[str, set[str]], legend: str, of: str) -> None:
    """See that an expression, and what it is told by, has series and labels."""
    names = {*re.findall(r"\bconnectorkit_\w+", expr)}
    assert names, of
    assert names <= labels.keys(), (of, names - labels.keys())
    for name, matchers in re.findall(r"(connectorkit_\w+){(.*?)}", expr):
        wanted = {*re.findall(r'(\w+)\s*[=!]~?\s*"', matchers)}
        assert wanted <= labels[name], (of, wanted - labels[name])
    every = set.union(*(labels[name] for name in names))
    grouped = " ".join(re.findall(r"\b(?:by|on) \((.*?)\)", expr)).replace(",", " ")
    told = {*grouped.split(), *re.findall(r"{{ ?(\w+) ?}}", legend)}
    assert told <= every, (of, told - every)


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
    """A kit's connectors are counted with nothing configured, pool and resolve too."""
    before = _whole()
    with ConnectorKit({"connectors": {"counted": {"type": "memory"}}}) as kit:
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
