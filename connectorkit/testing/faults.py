"""What can befall a request.

    Fault
    ├── Status             an answer of the proxy's own; the server is not asked
    ├── ResetBeforeReply   a reset; the server is not asked
    ├── LoseReply          the server does it, and the client hears nothing
    ├── ResetMidBody       a reset within the answer's body
    ├── Truncate           an end in good order within the answer's body
    ├── Stall              silence, until it is released
    ├── Drip               the answer's body in small pieces
    ├── WholeForRange      the whole object in answer to a range
    └── ReplaceObject      something happens before the server is asked

A fault of one's own derives from `Fault` and plays with the `Relay`.
"""

from __future__ import annotations

import asyncio
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from typing import TYPE_CHECKING, Any, Literal

from connectorkit.testing import answers
from connectorkit.testing.operations import is_gcs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit.testing.exchange import Request
    from connectorkit.testing.relay import Relay

__all__ = [
    "Drip",
    "Fault",
    "LoseReply",
    "ReplaceObject",
    "ResetBeforeReply",
    "ResetMidBody",
    "Stall",
    "Status",
    "Truncate",
    "WholeForRange",
]


class Fault:
    """The base of all; by itself it does no harm."""

    __slots__ = ()

    def applies(self, request: Request) -> bool:
        """Tell whether it can befall a request; rules pass over those it cannot."""
        del request
        return True

    async def play(self, relay: Relay) -> None:
        """Do to a request what the fault does; runs in the proxy's event loop."""
        await relay.forward()

    def __repr__(self) -> str:
        # What was not chosen would hide what was.
        it: Any = self
        shown = [each for each in fields(it) if each.repr] if is_dataclass(it) else []
        chosen = [each for each in shown if getattr(it, each.name) != _default(each)]
        values = (f"{each.name}={getattr(it, each.name)!r}" for each in chosen)
        return f"{type(self).__name__}({', '.join(values)})"


@dataclass(frozen=True, slots=True, repr=False)
class Status(Fault):
    """An error in the service's own form; the server is not asked.

    The request's body is read first, so that the answer is not lost to a reset.

    Attributes:
        status: The HTTP status.
        code: S3's code (`SlowDown`, `ExpiredToken`) or GCS's reason (`backendError`);
            None for the usual one of the status.
        retry_after: The Retry-After header: seconds, or a text such as a date.
        message: For people.
        headers: Further headers of the answer.
        service: Whose form the body has; None to tell by the request's path.
    """

    status: int
    code: str | None = None
    retry_after: float | str | None = None
    message: str = "Injected by a test."
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    service: Literal["s3", "gcs"] | None = None

    async def play(self, relay: Relay) -> None:
        """Answer."""
        await relay.discard()
        service = self.service or ("gcs" if is_gcs(relay.request.path) else "s3")
        form = answers.gcs_error if service == "gcs" else answers.s3_error
        kind, body = form(relay.request, self.status, self.code, self.message)
        fields = {"Content-Type": kind}
        if self.retry_after is not None:
            fields["Retry-After"] = f"{self.retry_after}"
        await relay.reply(self.status, {**fields, **self.headers}.items(), body)


@dataclass(frozen=True, slots=True, repr=False)
class ResetBeforeReply(Fault):
    """The connection is reset without an answer; the server is not asked.

    Attributes:
        at: Bytes of the request's body to read before; None for all of it.
    """

    at: int | None = None

    def __post_init__(self) -> None:
        _check(self.at)

    async def play(self, relay: Relay) -> None:
        """Reset."""
        await relay.discard(float("inf") if self.at is None else self.at)
        await relay.reset()


@dataclass(frozen=True, slots=True, repr=False)
class LoseReply(Fault):
    """The server does all it is asked; then the connection is reset unanswered."""

    async def play(self, relay: Relay) -> None:
        """Ask, and reset."""
        answer = await relay.ask()
        while await answer.body.read():
            pass
        await relay.reset()


@dataclass(frozen=True, slots=True, repr=False)
class ResetMidBody(Fault):
    """The connection is reset within the answer's body.

    An answer without a body is not even begun.

    Attributes:
        at: Bytes that the client gets before, as an int, or a share of the body, as a
            float; never the whole. A share of a body of unknown length is none of it.
    """

    at: float = 0.5

    def __post_init__(self) -> None:
        _check(self.at)

    async def play(self, relay: Relay) -> None:
        """Send a part, and reset."""
        await relay.forward_part(await relay.ask(), self.at)
        await relay.reset()


