"""Start anew in a forked child: locks may be held by threads that are not there."""

from __future__ import annotations

# Both hold a lock while the process forks, and imports need it: what registers later is
# asked earlier, so theirs have to be there before ours, which waits for imports.
import concurrent.futures.thread  # noqa: F401
import contextlib
import logging  # noqa: F401
import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["importing", "keep_for_ever", "renew_in_child"]


class Renewable(Protocol):
    """Something that holds locks, or what belongs to one process."""

    def after_fork(self) -> None:
        """Replace the locks and let go of what belongs to the parent."""


_renewables: weakref.WeakSet[Renewable] = weakref.WeakSet()
_inherited: list[object] = []
# The threads that import a client now; they do not wait for each other.
_quiet = threading.Condition()
_importers: list[int] = []
# How many forks lie between this process and the first that imported this: cheaper to
# compare than its number, which the kernel has to be asked for.
generation = 0
# A plugin that never ends its import shall not keep the host from forking.
_PATIENCE = 10.0


def renew_in_child(renewable: Renewable) -> None:
    """Call `renewable.after_fork()` in each child that this process forks."""
    _renewables.add(renewable)


def keep_for_ever(inherited: object) -> None:
    """Keep, in a child, what its parent uses: collecting it would shut it down."""
    _inherited.append(inherited)


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """Let nobody fork: a child cannot finish an import that a thread had begun."""
    me = threading.get_ident()
    with _quiet:
        _importers.append(me)
    try:
        yield
    finally:
        with _quiet:
            _importers.remove(me)
            _quiet.notify_all()


def _before_fork() -> None:
    _quiet.acquire()
    _quiet.wait_for(lambda: {*_importers} <= {threading.get_ident()}, _PATIENCE)


def _after_fork_in_parent() -> None:
    _quiet.release()


def _after_fork_in_child() -> None:
    global _quiet, generation  # noqa: PLW0603 - threads that are not here wait for it
    generation += 1
    _quiet = threading.Condition()
    _importers[:] = [each for each in _importers if each == threading.get_ident()]
    if "fsspec.asyn" in sys.modules:
        # fsspec's own hook means to, and misses the name of its lock.
        sys.modules["fsspec.asyn"].reset_lock()
    for renewable in list(_renewables):
        renewable.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )
