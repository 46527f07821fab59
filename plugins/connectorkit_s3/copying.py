"""Copies within S3: of one version, complete or gone."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from s3fs.core import MANAGED_COPY_THRESHOLD, version_id_kw

from connectorkit import ObjectChanged
from connectorkit_s3.remedies import status_of
from connectorkit_s3.transfers import S3Transfers
from connectorkit_s3.uploading import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["S3Copies"]

_LEAST_BLOCK = 5 << 20
_MOST_BLOCK = 5 << 30


class S3Copies(S3Transfers):
    """Copies objects; s3fs's own would mix versions, and leave parts behind."""

    async def _cp_file(
        self,
        path1: str,
        path2: str,
        preserve_etag: bool | None = None,
        **options: Any,
    ) -> None:
        path1 = self._strip_protocol(path1)
        bucket, key, version = self.split_path(path1)
        info = await self._info(path1, bucket, key, version_id=version)
        if info["type"] == "directory":
            # S3 has no directories to make.
            return
        _, _, parts = info.get("ETag", "").strip('"').partition("-")
        if preserve_etag and parts:
            blocks = await self._blocks_of(info, int(parts))
            await self._copy_in_parts(path1, path2, info, blocks)
        elif info["size"] <= MANAGED_COPY_THRESHOLD:
            await self._copy_basic(path1, path2, **options)
        else:
            await self._copy_managed(path1, path2, info["size"], info=info, **options)

    async def _copy_managed(
        self,
        path1: str,
        path2: str,
        size: int,
        block: int = 50 << 20,
        *,
        info: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        if not _LEAST_BLOCK <= block <= _MOST_BLOCK:
            raise ValueError("Copy block size must be 5MB<=block<=5GB")
        if info is None:
            info = await self._info(path1)
        blocks = [min(block, size - start) for start in range(0, size, block)]
        await self._copy_in_parts(path1, path2, info, blocks, options)

    async def _blocks_of(self, info: Mapping[str, Any], parts: int) -> list[int]:
        """Return the sizes of the parts that an object was made of."""
        bucket, key, _ = self.split_path(info["name"])
        names = {"Bucket": bucket, "Key": key}
        blocks = []
        for number in range(1, parts + 1):
            part = await self._call_s3("head_object", **names, PartNumber=number)
            blocks.append(part["ContentLength"])
        return blocks

    async def _copy_in_parts(
        self,
        path1: str,
        path2: str,
        info: Mapping[str, Any],
        blocks: list[int],
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Copy what `info` tells of, block by block.

        Raises:
            ObjectChanged: Somebody replaced it meanwhile.
        """
        bucket, key, version = self.split_path(path1)
        source: dict[str, Any] = {
            "CopySource": {"Bucket": bucket, "Key": key, **version_id_kw(version)},
            "CopySourceIfMatch": info["ETag"],
        }

        def ranges() -> Iterator[str]:
            start = 0
            for block in blocks:
                yield f"bytes={start}-{start + block - 1}"
                start += block

        async def send(names: Mapping[str, Any], asked: str) -> str:
            try:
                answer = await self._call_s3(
                    "upload_part_copy", **names, **source, CopySourceRange=asked
                )
            except OSError as error:
                if status_of(error) == HTTPStatus.PRECONDITION_FAILED:
                    raise _replaced(path1) from error
                raise
            tag: str = answer["CopyPartResult"]["ETag"]
            return tag

        async def check() -> None:
            # Some servers take no notice of the condition.
            found = await self._call_s3("head_object", **source["CopySource"])
            if found.get("ETag") != info["ETag"]:
                raise _replaced(path1)

        bucket, key, version = self.split_path(path2)
        if version:
            raise ValueError("Cannot copy to a versioned file!")
        names = {"Bucket": bucket, "Key": key}
        await assemble(self, names, ranges(), send, check=check, options=options)
        self.invalidate_cache(path2)

    async def _merge(self, path: str, filelist: list[str], **options: Any) -> None:
        """Make one object of others, one after the other; nothing is downloaded."""
        bucket, key, version = self.split_path(path)
        if version:
            raise ValueError("Cannot write to an explicit versioned file!")

        async def send(names: Mapping[str, Any], part: str) -> str:
            bucket, key, version = self.split_path(part)
            source = {"Bucket": bucket, "Key": key, **version_id_kw(version)}
            answer = await self._call_s3(
                "upload_part_copy", options, **names, CopySource=source
            )
            tag: str = answer["CopyPartResult"]["ETag"]
            return tag

        await assemble(
            self,
            {"Bucket": bucket, "Key": key},
            filelist,
            send,
            at_a_time=self.max_concurrency,
            options=options,
        )
        self.invalidate_cache(path)


def _replaced(path: str) -> ObjectChanged:
    return ObjectChanged(f"{path!r} was replaced while it was copied: copy it again.")
