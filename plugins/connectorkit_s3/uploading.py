"""Objects that are made of parts: complete, or gone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from connectorkit.together import together
from connectorkit_s3.operations import left_behind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping

    from connectorkit_s3.wire import S3Wire

__all__ = ["abandon", "assemble", "upload"]

T = TypeVar("T")


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
        BaseException: As `assemble`.
    """

    async def send(names: Mapping[str, Any], part: bytes) -> str:
        answer = await fs._call_s3("upload_part", **names, Body=part)
        if callback is not None:
            callback.relative_update(len(part))
        tag: str = answer["ETag"]
        return tag

    await assemble(
        fs,
        {"Bucket": bucket, "Key": key},
        parts,
        send,
        at_a_time=at_a_time,
        condition=condition,
        options=options,
    )


async def assemble(  # noqa: PLR0913 - as above
    fs: S3Wire,
    names: Mapping[str, str],
    parts: Iterable[T],
    send: Callable[[Mapping[str, Any], T], Awaitable[str]],
    *,
    at_a_time: int = 1,
    check: Callable[[], Awaitable[None]] | None = None,
    condition: Mapping[str, Any] | None = None,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Make an object of parts, however each gets there.

    Args:
        fs: Sends the requests.
        names: Its bucket and key.
        parts: What it is made of.
        send: Sends one, by the names that it gets, and returns its ETag.
        at_a_time: How many are on their way.
        check: Called before it is completed; may raise.
        condition: Under which it is completed.
        options: Of the object.

    Raises:
        BaseException: What failed; the upload was aborted, else a note says that its
            parts are still there.
    """
    begun = await fs._call_s3("create_multipart_upload", **names, **(options or {}))
    names = {**names, "UploadId": begun["UploadId"]}
    done: dict[int, str] = {}

    async def one(number: int, part: T) -> None:
        done[number] = await send({**names, "PartNumber": number}, part)

    try:
        sending = (one(number, part) for number, part in enumerate(parts, 1))
        await together(sending, at_a_time)
        if check is not None:
            await check()
        tags = [{"PartNumber": n, "ETag": done[n]} for n in sorted(done)]
        await fs._call_s3(
            "complete_multipart_upload",
            **names,
            MultipartUpload={"Parts": tags},
            **(condition or {}),
        )
    except BaseException as error:
        if left := await abandon(fs, names):
            error.add_note(left)
        raise


async def abandon(fs: S3Wire, names: Mapping[str, str]) -> str:
    """Abort an upload; return what there is to say if it could not be."""
    try:
        await fs._call_s3("abort_multipart_upload", **names)
    except FileNotFoundError:
        # It is gone already.
        return ""
    except Exception as error:  # noqa: BLE001 - what went wrong before says more
        return left_behind(names, error)
    return ""
