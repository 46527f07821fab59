"""What a connector tells of an object."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import ConnectorKit, ObjectInfo

if TYPE_CHECKING:
    from pathlib import Path

    from servers import GcsEmulator, MotoS3

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)
MD5 = hashlib.md5(b"hello").hexdigest()  # noqa: S324 - S3's own choice


@pytest.mark.parametrize(
    "form",
    [
        {"LastModified": NOON},
        {"LastModified": NOON.astimezone(timezone(timedelta(hours=5)))},
        {"LastModified": NOON.replace(tzinfo=None)},
        {"updated": "2026-01-02T12:00:00.000Z"},
        {"updated": "2026-01-02T14:00:00+02:00"},
        {"mtime": NOON.timestamp()},
        {"mtime": NOON},
        {"last_modified": int(NOON.timestamp())},
        {"LastModified": None, "created": NOON.timestamp()},
        {"updated": "not a date", "mtime": NOON.timestamp()},
    ],
)
def test_every_form_of_a_date_becomes_utc(form: dict[str, Any]) -> None:
    """S3, GCS, local and memory each have their own form."""
    info = ObjectInfo.from_info({"name": "a", "size": 1, "type": "file", **form})

    assert info.modified == NOON
    assert info.modified.tzinfo is UTC


@given(st.none() | st.booleans() | st.integers() | st.floats() | st.text())
def test_no_date_breaks_a_stat(value: Any) -> None:
    """What cannot be read as a date is no date."""
    info = ObjectInfo.from_info({"name": "a", "type": "file", "mtime": value})

    assert info.modified is None or info.modified.tzinfo is UTC


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        ({"ETag": f'"{MD5}"'}, MD5),
        ({"ETag": MD5.upper()}, MD5),
        ({"ETag": f'"{MD5}-3"'}, None),
        ({"ETag": '"abc"'}, None),
        ({"ETag": None}, None),
        ({"md5Hash": "XUFAKrxLKna5cZ2REBfFkg=="}, MD5),
        ({"md5Hash": "not base64!"}, None),
        ({}, None),
    ],
)
def test_a_hash_is_of_the_content_or_none(
    info: dict[str, Any], expected: str | None
) -> None:
    """The ETag of a multipart upload is no hash of what is in it."""
    assert ObjectInfo.from_info({"name": "a", "type": "file", **info}).hash == expected


def test_stat_on_s3(moto_s3: MotoS3, moto_bucket: str) -> None:
    """S3's own answer is read: size, time, hash; a folder is a folder."""
    settings = {
        "endpoint_url": moto_s3.endpoint_url,
        "key": moto_s3.key,
        "secret": moto_s3.secret,
    }
    with ConnectorKit({}) as kit:
        connector = kit.resolve("minio", settings=settings)
        connector.fs.pipe_file(f"{moto_bucket}/d/a", b"hello")
        info = connector.stat(f"{moto_bucket}/d/a")

        assert (info.path, info.size, info.hash) == (f"{moto_bucket}/d/a", 5, MD5)
        assert not info.is_dir
        assert info.modified is not None
        assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=5)
        assert connector.stat(f"{moto_bucket}/d").is_dir
        with pytest.raises(FileNotFoundError):
            connector.stat(f"{moto_bucket}/missing")


def test_stat_on_gcs(gcs_emulator: GcsEmulator, gcs_bucket: str) -> None:
    """GCS's own answer is read."""
    settings = {
        "endpoint_url": gcs_emulator.endpoint_url,
        "project_id": gcs_emulator.project,
        "token": "anon",
    }
    with ConnectorKit({}) as kit:
        connector = kit.resolve("gcs", settings=settings)
        connector.fs.pipe_file(f"{gcs_bucket}/a", b"hello")
        info = connector.stat(f"{gcs_bucket}/a")

    assert (info.size, info.hash, info.is_dir) == (5, MD5, False)
    assert info.modified is not None
    assert abs(info.modified - datetime.now(UTC)) < timedelta(minutes=5)


def test_stat_on_a_local_directory(tmp_path: Path) -> None:
    """A directory's paths are its own; it keeps no hashes."""
    settings = {"path": str(tmp_path)}
    with ConnectorKit({}) as kit:
        connector = kit.resolve("local", settings=settings, trusted=True)
        connector.fs.pipe_file("d/a", b"hello")
        info = connector.stat("d/a")

        assert (info.path, info.size, info.hash) == ("d/a", 5, None)
        assert info.modified is not None
        assert connector.stat("d").is_dir
