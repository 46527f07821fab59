"""What the public API means to a type checker; read by mypy, run by nobody."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, assert_type

from pydantic import SecretStr

import connectorkit
from connectorkit import (
    CheckFailed,
    CircuitInfo,
    CircuitState,
    Connector,
    ConnectorConfig,
    ConnectorKit,
    ConnectorKitError,
    ConnectorType,
    Explanation,
    Fault,
    FilesystemClosed,
    FilesystemOpened,
    InvalidSettings,
    Kind,
    KitConfig,
    MissingExtra,
    ObjectInfo,
    Operation,
    PluginInfo,
    PluginLoaded,
    Policy,
    PolicySettings,
    Secret,
    Settings,
    Sleep,
    SlotDecided,
    SlotsUsed,
    SystemAdapter,
    Text,
    hookimpl,
)
from connectorkit.testing import VirtualClock
from connectorkit_slots import (
    AsyncSlot,
    AsyncSlotLimiter,
    Share,
    Slot,
    SlotLimiter,
    SlotLimitExceeded,
    Slots,
    SlotsSettings,
    Usage,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from fsspec import AbstractFileSystem
    from pydantic import BaseModel

    from connectorkit.policy import Flow


# A host


def goes_by_policies(connector: Connector, kit: ConnectorKit) -> None:
    """A call gives what its function gives; a cleanup and circuits tell."""
    assert_type(connector.call("query", "read", lambda: 42), int)
    connector.call("query", Kind.WRITE, list, bucket="b", path="b/k")
    connector.call("query", 1, list)  # type: ignore[arg-type]
    report = connector.cleanup("bucket/runs", older_than=timedelta(days=1))
    assert_type(report.errors, dict[str, str])
    connector.cleanup("bucket/runs", older_than=3600, dry_run=True)
    for circuit in kit.circuits:
        assert_type(circuit, CircuitInfo)
        assert_type(circuit.state, CircuitState)
    kit.circuits.force_open("reports", "upload")


def reaches_by_url(kit: ConnectorKit) -> None:
    """A mode says whether a file is of text; a kit is the process's for a while."""
    with connectorkit.open("connector://reports/a.csv") as file:
        assert_type(file.read(), bytes)
    with connectorkit.open("connector://reports/a.csv", "w", encoding="utf-8") as text:
        text.write("1,2")
    connectorkit.open("connector://reports/a.csv", "rt").write(b"")  # type: ignore[arg-type]
    assert_type(connectorkit.default_kit(), ConnectorKit)
    connectorkit.filesystem("reports").ls("bucket")
    connectorkit.set_default_kit(None)
    with connectorkit.set_default_kit(kit):
        connectorkit.filesystem(1)  # type: ignore[arg-type]


async def goes_by_policies_on_a_loop(connector: Connector) -> None:
    """A call of a coroutine function gives what is to be awaited."""

    async def query() -> int:
        return 42

    assert_type(await connector.call("query", "read", query), int)


def limits_executions(limiter: SlotLimiter, kit: ConnectorKit) -> None:
    """A limiter gives slots, and says how far they are used."""
    SlotLimiter.from_url(
        "redis://h", org_limit=20, global_limit=100, emit=kit.registry.emit
    )
    SlotLimiter.from_url("redis://h", limit=20)  # type: ignore[call-arg]
    SlotLimiter.from_url("redis://h", on_error="shrug")  # type: ignore[arg-type]
    try:
        with limiter.slot("org_42", 7, scopes={"user:7": 3}) as slot:
            assert_type(slot, Slot)
            assert_type(slot.lost, bool)
            assert_type(slot.scopes, dict[str, Share])
    except SlotLimitExceeded as error:
        assert_type(error.retry_after, float)
    assert_type(limiter.acquire("org_42", "one", lease=600), Slot)
    assert_type(limiter.release("org_42", "one"), bool)
    assert_type(limiter.usage("org_42"), Usage)
    assert_type(limiter.usages(), list[Usage])
    limiter.acquire(object(), "one")  # type: ignore[arg-type]
    limiter.set_limit("org_42", None)


