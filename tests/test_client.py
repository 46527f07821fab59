"""The boto3 door: a real client of boto3's, and nothing of it beside the policies.

At real servers, through a proxy that counts; at a stub where none can be told to.
"""

from __future__ import annotations

import io
import multiprocessing
import os
import ssl
import sys
import threading
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import trustme
from boto3.s3.transfer import S3Transfer, TransferConfig
from botocore.client import BaseClient
from botocore.exceptions import ClientError, SSLError, WaiterError
from botocore.response import StreamingBody
from fsspec.asyn import sync

from connectorkit import (
    CheckFailed,
    ConnectorKit,
    DeadlineExceeded,
    KitClosed,
    MissingExtra,
    PluginError,
    Policy,
    hookimpl,
)
from connectorkit.testing import Status, memory_kit
from contracts.places import kit_at, settings_for, sockets_to
from contracts.stub import Answer, Request, Stub, s3_error, s3_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit import Connector, Operation
    from connectorkit.policy import Flow
    from faults.s3_places import Place

_CONTENT = bytes(range(256)) * 120
_PART = 5 << 20


class Tally(Policy):
    """Counts what goes through a pipeline, for whoever stands at its end."""

    name = "tally"
    ended_ops: list[Operation]

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.ended_ops = []

    def around(self, op: Operation) -> Flow:
        return (yield op)

    def ended(self, op: Operation, error: BaseException | None) -> None:
        del error
        self.ended_ops.append(op)

    @property
    def attempts(self) -> Counter[str]:
        """How many attempts were made, by operation."""
        counts: Counter[str] = Counter()
        for op in self.ended_ops:
            counts[op.name] += op.attempts
        return counts


class _Teaches:
    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Tally]


def _client(place: Place) -> Any:
    return place.kit.resolve("it").client()


def _stub_client(stub: Stub, type_id: str = "s3", **settings: Any) -> Any:
    kit = kit_at(type_id, {**settings_for(type_id, stub), **settings})
    return kit, kit.resolve("it").client()


