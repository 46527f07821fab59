"""What the source system reads from the metadata of files, whatever the storage."""

from __future__ import annotations

import base64
import contextlib
import math
from datetime import date, datetime
from email.utils import parsedate_to_datetime
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeAlias

from connectorkit import objects

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Metadata", "content_hash", "modified_date", "serialized"]

# What `info` says of a file or folder, in the words of its storage.
Metadata: TypeAlias = dict[str, Any]

_DATES = ("LastModified", "updated", "last_modified", "modified", "mtime", "created")
# In seconds, these are past the year 5000.
_MOST_SECONDS = 1e11
_MOST_MILLISECONDS = 1e14
_DEEPEST = 10


def content_hash(metadata: Metadata) -> str | None:
    """Return S3's ETag or Google Cloud Storage's MD5; None where there is neither."""
    etag = metadata.get("ETag")
    if isinstance(etag, str):
        etag = etag.strip('"')
        # That of a multipart upload depends on how the file was cut.
        return None if "-" in etag else etag or None
    return objects.content_hash(metadata)


def modified_date(metadata: Metadata) -> datetime | None:
    """Return when a file was last written, in UTC, or None if that is unknown."""
    values = (metadata.get(key) for key in _DATES)
    value = next((value for value in values if value is not None), None)
    if isinstance(value, str):
        value = _read(value.strip())
    if isinstance(value, int | float):
        value = _in_seconds(value)
    return objects.modified_date({"modified": value})


def _in_seconds(number: float) -> float:
    if number <= _MOST_SECONDS:
        return number
    try:
        return number / (1e6 if number > _MOST_MILLISECONDS else 1e3)
    except OverflowError:
        return math.inf


_READERS: tuple[Callable[[str], datetime | float], ...] = (
    datetime.fromisoformat,
    parsedate_to_datetime,
    float,
)


def _read(text: str) -> datetime | float | None:
    for reader in _READERS:
        # parsedate_to_datetime has more ways to fail than it tells of.
        with contextlib.suppress(Exception):
            return reader(text)
    return None


def serialized(value: object, depth: int = 0) -> Any:
    """Turn a value of metadata into what JSON can hold.

    Args:
        value: Anything; what JSON cannot hold becomes text in the end.
        depth: How deep the value is nested already.
    """
    if depth > _DEEPEST:
        return str(value)
    if isinstance(value, Enum):
        value = value.value
    plain: Any
    match value:
        case None | str() | int() | float():
            plain = value
        case date():
            plain = value.isoformat()
        case bytes() | bytearray():
            plain = base64.b64encode(value).decode()
        case list() | tuple():
            plain = [serialized(each, depth + 1) for each in value]
        case (dict() as fields) | object(__dict__=dict() as fields):
            plain = {name: serialized(fields[name], depth + 1) for name in fields}
        case _:
            plain = str(value)
    return plain
