"""`kit.circuits`: all circuits to see, and to switch by hand."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

from connectorkit import (
    CircuitChanged,
    CircuitOpen,
    ConfigError,
    ConnectorKit,
    Kind,
    UnknownConnector,
    hookimpl,
)
from connectorkit.testing import VirtualClock
from flights import Flight

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit import CircuitInfo

OUTAGE = ConnectionResetError("reset")
MINIO = {
    "endpoint_url": "http://127.0.0.1:9",
    "key": "a-key",
    "secret": "a-secret",
    "region_name": "us-east-1",
}


@pytest.fixture
def clock() -> VirtualClock:
    """A clock that stands still."""
    return VirtualClock()


@pytest.fixture
def kit(clock: VirtualClock) -> Iterator[ConnectorKit]:
    """A kit whose connectors lead nowhere; two of them are one storage."""
    config = {
        "policies": {"enabled": ["breaker"]},
        "connectors": {
            "reports": {"type": "minio", "settings": MINIO},
            "copies": {"type": "minio", "settings": MINIO},
            "others": {"type": "minio", "settings": {**MINIO, "key": "another-key"}},
            "bare": {"type": "minio", "settings": MINIO, "policies": []},
        },
    }
    with ConnectorKit(config, clock=clock) as kit:
        yield kit


def _begin(kit: ConnectorKit, connector_id: str, kind: Kind = Kind.READ) -> Flight:
    return Flight(kit.resolve(connector_id).fs.pipeline, kind)


def _states(infos: list[CircuitInfo]) -> dict[tuple[str, str], str]:
    return {(each.connector, each.circuit): str(each.state) for each in infos}


def test_nothing_was_used(kit: ConnectorKit) -> None:
    """There are circuits of what was used, and of nothing else."""
    assert [*kit.circuits] == []
    assert kit.circuits.infos("reports") == []
    assert kit.circuits.reset() == []


def test_shows_what_was_used(kit: ConnectorKit, clock: VirtualClock) -> None:
    """Connector, type, circuit, state, seconds left and failures."""
    for _ in range(5):
        _begin(kit, "reports").fail(OUTAGE)
    clock.advance(18)
    download, listing, upload = kit.circuits
    assert (download.connector, download.type) == ("reports", "minio")
    assert (download.circuit, download.state) == ("download", "open")
    assert (download.seconds_left, download.failures) == (42, 5)
    assert not download.is_adhoc
    assert (listing.circuit, listing.state) == ("list", "closed")
    assert (upload.circuit, upload.seconds_left) == ("upload", None)


def test_open_until_it_is_reset(kit: ConnectorKit, clock: VirtualClock) -> None:
    """No time ends it, no result, and no other circuit is meant."""
    under_way = _begin(kit, "reports", Kind.WRITE)
    (changed,) = kit.circuits.force_open("reports", "upload")
    assert (changed.state, changed.seconds_left) == ("forced_open", None)
    clock.advance(1e6)
    with pytest.raises(CircuitOpen, match="by hand"):
        _begin(kit, "reports", Kind.WRITE)
    under_way.end()
    _begin(kit, "reports").end()
    assert _states(kit.circuits.infos())["reports", "upload"] == "forced_open"

    kit.circuits.reset("reports")

    _begin(kit, "reports", Kind.WRITE).end()


def test_closed_until_it_is_reset(kit: ConnectorKit) -> None:
    """Whatever fails, all are let through; after a reset it counts from 0."""
    kit.circuits.force_closed("reports")
    for _ in range(20):
        _begin(kit, "reports").fail(OUTAGE)
    last = _begin(kit, "reports")
    kit.circuits.reset("reports")
    last.fail(OUTAGE)
    (info,) = kit.circuits.infos("reports", "download")
    assert (info.state, info.failures) == ("closed", 0)


def test_reset_closes_what_has_opened(kit: ConnectorKit) -> None:
    """An engineer who knows that the service is back need not wait."""
    for _ in range(5):
        _begin(kit, "reports").fail(OUTAGE)
    kit.circuits.reset()
    _begin(kit, "reports").end()


def test_connector_need_not_have_been_used(kit: ConnectorKit) -> None:
    """Before a maintenance a connector is shut that nobody has opened yet."""
    infos = kit.circuits.force_open("reports")
    assert {each.state for each in infos} == {"forced_open"}
    with pytest.raises(CircuitOpen):
        _begin(kit, "reports", Kind.LIST)
    _begin(kit, "others", Kind.LIST).end()


def test_ids_of_one_storage_are_one(kit: ConnectorKit) -> None:
    """What is switched under one ID is so under all IDs of the same settings."""
    _begin(kit, "copies").end()
    infos = kit.circuits.force_open("reports")
    assert [each.connector for each in infos] == ["copies"] * 3
    with pytest.raises(CircuitOpen):
        _begin(kit, "copies")


def test_none_is_all_that_were_used(kit: ConnectorKit) -> None:
    """Without an ID every circuit is meant, or each of one name."""
    _begin(kit, "reports").end()
    _begin(kit, "others").end()
    kit.circuits.force_open(circuit="upload")
    states = _states([*kit.circuits])
    assert states["reports", "upload"] == states["others", "upload"] == "forced_open"
    assert states["reports", "download"] == states["others", "list"] == "closed"
    assert {each.state for each in kit.circuits.reset()} == {"closed"}


def test_tenants_by_their_type_and_one_by_itself(kit: ConnectorKit) -> None:
    """A type's ID stands for all its tenants, a connector for its own settings."""
    one, other = (
        kit.resolve("minio", settings={**MINIO, "key": f"key-{name}"}) for name in "ab"
    )
    for tenant in (one, other):
        Flight(tenant.fs.pipeline).end()
    assert len(kit.circuits.infos("minio")) == 6
    assert all(each.is_adhoc for each in kit.circuits)
    kit.circuits.force_open(one)
    with pytest.raises(CircuitOpen):
        Flight(one.fs.pipeline)
    Flight(other.fs.pipeline).end()
    kit.circuits.reset("minio")
    Flight(one.fs.pipeline).end()


