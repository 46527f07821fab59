"""retry: one more attempt, after what may pass, and never too many of them."""

from __future__ import annotations

import itertools
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Literal, Self

from pydantic import Field, model_validator

from connectorkit import Fault, Policy, PolicySettings, Refused, Sleep, hookimpl
from connectorkit.events import OperationRetried, RetryRefused

if TYPE_CHECKING:
    from connectorkit.faults import Verdict
    from connectorkit.operation import Operation
    from connectorkit.policy import Flow

__all__ = ["Retry", "RetrySettings"]

_SLICES = 10
_NOTE = "connectorkit: "
# What happened before what, in all threads.
_TIMES = itertools.count()
_GIVEN_UP = "__connectorkit_given_up__"


class RetrySettings(PolicySettings):
    """How often, and after how long, an operation is tried again.

    Attributes:
        attempts: The most attempts, the first included.
        base_delay: Seconds before the second attempt; doubled before each further one.
        max_delay: The most seconds between two attempts.
        jitter: "full" draws each delay between 0 and what it would be, so that clients
            that failed together do not come back together; "none" does not.
        max_retry_after: The most seconds that a service's own Retry-After is heeded
            for; one that asks for more is not tried again.
        budget_ratio: Retries are at most this share of the operations of
            `budget_window` seconds …
        budget_burst: … and so many more, for what has little traffic. None, with a
            ratio of None, sets no limit.
        budget_window: Seconds over which both are counted.
    """

    # The numbers of the system that this one learned from; jitter is this one's.
    attempts: int = Field(default=3, ge=1, le=100)
    base_delay: float = Field(default=1.0, ge=0, le=3600, allow_inf_nan=False)
    max_delay: float = Field(default=30.0, ge=0, le=3600, allow_inf_nan=False)
    jitter: Literal["full", "none"] = "full"
    max_retry_after: float = Field(default=60.0, ge=0, le=86_400, allow_inf_nan=False)
    budget_ratio: float | None = Field(default=0.2, ge=0, le=100, allow_inf_nan=False)
    budget_burst: int | None = Field(default=10, ge=0, le=1_000_000)
    budget_window: float = Field(default=10.0, gt=0, le=3600, allow_inf_nan=False)

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if (self.budget_ratio is None) != (self.budget_burst is None):
            raise ValueError("budget_ratio and budget_burst are None together")
        return self


class Retry(Policy):
    """Tries again what may pass, for as long as there is time and budget.

    What the service did answer for good (not found, denied, a condition that does not
    hold) is never tried again, nor what would be done twice. The last error is raised
    itself, with a note of how often it was tried.
    """

    name = "retry"
    rank = 40
    is_retrying = True
    Settings = RetrySettings
    settings: RetrySettings

    def around(self, op: Operation) -> Flow:
        """Run the operation until it succeeds or must not be tried again."""
        budget = op.scope.remembered(self, self._budget)
        begun = op.kept.get(self)
        if begun is None:
            budget.deposit(op.scope.clock())
            begun = next(_TIMES)
        attempt, before = 1, None
        try:
            while True:
                try:
                    return (yield op)
                except Exception as error:
                    if _given_up(error) > begun:
                        raise
                    if isinstance(error, Refused) and before is not None:
                        # Nothing was sent this time: what came the last time says why.
                        error.__cause__ = error.__cause__ or before
                    verdict = op.classify(error)
                    why, delay = self._next(op, verdict, attempt, budget)
                    if why:
                        if verdict.fault.is_outage or attempt > 1:
                            # What was refused was no attempt.
                            made = attempt - isinstance(error, Refused)
                            _tell(op, error, made, why)
                        raise
                    before = error
                attempt += 1
                begun = next(_TIMES)
                _tell_of_retry(op, verdict, attempt)
                if delay > 0:
                    yield Sleep(delay)
        finally:
            # An error's traceback holds this frame, which would hold the error.
            del before

    def shortcut(self, op: Operation) -> bool:
        """Count the operation; there is nothing to do until it fails."""
        op.scope.remembered(self, self._budget).deposit(op.started)
        op.kept[self] = next(_TIMES)
        return True

    def _next(  # noqa: PLR0911 - one reason a line
        self, op: Operation, verdict: Verdict, attempt: int, budget: Budget
    ) -> tuple[str, float]:
        """Say why there is no further attempt, or after how many seconds there is."""
        its = self.settings
        if verdict.fault is Fault.LOCAL:
            return "it was not let through", 0
        if not _may_pass(verdict, attempt):
            return "it would meet the same again", 0
        if verdict.is_sent and not op.origin.is_repeatable:
            return "the service may have acted on it, and must not act twice", 0
        if attempt >= its.attempts:
            return "all attempts were made", 0
        delay = self._delay(op, verdict, attempt)
        if delay is None:
            return "the service asks for a longer wait than is allowed", 0
        if delay >= op.left():
            return "there is no time left for it", 0
        if not budget.withdraw(op.scope.clock()):
            op.scope.emit(RetryRefused(op.scope.connector, op.name, "budget"))
            return "too many operations on this storage are tried again already", 0
        return "", delay

    def _delay(self, op: Operation, verdict: Verdict, attempt: int) -> float | None:
        its = self.settings
        if verdict.is_hangup and attempt == 1:
            # As a rule the service had closed a connection that was kept for too long.
            return 0.0
        delay = min(its.max_delay, its.base_delay * 2.0 ** (attempt - 1))
        if its.jitter == "full":
            delay *= op.scope.random()
        if verdict.retry_after is not None:
            if verdict.retry_after > its.max_retry_after:
                return None
            delay = max(delay, verdict.retry_after)
        return delay

    def _budget(self) -> Budget:
        its = self.settings
        if its.budget_ratio is None or its.budget_burst is None:
            return Budget(0, math.inf, its.budget_window)
        return Budget(its.budget_ratio, its.budget_burst, its.budget_window)


