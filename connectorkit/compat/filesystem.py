"""A connector with the methods of the source system's filesystem connectors."""

from __future__ import annotations

import itertools
import logging
import posixpath
import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from connectorkit.compat.metadata import (
    Metadata,
    content_hash,
    modified_date,
    serialized,
)
from connectorkit.errors import CheckFailed, ConnectorKitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsspec import AbstractFileSystem

    from connectorkit.connector import Connector

__all__ = ["WORKFLOW_STORE", "ConnectorError", "SourceFileSystem"]

# The platform's store of what workflows work on.
WORKFLOW_STORE = "WORKFLOW_EXECUTION"

_log = logging.getLogger(__name__)
_EPOCH = datetime.fromtimestamp(0, UTC)
_CHUNK = 8 << 20


class ConnectorError(ConnectorKitError):
    """A connector does not work; raised by `SourceFileSystem.test_credentials`.

    Attributes:
        message: What is wrong.
        user_message: The same if it is meant for users, else None.
    """

    def __init__(self, message: str, *, treat_as_user_message: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.user_message = message if treat_as_user_message else None


class SourceFileSystem:
    """A connector with the methods of the source system's filesystem connectors.

    Safe to share between threads, and to go on using in a forked child.

    Args:
        connector: Any connector, one to a store of the platform's own included.
        bucket: What paths are relative to: a bucket, or a folder in it.
    """

    def __init__(self, connector: Connector, *, bucket: str = "") -> None:
        self._connector = connector
        self._bucket = bucket.strip().strip("/")
        self._user_errors: list[str] = []

    def __repr__(self) -> str:
        within = f" in {self._bucket!r}" if self._bucket else ""
        return f"<SourceFileSystem of {self._connector!r}{within}>"

    # Reaching the storage

    def get_fsspec_fs(self) -> AbstractFileSystem:
        """Return the filesystem; its paths are relative to the bucket, if one is set.

        Raises:
            MissingExtra: The client library is not installed.
            KitClosed: The kit was closed.
        """
        fs = self._connector.fs
        if not self._bucket:
            return fs
        from fsspec.implementations.dirfs import DirFileSystem

        return DirFileSystem(path=self._bucket, fs=fs, skip_instance_cache=True)

    def test_credentials(self) -> bool:
        """Find out whether the connector works, by one cheap request or two.

        Returns:
            True. A store of the platform's own is taken at its word.

        Raises:
            ConnectorError: It does not; says in one sentence what to mend.
        """
        if self._connector.is_shared:
            return True
        try:
            self._connector.check(self._bucket)
        except CheckFailed as error:
            raise ConnectorError(str(error), treat_as_user_message=True) from error
        return True

    # Reading metadata

    def extract_metadata_file_hash(self, metadata: Metadata) -> str | None:
        """Return the hash of a file's content that its metadata hold.

        Returns:
            The ETag on S3, without quotes; the MD5 on Google Cloud Storage, as
            hexadecimal digits. None for a folder, a multipart upload and a composite
            object, and where the storage has neither.
        """
        return content_hash(metadata)

    def extract_modified_date(self, metadata: Metadata) -> datetime | None:
        """Return when a file was last written, in UTC, or None if that is unknown."""
        return modified_date(metadata)

    def is_dir_by_metadata(self, metadata: Metadata) -> bool:
        """Tell whether the metadata are a folder's."""
        if metadata.get("type") == "directory":
            return True
        name = str(metadata.get("name") or "")
        return self._connector.type == "gcs" and name.endswith("/")

    def serialize_metadata_value(self, value: Any, depth: int = 0) -> Any:
        """Turn a value of metadata into what JSON can hold.

        Dates become ISO 8601, bytes Base64, tuples lists, and objects dictionaries of
        their attributes; what is nested deeper than 10 levels becomes text.
        """
        return serialized(value, depth)

    def get_file_metadata(self, file_path: str) -> Metadata:
        """Look a file up; return its metadata as JSON can hold it, {} if that fails."""
        try:
            found = self.get_fsspec_fs().info(file_path)
        except Exception as error:  # noqa: BLE001 - hosts count on {}
            _log.warning("%r could not be looked up: %s", file_path, error)
            return {}
        return {key: serialized(value) for key, value in found.items()}

    def get_file_size(
        self, file_path: str | None = None, metadata: Metadata | None = None
    ) -> int | None:
        """Return a file's size in bytes, from `metadata` or else by looking it up.

        Raises:
            FileNotFoundError: Nothing is at the path.
        """
        if not metadata:
            if not file_path:
                return None
            metadata = self.get_fsspec_fs().info(file_path)
        size: int | None = metadata.get("size")
        return size

    def get_file_system_uuid(
        self, file_path: str, metadata: Metadata | None = None
    ) -> str | None:
        """Return what a file is known again by: its hash, from `metadata` or looked up.

        Raises:
            FileNotFoundError: Nothing is at the path.
        """
        return content_hash(metadata or self.get_fsspec_fs().info(file_path))

    # Listing

    @staticmethod
    def get_connector_root_dir(input_dir: str, **_kwargs: Any) -> str:
        """Return a host's folder as a path of the connector: `a/b/`, or `/`."""
        return f"{input_dir.strip('/')}/"

    def list_files(
        self,
        directory: str,
        max_depth: int | None = 1,
        include_dirs: bool = False,
        limit: int | None = None,
    ) -> list[Metadata]:
        """List the files below a folder, in the words of the storage.

        A folder's own files come first, then its subfolders', one after the other.
        What cannot be listed is skipped and kept for `report_errors_to_user`.

        Args:
            directory: A folder; "" or "/" for the root.
            max_depth: How many levels; 1 for the folder's own files, None for all.
            include_dirs: Whether folders are listed, before the files beside them.
            limit: The most entries; None for all.

        Raises:
            ValueError: `max_depth` is less than 1.
        """
        if max_depth is not None and max_depth < 1:
            raise ValueError("max_depth must be at least 1")
        found = self._walk(directory, max_depth, include_dirs=include_dirs)
        return list(itertools.islice(found, None if limit is None else max(limit, 0)))

    def _walk(
        self, directory: str, max_depth: int | None, *, include_dirs: bool
    ) -> Iterator[Metadata]:
        # fsspec's own walk tells of errors in the first folder alone, and s3fs's
        # refuses the root.
        fs = self.get_fsspec_fs()
        ahead = [(directory, 1)]
        while ahead:
            folder, depth = ahead.pop()
            try:
                entries = fs.ls(folder, detail=True)
            except OSError as error:
                self._report(f"The folder {folder!r} could not be listed", error)
                continue
            folders, files = _parted(entries, folder)
            if include_dirs:
                yield from folders
                yield from files
            else:
                yield from itertools.filterfalse(self.is_dir_by_metadata, files)
            if depth != max_depth:
                ahead += [(each["name"], depth + 1) for each in reversed(folders)]

    def sort_files_by_modified_date(
        self, file_metadata_list: list[Metadata], ascending: bool = True
    ) -> list[Metadata]:
        """Return the files sorted by date; those without one count as the oldest.

        Args:
            file_metadata_list: Metadata of files; the list is left as it is.
            ascending: Whether the oldest comes first.
        """

        def age(metadata: Metadata) -> datetime:
            return self.extract_modified_date(metadata) or _EPOCH

        return sorted(file_metadata_list, key=age, reverse=not ascending)

    def report_errors_to_user(self) -> list[str]:
        """Return what could not be listed since this was last asked."""
        errors, self._user_errors = self._user_errors, []
        return errors

    def _report(self, what: str, error: Exception) -> None:
        text = f"{what}: {str(error) or type(error).__name__}"
        _log.warning("%s", text)
        self._user_errors.append(text)

    # Writing

    def create_dir_if_not_exists(self, input_dir: str) -> None:
        """Make a folder, if the storage has folders; on S3 and GCS only buckets are.

        Raises:
            FileExistsError: A file is at the path.
        """
        fs = self.get_fsspec_fs()
        if fs.isdir(input_dir):
            return
        try:
            fs.mkdir(input_dir)
        except FileExistsError:
            if not fs.isdir(input_dir):
                raise

    def upload_file_to_storage(self, source_path: str, destination_path: str) -> None:
        """Copy a file from the platform's store of workflows to this connector.

        Args:
            source_path: Its path in that store; this machine's disk is not meant.
            destination_path: The path here; what is there is replaced.

        Raises:
            FileNotFoundError: It is not in that store.
        """
        fs = self.get_fsspec_fs()
        store = self._connector.kit.resolve(f"system|{WORKFLOW_STORE}").fs
        destination = posixpath.normpath(destination_path)
        with (
            store.open(source_path, "rb", block_size=_CHUNK) as source,
            fs.open(destination, "wb") as target,
        ):
            shutil.copyfileobj(source, target, _CHUNK)


def _parted(
    entries: Iterable[Metadata], folder: str
) -> tuple[list[Metadata], list[Metadata]]:
    """Part what is in a folder into folders and files."""
    parts: tuple[list[Metadata], list[Metadata]] = ([], [])
    for entry in entries:
        name, is_file = entry["name"], entry["type"] != "directory"
        is_folder_itself = name.strip("/") == folder.strip("/")
        # So it is where an object marks the folder, or the path is a file's.
        if is_folder_itself and (not is_file or name.endswith("/")):
            continue
        parts[is_file].append(entry)
    return parts
