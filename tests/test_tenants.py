"""What whoever controls the settings of a call cannot get."""

from __future__ import annotations

import http.server
import json
import threading
from typing import TYPE_CHECKING, Any, Self

import fsspec
import pytest
from pydantic import Field, SecretStr, field_serializer

from connectorkit import (
    CheckFailed,
    ConfigError,
    ConnectorKit,
    ConnectorType,
    InvalidSettings,
    NotPicklable,
    PluginFailed,
    Policy,
    PolicySettings,
    Settings,
    hookimpl,
)
from connectorkit.identity import identity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit import Connector

KEYS = {"key": "AKIAEXAMPLE0001", "secret": "sk12345678sk12345678"}


@pytest.fixture
def kit() -> Iterator[ConnectorKit]:
    """A kit without a configuration."""
    with ConnectorKit({}) as kit:
        yield kit


class Recorder:
    """An HTTP server that answers all alike, and keeps what it was asked."""

    def __init__(self, status: int, **headers: str) -> None:
        self.asked: list[dict[str, str]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - http.server's word
                self.asked.append({"path": handler.path, **dict(handler.headers)})
                handler.send_response(status)
                for name, value in headers.items():
                    handler.send_header(name, value)
                handler.send_header("Content-Length", "2")
                handler.end_headers()
                if handler.command == "GET":
                    handler.wfile.write(b"ok")

            do_HEAD = do_GET  # noqa: N815

            def log_message(self, *_args: Any) -> None:
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self.thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.mark.parametrize(
    "uri",
    [
        "https://127.0.0.1:9\\@x.googleapis.com/token",
        "https://127.0.0.1:9@oauth2.googleapis.com/token",
        "https://oauth2.googleapis.com.evil.example/token",
        "https://oauth2.googleapis.com/token/",
        "http://oauth2.googleapis.com/token",
        "",
    ],
)
def test_a_key_names_no_other_token_service(kit: ConnectorKit, uri: str) -> None:
    """Where the host would send a signed request is not for a tenant to say."""
    key = {"type": "service_account", "token_uri": uri}

    with pytest.raises(InvalidSettings, match="token_uri"):
        kit.resolve("gcs", settings={"json_credentials": key, "project_id": "p"})


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "169.254.170.2",
        "[fe80::1]",
        "[fd00:ec2::254]",
        "metadata.google.internal",
        "metadata.google.internal.",
        "METADATA",
    ],
)
def test_the_machines_metadata_are_no_storage(kit: ConnectorKit, host: str) -> None:
    """An endpoint that hands out the host's own credentials is refused."""
    for type_id, settings in (
        ("s3", {"anon": True}),
        ("minio", KEYS),
        ("gcs", {"token": "anon", "project_id": "p"}),
    ):
        with pytest.raises(InvalidSettings, match="metadata service"):
            kit.resolve(
                type_id, settings={**settings, "endpoint_url": f"http://{host}"}
            )


@pytest.mark.parametrize(
    ("type_id", "settings"),
    [
        ("s3", {"anon": True, "addressing_style": "path"}),
        ("gcs", {"token": "anon", "project_id": "p"}),
    ],
)
def test_a_redirect_leads_nowhere(
    kit: ConnectorKit, type_id: str, settings: dict[str, Any]
) -> None:
    """A tenant's server cannot send the host's requests elsewhere."""
    with Recorder(200) as inner, Recorder(302, Location=inner.url) as outer:
        settings = {**settings, "endpoint_url": outer.url}
        fs = kit.resolve(type_id, settings=settings).fs
        try:
            assert fs.cat_file("bucket/key") == b"ok"
        except Exception:  # noqa: BLE001 - what the answer means is the client's affair
            assert outer.asked
        assert outer.asked
        assert not inner.asked


@pytest.mark.parametrize(
    ("protocol", "option"),
    [("s3", {"token": "OF-THE-HOST"}), ("gcs", {"session_kwargs": {
        "headers": {"X-Of": "OF-THE-HOST"}}}), ("gs", {"session_kwargs": {
        "headers": {"X-Of": "OF-THE-HOST"}}})],
)  # fmt: skip
def test_fsspecs_own_configuration_stays_the_hosts(
    kit: ConnectorKit,
    monkeypatch: pytest.MonkeyPatch,
    protocol: str,
    option: dict[str, Any],
) -> None:
    """What is configured for a protocol does not flow into a tenant's requests."""
    monkeypatch.setitem(fsspec.config.conf, protocol, option)
    type_id, settings = ("s3", KEYS) if protocol == "s3" else ("gcs", {"token": "anon"})
    with Recorder(404) as server:
        settings = {**settings, "endpoint_url": server.url}
        fs = kit.resolve(type_id, settings=settings).fs
        with pytest.raises(FileNotFoundError):
            fs.cat_file("bucket/key")

    assert server.asked
    assert "OF-THE-HOST" not in str(server.asked)


