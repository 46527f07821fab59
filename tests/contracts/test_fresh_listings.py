"""Nothing is remembered of what another process may have changed meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.places import kit_at, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem

    from servers import GcsEmulator, S3Server


@pytest.fixture(params=["s3", "minio", "gcs"])
def pair(
    request: pytest.FixtureRequest,
) -> Iterator[tuple[AbstractFileSystem, AbstractFileSystem, str]]:
    """Open one bucket by two kits, as two processes do."""
    server: S3Server | GcsEmulator = request.getfixturevalue(
        {"s3": "moto_s3", "minio": "rclone_s3", "gcs": "gcs_emulator"}[request.param]
    )
    settings = settings_for(request.param, server)
    with (
        kit_at(request.param, settings) as mine,
        kit_at(request.param, settings) as anothers,
    ):
        yield mine.resolve("it").fs, anothers.resolve("it").fs, server.bucket()


def test_what_another_changes_is_seen(
    pair: tuple[AbstractFileSystem, AbstractFileSystem, str],
) -> None:
    """After each look, what another writes, grows, removes is seen by the next (F5)."""
    mine, anothers, bucket = pair
    folder = f"{bucket}/folder"

    def look() -> tuple[bool, list[str], list[str], list[str]]:
        return (
            mine.exists(f"{folder}/b"),
            mine.ls(folder, detail=False),
            mine.find(folder),
            mine.glob(f"{folder}/*"),
        )

    anothers.pipe_file(f"{folder}/a", b"a")
    just_a = [f"{folder}/a"]
    assert look() == (False, just_a, just_a, just_a)
    anothers.pipe_file(f"{folder}/b", b"short")
    both = [f"{folder}/a", f"{folder}/b"]
    assert look() == (True, both, both, both)
    assert mine.cat_file(f"{folder}/b") == b"short"
    anothers.pipe_file(f"{folder}/b", b"no longer short")
    assert mine.info(f"{folder}/b")["size"] == len(b"no longer short")
    assert mine.cat_file(f"{folder}/b") == b"no longer short"
    anothers.rm_file(f"{folder}/b")
    assert look() == (False, just_a, just_a, just_a)


def test_new_bucket_is_seen(
    pair: tuple[AbstractFileSystem, AbstractFileSystem, str],
) -> None:
    """A bucket that another makes is in the next listing of the root."""
    mine, anothers, bucket = pair
    assert f"{bucket}-2" not in mine.ls("", detail=False)
    anothers.mkdir(f"{bucket}-2")
    assert f"{bucket}-2" in [name.strip("/") for name in mine.ls("", detail=False)]
    assert mine.exists(f"{bucket}-2")
