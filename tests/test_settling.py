"""Where a reply was lost, the store is asked whether the thing was done."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import Fault, Verdict
from connectorkit.testing import (
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    Status,
)
from connectorkit_s3.settling import Look, settle
from faults.s3_places import ATTEMPTS, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import MotoS3, RcloneS3

_PART = bytes(5 << 20)
_MINE = b"mine"
_THEIRS = b"another writer's"


@pytest.fixture(scope="module")
def places(moto_s3: MotoS3, rclone_s3: RcloneS3) -> Iterator[dict[str, Place]]:
    """Open both, by connector type."""
    with Place("s3", moto_s3) as s3, Place("minio", rclone_s3) as minio:
        yield {"s3": s3, "minio": minio}


@pytest.fixture
def s3(places: dict[str, Place]) -> Place:
    """Type s3 at moto, which keeps to conditions."""
    places["s3"].quiet()
    return places["s3"]


@pytest.fixture(params=["s3", "minio"])
def place(request: pytest.FixtureRequest, places: dict[str, Place]) -> Place:
    """One after the other."""
    place = places[request.param]
    place.quiet()
    return place


@pytest.fixture
def key(request: pytest.FixtureRequest) -> str:
    """Name a key of this test's own."""
    return f"key-{abs(hash(request.node.nodeid))}"


def _upload(place: Place, key: str, mode: str = "wb") -> None:
    with place.fs.open(place.path(key), mode, block_size=len(_PART)) as file:
        file.write(_PART + _MINE)


def _create(place: Place, key: str, content: bytes = _MINE) -> Any:
    """Create an object by its condition alone, without a look before."""
    return place.fs.call_s3(
        "put_object", Bucket=place.bucket, Key=key, Body=content, IfNoneMatch="*"
    )


class TestUploads:
    """An upload whose completion nobody heard of."""

    @pytest.mark.parametrize("lost", [1, 2, ATTEMPTS])
    @pytest.mark.parametrize("mode", ["wb", "xb"])
    def test_done(self, s3: Place, key: str, mode: str, lost: int) -> None:
        """However often the reply is lost: the object is of these parts, so it is."""
        s3.proxy.inject(LoseReply(), times=lost, when="complete_multipart_upload")
        _upload(s3, key, mode)
        assert s3.content(key) == _PART + _MINE
        assert s3.asked()["complete_multipart_upload"] == min(lost + 1, ATTEMPTS)
        assert s3.uploads(key) == []

    def test_done_where_etags_are_other_ones(
        self, places: dict[str, Place], key: str
    ) -> None:
        """Rclone says that the upload is gone, and the object has all of its bytes."""
        place = places["minio"]
        place.quiet()
        place.proxy.inject(LoseReply(), when="complete_multipart_upload")
        _upload(place, key)
        assert place.content(key) == _PART + _MINE
        assert place.asked()["complete_multipart_upload"] == 2
        assert place.asked()["head_object"] == 1
        # Its parts are forgotten.
        assert place.fs._part_sizes == {}

    def test_not_done(self, place: Place, key: str) -> None:
        """What was there before is not these parts: the error stands."""
        place.put(key, _THEIRS)
        place.proxy.inject(
            ResetBeforeReply(), times=None, when="complete_multipart_upload"
        )
        with pytest.raises(Exception, match=f"{ATTEMPTS} attempts"):
            _upload(place, key)
        assert place.content(key) == _THEIRS
        assert place.uploads(key) == []

    def test_another_writer(self, place: Place, key: str) -> None:
        """Another writer's object is not taken for one's own."""
        place.proxy.inject(LoseReply(), times=None, when="complete_multipart_upload")
        theirs = ReplaceObject(lambda _: place.put(key, _THEIRS))
        place.proxy.inject(theirs, when="head_object")
        with pytest.raises(Exception, match=f"{ATTEMPTS} attempts"):
            _upload(place, key)
        assert place.content(key) == _THEIRS

    def test_another_creator(self, s3: Place, key: str) -> None:
        """Of two who create one object the second hears that it is there."""
        s3.proxy.inject(ResetBeforeReply(), when="complete_multipart_upload")
        theirs = ReplaceObject(lambda _: s3.put(key, _THEIRS))
        s3.proxy.inject(theirs, when="complete_multipart_upload")
        with pytest.raises(FileExistsError):
            _upload(s3, key, "xb")
        assert s3.content(key) == _THEIRS
        assert s3.uploads(key) == []


