"""What the boto3 client sends: file objects from where they stand, and parts."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from connectorkit import NotReplayable
from connectorkit_s3.operations import Rewind, length_of

if TYPE_CHECKING:
    from connectorkit import Operation

__all__ = ["Outgoing", "PartSizes"]

# Uploads that somebody else completes are never heard of again.
_MOST_UPLOADS = 1000


class Outgoing:
    """What a request sends: the same for each of its attempts.

    Args:
        kwargs: The arguments of the request.
        member: Which of them is its body, if it has one.

    Attributes:
        kwargs: What botocore gets in their place.
        size: How many bytes the body has; 0 if nobody can tell.
    """

    def __init__(self, kwargs: dict[str, Any], member: str | None) -> None:
        body = kwargs.get(member) if member else None
        self.kwargs = kwargs
        self.size = length_of(body) or int(kwargs.get("ContentLength") or 0)
        self._rewind = Rewind(body)
        self._file: Sending | None = None
        if member and hasattr(body, "read"):
            self._file = Sending.of(body)
            self.kwargs = {**kwargs, member: self._file}

    @property
    def failed(self) -> Exception | None:
        """What the reading of the body raised."""
        return self._file.failed if self._file is not None else None

    def begin(self, op: Operation) -> None:
        """Make ready for an attempt.

        Raises:
            NotReplayable: The body can be read only once.
        """
        self._rewind(op)

    def blame(self, op: Operation, error: Exception) -> None:
        """Note why an attempt failed.

        Raises:
            NotReplayable: It was the reading of the body, which says nothing of the
                service.
        """
        if self.failed is not None:
            raise NotReplayable(f"{op}: its body cannot be read.") from self.failed
        self._rewind.failed = error

    def forget(self) -> None:
        """Let go of errors: their tracebacks hold the frames that hold this."""
        self._rewind.failed = None
        if self._file is not None:
            self._file.failed = None


class Sending:
    """A file object that is sent; it knows whether its own reading failed.

    botocore would tell such an error as one of the connection.

    Attributes:
        failed: What its reading raised.
    """

    def __init__(self, body: Any) -> None:
        self._body = body
        self.failed: Exception | None = None

    @classmethod
    def of(cls, body: Any) -> Sending:
        """Return what stands for a file object, from where it stands."""
        try:
            start = body.tell()
        except (AttributeError, OSError, ValueError):
            start = 0
        if start:
            return _FromHere(body, start)
        return _Sized(body) if hasattr(body, "__len__") else Sending(body)

    def read(self, amount: int | None = -1) -> Any:
        """Read at most so many bytes, or all that are left."""
        try:
            return self._body.read(-1 if amount is None else amount)
        except Exception as error:
            self.failed = error
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)


class _Sized(Sending):
    def __len__(self) -> int:
        return len(self._body)


class _FromHere(Sending):
    """One that begins where another stands.

    When botocore sends a request to another region, it puts the body back to its very
    beginning, wherever it stood.
    """

    def __init__(self, body: Any, start: int) -> None:
        super().__init__(body)
        self._start = start

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._body.seek(offset + (0 if whence else self._start), whence)
        return self.tell()

    def tell(self) -> int:
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
