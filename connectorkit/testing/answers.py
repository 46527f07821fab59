"""Errors as the services word them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from connectorkit.testing.exchange import Request

__all__ = ["gcs_error", "s3_error"]

# The usual code of a status, by "Error responses" in the Amazon S3 API Reference.
_S3: Final = {
    400: "InvalidRequest",
    401: "AccessDenied",
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    409: "OperationAborted",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "SlowDown",
    500: "InternalError",
    502: "BadGateway",
    503: "SlowDown",
    504: "GatewayTimeout",
}
# The same, by "HTTP status and error codes for JSON" of Google Cloud Storage.
_GCS: Final = {
    400: "invalid",
    401: "authError",
    403: "forbidden",
    404: "notFound",
    408: "uploadBrokenConnection",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
}


def s3_error(
    request: Request, status: int, code: str | None, message: str
) -> tuple[str, bytes]:
    """Return the type and the text of an error as S3 answers it."""
    about = {
        "Code": code or _S3.get(status, "InternalError"),
        "Message": message,
        "Resource": request.path,
        "RequestId": f"INJECTED{request.number:08}",
    }
    inner = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in about.items())
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'
    return "application/xml", text.encode()


def gcs_error(
    request: Request, status: int, code: str | None, message: str
) -> tuple[str, bytes]:
    """Return the type and the text of an error as Google Cloud Storage answers it."""
    del request
    reason = code or _GCS.get(status, "backendError")
    errors = [{"message": message, "domain": "global", "reason": reason}]
    about = {"code": status, "message": message, "errors": errors}
    return "application/json; charset=UTF-8", json.dumps({"error": about}).encode()
