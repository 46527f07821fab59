"""The service's own name for a request, told by what it asks."""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OPERATIONS", "OTHER", "is_gcs", "known", "operation_of"]

OTHER: Final = "other"

# (method, what the query holds, operation): the first that fits.
_Table = tuple[tuple[str, str, str], ...]

_S3_SERVICE: _Table = (("GET", "", "list_buckets"),)
_S3_BUCKET: _Table = (
    ("GET", "list-type", "list_objects_v2"),
    ("GET", "uploads", "list_multipart_uploads"),
    ("GET", "versions", "list_object_versions"),
    ("GET", "location", "get_bucket_location"),
    ("GET", "versioning", "get_bucket_versioning"),
    ("PUT", "versioning", "put_bucket_versioning"),
    ("POST", "delete", "delete_objects"),
    ("GET", "", "list_objects"),
    ("HEAD", "", "head_bucket"),
    ("PUT", "", "create_bucket"),
    ("DELETE", "", "delete_bucket"),
)
_S3_OBJECT: _Table = (
    ("GET", "uploadId", "list_parts"),
    ("PUT", "uploadId", "upload_part"),
    ("POST", "uploadId", "complete_multipart_upload"),
    ("DELETE", "uploadId", "abort_multipart_upload"),
    ("POST", "uploads", "create_multipart_upload"),
    ("GET", "tagging", "get_object_tagging"),
    ("PUT", "tagging", "put_object_tagging"),
    ("DELETE", "tagging", "delete_object_tagging"),
    ("GET", "", "get_object"),
    ("HEAD", "", "head_object"),
    ("PUT", "", "put_object"),
    ("DELETE", "", "delete_object"),
)
_S3_COPIES = {"put_object": "copy_object", "upload_part": "upload_part_copy"}
# Asked of a bucket or an object, these make another request of it.
_S3_FURTHER = frozenset(
    [
        "accelerate",
        "acl",
        "analytics",
        "attributes",
        "cors",
        "encryption",
        "intelligent-tiering",
        "inventory",
        "legal-hold",
        "lifecycle",
        "logging",
        "metrics",
        "notification",
        "object-lock",
        "ownershipControls",
        "policy",
        "policyStatus",
        "publicAccessBlock",
        "replication",
        "requestPayment",
        "restore",
        "retention",
        "select",
        "tagging",
        "torrent",
        "website",
    ]
)

_GCS: tuple[tuple[str, str, str], ...] = (
    # (method, path after the version, operation)
    ("GET", "b", "buckets.list"),
    ("POST", "b", "buckets.insert"),
    ("GET", "b/[^/]+", "buckets.get"),
    ("DELETE", "b/[^/]+", "buckets.delete"),
    ("PATCH|PUT", "b/[^/]+", "buckets.patch"),
    ("GET", "b/[^/]+/o", "objects.list"),
    ("POST", "b/[^/]+/o", "objects.insert"),
    ("PUT", "b/[^/]+/o", "resumable.upload"),
    ("DELETE", "b/[^/]+/o", "resumable.cancel"),
    ("POST", "b/[^/]+/o/.+/rewriteTo/.+", "objects.rewrite"),
    ("POST", "b/[^/]+/o/.+/copyTo/.+", "objects.copy"),
    ("POST", "b/[^/]+/o/.+/moveTo/.+", "objects.move"),
    ("POST", "b/[^/]+/o/.+/compose", "objects.compose"),
    ("GET", "b/[^/]+/o/.+", "objects.get"),
    ("DELETE", "b/[^/]+/o/.+", "objects.delete"),
    ("PATCH|PUT", "b/[^/]+/o/.+", "objects.patch"),
)
_GCS_PATH = re.compile(
    r"/(?:(upload|download|batch|resumable/upload)/)?storage/v1(/.*)?"
)

OPERATIONS: Final = frozenset(
    {
        *(
            name
            for table in (_S3_SERVICE, _S3_BUCKET, _S3_OBJECT)
            for *_, name in table
        ),
        *_S3_COPIES.values(),
        *(name for *_, name in _GCS),
        "objects.download",
        "resumable.start",
        "batch",
        OTHER,
    }
)
"""Every name that a request may go by: boto's for S3, those of its JSON API for GCS."""


def known(operation: str) -> str:
    """Return an operation's name; ValueError if there is none of that name."""
    if operation not in OPERATIONS:
        near = difflib.get_close_matches(operation, sorted(OPERATIONS), n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"There is no operation {operation!r}.{hint}")
    return operation


def is_gcs(path: str) -> bool:
    """Tell whether a path is one of Google Cloud Storage's JSON API."""
    return _GCS_PATH.fullmatch(path) is not None


def operation_of(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    """Return the operation that a request asks for, of S3 or of GCS.

    A bucket of S3 has to stand in the path, not in the name of the host.

    Args:
        method: GET, PUT, and so on.
        path: As it was sent, percent-encoded.
        query: By name.
        headers: By lower-case name.
    """
    if (gcs := _GCS_PATH.fullmatch(path)) is not None:
        return _of_gcs(method, gcs[1], gcs[2] or "", query)
    return _of_s3(method, path, query, headers)


def _of_s3(
    method: str, path: str, query: Mapping[str, str], headers: Mapping[str, str]
) -> str:
    bucket, _, key = path.removeprefix("/").partition("/")
    table = _S3_OBJECT if key else _S3_BUCKET if bucket else _S3_SERVICE
    for verb, held, name in table:
        if verb != method or (held and held not in query):
            continue
        if not held and not _S3_FURTHER.isdisjoint(query):
            return OTHER
        return _S3_COPIES.get(name, name) if "x-amz-copy-source" in headers else name
    return OTHER


def _of_gcs(method: str, service: str, path: str, query: Mapping[str, str]) -> str:
    if service == "batch":
        return "batch"
    if query.get("uploadType") == "resumable" or "upload_id" in query:
        if method == "DELETE":
            return "resumable.cancel"
        return "resumable.upload" if "upload_id" in query else "resumable.start"
    for verbs, pattern, name in _GCS:
        if method in verbs.split("|") and re.fullmatch(pattern, path.strip("/")):
            is_media = service == "download" or query.get("alt") == "media"
            if name == "objects.get" and is_media:
                return "objects.download"
            return name
    return OTHER
