"""The names that Google Cloud Storage's JSON API has for what gcsfs asks of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from connectorkit import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Asked", "asked_by"]

_PATH = re.compile(r"/(?:(upload|download|batch)/)?storage/v1(?:/(.*))?$")
_BUCKETS: Final = {
    "GET": ("buckets.list", Kind.LIST),
    "POST": ("buckets.insert", Kind.WRITE),
}
_BUCKET: Final = {
    "GET": ("buckets.get", Kind.READ),
    "DELETE": ("buckets.delete", Kind.DELETE),
    "PATCH": ("buckets.patch", Kind.WRITE),
    "PUT": ("buckets.patch", Kind.WRITE),
}
_OBJECTS: Final = {
    "GET": ("objects.list", Kind.LIST),
    "POST": ("objects.insert", Kind.WRITE),
}
_OBJECT: Final = {
    "GET": ("objects.get", Kind.READ),
    "DELETE": ("objects.delete", Kind.DELETE),
    "PATCH": ("objects.patch", Kind.WRITE),
    "PUT": ("objects.patch", Kind.WRITE),
}
_VERBS: Final = {
    "compose": "objects.compose",
    "copyTo": "objects.copy",
    "moveTo": "objects.move",
    "rewriteTo": "objects.rewrite",
}
_OTHER: Final = {"GET": Kind.READ, "HEAD": Kind.READ, "DELETE": Kind.DELETE}


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request asks for.

    Attributes:
        name: Its name in the JSON API, such as `objects.get`; `resumable.start`,
            `.upload` and `.cancel` for uploads in chunks, `objects.download` for the
            bytes of an object, `batch`, and `other`.
        kind: What it does.
        bucket: The bucket, or "".
        path: The bucket and the object.
        is_repeatable: Whether to do it twice is as good as once.
    """

    name: str
    kind: Kind
    bucket: str = ""
    path: str = ""
    is_repeatable: bool = True


def asked_by(  # noqa: PLR0911 - a table, a line each
    method: str, url: str, params: Mapping[str, Any], json: Any = None
) -> Asked:
    """Tell what a request asks for.

    Args:
        method: GET, POST, and so on.
        url: Where to, its path percent-encoded.
        params: What is added to the URL's own query.
        json: The request's body, if it is JSON.
    """
    parts = urlsplit(url)
    query = {**{k: v[0] for k, v in parse_qs(parts.query).items()}, **params}
    match = _PATH.search(parts.path)
    service, rest = (match[1], match[2] or "") if match else (None, "")
    if service == "batch":
        return Asked("batch", Kind.DELETE)
    segments = [unquote(each) for each in rest.strip("/").split("/")]
    match segments:
        case ["b"] if method in _BUCKETS:
            return Asked(*_BUCKETS[method])
        case ["b", bucket] if method in _BUCKET:
            return Asked(*_BUCKET[method], bucket, bucket)
        case ["b", bucket, "o"]:
            return _of_objects(method, bucket, query)
        case ["b", bucket, "o", key] if method in _OBJECT:
            name, kind = _OBJECT[method]
            if name == "objects.get" and query.get("alt") == "media":
                name = "objects.download"
            return Asked(name, kind, bucket, f"{bucket}/{key}")
        case ["b", bucket, "o", key, verb, *_] if method == "POST" and verb in _VERBS:
            name = _VERBS[verb]
            return Asked(
                name, Kind.WRITE, bucket, f"{bucket}/{key}", _is_safe(name, key, json)
            )
    is_repeatable = method in {"GET", "HEAD", "PUT", "DELETE"}
    kind = _OTHER.get(method, Kind.WRITE)
    return Asked("other", kind, is_repeatable=is_repeatable)


def _of_objects(method: str, bucket: str, query: Mapping[str, Any]) -> Asked:
    key = query.get("name") or query.get("prefix") or ""
    path = f"{bucket}/{key}" if key else bucket
    if "upload_id" in query:
        if method == "DELETE":
            return Asked("resumable.cancel", Kind.DELETE, bucket, path)
        # A chunk that is sent twice is no chunk more.
        return Asked("resumable.upload", Kind.WRITE, bucket, path)
    if query.get("uploadType") == "resumable":
        return Asked("resumable.start", Kind.WRITE, bucket, path)
    name, kind = _OBJECTS.get(method, ("other", _OTHER.get(method, Kind.WRITE)))
    return Asked(name, kind, bucket, path)


def _is_safe(name: str, key: str, json: Any) -> bool:
    if name == "objects.move":
        # The second time the source is gone; or it is another's by then.
        return False
    if name == "objects.compose":
        # What is appended to itself is appended twice.
        sources = json.get("sourceObjects", ()) if isinstance(json, dict) else ()
        return all(source.get("name") != key for source in sources)
    return True
