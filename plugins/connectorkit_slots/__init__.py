"""slots: at most so many executions at once, in all processes that share a Redis.

```
errors     what is raised
options    what a limiter may be given · keys: names in Redis
slot       what is held, and whether it is still
limiter    for threads · async_limiter: for event loops
scripts/   what Redis does, one script a verb · verbs: their arguments and replies
desk       what both limiters decide alike · local: without Redis
heartbeat  renews what this process holds
```

redis is imported when the first limiter is made, never before.
"""

from __future__ import annotations

from connectorkit_slots.async_limiter import AsyncSlotLimiter
from connectorkit_slots.errors import SlotLimitExceeded, SlotLost, SlotsUnavailable
from connectorkit_slots.limiter import SlotLimiter
from connectorkit_slots.options import SlotOptions
from connectorkit_slots.slot import AsyncSlot, Share, Slot, Usage

__all__ = [
    "AsyncSlot",
    "AsyncSlotLimiter",
    "Share",
    "Slot",
    "SlotLimitExceeded",
    "SlotLimiter",
    "SlotLost",
    "SlotOptions",
    "SlotsUnavailable",
    "Usage",
]
