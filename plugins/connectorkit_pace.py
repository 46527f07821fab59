"""pace: no faster than a service that throttles can take."""

from __future__ import annotations

import math
import threading
from bisect import bisect_left, insort
from itertools import count
from typing import TYPE_CHECKING, Final

from pydantic import Field

from connectorkit import (
    DeadlineExceeded,
    Fault,
    Policy,
    PolicySettings,
    Sleep,
    hookimpl,
)
from connectorkit.events import PaceChanged

if TYPE_CHECKING:
    from connectorkit.operation import Operation
    from connectorkit.policy import Flow

__all__ = ["Pace", "PaceSettings", "TooFast"]

# The numbers of botocore's `retries/throttling.py` and `retries/adaptive.py` (1.43).
_SCALE: Final = 0.4
_BETA: Final = 0.7
_SMOOTHING: Final = 0.8
_SLICE: Final = 0.5
_MOST: Final = 2.0
# Seconds after which who waits looks whether the rate has risen meanwhile.
_LOOK: Final = 1.0
_SHORTEST: Final = 0.001
# By so little sums of fractions fall short of a whole.
_ROUNDING: Final = 1e-9


class TooFast(DeadlineExceeded):
    """The service throttles, and the turn would come when the call's time is up."""

    policy = "pace"
    reason = "throttled"


class PaceSettings(PolicySettings):
    """How requests are slowed down while their service throttles.

    Attributes:
        least: Requests a second below which the rate does not fall. The default is
            that of the SDKs' adaptive mode.
        calm: Seconds without a throttle before the limit may end.
    """

    least: float = Field(default=0.5, ge=0.01, le=10_000, allow_inf_nan=False)
    calm: float = Field(default=10.0, ge=0, le=3600, allow_inf_nan=False)


class Pace(Policy):
    """Does nothing until the service throttles, then shares out what it can take.

    All clients of an identity in this process take their turns from one token bucket,
    first come, first served. A throttle cuts its rate to 0.7 of what was sent; while
    answers come it rises along a cubic curve, to at most twice what is sent: the CUBIC
    rule of the SDKs' adaptive mode (botocore's `retries/adaptive.py`). Here, unlike
    there:

    - Requests that were under way together when the rate fell do not make it fall once
      each: they tell nothing of the new rate.
    - What was sent within the current half second counts at once, so that a burst
      after a pause is not taken for next to nothing.
    - Who would have to wait until the deadline is told at once.
    - The limit ends when nothing was throttled for `calm` seconds and the curve is at
      twice the rate that was throttled last: it holds back nobody whose traffic has
      not doubled since.
    """

    name = "pace"
    rank = 50
    Settings = PaceSettings
    settings: PaceSettings

    def around(self, op: Operation) -> Flow:
        """Run an attempt when its turn has come, and hear how it went."""
        pacer = op.scope.remembered(self, self._pacer)
        origin, clock = op.origin, op.scope.clock
        is_counted = op.kept.pop(self, False)
        begun, attempts, is_paid = origin.started, 0, False
        if origin.known is None:
            is_paid = yield from self._turn(op, pacer)
            begun, attempts = clock(), origin.attempts + 1
            if not is_counted:
                pacer.meter.record(begun)
        try:
            yield op
        except Exception as error:
            self._hear(op, pacer, begun, op.classify(error).fault)
            raise
        else:
            self._hear(op, pacer, begun, None)
        finally:
            if origin.attempts < attempts:
                # Nothing was sent: a circuit is open, say.
                pacer.give_back(is_paid=is_paid)

    def shortcut(self, op: Operation) -> bool:
        """Count the request; it may go at once, unless the service throttles."""
        pacer = op.scope.remembered(self, self._pacer)
        if pacer.rate is not None:
            return False
        pacer.meter.record(op.started)
        op.kept[self] = True
        return True

    def _turn(self, op: Operation, pacer: Pacer) -> Flow:
        """Wait for a turn; return whether it was needed."""
        clock = op.scope.clock
        if pacer.rate is None:
            return False
        if pacer.is_over(clock()):
            op.scope.emit(PaceChanged(op.scope.connector, None))
            return False
        turn = pacer.queue(clock())
        try:
            while (seconds := pacer.wait(turn, clock())) > 0:
                if seconds > op.left():
                    raise TooFast(
                        f"{op}: the service throttles, and the turn would come in "
                        f"{seconds:.1f} s, when the time of the whole call is up."
                    )
                yield Sleep(min(seconds, _LOOK))
        finally:
            pacer.leave(turn)
        return turn.is_paid

    def _hear(
        self, op: Operation, pacer: Pacer, begun: float, fault: Fault | None
    ) -> None:
        now = op.scope.clock()
        if fault is Fault.THROTTLED:
            has_changed = pacer.throttled(begun, now)
        elif fault is None or not (fault.is_outage or fault is Fault.LOCAL):
            # "Not found" is as good an answer as any.
            has_changed = pacer.answered(now)
        else:
            return
        if has_changed:
            op.scope.emit(PaceChanged(op.scope.connector, pacer.rate))

    def _pacer(self) -> Pacer:
        return Pacer(self.settings.least, self.settings.calm)


