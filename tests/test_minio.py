"""What type `minio` does otherwise than type `s3`, since its servers need it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest
import trustme

from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Request, Stub, s3_object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from servers import RcloneS3

_CHECKSUMS = ("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer")


@pytest.fixture(scope="module")
def tls() -> ssl.SSLContext:
    """Make a certificate: over TLS, botocore's checksums are trailers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    return context


def _answer(request: Request) -> Answer:
    if request.method in {"GET", "HEAD"}:
        return s3_object(request, b"content")
    if request.method == "POST":
        return Answer(200, b"<DeleteResult></DeleteResult>")
    return Answer(200, b"", {"ETag": '"an-etag"'})


def _checksums(headers: Mapping[str, str]) -> list[str]:
    found = [name for name in headers if name.startswith(_CHECKSUMS)]
    if "aws-chunked" in headers.get("content-encoding", ""):
        found.append("aws-chunked")
    return found


def _requests(type_id: str, tls: ssl.SSLContext | None) -> list[Request]:
    """Write, read and delete at a stub, and return what it was asked."""
    with Stub(_answer, tls) as stub:
        settings = {**settings_for(type_id, stub), "verify_tls": False}
        with kit_at(type_id, settings) as kit:
            fs = kit.resolve("it").fs
            fs.pipe_file("bucket/key", b"content")
            fs.cat_file("bucket/key", start=1, end=3)
            fs.rm("bucket/key")
    return stub.requests


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_no_checksums(scheme: str, tls: ssl.SSLContext) -> None:
    """Nothing that is written or read asks for a checksum, which type `s3` does."""
    context = tls if scheme == "https" else None
    for request in _requests("minio", context):
        if "delete" not in request.query:
            assert _checksums(request.headers) == []
            assert request.body in {b"", b"content"}
    asked = [name for r in _requests("s3", context) for name in _checksums(r.headers)]
    assert ("aws-chunked" if scheme == "https" else "x-amz-checksum-crc32") in asked
    assert "x-amz-checksum-mode" in asked


def test_checksum_where_required() -> None:
    """A request to delete many, which S3 refuses without a checksum, has one."""
    (request,) = (r for r in _requests("minio", None) if "delete" in r.query)
    assert _checksums(request.headers) or "content-md5" in request.headers


def test_bucket_stands_in_the_path() -> None:
    """The bucket is in the path: few servers have a name for each of their buckets."""
    with Stub(_answer) as stub:
        host = f"localhost:{stub.port}"
        settings = {**settings_for("minio", stub), "endpoint_url": f"http://{host}"}
        with kit_at("minio", settings) as kit:
            kit.resolve("it").fs.pipe_file("bucket/key", b"content")
    (request,) = stub.requests
    assert (request.path, request.headers["host"]) == ("/bucket/key", host)


@pytest.mark.parametrize(
    ("type_id", "place"),
    [
        ("minio", ("s3.amazonaws.com", "/bucket/key")),
        ("s3", ("bucket.s3.amazonaws.com", "/key")),
    ],
)
def test_bucket_at_amazon(type_id: str, place: tuple[str, str]) -> None:
    """At Amazon, where type `s3` leaves the path, type `minio` stays with it."""
    settings = {"key": "a-key", "secret": "a-secret", "region_name": "us-east-1"}
    with kit_at(type_id, settings) as kit:
        url = urlsplit(kit.resolve("it").fs.url("bucket/key"))
    assert (url.hostname, url.path) == place


def test_defaults() -> None:
    """Only keys and endpoint need be given: the region is us-east-1."""
    settings = {"key": "k", "secret": "s", "endpoint_url": "http://127.0.0.1:9"}
    with kit_at("minio", settings) as kit:
        client_kwargs = kit.resolve("it").fs.client_kwargs
    assert client_kwargs["region_name"] == "us-east-1"


def test_ranges_from_rclone(rclone_s3: RcloneS3, rclone_bucket: str) -> None:
    """A part of an object reads from a server that sends the whole's checksum."""
    content = bytes(range(256)) * 100
    with kit_at("minio", settings_for("minio", rclone_s3)) as kit:
        fs = kit.resolve("it").fs
        path = f"{rclone_bucket}/key"
        fs.pipe_file(path, content)
        assert fs.cat_file(path, start=300, end=1000) == content[300:1000]
        assert fs.cat_ranges([path] * 2, [0, 5], [3, 9]) == [content[:3], content[5:9]]
        with fs.open(path, block_size=1024, cache_type="none") as file:
            file.seek(-500, 2)
            assert file.read(100) == content[-500:-400]
