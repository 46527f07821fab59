"""Flights: operations that a test begins and ends when it likes, on no event loop."""

from __future__ import annotations

import asyncio
import types
from typing import TYPE_CHECKING, Any, Self

from connectorkit import Kind

if TYPE_CHECKING:
    from collections.abc import Generator

    from connectorkit import Call, Operation, Pipeline

__all__ = ["Flight"]


@types.coroutine
def _pause() -> Generator[None, Any, Any]:
    return (yield)


class Flight:
    """An operation under way, run by a pipeline's own driver.

    Each attempt waits for `end`, which says how it ends.

    Args:
        pipeline: Whose policies wrap the operation.
        kind: What it does.
        call: The call that it is a part of.
        facts: As of `Pipeline.operation`.

    Attributes:
        op: The operation.
        result: What it has returned.
        is_over: Whether it has ended.

    Raises:
        Exception: What the operation ends with before its first attempt.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        kind: Kind = Kind.READ,
        call: Call | None = None,
        **facts: Any,
    ) -> None:
        self.op: Operation = pipeline.operation(f"do_{kind}", kind, **facts)
        self.op.call = call
        self.result: Any = None
        self.is_over = False

        async def attempt(_op: Operation) -> Any:
            return await _pause()

        self._run = pipeline.arun(self.op, attempt)
        self._step(self._run.send, None)

    def end(self, outcome: Any = None) -> Self:
        """End the attempt with a result or an error.

        Raises:
            Exception: What the operation ends with.
        """
        if isinstance(outcome, BaseException):
            self._step(self._run.throw, outcome)
        else:
            self._step(self._run.send, outcome)
        return self

    def fail(self, error: BaseException) -> None:
        """End the attempt with an error, and the operation with it."""
        try:
            self.end(error)
        except type(error):
            return
        raise AssertionError(f"It did not end with {error!r}.")

    def cancel(self) -> None:
        """Cancel it, as an event loop does."""
        self.fail(asyncio.CancelledError())

    def drop(self) -> None:
        """Let go of it: the collector of garbage ends it."""
        self.is_over = True
        del self._run

    def _step(self, step: Any, argument: Any) -> None:
        self.is_over = True
        try:
            step(argument)
        except StopIteration as stop:
            self.result = stop.value
        else:
            self.is_over = False
