"""Start anew in a forked child: locks may be held by threads that are not there."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_in_child"]


class Renewable(Protocol):
    """Something that holds locks, or what belongs to one process."""

    def after_fork(self) -> None:
        """Replace the locks and let go of what belongs to the parent."""


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()


def renew_in_child(renewable: Renewable) -> None:
    """Call `renewable.after_fork()` in each child that this process forks."""
    _renewables.add(renewable)


def _after_fork_in_child() -> None:
    for renewable in list(_renewables):
        renewable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
