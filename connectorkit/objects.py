"""What is known of an object, in one form for all storages."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ObjectInfo", "content_hash", "modified_date"]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """One object or folder of a connector.

    Attributes:
        path: The path within the connector.
        size: Bytes; 0 for a folder.
        modified: When it was last written, in UTC, or None if the storage is silent.
        hash: A hash of its content as hexadecimal digits (MD5 for S3 and GCS), or
            None where the storage has none, as for S3's multipart uploads.
        is_dir: Whether it is a folder.
    """

    path: str
    size: int
    modified: datetime | None
    hash: str | None
    is_dir: bool

    @classmethod
    def from_info(cls, info: Mapping[str, Any]) -> ObjectInfo:
        """Read what `fs.info()` answers, in any of the storages' forms."""
        return cls(
            path=str(info["name"]),
            size=int(info.get("size") or 0),
            modified=modified_date(info),
            hash=content_hash(info),
            is_dir=info.get("type") == "directory",
        )


_MODIFIED = ("LastModified", "updated", "mtime", "last_modified", "modified", "created")


def modified_date(info: Mapping[str, Any]) -> datetime | None:
    """Return when it was last written, in UTC, or None if the storage is silent."""
    for key in _MODIFIED:
        try:
            found = _date(info.get(key))
        except (ValueError, OverflowError, OSError):
            continue
        if found is not None:
            return found
    return None


def _date(value: object) -> datetime | None:
    match value:
        case str():
            value = datetime.fromisoformat(value)
        case int() | float():
            return datetime.fromtimestamp(value, UTC)
    if not isinstance(value, datetime):
        return None
    # Times without a zone come from storages that speak UTC.
    return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


_MD5 = re.compile(r"[0-9a-f]{32}")


def content_hash(info: Mapping[str, Any]) -> str | None:
    """Return the MD5 of its content as hexadecimal digits, or None."""
    md5 = info.get("md5Hash")
    if isinstance(md5, str) and md5:
        try:
            return base64.b64decode(md5, validate=True).hex()
        except binascii.Error:
            return None
    # S3: the ETag of a multipart upload is a hash of hashes, and says so by a dash.
    etag = info.get("ETag")
    if "aws:kms" in str(info.get("ServerSideEncryption")) or info.get(
        "SSECustomerAlgorithm"
    ):
        # Of what is stored, which is not what was written.
        return None
    if isinstance(etag, str) and _MD5.fullmatch(text := etag.strip('"').lower()):
        return text
    return None
