"""The boto3 door under faults: each befalls each call, once and for ever.

Once: it heals. For ever: boto3's own error, after as many requests as attempts are
configured. In both cases the store, asked without the proxy, has what was there or
what was written, whole, and no upload that somebody forgot.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import tempfile
from typing import TYPE_CHECKING, Any

import pytest
from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from s3transfer.exceptions import RetriesExceededError as GaveUp

from connectorkit import (
    AttemptTimedOut,
    CircuitOpen,
    NotReplayable,
    ObjectChanged,
    Policy,
    SystemClock,
    WrongAnswer,
    hookimpl,
)
from connectorkit.testing import (
    Drip,
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    ResetMidBody,
    Stall,
    Status,
    Truncate,
    WholeForRange,
)
from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Request, Stub, s3_error
from faults.s3_places import ATTEMPTS, RETRY, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit import Operation
    from connectorkit.policy import Flow
    from connectorkit.testing import Fault
    from servers import MotoS3, RcloneS3

_CONTENT = bytes(range(256)) * 120
_OLD = b"what was there before"
_MB = 1 << 20
_PART = 5 * _MB
_BIG = os.urandom(_PART + 1)
_PARTS = TransferConfig(multipart_threshold=_PART, multipart_chunksize=_PART)
_STEPS = TransferConfig(multipart_threshold=10_000, multipart_chunksize=10_000)
_number = itertools.count()


@pytest.fixture(scope="module")
def _places(moto_s3: MotoS3, rclone_s3: RcloneS3) -> Iterator[dict[str, Place]]:
    with Place("s3", moto_s3) as s3, Place("minio", rclone_s3) as minio:
        for place in (s3, minio):
            place.put("read", _CONTENT)
            for name in "abc":
                place.put(f"list/{name}", b"x")
        yield {"s3": s3, "minio": minio}


@pytest.fixture
def s3(_places: dict[str, Place]) -> Place:
    """Type s3 at moto, which keeps to conditions."""
    _places["s3"].quiet()
    return _places["s3"]


@pytest.fixture
def minio(_places: dict[str, Place]) -> Place:
    """Type minio at rclone, which is fast and takes no notice of conditions."""
    _places["minio"].quiet()
    return _places["minio"]


@pytest.fixture(params=["s3", "minio"])
def place(request: pytest.FixtureRequest) -> Place:
    """One after the other."""
    place: Place = request.getfixturevalue(request.param)
    return place


@pytest.fixture
def key() -> str:
    """Name a key of this test's own."""
    return f"key-{next(_number)}"


def _client(place: Place) -> Any:
    return place.kit.resolve("it").client()


# Calls: what each does with a key, and the operation that is to fail.


def _download(client: Any, bucket: str, _key: str) -> bytes:
    client.download_fileobj(bucket, "read", out := io.BytesIO(), Config=_STEPS)
    return out.getvalue()


def _pages(client: Any, bucket: str, _key: str) -> list[str]:
    pages = client.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix="list/", PaginationConfig={"PageSize": 1}
    )
    return [each["Key"] for page in pages for each in page["Contents"]]


