"""Reading an object: every range is the one that was asked for, of one version."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiobotocore.response import AioStreamingBodyBase

from connectorkit import ObjectChanged, WrongAnswer
from connectorkit.body import Answer, Body
from connectorkit_s3.remedies import status_of

if TYPE_CHECKING:
    from connectorkit import Operation
    from connectorkit_s3.wire import S3Wire

__all__ = ["Reading", "S3Body"]

_ASKED = re.compile(r"bytes=(\d*)-(\d*)")
_ANSWERED = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Reading:
    """One GetObject, in as many attempts as it takes.

    Args:
        fs: Sends the requests.
        more: Further arguments, as s3fs passes them.
        kwargs: The arguments of GetObject.

    Attributes:
        answer: The first answer that was good; what it says of the object holds for
            all that come after.
    """

    def __init__(
        self, fs: S3Wire, more: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        self._fs = fs
        self._more = more
        self._kwargs = kwargs
        self._first = 0
        self._last: int | None = None
        self.answer: dict[str, Any] = {}

    async def attempt(self, op: Operation, offset: int) -> Answer:
        """Ask for the bytes from an offset on.

        Raises:
            ObjectChanged: They would be another version's.
            WrongAnswer: They are not those that were asked for.
        """
        kwargs = dict(self._kwargs)
        if offset:
            last = "" if self._last is None else self._last
            kwargs["Range"] = f"bytes={self._first + offset}-{last}"
        if self.answer:
            kwargs["IfMatch"] = self.answer["ETag"]
        pin = kwargs.get("IfMatch")
        try:
            answer = await self._fs.send("get_object", self._more, kwargs)
        except OSError as error:
            if pin and status_of(error) == HTTPStatus.PRECONDITION_FAILED:
                raise _changed(op) from error
            raise
        try:
            self._accept(op, answer, kwargs)
        except BaseException:
            answer["Body"].close()
            raise
        return Answer(answer["Body"], answer.get("ContentLength"))

    def _accept(
        self, op: Operation, answer: dict[str, Any], kwargs: dict[str, Any]
    ) -> None:
        pin = kwargs.get("IfMatch")
        # Some servers take no notice of If-Match.
        if pin and answer.get("ETag") and _bare(answer["ETag"]) != _bare(pin):
            raise _changed(op)
        size = answer.get("ContentLength")
        asked = kwargs.get("Range")
        if asked:
            where = _ANSWERED.fullmatch(answer.get("ContentRange") or "")
            if where is None:
                raise WrongAnswer(
                    f"{op}: the service answers {asked} without saying which bytes "
                    "it sends; they may be the whole object."
                )
            first, last = int(where[1]), int(where[2])
            if not _is_asked(asked, first, last, where[3]) or size != last - first + 1:
                raise WrongAnswer(
                    f"{op}: the service answers {asked} with {where[0]}, {size} long."
                )
        elif "PartNumber" not in kwargs and answer.get("ContentRange"):
            raise WrongAnswer(f"{op}: the service sends a part of the object for all.")
        else:
            first, last = 0, None
        if not self.answer:
            self.answer = answer
            self._first, self._last = first, last
            if not answer.get("ETag"):
                # Nothing tells one version from another: it cannot be gone on with.
                op.origin.is_repeatable = False

    def pinned(self) -> bool:
        """Tell whether a version was told, by which further ranges can be pinned."""
        return bool(self.answer.get("ETag"))


class S3Body(AioStreamingBodyBase):  # type: ignore[misc]
    """The body of a GetObject as botocore's users know it, over all its attempts."""

    def __init__(self, body: Body, size: int | None) -> None:
        super().__init__(None, size)
        self._body = body

    async def read(self, amt: int | None = None) -> bytes:
        """Read at most `amt` bytes, or all that are left."""
        data = await self._body.read(amt)
        self._amount_read += len(data)
        return data

    async def readinto(self, b: bytearray) -> int:
        """Read into a buffer; return how many bytes."""
        data = await self.read(len(b))
        b[: len(data)] = data
        return len(data)

    def readable(self) -> bool:
        """Tell whether there is more."""
        return not self._body.closed

    def close(self) -> None:
        """Drop it."""
        self._body.close()

    @property
    def closed(self) -> bool:
        """Whether it was read to its end, or closed."""
        return self._body.closed

    async def aclose(self) -> None:
        """Drop it."""
        self._body.close()


def _changed(op: Operation) -> ObjectChanged:
    return ObjectChanged(
        f"{op}: somebody replaced the object while it was read: read it again."
    )


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _is_asked(asked: str, first: int, last: int, total: str) -> bool:
    """Tell whether an answered range is the one that was asked for."""
    match = _ASKED.fullmatch(asked)
    if match is None or total == "*":
        return match is not None and match[1] == str(first) and match[2] == str(last)
    end = int(total) - 1
    if not match[1]:
        return (first, last) == (max(0, int(total) - int(match[2])), end)
    return (first, last) == (int(match[1]), min(int(match[2] or end), end))
