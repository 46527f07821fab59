"""What slots raise.

```
ConnectorKitError
├── Refused
│   ├── SlotLimitExceeded (OSError)        all slots of a scope are taken
│   └── SlotsUnavailable (ConnectionError) Redis is away, and nothing may stand in
└── SlotLost (OSError)                     the holder could not renew in time
```
"""

from __future__ import annotations

from connectorkit import ConnectorKitError, Refused

__all__ = ["SlotLimitExceeded", "SlotLost", "SlotsUnavailable"]


class SlotLimitExceeded(Refused, OSError):
    """All slots of a scope are taken: an HTTP API answers 429 with `retry_after`.

    Not a BlockingIOError, which it resembles: event loops swallow those.

    Attributes:
        scope: The scope that is full, such as "org:org_42", "user:7" or "global".
        used: How many slots of it are taken.
        limit: How many there are.
        retry_after: Seconds until one may be free, more than 0: then the first of them
            lapses, unless its holder renews it. It may be given back before.
    """

    policy = "slots"
    reason = "full"

    def __init__(
        self,
        message: str,
        scope: str = "",
        used: int = 0,
        limit: int = 0,
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message)
        self.scope = scope
        self.used = used
        self.limit = limit
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[object, ...]:
        told = (str(self), self.scope, self.used, self.limit, self.retry_after)
        return type(self), told


class SlotsUnavailable(Refused, ConnectionError):
    """Redis is away, and by the settings nothing stands in for it."""

    policy = "slots"
    reason = "away"


class SlotLost(ConnectorKitError, OSError):
    """The holder could not renew its slot in time: another one may have it now."""
