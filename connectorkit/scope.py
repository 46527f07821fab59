"""Scopes: what all operations of one connector share, and what identities remember."""

from __future__ import annotations

import logging
import random as _random
import threading
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

from connectorkit.clock import SYSTEM_CLOCK
from connectorkit.faults import classify as _classify
from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from connectorkit.clock import Clock
    from connectorkit.faults import Verdict
    from connectorkit.policy import Policy

__all__ = ["SHARED", "Memory", "Scope"]

T = TypeVar("T")
_log = logging.getLogger(__name__)
# The circuits, budgets and paces of so many tenants stay known when their filesystems
# are closed; each is a few hundred bytes.
_MOST_REMEMBERED = 10_000


class Memory:
    """What policies remember of each identity: circuits, budgets, paces.

    All filesystems of an identity that are in use share it; of those that are not, the
    last ones are remembered.
    """

    def __init__(self, most: int = _MOST_REMEMBERED) -> None:
        self._most = most
        self._begin()
        renew_in_child(self)

    def _begin(self) -> None:
        self._lock = threading.Lock()
        self._recent: OrderedDict[Hashable, Any] = OrderedDict()
        self._alive: weakref.WeakValueDictionary[Hashable, Any]
        self._alive = weakref.WeakValueDictionary()

    def after_fork(self) -> None:
        """Forget it all: what a parent saw says little, and its locks may be held."""
        self._begin()

    def of(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is remembered by `key`, made if there is nothing."""
        with self._lock:
            known: T | None = self._alive.get(key)
            if known is None:
                known = self._alive[key] = make()
            self._recent[key] = known
            self._recent.move_to_end(key)
            if len(self._recent) > self._most:
                self._recent.popitem(last=False)
            return known

    def items(self) -> list[tuple[Hashable, Any]]:
        """Return all that is remembered."""
        with self._lock:
            return list(self._alive.items())


# Of all kits that go by the machine's clock: a service is the same for all of them.
SHARED = Memory()


class Scope:
    """What all operations of one connector share.

    Attributes:
        connector: The connector's ID, for people.
        type: The ID of its connector type.
        is_adhoc: Whether its settings came with a call: a tenant's, of whom there may
            be any number.
        identity: Whose circuits, budgets and paces count.
        clock: Monotonic seconds, and waiting.
        random: A number from 0 to 1, for jitter.
        classify: Says what an error means.
        emit: Tells hooks of an event.
        memory: What policies remember of each identity.
        fleet_identity: Returns the identity by a name that is the same in all processes
            of a fleet; takes some 10 ms.
    """

    def __init__(  # noqa: PLR0913 - each is a seam
        self,
        connector: str,
        type_id: str,
        identity: Hashable,
        *,
        is_adhoc: bool = False,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
        classify: Callable[[BaseException], Verdict] = _classify,
        emit: Callable[[object], None] = lambda _event: None,
        memory: Memory = SHARED,
        fleet_identity: Callable[[], str] | None = None,
    ) -> None:
        self.connector = connector
        self.type = type_id
        self.identity = identity
        self.is_adhoc = is_adhoc
        self.clock = clock
        self.random = random
        self.classify = classify
        self.emit = emit
        self.memory = memory
        self.fleet_identity = fleet_identity or (lambda: str(identity))
        self._known: dict[Policy, Any] = {}
        renew_in_child(self)

    def after_fork(self) -> None:
        """Forget what the parent knew."""
        self._known = {}

    def remembered(self, policy: Policy, make: Callable[[], T]) -> T:
        """Return what `policy` remembers of this identity, made if there is nothing.

        Connectors of one identity share it if their policy has the same settings.
        """
        try:
            known: T = self._known[policy]
        except KeyError:
            key = (self.identity, policy.name, policy.identity)
            known = self._known[policy] = self.memory.of(key, make)
        return known

    def __repr__(self) -> str:
        return f"<Scope of {self.connector!r}>"