def test_the_hosts_emulator_and_endpoint_are_not_a_tenants(
    kit: ConnectorKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who brings credentials, or none, means the cloud itself."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    gcs = kit.resolve("gcs", settings={"token": "anon", "project_id": "p"}).fs
    s3 = kit.resolve("s3", settings={"anon": True, "region_name": "eu-west-1"}).fs
    s3.connect()

    assert gcs._location == "https://storage.googleapis.com"
    assert "127.0.0.1" not in s3.s3.meta.endpoint_url


class Excluded(Settings):
    """A model that leaves its secret out when it is dumped."""

    password: SecretStr = Field(exclude=True)


class Masked(Settings):
    """A model that masks its secret when it is dumped."""

    password: SecretStr

    @field_serializer("password")
    def _mask(self, _value: SecretStr) -> str:
        return "***"


class Anything(Settings):
    """A model that takes what it is given."""

    value: Any


@pytest.mark.parametrize("model", [Excluded, Masked])
def test_what_a_model_hides_still_tells_tenants_apart(model: type[Settings]) -> None:
    """An identity is made of the values, not of what is shown of them."""
    one, two, three = (
        model.model_validate({"password": each}) for each in ("one", "two", "one")
    )

    assert identity("x", one) != identity("x", two)
    assert identity("x", one) == identity("x", three)


def test_values_of_other_types_are_other_values() -> None:
    """No two settings that differ have one identity."""
    values = [
        "1", 1, 1.0, True, b"1", None, "None", [1], (1,), {1}, {1: 2}, {"1": 2},
        {"a": [1]}, {"a": (1,)}, SecretStr("1"), "31", b"\x31\x00", [["int", 1]],
    ]  # fmt: skip

    assert len({identity("x", Anything(value=each)) for each in values}) == len(values)


class Tagging(Policy):
    """A policy with a secret of its own."""

    class Settings(PolicySettings):
        redis: SecretStr

    name = "tagging"


class Failing(Policy):
    """A policy that breaks."""

    name = "failing"

    def filesystem(self, fs: Any, connector: Connector) -> Any:
        raise KeyError("no")


class Asking(Policy):
    """A policy that asks for what is being opened."""

    name = "asking"

    def filesystem(self, fs: Any, connector: Connector) -> Any:
        return connector.fs


class Host:
    """A host's plugin that does what it should not."""

    def __init__(self) -> None:
        self.kit: ConnectorKit | None = None
        self.heard: list[object] = []

    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Tagging, Failing, Asking]

    @hookimpl
    def connectorkit_lookup(self, connector_id: str) -> Any:
        from connectorkit import ConnectorConfig

        return ConnectorConfig(type="memory", settings={"name": connector_id})

    @hookimpl
    def connectorkit_event(self, event: object) -> None:
        self.heard.append(event)
        if self.kit is not None:
            self.kit.resolve("notes").fs.exists("/")


def test_policies_with_other_secrets_do_not_share() -> None:
    """A filesystem is wrapped by the policies of its own connector."""
    connectors = {
        name: {"type": "memory", "policies": ["tagging"], "tagging": {"redis": name}}
        for name in ("one", "two")
    }
    with ConnectorKit({"connectors": connectors}) as kit:
        kit.register(Host(), "host")
        assert kit.resolve("one").fs is not kit.resolve("two").fs


def test_a_policy_that_breaks_is_named() -> None:
    """Its error says which policy, on which connector, and keeps the cause."""
    connectors = {
        name: {"type": "memory", "policies": [name]} for name in ("failing", "asking")
    }
    with ConnectorKit({"connectors": connectors}) as kit:
        kit.register(Host(), "host")
        with pytest.raises(PluginFailed, match="'failing'") as caught:
            kit.resolve("failing")
        assert isinstance(caught.value.__cause__, KeyError)
        with pytest.raises(PluginFailed, match="while it is opened"):
            kit.resolve("asking")


def test_a_listener_may_use_the_kit() -> None:
    """Events are told while no lock is held."""
    host = Host()
    with ConnectorKit({"connectors": {"notes": {"type": "memory"}}}) as kit:
        kit.register(host, "host")
        host.kit = kit
        kit.resolve("notes")
        host.kit = None

    assert host.heard


def test_a_lookup_cannot_take_a_type_of_ours(kit: ConnectorKit) -> None:
    """What answers to everything answers to nothing that is ours."""
    kit.register(Host(), "host")

    assert kit.resolve("anything").type == "memory"
    assert kit.connector_type("s3").id == "s3"
    assert kit.explain("memory").how == "its type and settings"


def test_a_tenants_memory_is_not_the_hosts() -> None:
    """The memory of calls is a store apart, and names are the host's to choose."""
    config = {
        "connectors": {"mem": {"type": "memory"}},
        "system": {"S": {"provider": "memory"}},
    }
    with ConnectorKit(config) as kit:
        for connector_id in ("mem", "system|S"):
            kit.resolve(connector_id).fs.pipe_file("/of-the-host", b"1")
        assert not kit.resolve("memory").fs.exists("/of-the-host")
        for name in ("mine", " "):
            with pytest.raises(InvalidSettings, match="name"):
                kit.resolve("memory", settings={"name": name})


