"""Cleanup: deleting what is old under a folder, as well as it can be done.

It is nobody's main concern, so nothing that fails is raised: it is reported.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fsspec import AbstractFileSystem

    from connectorkit.connector import Connector
    from connectorkit.objects import ObjectInfo

__all__ = ["CleanupReport", "cleanup"]

# S3 deletes so many by one request.
_BATCH = 1000


@dataclass(slots=True)
class CleanupReport:
    """What a cleanup did.

    Attributes:
        folder: What it was about.
        is_dry_run: Whether it only looked.
        deleted: How many objects went, or would have gone.
        bytes: How many bytes they had.
        kept: How many were too young, or of an unknown age.
        errors: What went wrong, by path; that of the folder, if its listing failed.
    """

    folder: str
    is_dry_run: bool
    deleted: int = 0
    bytes: int = 0
    kept: int = 0
    errors: dict[str, str] = field(default_factory=dict)


def cleanup(
    connector: Connector,
    prefix: str,
    *,
    older_than: timedelta | float | None = None,
    dry_run: bool = False,
    told: Callable[[CleanupReport], None] = lambda _report: None,
) -> CleanupReport:
    """Delete what is older than an age under a folder; `Connector.cleanup`.

    Args:
        connector: Where.
        prefix: The folder.
        older_than: A least age, or its seconds.
        dry_run: Only look.
        told: Told of the report as it grows.

    Raises:
        ValueError: The prefix is empty or leads elsewhere, or the age is negative.
    """
    teaches = connector._teaches
    folder = _folder(prefix, has_buckets=teaches.has_buckets)
    before = _before(older_than)
    report = CleanupReport(folder, is_dry_run=dry_run)
    fs = connector.opened().guarded
    try:
        for batch in _batches(teaches.files_under(fs, folder)):
            _delete(connector, fs, _old(batch, before, report), report)
            told(report)
    except FileNotFoundError:
        # There is nothing to clean up.
        return report
    except Exception as error:  # noqa: BLE001 - reported, as all is
        report.errors[folder] = _said(error)
    if report.deleted and not dry_run:
        # What was deleted beneath the connector's caches.
        connector.fs.invalidate_cache(folder)
    return report


def _folder(prefix: str, *, has_buckets: bool) -> str:
    """Return a prefix as a folder, so that "a" is not the beginning of "ab"."""
    folder = prefix.strip("/")
    parts = folder.split("/")
    if not folder or (has_buckets and len(parts) == 1):
        raise ValueError(
            f"A cleanup of {prefix!r} would delete everything: name a folder"
            f"{' in a bucket' if has_buckets else ''}."
        )
    if not {"", ".", ".."}.isdisjoint(parts) or "://" in prefix:
        raise ValueError(f"A cleanup needs the plain path of a folder, not {prefix!r}.")
    return folder


def _before(older_than: timedelta | float | None) -> datetime | None:
    if older_than is None:
        return None
    if not isinstance(older_than, timedelta):
        older_than = timedelta(seconds=older_than)
    if older_than < timedelta(0):
        raise ValueError(f"An age of {older_than} is none: it is negative.")
    # Of the storage's own times, so the wall clock decides.
    return datetime.now(UTC) - older_than


def _batches(pages: Iterable[Iterable[ObjectInfo]]) -> Iterator[list[ObjectInfo]]:
    batch: list[ObjectInfo] = []
    for page in pages:
        for info in page:
            batch.append(info)
            if len(batch) == _BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _old(
    batch: list[ObjectInfo], before: datetime | None, report: CleanupReport
) -> dict[str, int]:
    """Return the sizes of what is old enough, by path."""
    old = {
        info.path: info.size
        for info in batch
        if before is None or (info.modified is not None and info.modified < before)
    }
    report.kept += len(batch) - len(old)
    return old


def _delete(
    connector: Connector,
    fs: AbstractFileSystem,
    old: dict[str, int],
    report: CleanupReport,
) -> None:
    failed: dict[str, str] = {}
    if old and not report.is_dry_run:
        try:
            failed = connector._teaches.delete_files(fs, list(old))
        except Exception as error:  # noqa: BLE001 - reported, as all is
            failed = dict.fromkeys(old, _said(error))
    report.errors.update(failed)
    gone = [size for path, size in old.items() if path not in failed]
    report.deleted += len(gone)
    report.bytes += sum(gone)


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
