"""Files on S3: what is written appears whole or not at all."""

from __future__ import annotations

import atexit
import weakref
from typing import TYPE_CHECKING, Any

from s3fs.core import S3File, version_id_kw

from connectorkit.bridge import through
from connectorkit.call import joined

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["ConnectorS3File"]

# A file that is still open when the interpreter ends would upload its rest on a loop
# that does not run any more, and wait for it for ever.
# By number: to hash a file asks the storage about it.
_writers: weakref.WeakValueDictionary[int, ConnectorS3File]
_writers = weakref.WeakValueDictionary()


@atexit.register
def _drop_unfinished() -> None:
    for file in list(_writers.values()):
        file.closed = True


class ConnectorS3File(S3File):  # type: ignore[misc]
    """An open object: ranges of one version, and no half of a write.

    Each read, flush and close is a call. A flush that fails, or an exception that
    leaves the `with`, aborts: what was there before stays.
    """

    buffer: Any
    closed: bool
    mpu: Any

    def took_over(self) -> None:
        """Begin as this class; s3fs made the file as one of its own."""
        if "r" not in self.mode:
            _writers[id(self)] = self

    # Reading

    def read(self, length: int = -1) -> bytes:
        """Read at most so many bytes, or all that are left."""
        with joined(self.fs.pipeline.scope):
            data: bytes = super().read(length)
            return data

    def _fetch_range(self, start: int, end: int) -> bytes:
        if end <= start:
            return b""
        asked = {
            "Bucket": self.bucket,
            "Key": self.key,
            "Range": f"bytes={start}-{end - 1}",
            **version_id_kw(self.version_id),
            **self.read_kw,
        }
        if self.fs.local_expiry_check and self.details.get("ETag"):
            asked["IfMatch"] = self.details["ETag"]
        data: bytes = through(self.fs.loop, self.fs.read_range, asked)
        return data

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
        """Make what was written the object's content."""
        if "x" not in self.mode or self.tell() or self.buffer is None:
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

    def abort(self, error: BaseException | None = None) -> None:
        """Drop what was written; what was there before stays.

        Args:
            error: Why; it is told if parts of the upload could not be removed.
        """
        if "r" in self.mode or self.closed:
            return
        # Nothing that is called from here on may commit.
        self.closed = True
        self.buffer = None
        upload, self.mpu = self.mpu, None
        if upload is not None:
            names = {"Bucket": self.bucket, "Key": self.key}
            names["UploadId"] = upload["UploadId"]
            told = error if error is not None else Exception()
            through(self.fs.loop, self.fs._abandon, names, told)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self.abort(error)
        self.close()
