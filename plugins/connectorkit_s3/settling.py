"""Settling what nobody answered: the reply was lost, so look whether it was done."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from connectorkit import Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit import Verdict
    from connectorkit_s3.wire import S3Wire

__all__ = ["Look", "settle", "settled"]

_MD5 = re.compile(r"[0-9a-f]{32}")
# That the thing is gone, or there, is what was wanted.
_AS_WANTED = {
    "abort_multipart_upload": (Fault.NOT_FOUND, ""),
    "delete_bucket": (Fault.NOT_FOUND, ""),
    "create_bucket": (Fault.PRECONDITION, "BucketAlreadyOwnedByYou"),
}


@dataclass(frozen=True, slots=True)
class Look:
    """What `head_object` has to find for a request to have been done.

    What was to be created by one writer alone is its own if it has its content: two who
    create the same at the same moment are not told apart.

    Attributes:
        names: Of the object.
        expected: Its ETag.
        size: Its bytes; None if they are not known.
        parts: Of how many parts it is, where its ETag may be made otherwise.
    """

    names: Mapping[str, str]
    expected: str
    size: int | None = None
    parts: int = 0

    def judge(self, found: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer of the request, or None if this is not its object."""
        etag = str(found.get("ETag", "")).strip('"')
        # Where objects are encrypted, or by other servers, ETags are made otherwise.
        is_like = (
            self.parts
            and self.size == found.get("ContentLength")
            and etag.partition("-")[2] in {"", str(self.parts)}
        )
        if not is_like and (not etag or etag != self.expected):
            return None
        version = found.get("VersionId")
        return {**self.names, "ETag": found["ETag"], "VersionId": version}


def settle(
    method: str,
    kwargs: Mapping[str, Any],
    verdict: Verdict,
    uploaded: Callable[[str], int | None],
) -> dict[str, Any] | Look | None:
    """Say whether a request was done although an error came of it.

    Asked only if one of its attempts may have been done unheard.

    Args:
        method: The operation.
        kwargs: Its arguments.
        verdict: What its last error means.
        uploaded: Tells how many bytes of an upload have arrived.

    Returns:
        Its answer, or what to look for; None if it was not done, or nobody can tell.
    """
    if method in _AS_WANTED:
        fault, code = _AS_WANTED[method]
        is_so = verdict.fault is fault and code in {"", verdict.code}
        return {} if is_so else None
    if method == "complete_multipart_upload":
        parts = kwargs.get("MultipartUpload", {}).get("Parts", [])
        expected = _of_parts([part.get("ETag", "") for part in parts])
        # The upload's ID was nobody else's: it is gone because it was completed.
        is_gone = verdict.code == "NoSuchUpload"
        size = uploaded(kwargs["UploadId"]) if is_gone else None
        return Look(_names(kwargs), expected, size, len(parts) if is_gone else 0)
    if method == "put_object" and kwargs.get("IfNoneMatch"):
        digested = _digested(kwargs.get("Body", b""))
        return None if digested is None else Look(_names(kwargs), *digested)
    return None


async def settled(
    fs: S3Wire, method: str, kwargs: Mapping[str, Any], verdict: Verdict
) -> dict[str, Any] | None:
    """Return the answer of a request that was done although an error came of it.

    Args:
        fs: To look with.
        method: The operation.
        kwargs: Its arguments.
        verdict: What its last error means.

    Returns:
        None if it was not done, or nobody can tell.
    """
    done = settle(method, kwargs, verdict, fs.uploaded)
    if not isinstance(done, Look):
        return done
    try:
        found = await fs._call_s3("head_object", **done.names)
    except Exception:  # noqa: BLE001 - the error that is settled says more
        return None
    return done.judge(found)


def _names(kwargs: Mapping[str, Any]) -> dict[str, str]:
    return {name: kwargs[name] for name in ("Bucket", "Key")}


def _digested(body: Any) -> tuple[str, int] | None:
    """Return the ETag that S3 gives to what a body holds, and its size."""
    digest = hashlib.md5(usedforsecurity=False)
    if isinstance(body, bytes | bytearray | memoryview):
        digest.update(body)
        return digest.hexdigest(), memoryview(body).nbytes
    try:
        body.seek(0)
        size = 0
        while data := body.read(1 << 20):
            digest.update(data)
            size += len(data)
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return digest.hexdigest(), size


def _of_parts(etags: list[str]) -> str:
    """Return the ETag that S3 gives to an object of these parts."""
    digests = [etag.strip('"') for etag in etags]
    if not all(map(_MD5.fullmatch, digests)):
        return ""
    joined = b"".join(map(bytes.fromhex, digests))
    digest = hashlib.md5(joined, usedforsecurity=False).hexdigest()
    return f"{digest}-{len(digests)}"
