"""The platform's own stores."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import (
    CircuitOpen,
    ConfigError,
    ConnectorKit,
    InvalidSettings,
    UnknownConnector,
)
from connectorkit.testing import (
    FaultProxy,
    LoseReply,
    ResetBeforeReply,
    ResetMidBody,
    Status,
    VirtualClock,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import RcloneS3

WORKFLOW_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"


def credentials(server: RcloneS3) -> dict[str, Any]:
    """Return what reaches a server, in the words of both configurations."""
    return {
        "endpoint_url": server.endpoint_url,
        "key": server.key,
        "secret": server.secret,
    }


def test_nothing_configured_means_the_users_data_directory(home: Path) -> None:
    """Everything runs with no server."""
    with ConnectorKit({}) as kit:
        kit.resolve(WORKFLOW_ID).fs.pipe_file("a/b.txt", b"1")

    folder = home / ".local/share/connectorkit/system/WORKFLOW_EXECUTION"
    assert (folder / "a" / "b.txt").read_bytes() == b"1"


@pytest.mark.parametrize(
    ("variable", "store"),
    [
        ("WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS", "WORKFLOW_EXECUTION"),
        ("API_FILE_STORAGE_CREDENTIALS", "API_EXECUTION"),
        ("HITL_FILES_FILE_STORAGE_CREDENTIALS", "HITL_FILES"),
    ],
)
def test_the_source_systems_variables_configure_the_stores(
    rclone_s3: RcloneS3,
    rclone_bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    store: str,
) -> None:
    """A host's environment serves as it is."""
    value = {"provider": "minio", "credentials": credentials(rclone_s3)}
    monkeypatch.setenv(variable, json.dumps(value))

    with ConnectorKit({}) as kit:
        fs = kit.resolve(f"system|{store}").fs
        fs.pipe_file(f"{rclone_bucket}/a", b"1")
        assert fs.cat_file(f"{rclone_bucket}/a") == b"1"


def test_a_store_of_the_hosts_own_has_its_ids(
    rclone_s3: RcloneS3, rclone_bucket: str
) -> None:
    """`[system.NAME]` names IDs, provider and credentials."""
    store = {
        "ids": ["pcs|mine", "scratch"],
        "provider": "minio",
        "credentials": credentials(rclone_s3),
    }
    with ConnectorKit({"system": {"SCRATCH": store}}) as kit:
        fs = kit.resolve("pcs|mine").fs
        assert fs is kit.resolve("scratch").fs is kit.resolve("system|SCRATCH").fs
        assert fs.ls(rclone_bucket) == []


def test_one_filesystem_serves_the_whole_process(rclone_s3: RcloneS3) -> None:
    """The instance cache of fsspec holds it: two kits share it, users' ones do not."""
    store = {"provider": "minio", "credentials": credentials(rclone_s3)}
    user = {"type": "minio", "settings": credentials(rclone_s3)}
    config = {"system": {"WORKFLOW_EXECUTION": store}, "connectors": {"user": user}}
    with ConnectorKit(config) as one, ConnectorKit(config) as two:
        assert one.resolve(WORKFLOW_ID).fs is two.resolve(WORKFLOW_ID).fs
        assert one.resolve("user").fs is not two.resolve("user").fs
        assert one.resolve("user").fs is not one.resolve(WORKFLOW_ID).fs


