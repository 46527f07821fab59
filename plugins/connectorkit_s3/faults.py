"""What S3's errors mean for policies: its codes, then its status, then the network.

The codes are those of Amazon's error reference, of botocore's retry modes and of
MinIO's server; `HeadObject` answers without a body, so there the status decides.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from connectorkit import ConnectorKitError, Fault, Verdict
from connectorkit import classify as of_network
from connectorkit.faults import retry_after
from connectorkit.remedies import chain

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["classify"]

_CODES: Final[dict[str, Fault]] = {
    **dict.fromkeys(
        (
            "BandwidthLimitExceeded",
            "EC2Throttled",
            "EC2ThrottledException",
            "LimitExceededException",
            "PriorRequestNotComplete",
            "ProvisionedThroughputExceeded",
            "ProvisionedThroughputExceededException",
            "RequestLimitExceeded",
            "RequestThrottled",
            "RequestThrottledException",
            "SlowDown",
            "SlowDownRead",
            "SlowDownWrite",
            "ThrottledException",
            "Throttling",
            "ThrottlingException",
            "TooManyRequests",
            "TooManyRequestsException",
        ),
        Fault.THROTTLED,
    ),
    **dict.fromkeys(
        (
            "Busy",
            "ConditionalRequestConflict",
            "IncompleteBody",
            "InternalError",
            "InternalFailure",
            "OperationAborted",
            "RequestTimeoutException",
            "ServerNotInitialized",
            "ServiceUnavailable",
            "XMinioServerNotInitialized",
        ),
        Fault.TRANSIENT,
    ),
    # Of the client's body: it came too slowly. By its status, a 400, it would be final.
    "RequestTimeout": Fault.TIMEOUT,
    **dict.fromkeys(
        ("BadDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"),
        Fault.CORRUPT,
    ),
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException", "RequestExpired"), Fault.EXPIRED
    ),
    "TokenRefreshRequired": Fault.EXPIRED,
    **dict.fromkeys(
        ("NoSuchBucket", "NoSuchKey", "NoSuchUpload", "NoSuchVersion"),
        Fault.NOT_FOUND,
    ),
    **dict.fromkeys(
        ("BucketAlreadyExists", "BucketAlreadyOwnedByYou", "PreconditionFailed"),
        Fault.PRECONDITION,
    ),
    **dict.fromkeys(
        (
            "AccessDenied",
            "AccountProblem",
            "AllAccessDisabled",
            "AuthorizationHeaderMalformed",
            "InvalidAccessKeyId",
            "InvalidToken",
            "RequestTimeTooSkewed",
            "SignatureDoesNotMatch",
        ),
        Fault.AUTH,
    ),
}
_STATUSES: Final[dict[int, Fault]] = {
    401: Fault.AUTH,
    403: Fault.AUTH,
    404: Fault.NOT_FOUND,
    408: Fault.TIMEOUT,
    409: Fault.PERMANENT,
    412: Fault.PRECONDITION,
    429: Fault.THROTTLED,
    500: Fault.TRANSIENT,
    502: Fault.TRANSIENT,
    503: Fault.TRANSIENT,
    504: Fault.TRANSIENT,
    507: Fault.PERMANENT,
}
_BARE_CONFLICTS: Final = {"", "409", "Conflict"}
_NO_CREDENTIALS: Final = {
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "TokenRetrievalError",
}
# Nothing of these was done: the service says so by refusing.
_REFUSALS: Final = {
    Fault.AUTH,
    Fault.EXPIRED,
    Fault.NOT_FOUND,
    Fault.PRECONDITION,
    Fault.THROTTLED,
}


def classify(error: BaseException) -> Verdict:
    """Say what an error of S3's client means for policies."""
    # The kit's own say themselves what they mean; what lies behind was judged before.
    links = () if isinstance(error, ConnectorKitError) else chain(error)
    for link in links:
        response = getattr(link, "response", None)
        if isinstance(response, dict) and "Error" in response:
            operation = str(getattr(link, "operation_name", ""))
            return _of_response(response, operation)
        if type(link).__name__ in _NO_CREDENTIALS:
            return Verdict(Fault.AUTH, type(link).__name__, is_sent=False)
        if isinstance(link, ValueError):
            # The client does not send it, such as for a line break in the key.
            return Verdict(Fault.PERMANENT, type(link).__name__, is_sent=False)
        if type(link).__name__ == "ResponseParserError":
            # What answered is half an answer, or a gateway's page of HTML.
            return Verdict(Fault.TRANSIENT, "ResponseParserError")
    return of_network(error)


def _of_response(response: Mapping[str, Any], operation: str) -> Verdict:
    about = response["Error"]
    code = str(about.get("Code", ""))
    told = response.get("ResponseMetadata", {})
    status = told.get("HTTPStatusCode") or (int(code) if code.isdecimal() else 0)
    fault = _CODES.get(code) or _STATUSES.get(status)
    if status == HTTPStatus.CONFLICT and code in _BARE_CONFLICTS:
        # The answer to HEAD does not say with what; mostly with another request.
        fault = Fault.TRANSIENT
    if status == HTTPStatus.BAD_REQUEST and operation.startswith("Head"):
        # The answer to HEAD has no body to say why. A token that has expired is what
        # can be mended.
        fault = Fault.EXPIRED
    if fault not in {Fault.THROTTLED, Fault.EXPIRED} and _is_throttle(about):
        fault = Fault.THROTTLED
    fault = fault or Fault.PERMANENT
    wait = retry_after(told.get("HTTPHeaders", {}).get("retry-after"))
    return Verdict(fault, code, wait, is_sent=fault not in _REFUSALS)


def _is_throttle(about: Mapping[str, Any]) -> bool:
    """Tell whether it asks for fewer requests, if only in its words."""
    return "reduce your request rate" in str(about.get("Message", "")).lower()
