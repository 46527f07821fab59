"""slots: at most so many executions at once, in all processes that share a Redis.

```
errors     what is raised
options    what a limiter may be given · keys: names in Redis
slot       what is held, and whether it is still
limiter    for threads · async_limiter: for event loops
scripts/   what Redis does, one script a verb · verbs: their arguments and replies
desk       what both limiters decide alike · local: without Redis
heartbeat  renews what this process holds
policy     for connectors · ride: the slot of a call · station: of a process
commands   the verbs of the command line
```

redis is imported when the first limiter is made, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectorkit import Policy, hookimpl
from connectorkit_slots.async_limiter import AsyncSlotLimiter
from connectorkit_slots.errors import SlotLimitExceeded, SlotLost, SlotsUnavailable
from connectorkit_slots.limiter import SlotLimiter
from connectorkit_slots.options import SlotOptions
from connectorkit_slots.policy import Slots, SlotsSettings
from connectorkit_slots.slot import AsyncSlot, Share, Slot, Usage

if TYPE_CHECKING:
    import click

__all__ = [
    "AsyncSlot",
    "AsyncSlotLimiter",
    "Share",
    "Slot",
    "SlotLimitExceeded",
    "SlotLimiter",
    "SlotLost",
    "SlotOptions",
    "Slots",
    "SlotsSettings",
    "SlotsUnavailable",
    "Usage",
]


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide slots."""
    return [Slots]


@hookimpl
def connectorkit_commands(cli: click.Group) -> None:
    """Add `connectorkit slots`."""
    from connectorkit_slots.commands import slots

    cli.add_command(slots)