def test_switches_are_told(kit: ConnectorKit) -> None:
    """Hooks hear of what is switched, and of nothing that was so before."""
    told: list[object] = []

    class Listener:
        @hookimpl
        def connectorkit_event(self, event: object) -> None:
            if isinstance(event, CircuitChanged):
                told.append(event)

    kit.register(Listener(), "listener")
    kit.circuits.force_open("reports", "list")
    kit.circuits.force_open("reports", "list")
    kit.circuits.reset("reports")
    kit.circuits.reset("reports")
    assert told == [
        CircuitChanged("reports", "minio", "list", "closed", "forced_open"),
        CircuitChanged("reports", "minio", "list", "forced_open", "closed"),
    ]


def test_switches_are_not_forgotten(kit: ConnectorKit) -> None:
    """However many other identities there are, one that is shut stays shut."""
    memory = kit._opener.memory
    memory._most = 3
    kit.circuits.force_open("reports")
    for number in range(9):
        memory.of(("someone", number), VirtualClock)
    gc.collect()
    with pytest.raises(CircuitOpen):
        _begin(kit, "reports")
    kit.circuits.reset("reports")
    assert kit.circuits._pinned == {}


def test_mistakes_are_told(kit: ConnectorKit) -> None:
    """An unknown ID, an unknown circuit and a connector without a breaker."""
    with pytest.raises(UnknownConnector, match="did you mean 'reports'"):
        kit.circuits.force_open("report")
    with pytest.raises(ValueError, match="'uplaod': there are download, list"):
        kit.circuits.force_open("reports", "uplaod")
    with pytest.raises(ConfigError, match=r"none of its policies \(none\) is a br"):
        kit.circuits.force_open("bare")
