"""gcsfs as a connector needs it: nothing swallowed, and files that are whole or not."""

from __future__ import annotations

from contextlib import suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from fsspec.utils import is_exception

from connectorkit import Fault
from connectorkit.bridge import through
from connectorkit.prefetch import NAME
from connectorkit.writing import LayeredOpen
from connectorkit_gcs.credentials import token_of
from connectorkit_gcs.deleting import delete_batch
from connectorkit_gcs.file import ConnectorGCSFile
from connectorkit_gcs.remedies import status_of
from connectorkit_gcs.transfers import GCSTransfers

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ConnectorGCSFileSystem", "timeouts", "token_of"]

_ANSWERED = {Fault.PERMANENT, Fault.AUTH}


def timeouts(connect: float, read: float) -> aiohttp.ClientTimeout:
    """Return the limits of each request, in seconds; there is none on its whole."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


class ConnectorGCSFileSystem(LayeredOpen, GCSTransfers):
    """gcsfs's JSON filesystem: each request one operation, each attempt one request.

    Made with gcsfs's own arguments it stands alone, under the default policies; gcsfs's
    own retries are off in any case. `default_cache_type` is as s3fs has it: how open
    files read, if they are not told.
    """

    def __init__(
        self, *args: Any, default_cache_type: str = NAME, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.default_cache_type = default_cache_type

    @property
    def buckets(self) -> list[str]:
        """The names of the project's buckets."""
        found = through(self.loop, self._list_buckets)
        return [each["name"] for each in found]

    # Looking

    async def _info(
        self, path: str, generation: str | None = None, **_options: Any
    ) -> dict[str, Any]:
        """Look an object up, and if there is none, a folder.

        gcsfs does both at a time, and drops the connection of the slower one.
        """
        path = self._strip_protocol(path).strip("/")
        if not path:
            # gcsfs asks Google for a bucket without a name.
            return {"name": "", "size": 0, "type": "directory"}
        if "/" not in path:
            return await self._bucket_info(path)
        known = self._from_listing(path, generation)
        if known is not None:
            return known
        with suppress(FileNotFoundError):
            return await self._get_object(path, generation)
        bucket, key, _ = self.split_path(path)
        return await self._get_directory_info(path, bucket, key, generation)

    async def _bucket_info(self, bucket: str) -> dict[str, Any]:
        folder = {"name": bucket, "size": 0, "type": "directory"}
        with suppress(PermissionError):
            about = await self._call("GET", "b/{}", bucket, json_out=True)
            return {**about, **folder}
        # Who may not look at a bucket may see what is in it.
        await self._do_list_objects(bucket, max_results=1)
        return folder

    def _from_listing(self, path: str, generation: str | None) -> dict[str, Any] | None:
        """Return what a listing told of a path, if listings are remembered."""
        bucket, key, named = self.split_path(path)
        generation = generation or named
        for each in self._ls_from_cache(self._parent(path)) or ():
            if each["name"].rstrip("/") == f"{bucket}/{key}" and (
                not generation or each.get("generation") == generation
            ):
                known: dict[str, Any] = each
                return known
        return _folder(bucket, path) if self._ls_from_cache(path) else None

    async def _get_object(
        self, path: str, generation: str | None = None
    ) -> dict[str, Any]:
        """Look an object up.

        Raises:
            FileNotFoundError: There is none.
        """
        bucket, key, named = self.split_path(path)
        generation = generation or named
        if not key:
            raise FileNotFoundError(path)
        found: Mapping[str, Any] | None = None
        with suppress(PermissionError):
            found = await self._call(
                "GET", "b/{}/o/{}", bucket, key, json_out=True, generation=generation
            )
        if found is None:
            # Who may not look at an object may see it in a listing.
            found = await self._listed(bucket, key, generation)
        about: dict[str, Any] = self._process_object(bucket, found)
        return about

    async def _listed(
        self, bucket: str, key: str, generation: str | None
    ) -> Mapping[str, Any]:
        """Find an object in the listing of its bucket.

        Raises:
            FileNotFoundError: It is not there.
        """
        more: str | None = None
        while True:
            page = await self._call_list_objects(
                bucket,
                prefix=key,
                # Names that begin with it come after it.
                maxResults=None if generation else 1,
                versions="true" if generation else None,
                pageToken=more,
            )
            for each in page.get("items", ()):
                if each["name"] == key and generation in {None, each["generation"]}:
                    found: Mapping[str, Any] = each
                    return found
            more = page.get("nextPageToken")
            if not more or (page.get("items") and not generation):
                raise FileNotFoundError(f"{bucket}/{key}")

    async def _get_directory_info(
        self, path: str, bucket: str, key: str, generation: str | None
    ) -> dict[str, Any]:
        del key, generation
        items, prefixes = await self._do_list_objects(path, max_results=1)
        if not items and not prefixes:
            raise FileNotFoundError(path)
        return _folder(bucket, path)

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

    # Moving and deleting

    async def _mv_file(self, path1: str, path2: str, **options: Any) -> None:
        """Move an object; by a copy and a delete where the service cannot.

        gcsfs would do so after any error, be it that the reply was lost.
        """
        bucket, key, generation = self.split_path(path1)
        bucket2, key2, generation2 = self.split_path(path2)
        if generation2:
            raise ValueError("Cannot move to specific object generation")
        if (bucket, key) == (bucket2, key2):
            return
        if bucket == bucket2 and key and key2:
            try:
                out = await self._call(
                    "POST",
                    "b/{}/o/{}/moveTo/o/{}",
                    bucket,
                    key,
                    key2,
                    sourceGeneration=generation,
                    headers={"Content-Type": "application/json"},
                    json_out=True,
                )
            except Exception as error:
                fault = self.pipeline.scope.classify(error).fault
                if fault not in _ANSWERED:
                    raise
            else:
                await self._mv_file_cache_update(path1, path2, out)
                return
        await self._cp_file(path1, path2, **options)
        await self._rm_file(path1)

    async def _rm_files(self, paths: list[str]) -> list[str | Exception]:
        said = await delete_batch(self, paths)
        gone = [
            path
            for path, error in said.items()
            if error is None or isinstance(error, FileNotFoundError)
        ]
        if gone:
            await self._rm_files_cache_update(gone)
        return [path if error is None else error for path, error in said.items()]

    # Files

    def _open(
        self, path: str, mode: str = "rb", block_size: int | None = None, **kwargs: Any
    ) -> ConnectorGCSFile:
        if "a" in mode:
            # gcsfs would replace the object.
            raise NotImplementedError(f"{path}: objects on GCS cannot be appended to.")
        if "x" in mode:
            self._refuse_to_replace(path)
        kwargs["consistency"] = kwargs.get("consistency") or self.consistency
        kwargs["cache_type"] = kwargs.get("cache_type") or self.default_cache_type
        return ConnectorGCSFile(
            self,
            path,
            mode,
            block_size=block_size or self.default_block_size,
            **kwargs,
        )

    def _refuse_to_replace(self, path: str) -> None:
        """Look whether `path` is taken before anything is uploaded."""
        bucket, key, _ = self.split_path(path)
        if not key:
            return
        try:
            self.call("GET", "b/{}/o/{}", bucket, key, fields="name")
        except Exception as error:
            # Who may write need not be allowed to look; then the upload decides. Its
            # frames hold it, and would hold the file, past the end of a `with`.
            if status_of(error) in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
                error.__traceback__ = None
                return
            raise
        raise FileExistsError(path)


def _folder(bucket: str, path: str) -> dict[str, Any]:
    """Return a folder as gcsfs describes it."""
    return {
        "bucket": bucket,
        "name": path,
        "size": 0,
        "storageClass": "DIRECTORY",
        "type": "directory",
    }
