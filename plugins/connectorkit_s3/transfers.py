"""Transfers: whole objects, by one request or by several at a time."""

from __future__ import annotations

import mimetypes
import os
from typing import TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK
from s3fs.core import calculate_chunksize, version_id_kw

from connectorkit.atomic import replacing
from connectorkit.together import together
from connectorkit_s3.uploading import abandon, upload
from connectorkit_s3.wire import S3Wire

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit_s3.reading import S3Body

__all__ = ["S3Transfers"]

# The most for one PutObject.
_MOST_PUT = 5 << 30


class S3Transfers(S3Wire):
    """Reads and writes objects: no HEAD before a GET, one version, all or nothing."""

    async def _cat_file(  # noqa: PLR0913, PLR0917 - s3fs's own
        self,
        path: str,
        version_id: str | None = None,
        start: int | None = None,
        end: int | None = None,
        chunksize: int | None = None,
        max_concurrency: int | None = None,
    ) -> bytes:
        bucket, key, version = self.split_path(path)
        names = {
            "Bucket": bucket,
            "Key": key,
            **version_id_kw(version_id or version),
        }
        if start is not None or end is not None:
            return await self._cat_range(path, names, start, end)
        answer = await self._call_s3("get_object", **names)
        size, step = answer["ContentLength"], chunksize or self.default_block_size
        at_a_time = max_concurrency or self.max_concurrency
        if size <= step or at_a_time <= 1 or not answer.get("ETag"):
            return await _rest(answer["Body"])
        buffer = bytearray(size)

        def put(offset: int, data: bytes) -> None:
            buffer[offset : offset + len(data)] = data

        await self._in_ranges(names, answer, step, at_a_time, put)
        return bytes(buffer)

    async def _cat_range(
        self, path: str, names: dict[str, Any], start: int | None, end: int | None
    ) -> bytes:
        if (start or 0) < 0 < (end is None):
            asked = {"Range": f"bytes={start}"}
        else:
            asked = {}
            if (start or 0) < 0 or (end or 0) < 0:
                info = await self._info(path)
                start, end, _ = slice(start, end).indices(info["size"])
                asked["IfMatch"] = info["ETag"]
            if end is not None and end <= (start or 0):
                # A service that is asked for no bytes sends all.
                return b""
            asked["Range"] = f"bytes={start or 0}-{'' if end is None else end - 1}"
        answer = await self._call_s3("get_object", **names, **asked)
        return await _rest(answer["Body"])

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
        pin = {**self.req_kw, "IfMatch": answer["ETag"]}

        async def first() -> None:
            body, offset = answer["Body"], 0
            while offset < step and (data := await body.read(step - offset)):
                put(offset, data)
                offset += len(data)
            body.close()

        async def other(start: int) -> None:
            asked = f"bytes={start}-{min(start + step, size) - 1}"
            part = await self._call_s3("get_object", **names, **pin, Range=asked)
            put(start, await _rest(part["Body"]))

        def all_of_them() -> Iterator[Any]:
            yield first()
            yield from map(other, range(step, size, step))

        try:
            await together(all_of_them(), at_a_time)
        finally:
            answer["Body"].close()

    async def read_range(self, asked: dict[str, Any]) -> bytes:
        """Return the body of one GetObject; for open files."""
        answer = await self._call_s3("get_object", **asked)
        return await _rest(answer["Body"])

    async def _get_file(  # noqa: PLR0913, PLR0917 - s3fs's own
        self,
        rpath: str,
        lpath: str,
        callback: Any = DEFAULT_CALLBACK,
        version_id: str | None = None,
        chunksize: int | None = None,
        max_concurrency: int | None = None,
        **_options: Any,
    ) -> None:
        if os.path.isdir(lpath):  # noqa: ASYNC240, PTH112 - as s3fs does
            return
        bucket, key, version = self.split_path(rpath)
        names = {
            "Bucket": bucket,
            "Key": key,
            **version_id_kw(version_id or version),
        }
        answer = await self._call_s3("get_object", **self.req_kw, **names)
        size, body = answer.get("ContentLength"), answer["Body"]
        callback.set_size(size)
        step = chunksize or self.default_block_size
        at_a_time = max_concurrency or self.max_concurrency
        try:
            with replacing(lpath) as file:

                def put(offset: int, data: bytes) -> None:
                    file.seek(offset)
                    file.write(data)
                    callback.relative_update(len(data))

                if size and size > step and at_a_time > 1 and answer.get("ETag"):
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
        condition = {"IfNoneMatch": "*"} if mode == "create" else {}
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
        condition = {"IfNoneMatch": "*"} if mode == "create" else {}
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

    async def _abandon(self, names: dict[str, str], error: BaseException) -> None:
        await abandon(self, names, error)


async def _rest(body: S3Body) -> bytes:
    try:
        return await body.read()
    finally:
        body.close()
