"""The test kit: each fault does on the wire what it says, and the counts are exact."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import select
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError
from gcsfs.core import GCSFileSystem
from hypothesis import given
from hypothesis import strategies as st
from s3fs import S3FileSystem

from connectorkit import ConfigError, testing
from connectorkit.testing import (
    OPERATIONS,
    Drip,
    Fault,
    FaultProxy,
    LoseReply,
    Relay,
    ReplaceObject,
    Request,
    ResetBeforeReply,
    ResetMidBody,
    Stall,
    Status,
    Truncate,
    VirtualClock,
    WholeForRange,
    memory_kit,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers import GcsEmulator, MotoS3, RcloneS3, S3Server

_PART = 5 * 2**20
_CONTENT = bytes(range(256)) * 40
# It remembers what it has read of S3's model, which is half a second's work.
_SESSION = botocore.session.get_session()
# moto takes any signature for a good one, but wants one.
_SIGNED = "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request"


# Clients


class Got(NamedTuple):
    """What a client was answered."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(
    proxy: FaultProxy,
    method: str,
    path: str,
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
) -> Got:
    """Ask once by a connection of its own, as Python's own client does."""
    client = http.client.HTTPConnection(urlsplit(proxy.url).netloc, timeout=20)
    with closing(client):
        signed = {"Authorization": _SIGNED, **(headers or {})}
        client.request(method, path, body, signed)
        answer = client.getresponse()
        fields = {k.lower(): v for k, v in answer.getheaders()}
        return Got(answer.status, fields, answer.read())


def dial(proxy: FaultProxy) -> socket.socket:
    """Connect without a client library between the test and the wire."""
    address = urlsplit(proxy.url)
    return socket.create_connection((address.hostname, address.port), timeout=20)


