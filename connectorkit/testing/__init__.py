"""A test kit: a proxy that injects faults, a clock that waits for nobody, a fake kit.

```python
from connectorkit.testing import FaultProxy, Status

with FaultProxy("http://127.0.0.1:9000") as proxy:
    proxy.inject(Status(503, "SlowDown"), times=2, when="get_object")
    ...  # read through proxy.url
    assert proxy.count("get_object") == 3
```

It needs nothing but Python, neither a test framework nor a storage's client.
"""

from __future__ import annotations

from connectorkit.testing.clock import VirtualClock
from connectorkit.testing.exchange import Exchange, Request
from connectorkit.testing.faults import (
    Drip,
    Fault,
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    ResetMidBody,
    Stall,
    Status,
    Truncate,
    WholeForRange,
)
from connectorkit.testing.memory import memory_kit
from connectorkit.testing.operations import OPERATIONS
from connectorkit.testing.proxy import FaultProxy
from connectorkit.testing.relay import Answer, Relay
from connectorkit.testing.rules import Rule

__all__ = [
    "OPERATIONS",
    "Answer",
    "Drip",
    "Exchange",
    "Fault",
    "FaultProxy",
    "LoseReply",
    "Relay",
    "ReplaceObject",
    "Request",
    "ResetBeforeReply",
    "ResetMidBody",
    "Rule",
    "Stall",
    "Status",
    "Truncate",
    "VirtualClock",
    "WholeForRange",
    "memory_kit",
]
