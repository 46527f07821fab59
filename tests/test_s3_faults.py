"""What each error of S3's client means, found by its code, its status or its class."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import aiobotocore.response
import aiohttp
import botocore.exceptions
import pytest
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st
from s3fs.errors import ERROR_CODE_TO_EXCEPTION, translate_boto_error

from connectorkit import AttemptTimedOut, CircuitOpen, Fault, ObjectChanged, WrongAnswer
from connectorkit_s3.faults import classify


def client_error(
    code: str,
    status: int = 0,
    operation: str = "GetObject",
    *,
    message: str = "",
    headers: dict[str, str] | None = None,
) -> ClientError:
    """Return what botocore raises for an answer."""
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    about = {"Code": code, "Message": message}
    return ClientError({"Error": about, "ResponseMetadata": metadata}, operation)


# The tables of the S3 API reference, of botocore's retry modes and of MinIO's server.
_CODES: dict[Fault, str] = {
    Fault.THROTTLED: (
        "BandwidthLimitExceeded EC2Throttled EC2ThrottledException "
        "LimitExceededException ProvisionedThroughputExceeded "
        "PriorRequestNotComplete ProvisionedThroughputExceededException "
        "RequestLimitExceeded RequestThrottled RequestThrottledException SlowDown "
        "SlowDownRead SlowDownWrite ThrottledException Throttling ThrottlingException "
        "TooManyRequests TooManyRequestsException"
    ),
    Fault.TRANSIENT: (
        "Busy ConditionalRequestConflict IncompleteBody InternalError "
        "OperationAborted RequestTimeoutException ServiceUnavailable "
        "XMinioServerNotInitialized"
    ),
    Fault.TIMEOUT: "RequestTimeout",
    Fault.CORRUPT: "BadDigest XAmzContentChecksumMismatch XAmzContentSHA256Mismatch",
    Fault.EXPIRED: (
        "ExpiredToken ExpiredTokenException RequestExpired TokenRefreshRequired"
    ),
    Fault.NOT_FOUND: "NoSuchBucket NoSuchKey NoSuchUpload NoSuchVersion",
    Fault.PRECONDITION: (
        "BucketAlreadyExists BucketAlreadyOwnedByYou PreconditionFailed"
    ),
    Fault.AUTH: (
        "AccessDenied AccountProblem AllAccessDisabled AuthorizationHeaderMalformed "
        "InvalidAccessKeyId InvalidToken RequestTimeTooSkewed SignatureDoesNotMatch"
    ),
    Fault.PERMANENT: (
        "BucketNotEmpty EntityTooLarge EntityTooSmall "
        "IllegalLocationConstraintException InvalidArgument InvalidBucketName "
        "InvalidBucketState InvalidDigest InvalidObjectState InvalidPart InvalidRange "
        "InvalidRequest KeyTooLongError MalformedXML MethodNotAllowed NotImplemented "
        "PermanentRedirect"
    ),
}
_STATUSES = {
    301: Fault.PERMANENT,
    304: Fault.PERMANENT,
    400: Fault.PERMANENT,
    401: Fault.AUTH,
    403: Fault.AUTH,
    404: Fault.NOT_FOUND,
    405: Fault.PERMANENT,
    408: Fault.TIMEOUT,
    409: Fault.PERMANENT,
    412: Fault.PRECONDITION,
    416: Fault.PERMANENT,
    429: Fault.THROTTLED,
    500: Fault.TRANSIENT,
    501: Fault.PERMANENT,
    502: Fault.TRANSIENT,
    503: Fault.TRANSIENT,
    504: Fault.TRANSIENT,
    507: Fault.PERMANENT,
}


@pytest.mark.parametrize("fault", _CODES)
def test_by_code(fault: Fault) -> None:
    """The code decides, whatever the status, and stays to be told."""
    for code in _CODES[fault].split():
        for status in (200, 400, 500) if fault is not Fault.PERMANENT else (400,):
            verdict = classify(client_error(code, status))
            assert (verdict.fault, verdict.code) == (fault, code)


@pytest.mark.parametrize("status", _STATUSES)
def test_by_status(status: int) -> None:
    """Without a code that is known the status decides; HEAD's code is its status."""
    assert classify(client_error("Strange", status)).fault is _STATUSES[status]
    bare = Fault.TRANSIENT if status == 409 else _STATUSES[status]
    for error in (
        client_error("", status),
        client_error(str(status), 0),
        client_error(str(status), status),
    ):
        assert classify(error).fault is bare


def test_a_head_that_is_a_bad_request() -> None:
    """Its answer has no body: of what answers 400 an expired token can be mended."""
    for operation in ("HeadObject", "HeadBucket"):
        assert classify(client_error("400", 400, operation)).fault is Fault.EXPIRED
    assert classify(client_error("400", 400, "GetObject")).fault is Fault.PERMANENT


def test_by_words() -> None:
    """Some ask to be spared by words alone, whatever their code and status."""
    for code, status in [("Odd", 400), ("ServiceUnavailable", 503), ("", 503)]:
        error = client_error(code, status, message="Please reduce your request rate.")
        assert classify(error).fault is Fault.THROTTLED


def test_conflicts() -> None:
    """One with another request passes; one with what is stored does not."""
    for code in ("OperationAborted", "ConditionalRequestConflict", "409", "Conflict"):
        assert classify(client_error(code, 409)).fault is Fault.TRANSIENT
    for code in ("XMinioObjectExistsAsDirectory", "RestoreAlreadyInProgress"):
        assert classify(client_error(code, 409)).fault is Fault.PERMANENT


def test_what_nobody_knows_is_permanent() -> None:
    """To try it again would be a guess."""
    assert classify(client_error("Odd", 418)).fault is Fault.PERMANENT
    assert classify(RuntimeError("odd")).fault is Fault.PERMANENT


