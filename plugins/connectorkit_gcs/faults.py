"""What Google Cloud Storage's refusals mean, and what gcsfs loses of them.

gcsfs makes built-in errors of some statuses, without the status, and drops the headers
of all: here both stay, behind its error.
"""

from __future__ import annotations

import json
import zlib
from typing import TYPE_CHECKING, Any, Final

from connectorkit import ConnectorKitError, Fault, Verdict
from connectorkit import classify as of_network
from connectorkit.faults import retry_after
from connectorkit.remedies import chain
from connectorkit_gcs.json_client import HttpError, validate_response

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = ["Refusal", "classify", "refuse"]

_FORBIDDEN, _NOT_AUTHORIZED = 403, 401

# By "HTTP status and error codes for JSON" and "Retry strategy" in Google's
# documentation of Cloud Storage.
_STATUSES: Final[dict[int, Fault]] = {
    401: Fault.AUTH,
    403: Fault.AUTH,
    404: Fault.NOT_FOUND,
    # A part of an upload that came too slowly.
    408: Fault.TIMEOUT,
    412: Fault.PRECONDITION,
    429: Fault.THROTTLED,
    501: Fault.PERMANENT,
    505: Fault.PERMANENT,
}
# Google refuses who asks too often by a 403, too.
# A way to the service that issues tokens which failed, or an answer that is none.
_TOKEN_SERVICE: Final = {"ResponseError", "TimeoutError", "TransportError"}
_THROTTLES: Final = {"rateLimitExceeded", "userRateLimitExceeded"}
# Nothing of these was done: the service says so by refusing.
_REFUSALS: Final = {
    Fault.AUTH,
    Fault.EXPIRED,
    Fault.NOT_FOUND,
    Fault.PRECONDITION,
    Fault.THROTTLED,
}


class Refusal(Exception):
    """What the service answered in place of what was asked for.

    It stands behind the error that gcsfs makes of it, as its cause.

    Attributes:
        status: The HTTP status.
        reason: Google's own word for it, such as `rateLimitExceeded`, or "".
        retry_after: The header of that name, or None.
        is_expired: Whether credentials were refused that can be renewed.
    """

    def __init__(
        self,
        status: int,
        reason: str = "",
        retry_after: str | None = None,
        is_expired: bool = False,
    ) -> None:
        super().__init__(status, reason, retry_after, is_expired)
        self.status = status
        self.reason = reason
        self.retry_after = retry_after
        self.is_expired = is_expired

    def __str__(self) -> str:
        return f"HTTP status {self.status}" + (self.reason and f", {self.reason}")

    @property
    def is_throttle(self) -> bool:
        """Whether it asks for fewer requests."""
        return self.status == 429 or (  # noqa: PLR2004 - Too Many Requests
            self.status == _FORBIDDEN and self.reason in _THROTTLES
        )


def refuse(  # noqa: PLR0913, PLR0917 - each is a fact of the answer
    status: int,
    headers: Mapping[str, str],
    contents: bytes,
    where: str,
    accepted: Collection[int] = (),
    is_expired: bool = False,
) -> None:
    """Raise what gcsfs raises for a refusal, with what it loses behind it.

    A 403 is a `PermissionError`, unless it asks for fewer requests.

    Args:
        status: The answer's.
        headers: The answer's.
        contents: Its body.
        where: What the request was about, for the error.
        accepted: Statuses other than 2xx that are no refusal.
        is_expired: Whether credentials were refused that can be renewed.
    """
    if 200 <= status < 300 or status in accepted:  # noqa: PLR2004 - success
        return
    contents = _plain(headers, contents)
    refusal = Refusal(status, _reason(contents), headers.get("Retry-After"), is_expired)
    raise _told(refusal, contents, where) from refusal


def _told(  # noqa: PLR0911 - a table, a line each
    refusal: Refusal, contents: bytes, where: str
) -> Any:
    """Return gcsfs's own error."""
    if refusal.status < 400:  # noqa: PLR2004 - a redirect, which nobody follows
        about = {
            "code": refusal.status,
            "message": f"{where}: no answer but a redirect",
        }
        return HttpError(about)
    try:
        # The path is formatted already: braces in it are the object's own.
        validate_response(refusal.status, contents, where)
    except OSError as error:
        if refusal.status == _FORBIDDEN and not refusal.is_throttle:
            return PermissionError(*error.args)
        return error
    except HttpError as error:
        if refusal.status == 400 and "requester pays" in str(error.message):  # noqa: PLR2004 - Bad Request
            return ValueError(
                "Bucket is requester pays. Set `requester_pays=True` when creating "
                "the GCSFileSystem."
            )
        return error
    except Exception as error:  # noqa: BLE001 - gcsfs's, whichever it is
        return error
    # gcsfs takes a 499 for an upload that was cancelled.
    return HttpError({"code": refusal.status, "message": where})


def _plain(headers: Mapping[str, str], contents: bytes) -> bytes:
    if headers.get("Content-Encoding") != "gzip":
        return contents
    try:
        return zlib.decompress(contents, wbits=zlib.MAX_WBITS | 32)
    except zlib.error:
        # It was unpacked by the client.
        return contents


def _reason(contents: bytes) -> str:
    try:
        error: Any = json.loads(contents)["error"]
        return str(error["errors"][0]["reason"])
    except (ValueError, KeyError, IndexError, TypeError):
        return ""


def classify(error: BaseException) -> Verdict:
    """Say what an error of GCS's client means for policies."""
    links = [*chain(error)]
    for link in links:
        if isinstance(link, ConnectorKitError):
            return of_network(error)
        if isinstance(link, Refusal):
            return _of_refusal(link)
        if hasattr(link, "retryable") and "google.auth" in type(link).__module__:
            return _of_credentials(link)
    return of_network(error)


def _of_refusal(refusal: Refusal) -> Verdict:
    status = refusal.status
    fault = _STATUSES.get(status)
    if refusal.is_throttle:
        fault = Fault.THROTTLED
    elif refusal.is_expired:
        fault = Fault.EXPIRED
    elif fault is None:
        fault = Fault.TRANSIENT if status >= 500 else Fault.PERMANENT  # noqa: PLR2004 - the server's
    return Verdict(
        fault,
        refusal.reason or str(status),
        retry_after(refusal.retry_after),
        is_sent=fault not in _REFUSALS,
    )


def _of_credentials(error: Any) -> Verdict:
    """Say what an error of google.auth means: no token, so nothing was sent."""
    is_way = type(error).__name__ in _TOKEN_SERVICE
    fault = Fault.TRANSIENT if is_way or error.retryable else Fault.AUTH
    return Verdict(fault, type(error).__name__, is_sent=False)
