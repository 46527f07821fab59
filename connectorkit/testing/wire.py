"""HTTP/1.1 as bytes: the end of a connection, a head, a body."""

from __future__ import annotations

import asyncio
import socket
import struct
import sys
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = [
    "PIECE",
    "Body",
    "Head",
    "Malformed",
    "Peer",
    "chunk",
    "last_chunk",
    "read_head",
]

PIECE: Final = 1 << 18
_LINGER_NOT: Final = struct.pack("ii", 1, 0)
_FLUSH_SECONDS: Final = 0.001

# These speak of one connection, and the proxy has two.
_HOP_BY_HOP: Final = frozenset(
    {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"}
)


class Malformed(ValueError):
    """What arrived is no HTTP/1.1."""


class Peer(asyncio.StreamReaderProtocol):
    """One end of a connection: a stream of bytes each way, with bounded buffers.

    Attributes:
        reader: What arrives.
        gone: Set when the other end has nothing more to say, or the connection ended.
    """

    writer: asyncio.StreamWriter

    def __init__(self, connected: Callable[[Peer], object] = lambda _: None) -> None:
        self._event_loop = asyncio.get_running_loop()
        self.reader = asyncio.StreamReader(PIECE, self._event_loop)
        super().__init__(self.reader, loop=self._event_loop)
        self._connected = connected
        self.gone = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - for mypy
        self.writer = asyncio.StreamWriter(
            transport, self, self.reader, self._event_loop
        )
        # Else a body waits for the acknowledgement of its head; asyncio does so only
        # where the listener says that it is TCP, which create_server's does not.
        no_delay = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        transport.get_extra_info("socket").setsockopt(*no_delay)
        self._connected(self)

    def eof_received(self) -> bool:
        """Note that the other end has nothing more to say."""
        self.gone.set()
        return bool(super().eof_received())

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end."""
        self.gone.set()
        super().connection_lost(exc)

    @property
    def fileno(self) -> int:
        """The socket's descriptor; -1 once it is closed."""
        number: int = self.writer.get_extra_info("socket").fileno()
        return number

    async def send(self, data: bytes) -> None:
        """Send, at the pace of the other end; ConnectionError if it is gone."""
        self.writer.write(data)
        await self.writer.drain()

    async def flush(self) -> None:
        """Wait until the other end's machine has all that was sent."""
        self.writer.transport.set_write_buffer_limits(0)
        await self.writer.drain()
        # No event tells of it.
        while not self.writer.is_closing() and _unsent(self.fileno):  # noqa: ASYNC110
            await asyncio.sleep(_FLUSH_SECONDS)

    async def hang_up(self) -> None:
        """End the connection in order, once all that was written is sent."""
        self.writer.close()
        await self.writer.wait_closed()

    def reset(self) -> None:
        """End the connection with a reset."""
        if not self.writer.is_closing():
            linger = (socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
            self.writer.get_extra_info("socket").setsockopt(*linger)
        self.abort()

    def abort(self) -> None:
        """End the connection at once, whatever is unsent."""
        self.writer.transport.abort()


def _unsent(descriptor: int) -> int:
    """Tell how many bytes the system has not delivered yet, where it tells."""
    if sys.platform == "linux":
        import fcntl
        import termios

        answer = fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, sys.byteorder)
    return 0


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the headers of a request or an answer."""

    line: str
    fields: tuple[tuple[str, str], ...]

    @classmethod
    def answer(cls, status: int, fields: Iterable[tuple[str, str]]) -> Head:
        """Make that of an answer of the proxy's own."""
        known = status in set(HTTPStatus)
        phrase = HTTPStatus(status).phrase if known else "Unknown"
        return cls(f"HTTP/1.1 {status} {phrase}", tuple(fields))

    def get(self, name: str) -> str:
        """Return the values of a header, by lower-case name; empty if it is absent."""
        return ", ".join(v for k, v in self.fields if k.lower() == name)

    def has_token(self, name: str, token: str) -> bool:
        """Tell whether a header that lists tokens has one."""
        return token in {each.strip().lower() for each in self.get(name).split(",")}

    def length(self) -> int | None:
        """Return the Content-Length; Malformed if it is no number."""
        if not (text := self.get("content-length")):
            return None
        if not (text.isascii() and text.isdigit()):
            raise Malformed(f"Content-Length: {text}")
        return int(text)

    def without(self, *names: str) -> Head:
        """Leave headers out, by lower-case name."""
        kept = tuple(each for each in self.fields if each[0].lower() not in names)
        return Head(self.line, kept)

    def end_to_end(self, *further: tuple[str, str]) -> Head:
        """Replace what speaks of the connection."""
        return Head(self.line, (*self.without(*_HOP_BY_HOP).fields, *further))

    def encode(self) -> bytes:
        """Return it as it is sent."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.fields)]
        return "".join(f"{line}\r\n" for line in (*lines, "")).encode("latin-1")


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read a head; None if the connection ends before it begins.

    Raises:
        Malformed: It is none, or longer than a piece.
        asyncio.IncompleteReadError: The connection ends within it.
    """
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise
    except asyncio.LimitOverrunError as error:
        raise Malformed("a head without an end") from error
    line, *rest = raw.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    fields = []
    for each in rest:
        name, colon, value = each.partition(":")
        if not colon:
            raise Malformed(each)
        fields.append((name, value.strip()))
    return Head(line, tuple(fields))


class Body:
    """A body that is read piece by piece.

    Attributes:
        length: Its bytes; None if only its end tells.
        is_chunked: Whether it is sent in chunks.
        is_done: Whether all of it was read.
        trailers: What stood after the last chunk.
    """

    def __init__(
        self, reader: asyncio.StreamReader, length: int | None, *, is_chunked: bool
    ) -> None:
        self._reader = reader
        self.length = None if is_chunked else length
        self.is_chunked = is_chunked
        # Of the body or of the chunk.
        self._left = 0 if is_chunked else length
        self.is_done = self.length == 0
        self.trailers = b""

    @classmethod
    def of_request(cls, head: Head, reader: asyncio.StreamReader) -> Body:
        """Return the body that follows a request's head."""
        is_chunked = head.has_token("transfer-encoding", "chunked")
        return cls(reader, head.length() or 0, is_chunked=is_chunked)

    @classmethod
    def of_answer(
        cls, head: Head, reader: asyncio.StreamReader, *, status: int, method: str
    ) -> Body:
        """Return the body that follows an answer's head."""
        bodiless = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED}
        if method == "HEAD" or status in bodiless:
            return cls(reader, 0, is_chunked=False)
        is_chunked = head.has_token("transfer-encoding", "chunked")
        return cls(reader, head.length(), is_chunked=is_chunked)

    async def read(self, limit: int = PIECE) -> bytes:
        """Return its next bytes, `limit` at most; none at its end.

        Raises:
            asyncio.IncompleteReadError: The connection ends within it.
        """
        if self.is_chunked and not self._left and not self.is_done:
            await self._next_chunk()
        if self.is_done:
            return b""
        if self._left is None:
            data = await self._reader.read(limit)
            self.is_done = not data
            return data
        data = await self._reader.read(min(limit, self._left))
        if not data:
            raise asyncio.IncompleteReadError(b"", self._left)
        self._left -= len(data)
        if not self._left:
            if self.is_chunked:
                await self._reader.readexactly(2)
            else:
                self.is_done = True
        return data

    async def _next_chunk(self) -> None:
        line = await self._line()
        try:
            self._left = int(line.partition(b";")[0], 16)
        except ValueError:
            raise Malformed(f"a chunk of {line!r} bytes") from None
        if self._left:
            return
        while (line := await self._line()) != b"\r\n":
            self.trailers += line
        self.is_done = True

    async def _line(self) -> bytes:
        try:
            return await self._reader.readuntil(b"\r\n")
        except asyncio.LimitOverrunError as error:
            raise Malformed("a line without an end") from error


def chunk(data: bytes) -> bytes:
    """Return data as one chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(body: Body) -> bytes:
    """Return what ends a body that was sent in chunks."""
    return b"0\r\n" + body.trailers + b"\r\n"
