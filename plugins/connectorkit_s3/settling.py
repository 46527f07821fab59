"""Settling what nobody answered: the reply was lost, so look whether it was done."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any

from connectorkit import Fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit import Verdict
    from connectorkit_s3.wire import S3Wire

__all__ = ["settled"]

_MD5 = re.compile(r"[0-9a-f]{32}")
# That the thing is gone, or there, is what was wanted.
_AS_WANTED = {
    "abort_multipart_upload": (Fault.NOT_FOUND, ""),
    "delete_bucket": (Fault.NOT_FOUND, ""),
    "create_bucket": (Fault.PRECONDITION, "BucketAlreadyOwnedByYou"),
}


async def settled(
    fs: S3Wire, method: str, kwargs: Mapping[str, Any], verdict: Verdict
) -> dict[str, Any] | None:
    """Return the answer of a request that was done although an error came of it.

    Asked only if one of its attempts may have been done unheard.

    Args:
        fs: To look with.
        method: The operation.
        kwargs: Its arguments.
        verdict: What its last error means.

    Returns:
        None if it was not done, or nobody can tell.
    """
    if method in _AS_WANTED:
        fault, code = _AS_WANTED[method]
        is_so = verdict.fault is fault and code in {"", verdict.code}
        return {} if is_so else None
    if method == "complete_multipart_upload":
        parts = kwargs["MultipartUpload"]["Parts"]
        expected = _of_parts([part["ETag"] for part in parts])
        # The upload's ID was nobody else's: it is gone because it was completed.
        is_gone = verdict.code == "NoSuchUpload"
        size = fs.uploaded(kwargs["UploadId"]) if is_gone else None
        return await _look(fs, kwargs, expected, size, len(parts) if is_gone else 0)
    if method == "put_object" and kwargs.get("IfNoneMatch"):
        body = kwargs.get("Body", b"")
        if isinstance(body, bytes | bytearray | memoryview):
            digest = hashlib.md5(body, usedforsecurity=False).hexdigest()
            return await _look(fs, kwargs, digest, len(body))
    return None


def _of_parts(etags: list[str]) -> str:
    """Return the ETag that S3 gives to an object of these parts."""
    digests = [etag.strip('"') for etag in etags]
    if not all(map(_MD5.fullmatch, digests)):
        return ""
    joined = b"".join(map(bytes.fromhex, digests))
    digest = hashlib.md5(joined, usedforsecurity=False).hexdigest()
    return f"{digest}-{len(digests)}"


async def _look(
    fs: S3Wire,
    kwargs: Mapping[str, Any],
    expected: str,
    size: int | None = None,
    parts: int = 0,
) -> dict[str, Any] | None:
    names = {name: kwargs[name] for name in ("Bucket", "Key")}
    try:
        found = await fs._call_s3("head_object", **names)
    except Exception:  # noqa: BLE001 - the error that is settled says more
        return None
    etag = str(found.get("ETag", "")).strip('"')
    if size is not None and found.get("ContentLength") != size:
        return None
    # Where objects are encrypted, or by other servers, ETags are made otherwise.
    is_ours = etag == expected or (
        parts and size is not None and etag.partition("-")[2] in {"", str(parts)}
    )
    if not is_ours:
        return None
    return {**names, "ETag": found["ETag"], "VersionId": found.get("VersionId")}
