"""Waiting for what happens in the background."""

from __future__ import annotations

import threading
from typing import Any

__all__ = ["wait_until"]


def wait_until(condition: Any, *, seconds: float = 20.0) -> None:
    """Wait until something holds: however long that takes, within reason."""
    gone = threading.Event()
    for _ in range(int(seconds / 0.01)):
        if condition():
            return
        gone.wait(0.01)
    raise AssertionError("It did not come to hold in time.")
