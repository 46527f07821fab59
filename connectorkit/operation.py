"""Operations: what goes through a pipeline, and what a policy's flow may yield."""

from __future__ import annotations

import math
from copy import copy
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from connectorkit.errors import AttemptTimedOut, Refused
from connectorkit.faults import classify as refusal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectorkit.call import Call
    from connectorkit.errors import ConnectorKitError
    from connectorkit.faults import Verdict
    from connectorkit.scope import Scope

__all__ = ["Io", "Kind", "Operation", "Sleep"]


class Kind(StrEnum):
    """What an operation does to a storage."""

    READ = "read"
    WRITE = "write"
    LIST = "list"
    DELETE = "delete"


class Operation:
    """One logical request on a service; each attempt at it is one on the wire.

    Attributes:
        name: The service's own name: `get_object`, `upload_part`, …
        kind: What it does.
        scope: What the operations of one connector share.
        call: The call that it is a part of; None if it is one by itself.
        bucket: The bucket or root folder; empty if there is none.
        path: What it is about, the bucket included; for errors, never for labels.
        size: How many bytes it sends or asks for, as far as is known.
        is_repeatable: Whether to do it twice is as good as once. If not, it is tried
            again only when the service cannot have acted on it.
        started: When it began, in monotonic seconds.
        attempts: How many attempts were begun.
        bytes: How many bytes of bodies went over the wire and were of use.
        idle: Seconds for which it waited for whoever reads its body; no limit
            counts them.
        expires: When its time is up, by `now()`.
        until: When the attempt under way has to be over, by `now()`.
        kept: What policies keep with it, by policy.
        known: The error of an attempt that was made before any flow was started.
    """

    # Most operations change none of these: a class's attributes cost them nothing.
    attempts = 0
    bytes = 0
    idle = 0.0
    expires = math.inf
    until = math.inf
    _most = math.inf
    _slowest = math.inf
    _late: type[ConnectorKitError] = AttemptTimedOut
    known: Exception | None = None
    _origin: Operation | None = None
    _verdict: tuple[BaseException, Verdict] | None = None

    def __init__(  # noqa: PLR0913 - each is a fact of the request
        self,
        name: str,
        kind: Kind,
        scope: Scope,
        call: Call | None = None,
        *,
        bucket: str = "",
        path: str = "",
        size: int = 0,
        is_repeatable: bool = True,
    ) -> None:
        self.name = name
        self.kind = kind
        self.scope = scope
        self.call = call
        self.bucket = bucket
        self.path = path
        self.size = size
        self.is_repeatable = is_repeatable
        self.started = scope.clock()
        self.kept: dict[Any, Any] = {}

    @property
    def origin(self) -> Operation:
        """The operation as it was begun, of which `within` makes copies."""
        return self._origin or self

    def now(self) -> float:
        """Return monotonic seconds, less those for which it was idle."""
        return self.scope.clock() - self.origin.idle

    def left(self) -> float:
        """Return the seconds until its time is up; infinite without a limit."""
        return self.expires - self.now() if self.expires < math.inf else math.inf

    def within(
        self,
        seconds: float,
        late: type[ConnectorKitError] = AttemptTimedOut,
        slowest: float = math.inf,
    ) -> Operation:
        """Return it with a limit, for a policy to yield; an earlier limit stays.

        Args:
            seconds: The limit, from now on.
            late: What is raised when the time is up; takes a sentence.
            slowest: How many bytes a second there have to be: for each so many that
                it transfers there is a second more.
        """
        limited = copy(self)
        limited._origin = self.origin
        # Of the origin alone.
        limited.known = limited._verdict = None
        limited.tighten(self.now() + seconds, late, slowest)
        # The innermost comes last.
        limited._origin.until = limited.expires
        return limited

    def tighten(
        self,
        expires: float,
        late: type[ConnectorKitError] = AttemptTimedOut,
        slowest: float = math.inf,
    ) -> None:
        """Limit it, for a policy's `shortcut`; an earlier limit stays.

        Args:
            expires: When its time is up, by `now()`.
        until: When the attempt under way has to be over, by `now()`.
            late: As for `within`.
            slowest: As for `within`.
        """
        if self.size:
            expires += self.size / slowest
        if expires < self.expires:
            self._most = self.expires
            self.expires = expires
            self._late = late
            self._slowest = slowest

    def unlimited(self) -> None:
        """Take the limits off that shortcuts put on it."""
        self.expires = self._most = self._slowest = math.inf

    def expect(self, size: int) -> None:
        """Allow for a size that only the answer told."""
        more = (size - self.size) / self._slowest
        self.size = size
        if more > 0:
            self.origin.until = self.expires = min(self.expires + more, self._most)

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error of it means; asked for by several policies in turn."""
        origin = self.origin
        if origin._verdict is not None and origin._verdict[0] is error:
            return origin._verdict[1]
        # What a service said before has no part in a refusal.
        is_refused = isinstance(error, Refused)
        verdict = refusal(error) if is_refused else self.scope.classify(error)
        origin._verdict = error, verdict
        return verdict

    def forget(self) -> None:
        """Let go of the last error: it holds frames that hold this operation."""
        self._verdict = None

    def overrun(self) -> ConnectorKitError:
        """Return the error that says that its time is up."""
        return self._late(f"{self} did not end in the time that it was given.")

    def __str__(self) -> str:
        about = f" of {self.path!r}" if self.path else ""
        return f"Connector {self.scope.connector!r}: {self.name}{about}"

    def __repr__(self) -> str:
        return f"<Operation {self.name} {self.path!r} on {self.scope.connector!r}>"


@dataclass(frozen=True, slots=True)
class Sleep:
    """Yielded by a policy's flow to wait.

    Attributes:
        seconds: For how long.
    """

    seconds: float


@dataclass(frozen=True, slots=True)
class Io:
    """Yielded by a policy's flow to do I/O of its own without blocking a loop.

    Attributes:
        sync: Does it where nothing else waits.
        async_: Does it on an event loop.
    """

    sync: Callable[[], Any]
    async_: Callable[[], Awaitable[Any]]
