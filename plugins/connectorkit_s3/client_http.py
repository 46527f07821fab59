"""The sockets of the boto3 client: each waits no longer than its attempt may take.

A time limit of botocore's is one for each wait, however many there are. Here each wait
is for what is left of the attempt, so that a server that sends a byte now and then
cannot hold it for ever. What nothing ends: looking a host's name up, a proxy's answer
to CONNECT, and the reading of a body that is uploaded.
"""

from __future__ import annotations

import contextlib
import copy
import http.client
import io
from contextvars import ContextVar
from queue import Empty
from typing import TYPE_CHECKING, Any

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
)
from botocore.exceptions import ConnectTimeoutError, ReadTimeoutError
from urllib3.exceptions import ReadTimeoutError as WriteTimedOut
from urllib3.poolmanager import PoolManager

from connectorkit.remedies import chain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit import Operation

__all__ = ["disconnect", "in_time", "punctual"]

# One wait is for so many bytes of a body that is sent.
_PIECE = 1 << 16


class _Limit:
    """The time that an attempt has for its next wait.

    Attributes:
        is_cutting: Whether it was shorter than the client's own.
    """

    def __init__(self, op: Operation, patience: float) -> None:
        self._op = op
        self._patience = patience
        self.is_cutting = False

    def seconds(self, own: float | None = None) -> float:
        """Return for how long to wait; at most `own`, by default for the next bytes.

        Raises:
            TimeoutError: There is no time left.
        """
        own = self._patience if own is None else own
        left = self._op.left()
        self.is_cutting = left < own
        if left <= 0:
            raise TimeoutError("The time of the attempt is up.")
        return min(left, own)


_limit: ContextVar[_Limit | None] = ContextVar("connectorkit_s3_limit", default=None)


@contextlib.contextmanager
def in_time(op: Operation, patience: float) -> Iterator[None]:
    """Do in the time that an attempt has what is done within.

    Args:
        op: The operation, as the attempt got it.
        patience: The client's own seconds to wait for the next bytes.

    Raises:
        ConnectorKitError: The time is up.
    """
    limit = _Limit(op, patience)
    token = _limit.set(limit)
    try:
        yield
    except Exception as error:
        if limit.is_cutting and any(map(_is_late, chain(error))):
            raise op.overrun() from error
        raise
    finally:
        _limit.reset(token)


def _is_late(error: BaseException) -> bool:
    return isinstance(error, TimeoutError | ConnectTimeoutError | ReadTimeoutError)


def disconnect(session: Any) -> None:
    """Close the connections of a session that nobody uses now.

    Not its pools, as botocore would: a thread may be about to ask one for a connection.
    """
    for manager in (session._manager, *session._proxy_managers.values()):
        for key in manager.pools.keys():  # noqa: SIM118 - it cannot be iterated
            queue = getattr(manager.pools.get(key), "pool", None)
            with contextlib.suppress(Empty):
                while queue is not None:
                    connection = queue.get(block=False)
                    if connection is not None:
                        connection.close()


def punctual(session: Any) -> Any:
    """Return a botocore HTTP session like another, with such sockets, and none yet."""
    new = copy.copy(session)
    new._pool_classes_by_scheme = {"http": _Pool, "https": _TLSPool}
    new._proxy_managers = {}
    new._manager = PoolManager(**new._get_pool_manager_kwargs())
    new._manager.pool_classes_by_scheme = new._pool_classes_by_scheme
    return new


class _Arrivals(io.RawIOBase):
    """What comes from a socket."""

    def __init__(self, sock: Any, raw: Any) -> None:
        self._sock = sock
        self._raw = raw

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        number: int = self._raw.fileno()
        return number

    def readinto(self, buffer: Any) -> int | None:
        limit = _limit.get()
        if limit is not None:
            self._sock.settimeout(limit.seconds())
        count: int | None = self._raw.readinto(buffer)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Response(http.client.HTTPResponse):
    def __init__(self, sock: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp: Any = io.BufferedReader(_Arrivals(sock, self.fp.detach()))


class _Punctual:
    """For a connection of botocore's."""

    response_class = _Response
    sock: Any
    timeout: Any

    def connect(self) -> None:
        limit = _limit.get()
        if limit is not None:
            self.timeout = limit.seconds(self.timeout)
        super().connect()  # type: ignore[misc]

    def send(self, data: Any) -> None:
        limit = _limit.get()
        if limit is None or not isinstance(data, bytes | bytearray | memoryview):
            super().send(data)  # type: ignore[misc]
            return
        pieces = memoryview(data)
        try:
            for start in range(0, len(pieces), _PIECE):
                if self.sock is not None:
                    # Else the time to connect would limit the sending of it all.
                    self.sock.settimeout(limit.seconds())
                super().send(pieces[start : start + _PIECE])  # type: ignore[misc]
        except TimeoutError as error:
            # To urllib3 it would be a connection that was closed.
            raise WriteTimedOut(self, "", "Write timed out.") from error  # type: ignore[arg-type]


class _Connection(_Punctual, AWSHTTPConnection):  # type: ignore[misc]
    pass


class _TLSConnection(_Punctual, AWSHTTPSConnection):  # type: ignore[misc]
    pass


class _Pool(AWSHTTPConnectionPool):  # type: ignore[misc]
    ConnectionCls = _Connection


class _TLSPool(AWSHTTPSConnectionPool):  # type: ignore[misc]
    ConnectionCls = _TLSConnection
