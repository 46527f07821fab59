"""/metrics and /circuits, for WSGI and ASGI."""

from __future__ import annotations

import asyncio
import hmac
import json
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs

from connectorkit import ConnectorKitError, UnknownConnector
from connectorkit_metrics.exports import prometheus

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping

    from prometheus_client import CollectorRegistry

    from connectorkit import ConnectorKit

    Receive = Callable[[], Awaitable[dict[str, Any]]]
    Send = Callable[[dict[str, Any]], Awaitable[None]]

__all__ = ["MetricsApp", "metrics_app"]

_MOST_BODY = 65_536
_ACTIONS: Final = ("force_open", "force_closed", "reset")
_JSON: Final = {"Content-Type": "application/json", "Cache-Control": "no-store"}


def metrics_app(
    kit: ConnectorKit | None = None,
    *,
    token: str | None = None,
    registry: CollectorRegistry | None = None,
    directory: str | None = None,
) -> MetricsApp:
    """Return an application that serves `/metrics`, and `/circuits` of a kit.

    ```python
    app = metrics_app(kit, token=os.environ["CIRCUITS_TOKEN"])
    ```

    It is a WSGI application and an ASGI application: gunicorn, uvicorn or a router that
    mounts applications may call it. Where it is mounted, its root is `/metrics`, too.

    - `GET /metrics`: in Prometheus's text format or in OpenMetrics, as `Accept` says;
      `?name[]=…` picks series. In prometheus_client's multiprocess mode they are those
      of all processes.
    - `GET /circuits`: the circuits of this process, as JSON.
    - `POST /circuits`: switches them, for who has the token, by `Authorization: Bearer
      …`. The body is a JSON object: `action` is "force_open", "force_closed" or
      "reset", `connector` an ID and `circuit` "upload", "download" or "list"; without
      one of the two, all are meant.

    Args:
        kit: Whose circuits to serve; None for none.
        token: What lets somebody switch circuits; without one, nobody may.
        registry: What to export; None for prometheus_client's own.
        directory: What to export in place of a registry: the directory of processes in
            multiprocess mode. None for `PROMETHEUS_MULTIPROC_DIR`, if it is set.

    Raises:
        MissingExtra: prometheus_client is not installed.
        ValueError: The token is empty.
    """
    return MetricsApp(kit, token, registry, directory)


@dataclass(frozen=True, slots=True)
class Request:
    """What was asked.

    Attributes:
        method: In capitals.
        path: Below where the application is mounted.
        query: What follows the question mark.
        headers: By their names in small letters.
        body: At most a byte more than is allowed.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered."""

    status: HTTPStatus
    body: bytes
    headers: dict[str, str] = field(default_factory=lambda: {**_JSON})


