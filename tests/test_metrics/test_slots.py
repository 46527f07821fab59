"""Slots in the metrics: counted, few labels, and no organisation by default."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    ConnectorKit,
    SlotDecided,
    SlotsReaped,
    SlotsRenewed,
    SlotsUsed,
    SlotWasLost,
)
from connectorkit_slots import SlotLimiter
from test_metrics.support import Meter, matching
from test_metrics.test_processes import run, scrape

if TYPE_CHECKING:
    from pathlib import Path

    from prometheus_client.samples import Sample

    from servers import RedisServer

DECISIONS = "connectorkit_slot_decisions_total"
USED, LIMIT = "connectorkit_slots_used", "connectorkit_slots_limit"

WORKERS = """
import os, sys
from connectorkit import SlotDecided, SlotsReaped, SlotsUsed
from test_metrics.support import Meter

meter = Meter()
for number in (1, 2, 3):
    if (worker := os.fork()) == 0:
        meter.hear(SlotDecided("granted", "redis"), SlotsReaped(2))
        meter.hear(SlotsUsed("global", number, 10))
        os._exit(0)
    if os.waitpid(worker, 0)[1]:
        sys.exit("a worker failed")
"""


def test_decisions_are_counted_by_who_decided() -> None:
    """What was granted and refused is told apart, and what Redis had no part in."""
    meter = Meter()
    meter.hear(SlotDecided("granted", "redis"), SlotDecided("granted", "redis"))
    meter.hear(SlotDecided("refused", "redis", "org", "org_42"))
    meter.hear(SlotDecided("granted", "local"))
    assert meter.value(DECISIONS, outcome="granted", mode="redis") == 2
    assert meter.value(DECISIONS, outcome="refused", scope="org") == 1
    assert meter.value(DECISIONS, mode="local") == 1


def test_use_is_what_was_told_last() -> None:
    """Used and limit are of the last answer, for each kind of scope."""
    meter = Meter()
    meter.hear(SlotsUsed("global", 7, 100), SlotsUsed("org", 3, 20, "org_42"))
    meter.hear(SlotsUsed("global", 6, 90))
    assert (meter.value(USED, scope="global"), meter.value(LIMIT, scope="global")) == (
        6,
        90,
    )
    assert (meter.value(USED, scope="org"), meter.value(LIMIT, scope="org")) == (3, 20)


def test_losses_are_there_from_the_start() -> None:
    """Nothing was reaped or lost: it is said, so that the first loss is an increase."""
    meter = Meter()
    told = {sample.name: sample.value for sample in meter.samples()}
    assert told["connectorkit_slots_reaped_total"] == 0
    assert told["connectorkit_slots_lost_total"] == 0
    meter.hear(SlotsReaped(3), SlotWasLost("org_42"), SlotsRenewed(2, 0.25))
    assert meter.value("connectorkit_slots_reaped_total") == 3
    assert meter.value("connectorkit_slots_lost_total") == 1
    renewals = "connectorkit_slot_renew_seconds"
    assert meter.value(f"{renewals}_count", result="success") == 1
    assert meter.value(f"{renewals}_sum", result="success") == 0.25
    meter.hear(SlotsRenewed(2, 0.1, has_failed=True))
    assert meter.value(f"{renewals}_sum", result="error") == 0.1


def test_no_organisation_is_named_by_default() -> None:
    """However many organisations there are, the series are the same few."""
    meter = Meter()
    for number in range(100):
        name = f"org_{number}"
        meter.hear(SlotDecided("granted", "redis", organization=name))
        meter.hear(SlotsUsed("org", 1, 20, name))
    named = [it for it in meter.samples() if it.name in {DECISIONS, USED, LIMIT}]
    assert len(named) == 3
    assert {it.labels["organization"] for it in named} == {""}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"organizations": {"org_2"}}, {"org_2", "other"}),
        ({"most_organizations": 2}, {"org_0", "org_1", "other"}),
    ],
)
def test_organisations_by_setting(
    settings: dict[str, object], expected: set[str]
) -> None:
    """Those that are listed are named, or the first so many, and no others."""
    meter = Meter(**settings)
    for number in range(4):
        meter.hear(SlotsUsed("org", number, 20, f"org_{number}"))
    meter.hear(SlotsUsed("global", 9, 100))
    used = [it for it in meter.samples() if it.name == USED]
    of = {it.labels["organization"] for it in used if it.labels["scope"] == "org"}
    assert of == expected
    assert meter.value(USED, scope="global", organization="") == 9


@given(st.lists(st.text(), max_size=60))
def test_any_names_are_bounded(names: list[str]) -> None:
    """Whatever a host calls its scopes and its organisations, there are few series.

    The kinds that are always there keep their names.
    """
    meter = Meter(most_organizations=2)
    for name in (*names, "global"):
        meter.hear(SlotsUsed(name, 1, 2, name), SlotDecided("refused", "redis", name))
    used = [it for it in meter.samples() if it.name == USED]
    scopes = {it.labels["scope"] for it in used}
    assert len(scopes) <= 35
    assert "global" in scopes
    assert len({it.labels["organization"] for it in used}) <= 4


def test_a_limiter_and_a_policy_are_counted(redis_server: RedisServer) -> None:
    """One of the host's own tells the kit; the policy's scopes are connectors."""
    url, name = redis_server.endpoint_url, uuid4().hex
    table = {"url": url, "limit": 7}
    notes = {
        "type": "memory",
        "settings": {"name": name},
        "policies": ["metrics", "slots"],
        "slots": table,
    }
    with ConnectorKit({"connectors": {"notes": notes}}) as kit:
        connector = kit.resolve("notes")
        before = whole()
        emit = kit.registry.emit
        with (
            SlotLimiter.from_url(url, namespace=name, org_limit=5, emit=emit) as mine,
            mine.slot("org_42", "one"),
        ):
            assert connector.call("query", "read", whole)
        after = whole()
    granted = {"outcome": "granted", "mode": "redis", "organization": ""}
    more = matching(after, DECISIONS, **granted) - matching(
        before, DECISIONS, **granted
    )
    assert more == 2
    assert matching(after, LIMIT, scope="connector") == 7
    assert matching(after, LIMIT, scope="org") == 5
    assert matching(after, USED, scope="org") == 0
    assert name not in str(after)


def whole() -> list[Sample]:
    """Return all that this process exports."""
    families = prometheus_client.REGISTRY.collect()
    return [sample for family in families for sample in family.samples]


def test_workers_are_added_up(tmp_path: Path) -> None:
    """Decisions of prefork workers are summed; of what is in use the latest counts."""
    run(WORKERS, PROMETHEUS_MULTIPROC_DIR=str(tmp_path))
    samples = scrape(tmp_path)
    assert matching(samples, DECISIONS) == 3
    assert matching(samples, "connectorkit_slots_reaped_total") == 6
    assert matching(samples, USED) == 3
    assert matching(samples, LIMIT) == 10
