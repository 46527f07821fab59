"""What the proxy saw: a request, what became of it, and the log of all."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from connectorkit.testing.operations import operation_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from connectorkit.testing.faults import Fault

__all__ = ["Entry", "Exchange", "Log", "Request"]

_OF_INTEREST = re.compile(
    r"range|if-.+|x-amz-.+|x-goog-.+|x-upload-.+|content-.+|transfer-encoding|expect"
)
# A log is printed where a test fails, and kept where all can read it.
_SECRET = re.compile(
    r".*(signature|credential|security-token|customer-key|copy-source-server-side).*"
    r"|access_token",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request, as it arrived.

    Attributes:
        number: The how-manieth it is, from 1.
        connection: The how-manieth connection of a client it came by, from 1.
        method: GET, PUT, and so on.
        path: Decoded: `/bucket/key` at S3.
        query: Decoded, by name; signatures and tokens are left out.
        headers: Those that say what is asked, by lower-case name: `range`, `if-match`,
            `x-amz-…` and alike; no credentials.
        operation: What it asks for, by the service's own name: `get_object`,
            `upload_part`, `list_objects_v2` …, or `other`.
    """

    number: int
    connection: int
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    operation: str

    @property
    def range(self) -> str | None:
        """The Range header, or None."""
        return self.headers.get("range")

    @classmethod
    def of(
        cls,
        method: str,
        target: str,
        headers: Iterable[tuple[str, str]],
        *,
        number: int,
        connection: int,
    ) -> Request:
        """Read one from its first line and its headers."""
        # Not urlsplit, to which a path that begins with two slashes names a host.
        path, _, text = target.partition("?")
        query = dict(parse_qsl(text, keep_blank_values=True))
        by_name = {name.lower(): value for name, value in headers}
        return cls(
            number=number,
            connection=connection,
            method=method,
            path=unquote(path),
            query={k: v for k, v in query.items() if not _SECRET.fullmatch(k)},
            headers={
                name: value
                for name, value in by_name.items()
                if _OF_INTEREST.fullmatch(name) and not _SECRET.fullmatch(name)
            },
            operation=operation_of(method, path, query, by_name),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange(Request):
    """A request and what became of it, so far.

    Attributes:
        fault: What was done to it, or None.
        status: What the client was answered, or None: nothing.
        server_status: What the server answered, or None: it was not asked, or silent.
        received: Bytes of the request's body that the client sent.
        sent: Bytes of the answer's body that the client was sent.
        begin: When it arrived, in seconds of `time.monotonic()`.
        end: When the last byte went out or the connection was ended; None before.
    """

    fault: Fault | None
    status: int | None
    server_status: int | None
    received: int
    sent: int
    begin: float
    end: float | None

    def __str__(self) -> str:
        asked = " ".join(filter(None, [self.method, self.path, self.range]))
        became = f"{self.status or 'no answer'}, {self.sent} bytes"
        fault = f", {self.fault!r}" if self.fault is not None else ""
        return f"#{self.number} {self.operation}: {asked} -> {became}{fault}"


_ASKED = tuple(each.name for each in fields(Request))


@dataclass(slots=True, eq=False)
class Entry:
    """An exchange that is under way, written by the proxy's thread alone.

    Each fact is noted before the bytes that tell the client go out. So who has an
    answer finds all of it in the log.
    """

    request: Request
    fault: Fault | None = None
    status: int | None = None
    server_status: int | None = None
    received: int = 0
    sent: int = 0
    begin: float = field(default_factory=time.monotonic)
    end: float | None = None

    def close(self) -> None:
        """Note the end; the first one counts."""
        if self.end is None:
            self.end = time.monotonic()

    def exchange(self) -> Exchange:
        """Return what is known by now."""
        asked = {name: getattr(self.request, name) for name in _ASKED}
        return Exchange(
            **asked,
            fault=self.fault,
            status=self.status,
            server_status=self.server_status,
            received=self.received,
            sent=self.sent,
            begin=self.begin,
            end=self.end,
        )


class Log:
    """Every exchange since the start or the last `clear`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._count = 0

    def next_number(self) -> int:
        """Count a request; return its number."""
        with self._lock:
            self._count += 1
            return self._count

    def add(self, request: Request) -> Entry:
        """Note that a request arrived."""
        entry = Entry(request)
        with self._lock:
            self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget all; numbers go on."""
        with self._lock:
            self._entries.clear()

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def exchanges(self) -> list[Exchange]:
        """Return all of them, in order of arrival."""
        with self._lock:
            return [entry.exchange() for entry in self._entries]