_READS: dict[str, Callable[[Any, str, str], Any]] = {
    "get": lambda c, bucket, _: c.get_object(Bucket=bucket, Key="read")["Body"].read(),
    "get_chunks": lambda c, bucket, _: b"".join(
        c.get_object(Bucket=bucket, Key="read")["Body"].iter_chunks(1000)
    ),
    "download": _download,
}
_WRITES: dict[str, tuple[str, Callable[[Any, str, str], Any], bytes]] = {
    "put": (
        "put_object",
        lambda c, bucket, key: c.put_object(Bucket=bucket, Key=key, Body=_CONTENT),
        _CONTENT,
    ),
    "upload": (
        "put_object",
        lambda c, bucket, key: c.upload_fileobj(io.BytesIO(_CONTENT), bucket, key),
        _CONTENT,
    ),
    **{
        operation: (
            operation,
            lambda c, bucket, key: c.upload_fileobj(
                io.BytesIO(_BIG), bucket, key, Config=_PARTS
            ),
            _BIG,
        )
        for operation in (
            "create_multipart_upload",
            "upload_part",
            "complete_multipart_upload",
        )
    },
}
_OTHERS: dict[str, tuple[str, Callable[[Any, str, str], Any]]] = {
    "head": (
        "head_object",
        lambda c, bucket, _: c.head_object(Bucket=bucket, Key="read")["ContentLength"],
    ),
    "pages": ("list_objects_v2", _pages),
    "delete": (
        "delete_object",
        lambda c, bucket, key: c.delete_object(Bucket=bucket, Key=key) and None,
    ),
    "delete_many": (
        "delete_objects",
        lambda c, bucket, key: c.delete_objects(
            Bucket=bucket, Delete={"Objects": [{"Key": key}]}
        )["Deleted"],
    ),
}
_BEFORE: tuple[Fault, ...] = (
    Status(500),
    Status(503, "SlowDown", retry_after=1),
    ResetBeforeReply(),
    ResetBeforeReply(at=0),
    LoseReply(),
)
_WITHIN: tuple[Fault, ...] = (ResetMidBody(at=0.5), Truncate(at=0.5), Truncate(at=0))
_ERRORS = (BotoCoreError, ClientError, GaveUp)


