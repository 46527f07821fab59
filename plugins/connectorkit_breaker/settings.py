"""When a circuit opens, for how long, and what closes it."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from connectorkit import PolicySettings

__all__ = ["BreakerSettings"]

_DAY = 86_400.0


class BreakerSettings(PolicySettings):
    """When a circuit opens, for how long, and what closes it.

    Five failures in a row, 60 s, one call at a time and two successes are the numbers
    of the system that this one learned from.

    Attributes:
        failures: Failures in a row that open it; not looked at with a window.
        open_seconds: Seconds for which it then lets nothing through.
        backoff: By how much that grows each time that it opens again without having
            been closed; 1 for not at all.
        max_open_seconds: The most seconds that it grows to.
        jitter: Up to this share is added to the seconds, by chance, so that many
            processes do not come back together.
        half_open_calls: How many calls at a time try whether the service is back. The
            parallel parts of a call count as one.
        half_open_seconds: Seconds after which such a call counts as lost, and the
            circuit opens again, unless its attempt has still time by `timeout`. What
            comes later counts for nothing.
        successes: How many of them have to succeed to close it.
        window_calls: Judge by the rates of the last so many operations …
        window_seconds: … or by those of so many seconds.
        minimum_calls: How many operations a window has to hold before it is judged.
        failure_rate: The share of failures in the window that opens the circuit.
        slow_seconds: An operation that takes longer is slow; None if none is. One that
            is slow does not count as a success of a half-open circuit, but as a
            failure.
        slow_rate: The share of slow operations in the window that opens the circuit.
        slowest: Bytes a second: a body of so many may take a second more before it is
            slow.
    """

    failures: int = Field(default=5, ge=1, le=1_000_000)
    open_seconds: float = Field(default=60.0, gt=0, le=_DAY, allow_inf_nan=False)
    backoff: float = Field(default=1.0, ge=1, le=100, allow_inf_nan=False)
    max_open_seconds: float = Field(default=600.0, gt=0, le=_DAY, allow_inf_nan=False)
    jitter: float = Field(default=0.0, ge=0, le=1, allow_inf_nan=False)
    half_open_calls: int = Field(default=1, ge=1, le=1000)
    half_open_seconds: float = Field(default=120.0, gt=0, le=_DAY, allow_inf_nan=False)
    successes: int = Field(default=2, ge=1, le=1000)
    window_calls: int | None = Field(default=None, ge=1, le=10_000)
    window_seconds: float | None = Field(
        default=None, ge=0.001, le=_DAY, allow_inf_nan=False
    )
    minimum_calls: int = Field(default=20, ge=1, le=1_000_000)
    failure_rate: float = Field(default=0.5, gt=0, le=1, allow_inf_nan=False)
    slow_seconds: float | None = Field(default=None, gt=0, le=_DAY, allow_inf_nan=False)
    slow_rate: float = Field(default=0.8, gt=0, le=1, allow_inf_nan=False)
    slowest: float = Field(default=1e6, gt=0, allow_inf_nan=False)

    @property
    def has_window(self) -> bool:
        """Whether rates decide, and not failures in a row."""
        return self.window_calls is not None or self.window_seconds is not None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.window_calls is not None and self.window_seconds is not None:
            raise ValueError(
                "a window holds a number of calls or of seconds: set window_calls or "
                "window_seconds, not both"
            )
        if not self.has_window:
            of_windows = {
                "failure_rate",
                "minimum_calls",
                "slow_rate",
                "slow_seconds",
                "slowest",
            }
            if idle := sorted(of_windows & self.model_fields_set):
                raise ValueError(
                    f"{idle[0]} is of a window: set window_calls or window_seconds"
                )
        if self.window_calls is not None and self.minimum_calls > self.window_calls:
            raise ValueError(
                f"a window of {self.window_calls} calls never holds the "
                f"{self.minimum_calls} of minimum_calls, so nothing would open the "
                "circuit"
            )
        if self.backoff > 1 and self.max_open_seconds < self.open_seconds:
            raise ValueError(
                "max_open_seconds, the most that open_seconds grow to, is less than "
                "they are"
            )
        return self