def test_a_tenant_does_not_travel_as_the_hosts_connector(tmp_path: Any) -> None:
    """Settings of a call, and the same of the configuration, are two filesystems."""
    import pickle

    settings = {"endpoint_url": "http://127.0.0.1:9", **KEYS}
    path = tmp_path / "connectorkit.toml"
    path.write_text(
        "[connectors.reports]\ntype = 'minio'\n[connectors.reports.settings]\n"
        + "".join(f"{name} = '{value}'\n" for name, value in settings.items())
    )
    with ConnectorKit(path) as kit:
        reports = kit.resolve("reports")
        tenants = kit.resolve("minio", settings=settings)
        with pytest.raises(NotPicklable):
            pickle.dumps(tenants.fs)
        assert pickle.loads(pickle.dumps(reports.fs)) is reports.fs  # noqa: S301


@pytest.mark.parametrize(
    "url",
    [
        "http://user:hunter2@host",
        "http://user:hunter2@ho\u2100st.com",
        "http://[AKIA:hunter2]/",
        "http://host?secret=hunter2",
        "http://host#hunter2",
        "http://host\\@other",
        "http://host name",
        "http://host\nhunter2",
        "http://host:0",
        "http://host:99999",
        "http://",
        "//host",
        "hunter2",
    ],
)
def test_an_odd_endpoint_is_refused_and_not_shown(kit: ConnectorKit, url: str) -> None:
    """Whatever stands in an address that is none, the error does not repeat it."""
    with pytest.raises(InvalidSettings) as caught:
        kit.resolve("minio", settings={**KEYS, "endpoint_url": url})

    assert list(caught.value.problems) == ["endpoint_url"]
    assert "hunter2" not in str(caught.value)


def test_nested_without_end_is_an_error_of_settings(kit: ConnectorKit) -> None:
    """A JSON body of brackets, or a mapping within itself, is told to be too deep."""
    cycle: dict[str, Any] = {}
    cycle["key"] = cycle
    deep: Any = []
    for _ in range(900):
        deep = [deep]
    for settings in (cycle, {"key": deep}):
        for trusted in (False, True):
            with pytest.raises((InvalidSettings, ConfigError)):
                kit.resolve("s3", settings=settings, trusted=trusted)


@pytest.mark.parametrize("field", ["private_key", "client_email", "token_uri"])
def test_a_key_file_of_other_types_is_refused_before_it_is_used(
    kit: ConnectorKit, field: str
) -> None:
    """A client's own complaint would repeat the value."""
    key = json.dumps({"type": "service_account", field: ["hunter2"]})

    with pytest.raises(InvalidSettings, match=field) as caught:
        kit.resolve("gcs", settings={"json_credentials": key, "project_id": "p"})

    assert "hunter2" not in str(caught.value)


def test_a_long_token_is_no_file_name(kit: ConnectorKit) -> None:
    """An access token is never looked for on the disk, nor shown."""
    token = "ya29.c." + "x" * 660
    connector = kit.resolve("gcs", settings={"token": token}, trusted=True)

    assert connector.fs.credentials.credentials.token == token


def test_nothing_to_ask_is_no_success(kit: ConnectorKit) -> None:
    """A check that could send nothing says what to name."""
    nowhere: dict[str, Any] = {"endpoint_url": "http://127.0.0.1:9"}
    for type_id, settings in (
        ("s3", {**nowhere, "anon": True}),
        ("gcs", {**nowhere, "token": "anon"}),
    ):
        with pytest.raises(CheckFailed, match="name a bucket"):
            kit.resolve(type_id, settings=settings).check()


class Headers(Settings):
    """Settings whose secrets stand deeper."""

    headers: dict[str, str]
    api_key: SecretStr = Field(alias="apiKey")


class Web(ConnectorType[Headers]):
    """A type with such settings."""

    id = "web"
    Settings = Headers

    def open(self, settings: Headers, **options: Any) -> Any:
        return fsspec.filesystem("memory", skip_instance_cache=True)


class Webs:
    """The plugin of that type."""

    @hookimpl
    def connectorkit_connectors(self) -> list[type[ConnectorType[Any]]]:
        return [Web]


def test_what_a_reference_led_to_is_never_explained(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nested or under an alias, the reference is shown, not its secret."""
    monkeypatch.setenv("API_TOKEN", "hunter2hunter2")
    settings = {
        "headers": {"Authorization": "env:API_TOKEN"},
        "apiKey": "env:API_TOKEN",
    }
    config = {"connectors": {"web": {"type": "web", "settings": settings}}}
    with ConnectorKit(config) as kit:
        kit.register(Webs(), "webs")
        told = kit.explain("web").settings

    assert told["headers"] == {"Authorization": "env:API_TOKEN"}
    assert "hunter2" not in str(told)


def test_the_tables_of_policies_are_not_shown() -> None:
    """They may hold the address of a store, password included."""
    config = {
        "policies": {"slots": {"url": "redis://:hunter2@h"}},
        "connectors": {"a": {"type": "memory", "slots": {"url": "redis://:hunter2@h"}}},
    }
    with ConnectorKit(config) as kit:
        assert "hunter2" not in repr(kit.config)
