"""The kit: what answers to an ID, and what a host gets for it."""

from __future__ import annotations

import io
import json
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

import connectorkit
from connectorkit import (
    ConfigError,
    ConnectorConfig,
    ConnectorKit,
    ConnectorKitError,
    ConnectorType,
    InvalidConnectorID,
    InvalidSettings,
    KitClosed,
    MissingExtra,
    NotPicklable,
    PluginFailed,
    Policy,
    PolicySettings,
    Settings,
    UnknownConnector,
    UnknownPolicy,
    hookimpl,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers import RcloneS3

SYSTEM_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"
MINIO_ID = "minio|c799f6e3-2b57-434e-aaac-b5daa415da19"
GCS_ID = "google_cloud_storage|109bbe7b-8861-45eb-8841-7244e833d97b"


class Shouting(Policy):
    """Counts the filesystems that it wrapped."""

    class Settings(PolicySettings):
        loud: int = 1

    name = "shouting"
    wrapped: list[tuple[str, int]] = []  # noqa: RUF012 - one log for all of them

    def filesystem(self, fs: Any, connector: Any) -> Any:
        self.wrapped.append((connector.id, self.settings.loud))
        return fs


class Whispering(Shouting):
    """Another one."""

    name = "whispering"


class Odd(ConnectorType[Any]):
    """Opens what is no filesystem."""

    id = "odd"

    def open(self, settings: Any, **options: Any) -> Any:
        return object()


class Needy(ConnectorType[Any]):
    """Needs what is not installed."""

    id = "needy"
    requires = "acme-needy[client]"

    def open(self, settings: Any, **options: Any) -> Any:
        import a_client_that_is_not_installed  # type: ignore[import-not-found]  # noqa: F401


class Plugin:
    """A host's own plugin."""

    @hookimpl
    def connectorkit_connectors(self) -> list[type[ConnectorType[Any]]]:
        return [Odd, Needy]

    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Shouting, Whispering]

    @hookimpl
    def connectorkit_lookup(self, connector_id: str) -> ConnectorConfig | None:
        if connector_id.startswith("row-"):
            return ConnectorConfig(type="memory", settings={"name": connector_id})
        if connector_id == "tenants-row":
            return ConnectorConfig(type="s3", trusted=False)
        return None


def make_kit(**config: Any) -> ConnectorKit:
    """Make a kit with the plugin above."""
    kit = ConnectorKit(config)
    kit.register(Plugin(), "mine")
    return kit


@pytest.fixture
def kit() -> Iterator[ConnectorKit]:
    """A kit with one configured connector."""
    with make_kit(connectors={"notes": {"type": "memory"}}) as kit:
        yield kit


# What answers


def test_a_configured_id_resolves(kit: ConnectorKit) -> None:
    """An ID of the host's choosing leads to its filesystem."""
    connector = kit.resolve("notes")
    connector.fs.pipe_file("/a", b"1")

    assert (connector.id, connector.type) == ("notes", "memory")
    assert kit.resolve("notes").fs.cat_file("/a") == b"1"


def test_a_lookup_answers_for_ids_that_no_file_names(kit: ConnectorKit) -> None:
    """A database or a vault configures connectors as the file does."""
    kit.resolve("row-1").fs.pipe_file("/a", b"1")

    assert kit.resolve("row-1").fs.exists("/a")
    assert not kit.resolve("row-2").fs.exists("/a")
    assert kit.explain("row-1").how == "the lookup of plugin 'mine'"


def test_the_configuration_goes_before_lookups(kit: ConnectorKit) -> None:
    """Adapters are asked first, then the file, then lookups, then types."""
    with make_kit(connectors={"row-1": {"type": "memory"}}) as other:
        assert other.explain("row-1").how.startswith("[connectors.row-1]")
        assert other.explain(SYSTEM_ID).how == "system adapter 'system'"
    assert kit.explain("memory").how == "its type and settings"


