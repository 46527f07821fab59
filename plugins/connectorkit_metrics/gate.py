"""The gate: one thread at a time counts, and nobody forks meanwhile.

A child that was forked while another thread held a lock of prometheus_client's would
wait for it for ever. All that touches a metric of ours is done behind the gate.
"""

from __future__ import annotations

import os
import threading

__all__ = ["GATE", "Gate"]

# What is done behind it takes milliseconds; the host shall fork in any case.
_PATIENCE = 1.0


class Gate:
    """A lock that is free in each child."""

    def __init__(self) -> None:
        self._open()
        self._is_kept = False
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(
                before=self._before_fork,
                after_in_parent=self._after_fork_in_parent,
                after_in_child=self._after_fork_in_child,
            )

    def _open(self) -> None:
        self._lock = threading.Lock()
        # Who forks closes it: who has just left would else be inside again at once.
        self._door = threading.Lock()
        self._inside = 0

    def enter(self, *, wait: bool = True) -> bool:
        """Enter, unless this thread is inside already, or one is and it may not wait.

        A thread can come here while it is inside: what nobody holds any more is told of
        wherever it is collected.
        """
        me = threading.get_ident()
        if self._inside == me or not self._door.acquire(blocking=wait):
            return False
        self._door.release()
        if not self._lock.acquire(blocking=wait):
            return False
        self._inside = me
        return True

    def leave(self) -> None:
        """Let the next one in."""
        self._inside = 0
        self._lock.release()

    def _before_fork(self) -> None:
        self._door.acquire()
        self._is_kept = self._lock.acquire(timeout=_PATIENCE)

    def _after_fork_in_parent(self) -> None:
        if self._is_kept:
            self._lock.release()
        self._door.release()

    def _after_fork_in_child(self) -> None:
        self._open()


GATE = Gate()
