"""Transfers: whole objects, by one request or by several at a time."""

from __future__ import annotations

import mimetypes
import os
from contextlib import nullcontext
from typing import IO, TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK
from s3fs.core import calculate_chunksize, version_id_kw

from connectorkit import ObjectChanged
from connectorkit.atomic import in_the_way, replacing
from connectorkit.together import together
from connectorkit_s3.uploading import upload
from connectorkit_s3.wire import S3Wire

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from connectorkit_s3.reading import S3Body

__all__ = ["S3Transfers"]

# The most for one PutObject.
_MOST_PUT = 5 << 30


class S3Transfers(S3Wire):
    """Reads and writes objects: no HEAD before a GET, one version, all or nothing."""

    def reading_version(self, info: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the options by which `cat_file` and `get_file` read what `info` tells.

        They raise ObjectChanged if another version has taken its place.

        Args:
            info: What `info` said of an object.

        Returns:
            None if it says nothing that tells one version from another.
        """
        etag = info.get("ETag")
        return {"etag": etag} if etag else None

    async def _cat_file(  # noqa: PLR0913, PLR0917 - s3fs's own
        self,
        path: str,
        version_id: str | None = None,
        start: int | None = None,
        end: int | None = None,
        chunksize: int | None = None,
        max_concurrency: int | None = None,
        versions: dict[str, str] | None = None,
        etag: str | None = None,
    ) -> bytes:
        bucket, key, version = self.split_path(path)
        names = {
            "Bucket": bucket,
            "Key": key,
            **version_id_kw(version_id or version),
            **_if_match(etag),
        }
        if start is not None or end is not None:
            asked = await self._range(path, start, end)
            if asked is None:
                return b""
            answer = await self._call_s3("get_object", **{**asked, **names})
            _one_version(path, answer, versions)
            return await _rest(answer["Body"])
        answer = await self._call_s3("get_object", **names)
        _one_version(path, answer, versions)
        size, step = answer.get("ContentLength"), chunksize or self.default_block_size
        at_a_time = max_concurrency or self.max_concurrency
        if not size or size <= step or at_a_time <= 1 or not answer.get("ETag"):
            return await _rest(answer["Body"])
        buffer = bytearray(size)

        def put(offset: int, data: bytes) -> None:
            buffer[offset : offset + len(data)] = data

        await self._in_ranges(names, answer, step, at_a_time, put)
        return bytes(buffer)

    async def _range(
        self, path: str, start: int | None, end: int | None
    ) -> dict[str, str] | None:
        """Return how to ask for a range; None if there is nothing in it."""
        if (start or 0) < 0 < (end is None):
            return {"Range": f"bytes={start}"}
        asked = {}
        if (start or 0) < 0 or (end or 0) < 0:
            info = await self._info(path)
            start, end, _ = slice(start, end).indices(info["size"])
            asked["IfMatch"] = info["ETag"]
        if end is not None and end <= (start or 0):
            # A service that is asked for no bytes sends all.
            return None
        asked["Range"] = f"bytes={start or 0}-{'' if end is None else end - 1}"
        return asked

    async def _in_ranges(
        self,
        names: dict[str, Any],
        answer: dict[str, Any],
        step: int,
        at_a_time: int,
        put: Any,
    ) -> None:
        """Read an object in ranges of one version; the first is begun already."""
        size = answer["ContentLength"]
        names = {**names, **self.req_kw, "IfMatch": answer["ETag"]}

        async def first() -> None:
            body, offset = answer["Body"], 0
            while offset < step and (data := await body.read(step - offset)):
                put(offset, data)
                offset += len(data)
            body.close()

        async def other(start: int) -> None:
            asked = f"bytes={start}-{min(start + step, size) - 1}"
            part = await self._call_s3("get_object", **names, Range=asked)
            put(start, await _rest(part["Body"]))

        def all_of_them() -> Iterator[Any]:
            yield first()
            yield from map(other, range(step, size, step))

        try:
            await together(all_of_them(), at_a_time)
        finally:
            answer["Body"].close()

    async def read_range(self, asked: dict[str, Any]) -> tuple[bytes, str]:
        """Return the body of one GetObject and its ETag; for open files."""
        answer = await self._call_s3("get_object", **asked)
        return await _rest(answer["Body"]), answer.get("ETag", "")

    async def _get_file(  # noqa: PLR0913, PLR0917 - s3fs's own
        self,
        rpath: str,
        lpath: str | None,
        callback: Any = DEFAULT_CALLBACK,
        version_id: str | None = None,
        chunksize: int | None = None,
        max_concurrency: int | None = None,
        outfile: IO[bytes] | None = None,
        etag: str | None = None,
        **_options: Any,
    ) -> None:
        bucket, key, version = self.split_path(rpath)
        if lpath and os.path.isdir(lpath):  # noqa: ASYNC240, PTH112 - as s3fs does
            if key and await self._is_object(bucket, key):
                raise in_the_way(rpath, lpath)
            # What is asked for is a folder, too.
            return
        names = {
            "Bucket": bucket,
            "Key": key,
            **version_id_kw(version_id or version),
            **_if_match(etag),
        }
        answer = await self._call_s3("get_object", **self.req_kw, **names)
        size, body = answer.get("ContentLength"), answer["Body"]
        callback.set_size(size)
        step = chunksize or self.default_block_size
        at_a_time = max_concurrency or self.max_concurrency
        try:
            with nullcontext(outfile) if outfile else replacing(lpath or "") as file:

                def put(offset: int, data: bytes) -> None:
                    file.seek(offset)
                    file.write(data)
                    callback.relative_update(len(data))

                is_big = size and size > step and at_a_time > 1
                if is_big and answer.get("ETag") and file.seekable():
                    await self._in_ranges(names, answer, step, at_a_time, put)
                    return
                while data := await body.read(1 << 20):
                    file.write(data)
                    callback.relative_update(len(data))
        finally:
            body.close()

    # Writing

    async def _pipe_file(
        self,
        path: str,
        data: bytes,
        chunksize: int = 50 << 20,
        max_concurrency: int | None = None,
        mode: str = "overwrite",
        **options: Any,
    ) -> Any:
        bucket, key, _ = self.split_path(path)
        condition = await self._condition(path, mode)
        if len(data) < min(_MOST_PUT, 2 * chunksize):
            out = await self._call_s3(
                "put_object", Bucket=bucket, Key=key, Body=data, **options, **condition
            )
            self.invalidate_cache(path)
            return out
        view = memoryview(data)
        starts = range(0, len(data), chunksize)
        await upload(
            self,
            bucket,
            key,
            (bytes(view[start : start + chunksize]) for start in starts),
            at_a_time=max_concurrency or self.max_concurrency,
            condition=condition,
            options=options,
        )
        self.invalidate_cache(path)
        return None

    async def _put_file(  # noqa: PLR0913, PLR0917 - s3fs's own
        self,
        lpath: str,
        rpath: str,
        callback: Any = DEFAULT_CALLBACK,
        chunksize: int | None = None,
        max_concurrency: int | None = None,
        mode: str = "overwrite",
        **options: Any,
    ) -> None:
        bucket, key, _ = self.split_path(rpath)
        if os.path.isdir(lpath):  # noqa: ASYNC240, PTH112 - as s3fs does
            if not key:
                await self._mkdir(lpath)
            # S3 has no directories to make.
            return
        condition = await self._condition(rpath, mode)
        if "ContentType" not in options:
            guessed, _ = mimetypes.guess_type(lpath)
            options |= {"ContentType": guessed} if guessed else {}
        with open(lpath, "rb") as file:  # noqa: ASYNC230, PTH123 - as s3fs does
            size = os.fstat(file.fileno()).st_size
            callback.set_size(size)
            step = calculate_chunksize(size, chunksize=chunksize)
            if size < min(_MOST_PUT, 2 * step):
                data = file.read()
                await self._call_s3(
                    "put_object",
                    Bucket=bucket,
                    Key=key,
                    Body=data,
                    **options,
                    **condition,
                )
                callback.relative_update(len(data))
            else:
                await upload(
                    self,
                    bucket,
                    key,
                    iter(lambda: file.read(step), b""),
                    at_a_time=max_concurrency or self.max_concurrency,
                    condition=condition,
                    options=options,
                    callback=callback,
                )
        while rpath:
            self.invalidate_cache(rpath)
            rpath = self._parent(rpath)

    async def _condition(self, path: str, mode: str) -> dict[str, str]:
        """Return the condition under which an object is written.

        Raises:
            FileExistsError: It is there, and may only be created.
        """
        if mode != "create":
            return {}
        if self.endpoint_url:
            # Amazon keeps to the condition. Of who speaks like it nobody knows, and who
            # takes no notice would replace what is there.
            await self._refuse_taken(path)
        return {"IfNoneMatch": "*"}

    async def _is_object(self, bucket: str, key: str) -> bool:
        try:
            await self._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return False
        return True

    async def _refuse_taken(self, path: str) -> None:
        bucket, key, _ = self.split_path(path)
        try:
            await self._call_s3("head_object", Bucket=bucket, Key=key)
        except (FileNotFoundError, PermissionError):
            # Who may write need not be allowed to look; then the service decides.
            return
        raise FileExistsError(path)


def _if_match(etag: str | None) -> dict[str, str]:
    return {"IfMatch": etag} if etag else {}


def _one_version(
    path: str, answer: dict[str, Any], versions: dict[str, str] | None
) -> None:
    """See that all that is read of a path is of the version that was read first."""
    tag = answer.get("ETag")
    if versions is not None and tag and versions.setdefault(path, tag) != tag:
        answer["Body"].close()
        raise ObjectChanged(
            f"{path!r} was replaced while ranges of it were read: read them again."
        )


async def _rest(body: S3Body) -> bytes:
    try:
        return await body.read()
    finally:
        body.close()
