"""Labels: few values, no path, no secret, and no name of a tenant."""

from __future__ import annotations

import prometheus_client
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from connectorkit import OperationRetried
from test_metrics.support import Meter

OPERATIONS = "connectorkit_operations_total"


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