class TestReads:
    """What is read is the object, or an error."""

    @pytest.mark.parametrize("fault", [*_BEFORE, *_WITHIN], ids=repr)
    @pytest.mark.parametrize("call", _READS)
    def test_once(self, place: Place, call: str, fault: Fault) -> None:
        """It heals by one more request."""
        place.proxy.inject(fault, when="get_object")
        client = _client(place)
        assert _READS[call](client, place.bucket, "") == _CONTENT
        whole = _READS[call](client, place.bucket, "")
        assert whole == _CONTENT
        parts = place.asked()["get_object"] // 2
        assert place.asked()["get_object"] == 2 * parts + 1

    @pytest.mark.parametrize("fault", [*_BEFORE, *_WITHIN], ids=repr)
    @pytest.mark.parametrize("call", ["get", "get_chunks"])
    def test_for_ever(self, place: Place, call: str, fault: Fault) -> None:
        """It is boto3's error, after as many requests as attempts."""
        place.proxy.inject(fault, when="get_object", times=None)
        with pytest.raises(_ERRORS) as caught:
            _READS[call](_client(place), place.bucket, "")
        assert place.asked() == {"get_object": ATTEMPTS}
        assert f"{ATTEMPTS} attempts" in caught.value.__notes__[0]

    def test_for_ever_in_a_download(self, place: Place, tmp_path: Path) -> None:
        """s3transfer tries no part again, and what was there before stays."""
        (target := tmp_path / "target").write_bytes(_OLD)
        whole = TransferConfig(multipart_threshold=_MB)
        place.proxy.inject(ResetMidBody(at=0.5), when="get_object", times=None)
        with pytest.raises(RetriesExceededError) as caught:
            _client(place).download_file(
                place.bucket, "read", str(target), Config=whole
            )
        assert place.asked()["get_object"] == ATTEMPTS
        assert "attempts" in caught.value.__cause__.__notes__[0]
        assert target.read_bytes() == _OLD
        assert [*tmp_path.iterdir()] == [target]

    @given(
        cuts=st.lists(st.integers(0, len(_CONTENT)), max_size=2),
        step=st.sampled_from([1000, 4096, 100_000]),
    )
    @settings(
        max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    def test_cut_anywhere(self, minio: Place, cuts: list[int], step: int) -> None:
        """However it is read, each cut is one request from where it stopped."""
        minio.quiet()
        for cut in cuts:
            minio.proxy.inject(ResetMidBody(at=cut), when="get_object")
        body = _client(minio).get_object(Bucket=minio.bucket, Key="read")["Body"]
        got = b"".join(iter(lambda: body.read(step), b""))
        assert got == _CONTENT
        assert len(minio.proxy.log) <= len(cuts) + 1

    def test_another_version_in_the_middle(self, place: Place) -> None:
        """The rest of another object is not taken for the rest of this one."""
        key = f"replaced-{place.type_id}"
        place.put(key, _CONTENT)
        replace = ReplaceObject(lambda _: place.put(key, _CONTENT[::-1]))
        place.proxy.inject(ResetMidBody(at=0.5), when="get_object")
        place.proxy.inject(replace, when="get_object")
        with pytest.raises(ObjectChanged):
            _client(place).get_object(Bucket=place.bucket, Key=key)["Body"].read()

    def test_the_whole_for_the_rest(self, place: Place) -> None:
        """A server that answers a range with all of it is not believed."""
        place.proxy.inject(ResetMidBody(at=0.5), when="get_object")
        whole = WholeForRange(_CONTENT)
        place.proxy.inject(whole, when="get_object", times=None)
        body = _client(place).get_object(Bucket=place.bucket, Key="read")["Body"]
        assert body.read(1000) == _CONTENT[:1000]
        with pytest.raises(WrongAnswer):
            body.read()
        assert {each.range for each in place.proxy.log[1:]} == {"bytes=1000-"}

    def test_checksums_outlive_a_resume(self) -> None:
        """One of the whole object is compared with all that came, whoever sent it.

        At a stub, since no server can be told to store other bytes than it was sent.
        """
        import base64
        import zlib

        right = base64.b64encode(zlib.crc32(_CONTENT).to_bytes(4, "big")).decode()

        def answer(request: Request) -> Answer:
            headers = {"ETag": '"a"', "x-amz-checksum-crc32": right}
            if "range" not in request.headers:
                halves = iter([_CONTENT[:10_000]])
                return Answer(
                    200, _cut(halves), {**headers, "Content-Length": str(len(_CONTENT))}
                )
            first = int(request.headers["range"].removeprefix("bytes=")[:-1])
            rest = (content[0])[first:]
            where = f"bytes {first}-{len(_CONTENT) - 1}/{len(_CONTENT)}"
            return Answer(206, rest, {"ETag": '"a"', "Content-Range": where})

        policies = {"enabled": ["retry"], "retry": RETRY}
        with (
            Stub(answer) as stub,
            kit_at("s3", settings_for("s3", stub), policies=policies) as kit,
        ):
            client = kit.resolve("it").client()
            for content in ([_CONTENT], [_CONTENT[:-1] + b"!"]):
                body = client.get_object(Bucket="b", Key="k")["Body"]
                got = body.read(1000)
                if content[0] == _CONTENT:
                    assert got + body.read() == _CONTENT
                else:
                    with pytest.raises(BotoCoreError, match="checksum"):
                        body.read()


def _cut(pieces: Iterator[bytes]) -> Iterator[bytes]:
    yield from pieces
    raise ConnectionAbortedError


class TestWrites:
    """What is written is there whole, or what was there before is."""

    @pytest.mark.parametrize(
        ("call", "fault"),
        [
            *itertools.product(("put", "upload"), _BEFORE),
            *itertools.product([*_WRITES][2:], _BEFORE[1::2] + _BEFORE[-1:]),
        ],
        ids=repr,
    )
    def test_once(self, place: Place, key: str, call: str, fault: Fault) -> None:
        """It heals by one more request."""
        operation, write, content = _WRITES[call]
        place.put(key, _OLD)
        place.proxy.inject(fault, when=operation)
        write(_client(place), place.bucket, key)
        assert place.content(key) == content
        parts = 2 if operation == "upload_part" else 1
        assert place.asked()[operation] == parts + 1
        if not (operation == "create_multipart_upload" and fault == LoseReply()):
            # One that was begun unheard is nobody's.
            assert place.uploads(key) == []

    @pytest.mark.parametrize(
        "fault", [Status(503, "SlowDown"), ResetBeforeReply()], ids=repr
    )
    @pytest.mark.parametrize("call", _WRITES)
    def test_for_ever(self, place: Place, key: str, call: str, fault: Fault) -> None:
        """It is boto3's error; an upload is aborted, and nothing of it is left."""
        operation, write, _ = _WRITES[call]
        place.put(key, _OLD)
        place.proxy.inject(fault, when=operation, times=None)
        with pytest.raises(_ERRORS) as caught:
            write(_client(place), place.bucket, key)
        assert place.content(key) == _OLD
        assert place.uploads(key) == []
        parts = 2 if operation == "upload_part" else 1
        assert ATTEMPTS <= place.asked()[operation] <= ATTEMPTS * parts
        assert f"{ATTEMPTS} attempts" in caught.value.__notes__[0]

    def test_an_upload_file_keeps_its_note(
        self, place: Place, key: str, tmp_path: Path
    ) -> None:
        """boto3 makes another error of it; that has the note as well."""
        (source := tmp_path / "source").write_bytes(_CONTENT)
        place.proxy.inject(Status(503), when="put_object", times=None)
        with pytest.raises(S3UploadFailedError) as caught:
            _client(place).upload_file(str(source), place.bucket, key)
        assert f"{ATTEMPTS} attempts" in caught.value.__notes__[0]

    def test_an_upload_that_cannot_be_aborted(self, place: Place, key: str) -> None:
        """The error names what is left of it; s3transfer would not say a word."""
        place.proxy.inject(Status(503), when="upload_part", times=None)
        place.proxy.inject(Status(503), when="abort_multipart_upload", times=None)
        with pytest.raises(ClientError) as caught:
            _client(place).upload_fileobj(
                io.BytesIO(_BIG), place.bucket, key, Config=_PARTS
            )
        [upload] = place.uploads(key)
        assert any(upload in note for note in caught.value.__notes__)
        place.store.abort_multipart_upload(
            Bucket=place.bucket, Key=key, UploadId=upload
        )

    def test_a_completion_that_nobody_answered(self, place: Place, key: str) -> None:
        """It is looked whether it was done: it was.

        rclone makes ETags of its own; there it is known by an upload that is gone.
        """
        times = ATTEMPTS if place.type_id == "s3" else 1
        place.proxy.inject(LoseReply(), when="complete_multipart_upload", times=times)
        _client(place).upload_fileobj(
            io.BytesIO(_BIG), place.bucket, key, Config=_PARTS
        )
        assert place.content(key) == _BIG
        assert place.asked()["head_object"] == 1

    @pytest.mark.parametrize("as_file", [False, True])
    @pytest.mark.parametrize("is_mine", [True, False])
    def test_a_creation_that_nobody_answered(
        self, s3: Place, key: str, *, is_mine: bool, as_file: bool
    ) -> None:
        """Its condition fails the second time: because it was done, or by another."""
        content = _CONTENT if is_mine else _OLD
        if is_mine:
            s3.proxy.inject(LoseReply(), when="put_object")
        else:
            s3.put(key, content)
            s3.proxy.inject(ResetBeforeReply(), when="put_object")
        body: Any = _CONTENT
        if as_file:
            body = io.BytesIO(b"before" + _CONTENT)
            body.seek(6)
        asked = {"Bucket": s3.bucket, "Key": key, "IfNoneMatch": "*", "Body": body}
        if is_mine:
            answer = _client(s3).put_object(**asked)
            assert answer["ETag"] == f'"{hashlib.md5(_CONTENT).hexdigest()}"'  # noqa: S324
            assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
        else:
            with pytest.raises(ClientError, match="PreconditionFailed"):
                _client(s3).put_object(**asked)
        assert s3.content(key) == content

    def test_an_append_is_made_once(self) -> None:
        """What would be done twice is not tried again; at a stub, for S3 Express."""
        policies = {"enabled": ["retry"], "retry": RETRY}
        with (
            Stub(lambda _: s3_error(500, "InternalError")) as stub,
            kit_at("s3", settings_for("s3", stub), policies=policies) as kit,
        ):
            client = kit.resolve("it").client()
            asked = {"Bucket": "b", "Key": "k", "Body": b"x"}
            with pytest.raises(ClientError):
                client.put_object(**asked, WriteOffsetBytes=1)
            assert len(stub.requests) == 1


class TestOthers:
    """Calls without a body."""

    @pytest.mark.parametrize("fault", _BEFORE, ids=repr)
    @pytest.mark.parametrize("call", _OTHERS)
    def test_once(self, place: Place, key: str, call: str, fault: Fault) -> None:
        """Its answer is the one without the fault, by one more request."""
        operation, do = _OTHERS[call]
        place.put(key, _OLD)
        client = _client(place)
        place.proxy.inject(fault, when=operation)
        first = do(client, place.bucket, key)
        again = place.asked()[operation]
        place.put(key, _OLD)
        assert do(client, place.bucket, key) == first
        assert place.asked()[operation] == 2 * again - 1

    @pytest.mark.parametrize(
        "fault", [Status(500), Status(503, "SlowDown"), ResetBeforeReply()], ids=repr
    )
    @pytest.mark.parametrize("call", _OTHERS)
    def test_for_ever(self, place: Place, key: str, call: str, fault: Fault) -> None:
        """It is boto3's error, after as many requests as attempts."""
        operation, do = _OTHERS[call]
        place.proxy.inject(fault, when=operation, times=None)
        with pytest.raises(_ERRORS):
            do(_client(place), place.bucket, key)
        assert place.asked() == {operation: ATTEMPTS}

    def test_expired_credentials(self) -> None:
        """They are renewed before their time, and the call is tried once more.

        At a stub that knows one token from another.
        """
        old, new = {"access_key": "old"}, {"access_key": "new"}
        tokens = iter([old, new])

        def fetch() -> dict[str, str]:
            keys = {"secret_key": "s", "token": "t", **next(tokens)}
            return {**keys, "expiry_time": "2999-01-01T00:00:00Z"}

        def answer(request: Request) -> Answer:
            if "Credential=new/" in request.headers["authorization"]:
                return Answer(200, b"", {"ETag": '"a"'})
            return s3_error(400, "ExpiredToken")

        policies = {"enabled": ["retry"], "retry": RETRY}
        with (
            Stub(answer) as stub,
            kit_at("s3", settings_for("s3", stub), policies=policies) as kit,
        ):
            client = kit.resolve("it").client()
            client._request_signer._credentials = (
                RefreshableCredentials.create_from_metadata(fetch(), fetch, "test")
            )
            client.put_object(Bucket="b", Key="k", Body=b"x")
            assert len(stub.requests) == 2

    @pytest.mark.parametrize("status", [400, 403, 404, 412])
    def test_permanent(self, place: Place, status: int) -> None:
        """What the service answers for good is boto3's error, after one request."""
        place.proxy.inject(Status(status), times=None)
        with pytest.raises(ClientError) as caught:
            _client(place).list_objects_v2(Bucket=place.bucket)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        assert len(place.proxy.log) == 1


class Generated(io.RawIOBase):
    """What a generator gives, to be read once."""

    def __init__(self, content: bytes) -> None:
        starts = range(0, len(content), 100_000)
        self._pieces = (content[start : start + 100_000] for start in starts)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = len(_BIG) * 10 if size is None or size < 0 else size
        while len(self._rest) < wanted and (piece := next(self._pieces, b"")):
            self._rest += piece
        got, self._rest = self._rest[:wanted], self._rest[wanted:]
        return got


def _spooled(content: bytes) -> Any:
    file = tempfile.SpooledTemporaryFile(max_size=_MB)  # noqa: SIM115 - the caller's
    file.write(content)
    file.seek(0)
    return file


def _offset(content: bytes) -> Any:
    file = io.BytesIO(b"what is not to be sent" + content)
    file.seek(22)
    return file


def _piped(content: bytes) -> Any:
    import threading

    out, into = os.pipe()

    def fill() -> None:
        with open(into, "wb") as pipe:  # noqa: PTH123 - by number
            pipe.write(content)

    threading.Thread(target=fill).start()
    return open(out, "rb")  # noqa: PTH123 - by number, and the caller's


_BODIES: dict[str, Callable[[bytes], Any]] = {
    "BytesIO": io.BytesIO,
    "offset": _offset,
    "spooled": _spooled,
    "pipe": _piped,
    "generator": Generated,
}


class TestReplay:
    """A body that is sent again is the same, or it is not sent again (E6)."""

    @pytest.mark.parametrize(
        ("kind", "size"),
        [
            *itertools.product(_BODIES, [0, 1, 8 * _MB - 1, 8 * _MB, 8 * _MB + 1]),
            ("BytesIO", 20 * _MB),
            ("spooled", 20 * _MB),
            ("pipe", 20 * _MB),
        ],
    )
    def test_uploads(self, minio: Place, key: str, kind: str, size: int) -> None:
        """Each of its requests fails once, and what is stored is what was given.

        boto3 under a retry of one's own stores nothing, and calls it a success.
        """
        content = os.urandom(size)
        for operation in (
            "put_object",
            "create_multipart_upload",
            "upload_part",
            "complete_multipart_upload",
        ):
            minio.proxy.inject(ResetBeforeReply(at=size // 20), when=operation)
        with _BODIES[kind](content) as body:
            _client(minio).upload_fileobj(body, minio.bucket, key)
        stored = minio.content(key)
        assert stored is not None
        assert hashlib.sha256(stored).digest() == hashlib.sha256(content).digest()
        asked = minio.asked()
        if size < 8 * _MB:
            assert asked == {"put_object": 2}
        else:
            parts = -(-size // (8 * _MB))
            assert asked == {
                "create_multipart_upload": 2,
                "upload_part": parts + 1,
                "complete_multipart_upload": 2,
            }

    @pytest.mark.parametrize("kind", ["BytesIO", "offset", "spooled"])
    def test_puts(self, place: Place, key: str, kind: str) -> None:
        """A file object is rewound to where it stood, and not closed."""
        body = _BODIES[kind](_CONTENT)
        for fault in (Status(503), ResetBeforeReply(at=10)):
            place.proxy.inject(fault, when="put_object")
        _client(place).put_object(Bucket=place.bucket, Key=key, Body=body)
        assert place.content(key) == _CONTENT
        assert not body.closed
        body.close()

    @pytest.mark.parametrize("kind", ["pipe", "generator"])
    def test_puts_what_can_be_read_once(self, kind: str) -> None:
        """It is sent once; a second attempt is refused, and names what failed.

        At a stub and without a signature, for which botocore would have to seek.
        """
        failures = [s3_error(503, "SlowDown")]

        def answer(_: Request) -> Answer:
            return failures.pop() if failures else Answer(200, b"", {"ETag": '"a"'})

        with Stub(answer) as stub:
            settings = {"endpoint_url": stub.endpoint_url, "anon": True}
            policies = {"enabled": ["retry"], "retry": RETRY}
            with kit_at("minio", settings, policies=policies) as kit:
                client = kit.resolve("it").client()
                asked = {"Bucket": "b", "Key": "k", "ContentLength": len(_CONTENT)}
                with (
                    _BODIES[kind](_CONTENT) as body,
                    pytest.raises(NotReplayable) as caught,
                ):
                    client.put_object(**asked, Body=body)
                assert len(stub.requests) == 1
                assert isinstance(caught.value.__cause__, ClientError)
                with _BODIES[kind](_CONTENT) as body:
                    client.put_object(**asked, Body=body)
            assert [request.body for request in stub.requests] == [_CONTENT] * 2

    def test_a_body_that_cannot_be_read(self, minio: Place, key: str) -> None:
        """Its own error is raised, and no attempt more; nothing is stored."""

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                if self.tell() > 10_000:
                    raise ConnectionResetError("of another service")
                return super().read(size)

        with pytest.raises(ConnectionResetError, match="of another service"):
            _client(minio).put_object(
                Bucket=minio.bucket, Key=key, Body=Broken(_CONTENT)
            )
        assert minio.content(key) is None
        assert len(minio.proxy.log) <= 1

    def test_a_closed_body(self, minio: Place, key: str) -> None:
        """Who closes it between two attempts is told so."""
        body = io.BytesIO(_CONTENT)

        def close(_: object) -> None:
            body.close()

        minio.proxy.inject(ReplaceObject(close), when="put_object")
        minio.proxy.inject(Status(503), when="put_object", times=None)
        minio.proxy.heal()
        minio.proxy.inject(Status(503), when="put_object")
        closing = ClosingAfter(body)
        with minio.kit_with(
            policies={"enabled": ["retry", "closing"], "retry": RETRY}
        ) as kit:
            kit.register(closing, "closing")
            with pytest.raises(NotReplayable) as caught:
                kit.resolve("it").client().put_object(
                    Bucket=minio.bucket, Key=key, Body=body
                )
        assert isinstance(caught.value.__cause__, ClientError)
        assert minio.content(key) is None


class ClosingAfter:
    """Brings a policy that closes a file after the first attempt."""

    def __init__(self, file: io.BytesIO) -> None:
        class Closing(Policy):
            name = "closing"

            def around(self, op: Operation) -> Flow:
                try:
                    return (yield op)
                finally:
                    file.close()

        self._policy = Closing

    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        """Provide it."""
        return [self._policy]


class TestTime:
    """An attempt ends when its time is up; what else ends it is botocore's."""

    @pytest.fixture
    def hasty(self, minio: Place) -> Iterator[Any]:
        """A client whose attempts have a fifth of a second."""
        policies = {"enabled": ["timeout"], "timeout": {"seconds": 0.2, "slowest": 1e9}}
        with minio.kit_with(SystemClock(), policies=policies) as kit:
            yield kit.resolve("it").client()

    @pytest.mark.parametrize("fault", [Stall(), Stall(at=10), Drip()], ids=repr)
    def test_of_a_read(self, minio: Place, hasty: Any, fault: Fault) -> None:
        """Silence, before or within a body, and bytes that drip, are cut."""
        minio.proxy.inject(fault, when="get_object")
        with pytest.raises(AttemptTimedOut) as caught:
            hasty.get_object(Bucket=minio.bucket, Key="read")["Body"].read()
        assert isinstance(caught.value.__cause__, BotoCoreError)
        assert len(minio.proxy.log) == 1

    @pytest.mark.parametrize("fault", [Stall(), Drip()], ids=repr)
    def test_of_a_list(self, minio: Place, hasty: Any, fault: Fault) -> None:
        """A page that drips is cut as well, whatever botocore would wait."""
        minio.proxy.inject(fault, when="list_objects_v2")
        with pytest.raises(AttemptTimedOut):
            hasty.list_objects_v2(Bucket=minio.bucket)

    def test_of_a_write(self, minio: Place, hasty: Any, key: str) -> None:
        """A server that does not take what is sent is not waited for."""
        minio.proxy.inject(Stall(), when="put_object")
        with pytest.raises(AttemptTimedOut):
            hasty.put_object(Bucket=minio.bucket, Key=key, Body=io.BytesIO(_BIG))

    def test_the_clients_own(self, minio: Place) -> None:
        """A silence that is too long by the settings is boto3's error."""
        with minio.kit_with(policies={"enabled": ["timeout"]}) as kit:
            settings = {**minio.settings, "read_timeout": 0.1}
            client = kit.resolve("minio", settings=settings).client()
            minio.proxy.inject(Stall(), when="head_object")
            with pytest.raises(ReadTimeoutError):
                client.head_object(Bucket=minio.bucket, Key="read")
            minio.proxy.inject(Stall(), when="get_object")
            with pytest.raises(ReadTimeoutError):
                client.get_object(Bucket=minio.bucket, Key="read")["Body"].read()

    def test_a_slow_sender_has_more_than_the_time_to_connect(self) -> None:
        """Bytes in one piece are not cut after `connect_timeout`.

        At a stub that takes its time; botocore by itself would give up.
        """
        import time

        def answer(_: Request) -> Answer:
            return Answer(200, b"", {"ETag": '"a"'})

        class Slow(Stub):
            def process_request(self, request: Any, client_address: Any) -> None:
                time.sleep(0.4)  # What is tested is that a wait changes nothing.
                super().process_request(request, client_address)

        with Slow(answer) as stub:
            settings = {**settings_for("minio", stub), "connect_timeout": 0.2}
            with kit_at("minio", settings) as kit:
                client = kit.resolve("it").client()
                client.put_object(Bucket="b", Key="k", Body=bytes(20 * _MB))
            assert len(stub.requests[0].body) == 20 * _MB


class TestDefaults:
    """Under the default policies."""

    def test_errors_of_policies_are_theirs(self, minio: Place) -> None:
        """An open circuit refuses calls and transfers by the same error, unsent."""
        with minio.kit_with() as kit:
            client = kit.resolve("it").client()
            minio.proxy.inject(Status(500), when="get_object", times=None)
            asked = {"Bucket": minio.bucket, "Key": "read"}
            for _ in range(5):
                with pytest.raises((ClientError, CircuitOpen)):
                    client.get_object(**asked)
            count = len(minio.proxy.log)
            assert count == 5
            calls: tuple[Callable[[], Any], ...] = (
                lambda: client.get_object(**asked),
                lambda: client.download_fileobj(*asked.values(), io.BytesIO()),
                lambda: client.head_object(**asked),
            )
            for call in calls:
                with pytest.raises(CircuitOpen):
                    call()
            assert minio.asked() == {"get_object": 5}
            # Other circuits are their own.
            client.put_object(Bucket=minio.bucket, Key="other", Body=b"x")

    def test_bodies_that_fail_open_the_circuit(self, minio: Place) -> None:
        """A head that is well counts for nothing if its body never comes (E5)."""
        policies = {"enabled": ["breaker"]}
        with minio.kit_with(policies=policies) as kit:
            client = kit.resolve("it").client()
            minio.proxy.inject(ResetMidBody(at=0.5), when="get_object", times=None)
            asked = {"Bucket": minio.bucket, "Key": "read"}
            for _ in range(5):
                with pytest.raises(BotoCoreError):
                    client.get_object(**asked)["Body"].read()
            with pytest.raises(CircuitOpen):
                client.get_object(**asked)
            assert len(minio.proxy.log) == 5

    def test_an_abandoned_body_says_nothing(self, minio: Place) -> None:
        """Neither a success nor a failure of the service's."""
        policies = {"enabled": ["breaker"], "breaker": {"failures": 2}}
        with minio.kit_with(policies=policies) as kit:
            client = kit.resolve("it").client()
            asked = {"Bucket": minio.bucket, "Key": "read"}
            for fault in (True, False, True):
                if fault:
                    minio.proxy.inject(Status(500), when="get_object")
                    with pytest.raises(ClientError):
                        client.get_object(**asked)
                else:
                    client.get_object(**asked)["Body"].close()
            with pytest.raises(CircuitOpen):
                client.get_object(**asked)
