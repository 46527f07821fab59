"""A look and the open that follows it: one request to look up, and not two.

pyarrow, for one, asks whether a path is a file and then opens it, which looks the file
up again for its size. Here the open goes on from the look: it reads the very version
that the look saw, or says that it was replaced. That holds for the next call of the
same thread, made at once, and for nothing else: it is no cache.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit.protocol.places import Place

__all__ = ["Look", "Looks"]

# Seconds: about as long as an open itself takes between its look and its first read.
_AT_ONCE: Final = 0.05


@dataclass(frozen=True, slots=True)
class Look:
    """What a call saw of a file.

    Attributes:
        place: Where.
        info: What the storage said.
        at: When, in monotonic seconds.
        changes: What this process had changed by then through the connector.
    """

    place: Place
    info: Mapping[str, Any]
    at: float
    changes: int

    @classmethod
    def of(cls, place: Place, info: Mapping[str, Any], at: float) -> Look:
        """Return what a call has just seen."""
        return cls(place, info, at, _changes(place))

    def options(self, place: Place, now: float) -> dict[str, Any]:
        """Return by which options to open what was seen; {} if it is not this."""
        is_it = self.place.fs is place.fs and self.place.path == place.path
        if not is_it or now - self.at > _AT_ONCE or self.changes != _changes(place):
            return {}
        options: dict[str, Any] = place.fs.seen(self.info)
        return options


def _changes(place: Place) -> int:
    pipeline = getattr(place.fs, "pipeline", None)
    return 0 if pipeline is None else pipeline.changes


class Looks(threading.local):
    """What each thread saw in its last call."""

    last: Look | None = None

    def take(self) -> Look | None:
        """Return what the last call saw, if it was a look, and forget it."""
        last, self.last = self.last, None
        return last
