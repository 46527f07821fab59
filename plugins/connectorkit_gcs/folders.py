"""Folders of GCS, for cleanups: listed by pages, deleted by the hundred."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectorkit import ObjectInfo
from connectorkit.bridge import through

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["delete", "pages"]

# The most for one batch, by "Sending batch requests" in Google's documentation.
_AT_ONCE = 100


def pages(fs: Any, folder: str) -> Iterator[Iterable[ObjectInfo]]:
    """Yield what lies below a folder, a page of its listing at a time."""
    bucket, key, _ = fs.split_path(folder)
    asked: dict[str, Any] = {"prefix": f"{key}/"}
    while True:
        page = fs.call("GET", "b/{}/o", bucket, json_out=True, **asked)
        found = [fs._process_object(bucket, each) for each in page.get("items", ())]
        yield map(ObjectInfo.from_info, found)
        if not page.get("nextPageToken"):
            return
        asked["pageToken"] = page["nextPageToken"]


def delete(fs: Any, paths: list[str]) -> dict[str, str]:
    """Delete objects; return what Google said of each that it did not."""
    failed: dict[str, str] = {}
    for start in range(0, len(paths), _AT_ONCE):
        some = paths[start : start + _AT_ONCE]
        said = through(fs.loop, fs._delete_files, some, _AT_ONCE)
        for path, error in zip(some, said, strict=True):
            if isinstance(error, Exception) and not isinstance(
                error, FileNotFoundError
            ):
                failed[path] = f"{type(error).__name__}: {error}"
    return failed