def _may_pass(verdict: Verdict, attempt: int) -> bool:
    if verdict.fault in {Fault.EXPIRED, Fault.CORRUPT}:
        # The client has been told to renew its credentials: if that does not help,
        # nothing will. Bytes that are wrong twice are not wrong by chance.
        return attempt == 1
    return verdict.fault.is_outage


def _given_up(error: Exception) -> int:
    """Return when a retry gave it up: that of a connector beneath this one, say.

    Not whether: an error may be raised again later, such as that of a shared future.
    """
    when: int = getattr(error, _GIVEN_UP, -1)
    return when


def _tell_of_retry(op: Operation, verdict: Verdict, attempt: int) -> None:
    code = verdict.code or verdict.fault.value
    op.scope.emit(OperationRetried(op.scope.connector, op.name, attempt, code))


def _tell(op: Operation, error: Exception, attempts: int, why: str) -> None:
    setattr(error, _GIVEN_UP, next(_TIMES))
    plural = "attempt" if attempts == 1 else "attempts"
    error.add_note(
        f"{_NOTE}{attempts} {plural} in {op.now() - op.started:.1f} s. {op}. No "
        f"further one: {why}."
    )


class Budget:
    """How many retries the last seconds' operations allow.

    Over any window the retries are at most `ratio` of its operations and `burst`.

    Args:
        ratio: Retries for each operation.
        burst: Retries for none.
        window: Seconds; counted in tenths of it.
    """

    def __init__(self, ratio: float, burst: float, window: float) -> None:
        self._ratio = ratio
        self._burst = burst
        self._length = window / _SLICES
        self._slices: deque[Slice] = deque([Slice(-math.inf, -math.inf)])
        self._lock = threading.Lock()

    def deposit(self, now: float) -> None:
        """Count an operation."""
        newest = self._slices[-1]
        if now >= newest.end:
            newest = self._renew(now)
        # Without a lock, which would cost more than all the rest: should two threads
        # meet here, one operation too few is counted, and never one too many.
        newest.operations += 1

    def withdraw(self, now: float) -> bool:
        """Count a retry, if there is one left."""
        newest = self._renew(now)
        with self._lock:
            # The oldest slice may have begun before the window: its retries count, and
            # its operations do not.
            begins = now - _SLICES * self._length
            operations = sum(e.operations for e in self._slices if e.began > begins)
            retries = sum(each.retries for each in self._slices)
            if retries + 1 > self._ratio * operations + self._burst:
                return False
            newest.retries += 1
            return True

    def _renew(self, now: float) -> Slice:
        with self._lock:
            slices = self._slices
            if now >= slices[-1].end:
                slices.append(Slice(now, now + self._length))
                # A slice more than the window: its beginning lies within one.
                while slices[0].end <= now - _SLICES * self._length:
                    slices.popleft()
            return slices[-1]


class Slice:
    """What was counted in a slice of time."""

    __slots__ = ("began", "end", "operations", "retries")

    def __init__(self, began: float, end: float) -> None:
        self.began = began
        self.end = end
        self.operations = 0
        self.retries = 0


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide retry."""
    return [Retry]