class TestClient:
    """What `connector.client()` gives."""

    def test_is_boto3s(self, place: Place, key: str) -> None:
        """A client of botocore's, with boto3's methods, paginators, waiters, errors."""
        client = _client(place)
        assert isinstance(client, BaseClient)
        assert type(client).__name__ == "S3"
        assert client.meta.service_model.service_name == "s3"
        assert client.can_paginate("list_objects_v2")
        client.put_object(Bucket=place.bucket, Key=key, Body=b"x")
        client.get_waiter("object_exists").wait(Bucket=place.bucket, Key=key)
        with pytest.raises(client.exceptions.NoSuchKey):
            client.get_object(Bucket=place.bucket, Key="nothing")
        waiter = client.get_waiter("object_exists")
        with pytest.raises(WaiterError):
            waiter.wait(
                Bucket=place.bucket, Key="none", WaiterConfig={"MaxAttempts": 1}
            )

    def test_is_one_for_each_connector(self, minio: Place) -> None:
        """Whoever resolves the same settings has the same one; others have others."""
        connector = minio.kit.resolve("it")
        assert connector.client() is minio.kit.resolve("it").client()
        alone = minio.kit.resolve("minio", settings=minio.settings, pool=False)
        assert alone.client() is not connector.client()
        assert alone.client() is alone.client()

    def test_is_one_for_all_threads(self, minio: Place) -> None:
        """However many ask for it at once."""
        with minio.kit_with() as kit, ThreadPoolExecutor(8) as threads:
            barrier = threading.Barrier(8)

            def ask(_: int) -> Any:
                barrier.wait()
                return kit.resolve("it").client()

            assert len({id(each) for each in threads.map(ask, range(8))}) == 1

    def test_is_there_for_s3_alone(self) -> None:
        """Another type says that it has none, and what it has."""
        with memory_kit() as kit, pytest.raises(PluginError, match=r"connector\.fs"):
            kit.resolve("memory", settings={}).client()

    def test_without_boto3(self, minio: Place, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where boto3 is not installed, the error says how to install it."""
        monkeypatch.setitem(sys.modules, "boto3", None)
        monkeypatch.delitem(sys.modules, "connectorkit_s3.client", raising=False)
        with minio.kit_with() as kit:
            connector = kit.resolve("it")
            with pytest.raises(MissingExtra, match=r"boto3.*connectorkit\[s3\]"):
                connector.client()

    def test_settings_that_make_none(self, minio: Place) -> None:
        """They are told as `check` tells them."""
        settings = {**minio.settings, "region_name": "no region"}
        connector = minio.kit.resolve("minio", settings=settings)
        with pytest.raises(CheckFailed, match="region"):
            connector.client()

    def test_of_a_closed_kit(self, minio: Place) -> None:
        """There is none."""
        with minio.kit_with() as kit:
            connector = kit.resolve("it")
        with pytest.raises(KitClosed):
            connector.client()


_CONFIGURED: list[tuple[str, dict[str, Any]]] = [
    ("s3", {}),
    ("minio", {}),
    ("s3", {"region_name": "eu-west-1", "addressing_style": "virtual"}),
    ("minio", {"addressing_style": "auto", "max_connections": 7}),
    ("s3", {"connect_timeout": 1.5, "read_timeout": 2.5, "verify_tls": False}),
    ("s3", {"key": None, "secret": None, "anon": True}),
    ("s3", {"token": "a-token", "region_name": None}),
]


class TestSettings:
    """The same settings mean the same as to the filesystem."""

    @pytest.mark.parametrize(("type_id", "settings"), _CONFIGURED)
    def test_configures_as_s3fs(self, type_id: str, settings: dict[str, Any]) -> None:
        """Region, addressing, signature, checksums, time limits, credentials."""
        facts = (
            "region_name",
            "signature_version",
            "connect_timeout",
            "read_timeout",
            "max_pool_connections",
            "retries",
            "request_checksum_calculation",
            "response_checksum_validation",
            "ignore_configured_endpoint_urls",
            "s3",
        )
        both = {
            "endpoint_url": "http://127.0.0.1:9",
            "key": "a-key",
            "secret": "a-secret",
            **settings,
        }
        with kit_at(type_id, both) as kit:
            connector = kit.resolve("it")
            client, fs = connector.client(), connector.fs
            other = sync(fs.loop, fs.set_session)
            for fact in facts:
                mine = getattr(client.meta.config, fact)
                assert mine == getattr(other.meta.config, fact), fact
            assert client.meta.endpoint_url == other.meta.endpoint_url
            signs, others = client._request_signer, other._request_signer
            assert signs._signature_version == others._signature_version
            if not both.get("anon"):
                mine = signs._credentials.get_frozen_credentials()
                assert mine.access_key == "a-key"
                assert mine.secret_key == "a-secret"
                assert mine.token == settings.get("token")

    def test_nothing_tries_again(self, minio: Place) -> None:
        """Neither botocore nor urllib3; the policies are the only ones."""
        retries = _client(minio).meta.config.retries
        assert retries == {"mode": "standard", "total_max_attempts": 1}

    def test_tenants_have_their_own_credentials(
        self, monkeypatch: pytest.MonkeyPatch, home: Path
    ) -> None:
        """Nothing of the host's signs for them, nor leads them elsewhere."""
        _set_ambient(monkeypatch, home)
        with Stub(lambda request: s3_object(request, b"x")) as stub:
            with ConnectorKit({}) as kit:
                tenant = kit.resolve("s3", settings=settings_for("s3", stub))
                tenant.client().head_object(Bucket="b", Key="k")
                anonymous = {"anon": True, "endpoint_url": stub.endpoint_url}
                nobody = kit.resolve("minio", settings=anonymous)
                nobody.client().head_object(Bucket="b", Key="k")
            first, second = stub.requests
        assert "Credential=a-key/" in first.headers["authorization"]
        assert "authorization" not in second.headers
        for each in (first, second):
            assert "x-amz-security-token" not in each.headers
            assert "AMBIENT" not in str(each.headers)

    def test_the_host_has_the_clouds_chain(
        self, monkeypatch: pytest.MonkeyPatch, home: Path
    ) -> None:
        """A configured connector without a key signs with what this machine has."""
        _set_ambient(monkeypatch, home)
        with Stub(lambda request: s3_object(request, b"x")) as stub:
            settings = {"endpoint_url": stub.endpoint_url}
            with kit_at("s3", settings) as kit:
                kit.resolve("it").client().head_object(Bucket="b", Key="k")
            [request] = stub.requests
        assert "Credential=AMBIENT/" in request.headers["authorization"]
        assert request.headers["x-amz-security-token"] == "AMBIENT-TOKEN"

    @pytest.mark.filterwarnings("ignore:Unverified HTTPS request")
    def test_tls_is_verified(self) -> None:
        """Unless the settings say otherwise."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

        def put(*, verify_tls: bool) -> None:
            kit, client = _stub_client(stub, "minio", verify_tls=verify_tls)
            with kit:
                client.put_object(Bucket="b", Key="k", Body=io.BytesIO(_CONTENT))

        with Stub(lambda _: Answer(200, b"", {"ETag": '"a"'}), context) as stub:
            put(verify_tls=False)
            with pytest.raises(SSLError):
                put(verify_tls=True)
            [request] = stub.requests
        assert request.body == _CONTENT


def _set_ambient(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    """Put the host's credentials and settings wherever AWS looks for some."""
    ambient = {
        "AWS_ACCESS_KEY_ID": "AMBIENT",
        "AWS_SECRET_ACCESS_KEY": "AMBIENT-SECRET",
        "AWS_SESSION_TOKEN": "AMBIENT-TOKEN",
        "FSSPEC_S3_KEY": "AMBIENT",
        "FSSPEC_S3_SECRET": "AMBIENT-SECRET",
    }
    for name, value in ambient.items():
        monkeypatch.setenv(name, value)
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(
        "[default]\naws_access_key_id = AMBIENT\naws_secret_access_key = AMBIENT\n"
    )


class TestOperations:
    """Each request is one operation, and there is no other request."""

    @pytest.fixture
    def tally(self, place: Place) -> Iterator[tuple[Any, Tally]]:
        """A client whose operations are counted."""
        with place.kit_with(policies={"enabled": []}) as kit:
            kit.register(_Teaches(), "teaches")
            connector = kit.resolve(place.type_id, settings=place.settings)
            tally = Tally()
            opened = connector.opened()
            # Beside the kit's own, so that nothing but the counting is done.
            opened.inner.pipeline = type(opened.pipeline)(
                [tally], opened.pipeline.scope
            )
            yield connector.client(), tally

    @pytest.mark.parametrize(
        ("call", "operations", "kind"),
        [
            ("head", ["head_object"], "read"),
            ("get", ["get_object"], "read"),
            ("put", ["put_object"], "write"),
            ("upload_small", ["put_object"], "write"),
            (
                "upload_parts",
                [
                    "create_multipart_upload",
                    "upload_part",
                    "upload_part",
                    "complete_multipart_upload",
                ],
                "write",
            ),
            ("pages", ["list_objects_v2"] * 3, "list"),
            ("delete", ["delete_object"], "delete"),
            ("delete_many", ["delete_objects"], "delete"),
            ("buckets", ["list_buckets"], "list"),
        ],
    )
    def test_are_named_as_the_clients_methods(  # noqa: PLR0913, PLR0917 - its facts
        self,
        place: Place,
        key: str,
        tally: tuple[Any, Tally],
        call: str,
        operations: list[str],
        kind: str,
    ) -> None:
        """By name, kind, bucket and path; as many requests arrive."""
        client, counts = tally
        for name in ("a", "b", "c"):
            place.put(f"{key}/{name}", _CONTENT)
        _CALLS[call](client, place.bucket, key)
        assert Counter(op.name for op in counts.ended_ops) == Counter(operations)
        assert place.asked() == Counter(operations) == counts.attempts
        about = f"{place.bucket}/{key}" + ("" if call == "pages" else "/a")
        for op in counts.ended_ops:
            assert op.kind == kind
            if call not in {"buckets", "delete_many"}:
                assert (op.bucket, op.path) == (place.bucket, about)

    def test_know_their_bytes(
        self, place: Place, key: str, tally: tuple[Any, Tally]
    ) -> None:
        """What a body sends is known beforehand, and what came is counted."""
        client, counts = tally
        file = io.BytesIO(_CONTENT)
        file.seek(100)
        client.put_object(Bucket=place.bucket, Key=key, Body=file)
        client.get_object(Bucket=place.bucket, Key=key)["Body"].read()
        left = len(_CONTENT) - 100
        assert [op.bytes for op in counts.ended_ops] == [left, left]
        assert counts.ended_ops[0].size == left

    def test_of_a_transfer_belong_to_one_call(
        self, place: Place, key: str, tally: tuple[Any, Tally]
    ) -> None:
        """Whatever threads they run in; those of two transfers to two."""
        client, counts = tally
        for _ in range(2):
            client.upload_fileobj(io.BytesIO(bytes(_PART + 1)), place.bucket, key)
            config = TransferConfig(multipart_threshold=1, multipart_chunksize=_PART)
            client.download_fileobj(place.bucket, key, io.BytesIO(), Config=config)
        calls = Counter(id(op.call) for op in counts.ended_ops)
        assert len(calls) == 4
        assert None not in {op.call for op in counts.ended_ops}

    def test_presigning_makes_no_request(
        self, place: Place, key: str, tally: tuple[Any, Tally]
    ) -> None:
        """The URL works without the client, for reading and for writing."""
        client, counts = tally
        asked = {"Bucket": place.bucket, "Key": key}
        put = client.generate_presigned_url("put_object", Params=asked)
        get = client.generate_presigned_url("get_object", Params=asked)
        assert not counts.ended_ops
        assert "X-Amz-Algorithm=AWS4-HMAC-SHA256" in get
        headers = {"Content-Type": "application/octet-stream"}
        sent = urllib.request.Request(put, b"by anybody", headers, method="PUT")  # noqa: S310
        with urllib.request.urlopen(sent) as answer:  # noqa: S310
            assert answer.status == 200
        with urllib.request.urlopen(get) as answer:  # noqa: S310
            assert answer.read() == b"by anybody"


def _get(client: Any, bucket: str, key: str) -> bytes:
    content: bytes = client.get_object(Bucket=bucket, Key=f"{key}/a")["Body"].read()
    return content


def _pages(client: Any, bucket: str, key: str) -> None:
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=key, PaginationConfig={"PageSize": 1}
    )
    assert sum(len(page["Contents"]) for page in pages) == 3


