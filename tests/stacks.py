"""What the tests of policies share: a pipeline with a clock, dice and ears of its own.

```python
stack = Stack(Retry())
service = Service(failure(Fault.TRANSIENT), "content")
assert stack.run(service) == "content"
```
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from connectorkit import Fault, Kind, Pipeline, Scope, Verdict, classify
from connectorkit.scope import Memory
from connectorkit.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from connectorkit import Operation, Policy

__all__ = ["WAYS", "Failed", "Service", "Stack", "Way", "failure", "verdict_of"]

Way = Literal["sync", "async"]
WAYS: tuple[Way, ...] = ("sync", "async")


class Failed(Exception):
    """An error of a service's, that says itself what it means."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(f"{verdict.code or verdict.fault.value} #{id(self) % 1000}")
        self.verdict = verdict


def failure(fault: Fault, code: str = "", **facts: Any) -> Failed:
    """Return an error that is classified so."""
    return Failed(Verdict(fault, code, **facts))


def verdict_of(error: BaseException) -> Verdict:
    """Classify as `failure` says, and other errors as the core does."""
    return error.verdict if isinstance(error, Failed) else classify(error)


class Service:
    """Gives its answers one after the other, and the last one for ever.

    Args:
        answers: An error is raised, a function is called, and what else is returned.
        clock: If it `takes` time, whose.
        takes: Seconds for each answer.

    Attributes:
        seen: The operations, as each attempt got them.
    """

    def __init__(
        self, *answers: Any, clock: VirtualClock | None = None, takes: float = 0.0
    ) -> None:
        self._answers = answers
        self._clock = clock
        self._takes = takes
        self.seen: list[Operation] = []

    @property
    def count(self) -> int:
        """How many requests came."""
        return len(self.seen)

    def __call__(self, op: Operation) -> Any:
        answer = self._answers[min(self.count, len(self._answers) - 1)]
        self.seen.append(op)
        if self._clock is not None:
            self._clock.advance(self._takes)
        if callable(answer) and not isinstance(answer, BaseException):
            answer = answer()
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def on_loop(self, op: Operation) -> Any:
        """Answer a coroutine."""
        await asyncio.sleep(0)
        return self(op)


class Stack:
    """A pipeline of policies whose clock, dice, events and memory are its own.

    Attributes:
        clock: Its time.
        events: What hooks would hear.
        scope: Its scope.
        pipeline: Its pipeline.
    """

    def __init__(  # noqa: PLR0913 - each is a seam
        self,
        *policies: Policy,
        random: Callable[[], float] = lambda: 1.0,
        classify: Callable[[BaseException], Verdict] = verdict_of,
        connector: str = "reports",
        identity: Hashable = "it",
        clock: VirtualClock | None = None,
        memory: Memory | None = None,
    ) -> None:
        self.clock = clock or VirtualClock(1000.0)
        self.events: list[object] = []
        self.scope = Scope(
            connector,
            "memory",
            identity,
            clock=self.clock,
            random=random,
            classify=classify,
            emit=self.events.append,
            memory=memory or Memory(),
        )
        self.pipeline = Pipeline(policies, self.scope)

    def op(self, name: str = "get_object", **facts: Any) -> Operation:
        """Return an operation."""
        return self.pipeline.operation(name, Kind.READ, **{"path": "b/k", **facts})

    def run(
        self, service: Service, op: Operation | None = None, way: Way = "sync"
    ) -> Any:
        """Run an operation in a thread, or on a loop."""
        op = op or self.op()
        if way == "sync":
            return self.pipeline.run(op, service)
        return asyncio.run(self.pipeline.arun(op, service.on_loop))

    def outcome(
        self, service: Service, op: Operation | None = None, way: Way = "sync"
    ) -> Any:
        """Run an operation and return its result, or the error that it raised."""
        try:
            return self.run(service, op, way)
        except Exception as error:  # noqa: BLE001 - returned
            return error
