"""Files on GCS: what is written appears whole or not at all."""

from __future__ import annotations

import hashlib
import io
import os
from typing import TYPE_CHECKING, Any

from connectorkit import ObjectChanged, WrongAnswer
from connectorkit.bridge import start, through
from connectorkit.call import joined
from connectorkit.prefetch import NAME, Prefetch, ReadsAhead
from connectorkit.writing import WholeFile
from connectorkit_gcs.json_client import GCSFile
from connectorkit_gcs.uploading import UNIT, About, Upload, digested, insert

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["ConnectorGCSFile"]

# As gcsfs has it: the most that is sent by one request.
_MOST = 1 << 28


class ConnectorGCSFile(ReadsAhead, WholeFile, GCSFile):  # type: ignore[misc]
    """An open object: ranges of one version, and no half of a write.

    Each read, flush and close is a call. A flush that fails, or an exception that
    leaves the `with`, aborts: what was there before stays.
    """

    buffer: io.BytesIO
    cache: Any
    closed: bool
    loc: int
    _details: dict[str, Any] | None
    generation: str | None
    offset: int | None
    _upload: Upload | None = None
    _is_dropped = False

    def __init__(
        self,
        fs: Any,
        path: str,
        mode: str = "rb",
        *,
        cache_type: str = NAME,
        cache_options: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        self._digest = hashlib.md5(usedforsecurity=False)
        reads_ahead = cache_type == NAME
        with joined(fs.pipeline.scope):
            super().__init__(
                fs,
                path,
                mode,
                cache_type="none" if reads_ahead else cache_type,
                cache_options=None if reads_ahead else cache_options,
                **options,
            )
        if reads_ahead and self.mode == "rb":
            # As little on the first requests as gcsfs's `adaptive` asks for.
            its = {"first": 0, "concurrency": self.concurrency}
            self.cache = Prefetch(self, **{**its, **(cache_options or {})})
            self.cache_type = NAME
        prefetcher = getattr(getattr(self, "cache", None), "_prefetcher", None)
        if self.mode != "rb":
            self.begun()
        if prefetcher is not None:
            # fsspec's bridge loses causes of errors, and returns None for what was
            # cancelled.
            prefetcher.fetch = self._prefetched

    @property
    def details(self) -> dict[str, Any]:
        """What the service says of the version that is read."""
        if self._details is None:
            self._details = self._through(
                self.fs._get_object, self.path, self.generation
            )
        its: dict[str, Any] = self._details
        return its

    def _through(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        with joined(self.fs.pipeline.scope):
            return through(self.fs.loop, function, *args, **kwargs)

    # Reading

    @property
    def is_pinned(self) -> bool:
        """Whether it is known which version all ranges are of."""
        return bool(self.details.get("generation"))

    def read(self, length: int | None = -1) -> bytes:
        """Read at most so many bytes, or all that are left.

        Raises:
            WrongAnswer: Fewer came.
            ObjectChanged: They would be another version's.
        """
        start = self.loc
        with joined(self.fs.pipeline.scope, is_read=True):
            data: bytes = super().read(length)
        left = self.size - start
        wanted = left if length is None or length < 0 else min(length, left)
        if len(data) < wanted:
            self.loc = start
            raise WrongAnswer(
                f"{self.path}: {len(data)} bytes came of {wanted} from {start} on."
            )
        return data

    def _fetch_range(self, start: int | None = None, end: int | None = None) -> bytes:
        first, last, _ = slice(start, end).indices(self.size)
        if last <= first:
            return b""
        data: bytes = self._through(self._range, first, last, self.concurrency)
        return data

    async def _async_fetch_range(
        self, start_offset: int, total_size: int, split_factor: int = 1
    ) -> bytes:
        with joined(self.fs.pipeline.scope):
            return await self._range(
                start_offset, start_offset + total_size, split_factor
            )

    async def _range(self, start: int, end: int, concurrency: int) -> bytes:
        data: bytes = await self.fs.read_range(
            self.path,
            start,
            end,
            self.details.get("generation"),
            concurrency,
            cache_type=self.cache_type,
            cache_source=self.cache_source,
        )
        if len(data) != end - start:
            raise ObjectChanged(f"{self.path}: it became shorter while it was read.")
        return data

    async def pieces(self, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield a range, as one: a service may have to be asked what version it was.

        Raises:
            ObjectChanged: It is another version's.
        """
        yield await self._range(start, end, self.concurrency)

    def _prefetched(self, start: int | None, end: int | None) -> bytes:
        data: bytes = self._through(self.cache._prefetcher.afetch, start, end)
        return data

    # Writing

    def flush(self, force: bool = False) -> None:
        """Upload what is there, if it is enough for a chunk.

        Raises:
            OSError: It failed; the file is aborted.
        """
        with joined(self.fs.pipeline.scope):
            try:
                if force and self.writable() and self.offset is None:
                    # It was never more than fits into one request.
                    self.forced = True
                    if self.autocommit:
                        self._insert()
                else:
                    super().flush(force)
            except BaseException as error:
                self.abort(error)
                raise

    def _about(self) -> About:
        return About(
            bucket=self.bucket,
            key=self.key,
            content_type=self.content_type,
            metadata=self.metadata,
            fixed_key_metadata=self.fixed_key_metadata,
            kms_key_name=self.kms_key_name,
            is_new="x" in self.mode,
        )

    def _insert(self) -> None:
        data = self.buffer.getvalue()
        self._digest.update(data)
        done = self._through(insert, self.fs, self._about(), data)
        self.checker.update(data)
        self._done(done)

    def _initiate_upload(self) -> None:
        self._upload = Upload(self.fs, self._about(), lambda: digested(self._digest))
        self._through(self._upload.start)

    def _upload_chunk(self, final: bool = False) -> bool:
        """Send what is there, the rest of a chunk excepted unless it is the last."""
        upload, offset = self._upload, self.offset or 0
        assert upload is not None  # noqa: S101 - `flush` has begun it
        is_last = final and self.autocommit
        with self.buffer.getbuffer() as view:
            amount = len(view) if is_last else len(view) // UNIT * UNIT
            for start in range(0, amount, _MOST) or [0] * is_last:
                end = min(start + _MOST, amount)
                with view[start:end] as data:
                    # Before it is sent: by this is found what nobody answered.
                    self._digest.update(data)
                    done = self._through(
                        upload.send,
                        data,
                        offset + start,
                        is_last=is_last and end == amount,
                    )
                    self.checker.update(data)
                if done is not None:
                    self._done(done)
            rest = bytes(view[amount:])
        self.offset = offset + amount
        self.buffer = io.BytesIO()
        self.buffer.write(rest)
        # fsspec is told that there is nothing left for it to do.
        return False

    def _done(self, resource: dict[str, Any]) -> None:
        """Take note of what the service says of the object.

        Raises:
            WrongAnswer: It has other bytes than were written.
        """
        self._upload = None
        if resource.get("md5Hash") not in {None, digested(self._digest)}:
            raise WrongAnswer(f"{self.path}: other bytes are stored than were written.")
        self.checker.validate_json_response(resource)
        self.generation = resource.get("generation")

    def commit(self) -> None:
        """Make what was written the object's content; nothing if it was aborted."""
        if self._is_dropped:
            return
        self.autocommit = True
        if self._upload is None:
            self._insert()
        else:
            self._upload_chunk(final=True)

    def discard(self) -> None:
        """Drop what was written; what was there before stays.

        Raises:
            Exception: The upload could not be cancelled.
        """
        self._cancel(None)

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays.

        Args:
            error: Why; it is told if the upload could not be cancelled.
        """
        if self.mode == "rb" or self.closed:
            return
        self._cancel(error if error is not None else Exception())

    def _cancel(self, error: BaseException | None) -> None:
        if (upload := self._dropped()) is not None:
            self._through(upload.abandon, error)

    def _dropped(self) -> Upload | None:
        """Forget what was written, and return the upload that is to be cancelled."""
        # Nothing that is called from here on may commit.
        self.closed = self._is_dropped = True
        self.buffer = io.BytesIO()
        upload, self._upload = self._upload, None
        return upload

    def leave(self) -> None:
        """Drop it without waiting; the upload is cancelled when the loop gets to it."""
        if (upload := self._dropped()) is not None:
            start(self.fs.loop, upload.abandon, Exception())

    def close(self) -> None:
        """Make what was written the object's content.

        Raises:
            OSError: It failed; what was there before stays.
        """
        if self.mode == "rb" and self.fs._pid != os.getpid():
            # It is the parent's, and so is the loop that would have to end its reads.
            self.closed = True
            return
        super().close()

    def _close_impl(self) -> None:
        with joined(self.fs.pipeline.scope):
            super()._close_impl()

    def __reduce__(self) -> Any:
        function, args = super().__reduce__()
        *others, kwargs = args
        # Else it would go on in another version.
        version = {"generation": self.details.get("generation")}
        return function, (*others, {**kwargs, **version})
