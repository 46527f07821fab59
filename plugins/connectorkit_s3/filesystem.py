"""s3fs as a connector needs it: nothing swallowed, and files that are whole or not."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Literal

from fsspec.asyn import sync_wrapper

from connectorkit.bridge import through
from connectorkit.writing import LayeredOpen
from connectorkit_s3.copying import S3Copies
from connectorkit_s3.deleting import delete
from connectorkit_s3.file import ConnectorS3AsyncFile, ConnectorS3File
from connectorkit_s3.operations import no_object
from connectorkit_s3.remedies import status_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConnectorS3FileSystem"]

# More at a time would fill the connection pool for an answer that nobody waits for.
_PROBES = 16
_THROTTLED = {408, 429}
_DELETE_AT_ONCE = 1000


class ConnectorS3FileSystem(LayeredOpen, S3Copies):
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

    async def _isdir(self, path: str) -> bool:
        """Tell whether something lies below: the name of a file may be a folder's."""
        bucket, key, _ = self.split_path(self._strip_protocol(path))
        asked = {"Bucket": bucket, "Prefix": f"{key}/", "Delimiter": "/", "MaxKeys": 1}
        try:
            if not key or self._ls_from_cache(f"{bucket}/{key}") is not None:
                return await super()._isdir(path)
            page = await self._call_s3("list_objects_v2", **asked)
        except FileNotFoundError:
            return False
        return bool(page.get("Contents") or page.get("CommonPrefixes"))

    async def _can_list(self, bucket: str) -> bool:
        """Tell whether a bucket shows itself to who may not ask about it."""
        try:
            await self._call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
        except PermissionError:
            return False
        return True

    async def _ls(
        self,
        path: str,
        detail: bool = False,
        refresh: bool = False,
        versions: bool = False,
    ) -> list[Any]:
        """List a folder, or the file of that name.

        s3fs takes any refusal of the folder above for the file's absence.
        """
        path = self._strip_protocol(path).rstrip("/")
        if not path:
            files = await self._lsbuckets(refresh)
        else:
            asked = {"refresh": refresh, "versions": versions}
            files = await self._lsdir(path, **asked)
            if not files and "/" in path:
                beside = await self._lsdir(self._parent(path), **asked)
                files = [
                    each
                    for each in beside
                    if each["name"].rstrip("/") == path and each["type"] != "directory"
                ]
                if not files:
                    raise FileNotFoundError(path)
        return files if detail else sorted(each["name"] for each in files)

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
        objects = ({"Key": key} for key in keys)
        failed, error = await delete(self, bucket, objects, **options)
        while failed and await self._is_gone(bucket, failed[0]["Key"]):
            failed.pop(0)
        if failed:
            raise _not_deleted(bucket, failed) from error
        return [f"{bucket}/{key}" for key in keys]

    async def _is_gone(self, bucket: str, key: str) -> bool:
        """Tell whether there is no such key, though it could not be deleted.

        fsspec names folders beside what is in them, which some servers cannot delete.
        """
        try:
            await self._call_s3("head_object", Bucket=bucket, Key=key)
        except FileNotFoundError:
            return True
        except Exception:  # noqa: BLE001 - why it could not be deleted says more
            return False
        return False

    async def _delete_keys(
        self, bucket: str, keys: list[str], **options: Any
    ) -> dict[str, dict[str, str]]:
        """Delete up to a thousand keys.

        Returns:
            What the service said of each key that is still there: Code and Message.
        """
        objects = ({"Key": key} for key in keys)
        failed, _ = await delete(self, bucket, objects, **options)
        return {each["Key"]: each for each in failed}

    delete_keys = sync_wrapper(_delete_keys)

    async def _rm_versioned_bucket_contents(self, bucket: str) -> None:
        """Delete every version of every key; s3fs passes over those that are left."""
        async for page in self._list_pages(
            "list_object_versions", Bucket=bucket, **self.req_kw
        ):
            every = page.get("Versions", []) + page.get("DeleteMarkers", [])
            keys = [{"Key": e["Key"], "VersionId": e["VersionId"]} for e in every]
            if not keys:
                continue
            failed, error = await delete(self, bucket, keys)
            if failed:
                raise _not_deleted(bucket, failed) from error

    async def _rm_file(self, path: str, **_options: Any) -> None:
        bucket, key, _ = self.split_path(path)
        self.invalidate_cache(path)
        await self._call_s3("delete_object", Bucket=bucket, Key=key)

    async def _cat_ranges(  # noqa: PLR0913, PLR0917 - fsspec's own
        self,
        paths: list[str],
        starts: Any,
        ends: Any,
        max_gap: int | None = None,
        batch_size: int | None = None,
        on_error: str = "raise",
        **options: Any,
    ) -> list[Any]:
        """Read ranges, those of one object of one version.

        Raises:
            ObjectChanged: Somebody replaced an object meanwhile.
            Exception: The first error of any range, unless `on_error` is "return":
                then each stands in place of its range.
        """
        options["versions"] = {}
        out: list[Any] = await super()._cat_ranges(
            paths, starts, ends, max_gap, batch_size, on_error, **options
        )
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

    def _open(  # noqa: PLR0913, PLR0917 - s3fs's own
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        acl: str | Literal[False] = False,
        version_id: str | None = None,
        fill_cache: bool | None = None,
        cache_type: str | None = None,
        autocommit: bool = True,
        size: int | None = None,
        requester_pays: bool | None = None,
        cache_options: dict[str, Any] | None = None,
        version_tag: str = "",
        **options: Any,
    ) -> ConnectorS3File:
        # s3fs names the class of its files nowhere that could be overridden.
        if version_id and not self.version_aware:
            raise ValueError(
                "version_id cannot be specified if the filesystem is not version aware"
            )
        bucket, key, _ = self.split_path(path)
        if not key:
            raise no_object(bucket)
        if "x" in mode:
            # Before anything is uploaded.
            through(self.loop, self._refuse_taken, path)
        common = self.s3_additional_kwargs
        default = self.default_fill_cache, self.requester_pays
        file = ConnectorS3File(
            self,
            path,
            mode,
            block_size=self.default_block_size if block_size is None else block_size,
            acl=acl or common.get("ACL", False) or common.get("acl", False),
            version_id=version_id,
            fill_cache=default[0] if fill_cache is None else fill_cache,
            s3_additional_kwargs={**common, **options},
            cache_type=cache_type or self.default_cache_type,
            autocommit=autocommit,
            requester_pays=default[1] if requester_pays is None else requester_pays,
            cache_options=cache_options,
            size=size,
        )
        file.pin(version_tag)
        return file

    def seen(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return by which options `open` reads the version that `info` tells of."""
        tag, size = info.get("ETag"), info.get("size")
        if info.get("type") != "file" or not tag or size is None:
            return {}
        return {"size": size, "version_tag": tag}

    async def open_async(
        self, path: str, mode: str = "rb", **options: Any
    ) -> ConnectorS3AsyncFile:
        """Open an object for reading on an event loop, from its beginning on.

        Raises:
            ValueError: Another mode than "rb", or a compression, is asked for.
        """
        if mode != "rb" or options.get("compression"):
            raise ValueError("open_async reads bytes only: mode 'rb'.")
        return ConnectorS3AsyncFile(self, path, mode)


def _not_deleted(bucket: str, failed: list[dict[str, str]]) -> OSError:
    said = failed[0]
    key, code = said["Key"], said.get("Code", "")
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
