"""The proxy's thread: it listens, accepts, and plays one request after the other."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from connectorkit.fork import renew_in_child
from connectorkit.testing.exchange import Request
from connectorkit.testing.faults import Fault
from connectorkit.testing.relay import CallFailed, Relay, Upstream
from connectorkit.testing.wire import Malformed, Peer, read_head

if TYPE_CHECKING:
    from connectorkit.testing.exchange import Log
    from connectorkit.testing.rules import Rules
    from connectorkit.testing.stalls import Stalls
    from connectorkit.testing.wire import Head

__all__ = ["Server"]

_HOST: Final = "127.0.0.1"
_BACKLOG: Final = 1024
_NOTHING: Final = Fault()


class Server:
    """Listens on a free port of this machine, in a thread with an event loop.

    Attributes:
        port: Where.
        connections: How many were accepted.
        failures: What a test's own functions raised.
    """

    def __init__(
        self, target: tuple[str, int], log: Log, rules: Rules, stalls: Stalls
    ) -> None:
        self._target = target
        self._log = log
        self._rules = rules
        self._stalls = stalls
        self._peers: WeakSet[Peer] = WeakSet()
        self._tasks: set[asyncio.Task[None]] = set()
        self._owner = os.getpid()
        self._ready = threading.Event()
        self.connections = 0
        self.failures: list[Exception] = []
        self._listener = socket.create_server((_HOST, 0), backlog=_BACKLOG)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._run()), name="FaultProxy", daemon=True
        )
        self._thread.start()
        self._ready.wait()
        renew_in_child(self)

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._closing = asyncio.Event()
        server = await self._loop.create_server(
            lambda: Peer(self._accept), sock=self._listener
        )
        self._ready.set()
        await self._closing.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # What was aborted is closed by the loop in its next round.
        await asyncio.sleep(0)

    def close(self) -> None:
        """End all connections and the thread; a forked child ends nothing."""
        if os.getpid() != self._owner or not self._thread.is_alive():
            return
        self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join()

    def after_fork(self) -> None:
        """Let go, in a child, of the parent's connections: held twice, none ends."""
        descriptors = [self._listener.fileno(), *(peer.fileno for peer in self._peers)]
        nothing = os.open(os.devnull, os.O_RDWR)
        for each in descriptors:
            if each >= 0:
                # Not closed, since its number belongs to an object that will do so.
                os.dup2(nothing, each, inheritable=False)
        os.close(nothing)

    # Connections

    def _accept(self, client: Peer) -> None:
        self.connections += 1
        self._peers.add(client)
        task = self._loop.create_task(self._serve(client, self.connections))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open(self) -> Peer:
        try:
            _, peer = await self._loop.create_connection(Peer, *self._target)
        except OSError as error:
            raise ConnectionError(f"no server at {self._target}") from error
        self._peers.add(peer)
        return peer

    async def _serve(self, client: Peer, connection: int) -> None:
        upstream = Upstream(self._open)
        try:
            while await self._exchange(client, upstream, connection):
                pass
            await client.hang_up()
        except asyncio.IncompleteReadError:
            with suppress(OSError):
                await client.hang_up()
        except (OSError, Malformed):
            client.reset()
        except CallFailed as failed:
            self.failures.append(failed.error)
            client.reset()
        except Exception as error:  # noqa: BLE001 - raised when the proxy closes
            self.failures.append(error)
            client.reset()
        finally:
            client.abort()
            upstream.drop()

    def _pick(self, request: Request) -> Fault | None:
        try:
            return self._rules.pick(request)
        except Exception as error:
            raise CallFailed(error) from error

    async def _exchange(
        self, client: Peer, upstream: Upstream, connection: int
    ) -> bool:
        """Play one request; return whether the connection can take another."""
        head = await read_head(client.reader)
        if head is None:
            return False
        request = _request(head, self._log.next_number(), connection)
        entry = self._log.add(request)
        try:
            entry.fault = self._pick(request)
            relay = Relay(
                head, entry, client=client, upstream=upstream, stalls=self._stalls
            )
            try:
                await (entry.fault or _NOTHING).play(relay)
                await relay.finish()
            finally:
                await relay.settle()
        finally:
            entry.close()
        return not relay.is_over


def _request(head: Head, number: int, connection: int) -> Request:
    try:
        method, target, version = head.line.split(" ")
    except ValueError:
        raise Malformed(head.line) from None
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise Malformed(head.line)
    return Request.of(method, target, head.fields, number=number, connection=connection)