class Wrong(Exception):
    """A request is answered by an error."""

    def __init__(self, status: HTTPStatus, why: str, **headers: str) -> None:
        super().__init__(why)
        body = json.dumps({"error": why}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.answer = Answer(status, body, {**_JSON, **named})


class MetricsApp:
    """The application; see `metrics_app`."""

    def __init__(
        self,
        kit: ConnectorKit | None = None,
        token: str | None = None,
        registry: CollectorRegistry | None = None,
        directory: str | None = None,
    ) -> None:
        if token is not None and not token.strip():
            raise ValueError("The token is empty: it would be known to everybody.")
        self._client = prometheus()
        self._kit = kit
        self._token = token
        self._registry = registry or self._client.REGISTRY
        self._directory = directory

    def __call__(self, *args: Any) -> Any:
        """Serve a request: two arguments are WSGI's, three are ASGI's.

        Servers that do not see that it is asynchronous call it with one, by the second
        version of ASGI.
        """
        match args:
            case (environ, start_response):
                return self._wsgi(environ, start_response)
            case (scope, receive, send):
                return self._asgi(scope, receive, send)
            case (scope,):
                return lambda receive, send: self._asgi(scope, receive, send)
        raise TypeError(
            f"It takes what WSGI or ASGI passes, not {len(args)} arguments."
        )

    # What is answered

    def answer(self, request: Request) -> Answer:
        """Answer a request."""
        try:
            path = request.path.rstrip("/")
            if path in {"", "/metrics"}:
                return self._metrics(request)
            if path == "/circuits":
                return self._circuits(request)
            raise Wrong(HTTPStatus.NOT_FOUND, "There are /metrics and /circuits.")  # noqa: TRY301
        except Wrong as wrong:
            return wrong.answer

    def _metrics(self, request: Request) -> Answer:
        _allow(request, "GET", "HEAD")
        registry = self._registry
        directory = self._directory or _shared_directory()
        if directory is not None:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = self._client.CollectorRegistry()
            MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]
        if names := parse_qs(request.query).get("name[]"):
            registry = registry.restricted_registry(names)
        accept = request.headers.get("accept", "")
        encode, kind = self._client.exposition.choose_encoder(accept)
        return Answer(HTTPStatus.OK, encode(registry), {"Content-Type": kind})

    def _circuits(self, request: Request) -> Answer:
        _allow(request, "GET", "HEAD", "POST")
        if self._kit is None:
            raise Wrong(
                HTTPStatus.NOT_FOUND,
                "Circuits are known to the process that uses them: give its kit to "
                "metrics_app.",
            )
        if request.method != "POST":
            return _listed(self._kit.circuits)
        self._authorize(request.headers.get("authorization", ""))
        action, connector, circuit = _wanted(request.body)
        switch = getattr(self._kit.circuits, action)
        try:
            return _listed(switch(connector, circuit))
        except UnknownConnector as error:
            raise Wrong(HTTPStatus.NOT_FOUND, str(error)) from error
        except (ConnectorKitError, ValueError) as error:
            raise Wrong(HTTPStatus.BAD_REQUEST, str(error)) from error

    def _authorize(self, authorization: str) -> None:
        if self._token is None:
            raise Wrong(
                HTTPStatus.FORBIDDEN,
                "Nobody may switch circuits here: metrics_app was given no token.",
            )
        scheme, _, told = authorization.partition(" ")
        is_it = hmac.compare_digest(told.strip().encode(), self._token.encode())
        if scheme.lower() != "bearer" or not is_it:
            raise Wrong(
                HTTPStatus.UNAUTHORIZED,
                "The token is missing or wrong.",
                WWW_Authenticate="Bearer",
            )

    # How it is asked

    def _wsgi(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        length = environ.get("CONTENT_LENGTH") or "0"
        size = min(int(length), _MOST_BODY + 1) if length.isdecimal() else 0
        method = environ["REQUEST_METHOD"]
        request = Request(
            method,
            environ.get("PATH_INFO", ""),
            environ.get("QUERY_STRING", ""),
            {
                "accept": environ.get("HTTP_ACCEPT", ""),
                "authorization": environ.get("HTTP_AUTHORIZATION", ""),
            },
            environ["wsgi.input"].read(size) if size else b"",
        )
        answer = self.answer(request)
        status, headers = answer.status, {**answer.headers}
        headers["Content-Length"] = str(len(answer.body))
        start_response(f"{status.value} {status.phrase}", list(headers.items()))
        return [] if method == "HEAD" else [answer.body]

    async def _asgi(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        if scope["type"] != "http":
            return
        headers = [(name.lower(), value) for name, value in scope["headers"]]
        root, path = scope.get("root_path", ""), scope["path"]
        request = Request(
            scope["method"],
            # By the newer rule the path has the root in front of it.
            path.removeprefix(root) if root else path,
            scope.get("query_string", b"").decode("latin-1"),
            {
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in headers
            },
            await _body(receive),
        )
        # Circuits may be looked up in a database, and metrics are read from files.
        answer = await asyncio.to_thread(self.answer, request)
        told = {**answer.headers, "Content-Length": str(len(answer.body))}
        await send(
            {
                "type": "http.response.start",
                "status": answer.status.value,
                "headers": [
                    (name.lower().encode("latin-1"), value.encode("latin-1"))
                    for name, value in told.items()
                ],
            }
        )
        body = b"" if request.method == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})


def _shared_directory() -> str | None:
    """Return the directory by which processes share what they count, if they do."""
    from connectorkit_metrics.series import shared_directory

    return shared_directory()


def _allow(request: Request, *methods: str) -> None:
    if request.method not in methods:
        raise Wrong(
            HTTPStatus.METHOD_NOT_ALLOWED,
            f"Only {', '.join(methods)}.",
            Allow=", ".join(methods),
        )


def _listed(circuits: Iterable[Any]) -> Answer:
    told = {"circuits": [asdict(each) for each in circuits]}
    return Answer(HTTPStatus.OK, json.dumps(told).encode())


def _wanted(body: bytes) -> tuple[str, str | None, str | None]:
    """Read what to do with which circuits."""
    if len(body) > _MOST_BODY:
        raise Wrong(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "The body is too long.")
    try:
        wanted = json.loads(body)
    except ValueError:
        wanted = None
    keys = {"action", "connector", "circuit"}
    is_it = isinstance(wanted, dict) and wanted.keys() <= keys
    if not is_it or not all(isinstance(it, str) for it in wanted.values()):
        raise Wrong(
            HTTPStatus.BAD_REQUEST,
            "The body has to be a JSON object of texts: action, and if not all are "
            "meant connector and circuit.",
        )
    if wanted.get("action") not in _ACTIONS:
        raise Wrong(HTTPStatus.BAD_REQUEST, f"An action is {', '.join(_ACTIONS)}.")
    return wanted["action"], wanted.get("connector"), wanted.get("circuit")


async def _body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= _MOST_BODY:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    return body


async def _live(receive: Receive, send: Send) -> None:
    """Let the server start and stop it."""
    while True:
        kind = (await receive())["type"]
        await send({"type": f"{kind}.complete"})
        if kind == "lifespan.shutdown":
            return
