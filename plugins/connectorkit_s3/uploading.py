"""Uploads in parts: complete, or gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from connectorkit.together import together

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from connectorkit_s3.wire import S3Wire

__all__ = ["abandon", "upload"]


async def upload(  # noqa: PLR0913 - each is a fact of the upload
    fs: S3Wire,
    bucket: str,
    key: str,
    parts: Iterator[bytes],
    *,
    at_a_time: int,
    condition: Mapping[str, Any],
    options: Mapping[str, Any],
    callback: Any = None,
) -> None:
    """Upload an object in parts, a few at a time.

    Args:
        fs: Sends the requests.
        bucket: Where to.
        key: Its name.
        parts: Its bytes; each is taken when its turn comes.
        at_a_time: How many parts are in memory and on their way.
        condition: Under which it is completed.
        options: Of the object.
        callback: fsspec's, told of bytes that have arrived.

    Raises:
        BaseException: What failed; the upload was aborted, else a note says that its
            parts are still there.
    """
    names = {"Bucket": bucket, "Key": key}
    begun = await fs._call_s3("create_multipart_upload", **names, **options)
    names["UploadId"] = begun["UploadId"]
    done: dict[int, dict[str, Any]] = {}

    async def send(number: int, part: bytes) -> None:
        answer = await fs._call_s3("upload_part", **names, PartNumber=number, Body=part)
        done[number] = {"PartNumber": number, "ETag": answer["ETag"]}
        if callback is not None:
            callback.relative_update(len(part))

    try:
        sending = (send(number, part) for number, part in enumerate(parts, 1))
        await together(sending, at_a_time)
        ordered = {"Parts": [done[number] for number in sorted(done)]}
        await fs._call_s3(
            "complete_multipart_upload", **names, MultipartUpload=ordered, **condition
        )
    except BaseException as error:
        await abandon(fs, names, error)
        raise


async def abandon(fs: S3Wire, names: Mapping[str, str], error: BaseException) -> None:
    """Abort an upload after `error`, which is told if that fails too."""
    try:
        await fs._call_s3("abort_multipart_upload", **names)
    except FileNotFoundError:
        # It is gone already.
        return
    except Exception as left:  # noqa: BLE001 - the first error says more
        error.add_note(
            f"connectorkit: the parts of upload {names['UploadId']!r} to "
            f"{names['Bucket']}/{names['Key']} could not be removed and are still "
            f"stored: {type(left).__name__}."
        )