def test_a_lookup_may_hand_out_a_tenants_settings(kit: ConnectorKit) -> None:
    """What a lookup does not vouch for gets nothing of the host's."""
    with pytest.raises(InvalidSettings, match="key: is required"):
        kit.resolve("tenants-row")


@pytest.mark.parametrize(
    ("alias", "type_id", "settings"),
    [
        (MINIO_ID, "minio", {"endpoint_url": "http://localhost", "anon": True}),
        (
            GCS_ID,
            "gcs",
            {"endpoint_url": "http://localhost", "project_id": "p", "token": "anon"},
        ),
    ],
)
def test_the_source_systems_ids_are_aliases(
    kit: ConnectorKit, alias: str, type_id: str, settings: dict[str, Any]
) -> None:
    """A stored ID of the source system leads to the connector type."""
    assert kit.resolve(alias, settings=settings).type == type_id


@pytest.mark.parametrize(
    "bad", ["", " ", "a b", "a/b", "é", "|a", "a" * 256, "a:b", "a\n", None, 3, ["a"]]
)
def test_a_malformed_id_is_refused(kit: ConnectorKit, bad: Any) -> None:
    """The error is the same for every text, or no text, outside the alphabet."""
    with pytest.raises(InvalidConnectorID, match="is not a connector ID"):
        kit.resolve(bad)


def test_an_unknown_id_names_close_matches(kit: ConnectorKit) -> None:
    """A misspelt ID is answered by what was probably meant."""
    with pytest.raises(UnknownConnector, match="did you mean 'notes'"):
        kit.resolve("note")
    with (
        make_kit(connectors={"a": {"type": "mini"}}) as other,
        pytest.raises(UnknownConnector, match=r"'a' has .* 'mini'.*'minio'"),
    ):
        other.resolve("a")


def test_settings_are_for_types_alone(kit: ConnectorKit) -> None:
    """Settings with a configured or system-internal ID are an error, not ignored."""
    for connector_id in ("notes", SYSTEM_ID):
        with pytest.raises(InvalidSettings, match="takes no settings"):
            kit.resolve(connector_id, settings={"name": "x"})
        assert kit.resolve(connector_id, settings={}).id == connector_id


# Settings


def test_every_bad_field_is_told_at_once(kit: ConnectorKit) -> None:
    """A form gets all of its errors in one answer."""
    with pytest.raises(InvalidSettings) as caught:
        kit.resolve(
            "minio",
            settings={
                "key": "k",
                "endpoint_url": "ftp://x",
                "max_connections": 0,
                "secrt": "hunter2",
            },
        )

    assert set(caught.value.problems) == {
        "secret",
        "endpoint_url",
        "max_connections",
        "secrt",
    }
    assert "did you mean 'secret'" in str(caught.value)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("shape", [[], "key", 3, [("key", "k")], object()])
def test_settings_of_another_shape_are_refused(kit: ConnectorKit, shape: Any) -> None:
    """Settings are a mapping."""
    with pytest.raises(InvalidSettings, match="pass a mapping"):
        kit.resolve("minio", settings=shape)


