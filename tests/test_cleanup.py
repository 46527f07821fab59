"""Cleanup deletes what is old under one folder, and reports what it cannot."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import ConnectorKit
from connectorkit.cleanup import CleanupReport
from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Request, Stub, s3_error

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from connectorkit import Connector
    from servers import RcloneS3

_OLD = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def memory() -> Connector:
    """Make a connector within this process, with the default policies."""
    kit = ConnectorKit({"connectors": {"mem": {"type": "memory"}}})
    connector = kit.resolve("mem")
    for path in connector.fs.find(""):
        connector.fs.rm_file(path)
    return connector


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Connector]:
    """Make a connector to a local directory, with the default policies."""
    settings = {"path": str(tmp_path / "shelf")}
    connectors = {"shelf": {"type": "local", "settings": settings}}
    with ConnectorKit({"connectors": connectors}) as kit:
        yield kit.resolve("shelf")


class TestFolder:
    """It never leaves the folder that it was given."""

    @pytest.mark.parametrize("prefix", ["runs/a", "runs/a/", "/runs/a"])
    def test_stays_inside(self, memory: Connector, prefix: str) -> None:
        """A folder's name is no beginning of another's, nor is it a file's (E22)."""
        names = ("runs/a/1", "runs/a/b/2", "runs/ab/3", "runs/a.txt", "runs/b/4")
        for name in names:
            memory.fs.pipe_file(f"/{name}", b"x")
        report = memory.cleanup(prefix)
        left = {path.strip("/") for path in memory.fs.find("")}
        assert left == {"runs/ab/3", "runs/a.txt", "runs/b/4"}
        assert (report.deleted, report.bytes, report.errors) == (2, 2, {})

    @pytest.mark.parametrize(
        "prefix", ["", "/", "//", ".", "..", "a/../b", "a//b", "s3://bucket/a", "./a"]
    )
    def test_refuses(self, memory: Connector, prefix: str) -> None:
        """An empty prefix, or one that is no plain path, is refused unasked (E22)."""
        memory.fs.pipe_file("/a/b", b"x")
        with pytest.raises(ValueError, match="cleanup"):
            memory.cleanup(prefix)
        assert memory.fs.exists("/a/b")

    @pytest.mark.parametrize("type_id", ["s3", "gcs", "minio"])
    def test_refuses_a_bucket(self, type_id: str) -> None:
        """A bucket alone would be everything in it; nothing is asked of the service."""
        with (
            Stub(lambda _request: Answer(500)) as stub,
            kit_at(type_id, settings_for(type_id, stub)) as kit,
        ):
            with pytest.raises(ValueError, match="a folder in a bucket"):
                kit.resolve("it").cleanup("bucket/")
            assert stub.requests == []

    def test_missing_folder(self, memory: Connector) -> None:
        """A folder that is not there is clean."""
        report = memory.cleanup("nothing/here")
        assert report == CleanupReport("nothing/here", is_dry_run=False)


class TestAge:
    """Only what is old enough goes."""

    @pytest.mark.parametrize("age", [3600, timedelta(hours=1)])
    def test_older_than(self, shelf: Connector, age: timedelta | float) -> None:
        """What was written before the age goes, what came later stays."""
        for name in ("runs/old", "runs/new"):
            shelf.fs.makedirs("runs", exist_ok=True)
            shelf.fs.pipe_file(name, b"12345")
        path = shelf.opened().inner._join("runs/old")
        os.utime(path, (_OLD.timestamp(), _OLD.timestamp()))
        report = shelf.cleanup("runs", older_than=age)
        assert (report.deleted, report.bytes, report.kept) == (1, 5, 1)
        assert [path.rpartition("/")[2] for path in shelf.fs.find("runs")] == ["new"]

    def test_unknown_age(self) -> None:
        """What has no time is kept, unless no age is asked for."""

        def answer(_request: Request) -> Answer:
            return Answer(200, _listing([("runs/a", None)]))

        with (
            Stub(answer) as stub,
            kit_at("s3", settings_for("s3", stub)) as kit,
        ):
            report = kit.resolve("it").cleanup("bucket/runs", older_than=0)
        assert (report.deleted, report.kept, report.errors) == (0, 1, {})

    def test_negative(self, memory: Connector) -> None:
        """A negative age would be in the future, and is refused."""
        with pytest.raises(ValueError, match="negative"):
            memory.cleanup("runs", older_than=-1)

    @given(st.lists(st.integers(-1000, 1000), max_size=20))
    def test_splits_by_age(self, ages: list[int]) -> None:
        """Whatever the ages, what is deleted and what is kept are all there was."""
        now = datetime.now(UTC)
        keys = [(f"runs/{n}", now - timedelta(days=d)) for n, d in enumerate(ages)]

        def answer(request: Request) -> Answer:
            if request.method == "GET":
                return Answer(200, _listing(keys))
            return Answer(200, b"<DeleteResult/>")

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            report = kit.resolve("it").cleanup("bucket/runs", older_than=86_400 / 2)
        assert report.deleted == sum(each > 0 for each in ages)
        assert report.deleted + report.kept == len(ages)


