"""Folders of S3, for cleanups: listed by pages, deleted by the thousand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectorkit import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["delete", "pages"]


def pages(fs: Any, folder: str) -> Iterator[Iterable[ObjectInfo]]:
    """Yield what lies below a folder, a page of its listing at a time."""
    bucket, key, _ = fs.split_path(folder)
    asked: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{key}/"}
    while True:
        page = fs.call_s3("list_objects_v2", **asked)
        yield [_info(bucket, each) for each in page.get("Contents", [])]
        if not page.get("IsTruncated"):
            return
        asked["ContinuationToken"] = page["NextContinuationToken"]


def _info(bucket: str, each: dict[str, Any]) -> ObjectInfo:
    name = f"{bucket}/{each['Key']}"
    return ObjectInfo.from_info({**each, "name": name, "size": each["Size"]})


def delete(fs: Any, paths: list[str]) -> dict[str, str]:
    """Delete keys of one bucket; return what S3 said of each that it did not."""
    names = [fs.split_path(path) for path in paths]
    keys = [key for _, key, _ in names]
    failed = fs.delete_keys(names[0][0], keys)
    for path in paths:
        fs.invalidate_cache(path)
    return {
        f"{names[0][0]}/{key}": f"{said.get('Code')}: {said.get('Message')}"
        for key, said in failed.items()
    }
