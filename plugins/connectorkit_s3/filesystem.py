"""s3fs as a connector needs it: nothing swallowed, and files that are whole or not."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from fsspec.asyn import sync_wrapper
from fsspec.utils import is_exception

from connectorkit_s3.file import ConnectorS3File
from connectorkit_s3.remedies import status_of
from connectorkit_s3.transfers import S3Transfers

__all__ = ["ConnectorS3FileSystem"]

# More at a time would fill the connection pool for an answer that nobody waits for.
_PROBES = 16
_THROTTLED = {408, 429}
_DELETE_AT_ONCE = 1000


class ConnectorS3FileSystem(S3Transfers):
    """s3fs's filesystem: each request one operation, each attempt one request.

    Made with s3fs's own arguments it stands alone, under the default policies; s3fs's
    and botocore's own retries are off in any case.
    """

    async def _exists(self, path: str) -> bool:
        """Tell whether something is there: no only if the service says so."""
        bucket, key, version = self.split_path(path)
        if not bucket:
            return True
        try:
            if key:
                await self._info(path, bucket, key, version_id=version)
            else:
                await self._call_s3("head_bucket", Bucket=bucket, **self.req_kw)
        except FileNotFoundError:
            return False
        except PermissionError:
            if key or not await self._can_list(bucket):
                raise
        return True

    async def _can_list(self, bucket: str) -> bool:
        """Tell whether a bucket shows itself to who may not ask about it."""
        try:
            await self._call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
        except PermissionError:
            return False
        return True

    async def _bulk_delete(self, pathlist: list[str], **options: Any) -> list[str]:
        """Delete up to a thousand keys of one bucket by one request.

        Raises:
            OSError: Some could not be deleted: what the service said of the first, and
                how many there are.
        """
        if not pathlist:
            return []
        buckets = {self.split_path(path)[0] for path in pathlist}
        if len(buckets) > 1:
            raise ValueError("Bulk delete files should refer to only one bucket")
        if len(pathlist) > _DELETE_AT_ONCE:
            raise ValueError("Max number of files to delete in one call is 1000")
        for path in pathlist:
            self.invalidate_cache(self._parent(path))
        keys = [self.split_path(path)[1] for path in pathlist]
        [bucket] = buckets
        failed = await self._delete_keys(bucket, keys, **options)
        if failed:
            raise _not_deleted(bucket, failed)
        return [f"{bucket}/{key}" for key in keys]

    async def _delete_keys(
        self, bucket: str, keys: list[str], **options: Any
    ) -> dict[str, dict[str, str]]:
        """Delete up to a thousand keys.

        Returns:
            What the service said of each key that is still there: Code and Message.
        """
        what = {"Objects": [{"Key": key} for key in keys], "Quiet": True}
        answer = await self._call_s3(
            "delete_objects", options, Bucket=bucket, Delete=what
        )
        return {each["Key"]: each for each in answer.get("Errors", [])}

    delete_keys = sync_wrapper(_delete_keys)

    async def _rm_file(self, path: str, **_options: Any) -> None:
        bucket, key, _ = self.split_path(path)
        self.invalidate_cache(path)
        await self._call_s3("delete_object", Bucket=bucket, Key=key)

    async def _cat_ranges(
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        *args: Any,
        on_error: str | None = None,
        **options: Any,
    ) -> list[Any]:
        """Read ranges; the first error is raised, unless `on_error` is "return"."""
        out: list[Any] = await super()._cat_ranges(
            paths, starts, ends, *args, on_error=on_error or "return", **options
        )
        failed = next(filter(is_exception, out), None)
        if failed is not None and on_error is None:
            raise failed
        return out

    async def _lsbuckets(self, refresh: bool = False) -> list[dict[str, Any]]:
        """List the buckets that these credentials can browse.

        s3fs answers a refusal by an empty list; here it is raised.
        """
        if self.anon:
            return []
        if "" in self.dircache and not refresh:
            return list(self.dircache[""])
        names: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = await self._call_s3("list_buckets", **more)
            names += [bucket["Name"] for bucket in page["Buckets"]]
            if not page.get("ContinuationToken"):
                break
            more = {"ContinuationToken": page["ContinuationToken"]}
        at_a_time = asyncio.Semaphore(_PROBES)
        seen = await asyncio.gather(*(self._can_browse(n, at_a_time) for n in names))
        buckets = [_bucket(name) for name, ok in zip(names, seen, strict=True) if ok]
        self.dircache[""] = buckets
        return buckets

    async def _can_browse(self, bucket: str, at_a_time: asyncio.Semaphore) -> bool:
        async with at_a_time:
            try:
                await self._call_s3("head_bucket", Bucket=bucket)
            except Exception as error:  # noqa: BLE001 - in doubt the bucket is shown
                status = status_of(error)
                # Denied, gone or elsewhere; a busy or broken server says nothing of it.
                return status is None or status >= 500 or status in _THROTTLED  # noqa: PLR2004
            return True

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> ConnectorS3File:
        if "x" in mode:
            self._refuse_to_replace(path)
        file: Any = super()._open(path, mode, **kwargs)
        # s3fs names the class of its files nowhere that could be overridden.
        file.__class__ = ConnectorS3File
        file.took_over()
        return cast("ConnectorS3File", file)

    def _refuse_to_replace(self, path: str) -> None:
        """Look whether `path` is taken before anything is uploaded."""
        bucket, key, _ = self.split_path(path)
        if not key:
            return
        try:
            self.call_s3("head_object", Bucket=bucket, Key=key)
        except (FileNotFoundError, PermissionError) as error:
            # Who may write need not be allowed to look; then the commit decides. Its
            # frames hold it, and would hold the file, past the end of a `with`.
            error.__traceback__ = None
            return
        raise FileExistsError(path)


def _not_deleted(bucket: str, failed: dict[str, dict[str, str]]) -> OSError:
    key, said = next(iter(failed.items()))
    code = said.get("Code", "")
    family = PermissionError if code == "AccessDenied" else OSError
    others = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
    why = f"{code}: {said.get('Message', '')}"
    return family(f"{bucket}/{key} could not be deleted{others}: {why}")


def _bucket(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "Key": name,
        "type": "directory",
        "size": 0,
        "Size": 0,
        "StorageClass": "BUCKET",
    }
