"""One request on its way to the server, and the answer on its way back."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from connectorkit.testing.wire import (
    PIECE,
    Body,
    Head,
    Malformed,
    Peer,
    chunk,
    last_chunk,
    read_head,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from connectorkit.testing.exchange import Entry
    from connectorkit.testing.stalls import Stalls

__all__ = ["Answer", "CallFailed", "Relay", "Upstream"]

_T = TypeVar("_T")


class CallFailed(Exception):
    """A function of the test's own raised `error`."""

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server answered: a head that was read, and a body to be read."""

    status: int
    head: Head
    body: Body

    @property
    def is_kept_alive(self) -> bool:
        """Whether the server takes another request by this connection."""
        is_first_version = self.head.line.startswith("HTTP/1.0")
        is_closing = is_first_version or self.head.has_token("connection", "close")
        return self.body.is_done and not is_closing


class Upstream:
    """The connection to the server that belongs to one of a client."""

    def __init__(self, open_: Callable[[], Awaitable[Peer]]) -> None:
        self._open = open_
        self._peer: Peer | None = None

    async def connect(self) -> Peer:
        """Return the connection, a new one unless it is still good.

        Raises:
            ConnectionError: The server does not listen.
        """
        if self._peer is None or self._peer.gone.is_set():
            self.drop()
            self._peer = await self._open()
        return self._peer

    def drop(self) -> None:
        """End the connection, if there is one."""
        if self._peer is not None:
            self._peer.abort()
            self._peer = None


class Relay:
    """One request on its way: what a fault plays with.

    A fault that wants the server to be asked calls `ask`, and then `begin`, `send` and
    `end` to pass the answer on; one that does not calls `discard`, and then `reply`,
    `hang_up` or `reset`. What may block, or is a test's own, goes through `call`.

    Attributes:
        request: What the client asks.
        is_over: Whether the client's connection ends with this exchange.
    """

    def __init__(
        self,
        head: Head,
        entry: Entry,
        *,
        client: Peer,
        upstream: Upstream,
        stalls: Stalls,
    ) -> None:
        self.request = entry.request
        is_first_version = head.line.endswith("HTTP/1.0")
        self.is_over = is_first_version or head.has_token("connection", "close")
        self._head = head
        self._body = Body.of_request(head, client.reader)
        self._client = client
        self._upstream = upstream
        self._entry = entry
        self._stalls = stalls
        self._upload: asyncio.Task[None] | None = None
        self._answer: Answer | None = None

    # The request

    async def ask(self, *, without: Iterable[str] = ()) -> Answer:
        """Pass the request on, and return the answer once its head is there.

        Args:
            without: The headers to keep from the server, by lower-case name.

        Raises:
            ConnectionError: The server does not listen, or resets the connection.
            asyncio.IncompleteReadError: It hangs up without an answer.
        """
        server = await self._upstream.connect()
        coding = [("Transfer-Encoding", "chunked")] if self._body.is_chunked else []
        head = self._head.without(*without).end_to_end(*coding)
        server.writer.write(head.encode())
        # Beside the answer, which may come before the whole body was sent.
        self._upload = asyncio.create_task(self._pass_on(server))
        while True:
            head, status = await _read_answer(server.reader)
            if status >= HTTPStatus.OK:
                break
            await self._client.send(head.encode())
        body = Body.of_answer(
            head, server.reader, status=status, method=self.request.method
        )
        self._entry.server_status = status
        self._answer = Answer(status, head, body)
        return self._answer

    async def _pass_on(self, server: Peer) -> None:
        try:
            await server.writer.drain()
            while piece := await self._body.read():
                self._entry.received += len(piece)
                await server.send(chunk(piece) if self._body.is_chunked else piece)
            if self._body.is_chunked:
                await server.send(last_chunk(self._body))
        except (OSError, asyncio.IncompleteReadError, Malformed):
            # Who waits for the server's answer would wait forever.
            server.abort()

    async def discard(self, limit: float = float("inf")) -> None:
        """Read the request's body, and keep it from the server.

        Args:
            limit: Bytes to read at most.
        """
        if not self._body.is_done and self._head.has_token("expect", "100-continue"):
            await self._client.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        left = limit
        while left and (piece := await self._body.read(int(min(left, PIECE)))):
            self._entry.received += len(piece)
            left -= len(piece)

    # The answer

    async def forward(self) -> None:
        """Pass the request on and its answer back: what happens without a fault."""
        await self.forward_rest(await self.ask())

    async def forward_part(self, answer: Answer, at: float) -> None:
        """Begin the answer and send a part of its body, never the whole.

        An answer without a body is withheld.

        Args:
            answer: What the server said.
            at: Bytes as an int, a share of the body as a float; a share of a body of
                unknown length is none of it.
        """
        if answer.body.is_done:
            return
        await self.begin(answer)
        left = _part(at, answer.body.length)
        while left and (piece := await answer.body.read(min(left, PIECE))):
            await self.send(piece)
            left -= len(piece)

    async def forward_rest(self, answer: Answer) -> None:
        """Send what is left of an answer, its head included."""
        if self._entry.status is None:
            await self.begin(answer)
        while piece := await answer.body.read():
            await self.send(piece)
        await self.end(answer)

    async def begin(self, answer: Answer) -> None:
        """Send an answer's head."""
        has_no_end = answer.body.length is None and not answer.body.is_chunked
        # What is left of the request would be taken for the next one.
        self.is_over |= has_no_end or not self._body.is_done
        fields = []
        if answer.body.is_chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        if self.is_over:
            fields.append(("Connection", "close"))
        self._entry.status = answer.status
        if answer.body.is_done:
            self._entry.close()
        await self._client.send(answer.head.end_to_end(*fields).encode())

    async def send(self, piece: bytes) -> None:
        """Send a piece of an answer's body."""
        assert self._answer is not None  # noqa: S101 - for mypy
        self._entry.sent += len(piece)
        if self._answer.body.is_done:
            self._entry.close()
        await self._client.send(chunk(piece) if self._answer.body.is_chunked else piece)

    async def end(self, answer: Answer) -> None:
        """Say that the answer's body is complete."""
        self._entry.close()
        if answer.body.is_chunked:
            await self._client.send(last_chunk(answer.body))

    async def reply(
        self, status: int, fields: Iterable[tuple[str, str]], body: bytes
    ) -> None:
        """Send an answer of the proxy's own; its body stays away from a HEAD."""
        further = [("Content-Length", str(len(body)))]
        if self.is_over:
            further.append(("Connection", "close"))
        head = Head.answer(status, fields).without("content-length")
        content = b"" if self.request.method == "HEAD" else body
        self._entry.status = status
        self._entry.sent += len(content)
        self._entry.close()
        await self._client.send(head.end_to_end(*further).encode() + content)

    async def call(self, function: Callable[..., _T], *args: object) -> _T:
        """Call a function of the test's own in a thread, and return what it returns.

        Raises:
            CallFailed: It raised; the connection is reset, and the proxy raises its
                error when it closes.
        """
        try:
            return await asyncio.to_thread(function, *args)
        except Exception as error:
            raise CallFailed(error) from error

    # The end

    async def stall(self) -> None:
        """Wait until `FaultProxy.release`; ConnectionError if the client leaves."""
        await self._stalls.wait(self._client)

    async def hang_up(self) -> None:
        """End the client's connection in order, once it has all that was sent."""
        await self._client.flush()
        self._entry.close()
        self.is_over = True
        await self._client.hang_up()

    async def reset(self) -> None:
        """Reset the client's connection, once it has all that was sent."""
        await self._client.flush()
        self._entry.close()
        self.is_over = True
        self._client.reset()

    async def finish(self) -> None:
        """Read what is left of the request, if it was answered early.

        To close the connection over unread bytes would reset it, and the client might
        lose the answer.
        """
        await self._end_upload()
        if not self._body.is_done and not self._client.writer.is_closing():
            self._client.writer.write_eof()
            while await self._body.read():
                pass

    async def settle(self) -> None:
        """Keep the connection to the server for the next request, or end it."""
        await self._end_upload()
        is_kept_alive = self._answer is not None and self._answer.is_kept_alive
        if self._upload is not None and not is_kept_alive:
            self._upstream.drop()

    async def _end_upload(self) -> None:
        if self._upload is None:
            return
        if not self._upload.done():
            # The server has not taken all of it, and would take more for a request.
            self._upstream.drop()
        self._upload.cancel()
        await asyncio.gather(self._upload, return_exceptions=True)


async def _read_answer(reader: asyncio.StreamReader) -> tuple[Head, int]:
    head = await read_head(reader)
    if head is None:
        raise asyncio.IncompleteReadError(b"", None)
    version, _, rest = head.line.partition(" ")
    status = rest[:3]
    if not (version.startswith("HTTP/1.") and status.isascii() and status.isdigit()):
        raise Malformed(head.line)
    return head, int(status)


def _part(at: float, length: int | None) -> int:
    if length is None:
        return at if isinstance(at, int) else 0
    part = at if isinstance(at, int) else int(at * length)
    return min(part, length - 1)