def test_its_listings_are_never_stale(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """What another process wrote is seen at once."""
    store = {"provider": "minio", "credentials": credentials(rclone_s3)}
    with ConnectorKit({"system": {"WORKFLOW_EXECUTION": store}}) as kit:
        fs = kit.resolve(WORKFLOW_ID).fs
        assert fs.ls(rclone_bucket) == []
        other = kit.resolve("minio", settings=credentials(rclone_s3)).fs
        other.pipe_file(f"{rclone_bucket}/new", b"1")
        assert fs.ls(rclone_bucket, detail=False) == [f"{rclone_bucket}/new"]
        assert fs.exists(f"{rclone_bucket}/new")


@pytest.fixture
def behind(rclone_s3: RcloneS3) -> Iterator[tuple[FaultProxy, dict[str, Any]]]:
    """Name a store that is reached through a proxy."""
    with FaultProxy(rclone_s3.endpoint_url) as proxy:
        reach = {**credentials(rclone_s3), "endpoint_url": proxy.url}
        yield proxy, {"provider": "minio", "credentials": reach}


def test_policies_apply_to_it(
    behind: tuple[FaultProxy, dict[str, Any]], rclone_bucket: str
) -> None:
    """What passes is tried again; an outage is met as often as is configured, and ends.

    Then the circuit is open, and nothing is sent: as of a user's connector.
    """
    proxy, store = behind
    config = {
        "system": {"WORKFLOW_EXECUTION": store},
        "policies": {"retry": {"attempts": 4}, "breaker": {"failures": 5}},
    }
    with ConnectorKit(config, clock=VirtualClock()) as kit:
        fs = kit.resolve(WORKFLOW_ID).fs
        path = f"{rclone_bucket}/key"
        for fault in (Status(500), ResetBeforeReply(), LoseReply()):
            proxy.clear()
            proxy.inject(fault, when="put_object")
            fs.pipe_file(path, b"content")
            assert proxy.count() == proxy.count("put_object") == 2
        proxy.clear()
        proxy.inject(ResetMidBody(), when="get_object")
        assert fs.cat_file(path) == b"content"
        assert proxy.count() == proxy.count("get_object") == 2

        proxy.clear()
        proxy.inject(Status(500), times=None, when="get_object")
        with pytest.raises(OSError, match="Injected") as caught:
            fs.cat_file(path)
        assert "4 attempts" in caught.value.__notes__[0]
        assert proxy.count() == proxy.count("get_object") == 4
        with pytest.raises(CircuitOpen) as refused:
            fs.cat_file(path)
        assert refused.value.circuit == "download"
        assert proxy.count() == proxy.count("get_object") == 5


def test_its_own_policies_are_its_own(
    behind: tuple[FaultProxy, dict[str, Any]], rclone_bucket: str
) -> None:
    """A store's table may turn them off: a request that fails is sent once."""
    proxy, store = behind
    config = {"system": {"WORKFLOW_EXECUTION": {**store, "policies": []}}}
    with ConnectorKit(config) as kit:
        proxy.inject(Status(500), times=None)
        with pytest.raises(OSError, match="Injected"):
            kit.resolve(WORKFLOW_ID).fs.cat_file(f"{rclone_bucket}/key")
    assert proxy.count() == proxy.count("get_object") == 1


def test_no_other_type_is_imported_for_it() -> None:
    """A system-internal ID is claimed before any connector type is looked at."""
    code = f"""
import sys
from connectorkit import ConnectorKit
kit = ConnectorKit({{}})
config = kit.registry.adapters()[0].claim({WORKFLOW_ID!r}, kit.config)
types = [name for name in sys.modules if name.startswith("connectorkit_")]
assert types == ["connectorkit_system"], types
kit.resolve({WORKFLOW_ID!r})
assert not {{"connectorkit_minio", "connectorkit_s3", "s3fs"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("{", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "no known provider"),
        ('{"provider": "ftp"}', "no known provider"),
        ('{"provider": ["minio"]}', "no known provider"),
        ('{"provider": "minio", "credentials": "hunter2"}', "should be a table"),
    ],
)
def test_a_bad_variable_is_named(
    monkeypatch: pytest.MonkeyPatch, value: str, said: str
) -> None:
    """The error names the variable and its shape, and shows nothing of it."""
    variable = "WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS"
    monkeypatch.setenv(variable, value)

    with ConnectorKit({}) as kit, pytest.raises(ConfigError, match=said) as caught:
        kit.resolve(WORKFLOW_ID)

    assert variable in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_bad_credentials_of_a_store_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are validated like any connector's settings."""
    monkeypatch.setenv(
        "WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS",
        '{"provider": "s3", "credentials": {"key": "hunter2", "seecret": "x"}}',
    )
    with ConnectorKit({}) as kit, pytest.raises(InvalidSettings) as caught:
        kit.resolve(WORKFLOW_ID)

    assert set(caught.value.problems) == {"secret", "seecret"}
    assert "hunter2" not in str(caught.value)


def test_the_source_systems_words_are_understood(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its credentials are fsspec's arguments: blanks and client_kwargs included."""
    monkeypatch.setenv(
        "WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS",
        json.dumps(
            {
                "provider": "minio",
                "credentials": {
                    "endpoint_url": "",
                    "key": "",
                    "secret": "",
                    "client_kwargs": {"region_name": "eu-west-1"},
                },
            }
        ),
    )
    with ConnectorKit({}) as kit:
        settings = kit.explain(WORKFLOW_ID).settings

    assert settings["region_name"] == "eu-west-1"
    assert settings["endpoint_url"] is None


def test_an_unknown_store_is_no_system_id() -> None:
    """`system|` alone claims nothing."""
    with ConnectorKit({}) as kit, pytest.raises(UnknownConnector):
        kit.resolve("system|NOT_THERE")


def test_an_id_that_no_user_may_take() -> None:
    """A connector configured under a system-internal ID does not serve it."""
    with ConnectorKit({"connectors": {WORKFLOW_ID: {"type": "memory"}}}) as kit:
        assert kit.resolve(WORKFLOW_ID).type == "local"
