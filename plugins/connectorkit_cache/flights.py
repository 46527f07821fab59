"""Flights: of several threads that want the same, one fetches it, and all get it."""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from connectorkit import CallCancelled, Refused
from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

__all__ = ["Flights", "OutOfTime"]

T = TypeVar("T")


class OutOfTime(Exception):
    """Somebody else fetches it, and the call has no time left to wait for that."""


class _Flight(Generic[T]):
    def __init__(self) -> None:
        self.over = threading.Event()
        self.result: T | None = None
        self.error: Exception | None = None
        self.is_handed_over = False


class Flights(Generic[T]):
    """What is being fetched now, by key."""

    def __init__(self) -> None:
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Forget the parent's: whoever fetches in it is not here."""
        self._lock = threading.Lock()
        self._flights: dict[Hashable, _Flight[T]] = {}

    def join(
        self,
        key: Hashable,
        fetch: Callable[[], T],
        left: Callable[[], float] = lambda: math.inf,
    ) -> tuple[T, bool]:
        """Return what `fetch` returns, be it another thread's, and whether it is ours.

        Where the other one was cancelled, or has no time left, the next takes over.

        Args:
            key: What is fetched.
            fetch: Fetches it.
            left: Returns for how many seconds another thread may be waited for.

        Raises:
            OutOfTime: They are over.
            Exception: What `fetch` raised, here or there.
        """
        while True:
            with self._lock:
                flight = self._flights.get(key)
                if is_ours := flight is None:
                    flight = self._flights[key] = _Flight()
            if is_ours:
                return self._lead(key, flight, fetch), True
            if not flight.over.wait(min(max(0.0, left()), threading.TIMEOUT_MAX)):
                raise OutOfTime
            if flight.is_handed_over:
                continue
            if flight.error is not None:
                raise flight.error
            return flight.result, False  # type: ignore[return-value]

    def _lead(self, key: Hashable, flight: _Flight[T], fetch: Callable[[], T]) -> T:
        try:
            flight.result = fetch()
        except (Refused, CallCancelled):
            # Of this caller's own call, not of the storage.
            flight.is_handed_over = True
            raise
        except Exception as error:
            flight.error = error
            raise
        except BaseException:
            flight.is_handed_over = True
            raise
        else:
            return flight.result
        finally:
            with self._lock:
                self._flights.pop(key, None)
            flight.over.set()