@dataclass(frozen=True, slots=True, repr=False)
class Truncate(Fault):
    """The connection ends in good order, yet before the end of the answer's body.

    The client was told a Content-Length that it does not get, or gets no last chunk.
    An answer without a body is not even begun.

    Attributes:
        at: As of `ResetMidBody`.
    """

    at: float = 0.5

    def __post_init__(self) -> None:
        _check(self.at)

    async def play(self, relay: Relay) -> None:
        """Send a part, and hang up."""
        await relay.forward_part(await relay.ask(), self.at)
        await relay.hang_up()


@dataclass(frozen=True, slots=True, repr=False)
class Stall(Fault):
    """Nothing is sent until `FaultProxy.release`; then all goes on as if nothing were.

    Whose client leaves while it is stalled is not passed on.

    Attributes:
        at: As of `ResetMidBody`; None to stall before the server is asked.
    """

    at: float | None = None

    def __post_init__(self) -> None:
        _check(self.at)

    async def play(self, relay: Relay) -> None:
        """Send a part, wait, and send the rest."""
        if self.at is None:
            await relay.stall()
            await relay.forward()
            return
        answer = await relay.ask()
        await relay.forward_part(answer, self.at)
        await relay.stall()
        await relay.forward_rest(answer)


@dataclass(frozen=True, slots=True, repr=False)
class Drip(Fault):
    """The answer's body comes in small pieces, each on time, the whole never soon.

    Attributes:
        size: Bytes of a piece.
        interval: Seconds after each piece.
    """

    size: int = 1
    interval: float = 0.05

    def __post_init__(self) -> None:
        if self.size < 1 or not self.interval >= 0:
            raise ValueError(f"{self!r} is never done.")

    async def play(self, relay: Relay) -> None:
        """Send it piece by piece."""
        answer = await relay.ask()
        await relay.begin(answer)
        while piece := await answer.body.read(self.size):
            await relay.send(piece)
            await asyncio.sleep(self.interval)
        await relay.end(answer)


@dataclass(frozen=True, slots=True, repr=False)
class WholeForRange(Fault):
    """The whole object is the answer to a request for a range; befalls no other.

    Attributes:
        content: The object's bytes, or what returns them for the request: a server's
            answer to the range then gets status 200, these bytes and no Content-Range.
            None keeps the Range header from the server, which answers the whole by
            itself; one that checks signatures refuses, since S3's clients sign it.
    """

    content: bytes | Callable[[Request], bytes] | None = field(default=None, repr=False)

    def applies(self, request: Request) -> bool:
        """Tell whether it asks for a range."""
        return request.range is not None

    async def play(self, relay: Relay) -> None:
        """Ask with or without the range, and answer the whole."""
        if self.content is None:
            await relay.forward_rest(await relay.ask(without=["range"]))
            return
        answer = await relay.ask()
        if answer.status not in {200, 206}:
            await relay.forward_rest(answer)
            return
        while await answer.body.read():
            pass
        content = self.content
        if callable(content):
            content = await relay.call(content, relay.request)
        fields = answer.head.without("content-range").end_to_end().fields
        await relay.reply(200, fields, content)


@dataclass(frozen=True, slots=True, repr=False)
class ReplaceObject(Fault):
    """Something is done before the server is asked: another client writes, say.

    Attributes:
        replace: Called with the request, in a thread of its own; what it raises, the
            proxy raises when it closes. It has to talk to the server, not the proxy,
            or its own requests meet the rules, too.
    """

    replace: Callable[[Request], object]

    async def play(self, relay: Relay) -> None:
        """Call, and ask."""
        await relay.call(self.replace, relay.request)
        await relay.forward()


def _default(each: Field[Any]) -> object:
    return each.default if each.default_factory is MISSING else each.default_factory()


def _check(at: float | None) -> None:
    if at is None:
        return
    is_share = not isinstance(at, int)
    if not at >= 0 or (is_share and at > 1):
        raise ValueError(
            f"at={at!r}: an int counts bytes, a float is a share from 0.0 to 1.0."
        )
