"""Reading an object: every range is the one that was asked for, of one version."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectorkit import Kind, ObjectChanged, WrongAnswer
from connectorkit.body import Answer, Body
from connectorkit_gcs.operations import Asked

if TYPE_CHECKING:
    from collections.abc import Mapping

    import aiohttp

    from connectorkit import Operation
    from connectorkit_gcs.wire import GCSWire

__all__ = ["Reading", "Span"]

_ANSWERED = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_PIECE = 1 << 20
# One that nobody forges.
_digest = hashlib.blake2b


@dataclass(frozen=True, slots=True)
class Span:
    """Which bytes of an object are asked for; all of them by default.

    Attributes:
        first: The first.
        last: The last; None for all from the first on.
        suffix: So many from the end, in place of both.
    """

    first: int = 0
    last: int | None = None
    suffix: int | None = None

    def __str__(self) -> str:
        if self.suffix is not None:
            return f"bytes=-{self.suffix}"
        return f"bytes={self.first}-{'' if self.last is None else self.last}"

    @property
    def size(self) -> int:
        """How many bytes it has at most, or 0 if nobody knows."""
        if self.suffix is not None:
            return self.suffix
        return 0 if self.last is None else self.last - self.first + 1

    def within(self, total: int) -> tuple[int, int]:
        """Return the first and the last byte of it in an object of so many bytes."""
        if self.suffix is not None:
            return max(0, total - self.suffix), total - 1
        last = total - 1
        return self.first, last if self.last is None else min(self.last, last)


class Reading:
    """The bytes of one object, in as many attempts as it takes.

    What is stored is what is read: an object that was stored compressed is not
    unpacked on the way, so that its bytes are as many as its size says.

    Args:
        fs: Sends the requests.
        path: The object, its bucket included.
        span: Which bytes; None for all.
        generation: Of which version; None for the one that is there.
        is_pinned: Whether that version was there a moment ago.
        headers: Further headers.
        params: Further parameters of the URL.
        options: Of gcsfs's headers.

    Attributes:
        size: How many bytes it gives; None before the first answer, and where the
            service does not say.
        total: How many bytes the object has, as far as the service says.
        generation: The version that it reads, if the service names one.
        headers: Those of the first answer.
    """

    def __init__(  # noqa: PLR0913 - each is a fact of what is read
        self,
        fs: GCSWire,
        path: str,
        span: Span | None = None,
        *,
        generation: str | None = None,
        is_pinned: bool = False,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        bucket, key, named = fs.split_path(path)
        self._fs = fs
        self._path = f"{bucket}/{key}"
        self._bucket = bucket
        self._url = fs.url(path, generation=None).partition("?")[0]
        self._span = span
        self._asked_generation = generation or named
        self._is_pinned = is_pinned
        self._headers = dict(headers or {})
        self._params = dict(params or {})
        self._options = dict(options or {})
        self._etag: str | None = None
        self._is_begun = False
        # Of what a server sent that names no version, and of that but the last piece.
        self._count, self._seen = 0, _digest()
        self._before = 0, _digest()
        self.size: int | None = None
        self.total: int | None = None
        self.generation: str | None = None
        self.headers: Mapping[str, str] = {}

    @property
    def first(self) -> int:
        """The place in the object where it begins."""
        return self._span.first if self._span else 0

    @property
    def is_vouched(self) -> bool:
        """Whether the service said which version it sent."""
        return self.generation is not None

    async def open(self) -> Body:
        """Begin to read; the body is whole, or an error.

        Raises:
            Exception: What the operation ends with.
        """
        fs = self._fs
        asked = Asked("objects.download", Kind.READ, self._bucket, self._path)
        op = fs.operation(asked, self._span.size if self._span else 0)
        body = Body(fs.pipeline, op, self.attempt)
        with fs.at_work():
            await body.open()
        fs.until_read(body)
        return body

    async def read(self) -> bytes:
        """Return all of it."""
        body = await self.open()
        try:
            return await body.read()
        finally:
            body.close()

    async def attempt(self, op: Operation, offset: int) -> Answer:
        """Ask for the bytes from an offset on.

        Raises:
            ObjectChanged: They would be another version's.
            WrongAnswer: They are not those that were asked for.
        """
        span = self._span
        is_named = bool(self.generation or self._etag)
        self._rewind(offset)
        if offset and is_named:
            last = span.last if span else None
            span = Span((span.first if span else 0) + offset, last)
        answer = await self._ask(op, span)
        try:
            size = self._take(op, answer, span)
            if offset and not is_named:
                await self._go_over(op, answer, offset)
                size = None if size is None else size - offset
        except BaseException:
            answer.close()
            raise
        return Answer(Source(answer, self), size)

    async def _ask(self, op: Operation, span: Span | None) -> aiohttp.ClientResponse:
        fs = self._fs
        await fs._tokens.ready()
        # Else the service would unpack it, or the client would.
        headers = {**self._headers, "Accept-Encoding": "gzip"}
        if span is not None:
            headers["Range"] = f"{span}"
        if self._etag and not self.generation:
            headers["If-Match"] = self._etag
        head = fs._get_headers(headers, **self._options)
        generation = self.generation or self._asked_generation
        params = {**self._params, "alt": "media", "generation": generation}
        answer = await fs.ask("GET", self._url, head, params, auto_decompress=False)
        if answer.status in {200, 206}:
            return answer
        try:
            contents = await answer.read()
            fs.accept(answer, contents, head, self._path)
        except (FileNotFoundError, FileExistsError) as error:
            if self._is_begun or self._is_pinned:
                raise _changed(op) from error
            raise
        finally:
            answer.close()
        raise WrongAnswer(f"{op}: the service answers by status {answer.status}.")

    def _take(
        self, op: Operation, answer: aiohttp.ClientResponse, span: Span | None
    ) -> int | None:
        """Return how many bytes an answer has, if they are those of `span`."""
        headers = answer.headers
        generation, etag = headers.get("x-goog-generation"), headers.get("ETag")
        # Some servers take no notice of what they are asked.
        if generation and self._asked_generation not in {None, generation}:
            raise _changed(op)
        if self._is_begun and (generation, etag) != (self.generation, self._etag):
            raise _changed(op)
        size, total = _size(op, headers, span)
        if not self._is_begun:
            self._is_begun = True
            self.headers, self.size, self.total = headers, size, total
            self.generation, self._etag = generation, etag
            if span and span.suffix is not None and total is not None:
                first, last = span.within(total)
                self._span = Span(first, last)
        elif total is not None and self.total not in {None, total}:
            raise _changed(op)
        return size

    def took(self, piece: bytes) -> None:
        """Take note of bytes, if nothing else tells this version from another."""
        if not (self.generation or self._etag):
            self._before = self._count, self._seen.copy()
            self._seen.update(piece)
            self._count += len(piece)

    def _rewind(self, offset: int) -> None:
        """Take note that the last piece did not count, or that none does."""
        if not offset:
            self._count, self._seen = 0, _digest()
        elif offset == self._before[0]:
            self._count, self._seen = self._before

    async def _go_over(
        self, op: Operation, answer: aiohttp.ClientResponse, offset: int
    ) -> None:
        """Read once more what was read, and see that it is the same.

        A server that names no version is read from the beginning again.
        """
        again, left = _digest(), offset
        while left and (piece := await answer.content.read(min(left, _PIECE))):
            again.update(piece)
            left -= len(piece)
        if self._count != offset or again.digest() != self._seen.digest():
            raise _changed(op)


class Source:
    """The body of one answer."""

    def __init__(self, answer: aiohttp.ClientResponse, reading: Reading) -> None:
        self._answer = answer
        self._reading = reading

    async def read(self, amount: int, /) -> bytes:
        """Read at most so many bytes; none at its end."""
        piece = await self._answer.content.read(amount)
        self._reading.took(piece)
        return piece

    def close(self) -> None:
        """Drop it, with its connection if there is more to come."""
        self._answer.close()


def _size(
    op: Operation, headers: Mapping[str, str], span: Span | None
) -> tuple[int | None, int | None]:
    """Return how many bytes come, and how many the object has.

    Raises:
        WrongAnswer: They are not those of `span`, or not as they are stored.
    """
    coded = headers.get("Content-Encoding", "identity").lower()
    stored = headers.get("x-goog-stored-content-encoding", "identity").lower()
    if coded != stored:
        raise WrongAnswer(
            f"{op}: the object is stored as {stored}, and the service sends {coded}."
        )
    length = headers.get("Content-Length") or headers.get(
        "x-goog-stored-content-length" if span is None else ""
    )
    size = int(length) if length else None
    told = headers.get("Content-Range")
    if span is None:
        if told and told != f"bytes 0-{(size or 0) - 1}/{size}":
            raise WrongAnswer(f"{op}: the service sends a part of the object for all.")
        return size, size
    where = _ANSWERED.fullmatch(told or "")
    if where is None:
        raise WrongAnswer(
            f"{op}: the service answers {span} without saying which bytes it sends; "
            "they may be the whole object."
        )
    first, last, total = map(int, where.groups())
    count = max(0, last - first + 1)
    if (first, last) != span.within(total) or size not in {None, count}:
        raise WrongAnswer(f"{op}: the service answers {span} with {told}, {size} long.")
    return count, total


def _changed(op: Operation) -> ObjectChanged:
    return ObjectChanged(
        f"{op}: somebody replaced the object while it was read: read it again."
    )
