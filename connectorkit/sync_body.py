"""Bodies for threads: what is read lazily belongs to the attempt that began it.

There is one course of a body, `connectorkit.body.Body`. Here it never waits for an
event loop, so each of its coroutines runs to its end in the thread that reads.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from connectorkit.body import Answer, Body
from connectorkit.operation import Sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from connectorkit.operation import Operation
    from connectorkit.pipeline import Pipeline

__all__ = ["SyncAnswer", "SyncBody", "SyncSource"]

T = TypeVar("T")


class SyncSource(Protocol):
    """The body of one answer, as a client gives it."""

    def read(self, amount: int, /) -> bytes:
        """Read at most so many bytes; none at its end."""

    def close(self) -> None:
        """Drop it, with its connection if there is more to come."""


@dataclass(slots=True)
class SyncAnswer:
    """What an attempt was answered.

    Attributes:
        source: The body.
        size: How many bytes it has; None if the service does not say.
    """

    source: SyncSource
    size: int | None


class SyncBody:
    """The bytes of an operation, however many attempts they take; for one thread.

    Args:
        pipeline: Whose policies wrap the operation.
        op: The operation.
        attempt: Asks for the bytes from an offset on, and makes sure that they are of
            the same object as before. It ends, as does a read of what it returns, when
            the time of the operation that it gets is up, as well as its client can.
        ended: Told when nothing more comes of it, whatever the reason.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        op: Operation,
        attempt: Callable[[Operation, int], SyncAnswer],
        ended: Callable[[], object] = lambda: None,
    ) -> None:
        self._name = str(op)
        self._body = _UnwaitingBody(pipeline, op, attempt, ended)

    @property
    def closed(self) -> bool:
        """Whether it was read to its end, or closed."""
        return self._body.closed

    def open(self) -> None:
        """Make the first attempt, up to where its body begins.

        Raises:
            Exception: What the operation ends with.
        """
        _finished(self._body.open())

    def read(self, amount: int | None = -1) -> bytes:
        """Read so many bytes, fewer only at the end, or all that are left.

        Raises:
            Exception: What the operation ends with.
            OSError: It has ended with an error before.
            ValueError: It was closed before its end.
        """
        if self._body.is_dropped:
            # None at all would be taken for its end.
            raise ValueError(f"{self._name}: its body was closed before its end.")
        return _finished(self._body.read(amount))

    def close(self) -> None:
        """Drop it; if it was not read to its end, that says nothing of the service."""
        self._body.close()


@dataclass(slots=True)
class _Unwaiting:
    """A source whose coroutines never wait."""

    source: SyncSource

    async def read(self, amount: int, /) -> bytes:
        return self.source.read(amount)

    def close(self) -> None:
        self.source.close()


class _UnwaitingBody(Body):
    """A body whose coroutines never wait."""

    _is_filling = True

    def __init__(
        self,
        pipeline: Pipeline,
        op: Operation,
        attempt: Callable[[Operation, int], SyncAnswer],
        ended: Callable[[], object],
    ) -> None:
        async def unwaiting(op: Operation, offset: int) -> Answer:
            answer = attempt(op, offset)
            return Answer(_Unwaiting(answer.source), answer.size)

        super().__init__(pipeline, op, unwaiting)
        self._ended = ended
        self.is_dropped = False

    async def _limited(self, op: Operation, attempt: Callable[[Operation], Any]) -> Any:
        if op.left() <= 0:
            raise op.overrun()
        return await attempt(op)

    async def _wait(self, effect: Any) -> Any:
        if effect.__class__ is Sleep:
            return self._clock.sleep(effect.seconds)
        return effect.sync()

    def _finish(self, error: BaseException | None) -> None:
        if self.closed:
            return
        self.is_dropped = isinstance(error, GeneratorExit)
        super()._finish(error)
        self._ended()


def _finished(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run to its end a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    coroutine.close()
    raise RuntimeError("A body for threads waited for an event loop.")