@given(
    code=st.sampled_from([c for codes in _CODES.values() for c in codes.split()]),
    status=st.sampled_from([*_STATUSES]),
)
def test_through_s3fs(code: str, status: int) -> None:
    """s3fs's own error means what botocore's does, which stands behind it."""
    error = client_error(code, status)
    told = translate_boto_error(error)
    assert told is not error
    assert classify(told) == classify(error)


def test_every_code_of_s3fs_has_a_meaning() -> None:
    """What s3fs raises as PermissionError or FileNotFoundError is no outage."""
    for code, family in ERROR_CODE_TO_EXCEPTION.items():
        fault = classify(client_error(code, 0 if code.isdecimal() else 400)).fault
        if family in {PermissionError, FileNotFoundError, FileExistsError}:
            assert not fault.is_outage, code


@pytest.mark.parametrize(
    ("text", "seconds"), [("7", 7.0), ("0", 0.0), ("soon", None), (None, None)]
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    """The header is read, where there is one that can be."""
    headers = {} if text is None else {"retry-after": text}
    error = client_error("SlowDown", 503, headers=headers)
    assert classify(error).retry_after == seconds


def test_what_was_refused_was_not_done() -> None:
    """A throttle, a refusal and an unmet condition say that nothing was done."""
    for fault, codes in _CODES.items():
        for code in codes.split():
            is_sent = classify(client_error(code, 400)).is_sent
            refused = {
                Fault.THROTTLED,
                Fault.AUTH,
                Fault.EXPIRED,
                Fault.NOT_FOUND,
                Fault.PRECONDITION,
            }
            assert is_sent == (fault not in refused)


_OUTAGES = {
    "ConnectTimeoutError": (Fault.TIMEOUT, False),
    "ConnectionClosedError": (Fault.TRANSIENT, True),
    "ConnectionError": (Fault.TRANSIENT, True),
    "EndpointConnectionError": (Fault.TRANSIENT, True),
    "HTTPClientError": (Fault.TRANSIENT, True),
    "IncompleteReadError": (Fault.TRANSIENT, True),
    "ProxyConnectionError": (Fault.TRANSIENT, True),
    "ReadTimeoutError": (Fault.TIMEOUT, True),
    "ResponseStreamingError": (Fault.TRANSIENT, True),
}
_CORRUPT = {"ChecksumError", "FlexibleChecksumError"}
_CREDENTIALS = {
    "CredentialRetrievalError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "TokenRetrievalError",
}


def _kinds(module: Any) -> list[type[Exception]]:
    return [
        kind
        for _, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind is not ClientError
    ]


@pytest.mark.parametrize(
    "kind", _kinds(botocore.exceptions), ids=lambda kind: kind.__name__
)
def test_every_class_of_botocore(kind: type[Exception]) -> None:
    """Only the network's own errors are an outage; a new class is permanent (E10).

    Credentials that are missing, arguments that do not fit and endpoints that nobody
    knows would be no other the second time.
    """
    error = kind.__new__(kind)
    Exception.__init__(error, "why")
    verdict = classify(error)
    families = {its.__name__ for its in kind.__mro__}
    if kind.__name__ in _CREDENTIALS:
        assert (verdict.fault, verdict.is_sent) == (Fault.AUTH, False)
    elif families & _CORRUPT:
        assert verdict.fault is Fault.CORRUPT
    elif kind.__name__ in _OUTAGES:
        assert (verdict.fault, verdict.is_sent) == _OUTAGES[kind.__name__]
    elif not families & {*_OUTAGES}:
        assert verdict.fault is Fault.PERMANENT


def test_the_networks_own() -> None:
    """Errors of aiohttp, of aiobotocore and of Python, with what lies behind them."""
    refused = ConnectionRefusedError(111, "refused")
    assert not classify(refused).is_sent
    behind = botocore.exceptions.EndpointConnectionError(endpoint_url="x", error="y")
    behind.__cause__ = refused
    assert classify(behind).fault is Fault.TRANSIENT
    assert not classify(behind).is_sent
    hangup = botocore.exceptions.ConnectionClosedError(endpoint_url="x", error="y")
    hangup.__cause__ = aiohttp.ServerDisconnectedError()
    assert classify(hangup).is_hangup
    for error in (
        aiohttp.ClientPayloadError("cut"),
        asyncio.IncompleteReadError(b"", 9),
        ConnectionResetError(104, "reset"),
    ):
        verdict = classify(error)
        assert (verdict.fault, verdict.is_sent) == (Fault.TRANSIENT, True)
    late = aiobotocore.response.AioReadTimeoutError(endpoint_url="x", error="y")
    assert classify(late).fault is Fault.TIMEOUT
    parser = type("ResponseParserError", (Exception,), {})
    assert classify(parser("a page of HTML")).fault is Fault.TRANSIENT


def test_what_the_client_does_not_send() -> None:
    """A line break in a key is no outage, though botocore words it as one."""
    error = botocore.exceptions.HTTPClientError(error="line break")
    error.__context__ = ValueError("line break")
    assert classify(error).fault is Fault.PERMANENT
    assert not classify(error).is_sent


def test_the_kits_own() -> None:
    """What the kit itself raises keeps its meaning, whatever stands behind it."""
    behind = client_error("InternalError", 500)
    changed = client_error("PreconditionFailed", 412)
    for error, cause, fault in (
        (AttemptTimedOut("late"), TimeoutError(), Fault.TIMEOUT),
        (WrongAnswer("odd"), None, Fault.CORRUPT),
        (ObjectChanged("new"), changed, Fault.PRECONDITION),
        (CircuitOpen("open"), behind, Fault.LOCAL),
    ):
        error.__cause__ = cause
        assert classify(error).fault is fault
