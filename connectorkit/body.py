"""Bodies: what is read lazily belongs to the attempt that began it.

A read that fails halfway goes on where it stopped, by one more attempt of the same
operation; the flow of its policies waits at its yield for as long as the body is read.
"""

from __future__ import annotations

import asyncio
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from connectorkit.errors import WrongAnswer
from connectorkit.faults import Fault
from connectorkit.fold import fold, throwable
from connectorkit.operation import Operation, Sleep
from connectorkit.pipeline import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from connectorkit.pipeline import Pipeline
    from connectorkit.policy import Flow

__all__ = ["Answer", "Body", "Source"]

# A body up to this is asked for at once; a longer one by pieces, so that what has come
# is not lost when the rest does not.
_PIECE = 1 << 20


class Source(Protocol):
    """The body of one answer, as a client gives it."""

    def read(self, amount: int, /) -> Awaitable[bytes]:
        """Read at most so many bytes; none at its end."""

    def close(self) -> None:
        """Drop it, with its connection if there is more to come."""


@dataclass(slots=True)
class Answer:
    """What an attempt was answered.

    Attributes:
        source: The body.
        size: How many bytes it has; None if the service does not say.
    """

    source: Source
    size: int | None


class Body:
    """The bytes of an operation, however many attempts they take.

    Args:
        pipeline: Whose policies wrap the operation.
        op: The operation.
        attempt: Asks for the bytes from an offset on, and makes sure that they are of
            the same object as before.

    Attributes:
        closed: Whether it was read to its end, or closed.
    """

    # Whether a read goes on until it has as many bytes as were asked for.
    _is_filling = False

    def __init__(
        self,
        pipeline: Pipeline,
        op: Operation,
        attempt: Callable[[Operation, int], Awaitable[Answer]],
    ) -> None:
        self._pipeline = pipeline
        self._op = op
        self._attempt = attempt
        self._flow: Flow | None = None
        self._clock = pipeline.scope.clock
        self._effect = op
        self._source: Source | None = None
        self._offset = 0
        self._delivered = 0
        self._end: int | None = None
        self._rested = self._clock()
        self._is_broken = False
        self.closed = False

    async def open(self) -> None:
        """Make the first attempt, up to where its body begins.

        Raises:
            Exception: What the operation ends with.
        """
        try:
            await self._begin()
        except BaseException as error:
            self._finish(error)
            raise
        self._rested = self._clock()

    async def _begin(self) -> None:
        handled = sys.exception()
        try:
            if self._pipeline.is_plain(self._op):
                try:
                    await self._open(self._op)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    self._op.known = throwable(error, handled)
                else:
                    return
        finally:
            del handled
        await self._advance_from_start()

    async def _advance_from_start(self) -> None:
        self._op.unlimited()
        self._flow = fold(self._pipeline.policies, self._op)
        await self._advance(self._flow.send, None)

    async def read(self, amount: int | None = -1) -> bytes:
        """Read at most so many bytes, or all that are left; none at the end.

        Raises:
            Exception: What the operation ends with.
            OSError: It has ended with an error before.
        """
        if self._is_broken:
            # None at all would be taken for its end.
            raise OSError(f"{self._op}: its body ended in an error, and has no rest.")
        if self.closed or amount == 0:
            return b""
        self._op.idle += self._clock() - self._rested
        wanted = math.inf if amount is None or amount < 0 else amount
        pieces: list[bytes] = []
        try:
            while not self.closed:
                left = wanted - (self._offset - self._delivered)
                if left <= 0:
                    break
                piece = await self._piece(int(min(left, _PIECE)))
                if piece is None:
                    # Bytes that nobody has seen can be asked for once more.
                    if self._offset == self._delivered:
                        pieces.clear()
                    continue
                pieces.append(piece)
                if wanted < math.inf and not self._is_filling:
                    break
        except BaseException as error:
            self._finish(error)
            raise
        self._delivered = self._offset
        self._rested = self._clock()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _piece(self, amount: int) -> bytes | None:
        """Return the next bytes; None if the attempt failed and there is another."""
        handled, failure = sys.exception(), None
        piece = b""
        try:
            if self._end is not None:
                amount = min(amount, self._end - self._offset)
            if amount:
                piece = await self._within(amount)
            end = self._offset + len(piece)
            if not piece and self._end is not None and end < self._end:
                raise asyncio.IncompleteReadError(b"", self._end - end)  # noqa: TRY301 - it is an error of the attempt
        except Exception as error:  # noqa: BLE001 - the flow decides
            failure = throwable(error, handled)
        try:
            # Not above, where Python would link what comes now to that error.
            if failure is not None:
                await self._failed(failure)
                return None
        finally:
            del handled, failure
        self._offset = end
        if not piece or end == self._end:
            await self._succeeded()
        return piece

    async def _within(self, amount: int) -> bytes:
        data: bytes = await self._limited(self._effect, lambda _op: self._take(amount))
        return data

    async def _take(self, amount: int) -> bytes:
        source: Any = self._source
        piece: bytes = await source.read(amount)
        if piece and self._offset + len(piece) == self._end:
            # The client compares checksums when it meets the end; a piece whose end
            # is not good did not come.
            await source.read(1)
        return piece

    async def _limited(self, op: Operation, attempt: Callable[[Operation], Any]) -> Any:
        return await within(op, attempt)

    async def _wait(self, effect: Any) -> Any:
        if effect.__class__ is Sleep:
            return await self._clock.asleep(effect.seconds)
        return await effect.async_()

    async def _succeeded(self) -> None:
        self._op.bytes = self._offset
        if self._flow is None:
            self._finish(None)
        else:
            await self._advance(self._flow.send, None)

    async def _failed(self, error: Exception) -> None:
        self._drop()
        if self._op.classify(error).fault is Fault.CORRUPT:
            if self._delivered and not isinstance(error, WrongAnswer):
                # It is too late to take back what was wrong.
                self._op.is_repeatable = False
            self._offset = self._delivered
        try:
            if self._flow is None:
                self._op.known = error
                await self._advance_from_start()
            else:
                await self._advance(self._flow.throw, error)
        finally:
            # An error's traceback holds this frame, which would hold the error.
            del error

    async def _advance(self, step: Callable[[Any], Any], argument: Any) -> None:
        """Drive the flow until an attempt has a body, or the operation has ended."""
        flow: Any = self._flow
        handled = sys.exception()
        try:
            while True:
                try:
                    effect = step(argument)
                except StopIteration:
                    self._finish(None)
                    return
                step, argument = flow.send, None
                try:
                    if effect.__class__ is Operation:
                        self._effect = effect
                        await self._open(effect)
                        return
                    argument = await self._wait(effect)
                except Exception as error:  # noqa: BLE001 - the flow decides
                    step, argument = flow.throw, throwable(error, handled)
        finally:
            del flow, step, argument, handled

    async def _open(self, effect: Operation) -> None:
        answer: Answer = await self._limited(
            effect, lambda op: self._attempt(op, self._offset)
        )
        self._source = answer.source
        if answer.size is not None:
            end = self._offset + answer.size
            if self._end is not None and self._end != end:
                self._drop()
                raise WrongAnswer(
                    f"{self._op}: its body ended at {self._end} and now at {end}."
                )
            self._end = end
            effect.expect(answer.size)

    def close(self) -> None:
        """Drop it; if it was not read to its end, that says nothing of the service."""
        self._finish(GeneratorExit())

    def _drop(self) -> None:
        source, self._source = self._source, None
        if source is not None:
            source.close()

    def _finish(self, error: BaseException | None) -> None:
        if self.closed:
            return
        self.closed = True
        self._is_broken = not isinstance(error, GeneratorExit | None)
        self._op.bytes = self._offset
        self._drop()
        if self._flow is not None:
            self._flow.close()
        self._op.known = None
        self._pipeline.tell(self._op, error)

    def __del__(self) -> None:
        if not self.closed:
            self._finish(GeneratorExit())
