"""moto's server, in less time: `python moto_server.py HOST PORT`.

Its own looks its 180 modules up on disk for each request, and prints a line about it.
Beneath it werkzeug closes each connection, of which the client has to make another, and
listens for ten milliseconds before to what the client might still say.
"""

from __future__ import annotations

import functools
import io
import sys
import traceback
from typing import Any

from moto import backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import run_simple

__all__ = ["Handler"]

_NO_BODY = {204, 304}


class Handler(MotoRequestHandler):
    """Keeps connections alive, as S3 does."""

    protocol_version = "HTTP/1.1"
    # An answer leaves at once, and in one piece.
    disable_nagle_algorithm = True
    wbufsize = -1

    def handle_expect_100(self) -> bool:
        """Let the client send its body."""
        super().handle_expect_100()
        self.wfile.flush()
        return True

    def run_wsgi(self) -> None:
        """Read a request to its end, where the next one begins, and answer it."""
        self.environ = environ = self.make_environ()
        is_chunked = "wsgi.input_terminated" in environ
        size = -1 if is_chunked else int(self.headers.get("Content-Length", 0))
        body = environ["wsgi.input"].read(size)
        environ |= {"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))}
        try:
            answer: Any = self.server.app(environ, self._begin)
            content = b"".join(answer)
            answer.close()
        except Exception:  # noqa: BLE001 - moto's own: of a signature that is none, say
            traceback.print_exc()
            self._begin("500 Internal Server Error", [])
            content = b""
        self._send(content)

    def _begin(
        self, status: str, headers: list[tuple[str, str]], exc_info: Any = None
    ) -> Any:
        del exc_info
        self._status, self._headers = status, headers

    def _send(self, content: bytes) -> None:
        code, _, phrase = self._status.partition(" ")
        self.send_response(int(code), phrase)
        names = set()
        for name, value in self._headers:
            self.send_header(name, value)
            names.add(name.lower())
        has_body = self.command != "HEAD" and int(code) not in _NO_BODY
        if has_body and "content-length" not in names:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if has_body:
            self.wfile.write(content)

    def log_request(self, *_about: object) -> None:
        """Print nothing."""


if __name__ == "__main__":
    names = {*backends.list_of_moto_modules()}
    backends.list_of_moto_modules = functools.cache(lambda: names)
    host, port = sys.argv[1:]
    app = DomainDispatcherApplication(create_backend_app)
    run_simple(host, int(port), app, threaded=True, request_handler=Handler)