def test_keys_that_are_no_text_are_unknown_fields(kit: ConnectorKit) -> None:
    """A mapping from JSON has texts as keys; another one is told so."""
    with pytest.raises(InvalidSettings, match="3: is not known here"):
        kit.resolve("memory", settings={3: "x"})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("type_id", "settings", "field"),
    [
        ("s3", {}, "key"),
        ("s3", {"key": "", "secret": " "}, "key"),
        ("minio", {"endpoint_url": "http://localhost"}, "key"),
        ("s3", {"key": "env:HOME", "secret": "x"}, "key"),
        ("s3", {"key": "k", "secret": "file:/etc/passwd"}, "secret"),
        ("memory", {"name": "env:HOME"}, "name"),
        ("local", {"path": "/"}, "type"),
        ("gcs", {}, "json_credentials"),
        ("gcs", {"token": "google_default"}, "token"),
        ("gcs", {"token": "cloud"}, "token"),
        ("gcs", {"token": "/etc/key.json"}, "token"),
        ("gcs", {"json_credentials": '{"type": "external_account"}'},
         "json_credentials"),
        ("gcs", {"json_credentials": {"type": "service_account",
                                      "token_uri": "https://evil.example/token"}},
         "json_credentials"),
        ("gcs", {"json_credentials": {"type": "service_account",
                                      "token_uri": "https://xgoogleapis.com/token"}},
         "json_credentials"),
    ],
)  # fmt: skip
def test_a_tenant_gets_nothing_of_the_hosts(
    kit: ConnectorKit,
    monkeypatch: pytest.MonkeyPatch,
    type_id: str,
    settings: dict[str, Any],
    field: str,
) -> None:
    """No role, reference, file or command of the host is used for a tenant."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "of-the-host")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "of-the-host")

    with pytest.raises(InvalidSettings) as caught:
        kit.resolve(type_id, settings=settings)

    assert field in caught.value.problems


def test_the_host_may_vouch_for_settings(
    kit: ConnectorKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`trusted=True` allows references, files and the cloud's own chain."""
    monkeypatch.setenv("FOLDER", str(tmp_path / "folder"))

    local = kit.resolve("local", settings={"path": "env:FOLDER"}, trusted=True)
    local.fs.pipe_file("a", b"1")

    assert (tmp_path / "folder" / "a").read_bytes() == b"1"
    assert kit.resolve("s3", settings={}, trusted=True).type == "s3"


HIDDEN = st.text(
    st.characters(codec="ascii", categories=["L", "N"]), min_size=12, max_size=40
)


@given(key=HIDDEN, secret=HIDDEN, key2=HIDDEN)
def test_no_secret_is_ever_shown(key: str, secret: str, key2: str) -> None:
    """Not in a repr, an explanation, a log, an error, a pickle or a traceback."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    settings = {
        "endpoint_url": "http://127.0.0.1:1",
        "key": f"key-{key}",
        "secret": f"secret-{secret}",
    }
    shown: list[str] = []
    try:
        config = {"connectors": {"a": {"type": "minio", "settings": settings}}}
        with ConnectorKit(config) as kit:
            connector = kit.resolve("a")
            shown += [
                repr(connector),
                repr(connector.fs),
                str(connector.fs),
                repr(kit),
                repr(kit.config),
                repr(kit.explain("a")),
                repr(vars(kit.resolve("a").fs).get("connector")),
            ]
            for broken in (
                {**settings, "endpoint_url": f"ftp://{key2}"},
                {**settings, "token": [secret]},
                {**settings, "key": None},
            ):
                try:
                    kit.resolve("minio", settings=broken)
                except InvalidSettings as error:
                    shown += traceback.format_exception(error)
            for travels in (pickle.dumps, lambda it: it.fs.to_json()):
                try:
                    shown.append(repr(travels(connector)))
                except ConnectorKitError as error:
                    shown += traceback.format_exception(error)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    shown.append(log.getvalue())
    for text in shown:
        assert f"key-{key}" not in text
        assert f"secret-{secret}" not in text


# Policies


def test_policies_wrap_outermost_first() -> None:
    """The order in the configuration is the order around the filesystem."""
    Shouting.wrapped.clear()
    with make_kit(
        policies={"enabled": ["shouting"], "shouting": {"loud": 2}},
        connectors={
            "default": {"type": "memory"},
            "own": {
                "type": "memory",
                "policies": ["whispering", "shouting"],
                "shouting": {"loud": 3},
            },
            "none": {"type": "memory", "policies": []},
        },
    ) as kit:
        for connector_id in ("default", "own", "none"):
            kit.resolve(connector_id)
        assert kit.explain("own").policies == ("whispering", "shouting")

    assert Shouting.wrapped == [("default", 2), ("own", 3), ("own", 1)]


def test_policies_apply_to_the_platforms_own_stores() -> None:
    """A system-internal ID has the default policies like any other."""
    with make_kit(policies={"enabled": ["shouting"]}) as kit:
        assert kit.explain(SYSTEM_ID).policies == ("shouting",)


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"policies": ["shoutng"]}, UnknownPolicy, "did you mean 'shouting'"),
        ({"shoutng": {"loud": 3}}, UnknownPolicy, "'shoutng'"),
        ({"policies": ["shouting"], "shouting": {"loud": "x"}}, ConfigError, "loud"),
        ({"policies": ["shouting"], "shouting": {"lod": 1}}, ConfigError, "'loud'"),
        ({"policies": [], "shouting": {"lod": 1}}, ConfigError, "'loud'"),
    ],
)
def test_a_policy_misnamed_or_misset_is_an_error(
    config: dict[str, Any], error: type[Exception], said: str
) -> None:
    """It is told when the connector is resolved, with the connector's ID."""
    with (
        make_kit(connectors={"a": {"type": "memory", **config}}) as kit,
        pytest.raises(error, match=said) as caught,
    ):
        kit.resolve("a")
    assert "'a'" in str(caught.value)


