"""What the S3 connector promises beyond what every connector does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Request, Stub, s3_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

    from connectorkit import ConnectorKit
    from servers import MotoS3, RcloneS3

# How a real server would answer for a bucket of that kind: none can be told to.
_PROBED = {
    "open": Answer(200),
    "denied": Answer(403),
    "gone": Answer(404),
    "moved": Answer(301, b"", {"x-amz-bucket-region": "eu-west-1"}),
    "elsewhere": Answer(301),
    "busy": Answer(429),
    "slow": Answer(503),
    "broken": Answer(500),
    "late": Answer(408),
}
_SHOWN = {"open", "busy", "slow", "broken", "late"}
_PROBES = 16

_PART = 5 * 2**20


def _buckets(names: list[str], token: str = "") -> Answer:
    listed = "".join(f"<Bucket><Name>{name}</Name></Bucket>" for name in names)
    more = f"<ContinuationToken>{token}</ContinuationToken>" if token else ""
    return Answer(
        200,
        f"<ListAllMyBucketsResult><Buckets>{listed}</Buckets>{more}"
        "</ListAllMyBucketsResult>".encode(),
    )


class TestRoot:
    """The listing of buckets."""

    def test_shows_what_can_be_browsed(self) -> None:
        """A bucket is left out if it is denied, gone or elsewhere, not if it is busy.

        At a stub, since no real server can be told to answer so.
        """
        names = [f"{kind}-{number}" for kind in _PROBED for number in range(5)]

        def answer(request: Request) -> Answer:
            if request.path == "/":
                return _buckets(names)
            return _PROBED[request.path.strip("/").partition("-")[0]]

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            shown = kit.resolve("it").fs.ls("", detail=False)
        wanted = [name for name in names if name.partition("-")[0] in _SHOWN]
        assert shown == sorted(wanted)

    def test_probes_few_at_a_time(self) -> None:
        """Of 40 buckets 16 are probed at a time, at a stub that counts them."""

        def answer(request: Request) -> Answer:
            if request.path == "/":
                return _buckets([f"bucket-{number}" for number in range(40)])
            with stub.changed:
                stub.changed.wait_for(lambda: stub.most >= _PROBES, timeout=30)
                # Nobody is answered until one too many had its time to arrive.
                stub.changed.wait_for(lambda: stub.most > _PROBES, timeout=0.2)
            return Answer(200)

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            assert len(kit.resolve("it").fs.ls("")) == 40
        assert stub.most == _PROBES

    def test_follows_pages(self) -> None:
        """All pages of the listing of buckets are read."""

        def answer(request: Request) -> Answer:
            if request.path != "/":
                return Answer(200)
            if request.query.get("continuation-token") == "the-second":
                return _buckets(["bucket-2"])
            return _buckets(["bucket-1"], "the-second")

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            shown = kit.resolve("it").fs.ls("", detail=False)
        assert shown == ["bucket-1", "bucket-2"]

    def test_refusal_is_raised(self, rclone_s3: RcloneS3) -> None:
        """A refusal to list buckets is a PermissionError, not an empty listing."""
        settings = {**settings_for("s3", rclone_s3), "secret": "wrong"}
        with kit_at("s3", settings) as kit, pytest.raises(PermissionError):
            kit.resolve("it").fs.ls("")


def test_clients_share_what_botocore_knows(moto_s3: MotoS3, moto_bucket: str) -> None:
    """Two connectors hold one description of S3, which takes 12 MB, and no more."""
    settings = settings_for("s3", moto_s3)
    with kit_at("s3", settings) as one, kit_at("s3", settings) as other:
        loaders = []
        for kit in (one, other):
            fs = kit.resolve("it").fs
            fs.ls(moto_bucket)
            loaders.append(fs.session.get_component("data_loader"))
        assert one.resolve("it").fs.session is not other.resolve("it").fs.session
    assert loaders[0] is loaders[1]


class TestRedirects:
    """Answers that send the client elsewhere."""

    @pytest.mark.parametrize("status", [301, 302, 307])
    @pytest.mark.parametrize("call", ["ls", "ls_root", "cat_file", "pipe_file"])
    def test_not_by_s3(self, call: str, status: int) -> None:
        """Where a server that is no S3 redirects, one request is sent, and fails.

        botocore would ask for the bucket's region until Python's stack is full. At a
        stub that redirects as a web server does.
        """
        calls: dict[str, Callable[[AbstractFileSystem], object]] = {
            "ls": lambda fs: fs.ls("bucket"),
            "ls_root": lambda fs: fs.ls(""),
            "cat_file": lambda fs: fs.cat_file("bucket/key", start=0, end=1),
            "pipe_file": lambda fs: fs.pipe_file("bucket/key", b""),
        }
        elsewhere = Answer(status, b"", {"Location": "http://127.0.0.1:9/"})
        with (
            Stub(lambda _: elsewhere) as stub,
            kit_at("s3", settings_for("s3", stub)) as kit,
            pytest.raises(OSError, match=r"Moved|Redirect|302"),
        ):
            calls[call](kit.resolve("it").fs)
        assert len(stub.requests) == 1

    def test_to_the_buckets_region(self) -> None:
        """Where S3 names the bucket's region, the request is signed for it anew.

        At a stub, since moto does not redirect.
        """

        def answer(request: Request) -> Answer:
            if "/eu-west-1/" in request.headers["authorization"]:
                return Answer(200, b"content", {"Content-Range": "bytes 0-6/7"})
            named = {"x-amz-bucket-region": "eu-west-1"}
            error = s3_error(301, "PermanentRedirect")
            return Answer(301, error.body, named)

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            fs = kit.resolve("it").fs
            for _ in range(2):
                assert fs.cat_file("bucket/key", start=0, end=7) == b"content"
        # The second time it is known.
        assert len(stub.requests) == 3


class TestExclusive:
    """What is written by `open(path, "xb")` or `pipe_file(mode="create")` is new."""

    @pytest.fixture
    def kit(self, moto_s3: MotoS3) -> Iterator[ConnectorKit]:
        """Make a kit with moto, which refuses as S3 does."""
        with kit_at("s3", settings_for("s3", moto_s3)) as kit:
            yield kit

    @pytest.mark.parametrize("size", [0, 10, 2 * _PART + 1])
    def test_loses_to_another_writer(
        self, kit: ConnectorKit, moto_bucket: str, size: int
    ) -> None:
        """What another wrote meanwhile stays: to empty, small and multipart files."""
        fs, path = kit.resolve("it").fs, f"{moto_bucket}/key"
        file = fs.open(path, "xb", block_size=_PART)
        file.write(b"x" * size)
        fs.pipe_file(path, b"another's")
        with pytest.raises(FileExistsError):
            file.close()
        assert fs.cat_file(path) == b"another's"
        # Parts without an end would be paid for.
        uploads = fs.call_s3("list_multipart_uploads", Bucket=moto_bucket)
        assert not uploads.get("Uploads")

    @pytest.mark.parametrize("size", [0, 10, 2 * _PART + 1])
    def test_writes_what_is_new(
        self, kit: ConnectorKit, moto_bucket: str, size: int
    ) -> None:
        """A new object is written whole: an empty, a small and a multipart one."""
        fs, path = kit.resolve("it").fs, f"{moto_bucket}/key"
        with fs.open(path, "xb", block_size=_PART) as file:
            file.write(b"x" * size)
        assert fs.cat_file(path) == b"x" * size

    def test_is_told_before_writing(self, kit: ConnectorKit, moto_bucket: str) -> None:
        """What is there already is found when the file is opened."""
        fs, path = kit.resolve("it").fs, f"{moto_bucket}/key"
        fs.pipe_file(path, b"old")
        with pytest.raises(FileExistsError):
            fs.open(path, "xb")

    @pytest.mark.parametrize("may_look", [False, True])
    @pytest.mark.parametrize("size", [0, 10, 2 * _PART + 1])
    def test_on_the_wire(self, *, size: int, may_look: bool) -> None:
        """The request that makes the object carries If-None-Match, and no other does.

        At a stub that shows the requests; credentials that may not read can write.
        """

        def answer(request: Request) -> Answer:
            if request.method == "HEAD":
                return Answer(404 if may_look else 403)
            return _accept(request)

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            fs = kit.resolve("it").fs
            with fs.open("bucket/key", "xb", block_size=_PART) as file:
                file.write(b"x" * size)
        wanted = {
            str(each): each.headers.get("if-none-match") for each in stub.requests
        }
        if size > _PART:
            complete = "POST /bucket/key?uploadId=an-upload "
        else:
            complete = "PUT /bucket/key? "
        assert wanted.pop(complete) == "*"
        assert set(wanted.values()) == {None}

    @pytest.mark.parametrize("how", ["pipe", "open"])
    def test_refusal_without_a_condition(self, how: str) -> None:
        """A 412 that does not say which condition failed is a FileExistsError.

        At a stub: MinIO answers so, and cannot be run here.
        """

        def answer(request: Request) -> Answer:
            if request.method == "HEAD":
                return Answer(404)
            return s3_error(412, "PreconditionFailed")

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            fs = kit.resolve("it").fs
            if how == "pipe":
                with pytest.raises(FileExistsError):
                    fs.pipe_file("bucket/key", b"new", mode="create")
            else:
                file = fs.open("bucket/key", "xb")
                with pytest.raises(FileExistsError):
                    file.close()


def _accept(request: Request) -> Answer:
    """Take any upload as S3 does."""
    if "uploads" in request.query:
        found = "<UploadId>an-upload</UploadId>"
        root = "InitiateMultipartUploadResult"
        return Answer(200, f"<{root}>{found}</{root}>".encode())
    if request.method == "POST":
        root = "CompleteMultipartUploadResult"
        return Answer(200, f"<{root}><Key>key</Key></{root}>".encode())
    return Answer(200, b"", {"ETag": '"an-etag"'})
