"""Deleting many objects by one request, which may succeed for some of them alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from s3fs.errors import translate_boto_error

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from connectorkit import Operation
    from connectorkit_s3.wire import S3Wire

__all__ = ["delete"]


async def delete(
    fs: S3Wire, bucket: str, objects: Iterable[Mapping[str, str]], **options: Any
) -> tuple[list[dict[str, str]], Exception | None]:
    """Delete up to a thousand objects of a bucket.

    Where the service could not delete some for now, those alone are asked for again.

    Args:
        fs: Sends the requests.
        bucket: The bucket.
        objects: `Key` of each, and `VersionId` if one version is meant.
        options: Further arguments of the request.

    Returns:
        What the service said of each that is still there, Key, Code and Message; and
        the error that the last attempt ended with, if it did.

    Raises:
        Exception: The request failed, and the service said nothing of any of them.
    """
    left = [*objects]
    failed: dict[tuple[str, str], dict[str, str]] = {}

    async def attempt(op: Operation) -> None:
        nonlocal left
        what = {"Objects": left, "Quiet": True}
        answer = await fs.send(
            "delete_objects", (options,), {"Bucket": bucket, "Delete": what}
        )
        said = {_name(each): each for each in answer.get("Errors", [])}
        for each in left:
            failed.pop(_name(each), None)
        failed.update(said)
        passing = {}
        for name, about in said.items():
            error = ClientError({**answer, "Error": about}, "DeleteObjects")
            if op.classify(error).fault.is_outage:
                passing[name] = error
        left = [each for each in left if _name(each) in passing]
        for error in passing.values():
            raise translate_boto_error(error) from error

    op = fs._operation("delete_objects", {"Bucket": bucket})
    try:
        with fs.at_work():
            await fs.pipeline.arun(op, attempt)
    except Exception as error:
        if not failed:
            raise
        return [*failed.values()], error
    return [*failed.values()], None


def _name(of: Mapping[str, str]) -> tuple[str, str]:
    return of["Key"], of.get("VersionId", "")