async def limits_executions_on_a_loop(limiter: AsyncSlotLimiter) -> None:
    """Its twin for event loops gives what is to be awaited."""
    async with limiter.hold("org_42", "one") as slot:
        assert_type(slot, AsyncSlot)
    assert_type(await limiter.usage("org_42"), Usage)


def limits_calls(settings: SlotsSettings) -> None:
    """The policy is made of its settings, which hide the URL."""
    assert_type(Slots(settings).settings, SlotsSettings)
    assert_type(settings.url, SecretStr)
    Slots()  # type: ignore[call-arg]


class Polite(Policy):
    """A policy is a class with a flow."""

    name = "polite"

    def around(self, op: Operation) -> Flow:
        """Wait a moment, and allow a minute."""
        assert_type(op.path, str)
        assert_type(op.left(), float)
        yield Sleep(0.1)
        try:
            return (yield op.within(60))
        except OSError as error:
            assert_type(op.classify(error).fault, Fault)
            raise


def makes_a_kit(path: Path, mapping: Mapping[str, Any]) -> None:
    """A kit takes a path, a mapping or nothing, and a clock."""
    assert_type(ConnectorKit(), ConnectorKit)
    ConnectorKit(None)
    ConnectorKit(path)
    ConnectorKit("connectorkit.toml")
    ConnectorKit(mapping)
    ConnectorKit({"connectors": {}}, clock=VirtualClock(), random=lambda: 0.5)
    ConnectorKit(1)  # type: ignore[arg-type]
    ConnectorKit({}, clock=lambda: 0.0)  # type: ignore[arg-type]
    with ConnectorKit() as kit:
        assert_type(kit, ConnectorKit)
        assert_type(kit.config, KitConfig)


async def makes_a_kit_in_a_loop() -> None:
    """A kit closes in an event loop, too."""
    async with ConnectorKit() as kit:
        assert_type(kit, ConnectorKit)
    await kit.aclose()


def resolves(kit: ConnectorKit, settings: dict[str, str]) -> None:
    """To resolve takes an ID and settings, the rest by keyword."""
    assert_type(kit.resolve("reports"), Connector)
    assert_type(kit.resolve("s3", settings), Connector)
    kit.resolve("s3", settings=settings, trusted=True, pool=False)
    kit.resolve("s3", settings, trusted="yes")  # type: ignore[arg-type]
    kit.resolve()  # type: ignore[call-arg]
    kit.resolve(b"reports")  # type: ignore[arg-type]


def uses(connector: Connector) -> None:
    """A connector is a handle that cannot be changed."""
    assert_type(connector.id, str)
    assert_type(connector.type, str)
    connector.fs.cat_file("bucket/key")
    connector.async_fs()
    connector.client().put_object(Bucket="bucket", Key="key", Body=b"")
    assert_type(connector.stat("bucket/key"), ObjectInfo)
    connector.check()
    connector.check("bucket")
    connector.id = "other"  # type: ignore[misc]


def looks(info: ObjectInfo) -> None:
    """What is known of an object."""
    assert_type(info.path, str)
    assert_type(info.size, int)
    assert_type(info.modified, datetime | None)
    assert_type(info.hash, str | None)
    assert_type(info.is_dir, bool)


def asks(kit: ConnectorKit) -> None:
    """What a kit tells of itself."""
    assert_type(kit.plugins(), list[PluginInfo])
    assert_type(kit.connector_types(), list[ConnectorType[Any]])
    assert_type(kit.connector_ids(), list[str])
    explained = kit.explain("reports")
    assert_type(explained, Explanation)
    assert_type(explained.policies, tuple[str, ...])
    assert_type(explained.is_shared, bool)
    assert_type([each.error for each in kit.plugins()], list[str | None])
    kit.register(object(), name="mine")
    kit.close()


