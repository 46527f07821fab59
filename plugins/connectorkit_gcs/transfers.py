"""Transfers: whole objects and ranges of them, by one request or by several."""

from __future__ import annotations

import hashlib
import mimetypes
import os
from contextlib import nullcontext, suppress
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from fsspec.callbacks import DEFAULT_CALLBACK

from connectorkit import ObjectChanged
from connectorkit.atomic import in_the_way, replacing
from connectorkit.together import together
from connectorkit_gcs.json_client import get_consistency_checker
from connectorkit_gcs.reading import Reading, Span
from connectorkit_gcs.uploading import (
    UNIT,
    About,
    Upload,
    digested,
    insert,
    md5_of,
)
from connectorkit_gcs.wire import GCSWire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from connectorkit.body import Body

__all__ = ["GCSTransfers"]

# Of gcsfs: a file up to this is downloaded by one request, another by several …
_ONE_STREAM = 100 << 20
_STEP = 16 << 20
_AT_A_TIME = 4
# … and one up to this is uploaded by one.
_ONE_UPLOAD = 5 << 20
# What goes to gcsfs's headers, and not to the URL.
_OPTIONS = ("cache_type", "cache_source")


class GCSTransfers(GCSWire):
    """Reads and writes objects: one version, all or nothing."""

    def reading_version(self, info: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the options by which `cat_file` and `get_file` read what `info` tells.

        They raise ObjectChanged if another version has taken its place.

        Args:
            info: What `info` said of an object.

        Returns:
            None if it says nothing that tells one version from another.
        """
        generation = info.get("generation")
        return (
            {"generation": str(generation), "is_pinned": True} if generation else None
        )

    async def _cat_file(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        **kwargs: Any,
    ) -> bytes:
        concurrency = kwargs.pop("concurrency", 1)
        return await self._cat_file_concurrent(path, start, end, concurrency, **kwargs)

    async def _cat_file_sequential(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        **kwargs: Any,
    ) -> bytes:
        return await self._cat_file_concurrent(path, start, end, 1, **kwargs)

    async def _cat_file_concurrent(
        self,
        path: str,
        start: int | None = None,
        end: int | None = None,
        concurrency: int = _AT_A_TIME,
        **kwargs: Any,
    ) -> bytes:
        asked: dict[str, Any] = {
            "options": {name: kwargs.get(name) for name in _OPTIONS},
            "generation": kwargs.get("generation"),
            "headers": kwargs.get("headers"),
            "is_pinned": bool(kwargs.get("is_pinned")),
        }
        if start is None and end is None:
            span = None
        elif (start or 0) < 0 and end is None:
            span = Span(suffix=-(start or 0))
        else:
            if (start or 0) < 0 or (end or 0) < 0:
                info = await self._get_object(path, asked["generation"])
                start, end, _ = slice(start, end).indices(info["size"])
                asked |= {"generation": info.get("generation"), "is_pinned": True}
            if end is not None and end <= (start or 0):
                # A service that is asked for no bytes sends all.
                return b""
            span = Span(start or 0, None if end is None else end - 1)
        reading = Reading(self, path, span, **asked)
        body = await reading.open()
        size = reading.size or 0
        count = min(concurrency, size // self.MIN_CHUNK_SIZE_FOR_CONCURRENCY)
        try:
            if count <= 1 or not reading.is_vouched:
                data: bytes = await body.read()
                await self._expect(path, reading, asked)
                return data
            buffer = bytearray(size)

            def put(offset: int, data: bytes) -> None:
                buffer[offset : offset + len(data)] = data

            step = -(-size // count)
            await self._in_ranges(path, reading, body, step, count, put, asked)
            return bytes(buffer)
        finally:
            body.close()

    async def read_range(
        self,
        path: str,
        start: int,
        end: int,
        generation: str | None,
        concurrency: int,
        **options: Any,
    ) -> bytes:
        """Return a range of one version of an object; for open files.

        Args:
            path: The object.
            start: The first byte.
            end: The first that is not read any more.
            generation: The version.
            concurrency: By how many requests at a time.
            options: Of gcsfs's headers.

        Raises:
            ObjectChanged: The object is not of this version any more.
        """
        step = max(
            -(-(end - start) // concurrency), self.MIN_CHUNK_SIZE_FOR_CONCURRENCY
        )
        starts = range(start, end, step)
        pieces: dict[int, bytes] = {}
        readings: list[Reading] = []

        async def read(first: int) -> None:
            reading = Reading(
                self,
                path,
                Span(first, min(first + step, end) - 1),
                generation=generation,
                is_pinned=generation is not None,
                options=options,
            )
            readings.append(reading)
            pieces[first] = await reading.read()

        await together(map(read, starts), concurrency)
        if generation and not all(each.is_vouched for each in readings):
            # The service does not say what it sent: see that there is no other yet.
            found = (await self._get_object(path)).get("generation")
            if found != generation:
                raise ObjectChanged(f"{path}: somebody replaced it while it was read.")
        return b"".join(pieces[first] for first in starts)

    async def _in_ranges(  # noqa: PLR0913, PLR0917 - each is a fact of the transfer
        self,
        path: str,
        reading: Reading,
        body: Body,
        step: int,
        at_a_time: int,
        put: Callable[[int, bytes], None],
        asked: dict[str, Any],
    ) -> None:
        """Read what one request has begun to read by several, all of one version."""
        size, begin = reading.size or 0, reading.first
        asked = {**asked, "generation": reading.generation, "is_pinned": True}

        async def first() -> None:
            offset = 0
            while offset < step and (data := await body.read(step - offset)):
                put(offset, data)
                offset += len(data)
            body.close()

        async def other(offset: int) -> None:
            end = min(offset + step, size)
            span = Span(begin + offset, begin + end - 1)
            put(offset, await Reading(self, path, span, **asked).read())

        def all_of_them() -> Iterator[Any]:
            yield first()
            yield from map(other, range(step, size, step))

        await together(all_of_them(), at_a_time)

    # Files of this machine

    async def _get_file(
        self,
        rpath: str,
        lpath: str | None,
        callback: Any = None,
        outfile: IO[bytes] | None = None,
        **kwargs: Any,
    ) -> None:
        if lpath and os.path.isdir(lpath):  # noqa: ASYNC240, PTH112 - as gcsfs does
            with suppress(FileNotFoundError):
                await self._get_object(rpath)
                raise in_the_way(rpath, lpath)
            # What is asked for is a folder, too.
            return
        callback = callback or DEFAULT_CALLBACK
        step = kwargs.pop("chunk_size", _STEP)
        at_a_time = kwargs.pop("concurrency", _AT_A_TIME)
        kwargs.pop("max_prefetch_size", None)
        consistency = kwargs.pop("consistency", None) or self.consistency
        if consistency != "none":
            # A digest is made in order.
            at_a_time = 1
        checker = get_consistency_checker(consistency)
        asked: dict[str, Any] = _about(kwargs)
        reading = Reading(self, rpath, **asked)
        body = await reading.open()
        try:
            callback.set_size(reading.size)
            if lpath:
                os.makedirs(os.path.dirname(lpath) or os.curdir, exist_ok=True)  # noqa: PTH103, PTH120 - as gcsfs does
            with nullcontext(outfile) if outfile else replacing(lpath or "") as file:

                def put(offset: int, data: bytes) -> None:
                    file.seek(offset)
                    file.write(data)
                    callback.relative_update(len(data))

                is_long = (reading.size or 0) > max(_ONE_STREAM, step)
                can_part = reading.is_vouched and file.seekable()
                if is_long and can_part and at_a_time > 1:
                    await self._in_ranges(
                        rpath, reading, body, step, at_a_time, put, asked
                    )
                    return
                while data := await body.read(1 << 20):
                    file.write(data)
                    checker.update(data)
                    callback.relative_update(len(data))
                checker.validate_headers(reading.headers)
            await self._expect(rpath, reading, asked)
        finally:
            body.close()

    async def _expect(
        self, path: str, reading: Reading, asked: Mapping[str, Any]
    ) -> None:
        """See that a version is still there, if the service did not say what it sent.

        Raises:
            ObjectChanged: It is not.
        """
        if reading.is_vouched or not asked.get("is_pinned"):
            return
        found = (await self._get_object(path)).get("generation")
        if str(found) != asked["generation"]:
            raise ObjectChanged(f"{path}: somebody replaced it while it was read.")

    async def _get_file_request(
        self, rpath: str, lpath: str, *_args: Any, **kwargs: Any
    ) -> None:
        await self._get_file(rpath, lpath, concurrency=1, **kwargs)

    async def _get_file_concurrent(
        self, rpath: str, lpath: str, concurrency: int, **kwargs: Any
    ) -> None:
        await self._get_file(rpath, lpath, concurrency=concurrency, **kwargs)

    # Writing

    async def _pipe_file(  # noqa: PLR0913, PLR0917 - gcsfs's own
        self,
        path: str,
        data: bytes,
        metadata: dict[str, Any] | None = None,
        consistency: str | None = None,
        content_type: str = "application/octet-stream",
        fixed_key_metadata: dict[str, Any] | None = None,
        chunksize: int = 50 << 20,
        mode: str = "overwrite",
    ) -> dict[str, Any]:
        about = self._to_write(
            path,
            content_type=content_type,
            metadata=metadata,
            fixed_key_metadata=fixed_key_metadata,
            is_new=mode == "create",
        )
        checker = get_consistency_checker(consistency or self.consistency)
        if len(data) < chunksize:
            done = await insert(self, about, data)
        else:
            view, step = memoryview(data), _step(chunksize)
            starts = range(0, len(data), step)
            chunks = (bytes(view[start : start + step]) for start in starts)
            done = await self._send_chunks(
                about, chunks, len(data), partial(md5_of, data)
            )
        checker.update(data)
        checker.validate_json_response(done)
        await self._write_file_cache_update(path)
        return done

    async def _put_file(  # noqa: PLR0913, PLR0917 - gcsfs's own
        self,
        lpath: str,
        rpath: str,
        metadata: dict[str, Any] | None = None,
        consistency: str | None = None,
        content_type: str | None = None,
        chunksize: int = 50 << 20,
        callback: Any = None,
        fixed_key_metadata: dict[str, Any] | None = None,
        mode: str = "overwrite",
        **_options: Any,
    ) -> None:
        if os.path.isdir(lpath):  # noqa: ASYNC240, PTH112 - as gcsfs does
            return
        callback = callback or DEFAULT_CALLBACK
        guessed, _ = mimetypes.guess_type(lpath)
        about = self._to_write(
            rpath,
            content_type=content_type or guessed or "application/octet-stream",
            metadata=metadata,
            fixed_key_metadata=fixed_key_metadata,
            is_new=mode == "create",
        )
        checker = get_consistency_checker(consistency or self.consistency)
        with open(lpath, "rb") as file:  # noqa: ASYNC230, PTH123 - as gcsfs does
            size = os.fstat(file.fileno()).st_size
            callback.set_size(size)

            def sent(data: bytes) -> None:
                callback.relative_update(len(data))
                checker.update(data)

            if size < _ONE_UPLOAD:
                data = file.read()
                done = await insert(self, about, data)
                sent(data)
            else:
                chunks = _chunks(file, size, _step(chunksize))
                md5 = partial(_md5_of_file, lpath, size)
                done = await self._send_chunks(about, chunks, size, md5, sent)
            checker.validate_json_response(done)
        await self._write_file_cache_update(rpath)

    def _to_write(self, path: str, **about: Any) -> About:
        bucket, key, generation = self.split_path(path)
        if generation:
            raise ValueError("Cannot write to specific object generation")
        return About(bucket=bucket, key=key, **about)

    async def _send_chunks(
        self,
        about: About,
        chunks: Iterable[bytes],
        size: int,
        md5: Callable[[], str],
        sent: Callable[[bytes], None] = lambda _data: None,
    ) -> dict[str, Any]:
        """Upload an object of so many bytes by chunks; return what Google says of it.

        Raises:
            BaseException: What failed; the upload was cancelled, else a note says that
                it is still there.
        """
        upload = Upload(self, about, md5)
        offset = 0
        try:
            await upload.start()
            for chunk in chunks:
                end = offset + len(chunk)
                done = await upload.send(chunk, offset, is_last=end == size)
                sent(chunk)
                if done is not None:
                    return done
                offset = end
            raise OSError(f"{about.path}: its source became shorter while it was read.")  # noqa: TRY301 - it ends the upload
        except BaseException as error:
            await upload.abandon(error)
            raise


def _about(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return what gcsfs's keywords say of a reading."""
    known = {name: kwargs.pop(name, None) for name in ("generation", "headers")}
    return {**known, "is_pinned": kwargs.pop("is_pinned", False), "params": kwargs}


def _step(chunksize: int) -> int:
    """Return a size that Google takes for a chunk."""
    return max(UNIT, chunksize // UNIT * UNIT)


def _chunks(file: IO[bytes], size: int, step: int) -> Iterator[bytes]:
    while size and (data := file.read(min(step, size))):
        size -= len(data)
        yield data


def _md5_of_file(path: str, size: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as file:  # noqa: PTH123 - as it was read before
        for data in _chunks(file, size, 1 << 20):
            digest.update(data)
    return digested(digest)
