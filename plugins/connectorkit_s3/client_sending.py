"""What the boto3 client sends: bodies from where they stand, and parts of uploads."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Any

__all__ = ["FromHere", "PartSizes"]

# Uploads that somebody else completes are never heard of again.
_MOST_UPLOADS = 1000


class FromHere:
    """A body that begins where another stands.

    When botocore sends a request to another region, it puts the body back to its very
    beginning, wherever it stood.
    """

    def __init__(self, body: Any, start: int) -> None:
        self._body = body
        self._start = start

    @classmethod
    def of(cls, body: Any) -> Any:
        """Return `body` itself, if it stands at its beginning or nobody can tell."""
        try:
            start = body.tell()
        except (AttributeError, OSError, ValueError):
            return body
        return cls(body, start) if start else body

    def read(self, amount: int | None = -1) -> Any:
        """Read at most so many bytes, or all that are left."""
        return self._body.read(-1 if amount is None else amount)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to a place in it."""
        self._body.seek(offset + (0 if whence else self._start), whence)
        return self.tell()

    def tell(self) -> int:
        """Return the place in it."""
        here: int = self._body.tell()
        return here - self._start


class PartSizes:
    """How many bytes of each upload have arrived, by what this process sent."""

    def __init__(self) -> None:
        self._uploads: OrderedDict[str, dict[int, int]] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, upload: str, part: int, size: int) -> None:
        """Note that a part has arrived."""
        with self._lock:
            self._uploads.setdefault(upload, {})[part] = size
            if len(self._uploads) > _MOST_UPLOADS:
                self._uploads.popitem(last=False)

    def total(self, upload: str) -> int | None:
        """Return how many bytes of an upload have arrived, if that is known."""
        with self._lock:
            parts = self._uploads.get(upload)
            return None if parts is None else sum(parts.values())

    def forget(self, upload: str) -> None:
        """Forget an upload that is at its end."""
        with self._lock:
            self._uploads.pop(upload, None)
