"""Calls: one public method of a filesystem, with all the operations that it makes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token
    from types import TracebackType

    from connectorkit.scope import Scope

__all__ = ["Call", "current", "joined"]

_current: ContextVar[Call | None] = ContextVar("connectorkit_call", default=None)


class Call:
    """One call; for a `with`, within which operations belong to it.

    It crosses fsspec's thread hop and `gather`: all the parts of a big read, however
    parallel, have its deadline and ride on its half-open permit. A call within a call
    of the same connector is a part of it.

    Attributes:
        scope: What the operations of one connector share.
        started: When it began, in monotonic seconds.
        shared: What policies keep for its parallel parts, by the policy's choice of
            key.
        is_over: Whether it has ended; a task that it left behind begins calls anew.
        is_read: Whether it is no more than one read of an open file: what is read
            ahead for the next one is no part of it.
    """

    __slots__ = ("_ends", "_token", "is_over", "is_read", "scope", "shared", "started")

    def __init__(self, scope: Scope, *, is_read: bool = False) -> None:
        self.scope = scope
        self.is_read = is_read
        self.started = scope.clock()
        self.shared: dict[Any, Any] = {}
        self.is_over = False
        self._ends: list[Callable[[], None]] = []
        self._token: Token[Call | None] | None = None

    def at_end(self, end: Callable[[], None]) -> None:
        """Have a function called when the call ends; at once if it has.

        It may be called in any thread, even by the collector of garbage: it has to be
        quick, wait for no lock and raise nothing.
        """
        self._ends.append(end)
        if self.is_over:
            self._end()

    def _end(self) -> None:
        while self._ends:
            try:
                end = self._ends.pop()
            except IndexError:
                # Another thread took the last one.
                return
            end()

    def __enter__(self) -> Self:
        self._token = _current.set(self)
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self.is_over = True
        if self._token is not None:
            try:  # noqa: SIM105 - every call passes here, and this costs nothing
                _current.reset(self._token)
            except ValueError:
                # A generator may be closed in another context than it began in. What
                # is over is nobody's call there.
                pass
            self._token = None
        if self._ends:
            self._end()


def current(scope: Scope) -> Call | None:
    """Return the call under way on this connector, or None."""
    call = _current.get()
    return (
        call if call is not None and call.scope is scope and not call.is_over else None
    )


def joined(scope: Scope, *, is_read: bool = False) -> AbstractContextManager[object]:
    """Return a context that is a part of the call under way, or begins one."""
    under_way = current(scope) is not None
    return nullcontext() if under_way else Call(scope, is_read=is_read)
