"""Reading an object on an event loop, in as many attempts as it takes."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiobotocore.response import AioStreamingBodyBase

from connectorkit.body import Answer, Body
from connectorkit_s3.pinning import Pinned, changed
from connectorkit_s3.remedies import status_of

if TYPE_CHECKING:
    from connectorkit import Operation
    from connectorkit_s3.wire import S3Wire

__all__ = ["Reading", "S3Body"]

# Who takes no notice of the condition may find that the range is not there any more.
_OF_ANOTHER_VERSION = {
    HTTPStatus.PRECONDITION_FAILED,
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
}


class Reading(Pinned):
    """One GetObject, in as many attempts as it takes.

    Args:
        fs: Sends the requests.
        more: Further arguments, as s3fs passes them.
        kwargs: The arguments of GetObject.
    """

    def __init__(
        self, fs: S3Wire, more: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        super().__init__(kwargs)
        self._fs = fs
        self._more = more

    async def attempt(self, op: Operation, offset: int) -> Answer:
        """Ask for the bytes from an offset on.

        Raises:
            ObjectChanged: They would be another version's.
            WrongAnswer: They are not those that were asked for.
        """
        kwargs = self.ask(offset)
        try:
            answer = await self._fs.send("get_object", self._more, kwargs)
        except OSError as error:
            is_pinned = "IfMatch" in kwargs
            if is_pinned and status_of(error) in _OF_ANOTHER_VERSION:
                raise changed(op) from error
            raise
        try:
            size = self.accept(op, answer, kwargs)
        except BaseException:
            answer["Body"].close()
            raise
        return Answer(answer["Body"], size)


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
