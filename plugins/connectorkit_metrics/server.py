"""A server of metrics, for a host that has no other."""

from __future__ import annotations

import logging
import socketserver
import threading
from typing import TYPE_CHECKING, Any, Self
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from connectorkit.fork import renew_in_child
from connectorkit_metrics.app import metrics_app

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from connectorkit import ConnectorKit

__all__ = ["MetricsServer", "start_metrics_server"]

_log = logging.getLogger(__name__)
# For a peer that says nothing.
_PATIENCE = 10.0
# Between two looks whether to end.
_LOOK = 0.1


def start_metrics_server(  # noqa: PLR0913 - as metrics_app, and where
    port: int = 8080,
    addr: str = "127.0.0.1",
    *,
    kit: ConnectorKit | None = None,
    token: str | None = None,
    registry: CollectorRegistry | None = None,
    directory: str | None = None,
) -> MetricsServer:
    """Serve `/metrics`, and `/circuits` of a kit, from a thread of this process.

    Args:
        port: Where to listen; 0 for any port that is free.
        addr: For whom: "127.0.0.1" for this machine alone, "0.0.0.0" for a Prometheus
            elsewhere.
        kit: As for `metrics_app`.
        token: As for `metrics_app`; the server does not encrypt it.
        registry: As for `metrics_app`.
        directory: As for `metrics_app`.

    Raises:
        MissingExtra: prometheus_client is not installed.
        ValueError: The token is empty.
        OSError: The port is taken, or the address is none of this machine's.
    """
    app = metrics_app(kit, token=token, registry=registry, directory=directory)
    return MetricsServer(app, port, addr)


class MetricsServer:
    """A server that runs until it is closed; `with` closes it.

    A child that is forked does not serve: it starts a server of its own.

    Attributes:
        addr: For whom it listens.
        port: Where.
    """

    def __init__(self, app: Any, port: int, addr: str) -> None:
        self._server = _server(addr)((addr, port), _Handler)
        self._server.set_app(app)
        self.addr = addr
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            args=(_LOOK,),
            name="connectorkit-metrics",
            daemon=True,
        )
        self._thread.start()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Leave the port to the parent."""
        self._server.socket.close()

    @property
    def url(self) -> str:
        """Where its metrics are."""
        host = f"[{self.addr}]" if ":" in self.addr else self.addr
        return f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Serve no more."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<MetricsServer at {self.url}>"


class _Handler(WSGIRequestHandler):
    timeout = _PATIENCE

    def log_message(self, *_args: object) -> None:
        """Say nothing: a scrape comes every few seconds."""


class _Server(socketserver.ThreadingMixIn, WSGIServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        # Python's own asks the network for the name of this machine.
        socketserver.TCPServer.server_bind(self)
        host, self.server_port = self.server_address[:2]
        self.server_name = str(host)
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        _log.debug("A request from %s failed.", client_address, exc_info=True)


def _server(addr: str) -> type[_Server]:
    if ":" not in addr:
        return _Server
    import socket

    return type("_Server6", (_Server,), {"address_family": socket.AF_INET6})