class TestCreations:
    """A conditional write whose reply was lost meets its own object."""

    @pytest.mark.parametrize("lost", [1, 2])
    @pytest.mark.parametrize("content", [b"", _MINE])
    def test_done(self, s3: Place, key: str, content: bytes, lost: int) -> None:
        """The object has this content, so it was created."""
        s3.proxy.inject(LoseReply(), times=lost, when="put_object")
        digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
        assert _create(s3, key, content)["ETag"] == f'"{digest}"'
        assert s3.asked() == {"put_object": lost + 1, "head_object": 1}

    @pytest.mark.parametrize("fault", [ResetBeforeReply(), Status(500)])
    def test_another_writer(self, s3: Place, key: str, fault: Any) -> None:
        """The object has other content: somebody else created it."""
        s3.proxy.inject(fault, when="put_object")
        theirs = ReplaceObject(lambda _: s3.put(key, _THEIRS))
        s3.proxy.inject(theirs, when="put_object")
        with pytest.raises(FileExistsError):
            _create(s3, key)
        assert s3.content(key) == _THEIRS

    @pytest.mark.parametrize("fault", [None, Status(503, "SlowDown")])
    def test_no_doubt(self, s3: Place, key: str, fault: Any) -> None:
        """Where no attempt can have been done, nobody looks: it was there before."""
        s3.put(key, _MINE)
        if fault is not None:
            s3.proxy.inject(fault)
        with pytest.raises(FileExistsError):
            _create(s3, key)
        assert "head_object" not in s3.asked()

    def test_nobody_can_look(self, s3: Place, key: str) -> None:
        """If the look fails, the error is that of the write."""
        s3.proxy.inject(LoseReply(), when="put_object")
        s3.proxy.inject(Status(500), times=None, when="head_object")
        with pytest.raises(FileExistsError):
            _create(s3, key)

    @pytest.mark.parametrize("kind", ["file", "open for creation"])
    def test_other_ways(self, s3: Place, key: str, kind: str) -> None:
        """So it is with `mode="create"` and with mode "xb"."""
        s3.proxy.inject(LoseReply(), when="put_object")
        if kind == "file":
            s3.fs.pipe_file(s3.path(key), _MINE, mode="create")
        else:
            with s3.fs.open(s3.path(key), "xb") as file:
                file.write(_MINE)
        assert s3.content(key) == _MINE


class TestBuckets:
    """That a bucket is there, or gone, is what was wanted."""

    def test_made(self, s3: Place) -> None:
        """A bucket that is one's own by the second attempt was made by the first."""
        s3.proxy.inject(LoseReply(), when="create_bucket")
        s3.fs.call_s3("create_bucket", Bucket=f"{s3.bucket}-2")
        assert s3.asked() == {"create_bucket": 2}

    def test_removed(self, place: Place) -> None:
        """A bucket that is gone by the second attempt was removed by the first."""
        name = f"{place.bucket}-3"
        place.fs.call_s3("create_bucket", Bucket=name)
        place.proxy.inject(LoseReply(), when="delete_bucket")
        place.fs.call_s3("delete_bucket", Bucket=name)
        assert place.asked()["delete_bucket"] == 2

    def test_aborted(self, place: Place, key: str) -> None:
        """An upload whose end was not heard of is gone, and that was wanted."""
        names = {"Bucket": place.bucket, "Key": key}
        upload = place.fs.call_s3("create_multipart_upload", **names)["UploadId"]
        place.proxy.inject(LoseReply(), when="abort_multipart_upload")
        place.fs.call_s3("abort_multipart_upload", **names, UploadId=upload)
        assert place.uploads(key) == []


class TestJudging:
    """What an object has to be, to be the one that was written."""

    @given(
        etag=st.sampled_from(["of-parts-2", "theirs-2", "theirs", "theirs-3", ""]),
        size=st.sampled_from([None, 7, 8]),
        found=st.sampled_from([7, 8]),
        parts=st.sampled_from([0, 2]),
    )
    def test_of_an_upload(
        self, etag: str, size: int | None, found: int, parts: int
    ) -> None:
        """It has the ETag of these parts; or else their size and number, if it is gone.

        The size counts only where the upload is known to be gone, so that there are
        parts to compare with.
        """
        names = {"Bucket": "b", "Key": "k"}
        look = Look(names, "of-parts-2", size, parts)
        judged = look.judge({"ETag": f'"{etag}"', "ContentLength": found})
        is_of_these_parts = etag == "of-parts-2"
        suffix = etag.partition("-")[2]
        is_alike = bool(parts) and size == found and suffix in {"", "2"}
        assert (judged is not None) == (is_of_these_parts or is_alike)

    def test_nothing_is_known(self) -> None:
        """Without an ETag on either side nothing is said."""
        assert Look({}, "").judge({"ETag": "", "ContentLength": 0}) is None

    @given(method=st.sampled_from(["put_object", "upload_part", "copy_object", "rm"]))
    def test_of_others(self, method: str) -> None:
        """What may be done twice needs no look: its error stands."""
        verdict = Verdict(Fault.TRANSIENT)
        assert settle(method, {"Body": b""}, verdict, lambda _: 0) is None
