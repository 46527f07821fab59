"""What a limiter tells of what it decides."""

from __future__ import annotations

import logging
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Literal

from connectorkit.events import SlotDecided, SlotsUsed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit_slots.slot import Share
    from connectorkit_slots.verbs import Claim

__all__ = ["Teller"]

_log = logging.getLogger(__name__)


class Teller:
    """Emits events, if anybody listens.

    Args:
        emit: The listener; what it raises is logged, and changes nothing.
    """

    def __init__(self, emit: Callable[[Any], None] | None) -> None:
        self._emit = emit

    def tell(self, event: object) -> None:
        """Emit an event."""
        if self._emit is not None:
            try:
                self._emit(event)
            except (Exception, SystemExit, CancelledError):  # noqa: BLE001 - breaks no call
                _log.exception("A listener failed on %r.", event)

    def decided(
        self,
        claim: Claim,
        outcome: Literal["granted", "refused"],
        mode: str,
        scopes: Mapping[str, Share],
        full: str = "",
    ) -> None:
        """Tell of a decision, and how far the scopes are used."""
        if self._emit is None:
            return
        org = claim.organization
        self.tell(SlotDecided(outcome, mode, full.partition(":")[0], org))
        if mode == "redis":
            self.used(org, scopes)

    def used(self, org: str, scopes: Mapping[str, Share]) -> None:
        """Tell how far scopes are used that have a limit."""
        for name, share in scopes.items():
            if share.limit is not None:
                kind = name.partition(":")[0]
                owner = org if kind == "org" else ""
                self.tell(SlotsUsed(kind, share.used, share.limit, owner))
