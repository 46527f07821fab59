"""Bodies of the boto3 client: read under the attempt, and resumed by pinned ranges."""

from __future__ import annotations

import io
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Self

from botocore.exceptions import ClientError
from botocore.httpchecksum import StreamingChecksumBody
from botocore.response import StreamingBody

from connectorkit.sync_body import SyncAnswer, SyncBody
from connectorkit_s3.client_http import in_time
from connectorkit_s3.pinning import Pinned, changed
from connectorkit_s3.remedies import status_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit import Operation

__all__ = ["ClientBody", "Reading"]

_DAY = 86_400.0


class Reading(Pinned):
    """One request with a body for an answer, in as many attempts as it takes.

    Args:
        send: Sends a request with these arguments.
        kwargs: Its arguments.
        member: What the answer calls its body.
        patience: Seconds to wait for the next bytes.
        can_resume: Whether a part of it can be asked for.

    Attributes:
        patience: Seconds to wait for the next bytes.
        checked: How many bytes its checksum knows.
    """

    def __init__(
        self,
        send: Callable[[Operation, dict[str, Any]], dict[str, Any]],
        kwargs: dict[str, Any],
        *,
        member: str,
        patience: float,
        can_resume: bool,
    ) -> None:
        super().__init__(kwargs)
        self._send = send
        self._member = member
        self._can_resume = can_resume
        # By what the whole of it is checked: the sum so far, and what it has to be.
        self._check: tuple[Any, str] | None = None
        self.checked = 0
        self.patience = patience

    def attempt(self, op: Operation, offset: int) -> SyncAnswer:
        """Ask for the bytes from an offset on.

        Raises:
            ObjectChanged: They would be another version's.
            WrongAnswer: They are not those that were asked for.
        """
        asked = self.ask(offset)
        try:
            answer = self._send(op, asked)
        except ClientError as error:
            is_ours = bool(self.answer)
            if is_ours and status_of(error) == HTTPStatus.PRECONDITION_FAILED:
                raise changed(op) from error
            raise
        body = answer.pop(self._member)
        try:
            size = self.accept(op, answer, asked)
        except BaseException:
            body.close()
            raise
        if not self._can_resume:
            op.origin.is_repeatable = False
        return SyncAnswer(_Source(self._checking(body, offset), op, self), size)

    def _checking(self, body: Any, offset: int) -> Any:
        """Let the checksum go on from attempt to attempt; S3 has none for a range."""
        if self._check is not None and 0 < offset == self.checked:
            return StreamingChecksumBody(
                body._raw_stream, body._content_length, *self._check
            )
        self.checked, self._check = offset, None
        if not offset and isinstance(body, StreamingChecksumBody):
            self._check = body.checksum, body._expected
        return body


class _Source:
    """The body of one answer, as botocore gives it."""

    def __init__(self, body: Any, op: Operation, reading: Reading) -> None:
        self._body = body
        self._op = op
        self._reading = reading

    def read(self, amount: int) -> bytes:
        """Read at most so many bytes."""
        with in_time(self._op, self._reading.patience):
            data: bytes = self._body.read(amount)
        self._reading.checked += len(data)
        return data

    def close(self) -> None:
        """Drop it."""
        self._body.close()


class ClientBody(StreamingBody):  # type: ignore[misc]
    """The body of an answer as boto3's users know it, over all its attempts.

    A read returns as many bytes as it is asked for, and fewer only at the end. One that
    fails for good raises what the operation ended with; after that, and after `close`,
    every read raises ValueError.
    """

    def __init__(self, body: SyncBody, reading: Reading, size: int | None) -> None:
        super().__init__(None, size)
        self._body = body
        self._reading = reading

    @property
    def _raw_stream(self) -> Self:
        # Some read what botocore reads. Not kept: it would be a cycle, and what nobody
        # reads would hold its connection until the collector comes.
        return self

    @_raw_stream.setter
    def _raw_stream(self, _stream: object) -> None:
        pass

    def read(self, amt: int | None = None) -> bytes:
        """Read `amt` bytes, or all that are left."""
        data = self._body.read(amt)
        self._amount_read += len(data)
        return data

    def readinto(self, b: Any) -> int:
        """Read into a buffer; return how many bytes."""
        view = memoryview(b).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readlines(self, hint: int | None = -1) -> list[bytes]:
        """Return the lines that are left, with their ends."""
        return io.BytesIO(self.read()).readlines(-1 if hint is None else hint)

    def readable(self) -> bool:
        """Tell that it can be read."""
        return True

    def tell(self) -> int:
        """Return how many bytes were read."""
        read: int = self._amount_read
        return read

    def set_socket_timeout(self, timeout: float | None) -> None:
        """Wait so many seconds for the next bytes; a day, if it is None."""
        self._reading.patience = _DAY if timeout is None else timeout

    def close(self) -> None:
        """Drop what is left, and the connection with it."""
        self._body.close()
        io.IOBase.close(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()