class Meter:
    """How many requests a second there are: smoothed over half seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._end = -math.inf
        self._smoothed = 0.0
        # In a list of its own: a thread that is late counts where nobody looks.
        self._slice = [0]

    def record(self, now: float) -> None:
        """Count a request."""
        if now >= self._end:
            self._renew(now)
        # Without a lock, which would cost more than all the rest: should two threads
        # meet here, one request too few is counted.
        self._slice[0] += 1

    def forget(self) -> None:
        """Take back a request that was not sent."""
        self._slice[0] -= 1

    def rate(self, now: float) -> float:
        """Return requests a second."""
        if now >= self._end:
            self._renew(now)
        return max(self._smoothed, self._slice[0] / _SLICE)

    def _renew(self, now: float) -> None:
        with self._lock:
            if now < self._end:
                return
            if self._end > -math.inf:
                seconds = _SLICE * (1 + (now - self._end) // _SLICE)
                latest = max(0, self._slice[0]) / seconds
                self._smoothed += _SMOOTHING * (latest - self._smoothed)
                self._end += seconds
            else:
                self._end = now + _SLICE
            self._slice = [0]


class Turn:
    """A place in the queue.

    Attributes:
        number: Who has the lesser came first.
        looks: When it will look next whether it is its turn.
        is_paid: Whether a token was taken for it.
    """

    __slots__ = ("is_paid", "looks", "number")

    def __init__(self, number: int, looks: float) -> None:
        self.number = number
        self.looks = looks
        self.is_paid = False


class Pacer:
    """The token bucket of one identity.

    Attributes:
        rate: Requests a second; None without a limit. May be read without a lock.
        meter: Counts them.
    """

    def __init__(self, least: float, calm: float) -> None:
        self.rate: float | None = None
        self.meter = Meter()
        self._least = least
        self._calm = calm
        self._lock = threading.Lock()
        self._numbers = count()
        self._waiting: list[Turn] = []
        self._tokens = self._filled = 0.0
        # Of the curve: the rate that was throttled, when, and when it is allowed again.
        self._peak = self._fell = self._knee = 0.0
        self._throttled = 0.0

    def queue(self, now: float) -> Turn:
        """Return the last place."""
        with self._lock:
            turn = Turn(next(self._numbers), now)
            self._waiting.append(turn)
            return turn

    def wait(self, turn: Turn, now: float) -> float:
        """Return for how many seconds to wait; 0 if it is its turn now."""
        with self._lock:
            if self.rate is None:
                return 0.0
            self._fill(now)
            place = self._place(turn, now)
            missing = 1 + place - self._tokens
            if missing > _ROUNDING:
                seconds = max(missing / self.rate, _SHORTEST)
                turn.looks = now + min(seconds, _LOOK)
                return seconds
            self._tokens -= 1
            turn.is_paid = True
            del self._waiting[place]
            return 0.0

    def leave(self, turn: Turn) -> None:
        """Make room for those behind; does nothing if its turn has come."""
        with self._lock:
            if turn in self._waiting:
                self._waiting.remove(turn)

    def give_back(self, *, is_paid: bool) -> None:
        """Take back a request that was not sent."""
        self.meter.forget()
        with self._lock:
            if is_paid:
                self._tokens += 1

    def throttled(self, begun: float, now: float) -> bool:
        """Hear of a throttle of what was begun then; tell whether the rate changed."""
        with self._lock:
            self._throttled = now
            before = self.rate
            if before is None:
                self._tokens, self._filled = 0.0, now
            elif begun <= self._fell:
                return False
            else:
                self._fill(now)
            sent = self.meter.rate(now)
            self._peak = max(self._least, sent if before is None else min(sent, before))
            self._fell = now
            self._knee = math.cbrt(self._peak * (1 - _BETA) / _SCALE)
            self.rate = max(self._least, self._peak * _BETA)
            return self.rate != before

    def answered(self, now: float) -> bool:
        """Hear of an answer that is no throttle; tell whether the limit has ended."""
        if self.rate is None:
            return False
        if self.is_over(now):
            return True
        with self._lock:
            if self.rate is not None:
                self._fill(now)
                most = _MOST * self.meter.rate(now)
                self.rate = max(self._least, min(self._curve(now), most))
        return False

    def is_over(self, now: float) -> bool:
        """End the limit if it is time to; tell whether it did."""
        with self._lock:
            is_calm = now - self._throttled >= self._calm
            if self.rate is None or not is_calm:
                return False
            if self._curve(now) < _MOST * self._peak:
                return False
            self.rate = None
            return True

    def _curve(self, now: float) -> float:
        return _SCALE * (now - self._fell - self._knee) ** 3 + self._peak

    def _fill(self, now: float) -> None:
        rate = self.rate or 0.0
        gained = rate * max(0.0, now - self._filled)
        self._tokens = min(self._tokens + gained, max(rate, 1))
        self._filled = max(self._filled, now)

    def _place(self, turn: Turn, now: float) -> int:
        """Return how many came before; a first one who is late to look does not count.

        An event loop that is held up shall not hold up other threads.
        """
        waiting = self._waiting
        while waiting and waiting[0] is not turn and now > waiting[0].looks + _LOOK:
            del waiting[0]
        place = bisect_left(waiting, turn.number, key=_number)
        if place == len(waiting) or waiting[place] is not turn:
            insort(waiting, turn, key=_number)
        return place


def _number(turn: Turn) -> int:
    return turn.number


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide pace."""
    return [Pace]
