"""Files on S3: what is written appears whole or not at all."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from s3fs.core import S3AsyncStreamedFile, S3File, version_id_kw

from connectorkit import ObjectChanged
from connectorkit.bridge import start, through
from connectorkit.call import joined
from connectorkit.prefetch import NAME, Prefetch, ReadsAhead
from connectorkit.writing import WholeFile
from connectorkit_s3.uploading import abandon

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

__all__ = ["ConnectorS3AsyncFile", "ConnectorS3File"]

_log = logging.getLogger(__name__)
# A body gives what has come, up to this.
_PIECE = 1 << 20


class ConnectorS3File(ReadsAhead, WholeFile, S3File):  # type: ignore[misc]
    """An open object: ranges of one version, and no half of a write.

    Each read, flush and close is a call. A flush that fails, or an exception that
    leaves the `with`, aborts: what was there before stays.
    """

    buffer: Any = None
    closed: bool
    loc: int
    mpu: Any = None
    # The version that all ranges are of, once it is known.
    _version_tag: str = ""

    def __init__(
        self,
        *args: Any,
        cache_type: str = NAME,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        reads_ahead = cache_type == NAME
        super().__init__(
            *args,
            cache_type="none" if reads_ahead else cache_type,
            cache_options=None if reads_ahead else cache_options,
            **kwargs,
        )
        if reads_ahead and self.mode == "rb":
            # As much on the first request as fsspec's `readahead` asks for.
            its = {"first": self.blocksize, "concurrency": self._at_a_time}
            self.cache = Prefetch(self, **{**its, **(cache_options or {})})
        self._version_tag = self.read_kw.pop("IfMatch", "")
        if self.fs.local_expiry_check and "r" in self.mode:
            self._version_tag = self.details.get("ETag", "")
        if "a" in self.mode and not self.append_block:
            # s3fs goes by the size that it asked for first; then it read the object.
            self.loc = (self.offset or 0) + self.buffer.tell()
        if "r" not in self.mode:
            self.begun()

    # Reading

    @property
    def _at_a_time(self) -> int:
        most: int = self.fs.max_concurrency
        connections: int = self.fs.config_kwargs.get("max_pool_connections", most)
        return min(most, connections)

    @property
    def is_pinned(self) -> bool:
        """Whether it is known which version all ranges are of."""
        return bool(self._version_tag)

    def pin(self, version_tag: str) -> None:
        """Have all ranges be of the version with this ETag; "" leaves it open."""
        self._version_tag = version_tag or self._version_tag

    def read(self, length: int = -1) -> bytes:
        """Read at most so many bytes, or all that are left.

        Raises:
            ObjectChanged: Somebody replaced the object since it was opened.
        """
        with joined(self.fs.pipeline.scope, is_read=True):
            data: bytes = super().read(length)
            return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        data: bytes
        data, tag = through(self.fs.loop, self.fs.read_range, self._asked(start, end))
        self._expect(tag)
        return data

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield a range as it arrives.

        Raises:
            ObjectChanged: It is another version's.
        """
        answer = await self.fs._call_s3("get_object", **self._asked(start, end))
        body = answer["Body"]
        try:
            self._expect(answer.get("ETag", ""))
            while piece := await body.read(_PIECE):
                yield piece
        finally:
            body.close()

    def _asked(self, start: int, end: int) -> dict[str, Any]:
        asked = {
            "Bucket": self.bucket,
            "Key": self.key,
            "Range": f"bytes={start}-{end - 1}",
            **version_id_kw(self.version_id),
            **self.read_kw,
        }
        if self._version_tag:
            asked["IfMatch"] = self._version_tag
        return asked

    def _expect(self, tag: str) -> None:
        # Who opened it with a size did not ask for its version, and a cache may fetch
        # by several threads.
        self._version_tag = self._version_tag or tag
        if tag != self._version_tag:
            raise ObjectChanged(
                f"{self.path!r} was replaced while it was read: read it again."
            )

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # s3fs's copy would go on in whatever object there is by then.
        reopen, (*where, options) = super().__reduce__()
        options = {**options, **self._versioned()}
        return _reopened, (reopen, (*where, options), self._version_tag)

    def _versioned(self) -> dict[str, str]:
        is_named = self.version_id and self.fs.version_aware
        return {"version_id": self.version_id} if is_named else {}

    # Writing

    def flush(self, force: bool = False) -> None:
        """Upload what is there, if it is enough for a part.

        Raises:
            OSError: It failed; the file is aborted.
        """
        with joined(self.fs.pipeline.scope):
            try:
                super().flush(force)
            except BaseException as error:
                self.abort(error)
                raise

    def close(self) -> None:
        """Make what was written the object's content.

        Raises:
            OSError: It failed; what was there before stays.
        """
        if not self.closed:
            with joined(self.fs.pipeline.scope):
                super().close()

    def commit(self) -> None:
        """Make what was written the object's content; nothing if it was aborted.

        Raises:
            OSError: It failed; what was there before stays.
        """
        if self.buffer is None:
            return
        with joined(self.fs.pipeline.scope):
            if not self.autocommit and not self.closed:
                # A transaction ends before its file: the rest of it is not sent yet.
                super().close()
            try:
                self._commit()
            except BaseException as error:
                self.abort(error)
                raise

    def _commit(self) -> None:
        if "x" not in self.mode or self.tell():
            super().commit()
            return
        # s3fs would touch the object, whether it is there or not.
        self._abort_mpu()
        acl = {"ACL": self.acl} if self.acl else {}
        self._call_s3(
            "put_object", Bucket=self.bucket, Key=self.key, IfNoneMatch="*", **acl
        )
        self.buffer = None
        self.fs.invalidate_cache(self.path)

    def discard(self) -> None:
        """Drop what was written, at the end of a transaction that failed."""
        self.abort()

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays.

        Does nothing once it is committed.

        Args:
            error: Why; it gets a note if parts of the upload could not be removed. The
                log gets it otherwise.
        """
        if (names := self._dropped()) is None:
            return
        left = through(self.fs.loop, abandon, self.fs, names)
        if left and error is not None:
            error.add_note(left)
        elif left:
            _log.warning("%s", left)

    def _dropped(self) -> dict[str, str] | None:
        """Forget what was written, and return the upload that is to be aborted."""
        if "r" in self.mode or self.buffer is None:
            return None
        # Nothing that is called from here on may commit.
        self.closed = True
        self.buffer = None
        upload, self.mpu = self.mpu, None
        if upload is None:
            return None
        names = {"Bucket": self.bucket, "Key": self.key}
        return {**names, "UploadId": upload["UploadId"]}

    def leave(self) -> None:
        """Drop it without waiting; the upload is aborted when the loop gets to it."""
        if (names := self._dropped()) is not None:
            start(self.fs.loop, abandon, self.fs, names)


def _reopened(
    reopen: Callable[..., ConnectorS3File], where: tuple[Any, ...], tag: str
) -> ConnectorS3File:
    file = reopen(*where)
    file._version_tag = tag
    return file


class ConnectorS3AsyncFile(S3AsyncStreamedFile):  # type: ignore[misc]
    """An object that is read from its beginning on, on an event loop."""

    closed: bool
    r: Any
    loc: int

    def __init__(self, fs: Any, path: str, mode: str) -> None:
        super().__init__(fs, path, mode)
        # s3fs leaves this out, and its files count as closed from the beginning.
        self.closed = False

    async def read(self, length: int = -1) -> bytes:
        """Read at most so many bytes, or all that are left; none at the end.

        Raises:
            ObjectChanged: Somebody replaced the object, and the rest of it is gone.
            ValueError: The file is closed.
        """
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        if self.r is None:
            bucket, key, version = self.fs.split_path(self.path)
            answer = await self.fs._call_s3(
                "get_object", Bucket=bucket, Key=key, **version_id_kw(version)
            )
            self.size, self.r = answer.get("ContentLength"), answer["Body"]
        data: bytes = await self.r.read(length)
        self.loc += len(data)
        return data

    async def close(self) -> None:
        """Drop what was not read, with its connection."""
        self.closed = True
        if self.r is not None:
            self.r.close()

    def __del__(self) -> None:
        # Not fsspec's, which would close it by a coroutine; its body drops itself.
        self.closed = True