@pytest.mark.parametrize(
    ("table", "error", "said"),
    [
        ({"shoutng": {"loud": 3}}, UnknownPolicy, "did you mean 'shouting'"),
        ({"shouting": {"loud": "x"}}, ConfigError, "loud"),
        ({"retry": {"attempts": -5}}, ConfigError, "attempts"),
    ],
)
def test_a_default_misnamed_or_misset_is_an_error(
    table: dict[str, Any], error: type[Exception], said: str
) -> None:
    """So it is though no connector has the policy: it would never be found else."""
    alone: dict[str, Any] = {"policies": []}
    for own in ({}, alone):
        with (
            make_kit(
                policies={"enabled": [], **table},
                connectors={"a": {"type": "memory", **own}},
            ) as kit,
            pytest.raises(error, match=said) as caught,
        ):
            kit.resolve("a")
        assert "very connector" in str(caught.value)


def test_the_table_of_a_plugin_that_is_turned_off_may_stay() -> None:
    """Who disables a plugin need not clear its settings away."""
    with make_kit(
        policies={"enabled": [], "retry": {"attempts": 2}},
        plugins={"disable": ["retry"]},
    ) as kit:
        assert kit.resolve("memory").fs


# The pool


def test_equal_settings_share_a_filesystem_and_others_do_not(
    kit: ConnectorKit,
) -> None:
    """One live filesystem per settings and policies, whatever the ID."""
    settings = {"endpoint_url": "http://localhost", "key": "k", "secret": "s"}
    first = kit.resolve("minio", settings=settings)

    assert kit.resolve(MINIO_ID, settings=dict(reversed(settings.items()))).fs is (
        first.fs
    )
    for other in (
        {**settings, "secret": "t"},
        {**settings, "key": "l"},
        {**settings, "endpoint_url": "http://localhost:1"},
        {**settings, "region_name": "eu-west-1"},
    ):
        assert kit.resolve("minio", settings=other).fs is not first.fs
    assert kit.resolve("s3", settings=settings).fs is not first.fs


def test_secrets_of_any_kind_tell_connectors_apart() -> None:
    """A masked secret never makes two settings look the same."""
    from connectorkit.identity import identity

    class Model(Settings):
        a: SecretStr
        b: SecretBytes

    def of(a: str, b: bytes) -> str:
        return identity("x", Model(a=SecretStr(a), b=SecretBytes(b)))

    assert len({of("1", b"1"), of("2", b"1"), of("1", b"2")}) == 3
    assert of("1", b"1") == of("1", b"1")


