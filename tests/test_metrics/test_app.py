"""/metrics and /circuits: over a real socket, by WSGI and by ASGI."""

from __future__ import annotations

import asyncio
import http.client
import io
import json
import os
import socket
from typing import TYPE_CHECKING, Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)

from connectorkit import CircuitState, ConnectorKit
from connectorkit_metrics import MetricsServer, metrics_app, start_metrics_server
from test_metrics.support import Meter, matching, parsed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOKEN = "a-token-that-nobody-guesses"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
SWITCH = {"action": "force_open", "connector": "reports", "circuit": "upload"}
OPENMETRICS = {"Accept": "application/openmetrics-text; version=1.0.0"}


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Close servers at once."""
    monkeypatch.setattr("connectorkit_metrics.server._LOOK", 0.001)


@pytest.fixture
def meter() -> Meter:
    """Count one operation."""
    meter = Meter()
    meter.run()
    return meter


@pytest.fixture
def kit() -> Iterator[ConnectorKit]:
    """Configure two connectors, whose breakers have circuits of their own."""
    tables = {
        name: {
            "type": "memory",
            # No other test has the same settings, so none shares their circuits.
            "settings": {"name": f"test_app {name}"},
            "policies": ["breaker"],
        }
        for name in ("reports", "notes")
    }
    with ConnectorKit({"connectors": tables}) as kit:
        yield kit
        for each in tables:
            kit.circuits.reset(each)


@pytest.fixture
def server(meter: Meter, kit: ConnectorKit) -> Iterator[MetricsServer]:
    """Serve both, to who has the token."""
    with start_metrics_server(
        0, kit=kit, token=TOKEN, registry=meter.registry
    ) as server:
        yield server


def ask(
    server: MetricsServer,
    method: str,
    path: str,
    body: object = None,
    headers: dict[str, str] | None = None,
) -> tuple[int, dict[str, str], str]:
    """Return the status, the headers and the body of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, sent, headers or {})
        answer = connection.getresponse()
        named = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, named, answer.read().decode()
    finally:
        connection.close()


def states(kit: ConnectorKit, connector: str) -> dict[str, CircuitState]:
    """Return the states of a connector's circuits."""
    return {each.circuit: each.state for each in kit.circuits.infos(connector)}


# Metrics


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "/"])
def test_metrics_are_served(server: MetricsServer, path: str) -> None:
    """Prometheus gets its text format."""
    status, headers, text = ask(server, "GET", path)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert matching(parsed(text), "connectorkit_operations_total") == 1


def test_openmetrics_are_served(server: MetricsServer) -> None:
    """Who prefers OpenMetrics gets that, and it is valid."""
    _, headers, text = ask(server, "GET", "/metrics", headers=OPENMETRICS)
    assert headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name: family for family in parse_openmetrics(text)}  # type: ignore[no-untyped-call]
    (sample, *_) = families["connectorkit_operations"].samples
    assert sample.value == 1


def test_some_metrics_are_served(server: MetricsServer) -> None:
    """`name[]` picks series."""
    query = "/metrics?name[]=connectorkit_build_info&name[]=nonsense"
    assert {it.name for it in parsed(ask(server, "GET", query)[2])} == {
        "connectorkit_build_info"
    }


def test_each_scrape_is_up_to_date(server: MetricsServer, meter: Meter) -> None:
    """What ended before a scrape is in it."""
    for number in range(2, 5):
        meter.run()
        text = ask(server, "GET", "/metrics")[2]
        assert matching(parsed(text), "connectorkit_operations_total") == number


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/metrics", 200),
        ("HEAD", "/circuits", 200),
        ("GET", "/nothing", 404),
        ("GET", "/metrics/circuits", 404),
        ("POST", "/metrics", 405),
        ("DELETE", "/circuits", 405),
    ],
)
def test_statuses(server: MetricsServer, method: str, path: str, status: int) -> None:
    """What is not there, or cannot be done, is answered as such."""
    answer = ask(server, method, path)
    assert answer[0] == status
    assert (answer[2] == "") == (method == "HEAD")
    if status == 405:
        assert "GET" in answer[1]["allow"]


# Circuits


