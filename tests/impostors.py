"""Servers that a check must see through: not the storage, or one that refuses.

Each is a context manager that listens on 127.0.0.1 in threads of this process.
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar, Self
from urllib.parse import parse_qs

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import trustme

__all__ = [
    "Accounts",
    "answering",
    "full",
    "gcs_refusal",
    "listening",
    "s3_refusal",
    "showing",
]

_HOST = "127.0.0.1"


@contextlib.contextmanager
def listening(talk: Callable[[socket.socket], object]) -> Iterator[int]:
    """Take connections, one after another, and let `talk` have each; yield the port."""
    with socket.create_server((_HOST, 0)) as server, contextlib.ExitStack() as opened:

        def serve() -> None:
            # close() alone would leave accept() waiting; shutdown() ends it.
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    opened.callback(connection.close)
                    talk(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@contextlib.contextmanager
def full() -> Iterator[int]:
    """Listen with a queue that is full, so that nobody gets in; yield the port."""
    with contextlib.ExitStack() as opened:
        server = opened.enter_context(socket.create_server((_HOST, 0), backlog=0))
        for _ in range(4):
            client = opened.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        yield server.getsockname()[1]


@contextlib.contextmanager
def answering(
    status: int,
    body: str,
    headers: dict[str, str] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Iterator[str]:
    """Give the same answer to every request; yield the URL."""

    def answer(request: BaseHTTPRequestHandler) -> None:
        _answer(request, status, body, headers or {})

    with _serving(answer, tls) as url:
        yield url


def showing(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """Return what `answering` needs to show a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def s3_refusal(code: str, message: str, **fields: str) -> str:
    """Return the XML by which S3 refuses a request."""
    told = {"Code": code, "Message": message, **fields}
    content = "".join(f"<{name}>{text}</{name}>" for name, text in told.items())
    return f'<?xml version="1.0" encoding="UTF-8"?><Error>{content}</Error>'


def gcs_refusal(status: int, message: str) -> str:
    """Return the JSON by which Google Cloud Storage refuses a request."""
    return json.dumps({"error": {"code": status, "message": message}})


class Accounts:
    """Google's token service: it exchanges what a service account signs for a token.

    It refuses what Google refuses, in Google's words, and goes by the real time
    however the client's clock is set.
    """

    tolerance: ClassVar = 300.0

    def __init__(self) -> None:
        self.keys: dict[str, dict[str, rsa.RSAPublicKey]] = {}
        self._token_uri = ""

    @contextlib.contextmanager
    def serving(self) -> Iterator[Self]:
        """Serve, so that `new_key` returns keys that lead here."""
        with _serving(self._exchange, None) as url:
            self._token_uri = f"{url}/token"
            yield self

    def new_key(self, account: str = "robot@project.example") -> dict[str, str]:
        """Make a key for an account, and that if it is new; return the key's JSON."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        held = self.keys.setdefault(account, {})
        key_id = f"key-{len(held)}"
        held[key_id] = key.public_key()
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "project_id": "project",
            "private_key_id": key_id,
            "private_key": pem.decode(),
            "client_email": account,
            "token_uri": self._token_uri,
        }

    def _exchange(self, request: BaseHTTPRequestHandler) -> None:
        form = request.rfile.read(int(request.headers["Content-Length"])).decode()
        status, answer = 200, {"access_token": "granted", "expires_in": 3600}
        if refusal := self._refusal(parse_qs(form)["assertion"][0]):
            status, answer = 400, {"error": "invalid_grant"}
            answer["error_description"] = refusal
        _answer(request, status, json.dumps(answer), {})

    def _refusal(self, assertion: str) -> str:
        signed, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_decoded(part)) for part in signed.split("."))
        if claims["iss"] not in self.keys:
            return "Invalid grant: account not found"
        if abs(time.time() - claims["iat"]) > self.tolerance:
            return (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a "
                "reasonable timeframe. Check your iat and exp values in the JWT claim."
            )
        try:
            self.keys[claims["iss"]][header["kid"]].verify(
                _decoded(signature),
                signed.encode(),
                padding.PKCS1v15(),
                hashes.SHA256(),
            )
        except (KeyError, InvalidSignature):
            return "Invalid JWT Signature."
        return ""


def _decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(f"{part}===")


@contextlib.contextmanager
def _serving(
    answer: Callable[[BaseHTTPRequestHandler], None], tls: ssl.SSLContext | None
) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def _reply(self) -> None:
            answer(self)

        do_GET = do_HEAD = do_POST = _reply  # noqa: N815 - names of http.server

        def log_message(self, *_: object) -> None:
            """Stay silent."""

    with _Server((_HOST, 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http{'s' if tls else ''}://{_HOST}:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Stay silent: clients that hang up are what is tested."""


def _answer(
    request: BaseHTTPRequestHandler, status: int, body: str, headers: dict[str, str]
) -> None:
    request.send_response(status)
    for name, value in {"Content-Type": "text/html", **headers}.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(body.encode())
