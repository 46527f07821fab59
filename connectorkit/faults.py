"""Faults: what an error means for those who decide whether to try again.

A storage's plugin knows its own codes; here stand the built-in errors and those of the
network, found along the chain of causes.
"""

from __future__ import annotations

import errno
import math
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

from connectorkit.errors import (
    AttemptTimedOut,
    NotReplayable,
    ObjectChanged,
    Refused,
    WrongAnswer,
)
from connectorkit.remedies import chain

__all__ = ["Fault", "Verdict", "classify", "retry_after"]


class Fault(StrEnum):
    """The class of an error.

    Attributes:
        NOT_FOUND: The service answered: it is not there.
        PRECONDITION: It answered: a condition does not hold.
        AUTH: It answered: not with these credentials.
        EXPIRED: It answered: the credentials were good until a moment ago.
        PERMANENT: Anything else that the same request would meet again. What nobody
            knows is permanent.
        THROTTLED: It answered: not so fast.
        TRANSIENT: It failed, or the way to it did.
        TIMEOUT: It did not answer in time.
        CORRUPT: Other bytes came than were asked for or sent.
        LOCAL: A policy did not let the operation through.
    """

    NOT_FOUND = "not_found"
    PRECONDITION = "precondition"
    AUTH = "auth"
    EXPIRED = "expired"
    PERMANENT = "permanent"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    TIMEOUT = "timeout"
    CORRUPT = "corrupt"
    LOCAL = "local"

    @property
    def is_outage(self) -> bool:
        """Whether it tells of the service's health, and may pass."""
        return self in _OUTAGES


_OUTAGES: Final = {Fault.THROTTLED, Fault.TRANSIENT, Fault.TIMEOUT, Fault.CORRUPT}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an error means.

    Attributes:
        fault: Its class.
        code: The service's own word for it, such as `SlowDown`; for people.
        retry_after: Seconds that the service asks to wait, if it does.
        is_sent: Whether the service may have acted on the request. A refused
            connection and a throttle say that it has not.
        is_hangup: Whether a connection ended before an answer began: one that was kept
            open for too long, as a rule.
    """

    fault: Fault
    code: str = ""
    retry_after: float | None = None
    is_sent: bool = True
    is_hangup: bool = False


# Nothing was sent: no connection came about.
_UNSENT_NUMBERS: Final = {
    errno.ECONNREFUSED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}
_TRANSIENT_NUMBERS: Final = {
    errno.EAGAIN,
    errno.EBUSY,
    errno.ECONNABORTED,
    errno.ECONNRESET,
    errno.EINTR,
    errno.EPIPE,
    errno.ESTALE,
    errno.EREMOTEIO if hasattr(errno, "EREMOTEIO") else errno.EIO,
}
_HANGUPS: Final = {
    "ConnectionClosedError",
    "RemoteDisconnected",
    "ServerDisconnectedError",
}
# Clients' own errors, by the names of their classes: aiohttp, botocore, urllib3,
# requests and http.client do not derive theirs from one family.
_NAMED: Final[dict[str, Verdict]] = {
    **dict.fromkeys(
        ("ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"),
        Verdict(Fault.TIMEOUT, is_sent=False),
    ),
    **dict.fromkeys(
        ("ReadTimeout", "ReadTimeoutError", "ServerTimeoutError"),
        Verdict(Fault.TIMEOUT),
    ),
    **dict.fromkeys(
        (
            "ClientConnectorDNSError",
            "ClientConnectorError",
            "ConnectionRefusedError",
            "NameResolutionError",
        ),
        Verdict(Fault.TRANSIENT, is_sent=False),
    ),
    **dict.fromkeys(
        (
            "ClientConnectorCertificateError",
            "ServerFingerprintMismatch",
            "SSLCertVerificationError",
        ),
        Verdict(Fault.PERMANENT, is_sent=False),
    ),
    **dict.fromkeys(_HANGUPS, Verdict(Fault.TRANSIENT, is_hangup=True)),
    **dict.fromkeys(
        (
            "ChunkedEncodingError",
            "ClientConnectionError",
            "ClientOSError",
            "ClientPayloadError",
            "ConnectionError",
            "EndpointConnectionError",
            "HTTPClientError",
            "IncompleteRead",
            "IncompleteReadError",
            "ProtocolError",
            "ProxyConnectionError",
            "ResponseStreamingError",
        ),
        Verdict(Fault.TRANSIENT),
    ),
    **dict.fromkeys(("ChecksumError", "FlexibleChecksumError"), Verdict(Fault.CORRUPT)),
}
_UNKNOWN: Final = Verdict(Fault.PERMANENT)
_USED_UP: Final = Verdict(Fault.PERMANENT, is_sent=False)


def classify(error: BaseException) -> Verdict:
    """Say what an error means, by built-in families and the network's own errors.

    What no table knows is permanent: to try it again would be a guess.
    """
    if isinstance(error, NotReplayable):
        # What lies behind it is the attempt before, which was judged by itself.
        return _USED_UP
    found = None
    for link in chain(error):
        verdict = _of(link)
        if verdict is None:
            continue
        if found is None and not verdict.fault.is_outage:
            # What was answered is no matter of what went wrong before.
            return verdict
        if not verdict.is_sent or verdict.is_hangup:
            # The particular lies deeper than the general, and says more.
            return verdict
        found = found or verdict
    return found or _UNKNOWN


def _of(error: BaseException) -> Verdict | None:  # noqa: C901, PLR0911, PLR0912 - a table
    match error:
        case Refused():
            return Verdict(Fault.LOCAL, error.reason, is_sent=False)
        case AttemptTimedOut():
            return Verdict(Fault.TIMEOUT)
        case WrongAnswer():
            return Verdict(Fault.CORRUPT)
        case FileNotFoundError():
            return Verdict(Fault.NOT_FOUND)
        case FileExistsError() | ObjectChanged():
            return Verdict(Fault.PRECONDITION)
        case PermissionError():
            return Verdict(Fault.AUTH)
        case socket.gaierror():
            passes = error.errno == socket.EAI_AGAIN
            fault = Fault.TRANSIENT if passes else Fault.PERMANENT
            return Verdict(fault, is_sent=False)
    for its in type(error).__mro__:
        if (known := _NAMED.get(its.__name__)) is not None:
            if isinstance(error, OSError) and error.errno in _UNSENT_NUMBERS:
                return Verdict(Fault.TRANSIENT, is_sent=False)
            return known
    if isinstance(error, TimeoutError):
        return Verdict(Fault.TIMEOUT)
    if isinstance(error, OSError) and error.errno in _UNSENT_NUMBERS:
        return Verdict(Fault.TRANSIENT, is_sent=False)
    if isinstance(error, OSError) and error.errno in _TRANSIENT_NUMBERS:
        return Verdict(Fault.TRANSIENT)
    return None


def retry_after(value: object) -> float | None:
    """Read a Retry-After header: seconds or a date (RFC 9110, 10.2.3).

    A date is the service's, so this machine's wall clock decides how long it is until
    then; one that is past means at once.

    Returns:
        Seconds; None if there is none, or nobody could read it.
    """
    text = str(value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=UTC)
        seconds = (date - datetime.now(UTC)).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