def say(method: str, path: str, *headers: str, body: bytes = b"") -> bytes:
    """Return a request as it is sent."""
    fields = ["Host: test", f"Authorization: {_SIGNED}", *headers]
    lines = [f"{method} {path} HTTP/1.1", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def head_of(client: socket.socket) -> str:
    """Read a head, and no byte more."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        byte = client.recv(1)
        assert byte, head
        head += byte
    return head.decode()


def rest_of(client: socket.socket) -> tuple[bytes, str]:
    """Read until the end; tell how it ended: "closed" or "reset"."""
    rest = b""
    while True:
        try:
            data = client.recv(1 << 16)
        except ConnectionResetError:
            return rest, "reset"
        if not data:
            return rest, "closed"
        rest += data


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for what is bound to happen."""
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def silent(client: socket.socket) -> bool:
    """Tell whether nothing has arrived."""
    return not select.select([client], [], [], 0)[0]


def boto(server: S3Server, proxy: FaultProxy, attempts: int = 1) -> Any:
    """Return botocore's client, which makes so many attempts."""
    return _SESSION.create_client(
        "s3",
        endpoint_url=proxy.url,
        aws_access_key_id=server.key,
        aws_secret_access_key=server.secret,
        region_name=server.region_name,
        config=Config(
            retries={"total_max_attempts": attempts, "mode": "standard"},
            response_checksum_validation="when_required",
            max_pool_connections=50,
        ),
    )


def s3fs(server: S3Server, proxy: FaultProxy) -> S3FileSystem:
    """Return s3fs, botocore's own retries off."""
    return S3FileSystem(
        key=server.key,
        secret=server.secret,
        endpoint_url=proxy.url,
        config_kwargs={
            "retries": {"total_max_attempts": 1, "mode": "standard"},
            "response_checksum_validation": "when_required",
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )


# Servers that do what no real one can be told to


@contextmanager
def origin(*answers: bytes | Callable[[socket.socket], object]) -> Iterator[str]:
    """Run a server that reads a head and says this, by one connection each."""

    def serve() -> None:
        for answer in answers:
            client, _ = listener.accept()
            with client:
                if callable(answer):
                    answer(client)
                else:
                    head_of(client)
                    client.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


@pytest.fixture
def moto(moto_s3: MotoS3) -> Iterator[FaultProxy]:
    """A proxy before moto, which asks for no signature."""
    with FaultProxy(moto_s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def rclone(rclone_s3: RcloneS3) -> Iterator[FaultProxy]:
    """A proxy before rclone, which checks signatures and keeps connections alive."""
    with FaultProxy(rclone_s3.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def gcs(gcs_emulator: GcsEmulator) -> Iterator[FaultProxy]:
    """A proxy before the emulator of Google Cloud Storage."""
    with FaultProxy(gcs_emulator.endpoint_url) as proxy:
        yield proxy


@pytest.fixture
def path(moto: FaultProxy, moto_bucket: str) -> str:
    """The path of an object on moto."""
    path = f"/{moto_bucket}/key"
    assert ask(moto, "PUT", path, _CONTENT).status == 200
    moto.clear()
    return path


class TestTransparency:
    """Without a fault, client and server are as if nobody stood between them."""

    def test_s3fs(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """Signatures hold, and s3fs does all through it as without it."""
        fs = s3fs(rclone_s3, rclone)
        path, content = f"{rclone_bucket}/a/b c+ü%", os.urandom(2 * _PART + 1)
        with fs.open(path, "wb", block_size=_PART) as file:
            for start in range(0, len(content), _PART):
                file.write(content[start : start + _PART])
        assert fs.cat_file(path) == content
        assert fs.cat_file(path, start=7, end=9) == content[7:9]
        assert fs.ls(f"{rclone_bucket}/a", detail=False) == [path]
        fs.rm(path)
        assert not fs.exists(path)
        assert rclone.count("upload_part", path="b c+ü%") == 3
        assert rclone.count("delete_objects") == 1
        assert {each.status for each in rclone.log} <= {200, 206, 204, 404}

    def test_gcsfs(
        self, gcs: FaultProxy, gcs_emulator: GcsEmulator, gcs_bucket: str
    ) -> None:
        """Gcsfs's uploads in one and in many requests pass through it."""
        fs = GCSFileSystem(
            project=gcs_emulator.project,
            token="anon",
            endpoint_url=gcs.url,
            skip_instance_cache=True,
            use_listings_cache=False,
        )
        path = f"{gcs_bucket}/a/b"
        with fs.open(path, "wb", block_size=2**18) as file:
            file.write(bytes(2**18 + 1))
        assert gcs.count("resumable.start") == 1
        assert gcs.count("resumable.upload") == 2
        fs.pipe_file(path, b"content")
        assert gcs.count("objects.insert") == 1
        assert fs.cat_file(path, start=1, end=4) == b"ont"
        assert gcs.log[-1].operation == "objects.download"
        assert gcs.log[-1].range == "bytes=1-3"
        assert fs.ls(f"{gcs_bucket}/a") == [path]
        assert gcs.count("objects.list") >= 1

    def test_operations_of_boto(
        self, moto: FaultProxy, moto_s3: MotoS3, moto_bucket: str
    ) -> None:
        """Each call of botocore is one request, logged by the name of the call."""
        s3, where = boto(moto_s3, moto), {"Bucket": moto_bucket, "Key": "k"}
        upload = s3.create_multipart_upload(**where)["UploadId"]
        part = {**where, "UploadId": upload, "PartNumber": 1}
        etag = s3.upload_part(**part, Body=bytes(_PART))["ETag"]
        s3.list_parts(**where, UploadId=upload)
        s3.list_multipart_uploads(Bucket=moto_bucket)
        done = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
        s3.complete_multipart_upload(**where, UploadId=upload, MultipartUpload=done)
        s3.copy_object(Bucket=moto_bucket, Key="copy", CopySource=where)
        again = s3.create_multipart_upload(**where)["UploadId"]
        s3.upload_part_copy(**{**part, "UploadId": again}, CopySource=where)
        s3.abort_multipart_upload(**where, UploadId=again)
        s3.put_object(**where)
        s3.get_object(**where)
        s3.head_object(**where)
        s3.get_object_acl(**where)
        s3.get_object_tagging(**where)
        s3.list_objects(Bucket=moto_bucket)
        s3.list_objects_v2(Bucket=moto_bucket, Prefix="", Delimiter="/")
        s3.list_object_versions(Bucket=moto_bucket)
        s3.get_bucket_versioning(Bucket=moto_bucket)
        s3.delete_object(**where)
        s3.delete_objects(Bucket=moto_bucket, Delete={"Objects": [{"Key": "copy"}]})
        s3.head_bucket(Bucket=moto_bucket)
        s3.delete_bucket(Bucket=moto_bucket)
        s3.create_bucket(Bucket=moto_bucket)
        s3.list_buckets()
        assert [each.operation for each in moto.log] == [
            "create_multipart_upload",
            "upload_part",
            "list_parts",
            "list_multipart_uploads",
            "complete_multipart_upload",
            "copy_object",
            "create_multipart_upload",
            "upload_part_copy",
            "abort_multipart_upload",
            "put_object",
            "get_object",
            "head_object",
            "other",
            "get_object_tagging",
            "list_objects",
            "list_objects_v2",
            "list_object_versions",
            "get_bucket_versioning",
            "delete_object",
            "delete_objects",
            "head_bucket",
            "delete_bucket",
            "create_bucket",
            "list_buckets",
        ]

    def test_connections_stay_alive(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """Fifty requests of one client are counted as fifty, on one connection."""
        s3, where = boto(rclone_s3, rclone), {"Bucket": rclone_bucket, "Key": "k"}
        s3.put_object(**where, Body=_CONTENT)
        took = list[float]()
        for _ in range(49):
            begin = time.monotonic()
            assert s3.get_object(**where)["Body"].read() == _CONTENT
            took.append(time.monotonic() - begin)
        s3.close()
        # A body that waits for the acknowledgement of its head takes 0.04 s.
        assert min(took) < 0.03
        assert (rclone.requests, rclone.connections) == (50, 1)
        assert rclone.count("get_object") == rclone.count(method="GET") == 49
        first, *rest = rclone.log
        assert (first.received, first.sent, first.status) == (len(_CONTENT), 0, 200)
        assert {(each.received, each.sent) for each in rest} == {(0, len(_CONTENT))}
        assert [each.number for each in rclone.log] == [*range(1, 51)]

    def test_log_is_complete_when_the_client_has_the_answer(
        self, moto: FaultProxy, path: str
    ) -> None:
        """Who has an answer finds it in the log, with times that make sense."""
        before = time.monotonic()
        for number in range(50):
            range_ = {"Range": f"bytes={number}-{number + 9}"}
            assert ask(moto, "GET", path, headers=range_).status == 206
            (each,) = moto.log
            assert (each.status, each.server_status, each.sent) == (206, 206, 10)
            assert each.end is not None
            assert before <= each.begin <= each.end <= time.monotonic()
            assert each.headers["range"] == each.range == range_["Range"]
            assert f"GET {path} bytes={number}-" in str(each)
            moto.clear()

    def test_log_keeps_no_secret(self, moto: FaultProxy, path: str) -> None:
        """Credentials, tokens and signatures are not logged."""
        headers = {
            "Authorization": "AWS4 Signature=hush",
            "X-Amz-Security-Token": "hush",
            "X-Amz-Server-Side-Encryption-Customer-Key": "hush",
            "Cookie": "hush",
        }
        query = "X-Amz-Signature=hush&X-Amz-Credential=hush&access_token=hush&a=b"
        ask(moto, "GET", f"{path}?{query}", headers=headers)
        assert "hush" not in repr(moto.log)
        assert moto.log[0].query == {"a": "b"}

    @pytest.mark.parametrize("method", ["GET", "HEAD"])
    def test_answers_without_a_body(
        self, moto: FaultProxy, path: str, method: str
    ) -> None:
        """204, 304 and answers to HEAD have no body, and the connection goes on."""
        etag = ask(moto, "HEAD", path).headers["etag"]
        with dial(moto) as client:
            client.sendall(say(method, path, f"If-None-Match: {etag}"))
            assert " 304 " in head_of(client)
            client.sendall(say("HEAD", path))
            assert f"content-length: {len(_CONTENT)}" in head_of(client).lower()
            client.sendall(say("DELETE", path))
            assert " 204 " in head_of(client)
            client.sendall(say("HEAD", path))
            assert " 404 " in head_of(client)
        assert moto.connections == 3

    def test_chunks(self) -> None:
        """Bodies in chunks come through whole, trailers included, both ways."""
        got = list[bytes]()

        def serve(client: socket.socket) -> None:
            assert "Transfer-Encoding: chunked" in head_of(client)
            while not got or not got[-1].endswith(b"Sum: 1\r\n\r\n"):
                got.append(client.recv(1 << 16))
            client.sendall(
                b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"
                b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nSum: 2\r\n\r\n"
            )

        chunks = b"4\r\nwxyz\r\n0\r\nSum: 1\r\n\r\n"
        with origin(serve) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            said = say("PUT", "/b/k", "Transfer-Encoding: chunked", body=chunks)
            client.sendall(said)
            assert "Transfer-Encoding: chunked" in head_of(client)
            whole = b"3\r\nabc\r\n2\r\nde\r\n0\r\nSum: 2\r\n\r\n"
            answered = b""
            while len(answered) < len(whole):
                answered += client.recv(1 << 16)
            (each,) = proxy.log
        assert answered == whole
        assert b"".join(got) == chunks
        assert (each.received, each.sent) == (4, 5)

    def test_body_until_the_end(self) -> None:
        """A body whose end is the connection's end stays one, and says so."""
        answer = b"HTTP/1.0 200 OK\r\n\r\nall of it"
        with origin(answer) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("GET", "/b/k"))
            assert "Connection: close" in head_of(client)
            assert rest_of(client) == (b"all of it", "closed")

    def test_continue_comes_from_the_server(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """A client that waits for 100 Continue gets the server's."""
        s3 = boto(rclone_s3, rclone)
        s3.put_object(Bucket=rclone_bucket, Key="k", Body=_CONTENT)
        (each,) = rclone.log
        assert each.headers["expect"] == "100-continue"
        assert each.received == len(_CONTENT)

    @pytest.mark.parametrize("expects", [["Expect: 100-continue"], []])
    def test_early_answer(self, expects: list[str]) -> None:
        """An answer before the request's body is complete arrives, and is the last."""
        answer = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
        with origin(answer) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("PUT", "/b/k", "Content-Length: 9999", *expects))
            head = head_of(client)
            assert " 403 " in head
            assert "Connection: close" in head
            assert rest_of(client) == (b"no", "closed")
            # Whoever goes on sending is heard out.
            client.sendall(bytes(9999))

    def test_answer_before_a_big_upload(self) -> None:
        """A client that sends on first and reads then loses no early answer."""
        answered = threading.Event()

        def serve(server: socket.socket) -> None:
            head_of(server)
            server.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
            server.close()
            answered.set()

        size = 32 * 2**20
        with origin(serve) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("PUT", "/b/k", f"Content-Length: {size}"))
            assert answered.wait(20)
            client.sendall(bytes(size))
            assert " 403 " in head_of(client)
            assert rest_of(client) == (b"no", "closed")

    def test_server_that_hangs_up(self) -> None:
        """Where the server hangs up unanswered, so does the proxy, without a fault."""
        with origin(b"") as url, FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("GET", "/b/k"))
            assert rest_of(client) == (b"", "closed")
            (each,) = proxy.log
        assert (each.status, each.server_status, each.fault) == (None, None, None)

    def test_server_that_cuts_its_answer(self) -> None:
        """A short answer stays short."""
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"
        with origin(answer) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("GET", "/b/k"))
            assert " 200 " in head_of(client)
            assert rest_of(client) == (b"half", "closed")

    def test_server_that_is_not_there(self) -> None:
        """Where no server listens, the connection is reset."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("GET", "/b/k"))
            assert rest_of(client) == (b"", "reset")
            assert proxy.count("get_object") == 1

    def test_server_that_comes_back(self) -> None:
        """A connection of a client outlives the server's."""
        answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
        ended = threading.Event()

        def serve(server: socket.socket) -> None:
            head_of(server)
            server.sendall(answer)
            server.close()
            ended.set()

        with (
            origin(serve, answer) as url,
            FaultProxy(url) as proxy,
            dial(proxy) as client,
        ):
            for _ in range(2):
                client.sendall(say("GET", "/b/k"))
                assert " 200 " in head_of(client)
                assert ended.wait(20)
            assert proxy.connections == 1

    def test_server_that_is_not_asked(self) -> None:
        """An answer of the proxy's own costs no connection to the server."""
        ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

        def serve(server: socket.socket) -> None:
            for _ in range(2):
                head_of(server)
                server.sendall(ok)

        with origin(serve) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            proxy.inject(Status(503), after=1)
            for status in (200, 503, 200):
                client.sendall(say("HEAD", "/b/k"))
                assert f" {status} " in head_of(client)

    def test_client_that_leaves_its_upload(self) -> None:
        """Where a client leaves within its upload, the server's connection ends."""
        got, begun, ended = list[bytes](), threading.Event(), threading.Event()

        def serve(server: socket.socket) -> None:
            head_of(server)
            got.append(server.recv(99))
            begun.set()
            got.append(rest_of(server)[0])
            ended.set()

        said = say("PUT", "/b/k", "Content-Length: 9", body=b"half")
        with origin(serve) as url, FaultProxy(url) as proxy:
            with dial(proxy) as client:
                client.sendall(said)
                assert begun.wait(20)
            assert ended.wait(20)
        assert got == [b"half", b""]

    def test_no_http(self, moto: FaultProxy) -> None:
        """What is no HTTP is reset, and nobody counts it."""
        with dial(moto) as client:
            client.sendall(b"EHLO test\r\n\r\n")
            assert rest_of(client) == (b"", "reset")
        assert moto.requests == 0


class TestStatus:
    """Answers of the proxy's own."""

    @pytest.mark.parametrize(
        ("fault", "code"),
        [
            (Status(500), "InternalError"),
            (Status(502), "BadGateway"),
            (Status(503, "SlowDown"), "SlowDown"),
            (Status(503, retry_after=3), "SlowDown"),
            (Status(429, retry_after="Wed, 21 Oct 2026 07:28:00 GMT"), "SlowDown"),
            (Status(400, "ExpiredToken"), "ExpiredToken"),
            (Status(599), "InternalError"),
        ],
        ids=str,
    )
    def test_s3(self, moto: FaultProxy, path: str, fault: Status, code: str) -> None:
        """It is S3's own XML, Retry-After as told, and the server is not asked."""
        moto.inject(fault)
        got = ask(moto, "GET", path)
        assert got.status == fault.status
        assert ET.fromstring(got.body).findtext("Code") == code  # noqa: S314 - ours
        after = fault.retry_after
        assert got.headers.get("retry-after") == (None if after is None else str(after))
        (each,) = moto.log
        assert (each.fault, each.server_status) == (fault, None)
        assert each.sent == len(got.body)
        assert ask(moto, "GET", path).body == _CONTENT

    def test_boto_reads_it(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """A client finds the code and the header, and keeps its connection."""
        s3, where = boto(rclone_s3, rclone), {"Bucket": rclone_bucket, "Key": "k"}
        rclone.inject(Status(503, "SlowDown", retry_after=7), times=2)
        for call in (s3.put_object, s3.head_object):
            with pytest.raises(ClientError) as caught:
                call(**where)
            meta = caught.value.response["ResponseMetadata"]
            assert meta["HTTPStatusCode"] == 503
            assert meta["HTTPHeaders"]["retry-after"] == "7"
        s3.put_object(**where)
        s3.close()
        assert rclone.connections == 1

    def test_boto_tries_again(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """Retries of a client are counted as what they are: requests."""
        rclone.inject(Status(500), when="put_object")
        boto(rclone_s3, rclone, attempts=2).put_object(
            Bucket=rclone_bucket, Key="k", Body=_CONTENT
        )
        assert [each.status for each in rclone.log] == [500, 200]
        assert {each.received for each in rclone.log} == {len(_CONTENT)}

    def test_gcs(self, gcs: FaultProxy, gcs_bucket: str) -> None:
        """To a path of Google Cloud Storage it is its own JSON."""
        gcs.inject(Status(503), times=2)
        for path in (
            f"/storage/v1/b/{gcs_bucket}",
            f"/upload/storage/v1/b/{gcs_bucket}/o",
        ):
            error = json.loads(ask(gcs, "POST", path, b"{}").body)["error"]
            assert error["code"] == 503
            assert error["errors"][0]["reason"] == "backendError"

    def test_service_may_be_told(self, moto: FaultProxy) -> None:
        """Where the path misleads, the form may be told."""
        moto.inject(Status(401, service="gcs", headers={"X-Further": "yes"}))
        got = ask(moto, "GET", "/b/k")
        assert json.loads(got.body)["error"]["errors"][0]["reason"] == "authError"
        assert got.headers["x-further"] == "yes"

    def test_head_has_no_body(self, moto: FaultProxy, path: str) -> None:
        """A HEAD is answered by a head."""
        moto.inject(Status(503))
        with dial(moto) as client:
            client.sendall(say("HEAD", path))
            assert " 503 Service Unavailable\r\n" in head_of(client)
            client.sendall(say("HEAD", path))
            assert " 200 " in head_of(client)
        assert moto.log[0].sent == 0

    def test_request_body_is_read_first(self, moto: FaultProxy, path: str) -> None:
        """A client that waits to be told to continue is; the server hears naught."""
        moto.inject(Status(503))
        with dial(moto) as client:
            client.sendall(
                say("PUT", path, "Content-Length: 3", "Expect: 100-Continue")
            )
            assert " 100 " in head_of(client)
            client.sendall(b"new")
            assert " 503 " in head_of(client)
        assert moto.log[0].received == 3
        assert ask(moto, "GET", path).body == _CONTENT


class TestResets:
    """Connections that end as they should not."""

    def test_before_reply(self, moto: FaultProxy, path: str) -> None:
        """The client sees a reset and nothing else, and the server no request."""
        moto.inject(ResetBeforeReply())
        with dial(moto) as client:
            client.sendall(say("PUT", path, "Content-Length: 3", body=b"new"))
            assert rest_of(client) == (b"", "reset")
        (each,) = moto.log
        assert (each.received, each.status, each.server_status) == (3, None, None)
        assert ask(moto, "GET", path).body == _CONTENT

    def test_within_the_upload(self, moto: FaultProxy, path: str) -> None:
        """Asked to, it does not wait for the whole of the request's body."""
        moto.inject(ResetBeforeReply(at=2))
        with dial(moto) as client:
            client.sendall(say("PUT", path, "Content-Length: 9999", body=b"new"))
            assert rest_of(client) == (b"", "reset")
        assert moto.log[0].received == 2

    @pytest.mark.parametrize("fault", [ResetMidBody, Truncate])
    @pytest.mark.parametrize(
        ("at", "sent"),
        [
            (0, 0),
            (1, 1),
            (999_999, len(_CONTENT) - 1),
            (0.0, 0),
            (0.25, len(_CONTENT) // 4),
            (1.0, len(_CONTENT) - 1),
        ],
    )
    def test_within_the_answer(
        self,
        moto: FaultProxy,
        path: str,
        fault: type[ResetMidBody | Truncate],
        at: float,
        sent: int,
    ) -> None:
        """The client gets exactly so many bytes, then a reset or an end in order."""
        moto.inject(fault(at))
        with dial(moto) as client:
            client.sendall(say("GET", path))
            assert f"content-length: {len(_CONTENT)}" in head_of(client).lower()
            how = "reset" if fault is ResetMidBody else "closed"
            assert rest_of(client) == (_CONTENT[:sent], how)
        (each,) = moto.log
        assert (each.sent, each.status, each.fault) == (sent, 200, fault(at))

    @pytest.mark.parametrize("fault", [ResetMidBody(), Truncate()], ids=str)
    def test_within_a_big_answer(
        self, moto: FaultProxy, path: str, fault: Fault
    ) -> None:
        """A client that reads slowly gets all the bytes before the end, too."""
        size = 16 * 2**20
        ask(moto, "PUT", path, bytes(size))
        moto.inject(fault)
        with dial(moto) as client:
            client.sendall(say("GET", path))
            head_of(client)
            time.sleep(0.05)
            assert len(rest_of(client)[0]) == size // 2

    @pytest.mark.parametrize(
        "fault", [ResetMidBody(), Truncate(), Truncate(9)], ids=str
    )
    def test_answer_without_a_body_is_withheld(
        self, moto: FaultProxy, path: str, fault: Fault
    ) -> None:
        """What cannot be cut is not begun."""
        moto.inject(fault)
        with dial(moto) as client:
            client.sendall(say("HEAD", path))
            assert rest_of(client)[0] == b""
        (each,) = moto.log
        assert (each.status, each.server_status) == (None, 200)

    @pytest.mark.parametrize(
        ("at", "sent"), [(0.5, b""), (2, b"2\r\nab\r\n"), (9, None)]
    )
    def test_within_chunks(self, at: float, sent: bytes | None) -> None:
        """A body in chunks gets no last one."""
        chunks = b"5\r\nabcde\r\n"
        answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
        with (
            origin(answer + b"0\r\n\r\n") as url,
            FaultProxy(url) as proxy,
            dial(proxy) as client,
        ):
            proxy.inject(Truncate(at))
            client.sendall(say("GET", "/b/k"))
            head_of(client)
            assert rest_of(client) == (chunks if sent is None else sent, "closed")

    def test_clients_notice(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """A client tells a cut body from a whole one, and connects anew."""
        s3, where = boto(rclone_s3, rclone), {"Bucket": rclone_bucket, "Key": "k"}
        s3.put_object(**where, Body=_CONTENT)
        for fault in (ResetMidBody(), Truncate()):
            rclone.inject(fault)
            with pytest.raises(HTTPClientError):
                s3.get_object(**where)["Body"].read()
        assert s3.get_object(**where)["Body"].read() == _CONTENT
        assert rclone.connections == 3

    def test_gcs(self, gcs: FaultProxy, gcs_bucket: str) -> None:
        """Answers of Google Cloud Storage are cut as those of S3."""
        upload = f"/upload/storage/v1/b/{gcs_bucket}/o?uploadType=media&name=k"
        ask(gcs, "POST", upload, _CONTENT, {"Content-Type": "text/plain"})
        for fault in (ResetMidBody(), Truncate()):
            gcs.inject(fault, when="objects.download")
            with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
                ask(gcs, "GET", f"/storage/v1/b/{gcs_bucket}/o/k?alt=media")
            assert gcs.log[-1].sent == len(_CONTENT) // 2

    def test_what_is_resent_in_silence_is_counted(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """Without any retries s3fs has aiohttp ask twice, unseen by all but the log."""
        fs = s3fs(rclone_s3, rclone)
        fs.retries = 1
        rclone.inject(LoseReply(), when="put_object")
        fs.pipe_file(f"{rclone_bucket}/k", b"content")
        assert [each.status for each in rclone.log] == [None, 200]
        assert [each.received for each in rclone.log] == [7, 7]

    def test_reply_is_lost(self, moto: FaultProxy, path: str) -> None:
        """The object is stored, and the client sees a reset."""
        moto.inject(LoseReply(), when="put_object")
        with dial(moto) as client:
            client.sendall(say("PUT", path, "Content-Length: 3", body=b"new"))
            assert rest_of(client) == (b"", "reset")
        (each,) = moto.log
        assert (each.status, each.server_status, each.sent) == (None, 200, 0)
        assert ask(moto, "GET", path).body == b"new"

    def test_reply_to_complete_is_lost(
        self, moto: FaultProxy, moto_s3: MotoS3, moto_bucket: str
    ) -> None:
        """The upload is complete and no longer open, and the client does not know."""
        s3, where = boto(moto_s3, moto), {"Bucket": moto_bucket, "Key": "k"}
        upload = {**where, "UploadId": s3.create_multipart_upload(**where)["UploadId"]}
        etag = s3.upload_part(**upload, PartNumber=1, Body=b"all")["ETag"]
        moto.inject(LoseReply(), when="complete_multipart_upload")
        parts = {"Parts": [{"ETag": etag, "PartNumber": 1}]}
        with pytest.raises(HTTPClientError):
            s3.complete_multipart_upload(**upload, MultipartUpload=parts)
        assert s3.get_object(**where)["Body"].read() == b"all"
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=moto_bucket)


class TestStall:
    """Silence that a test ends when it likes."""

    @pytest.mark.parametrize("at", [None, 0, 100, 0.5, 1.0])
    def test_ends_when_released(
        self, moto: FaultProxy, path: str, at: float | None
    ) -> None:
        """So much arrives, then nothing; released, the rest, on a good connection."""
        moto.inject(Stall(at))
        with dial(moto) as client:
            client.sendall(say("GET", path))
            moto.wait_stalled()
            (each,) = moto.log
            assert each.end is None
            assert each.server_status == (None if at is None else 200)
            got = b""
            if at is not None:
                head_of(client)
                while len(got) < each.sent:
                    got += client.recv(each.sent - len(got))
            assert silent(client)
            moto.release()
            if at is None:
                head_of(client)
            while len(got) < len(_CONTENT):
                got += client.recv(1 << 16)
            assert got == _CONTENT
            client.sendall(say("HEAD", path))
            assert " 200 " in head_of(client)
        assert moto.stalled == 0
        assert moto.connections == 2

    def test_client_that_leaves(self, moto: FaultProxy, path: str) -> None:
        """What its client gave up on never reaches the server, released or not."""
        moto.inject(Stall(), when="put_object")
        with dial(moto) as client:
            client.sendall(say("PUT", path, "Content-Length: 3", body=b"new"))
            moto.wait_stalled()
        moto.wait_stalled(0)
        moto.release()
        (each,) = moto.log
        assert (each.status, each.server_status) == (None, None)
        assert ask(moto, "GET", path).body == _CONTENT

    def test_healing_releases(self, moto: FaultProxy, path: str) -> None:
        """Several stall at once, and all go on once the network is healed."""
        moto.inject(Stall(), times=None)
        with ThreadPoolExecutor(4) as pool:
            asked = [pool.submit(ask, moto, "GET", path) for _ in range(4)]
            moto.wait_stalled(4)
            moto.heal()
            assert [each.result().body for each in asked] == [_CONTENT] * 4

    def test_waiting_has_an_end(self, moto: FaultProxy) -> None:
        """A test that waits for what does not happen is told so."""
        with pytest.raises(TimeoutError, match="0 requests are stalled, not 1"):
            moto.wait_stalled(timeout=0.01)

    def test_closing_ends_it(self, moto_s3: MotoS3) -> None:
        """A proxy that closes hangs up on what is stalled."""
        with FaultProxy(moto_s3.endpoint_url) as proxy:
            proxy.inject(Stall())
            with dial(proxy) as client:
                client.sendall(say("GET", "/b/k"))
                proxy.wait_stalled()
                proxy.close()
                assert rest_of(client) == (b"", "closed")


def test_drip(moto: FaultProxy, path: str) -> None:
    """All bytes come, in pieces of the size told, each after its interval."""
    moto.inject(Drip(size=1024, interval=0.02))
    with dial(moto) as client:
        client.sendall(say("GET", path))
        head_of(client)
        begin, got = time.monotonic(), list[bytes]()
        while sum(map(len, got)) < len(_CONTENT):
            got.append(client.recv(1 << 16))
    assert b"".join(got) == _CONTENT
    assert time.monotonic() - begin >= 0.1
    assert len(got) > 1


class TestObjects:
    """Answers that are well formed, and of the wrong object."""

    def test_whole_for_range(self, moto: FaultProxy, path: str) -> None:
        """A range is answered with status 200 and the whole object; others as ever."""
        rule = moto.inject(WholeForRange())
        assert ask(moto, "GET", path).body == _CONTENT
        assert rule.fired == 0
        got = ask(moto, "GET", path, headers={"Range": "bytes=1-2"})
        assert (got.status, got.body) == (200, _CONTENT)
        assert "content-range" not in got.headers
        assert rule.fired == 1
        assert moto.log[-1].range == "bytes=1-2"

    def test_whole_for_signed_range(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """Where signatures are checked, the test says what the whole object is."""
        s3, where = boto(rclone_s3, rclone), {"Bucket": rclone_bucket, "Key": "k"}
        s3.put_object(**where, Body=_CONTENT)
        etag = s3.head_object(**where)["ETag"]

        def stored(request: Request) -> bytes:
            return Path(f"{rclone_s3.root}{request.path}").read_bytes()

        for content in (_CONTENT, stored):
            rclone.inject(WholeForRange(content))
            got = s3.get_object(**where, Range="bytes=1-2")
            assert got["Body"].read() == _CONTENT
            assert got["ETag"] == etag
            assert "ContentRange" not in got
            assert got["ResponseMetadata"]["HTTPStatusCode"] == 200

    def test_refusals_stay(self, moto: FaultProxy, path: str) -> None:
        """A range of an object that is not there is still a 404."""
        moto.inject(WholeForRange(b"whole"))
        assert (
            ask(moto, "GET", path + "2", headers={"Range": "bytes=1-2"}).status == 404
        )

    def test_replaced_between_ranges(
        self, moto: FaultProxy, moto_s3: MotoS3, path: str
    ) -> None:
        """Another writes between two ranges: the second is of another object."""

        def replace(request: Request) -> None:
            assert request.range == "bytes=2-3"
            other = http.client.HTTPConnection("127.0.0.1", moto_s3.port, timeout=20)
            with closing(other):
                signed = {"Authorization": _SIGNED}
                other.request("PUT", request.path, b"another", signed)
                assert other.getresponse().status == 200

        moto.inject(ReplaceObject(replace), after=1, times=2)
        first = ask(moto, "GET", path, headers={"Range": "bytes=0-1"})
        second = ask(moto, "GET", path, headers={"Range": "bytes=2-3"})
        assert (first.body, second.body) == (_CONTENT[:2], b"ot")
        pinned = {"Range": "bytes=2-3", "If-Match": first.headers["etag"]}
        assert ask(moto, "GET", path, headers=pinned).status == 412
        # Its own requests went past the proxy.
        assert moto.requests == 3

    def test_failure_is_told(self, moto_s3: MotoS3) -> None:
        """What a test's function raises resets the connection, and is raised."""

        def replace(_: Request) -> None:
            raise ConnectionRefusedError("the store is gone")

        proxy = FaultProxy(moto_s3.endpoint_url)
        proxy.start()
        proxy.inject(ReplaceObject(replace))
        with pytest.raises(ConnectionResetError):
            ask(proxy, "GET", "/b/k")
        with pytest.raises(ExceptionGroup) as caught:
            proxy.close()
        (error,) = caught.value.exceptions
        assert str(error) == "the store is gone"


class TestRules:
    """Which request meets which fault."""

    def test_times(self, moto: FaultProxy, path: str) -> None:
        """A fault happens once, so often, or for ever; healed, no more."""
        moto.inject(Status(500))
        moto.inject(Status(502), times=2)
        moto.inject(Status(503), times=None)
        asked = [ask(moto, "GET", path).status for _ in range(6)]
        assert asked == [500, 502, 502, 503, 503, 503]
        moto.heal()
        assert ask(moto, "GET", path).status == 200

    def test_after(self, moto: FaultProxy, path: str) -> None:
        """The first ones are spared, those for which it is not do not count."""
        rule = moto.inject(Status(503), when="get_object", after=2, times=2)
        asked = [
            ask(moto, method, path).status
            for method in ("GET", "HEAD", "GET", "HEAD", "GET", "GET", "GET")
        ]
        assert asked == [200, 200, 200, 200, 503, 503, 200]
        assert (rule.seen, rule.fired) == (5, 2)

    def test_condition(self, moto: FaultProxy, path: str) -> None:
        """A condition looks at all that is known of the request."""
        moto.inject(Status(503), when=lambda r: r.range == "bytes=0-0", times=None)
        assert ask(moto, "GET", path).status == 200
        assert ask(moto, "GET", path, headers={"Range": "bytes=0-0"}).status == 503

    def test_condition_that_fails(self, moto_s3: MotoS3) -> None:
        """A condition that raises is told of when the proxy closes."""
        proxy = FaultProxy(moto_s3.endpoint_url)
        proxy.start()
        proxy.inject(Status(503), when=lambda r: bool(r.query["absent"]))
        with pytest.raises(ConnectionResetError):
            ask(proxy, "GET", "/b/k")
        with pytest.raises(ExceptionGroup, match="what it was told"):
            proxy.close()
        proxy.close()

    def test_own_error_comes_first(self, moto_s3: MotoS3) -> None:
        """A test that fails is told its own failure, not the proxy's."""

        def test() -> None:
            with FaultProxy(moto_s3.endpoint_url) as proxy:
                proxy.inject(Status(503), when=lambda r: bool(r.query["absent"]))
                ask(proxy, "GET", "/b/k")

        with pytest.raises(ConnectionResetError):
            test()

    def test_lots_are_foretold(self, moto_s3: MotoS3, moto_bucket: str) -> None:
        """The same seed, the same fates; another seed, others; at the rate told."""
        faults = [Status(500), Status(503)]

        def fates(seed: int, rate: float = 0.3) -> list[int]:
            with FaultProxy(moto_s3.endpoint_url, seed=seed) as proxy:
                rule = proxy.random(rate, faults, when="head_bucket")
                client = http.client.HTTPConnection(urlsplit(proxy.url).netloc)
                with closing(client):
                    found = list[int]()
                    for _ in range(60):
                        signed = {"Authorization": _SIGNED}
                        client.request("HEAD", f"/{moto_bucket}", headers=signed)
                        answer = client.getresponse()
                        answer.read()
                        found.append(answer.status)
                assert rule.fired == 60 - found.count(200)
                return found

        first = fates(1)
        assert fates(1) == first
        assert fates(2) != first
        assert {*first} == {200, 500, 503}
        assert 8 <= 60 - first.count(200) <= 28
        assert {*fates(1, 0.0)} == {200}
        assert {*fates(1, 1.0)} == {500, 503}

    @pytest.mark.parametrize(
        ("operation", "hint"),
        [("get_objekt", "mean 'get_object'"), ("xyz", "operation 'xyz'.$")],
    )
    def test_misspelt_operation(
        self, moto: FaultProxy, operation: str, hint: str
    ) -> None:
        """An operation that there is not is an error, not a rule that never fires."""
        with pytest.raises(ValueError, match=hint):
            moto.inject(Status(503), when=operation)
        with pytest.raises(ValueError, match=hint):
            moto.count(operation)

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda proxy: proxy.inject(Status(503), times=0),
            lambda proxy: proxy.inject(Status(503), after=-1),
            lambda proxy: proxy.random(1.5, [Status(503)]),
            lambda proxy: proxy.random(0.5, []),
            lambda _: ResetMidBody(1.5),
            lambda _: Truncate(-1),
            lambda _: Stall(float("nan")),
            lambda _: ResetBeforeReply(-1),
            lambda _: Drip(0),
            lambda _: Drip(1, -1),
            lambda _: FaultProxy("https://127.0.0.1:9"),
            lambda _: FaultProxy("127.0.0.1:9"),
            lambda _: FaultProxy("http://127.0.0.1:9/path"),
        ],
    )
    def test_nonsense(
        self, moto: FaultProxy, wrong: Callable[[FaultProxy], object]
    ) -> None:
        """What makes no sense is refused at once."""
        with pytest.raises(ValueError, match=r".{10}"):
            wrong(moto)

    @pytest.mark.parametrize(
        ("fault", "shown"),
        [
            (Status(503), "Status(status=503)"),
            (Status(503, retry_after=2), "Status(status=503, retry_after=2)"),
            (LoseReply(), "LoseReply()"),
            (WholeForRange(b"0123456789"), "WholeForRange()"),
            (Fault(), "Fault()"),
        ],
    )
    def test_fault_shows_what_was_chosen(self, fault: Fault, shown: str) -> None:
        """A log full of faults can be read."""
        assert repr(fault) == shown

    def test_fault_of_ones_own(self, moto: FaultProxy, path: str) -> None:
        """A fault of a test's own plays with the relay."""

        class Corrupt(Fault):
            async def play(self, relay: Relay) -> None:
                answer = await relay.ask()
                await relay.begin(answer)
                while piece := await answer.body.read():
                    await relay.send(piece[:-1] + b"!")
                await relay.end(answer)

        moto.inject(Corrupt())
        assert ask(moto, "GET", path).body == _CONTENT[:-1] + b"!"
        moto.inject(Fault())
        assert ask(moto, "GET", path).body == _CONTENT


_V1 = "/storage/v1/b/bucket"


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("GET", "/", "list_buckets"),
        ("GET", "/bucket/", "list_objects"),
        ("GET", "/bucket?policy", "other"),
        ("GET", "/bucket//", "get_object"),
        ("GET", "/bucket/k?response-content-type=a", "get_object"),
        ("GET", "/bucket/k?versionId=1", "get_object"),
        ("POST", "/bucket/k", "other"),
        ("PATCH", "/bucket/k", "other"),
        ("GET", "/storage/k", "get_object"),
        ("GET", "/storage/v1/b?project=p", "buckets.list"),
        ("POST", "/storage/v1/b?project=p", "buckets.insert"),
        ("GET", _V1, "buckets.get"),
        ("GET", f"{_V1}/o?prefix=a", "objects.list"),
        ("GET", f"{_V1}/o/a%2Fb", "objects.get"),
        ("GET", f"{_V1}/o/a%2Fb?alt=media", "objects.download"),
        ("GET", "/download/storage/v1/b/bucket/o/a?alt=media", "objects.download"),
        ("PATCH", f"{_V1}/o/a", "objects.patch"),
        ("DELETE", f"{_V1}/o/a", "objects.delete"),
        ("POST", f"{_V1}/o/a/rewriteTo/b/other/o/b", "objects.rewrite"),
        ("POST", f"{_V1}/o/a/compose", "objects.compose"),
        ("POST", f"/upload{_V1}/o?uploadType=multipart", "objects.insert"),
        ("POST", f"/upload{_V1}/o?uploadType=resumable", "resumable.start"),
        (
            "PUT",
            f"/upload{_V1}/o?uploadType=resumable&upload_id=1",
            "resumable.upload",
        ),
        ("DELETE", f"/upload{_V1}/o?upload_id=1", "resumable.cancel"),
        ("POST", "/batch/storage/v1", "batch"),
        ("GET", f"{_V1}/acl", "other"),
    ],
)
def test_operation(method: str, target: str, operation: str) -> None:
    """Each request goes by the name that its service has for it."""
    request = Request.of(method, target, [], number=1, connection=1)
    assert request.operation == operation
    assert operation in OPERATIONS


@given(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]), st.text())
def test_any_target_has_an_operation(method: str, target: str) -> None:
    """Whatever is asked, there is a name for it."""
    request = Request.of(method, target, [], number=1, connection=1)
    assert request.operation in OPERATIONS


class TestLoad:
    """Much, big, and the end."""

    def test_fifty_clients(
        self, rclone: FaultProxy, rclone_s3: RcloneS3, rclone_bucket: str
    ) -> None:
        """Fifty threads under random faults: each request is counted, none is wrong."""
        s3 = boto(rclone_s3, rclone)
        faults = [Status(503), ResetMidBody(), Truncate(), LoseReply()]

        def begin() -> None:
            rclone.random(0.2, faults)

        begun = threading.Barrier(50, begin)

        def client(number: int) -> int:
            where = {"Bucket": rclone_bucket, "Key": f"{number}"}
            content, failed = bytes([number]) * (1000 + number), 0
            s3.put_object(**where, Body=content)
            begun.wait(60)
            for step in range(8):
                try:
                    if step % 2:
                        s3.put_object(**where, Body=content)
                    else:
                        assert s3.get_object(**where)["Body"].read() == content
                except (ClientError, HTTPClientError):
                    failed += 1
            return failed

        with ThreadPoolExecutor(50) as pool:
            failed = sum(pool.map(client, range(50)))
        s3.close()
        assert rclone.requests == 50 + 50 * 8
        faulty = [each for each in rclone.log if each.fault is not None]
        assert len(faulty) == failed
        assert 40 <= failed <= 120
        assert rclone.connections <= 50 + failed

    def test_gibibyte_each_way(self) -> None:
        """A gibibyte up and one down pass through a process of less than 64 MiB."""
        size, block = 2**30, bytes(2**20)

        def send(there: socket.socket) -> None:
            for _ in range(size // len(block)):
                there.sendall(block)

        def receive(there: socket.socket) -> None:
            left, space = size, bytearray(len(block))
            while left:
                left -= there.recv_into(space, min(left, len(space)))

        def serve(client: socket.socket) -> None:
            ok = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
            head_of(client)
            client.sendall(ok % size)
            send(client)
            head_of(client)
            receive(client)
            client.sendall(ok % 0)

        script = """
import sys
from pathlib import Path
from connectorkit.testing import FaultProxy
with FaultProxy(sys.argv[1]) as proxy:
    print(proxy.url, flush=True)
    sys.stdin.readline()
    print(*(each.received + each.sent for each in proxy.log), proxy.connections)
# What getrusage tells of would begin with what the parent was before.
status = Path("/proc/self/status").read_text()
print(status.partition("VmHWM:")[2].split()[0])
"""
        if not Path("/proc/self/status").exists():
            pytest.skip("needs Linux's /proc")
        with (
            origin(serve) as url,
            subprocess.Popen(
                [sys.executable, "-c", script, url],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            ) as process,
        ):
            assert process.stdout is not None
            address = urlsplit(process.stdout.readline().strip())
            where = (address.hostname, address.port)
            with socket.create_connection(where, timeout=20) as client:
                client.sendall(say("GET", "/b/k"))
                head_of(client)
                receive(client)
                client.sendall(say("PUT", "/b/k", f"Content-Length: {size}"))
                send(client)
                assert " 200 " in head_of(client)
            told, _ = process.communicate("\n")
        counts, peak = told.splitlines()
        assert counts == f"{size} {size} 1"
        assert int(peak) < 64 * 1024

    def test_slow_readers_hold_senders_up(self) -> None:
        """What nobody reads is not taken in: memory is bounded, both ways."""
        size, sent = 2**27, list[int]()
        length = f"Content-Length: {size}"

        def send(there: socket.socket) -> None:
            there.settimeout(0.2)
            count = 0
            with suppress(TimeoutError):
                while count < size:
                    count += there.send(bytes(2**20))
            sent.append(count)

        def serve(server: socket.socket) -> None:
            head_of(server)
            server.sendall(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
            send(server)

        with origin(serve) as url, FaultProxy(url) as proxy, dial(proxy) as client:
            client.sendall(say("GET", "/b/k"))
            head_of(client)
            wait_until(lambda: len(sent) == 1)
        asked = threading.Event()
        with (
            origin(lambda _: asked.wait(20)) as url,
            FaultProxy(url) as proxy,
            dial(proxy) as client,
        ):
            client.sendall(say("PUT", "/b/k", length))
            send(client)
            asked.set()
        # What the system's own buffers hold: some megabytes each.
        assert max(sent) < 2**25

    def test_closing_leaves_nothing(self, moto_s3: MotoS3, moto_bucket: str) -> None:
        """No thread, no descriptor and no connection is left of what was under way."""
        threads = set(threading.enumerate())
        before = len(list(Path("/dev/fd").iterdir()))
        proxy = FaultProxy(moto_s3.endpoint_url)
        with proxy:
            proxy.inject(Stall(), when="get_object", times=None)
            proxy.inject(ReplaceObject(lambda _: None), when="head_bucket")
            clients = [dial(proxy) for _ in range(5)]
            for client in clients[:3]:
                client.sendall(say("GET", f"/{moto_bucket}/key"))
            proxy.wait_stalled(3)
            ask(proxy, "HEAD", f"/{moto_bucket}")
            url = proxy.url
        for client in clients:
            with client:
                assert rest_of(client) == (b"", "closed")
        # What other tests left may have gone meanwhile.
        assert set(threading.enumerate()) <= threads
        assert len(list(Path("/dev/fd").iterdir())) <= before
        assert (proxy.url, proxy.requests) == (url, 4)
        with pytest.raises(ConnectionRefusedError):
            dial(proxy)

    @pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
    def test_forked_child_holds_nothing(self, moto: FaultProxy, path: str) -> None:
        """A child may use the proxy; no connection stays open because it lives."""
        moto.inject(Stall(), when="head_object")
        moto.inject(ResetBeforeReply(), when="head_object")
        client, (awake, wake) = dial(moto), os.pipe()
        client.sendall(say("HEAD", path))
        moto.wait_stalled()
        child = os.fork()
        if not child:
            fine = False
            try:
                # The child's own copies would keep both from ending.
                client.close()
                os.close(wake)
                moto.close()
                fine = ask(moto, "GET", path).body == _CONTENT
                os.read(awake, 1)
            finally:
                os._exit(0 if fine else 1)
        try:
            with client:
                moto.release()
                assert " 200 " in head_of(client)
                client.sendall(say("HEAD", path))
                assert rest_of(client) == (b"", "reset")
        finally:
            os.write(wake, b"!")
            _, status = os.waitpid(child, 0)
            os.close(awake)
            os.close(wake)
        assert status == 0
        assert moto.count("get_object") == 1

    def test_not_started(self) -> None:
        """A proxy that was not started says so, and may be closed."""
        proxy = FaultProxy("http://127.0.0.1:9")
        with pytest.raises(RuntimeError, match="was not started"):
            _ = proxy.url
        assert repr(proxy) == "<FaultProxy before http://127.0.0.1:9>"
        proxy.close()

    def test_needs_python_alone(self) -> None:
        """The kit imports no library but Python's own."""
        script = (
            "import sys; before = {*sys.modules}; import connectorkit.testing\n"
            "tops = {name.partition('.')[0] for name in {*sys.modules} - before}\n"
            "print(*tops - sys.stdlib_module_names)"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", script],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert done.stdout.split() == ["connectorkit"]
        assert all(getattr(testing, name).__doc__ for name in testing.__all__)


class TestVirtualClock:
    """A clock whose time moves when told."""

    def test_moves_when_told(self) -> None:
        """Time passes by advancing and by sleeping, and by nothing else."""
        clock = VirtualClock(100.0)
        assert clock() == clock.now() == 100.0
        clock.advance(5)
        clock.sleep(2.5)
        asyncio.run(clock.asleep(0.5))
        assert clock() == 108.0
        assert clock.slept == [2.5, 0.5]
        assert repr(clock) == "<VirtualClock at 108 s>"

    def test_sleep_takes_no_time(self) -> None:
        """An hour is over at once."""
        begin = time.monotonic()
        VirtualClock().sleep(3600)
        assert time.monotonic() - begin < 1

    def test_sleepers_take_turns(self) -> None:
        """An asynchronous sleep lets other tasks run, and can be cancelled."""
        clock, order = VirtualClock(), list[int]()

        async def task(number: int) -> None:
            for _ in range(2):
                await clock.asleep(1)
                order.append(number)

        async def both() -> None:
            await asyncio.gather(task(1), task(2))

        asyncio.run(both())
        assert order == [1, 2, 1, 2]
        assert clock() == 4

    @pytest.mark.parametrize("seconds", [-1, float("nan")])
    def test_never_goes_back(self, seconds: float) -> None:
        """It is monotonic."""
        clock = VirtualClock()
        for move in (clock.advance, clock.sleep):
            with pytest.raises(ValueError, match="does not pass"):
                move(seconds)
        assert (clock(), clock.slept) == (0, [])

    def test_threads_share_it(self) -> None:
        """No second of any thread is lost."""
        clock = VirtualClock()
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(clock.sleep, [1] * 4000))
        assert clock() == len(clock.slept) == 4000

    def test_kit_takes_it(self) -> None:
        """A kit runs by it."""
        from connectorkit import ConnectorKit

        clock = VirtualClock()
        tables = {
            each: {"type": "memory", "settings": {"name": each}}
            for each in ("early", "late")
        }
        config = {"connectors": tables, "pool": {"idle": 60}}
        with ConnectorKit(config, clock=clock) as kit:
            kit.resolve("early")
            clock.advance(61)
            kit.resolve("late")
            assert len(kit._pool) == 1


class TestMemoryKit:
    """A kit for the tests of a host."""

    def test_keeps_files(self) -> None:
        """Each connector has its own files, those that it was given first."""
        with memory_kit("inbox", reports={"a/b.csv": b"1,2", "c.txt": "ü"}) as kit:
            reports, inbox = kit.resolve("reports").fs, kit.resolve("inbox").fs
            assert reports.cat_file("a/b.csv") == b"1,2"
            assert reports.cat_file("c.txt") == "ü".encode()
            inbox.pipe_file("a/b.csv", b"mine")
            assert reports.cat_file("a/b.csv") == b"1,2"
            assert kit.connector_ids() == ["inbox", "reports"]

    def test_shares_nothing(self) -> None:
        """Two kits of the same connectors see none of each other's files."""
        with memory_kit("inbox") as one, memory_kit("inbox") as other:
            one.resolve("inbox").fs.pipe_file("a", b"")
            assert not other.resolve("inbox").fs.exists("a")

    def test_takes_any_id(self) -> None:
        """The IDs are those of the host, in any form that a kit takes."""
        with memory_kit("minio|c799f6e3-2b57-434e-aaac-b5daa415da19") as kit:
            assert kit.resolve(kit.connector_ids()[0]).type == "memory"
        with pytest.raises(ConfigError):
            memory_kit("in/box")
        with pytest.raises(TypeError, match="'inbox'"):
            memory_kit("inbox", inbox={})