def catches(kit: ConnectorKit) -> None:
    """Errors carry what they are documented to carry."""
    try:
        kit.resolve("reports").check()
    except InvalidSettings as error:
        assert_type(error.problems, dict[str, str])
    except CheckFailed as error:
        assert_type(error.remedy, str)
    except MissingExtra as error:
        assert_type(error.name, str | None)
    except ConnectorKitError as error:
        assert_type(error.args, tuple[Any, ...])
    assert_type(connectorkit.ConnectorKit, type[ConnectorKit])


# A plugin


class BoxSettings(Settings):
    """Settings are a pydantic model."""

    token: SecretStr
    secret: Secret = None
    room: Text = "hall"


class Box(ConnectorType[BoxSettings]):
    """A connector type is generic in its settings."""

    id = "box"
    aliases = ("box|1",)
    Settings = BoxSettings

    def open(self, settings: BoxSettings, **options: Any) -> AbstractFileSystem:
        """Settings arrive as the type's own model."""
        assert_type(settings.token, SecretStr)
        assert_type(settings.secret, SecretStr | None)
        assert_type(settings.room, str | None)
        raise NotImplementedError(options)


class WrongBox(ConnectorType[BoxSettings]):
    """What does not fit the contract is found."""

    id = 1  # type: ignore[assignment]
    aliases = "box"  # type: ignore[assignment]

    def endpoint(self, settings: BoxSettings) -> int:  # type: ignore[override]
        """An endpoint is a text."""
        return len(settings.room or "")


def opens() -> None:
    """A type without `open` cannot be made."""
    WrongBox()  # type: ignore[abstract]
    assert_type(Box().endpoint(BoxSettings(token=SecretStr("t"))), str)
    assert_type(Box().remedy(OSError(), "", BoxSettings.model_validate({})), str | None)


class FenceSettings(PolicySettings):
    """A policy's table."""

    folder: str = "fenced"


class Fence(Policy):
    """A policy wraps the filesystem."""

    name = "fence"
    Settings = FenceSettings

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """The connector is at hand."""
        assert_type(connector, Connector)
        return fs


class Store(SystemAdapter):
    """A system adapter claims IDs."""

    name = "store"

    def claim(self, connector_id: str, config: KitConfig) -> ConnectorConfig | None:
        """A claim is a configuration."""
        assert_type(config.connectors, dict[str, ConnectorConfig])
        return ConnectorConfig(type="box", settings={"room": connector_id})


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """Boxes."""
    return [Box]


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Fences."""
    return [Fence]


@hookimpl
def connectorkit_adapters() -> list[SystemAdapter]:
    """Stores."""
    return [Store()]


@hookimpl
def connectorkit_lookup(connector_id: str) -> ConnectorConfig | None:
    """Know one ID."""
    return ConnectorConfig(type="box") if connector_id == "office" else None


@hookimpl
def connectorkit_event(event: object) -> None:
    """Events are told apart by their classes."""
    match event:
        case PluginLoaded():
            assert_type(event.plugin, str)
            assert_type(event.seconds, float)
            assert_type(event.failed, bool)
        case FilesystemOpened():
            assert_type(event.connector_id, str)
        case FilesystemClosed():
            assert_type(event.type, str)
        case SlotDecided():
            assert_type(event.outcome, str)
        case SlotsUsed():
            assert_type(event.used, int)


def hooks_keep_their_types() -> None:
    """The marker leaves a function as it is."""
    assert_type(connectorkit_connectors(), list[type[ConnectorType[Any]]])
    assert_type(connectorkit_lookup("office"), ConnectorConfig | None)
    connectorkit_lookup(1)  # type: ignore[arg-type]


def models(settings: type[BaseModel]) -> None:
    """A type's settings are a model, whose schema a form shows."""
    assert_type(Box.Settings, type[BoxSettings])
    assert_type(settings.model_json_schema(), dict[str, Any])