def _upload(client: Any, bucket: str, key: str, size: int) -> None:
    config = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART)
    client.upload_fileobj(io.BytesIO(bytes(size)), bucket, f"{key}/a", Config=config)


_CALLS: dict[str, Callable[[Any, str, str], Any]] = {
    "head": lambda c, bucket, key: c.head_object(Bucket=bucket, Key=f"{key}/a"),
    "get": _get,
    "put": lambda c, bucket, key: c.put_object(
        Bucket=bucket, Key=f"{key}/a", Body=b"x"
    ),
    "upload_small": lambda c, bucket, key: _upload(c, bucket, key, 10),
    "upload_parts": lambda c, bucket, key: _upload(c, bucket, key, _PART + 1),
    "pages": _pages,
    "delete": lambda c, bucket, key: c.delete_object(Bucket=bucket, Key=f"{key}/a"),
    "delete_many": lambda c, bucket, key: c.delete_objects(
        Bucket=bucket, Delete={"Objects": [{"Key": f"{key}/a"}, {"Key": f"{key}/b"}]}
    ),
    "buckets": lambda c, *_: c.list_buckets(),
}


class TestBody:
    """What `get_object` gives to read: as botocore's, over all attempts."""

    @pytest.fixture
    def body(self, minio: Place, key: str) -> Any:
        """An object that nobody has read of yet."""
        minio.put(key, _LINES)
        return _client(minio).get_object(Bucket=minio.bucket, Key=key)["Body"]

    def test_is_botocores(self, body: Any) -> None:
        """It is a StreamingBody, and knows where it stands."""
        assert isinstance(body, StreamingBody)
        assert body.readable()
        assert body.read(7) == _LINES[:7]
        assert body.tell() == 7
        assert body.read(0) == b""
        assert body.read() == _LINES[7:]
        assert body.read() == body.read(1) == b""
        assert body.tell() == len(_LINES)

    @pytest.mark.parametrize(
        "read",
        [
            lambda body: body.read(),
            lambda body: body.read(10**9),
            b"".join,
            lambda body: b"".join(body.iter_chunks(1000)),
            lambda body: b"".join(body.iter_lines(keepends=True)),
            lambda body: b"".join(body.readlines()),
            lambda body: b"".join(iter(lambda: body.read(777), b"")),
            lambda body: b"".join(iter(lambda: next(body, b""), b"")),
            lambda body: io.BufferedReader(body).read(),
            lambda body: io.TextIOWrapper(body).read().encode(),
            lambda body: body._raw_stream.read(),
        ],
    )
    def test_can_be_read_as_botocores(
        self, body: Any, read: Callable[[Any], bytes]
    ) -> None:
        """By bytes, chunks or lines, and by what reads files."""
        assert read(body) == _LINES

    def test_readinto(self, body: Any) -> None:
        """It fills a buffer, and says how far."""
        buffer = bytearray(len(_LINES) + 10)
        assert body.readinto(memoryview(buffer)[:5]) == 5
        assert body.readinto(memoryview(buffer)[5:]) == len(_LINES) - 5
        assert buffer == _LINES + bytes(10)
        assert body.readinto(buffer) == 0

    def test_closes_with_its_block(self, minio: Place, body: Any) -> None:
        """What is left is dropped, and to read on is an error, not an end."""
        with body as same:
            assert same is body
            body.read(1)
        assert body.closed
        with pytest.raises(ValueError, match="closed"):
            body.read()
        assert _client(minio).connectorkit_door.in_flight == 0

    def test_of_nothing(self, place: Place, key: str) -> None:
        """An empty object is read, in every way."""
        place.put(key, b"")
        client = _client(place)
        for read in (-1, None, 5):
            body = client.get_object(Bucket=place.bucket, Key=key)["Body"]
            assert body.read(read) == b""
        assert not client.connectorkit_door.in_flight

    def test_of_a_range(self, place: Place, key: str) -> None:
        """As it was asked for; a condition of the caller's own stays boto3's error."""
        place.put(key, _LINES)
        client, asked = _client(place), {"Bucket": place.bucket, "Key": key}
        for text, wanted in (
            ("bytes=5-9", _LINES[5:10]),
            ("bytes=5-", _LINES[5:]),
            ("bytes=-5", _LINES[-5:]),
            ("bytes=0-99999999", _LINES),
        ):
            answer = client.get_object(**asked, Range=text)
            assert answer["Body"].read() == wanted
            assert answer["ContentLength"] == len(wanted)
        pin = client.head_object(**asked)["ETag"]
        assert client.get_object(**asked, IfMatch=pin)["Body"].read() == _LINES

    @pytest.mark.parametrize("pin", ["*", '"one", "another"'])
    def test_of_any_of_several_versions(self, minio: Place, key: str, pin: str) -> None:
        """That is for the server to judge."""
        minio.put(key, _LINES)
        asked = {"Bucket": minio.bucket, "Key": key, "IfMatch": pin}
        assert _client(minio).get_object(**asked)["Body"].read() == _LINES

    def test_of_a_condition_that_does_not_hold(self, s3: Place, key: str) -> None:
        """It is boto3's error, since the caller asked for it."""
        s3.put(key, _LINES)
        client = _client(s3)
        asked = {"Bucket": s3.bucket, "Key": key}
        tag = client.head_object(**asked)["ETag"]
        for condition in ({"IfMatch": '"other"'}, {"IfNoneMatch": tag}):
            with pytest.raises(ClientError):
                client.get_object(**asked, **condition)
        assert s3.asked()["get_object"] == 2

    def test_waits_as_long_as_it_is_told(self, minio: Place, body: Any) -> None:
        """`set_socket_timeout` holds from the next read on."""
        body.set_socket_timeout(0.01)
        assert body._reading.patience == 0.01
        body.set_socket_timeout(None)
        assert body.read() == _LINES


