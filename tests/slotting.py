"""What the tests of slots share: limiters that end, a relay that loses, a look inside.

A relay stands between a client and Redis. It does what the network may do, and what no
server can be told to do: a reply is lost after the server has done what was asked.
"""

from __future__ import annotations

import socket
import threading
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self
from uuid import uuid4

from redis import Redis

from connectorkit_slots import SlotLimiter
from connectorkit_slots.heartbeat import HEARTBEATS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RedisServer

__all__ = ["Bench", "Relay", "beat", "benches"]


class Bench:
    """A Redis, with a namespace of a test's own.

    Attributes:
        namespace: The namespace.
        redis: A client that decodes, to look at what there is.
    """

    def __init__(self, server: RedisServer) -> None:
        self.server = server
        self.namespace = f"test-{uuid4()}"
        self._closing = ExitStack()
        self.redis: Any = self._closing.enter_context(
            Redis.from_url(server.endpoint_url, decode_responses=True, protocol=2)
        )

    def limiter(self, url: str = "", **options: Any) -> SlotLimiter:
        """Return a limiter in the namespace; it ends with the test."""
        options = {"namespace": self.namespace, "budget": 5.0, **options}
        limiter = SlotLimiter.from_url(
            url or self.server.endpoint_url,
            cluster=self.server.is_cluster,
            **options,
        )
        return self._closing.enter_context(limiter)

    @property
    def prefix(self) -> str:
        """What the namespace's keys begin with."""
        return f"connectorkit:{{{self.namespace}}}:"

    def keys(self) -> set[str]:
        """Return the names of the namespace's keys, without what all begin with."""
        found = self.redis.keys(f"{self.prefix}*")
        return {key.removeprefix(self.prefix) for key in found}

    def forget(self) -> None:
        """Delete all that Redis knows of the namespace."""
        self.redis.delete(*self.redis.keys(f"{self.prefix}*"))

    def members(self, scope: str) -> list[str]:
        """Return who is in a scope's set, lapsed or not."""
        members: list[str] = self.redis.zrange(self.prefix + scope, 0, -1)
        return members

    def close(self) -> None:
        """End the limiters."""
        self._closing.close()


class Relay:
    """A way to a server, which can lose what the server answers.

    Attributes:
        is_losing: Whether replies are lost, and their connections with them.
        is_refusing: Whether nobody gets through.
        lost: How many replies were.
    """

    def __init__(self, server: RedisServer) -> None:
        self._target = ("127.0.0.1", server.port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: set[socket.socket] = set()
        self.is_losing = self.is_refusing = False
        self.lost = 0
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Its address for clients."""
        return f"redis://127.0.0.1:{self._listener.getsockname()[1]}"

    def break_off(self) -> None:
        """Cut all connections."""
        for each in [*self._open]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.is_refusing:
                client.close()
                continue
            server = socket.create_connection(self._target)
            self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(
                    target=self._pump, args=(source, sink, sink is client), daemon=True
                ).start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_reply: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_reply and self.is_losing:
                    self.lost += 1
                    break
                sink.sendall(data)
        for each in (source, sink):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._listener.close()
        self.break_off()


def beat() -> None:
    """Do what the threads that renew would do now."""
    for heartbeat in [*HEARTBEATS.values()]:
        heartbeat.beat()


def benches(server: RedisServer) -> Iterator[Bench]:
    """Yield a bench that ends with the test."""
    bench = Bench(server)
    yield bench
    bench.close()