def test_circuits_are_listed(server: MetricsServer, kit: ConnectorKit) -> None:
    """Who may read metrics may read the circuits, and needs no token for it."""
    kit.circuits.force_open("reports", "download")
    status, headers, text = ask(server, "GET", "/circuits")
    assert (status, headers["content-type"]) == (200, "application/json")
    found = {
        (it["connector"], it["circuit"]): it for it in json.loads(text)["circuits"]
    }
    assert found["reports", "download"] == {
        "connector": "reports",
        "type": "memory",
        "is_adhoc": False,
        "circuit": "download",
        "state": "forced_open",
        "seconds_left": None,
        "failures": 0,
    }
    assert found["reports", "upload"]["state"] == "closed"


def test_circuits_are_switched(server: MetricsServer, kit: ConnectorKit) -> None:
    """Who has the token forces circuits open and closed, and resets them."""
    kit.circuits.reset("notes")
    for action, state in (
        ("force_open", CircuitState.FORCED_OPEN),
        ("force_closed", CircuitState.FORCED_CLOSED),
        ("reset", CircuitState.CLOSED),
    ):
        wanted = {**SWITCH, "action": action}
        status, _, text = ask(server, "POST", "/circuits", wanted, BEARER)
        assert status == 200
        (circuit,) = json.loads(text)["circuits"]
        assert (circuit["circuit"], circuit["state"]) == ("upload", state.value)
        closed = CircuitState.CLOSED
        assert states(kit, "reports") == {
            "upload": state,
            "download": closed,
            "list": closed,
        }
        assert {*states(kit, "notes").values()} == {closed}


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        TOKEN,
        "Bearer",
        "Bearer ",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Basic {TOKEN}",
        "Bearer \xe9\xff",
    ],
)
def test_a_wrong_token_switches_nothing(
    server: MetricsServer, kit: ConnectorKit, authorization: str | None
) -> None:
    """Without the very token nothing changes, and the answer tells nothing of it."""
    kit.circuits.reset("reports")
    headers = {} if authorization is None else {"Authorization": authorization}
    status, told, text = ask(server, "POST", "/circuits", SWITCH, headers)
    assert (status, told["www-authenticate"]) == (401, "Bearer")
    assert TOKEN not in text
    assert {*states(kit, "reports").values()} == {CircuitState.CLOSED}


def test_without_a_token_nobody_switches(meter: Meter, kit: ConnectorKit) -> None:
    """A host that configured no token let nobody in, whatever they claim."""
    kit.circuits.reset("reports")
    with start_metrics_server(0, kit=kit, registry=meter.registry) as server:
        for headers in ({}, BEARER, {"Authorization": "Bearer None"}):
            assert ask(server, "POST", "/circuits", SWITCH, headers)[0] == 403
    assert {*states(kit, "reports").values()} == {CircuitState.CLOSED}


def test_an_empty_token_is_refused() -> None:
    """A variable that happens to be empty does not let everybody in."""
    for token in ("", " "):
        with pytest.raises(ValueError, match="empty"):
            metrics_app(token=token)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        ([], 400),
        ({}, 400),
        ({"action": "destroy"}, 400),
        ({**SWITCH, "conector": "reports"}, 400),
        ({**SWITCH, "connector": 1}, 400),
        ({**SWITCH, "connector": None}, 400),
        ({**SWITCH, "circuit": "delete"}, 400),
        ({**SWITCH, "connector": "nobody"}, 404),
        ({**SWITCH, "connector": "no\nid"}, 400),
        (b" " * 70_000, 413),
    ],
)
def test_wrong_requests(
    server: MetricsServer, kit: ConnectorKit, body: object, status: int
) -> None:
    """A request that cannot be meant is refused with a sentence, and does nothing."""
    kit.circuits.reset("reports")
    got, _, text = ask(server, "POST", "/circuits", body, BEARER)
    assert got == status
    assert json.loads(text)["error"].endswith(".")
    assert {*states(kit, "reports").values()} == {CircuitState.CLOSED}


def test_without_a_kit_there_are_no_circuits(meter: Meter) -> None:
    """Who serves metrics alone says where the circuits are."""
    with start_metrics_server(0, registry=meter.registry) as server:
        status, _, text = ask(server, "GET", "/circuits")
    assert status == 404
    assert "kit" in json.loads(text)["error"]


# The server


def test_a_silent_peer_holds_nobody_up(server: MetricsServer) -> None:
    """Others are served while one has connected and says nothing."""
    with socket.create_connection(("127.0.0.1", server.port)):
        assert ask(server, "GET", "/metrics")[0] == 200