_LINES = b"".join(b"line %d\n" % number for number in range(3000))


class TestTransfers:
    """boto3's transfers keep their calls, and lose what tried again."""

    def test_files(self, place: Place, key: str, tmp_path: Path) -> None:
        """Up and down, by parts, with progress told and nothing else left behind."""
        source, target, seen = tmp_path / "source", tmp_path / "target", list[int]()
        source.write_bytes(content := os.urandom(2 * _PART + 1))
        config = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART)
        client = _client(place)
        client.upload_file(
            source, place.bucket, key, Callback=seen.append, Config=config
        )
        assert sum(seen) == len(content)
        client.download_file(place.bucket, key, str(target), Callback=seen.append)
        assert target.read_bytes() == content == place.content(key)
        assert sum(seen) == 2 * len(content)
        assert sorted(tmp_path.iterdir()) == [source, target]

    def test_arguments(self, place: Place, key: str, tmp_path: Path) -> None:
        """Further arguments arrive, and wrong ones are boto3's errors."""
        (source := tmp_path / "source").write_bytes(b"x")
        client, where = _client(place), (place.bucket, key)
        extra = {"ContentType": "text/plain", "Metadata": {"a": "b"}}
        client.upload_file(str(source), *where, ExtraArgs=extra)
        head = client.head_object(Bucket=place.bucket, Key=key)
        told = {name.lower(): value for name, value in head["Metadata"].items()}
        assert (head["ContentType"], told) == ("text/plain", {"a": "b"})
        calls: tuple[Callable[[], Any], ...] = (
            lambda: client.upload_file(source, *where, ExtraArgs={"No": 1}),
            lambda: client.download_file(*where, source, ExtraArgs={"No": 1}),
            lambda: client.download_fileobj(*where, Pipe(), ExtraArgs={"No": 1}),
            lambda: client.upload_fileobj(b"bytes", *where),
            lambda: client.download_fileobj(*where, b"bytes"),
        )
        for call in calls:
            with pytest.raises(ValueError, match=r"Invalid extra_args|must implement"):
                call()

    @pytest.mark.parametrize("is_threaded", [True, False])
    def test_to_what_cannot_seek(
        self, minio: Place, key: str, *, is_threaded: bool
    ) -> None:
        """One request, in order, however many parts it would be: s3transfer hangs."""
        minio.put(key, _LINES)
        config = TransferConfig(
            multipart_threshold=1000, multipart_chunksize=1000, use_threads=is_threaded
        )
        pipe, seen = Pipe(), list[int]()
        _client(minio).download_fileobj(
            minio.bucket, key, pipe, Callback=seen.append, Config=config
        )
        assert pipe.got == _LINES
        assert sum(seen) == len(_LINES)
        assert minio.asked() == {"get_object": 1}

    def test_to_what_is_appended_to(
        self, minio: Place, key: str, tmp_path: Path
    ) -> None:
        """In order, after what is there."""
        minio.put(key, _LINES)
        (target := tmp_path / "target").write_bytes(b"old")
        config = TransferConfig(multipart_threshold=1000, multipart_chunksize=1000)
        with target.open("ab") as file:
            _client(minio).download_fileobj(minio.bucket, key, file, Config=config)
        assert target.read_bytes() == b"old" + _LINES

    def test_to_a_named_pipe(self, minio: Place, key: str, tmp_path: Path) -> None:
        """It gets the bytes; nothing is renamed over it."""
        minio.put(key, _LINES)
        os.mkfifo(pipe := tmp_path / "pipe")
        with ThreadPoolExecutor(1) as thread:
            read = thread.submit(pipe.read_bytes)
            _client(minio).download_file(minio.bucket, key, str(pipe))
            assert read.result() == _LINES

    def test_by_a_limited_bandwidth(self, minio: Place, key: str) -> None:
        """boto3's limit still makes whole objects, to a pipe too."""
        minio.put(key, _LINES)
        config = TransferConfig(max_bandwidth=1 << 30)
        client, pipe = _client(minio), Pipe()
        client.download_fileobj(minio.bucket, key, pipe, Config=config)
        assert pipe.got == _LINES
        client.upload_fileobj(io.BytesIO(_LINES), minio.bucket, key, Config=config)
        assert minio.content(key) == _LINES

    def test_copies(self, s3: Place, key: str) -> None:
        """By one request or by parts; a key that has to be quoted is quoted once."""
        source = f"{key} 100%/ä+&"
        content = os.urandom(_PART + 1)
        s3.put(source, content)
        s3.proxy.inject(Status(503), when="copy_object")
        client, here = _client(s3), {"Bucket": s3.bucket, "Key": source}
        client.copy(here, s3.bucket, f"{key}-1")
        assert s3.content(f"{key}-1") == content
        config = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART)
        client.copy(here, s3.bucket, f"{key}-2", Config=config)
        assert s3.content(f"{key}-2") == content
        assert s3.asked()["upload_part_copy"] == 2

    def test_leave_no_threads(self, minio: Place, key: str) -> None:
        """Those of a transfer end with it, whether it succeeds or fails."""
        client = _client(minio)
        before = set(threading.enumerate())
        client.upload_fileobj(io.BytesIO(bytes(9 << 20)), minio.bucket, key)
        client.download_fileobj(minio.bucket, key, io.BytesIO())
        with pytest.raises(ClientError):
            client.download_fileobj(minio.bucket, "nothing", io.BytesIO())
        assert set(threading.enumerate()) <= before

    def test_keep_little_in_memory(self) -> None:
        """Few parts of a file object, and one attempt; a caller's own stays its own."""
        from connectorkit_s3.client_transfers import _bounded

        own = TransferConfig(multipart_chunksize=64 << 20)
        for config in (None, own):
            bounded = _bounded(config)
            chunks = bounded.max_in_memory_upload_chunks
            assert 2 <= chunks <= max(2, (24 << 20) // bounded.multipart_chunksize)
            assert bounded.num_download_attempts == 1
        assert own.num_download_attempts == 5

    def test_of_a_callers_own_manager(self, minio: Place, key: str) -> None:
        """`S3Transfer(client)` works, its requests under the policies."""
        minio.put(key, _LINES)
        minio.proxy.inject(Status(503), when="get_object")
        out = io.BytesIO()
        with S3Transfer(_client(minio)) as transfer:
            transfer._manager.download(minio.bucket, key, out).result()
        assert out.getvalue() == _LINES

    def test_end_in_time(self, minio: Place, key: str) -> None:
        """The deadline of a call is one for all of its parts."""
        deadline = {"deadline": {"seconds": 1.0}}
        policies = {"enabled": ["deadline"], **deadline}
        with minio.kit_with(policies=policies) as kit:
            client = kit.resolve("it").client()

            class Slow(io.BytesIO):
                def read(self, size: int | None = -1) -> bytes:
                    minio.clock.advance(0.6)
                    return super().read(size)

            config = TransferConfig(
                multipart_threshold=_PART, multipart_chunksize=_PART, use_threads=False
            )
            with pytest.raises(DeadlineExceeded) as caught:
                client.upload_fileobj(
                    Slow(bytes(3 * _PART)), minio.bucket, key, Config=config
                )
        # There was no time left to abort it, either.
        [note] = caught.value.__notes__
        assert "could not be removed" in note
        assert minio.uploads(key)[0] in note
        assert minio.content(key) is None


class Pipe:
    """A sink that cannot seek."""

    def __init__(self) -> None:
        self.got = b""

    def write(self, data: bytes) -> None:
        self.got += data


class TestRedirects:
    """Answers that send the client elsewhere, at a stub."""

    @pytest.mark.parametrize("status", [301, 302, 307])
    def test_not_by_s3(self, status: int) -> None:
        """Where a server that is no S3 redirects, one request is sent, and fails."""
        elsewhere = Answer(status, b"", {"Location": "http://127.0.0.1:9/"})
        with Stub(lambda _: elsewhere) as stub:
            kit, client = _stub_client(stub)
            asked = {"Bucket": "bucket", "Key": "key"}
            with kit:
                for call in (
                    lambda: client.get_object(**asked),
                    lambda: client.put_object(**asked, Body=b""),
                    lambda: client.head_object(**asked),
                    client.list_buckets,
                ):
                    with pytest.raises(ClientError):
                        call()
            assert len(stub.requests) == 4

    def test_to_the_buckets_region(self) -> None:
        """What is sent again is what was to be sent: from where the file stood."""

        def answer(request: Request) -> Answer:
            if "/eu-west-1/" in request.headers["authorization"]:
                return Answer(200, b"", {"ETag": '"a"'})
            error = s3_error(301, "PermanentRedirect")
            return Answer(301, error.body, {"x-amz-bucket-region": "eu-west-1"})

        with Stub(answer) as stub:
            kit, client = _stub_client(stub)
            with kit:
                file = io.BytesIO(b"0123456789")
                file.seek(4)
                client.put_object(Bucket="bucket", Key="key", Body=file)
                client.put_object(Bucket="bucket", Key="key", Body=b"known by now")
            bodies = [request.body for request in stub.requests]
        assert bodies == [b"456789", b"456789", b"known by now"]


@pytest.mark.skipif(
    sys.platform != "linux", reason="sockets are counted by what Linux tells of them"
)
class TestConnections:
    """They are closed with the kit, and never under a request."""

    @pytest.fixture
    def connector(self) -> Iterator[Connector]:
        """A connector at a stub that keeps connections alive."""
        with (
            Stub(lambda request: s3_object(request, _CONTENT)) as stub,
            kit_at("s3", settings_for("s3", stub)) as kit,
        ):
            yield kit.resolve("it")

    def _sockets(self, connector: Connector) -> int:
        url: str = connector.client().meta.endpoint_url
        return sockets_to(int(url.rsplit(":", 1)[1]))

    def test_are_kept_alive(self, connector: Connector) -> None:
        """Many requests come by one connection."""
        client = connector.client()
        for _ in range(5):
            client.get_object(Bucket="b", Key="k")["Body"].read()
        assert self._sockets(connector) == 1

    def test_are_closed_with_the_kit(self, connector: Connector) -> None:
        """Whoever still holds the client may go on: it connects anew."""
        client = connector.client()
        client.get_object(Bucket="b", Key="k")["Body"].read()
        port = int(client.meta.endpoint_url.rsplit(":", 1)[1])
        connector.kit.close()
        assert sockets_to(port) == 0
        assert client.get_object(Bucket="b", Key="k")["Body"].read() == _CONTENT
        client.close()
        assert sockets_to(port) == 0

    def test_are_closed_when_idle(self, connector: Connector) -> None:
        """As those of the filesystem are; a body that is being read keeps its own."""
        client = connector.client()
        body = client.get_object(Bucket="b", Key="k")["Body"]
        assert body.read(1) == _CONTENT[:1]
        pool = connector._pool
        pool.idle = 0.0
        for _ in range(3):
            pool.sweep()
        assert self._sockets(connector) == 1
        assert body.read() == _CONTENT[1:]
        for _ in range(3):
            pool.sweep()
        assert self._sockets(connector) == 0
        assert client.head_object(Bucket="b", Key="k")["ContentLength"]

    def test_of_bodies_that_nobody_reads(self, connector: Connector) -> None:
        """They go with the body, without the collector's help."""
        client = connector.client()
        for _ in range(3):
            client.get_object(Bucket="b", Key="k")
        assert self._sockets(connector) == 0
        assert client.connectorkit_door.in_flight == 0

    def test_are_shared_by_threads(self, connector: Connector) -> None:
        """Each thread gets the bytes that it asked for."""
        client = connector.client()

        def get(number: int) -> bool:
            asked = f"bytes={number}-{number + 999}"
            body = client.get_object(Bucket="b", Key="k", Range=asked)["Body"]
            return bool(body.read() == _CONTENT[number : number + 1000])

        with ThreadPoolExecutor(8) as threads:
            assert all(threads.map(get, range(200)))
        assert client.connectorkit_door.in_flight == 0


class TestFork:
    """A forked child has its own client, and leaves its parent's alone."""

    def test_child_and_parent(self, minio: Place, key: str) -> None:
        """Also one that it inherited works, by connections of its own."""
        minio.put(key, _LINES)
        asked = {"Bucket": minio.bucket, "Key": key}
        connector = minio.kit.resolve("it")
        client = connector.client()
        body = client.get_object(**asked)["Body"]
        assert body.read(10) == _LINES[:10]
        client.head_object(**asked)

        def child() -> None:
            assert connector.client() is not client
            for each in (client, connector.client()):
                assert each.get_object(**asked)["Body"].read() == _LINES
            assert client.connectorkit_door.in_flight == 0

        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(60)
        assert process.exitcode == 0
        assert body.read() == _LINES[10:]
        assert connector.client() is client
        mine = [each.connection for each in minio.proxy.log[:2]]
        others = [each.connection for each in minio.proxy.log[2:]]
        assert len(others) == 2
        assert not {*mine} & {*others}