class TestDryRun:
    """A dry run looks, and no more."""

    def test_deletes_nothing(self, memory: Connector) -> None:
        """It reports what would go, and leaves it."""
        memory.fs.pipe_file("/runs/a", b"123")
        report = memory.cleanup("runs", dry_run=True)
        assert (report.is_dry_run, report.deleted, report.bytes) == (True, 1, 3)
        assert memory.fs.exists("/runs/a")


class TestBatches:
    """A listing is streamed, and deleted by batches."""

    def test_many(self, rclone_s3: RcloneS3, rclone_bucket: str) -> None:
        """More keys than a page, or a delete, may hold all go (E22)."""
        folder = rclone_s3.root / rclone_bucket / "runs"
        folder.mkdir()
        for number in range(2001):
            (folder / f"{number:05}").touch()
        (rclone_s3.root / rclone_bucket / "runs2").touch()
        seen: list[int] = []
        with kit_at("minio", settings_for("minio", rclone_s3)) as kit:
            report = kit.resolve("it").cleanup(
                f"{rclone_bucket}/runs", told=lambda report: seen.append(report.deleted)
            )
        assert (report.deleted, report.errors) == (2001, {})
        assert seen == [1000, 2000, 2001]
        assert {each.name for each in folder.parent.iterdir()} >= {"runs2"}
        assert not list(folder.glob("*"))

    def test_requests(self) -> None:
        """Each page is one request, and so is each thousand of deletes."""
        keys = [(f"runs/{number:05}", _OLD) for number in range(2500)]

        def answer(request: Request) -> Answer:
            if request.method == "POST":
                return Answer(200, b"<DeleteResult/>")
            start = int(request.query.get("continuation-token", 0))
            return Answer(200, _listing(keys[start : start + 1000], start + 1000, 2500))

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            report = kit.resolve("it").cleanup("bucket/runs")
            prefixes = {each.query["prefix"] for each in stub.asked("GET")}
        assert report.deleted == 2500
        assert (len(stub.asked("GET")), len(stub.asked("POST"))) == (3, 3)
        assert prefixes == {"runs/"}


class TestErrors:
    """What fails is reported, and raised by nothing."""

    def test_per_key(self) -> None:
        """Keys that the service does not delete are named with what it said (E22)."""
        keys = [(f"runs/{number}", _OLD) for number in range(5)]
        refused = (
            b"<DeleteResult><Error><Key>runs/3</Key><Code>AccessDenied</Code>"
            b"<Message>locked</Message></Error></DeleteResult>"
        )

        def answer(request: Request) -> Answer:
            return Answer(200, _listing(keys) if request.method == "GET" else refused)

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            report = kit.resolve("it").cleanup("bucket/runs")
        assert report.deleted == 4
        assert report.errors == {"bucket/runs/3": "AccessDenied: locked"}

    def test_a_batch_fails(self) -> None:
        """A delete that is refused altogether is told for each of its keys."""
        keys = [(f"runs/{number}", _OLD) for number in range(3)]

        def answer(request: Request) -> Answer:
            if request.method == "GET":
                return Answer(200, _listing(keys))
            return s3_error(503, "SlowDown")

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            report = kit.resolve("it").cleanup("bucket/runs")
        assert report.deleted == 0
        assert set(report.errors) == {f"bucket/runs/{n}" for n in range(3)}

    @pytest.mark.parametrize("status", [403, 503])
    def test_listing_fails(self, status: int) -> None:
        """A listing that is refused is told for the folder."""
        with (
            Stub(lambda _request: s3_error(status, "Refused")) as stub,
            kit_at("s3", settings_for("s3", stub)) as kit,
        ):
            report = kit.resolve("it").cleanup("bucket/runs")
        assert set(report.errors) == {"bucket/runs"}

    def test_one_file_fails(
        self, memory: Connector, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Where files go one by one, one that does not go stops none of the others."""
        for name in "abc":
            memory.fs.pipe_file(f"/runs/{name}", b"x")
        inner: Any = memory.opened().inner
        remove = inner._rm

        def rm(path: str) -> None:
            if path.endswith("b"):
                raise PermissionError("locked")
            remove(path)

        monkeypatch.setattr(inner, "_rm", rm)
        report = memory.cleanup("runs")
        assert report.deleted == 2
        assert list(report.errors.values()) == ["PermissionError: locked"]


def _listing(
    keys: Sequence[tuple[str, datetime | None]], after: int = 0, total: int = 0
) -> bytes:
    """Answer ListObjectsV2."""
    root = ET.Element("ListBucketResult")
    is_cut = after < total
    ET.SubElement(root, "IsTruncated").text = str(is_cut).lower()
    if is_cut:
        ET.SubElement(root, "NextContinuationToken").text = str(after)
    for key, modified in keys:
        contents = ET.SubElement(root, "Contents")
        ET.SubElement(contents, "Key").text = key
        ET.SubElement(contents, "Size").text = "1"
        if modified is not None:
            text = modified.strftime("%Y-%m-%dT%H:%M:%SZ")
            ET.SubElement(contents, "LastModified").text = text
    return ET.tostring(root)