def test_a_closed_server_frees_its_port(meter: Meter) -> None:
    """Where one was, another can be; two at a time are an error."""
    with start_metrics_server(0, registry=meter.registry) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/metrics"
        with pytest.raises(OSError, match=r"(?i)in use"):
            start_metrics_server(server.port, registry=meter.registry)
    with start_metrics_server(server.port, registry=meter.registry) as again:
        assert ask(again, "GET", "/metrics")[0] == 200
    again.close()


# WSGI and ASGI


def by_wsgi(app: Any, method: str, path: str, body: bytes = b"", **more: Any) -> Any:
    """Return what a WSGI server would send; checks the rules of PEP 3333."""
    environ = {
        "REQUEST_METHOD": method,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "SCRIPT_NAME": "",
        **more,
    }
    setup_testing_defaults(environ)
    environ["wsgi.input"] = io.BytesIO(body)
    if body:
        environ["CONTENT_LENGTH"] = str(len(body))
    told: list[Any] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
        del exc_info
        told.extend((int(status[:3]), dict(headers)))
        return lambda _data: None

    answer: Any = validator(app)(environ, start_response)
    content = b"".join(answer)
    answer.close()
    return told[0], content


def by_asgi(
    app: Any, method: str, path: str, *bodies: bytes, single: bool = False, **more: Any
) -> Any:
    """Return what an ASGI server would send."""
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": [],
        **more,
    }
    parts = [*bodies] or [b""]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        body = parts.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(parts)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def serve() -> None:
        await (app(scope)(receive, send) if single else app(scope, receive, send))

    asyncio.run(serve())
    start, *rest = sent
    assert all(isinstance(it, bytes) for pair in start["headers"] for it in pair)
    return start["status"], b"".join(each["body"] for each in rest)


@pytest.mark.parametrize("serve", [by_wsgi, by_asgi])
def test_one_app_for_both(
    meter: Meter, kit: ConnectorKit, serve: Callable[..., Any]
) -> None:
    """The same object is served by WSGI and by ASGI."""
    app = metrics_app(kit, token=TOKEN, registry=meter.registry)
    status, body = serve(app, "GET", "/metrics")
    assert status == 200
    assert matching(parsed(body.decode()), "connectorkit_operations_total") == 1
    assert serve(app, "HEAD", "/metrics") == (200, b"")
    status, body = serve(app, "POST", "/circuits", json.dumps(SWITCH).encode())
    assert status == 401


def test_asgi_reads_bodies_and_headers(meter: Meter, kit: ConnectorKit) -> None:
    """A body may come in parts, and headers in any case."""
    app = metrics_app(kit, token=TOKEN, registry=meter.registry)
    body = json.dumps(SWITCH).encode()
    headers = [(b"Authorization", f"Bearer {TOKEN}".encode())]
    parts = body[:5], body[5:]
    assert by_asgi(app, "POST", "/circuits", *parts, headers=headers)[0] == 200
    assert states(kit, "reports")["upload"] is CircuitState.FORCED_OPEN


def test_asgi_below_a_path(meter: Meter) -> None:
    """Where it is mounted at /metrics its root is that, by the old rule and the new."""
    app = metrics_app(registry=meter.registry)
    for path in ("/metrics", "/metrics/", "/", ""):
        assert by_asgi(app, "GET", path, root_path="/metrics")[0] == 200
    assert by_asgi(app, "GET", "/ops/circuits", root_path="/ops")[0] == 404


def test_asgi_in_two_steps(meter: Meter) -> None:
    """Servers that take it for ASGI's second version are served, too."""
    app = metrics_app(registry=meter.registry)
    assert by_asgi(app, "GET", "/metrics", single=True)[0] == 200
    with pytest.raises(TypeError, match="4"):
        app(1, 2, 3, 4)


def test_asgi_lifespan(meter: Meter) -> None:
    """A server may start and stop it."""
    app = metrics_app(registry=meter.registry)
    messages = ["lifespan.startup", "lifespan.shutdown"]
    sent: list[str] = []

    async def receive() -> dict[str, Any]:
        return {"type": messages.pop(0)}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message["type"])

    asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


def test_prometheus_clients_own_registry_is_the_default() -> None:
    """Without a registry, what the host counts itself is served as well."""
    body = by_wsgi(metrics_app(), "GET", "/metrics")[1].decode()
    assert "python_info" in body or os.name != "posix"
