"""A storage that does what no real one can be told to: refuse, hang, cut, be counted.

It listens on 127.0.0.1 in this process, keeps connections alive and answers what a
function says:

    with Stub(lambda request: Answer(503)) as stub: ...
"""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["DROP", "Answer", "Request", "Stub", "gcs_object", "s3_error", "s3_object"]


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asked."""

    method: str
    path: str
    query: Mapping[str, str]
    # By lower-case name.
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        query = "&".join(f"{k}={v}" for k, v in sorted(self.query.items()))
        return f"{self.method} {self.path}?{query} {self.headers.get('range', '')}"


@dataclass(frozen=True, slots=True)
class Answer:
    """What it is answered; a body in pieces is sent piece by piece, as they come."""

    status: int = 200
    body: bytes | Iterable[bytes] = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, content: Any) -> Answer:
        """Answer JSON."""
        text = json.dumps(content).encode()
        return cls(200, text, {"Content-Type": "application/json"})


# In place of an answer: the connection ends.
DROP = Answer(0)


class Stub(ThreadingHTTPServer):
    """The server, for a `with`.

    Attributes:
        requests: What was asked, in order of arrival.
        under_way: How many requests have arrived and are not answered yet.
        most: The most that were ever under way.
        changed: Notified when a request begins or ends.
    """

    daemon_threads = True
    request_queue_size = 256

    def __init__(
        self, answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.scheme = "http"
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True)
            self.scheme = "https"
        self.answer = answer
        self.requests: list[Request] = []
        self.under_way = 0
        self.most = 0
        self.changed = threading.Condition()
        self._errors: list[BaseException] = []
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,))

    @property
    def port(self) -> int:
        """Where it listens."""
        return self.server_port

    @property
    def endpoint_url(self) -> str:
        """Its address, for clients."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def counts(self) -> Counter[str]:
        """Return how often each request arrived."""
        with self.changed:
            return Counter(map(str, self.requests))

    def asked(self, method: str) -> list[Request]:
        """Return the requests of one method."""
        with self.changed:
            return [each for each in self.requests if each.method == method]

    def begin(self, request: Request) -> None:
        """Count a request."""
        with self.changed:
            self.requests.append(request)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            self.changed.notify_all()

    def end(self) -> None:
        """Count its end."""
        with self.changed:
            self.under_way -= 1
            self.changed.notify_all()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the connection."""
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the connection."""
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what was raised: a client that leaves is none, a wrong script is."""
        del request, client_address
        error = sys.exception()
        if error is not None and not isinstance(error, OSError):
            self._errors.append(error)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.shutdown()
        self._thread.join()
        for connection in list(self._connections):
            self.shutdown_request(connection)
        self.server_close()
        if self._errors:
            raise self._errors[0]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Else each answer's body waits for the acknowledgement of its headers.
    disable_nagle_algorithm = True
    server: Stub

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        request = Request(
            self.command,
            unquote(parts.path),
            dict(parse_qsl(parts.query, keep_blank_values=True)),
            {name.lower(): value for name, value in self.headers.items()},
            self._body(),
        )
        self.server.begin(request)
        try:
            answer = self.server.answer(request)
        finally:
            # Before the client has the answer, and so may ask for more.
            self.server.end()
        self._send(answer)

    do_DELETE = do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815

    def _body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _send(self, answer: Answer) -> None:
        if answer is DROP:
            self.close_connection = True
            return
        self.send_response(answer.status)
        headers = dict(answer.headers)
        pieces = answer.body
        if isinstance(pieces, bytes):
            headers.setdefault("Content-Length", str(len(pieces)))
            pieces = [pieces]
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            for piece in pieces:
                self.wfile.write(piece)

    def log_message(self, *_args: object) -> None:
        """Say nothing."""


def _ranged(request: Request, content: bytes, headers: Mapping[str, str]) -> Answer:
    asked = request.headers.get("range")
    if asked is None:
        return Answer(200, content, headers)
    first, _, last = asked.removeprefix("bytes=").partition("-")
    start, end = int(first), min(int(last or len(content)), len(content) - 1)
    where = {"Content-Range": f"bytes {start}-{end}/{len(content)}"}
    return Answer(206, content[start : end + 1], {**headers, **where})


def s3_error(status: int, code: str) -> Answer:
    """Refuse as S3 does."""
    return Answer(status, f"<Error><Code>{code}</Code></Error>".encode())


def s3_object(request: Request, content: bytes) -> Answer:
    """Answer as S3 does where every key holds `content`."""
    headers = {"ETag": '"an-etag"', "Last-Modified": "Sun, 22 Nov 2026 00:00:00 GMT"}
    if request.method == "HEAD":
        return Answer(200, b"", {**headers, "Content-Length": str(len(content))})
    return _ranged(request, content, headers)


def gcs_object(request: Request, content: bytes) -> Answer:
    """Answer as Google Cloud Storage does where every name holds `content`."""
    if "/download/" in request.path or request.query.get("alt") == "media":
        return _ranged(request, content, {"Content-Type": "text/plain"})
    bucket, _, name = request.path.partition("/b/")[2].partition("/o")
    about = {
        "bucket": bucket,
        "name": name.strip("/") or request.query.get("prefix", ""),
        "size": str(len(content)),
        "generation": "1",
        "updated": "2026-11-22T00:00:00Z",
    }
    return Answer.json(about if name else {"items": [about]})