def test_a_fleet_knows_an_identity_by_one_name() -> None:
    """It is the same in each process, and another for another secret."""
    script = """
from connectorkit.identity import fleet_identity, identity
from connectorkit_s3 import S3Settings
for secret in ("sesame", "sesame", "semolina"):
    settings = S3Settings(key="k", secret=secret)
    print(fleet_identity("s3", settings), identity("s3", settings))
"""
    told = [
        line.split()
        for _ in range(2)
        for line in subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout.splitlines()
    ]
    lasting, passing = ([line[column] for line in told] for column in (0, 1))
    assert lasting[0] == lasting[1] == lasting[3] != lasting[2] == lasting[5]
    assert passing[0] == passing[1] != passing[3]


def test_a_setting_that_cannot_be_told_apart_is_refused() -> None:
    """Better no filesystem than another tenant's."""
    from connectorkit.identity import identity

    class Blank:
        def __str__(self) -> str:
            return "the same for all"

    class Model(Settings):
        a: Any

    with pytest.raises(PluginFailed, match="Blank"):
        identity("x", Model(a=Blank()))


def test_without_the_pool_each_resolve_opens_anew(kit: ConnectorKit) -> None:
    """`pool=False` is the source system's old behaviour."""
    one, two = kit.resolve("notes", pool=False), kit.resolve("notes", pool=False)

    assert one.fs is one.fs
    assert len({id(one.fs), id(two.fs), id(kit.resolve("notes").fs)}) == 3


def test_a_hundred_threads_get_one_filesystem(kit: ConnectorKit) -> None:
    """Resolving is safe from any thread, and opens once."""
    settings = {"endpoint_url": "http://localhost", "key": "k", "secret": "s"}
    barrier = threading.Barrier(100)

    def ask(_: int) -> int:
        barrier.wait()
        return id(kit.resolve("minio", settings=settings).fs)

    with ThreadPoolExecutor(100) as threads:
        assert len(set(threads.map(ask, range(100)))) == 1


def test_a_closed_kit_opens_nothing() -> None:
    """After `close` a connector says so."""
    kit = make_kit(connectors={"notes": {"type": "memory"}})
    connector = kit.resolve("notes")
    kit.close()
    kit.close()

    with pytest.raises(KitClosed):
        kit.resolve("notes")
    with pytest.raises(KitClosed):
        _ = connector.fs


def test_what_is_no_filesystem_is_the_plugins_fault(kit: ConnectorKit) -> None:
    """A connector type that opens something else is named."""
    with pytest.raises(PluginFailed, match="'odd'"):
        kit.resolve("odd")


def test_a_missing_client_says_the_line_for_pip(kit: ConnectorKit) -> None:
    """The remedy stands in the error, at the resolve."""
    with pytest.raises(MissingExtra, match=r"pip install 'acme-needy\[client\]'"):
        kit.resolve("needy")


# Travelling


def test_a_connector_pickles_as_its_id(tmp_path: Path, rclone_s3: RcloneS3) -> None:
    """It is resolved again where it lands; no secret is in the bytes."""
    path = tmp_path / "connectorkit.toml"
    path.write_text(
        f"""
        [connectors.it]
        type = "minio"
        [connectors.it.settings]
        endpoint_url = "{rclone_s3.endpoint_url}"
        key = "{rclone_s3.key}"
        secret = "{rclone_s3.secret}"
        """
    )
    with ConnectorKit(path) as kit:
        connector = kit.resolve("it")
        for travels in (connector, connector.fs):
            data = pickle.dumps(travels)
            assert rclone_s3.secret.encode() not in data
            assert rclone_s3.key.encode() not in data
        assert pickle.loads(pickle.dumps(connector)).fs is connector.fs  # noqa: S301
        assert pickle.loads(pickle.dumps(connector.fs)) is connector.fs  # noqa: S301


def test_what_cannot_be_resolved_elsewhere_does_not_pickle(kit: ConnectorKit) -> None:
    """Settings in memory stay in memory; the error says what to do."""
    settings = {"endpoint_url": "http://localhost", "key": "k", "secret": "s"}
    for connector in (kit.resolve("notes"), kit.resolve("minio", settings=settings)):
        with pytest.raises(NotPicklable, match=r"connectorkit\.toml"):
            pickle.dumps(connector)
    with pytest.raises(NotPicklable):
        pickle.dumps(connector.fs)
    with pytest.raises(NotPicklable, match="keep the connector's ID"):
        connector.fs.to_json()


