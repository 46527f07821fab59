"""Operations of S3: what a request is about, and bodies that are sent again."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any

from connectorkit import Kind, NotReplayable, WrongAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit import Operation

__all__ = [
    "Rewind",
    "expect_copied",
    "facts_of",
    "kind_of",
    "left_behind",
    "length_of",
    "no_object",
]

# What the answer to a copy tells of it.
_COPIES = {"copy_object": "CopyObjectResult", "upload_part_copy": "CopyPartResult"}


def kind_of(method: str) -> Kind:
    """Return what an operation of S3's does, by its name."""
    verb, _, _ = method.partition("_")
    if verb == "list":
        return Kind.LIST
    if verb in {"delete", "abort"}:
        return Kind.DELETE
    return Kind.READ if verb in {"get", "head", "select"} else Kind.WRITE


def facts_of(kwargs: Mapping[str, Any]) -> dict[str, str]:
    """Return the bucket and the path that a request is about, by its arguments."""
    bucket = str(kwargs.get("Bucket") or "")
    about = kwargs.get("Key") or kwargs.get("Prefix") or ""
    return {"bucket": bucket, "path": f"{bucket}/{about}" if about else bucket}


def no_object(bucket: str) -> IsADirectoryError:
    """Return the error that says that a path without a key is no object's."""
    why = f"{os.strerror(errno.EISDIR)}, and no object: its path reads bucket/key"
    return IsADirectoryError(errno.EISDIR, why, bucket)


def expect_copied(method: str, answer: Mapping[str, Any]) -> None:
    """See that a copy was answered as one.

    A server that cannot copy takes the request for an upload without a body, and
    stores nothing in place of the object, or of the part.

    Raises:
        WrongAnswer: It was not.
    """
    named = _COPIES.get(method)
    if named and not answer.get(named, {}).get("ETag"):
        raise WrongAnswer(
            f"The service does not say what it copied for {method}: it may be unable "
            "to, and have stored an empty object instead."
        )


def length_of(body: Any) -> int:
    """Return how many bytes of a body are to be sent; 0 if nobody can tell."""
    try:
        return len(body)
    except TypeError:
        pass
    try:
        here = body.tell()
        # Not what `seek` returns: some bodies return nothing.
        body.seek(0, os.SEEK_END)
        end = body.tell()
        body.seek(here)
    except (AttributeError, OSError, TypeError, ValueError):
        return 0
    return max(0, int(end) - int(here))


def left_behind(names: Mapping[str, Any], error: Exception) -> str:
    """Say that an upload could not be aborted.

    Args:
        names: Its bucket, key and ID.
        error: Why.
    """
    return (
        f"connectorkit: the parts of upload {names['UploadId']!r} to "
        f"{names['Bucket']}/{names['Key']} could not be removed and are still "
        f"stored: {type(error).__name__}."
    )


class Rewind:
    """Puts a body back to where it began, for each further attempt.

    Attributes:
        failed: Why there is a further attempt, if that is known.
    """

    def __init__(self, body: Any) -> None:
        self._body = body if hasattr(body, "read") else None
        self._start: int | None = None
        self.failed: Exception | None = None
        if self._body is not None:
            try:
                self._start = self._body.tell()
            except (AttributeError, OSError, ValueError):
                return

    def __call__(self, op: Operation) -> None:
        """Put it back, before an attempt.

        Raises:
            NotReplayable: It can be read only once.
        """
        if self._body is None or op.origin.attempts <= 1:
            return
        try:
            if self._start is not None:
                self._body.seek(self._start)
                if self._body.tell() == self._start:
                    return
        except (AttributeError, OSError, TypeError, ValueError) as error:
            # A file that was closed, say.
            self.failed = self.failed or error
        raise NotReplayable(
            f"{op}: its body can be read only once, so it is not tried again: "
            "pass bytes, or a file that can seek."
        ) from self.failed
