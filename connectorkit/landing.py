"""Where connectors land that were pickled elsewhere."""

from __future__ import annotations

import threading
import weakref
from typing import TYPE_CHECKING

from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from connectorkit.kit import ConnectorKit

__all__ = ["KITS", "kit_for"]


class Kits:
    """This process's kits, by the configuration that they read."""

    def __init__(self) -> None:
        self._kits: weakref.WeakValueDictionary[str, ConnectorKit]
        self._kits = weakref.WeakValueDictionary()
        self._made: dict[str, ConnectorKit] = {}
        self._lock = threading.RLock()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.RLock()

    def add(self, source: str, kit: ConnectorKit) -> None:
        """Remember a kit, unless there is an open one of the same configuration."""
        with self._lock:
            there = self._kits.get(source)
            if there is None or there.is_closed:
                self._kits[source] = kit

    def of(self, source: str) -> ConnectorKit:
        """Return the kit of a configuration, made if there is none."""
        from connectorkit.kit import ConnectorKit

        with self._lock:
            kit = self._kits.get(source)
            if kit is None or kit.is_closed:
                # Nobody else holds it.
                kit = self._made[source] = ConnectorKit(source or None)
            return kit


KITS = Kits()


def kit_for(source: str) -> ConnectorKit:
    """Return this process's kit of a configuration.

    Args:
        source: The configuration's path; empty for the defaults.
    """
    return KITS.of(source)