def _in_child(kit: ConnectorKit, path: str, parents: int, said: Any) -> None:
    fs = kit.resolve("it").fs
    fs.pipe_file(f"{path}-{os.getpid()}", b"from the child")
    said.put((id(fs) != parents, fs.cat_file(path)))


def test_a_forked_child_opens_its_own(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """A prefork worker goes on with the parent's kit; the parent's stays usable."""
    context = multiprocessing.get_context("fork")
    kit = ConnectorKit(
        {
            "connectors": {
                "it": {
                    "type": "minio",
                    "settings": {
                        "endpoint_url": rclone_s3.endpoint_url,
                        "key": rclone_s3.key,
                        "secret": rclone_s3.secret,
                    },
                }
            }
        }
    )
    path = f"{rclone_bucket}/a"
    fs = kit.resolve("it").fs
    fs.pipe_file(path, b"from the parent")
    said = context.SimpleQueue()
    children = [
        context.Process(target=_in_child, args=(kit, path, id(fs), said))
        for _ in range(4)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)

    assert [child.exitcode for child in children] == [0] * 4
    assert [said.get() for _ in children] == [(True, b"from the parent")] * 4
    assert fs.cat_file(path) == b"from the parent"
    assert len(fs.ls(rclone_bucket)) == 5
    kit.close()


def test_an_explanation_hides_secrets_and_shows_references(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`explain` is safe to paste into a ticket."""
    monkeypatch.setenv("THE_SECRET", "hunter2hunter2")
    settings = {"key": "AKIAEXAMPLE0001", "secret": "env:THE_SECRET"}
    with ConnectorKit({"connectors": {"a": {"type": "s3", "settings": settings}}}) as k:
        told = k.explain("a")

    assert told.settings["key"] == "**********"
    assert told.settings["secret"] == "env:THE_SECRET"
    assert (told.plugin, told.is_shared) == ("s3", False)
    assert told.distribution == f"connectorkit {connectorkit.__version__}"
    json.dumps(told.settings)


FIELDS = st.sampled_from(
    [
        "key",
        "secret",
        "token",
        "endpoint_url",
        "region_name",
        "anon",
        "json_credentials",
        "project_id",
        "path",
        "name",
        "read_timeout",
    ]
) | st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    type_id=st.sampled_from(["s3", "minio", "gcs", "memory", "local"]),
    settings=st.dictionaries(FIELDS, VALUES, max_size=5),
)
def test_any_settings_resolve_or_are_told_to_be_wrong(
    type_id: str, settings: dict[str, Any]
) -> None:
    """No shape of settings escapes as an error of pydantic's or of a client's."""
    with ConnectorKit({}) as kit:
        try:
            assert kit.resolve(type_id, settings=settings).type == type_id
        except ConnectorKitError as error:
            assert isinstance(error, InvalidSettings)
            assert error.problems


@pytest.mark.parametrize("field", ["key", "secret", "endpoint_url", "region_name"])
def test_a_huge_value_is_refused(kit: ConnectorKit, field: str) -> None:
    """A form that sends a megabyte gets an error of a line."""
    settings = {"endpoint_url": "http://localhost", "key": "k", "secret": "s"}

    with pytest.raises(InvalidSettings) as caught:
        kit.resolve("minio", settings={**settings, field: "x" * 1_000_000})

    assert field in caught.value.problems
    assert len(str(caught.value)) < 300


def test_a_thousand_bad_fields_are_told_in_short(kit: ConnectorKit) -> None:
    """All are in `problems`; the message stays readable."""
    with pytest.raises(InvalidSettings, match="and 980 more") as caught:
        kit.resolve("memory", settings={f"field{i}": i for i in range(1000)})

    assert len(caught.value.problems) == 1000
