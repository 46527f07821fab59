"""S3 on the wire: what is asked, how often, and that the answer is what was asked for.

At real servers, through a proxy that counts and injects faults.
"""

from __future__ import annotations

import asyncio
import io
import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import aiohttp
import pytest
from botocore.exceptions import BotoCoreError, FlexibleChecksumError
from fsspec.asyn import sync
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    AttemptTimedOut,
    CallCancelled,
    CircuitOpen,
    Kind,
    NotReplayable,
    ObjectChanged,
    Policy,
    WrongAnswer,
    hookimpl,
)
from connectorkit.clock import SYSTEM_CLOCK
from connectorkit.testing import (
    Drip,
    Fault,
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    ResetMidBody,
    Stall,
    Status,
    Truncate,
    VirtualClock,
    WholeForRange,
)
from connectorkit_s3.filesystem import ConnectorS3FileSystem
from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Stub
from contracts.stub import Request as StubRequest
from faults.s3_places import ATTEMPTS, RETRY, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit import Operation
    from connectorkit.policy import Flow
    from connectorkit.testing import Relay

_CONTENT = bytes(range(256)) * 120
_STEP = 10_000


def _ranges(place: Place) -> list[str | None]:
    return [each.range for each in place.proxy.log]


def _pins(place: Place) -> list[str | None]:
    return [each.headers.get("if-match") for each in place.proxy.log]


def _blocks(place: Place, key: str, **options: Any) -> bytes:
    with place.fs.open(
        place.path(key), block_size=_STEP, cache_type="none", **options
    ) as file:
        return b"".join(iter(lambda: file.read(_STEP), b""))


class Flip(Fault):
    """One byte of the answer is another one."""

    async def play(self, relay: Relay) -> None:
        answer = await relay.ask()
        await relay.begin(answer)
        while piece := await answer.body.read():
            await relay.send(bytes([piece[0] ^ 1]) + piece[1:])
        await relay.end(answer)


class TestReading:
    """What is read is what was asked for, of one version."""

    @pytest.mark.parametrize("size", [0, 1, _STEP, 3 * _STEP])
    def test_cat_begins_with_the_get(self, place: Place, key: str, size: int) -> None:
        """No HEAD is sent before it, whatever the size."""
        place.put(key, _CONTENT[:size])
        content = place.fs.cat_file(place.path(key), chunksize=_STEP)
        assert content == _CONTENT[:size]
        assert set(place.asked()) == {"get_object"}
        assert _ranges(place)[0] is None
        assert len(place.proxy.log) == (1 if size <= _STEP else 3)

    @pytest.mark.parametrize("way", ["cat", "get"])
    def test_what_is_big_comes_in_pinned_ranges(
        self, place: Place, key: str, way: str, tmp_path: Path
    ) -> None:
        """The first answer is read as far as a range goes; the rest has its version."""
        place.put(key, _CONTENT)
        if way == "cat":
            content = place.fs.cat_file(place.path(key), chunksize=_STEP)
        else:
            target = tmp_path / "target"
            place.fs.get_file(place.path(key), str(target), chunksize=_STEP)
            content = target.read_bytes()
        assert content == _CONTENT
        first, *others = place.proxy.log
        tag = place.fs.info(place.path(key))["ETag"]
        assert (first.range, first.headers.get("if-match")) == (None, None)
        starts = range(_STEP, len(_CONTENT), _STEP)
        assert {each.range for each in others} == {
            f"bytes={start}-{min(start + _STEP, len(_CONTENT)) - 1}" for start in starts
        }
        assert {each.headers["if-match"] for each in others} == {tag}
        assert {each.operation for each in (first, *others)} == {"get_object"}

    @pytest.mark.parametrize("way", ["cat", "get"])
    def test_replaced_between_ranges(
        self, place: Place, key: str, way: str, tmp_path: Path
    ) -> None:
        """It is an error, where If-Match is heeded and where the ETag alone tells.

        It is not tried again, and of a file nothing is left.
        """
        place.put(key, _CONTENT)
        new = bytes(len(_CONTENT))
        replace = ReplaceObject(lambda _: place.put(key, new))
        place.proxy.inject(replace, when=lambda r: r.range == "bytes=10000-19999")
        target = str(tmp_path / "target")
        read = {
            "cat": lambda path: place.fs.cat_file(path, chunksize=_STEP),
            "get": lambda path: place.fs.get_file(path, target, chunksize=_STEP),
        }
        with pytest.raises(ObjectChanged, match="replaced"):
            read[way](place.path(key))
        assert _ranges(place).count("bytes=10000-19999") == 1
        assert [*tmp_path.iterdir()] == []
        assert place.fs.in_flight == 0

    def test_the_whole_is_no_range(self, place: Place, key: str) -> None:
        """Who answers a range by the whole is asked once more, and not believed."""
        place.put(key, _CONTENT)
        place.proxy.inject(WholeForRange(_CONTENT), times=None)
        with pytest.raises(WrongAnswer):
            place.fs.cat_file(place.path(key), start=0, end=10)
        assert place.asked() == {"get_object": 2}

    def test_a_range_answered_200_is_one_if_it_says_so(
        self, minio: Place, key: str
    ) -> None:
        """What counts is the Content-Range: rclone answers ranges by 200."""
        minio.put(key, _CONTENT)
        content = minio.fs.cat_file(minio.path(key), start=5, end=2000)
        assert content == _CONTENT[5:2000]
        assert [each.status for each in minio.proxy.log] == [200]

    @pytest.mark.parametrize("fault", [ResetMidBody(at=0.25), Truncate(at=0.25)])
    def test_a_body_that_is_cut_goes_on(
        self, place: Place, key: str, fault: Any
    ) -> None:
        """The rest is asked for, of the same version, by one more attempt."""
        place.put(key, _CONTENT)
        place.proxy.inject(fault)
        assert place.fs.cat_file(place.path(key)) == _CONTENT
        quarter = len(_CONTENT) // 4
        tag = place.fs.info(place.path(key))["ETag"]
        assert _ranges(place)[:2] == [None, f"bytes={quarter}-"]
        assert _pins(place)[:2] == [None, tag]

    def test_a_range_that_is_cut_goes_on(self, place: Place, key: str) -> None:
        """The rest of a range ends where the range ends."""
        place.put(key, _CONTENT)
        place.proxy.inject(ResetMidBody(at=400))
        content = place.fs.cat_file(place.path(key), start=100, end=1100)
        assert content == _CONTENT[100:1100]
        assert _ranges(place) == ["bytes=100-1099", "bytes=500-1099"]

    def test_cut_and_replaced(self, place: Place, key: str) -> None:
        """The rest of another object is not the rest of this one."""
        place.put(key, _CONTENT)
        place.proxy.inject(ResetMidBody(), when=lambda r: r.range is None)
        replace = ReplaceObject(lambda _: place.put(key, bytes(len(_CONTENT))))
        place.proxy.inject(replace, when=lambda r: r.range is not None)
        with pytest.raises(ObjectChanged):
            place.fs.cat_file(place.path(key))
        assert len(place.proxy.log) == 2

    def test_a_body_without_a_length(self, key: str) -> None:
        """A range that comes in chunks is as long as it says; a short one is an error.

        At a stub, since no server here sends chunks.
        """
        sent = _CONTENT[:10]

        def answer(_: StubRequest) -> Answer:
            about = {
                "Content-Range": "bytes 0-9/99",
                "ETag": '"a-tag"',
                "Transfer-Encoding": "chunked",
            }
            pieces = (sent[:4], sent[4:], b"")
            return Answer(206, (b"%x\r\n%s\r\n" % (len(p), p) for p in pieces), about)

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            fs = kit.resolve("it").fs
            assert fs.cat_file(f"bucket/{key}", start=0, end=10) == _CONTENT[:10]
            sent = _CONTENT[:9]
            with pytest.raises(asyncio.IncompleteReadError):
                fs.cat_file(f"bucket/{key}", start=0, end=10)

    def test_a_part_by_its_number(self, minio: Place, key: str) -> None:
        """Rclone knows no parts by their numbers, and answers by the whole."""
        minio.put(key, _CONTENT)
        names = {"Bucket": minio.bucket, "Key": key, "PartNumber": 2}
        with pytest.raises(WrongAnswer, match="part 2"):
            minio.fs.call_s3("get_object", **names)

    def test_a_part_that_is_cut_goes_on(self) -> None:
        """What was asked for by its number is gone on with by its range.

        At a stub that knows parts.
        """

        def answer(request: StubRequest) -> Answer:
            where = {"ETag": '"a-tag"', "Content-Range": "bytes 20-29/30"}
            if "range" not in request.headers:
                return Answer(206, cut(), {**where, "Content-Length": "10"})
            where["Content-Range"] = "bytes 24-29/30"
            return Answer(206, _CONTENT[24:30], where)

        def cut() -> Iterator[bytes]:
            yield _CONTENT[20:24]
            raise ConnectionAbortedError

        async def read() -> Any:
            about = {"Bucket": "bucket", "Key": "key", "PartNumber": 3}
            return await (await fs._call_s3("get_object", **about))["Body"].read()

        policies = {"enabled": ["retry"], "retry": RETRY}
        with (
            Stub(answer) as stub,
            kit_at("s3", settings_for("s3", stub), policies=policies) as kit,
        ):
            fs: Any = kit.resolve("it").fs
            assert sync(fs.loop, read) == _CONTENT[20:30]
            first, second = stub.requests
        assert first.query["partNumber"] == "3"
        assert "partNumber" not in second.query
        assert second.headers["range"] == "bytes=24-29"
        assert second.headers["if-match"] == '"a-tag"'

    def test_without_a_version(self, key: str) -> None:
        """Where nothing tells versions apart, a body that is cut is not gone on with.

        At a stub, since every server here has ETags.
        """

        def cut() -> Iterator[bytes]:
            yield _CONTENT[:100]
            raise ConnectionAbortedError

        length = {"Content-Length": str(len(_CONTENT))}
        policies = {"enabled": ["retry"], "retry": RETRY}
        with (
            Stub(lambda _: Answer(200, cut(), length)) as stub,
            kit_at("s3", settings_for("s3", stub), policies=policies) as kit,
        ):
            with pytest.raises((aiohttp.ClientError, BotoCoreError)):
                kit.resolve("it").fs.cat_file(f"bucket/{key}")
            assert len(stub.requests) == 1

    @pytest.mark.parametrize("way", ["cat", "by blocks"])
    def test_other_bytes(self, s3: Place, key: str, way: str) -> None:
        """What does not fit its checksum is asked for again, if nobody has seen it."""
        s3.fs.pipe_file(s3.path(key), _CONTENT)

        async def by_blocks() -> bytes:
            async with await s3.fs.open_async(s3.path(key)) as file:
                content = b""
                while piece := await file.read(_STEP):
                    content += piece
                return content

        def read() -> bytes:
            content: bytes
            if way == "cat":
                content = s3.fs.cat_file(s3.path(key))
            else:
                content = sync(s3.fs.loop, by_blocks)
            return content

        for times in (1, None):
            s3.quiet()
            s3.proxy.inject(Flip(), times=times)
            if times == 1 and way == "cat":
                assert read() == _CONTENT
            else:
                with pytest.raises(FlexibleChecksumError):
                    read()
            assert len(s3.proxy.log) == (2 if way == "cat" else 1)

    @given(
        start=st.none() | st.integers(-len(_CONTENT), len(_CONTENT) - 1),
        end=st.none() | st.integers(-len(_CONTENT), len(_CONTENT) + 9),
    )
    def test_any_range(
        self, places: dict[str, Place], start: int | None, end: int | None
    ) -> None:
        """`start` and `end` mean what they mean in a slice."""
        place = places["minio"]
        place.quiet()
        if place.content("any-range") is None:
            place.put("any-range", _CONTENT)
        content = place.fs.cat_file(place.path("any-range"), start=start, end=end)
        assert content == _CONTENT[start:end]


class TestOpenFiles:
    """A file reads one version, however it is opened."""

    def test_opened_with_a_size(self, place: Place, key: str) -> None:
        """Without a look before, the first answer says which version it is."""
        place.put(key, _CONTENT)
        options: Any = {"block_size": _STEP, "cache_type": "none"}
        options["size"] = len(_CONTENT)
        with place.fs.open(place.path(key), **options) as file:
            assert file.read(10) == _CONTENT[:10]
            place.put(key, bytes(len(_CONTENT)))
            with pytest.raises(ObjectChanged):
                file.read(10)
        assert place.asked() == {"get_object": 2}

    def test_a_copy_for_another_process(self, place: Place, key: str) -> None:
        """What a pickle makes is a file of the same version, at the same place."""
        place.put(key, _CONTENT)
        with place.fs.open(place.path(key), block_size=_STEP) as file:
            file.seek(100)
            make, arguments = file.__reduce__()
            with make(*arguments) as copy:
                assert copy.read(50) == _CONTENT[100:150]
            place.put(key, bytes(len(_CONTENT)))
            with make(*arguments) as copy, pytest.raises(ObjectChanged):
                copy.read(50)

    def test_a_read_that_failed_is_repeated(self, place: Place, key: str) -> None:
        """After an error the file stands where it stood, and reads on."""
        place.put(key, _CONTENT)
        with place.fs.open(place.path(key), block_size=_STEP) as file:
            assert file.read(10) == _CONTENT[:10]
            place.proxy.inject(Status(503), times=ATTEMPTS)
            with pytest.raises(OSError, match="Injected"):
                file.seek(20_000) and file.read(10)
            assert file.read(10) == _CONTENT[20_000:20_010]

    def test_on_a_loop(self, place: Place, key: str) -> None:
        """A file that is read on a loop goes on after a cut, and closes its body."""
        place.put(key, _CONTENT)
        place.proxy.inject(ResetMidBody())

        async def read() -> bytes:
            content = b""
            async with await place.fs.open_async(place.path(key)) as file:
                # Past the cut, and not to the end.
                while len(content) < len(_CONTENT) * 3 // 4:
                    content += await file.read(len(_CONTENT) // 8)
                assert place.fs.in_flight == 1
            assert place.fs.in_flight == 0
            with pytest.raises(ValueError, match="closed"):
                await file.read(1)
            return content

        content = sync(place.fs.loop, read)
        assert _CONTENT.startswith(content)
        assert place.asked() == {"get_object": 2}

    def test_what_broke_has_no_rest(self, place: Place, key: str) -> None:
        """After its error a body gives no end: that would be taken for its end."""
        place.put(key, _CONTENT)
        place.proxy.inject(ResetMidBody(), times=None)

        async def read() -> None:
            file = await place.fs.open_async(place.path(key))
            with pytest.raises((aiohttp.ClientError, BotoCoreError, OSError)):
                # Of two reads the first may have come.
                await file.read(100) and await file.read()
            with pytest.raises(OSError, match="ended in an error"):
                await file.read()

        sync(place.fs.loop, read)
        assert place.fs.in_flight == 0

    def test_ranges_of_one_object(self, place: Place, key: str) -> None:
        """`cat_ranges` gives ranges of one version, or an error."""
        place.put(key, _CONTENT)
        paths, starts, ends = [place.path(key)] * 3, [0, 10, 20], [5, 15, 25]
        ranges = place.fs.cat_ranges(paths, starts, ends)
        assert ranges == [_CONTENT[0:5], _CONTENT[10:15], _CONTENT[20:25]]
        new = ReplaceObject(lambda _: place.put(key, bytes(len(_CONTENT))))
        place.proxy.inject(new, when=lambda r: r.range == "bytes=20-24")
        with pytest.raises(ObjectChanged):
            # One after the other.
            place.fs.cat_ranges(paths, starts, ends, batch_size=1)


class Recorder(Policy):
    """Writes operations down when they have ended."""

    name = "recorder"
    ended_ops: ClassVar[list[Operation]] = []

    def around(self, op: Operation) -> Flow:
        return (yield op)

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.ended_ops.append(op)


class _Plugin:
    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Recorder]


# What each method asks, `b` being the bucket: the names of operations, and of what.
_LOOK = "head_object b/d/a"
_FIND = "list_objects_v2 b/d/"
_NEW = ["list_objects_v2 b/new/"]
_METHODS: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "cat_file": (lambda fs, b, _: fs.cat_file(f"{b}/d/a"), ["get_object b/d/a"]),
    "cat": (
        lambda fs, b, _: fs.cat([f"{b}/d/a", f"{b}/d/e/b"]),
        ["get_object b/d/a", "get_object b/d/e/b"],
    ),
    "cat_ranges": (
        lambda fs, b, _: fs.cat_ranges([f"{b}/d/a"] * 2, [0, 1], [1, 2]),
        ["get_object b/d/a", "get_object b/d/a"],
    ),
    "open to read": (
        lambda fs, b, _: fs.open(f"{b}/d/a").read(),
        [_LOOK, "get_object b/d/a"],
    ),
    "open to write": (
        lambda fs, b, _: _write(fs, f"{b}/new", "wb"),
        ["put_object b/new"],
    ),
    "open to append": (
        lambda fs, b, _: _write(fs, f"{b}/d/a", "ab"),
        [_LOOK, _LOOK, "get_object b/d/a", "put_object b/d/a"],
    ),
    "open to create": (
        lambda fs, b, _: _write(fs, f"{b}/new", "xb"),
        ["head_object b/new", "put_object b/new"],
    ),
    "head": (lambda fs, b, _: fs.head(f"{b}/d/a", 2), [_LOOK, "get_object b/d/a"]),
    "get": (
        lambda fs, b, folder: fs.get(f"{b}/d", str(folder), recursive=True),
        # Keys may lie where folders do: they are looked for.
        [
            _FIND,
            "get_object b/d/a",
            "get_object b/d/e/b",
            "head_object b/d",
            "head_object b/d/e",
        ],
    ),
    "get_file": (
        lambda fs, b, folder: fs.get_file(f"{b}/d/a", str(folder / "a")),
        ["get_object b/d/a"],
    ),
    "put": (
        lambda fs, b, folder: fs.put(_file(folder), f"{b}/new"),
        [*_NEW, "put_object b/new"],
    ),
    "put_file": (
        lambda fs, b, folder: fs.put_file(_file(folder), f"{b}/new"),
        ["put_object b/new"],
    ),
    "pipe": (lambda fs, b, _: fs.pipe({f"{b}/new": b"1"}), ["put_object b/new"]),
    "create": (
        lambda fs, b, _: fs.pipe_file(f"{b}/new", b"1", mode="create"),
        ["head_object b/new", "put_object b/new"],
    ),
    "touch": (lambda fs, b, _: fs.touch(f"{b}/new"), ["put_object b/new"]),
    "find": (lambda fs, b, _: fs.find(f"{b}/d"), [_FIND]),
    "ls": (lambda fs, b, _: fs.ls(f"{b}/d"), [_FIND]),
    "walk": (
        lambda fs, b, _: [*fs.walk(f"{b}/d")],
        [_FIND, "list_objects_v2 b/d/e/"],
    ),
    "glob": (
        lambda fs, b, _: fs.glob(f"{b}/d/*"),
        [_FIND, "head_object b/d", _FIND, _FIND],
    ),
    "du": (
        lambda fs, b, _: fs.du(f"{b}/d"),
        [_FIND, _LOOK, "head_object b/d/e/b"],
    ),
    "info": (lambda fs, b, _: fs.info(f"{b}/d/a"), [_LOOK]),
    "exists": (lambda fs, b, _: fs.exists(f"{b}/d/a"), [_LOOK]),
    "exists not": (
        lambda fs, b, _: fs.exists(f"{b}/new"),
        ["head_object b/new", *_NEW],
    ),
    "exists, a bucket": (lambda fs, b, _: fs.exists(b), ["head_bucket b"]),
    "isdir": (lambda fs, b, _: fs.isdir(f"{b}/d"), [_FIND]),
    "isfile": (lambda fs, b, _: fs.isfile(f"{b}/d/a"), [_LOOK]),
    "cp_file": (
        lambda fs, b, _: fs.cp_file(f"{b}/d/a", f"{b}/new"),
        [_LOOK, "copy_object b/new"],
    ),
    "mv": (
        lambda fs, b, _: fs.mv(f"{b}/d/a", f"{b}/new"),
        [
            "list_objects_v2 b/d/a/",
            *_NEW,
            _LOOK,
            "copy_object b/new",
            "delete_objects b",
        ],
    ),
    "rm": (
        lambda fs, b, _: fs.rm([f"{b}/d/a", f"{b}/d/e/b"]),
        ["delete_objects b"],
    ),
    "rm, a folder": (
        lambda fs, b, _: fs.rm(f"{b}/d", recursive=True),
        [_FIND, "delete_objects b"],
    ),
    "rm_file": (lambda fs, b, _: fs.rm_file(f"{b}/d/a"), ["delete_object b/d/a"]),
    "mkdir": (lambda fs, b, _: fs.mkdir(f"{b}/new"), ["head_bucket b"]),
    "mkdir, a bucket": (
        lambda fs, b, _: fs.mkdir(f"{b}-2"),
        ["head_bucket b-2", "create_bucket b-2"],
    ),
    "merge": (
        lambda fs, b, _: fs.merge(f"{b}/new", [f"{b}/d/a"]),
        [
            "create_multipart_upload b/new",
            "upload_part_copy b/new",
            "complete_multipart_upload b/new",
        ],
    ),
    "setxattr": (
        lambda fs, b, _: fs.setxattr(f"{b}/d/a", colour="red"),
        [_LOOK, "copy_object b/d/a"],
    ),
    "get_tags": (
        lambda fs, b, _: fs.get_tags(f"{b}/d/a"),
        ["get_object_tagging b/d/a"],
    ),
    "get_mapper": (lambda fs, b, _: fs.get_mapper(f"{b}/d")["a"], ["get_object b/d/a"]),
    "on a loop": (
        lambda fs, b, _: sync(fs.loop, fs._cat_file, f"{b}/d/a"),
        ["get_object b/d/a"],
    ),
    "call_s3": (
        lambda fs, b, _: fs.call_s3("list_objects_v2", Bucket=b, Prefix="d/"),
        [_FIND],
    ),
}
_KINDS = {
    "get": Kind.READ,
    "head": Kind.READ,
    "list": Kind.LIST,
    "delete": Kind.DELETE,
}


def _write(fs: Any, path: str, mode: str) -> None:
    with fs.open(path, mode) as file:
        file.write(b"more")


def _file(folder: Path) -> str:
    (folder / "file").write_bytes(b"1")
    return str(folder / "file")


@pytest.fixture(scope="module")
def watched(places: dict[str, Place]) -> Iterator[ConnectorS3FileSystem]:
    """Open a filesystem whose operations are written down."""
    enabled = {"enabled": ["recorder", "retry"], "retry": RETRY}
    with places["s3"].kit_with(policies=enabled) as kit:
        kit.register(_Plugin(), "recorder")
        yield kit.resolve("it").fs


class TestOperations:
    """Each request is one attempt of one operation, by the service's own name."""

    @pytest.mark.parametrize("method", _METHODS)
    def test_of_each_method(
        self, watched: ConnectorS3FileSystem, s3: Place, method: str, tmp_path: Path
    ) -> None:
        """Its operations are these, of these kinds and paths, parts of a call (F5).

        The proxy counts one request for each.
        """
        bucket = s3.server.bucket()
        for name in ("d/a", "d/e/b"):
            s3.store.put_object(Bucket=bucket, Key=name, Body=b"content")
        Recorder.ended_ops.clear()
        do, expected = _METHODS[method]
        do(watched, bucket, tmp_path)

        seen = Recorder.ended_ops
        named = [f"{op.name} {op.path}".replace(bucket, "b", 1) for op in seen]
        assert sorted(named) == sorted(expected)
        assert {op.bucket.removesuffix("-2") for op in seen} == {bucket}
        assert len(s3.proxy.log) == sum(op.attempts for op in seen) == len(seen)
        assert sorted(s3.asked().elements()) == sorted(op.name for op in seen)
        for op in seen:
            kind = _KINDS.get(op.name.partition("_")[0], Kind.WRITE)
            assert op.kind is kind
            assert op.call is not None

    def test_parts_of_one_call(
        self, watched: ConnectorS3FileSystem, s3: Place, key: str
    ) -> None:
        """The parts of one read are of one call, and those of two reads are not."""
        s3.put(key, _CONTENT)
        Recorder.ended_ops.clear()
        watched.cat_file(s3.path(key), chunksize=_STEP)
        watched.cat_file(s3.path(key))
        *parts, other = Recorder.ended_ops
        assert len({id(op.call) for op in parts}) == 1
        assert other.call is not parts[0].call

    @pytest.mark.parametrize("times", [1, 2])
    def test_attempts_are_requests(
        self, watched: ConnectorS3FileSystem, s3: Place, key: str, times: int
    ) -> None:
        """An operation that is tried again has as many attempts as requests came."""
        s3.put(key, _CONTENT)
        s3.proxy.inject(ResetBeforeReply(), times=times)
        Recorder.ended_ops.clear()
        watched.cat_file(s3.path(key))
        (op,) = Recorder.ended_ops
        assert op.attempts == len(s3.proxy.log) == times + 1
        assert op.bytes == len(_CONTENT)

    def test_bytes_are_counted_once(
        self, watched: ConnectorS3FileSystem, s3: Place, key: str
    ) -> None:
        """What an upload sends in parts is not counted again when it is completed."""
        Recorder.ended_ops.clear()
        watched.pipe_file(s3.path(key), bytes(12 << 20), chunksize=5 << 20)
        names = [op.name for op in Recorder.ended_ops]
        assert names.count("upload_part") == 3
        assert names[-1] == "complete_multipart_upload"
        assert sum(op.bytes for op in Recorder.ended_ops) == 12 << 20


class TestStandingAlone:
    """The class without a kit, made with s3fs's own arguments."""

    def arguments(self, place: Place) -> dict[str, Any]:
        """Return s3fs's arguments for a place."""
        return {
            "key": place.server.key,
            "secret": place.server.secret,
            "endpoint_url": place.proxy.url,
            "skip_instance_cache": True,
        }

    @pytest.mark.parametrize(
        "more",
        [
            {},
            {"config_kwargs": {"retries": {"total_max_attempts": 9}}},
            {"config_kwargs": {"retries": {"mode": "legacy", "max_attempts": 9}}},
            {"config_kwargs": {"retries": {"mode": "adaptive"}}},
            {"cache_regions": True},
        ],
    )
    def test_default_policies(self, s3: Place, key: str, more: dict[str, Any]) -> None:
        """They are those of connectors that name none; no others try again (F2)."""
        s3.put(key, _CONTENT)
        fs = ConnectorS3FileSystem(**self.arguments(s3), **more)
        names = [policy.name for policy in fs.pipeline.policies]
        assert {"deadline", "retry", "pace", "breaker", "timeout"} <= {*names}
        scope = fs.pipeline.scope
        scope.clock, scope.random = VirtualClock(), lambda: 1.0
        s3.proxy.inject(Status(503), times=None)
        with pytest.raises(OSError, match="Injected"):
            fs.cat_file(s3.path(key))
        assert s3.asked() == {"get_object": ATTEMPTS}
        s3.proxy.heal()
        scope.clock.advance(3600)
        assert fs.cat_file(s3.path(key)) == _CONTENT

    @pytest.mark.parametrize(
        "variables",
        [
            {"AWS_NEW_RETRIES_2026": "true"},
            {"AWS_RETRY_MODE": "adaptive", "AWS_MAX_ATTEMPTS": "9"},
        ],
    )
    def test_variables(
        self,
        s3: Place,
        key: str,
        variables: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """No variable of botocore's makes it try again (F2)."""
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with s3.kit_with(policies={"enabled": []}) as kit:
            s3.proxy.inject(Status(500), times=None)
            with pytest.raises(OSError, match="Injected"):
                kit.resolve("it").fs.cat_file(s3.path(key))
        assert s3.asked() == {"get_object": 1}

    def test_paths(self, s3: Place, key: str) -> None:
        """It takes paths as s3fs does, with `s3://` and without."""
        s3.put(key, _CONTENT)
        fs = ConnectorS3FileSystem(**self.arguments(s3))
        assert fs.cat_file(f"s3://{s3.path(key)}") == _CONTENT


# Ways to look that fsspec or s3fs answers by a no, or by nothing, when it is refused.
_LOOKS: dict[str, Callable[[Any, str], Any]] = {
    "exists": lambda fs, b: fs.exists(f"{b}/key"),
    "exists, a bucket": lambda fs, b: fs.exists(b),
    "isfile": lambda fs, b: fs.isfile(f"{b}/key"),
    "isdir": lambda fs, b: fs.isdir(f"{b}/folder"),
    "isdir, a bucket": lambda fs, b: fs.isdir(b),
    "info": lambda fs, b: fs.info(f"{b}/key"),
    "ls": lambda fs, b: fs.ls(f"{b}/folder"),
    "ls, the root": lambda fs, _: fs.ls(""),
    "find": lambda fs, b: fs.find(f"{b}/folder"),
    "glob": lambda fs, b: fs.glob(f"{b}/folder/*"),
    "walk": lambda fs, b: [*fs.walk(f"{b}/folder")],
    "walk upwards": lambda fs, b: [*fs.walk(f"{b}/folder", topdown=False)],
    "du": lambda fs, b: fs.du(f"{b}/folder"),
    "cat_ranges": lambda fs, b: fs.cat_ranges([f"{b}/key"], [0], [1]),
    "cat": lambda fs, b: fs.cat(f"{b}/key"),
    "rm": lambda fs, b: fs.rm(f"{b}/folder", recursive=True),
    "mkdir": lambda fs, b: fs.mkdir(b),
    "touch": lambda fs, b: fs.touch(f"{b}/key", truncate=False),
    "open to append": lambda fs, b: fs.open(f"{b}/key", "ab"),
    "checksum": lambda fs, b: fs.checksum(f"{b}/key"),
}


class TestRefusals:
    """What the service says is raised: no empty list, no False, no silence."""

    @pytest.mark.parametrize(
        ("status", "family"), [(503, OSError), (403, PermissionError)]
    )
    @pytest.mark.parametrize("look", _LOOKS)
    def test_looks(
        self, s3: Place, look: str, status: int, family: type[Exception]
    ) -> None:
        """A busy service and a refusal are no answer to what was asked (E12)."""
        s3.proxy.inject(Status(status), times=None)
        with pytest.raises(family) as caught:
            _LOOKS[look](s3.fs, s3.bucket)
        assert not isinstance(caught.value, FileNotFoundError)
        answer = caught.value.__cause__.response  # type: ignore[union-attr]
        assert answer["ResponseMetadata"]["HTTPStatusCode"] == status

    @pytest.mark.parametrize("status", [503, 403])
    def test_below_the_first_folder(self, s3: Place, key: str, status: int) -> None:
        """A walk ends where a folder cannot be listed, unless it is told otherwise."""
        s3.put(f"{key}/below/name", b"x")
        refusal = Status(status)
        s3.proxy.inject(refusal, times=None, when=lambda r: "below" in str(r.query))
        path = s3.path(key)
        with pytest.raises(OSError, match="Injected"):
            [*s3.fs.walk(path)]
        told: list[Exception] = []
        assert [*s3.fs.walk(path, on_error="omit")] == [
            *s3.fs.walk(path, on_error=told.append)
        ]
        assert len(told) == 1

    def test_the_folder_above(self, s3: Place, key: str) -> None:
        """A listing that finds nothing, and is refused the folder above, is refused."""
        s3.put(key, b"x")
        s3.proxy.inject(Status(503), times=None, after=1)
        with pytest.raises(OSError, match="Injected") as caught:
            s3.fs.ls(s3.path(key))
        assert not isinstance(caught.value, FileNotFoundError)

    def test_of_single_keys(self) -> None:
        """What could not be deleted among many is named, and by its code.

        At a stub, since no server here refuses single keys.
        """
        errors = (
            b"<Error><Key>b</Key><Code>AccessDenied</Code><Message>No</Message></Error>"
            b"<Error><Key>c</Key><Code>AccessDenied</Code><Message>No</Message></Error>"
        )

        def answer(request: StubRequest) -> Answer:
            if request.method == "HEAD":
                return Answer(200)
            return Answer(200, b"<DeleteResult>%s</DeleteResult>" % errors)

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            fs = kit.resolve("it").fs
            with pytest.raises(
                PermissionError, match=r"bucket/b .*and 1 more: AccessDenied: No"
            ):
                fs.rm([f"bucket/{name}" for name in "abc"])

    def test_a_folder_that_is_no_object(self, minio: Place, key: str) -> None:
        """Where folders cannot be deleted, it is enough that they are no objects."""
        for name in ("a", "b/c"):
            minio.put(f"{key}/{name}", b"x")
        minio.fs.rm(minio.path(key), recursive=True)
        assert minio.fs.find(minio.path(key)) == []

    def test_what_is_missing_is_missing(self, place: Place, key: str) -> None:
        """A 404 is a no: False, an empty list, or FileNotFoundError."""
        path = place.path(key)
        assert not place.fs.exists(path)
        assert not place.fs.isfile(path)
        assert not place.fs.isdir(path)
        assert not place.fs.exists("no-such-bucket-anywhere")
        assert not place.fs.isdir("no-such-bucket-anywhere")
        assert place.fs.find(path) == []
        assert [*place.fs.walk(path)] == [(path, [], [])]
        with pytest.raises(FileNotFoundError):
            place.fs.ls(path)
        with pytest.raises(FileNotFoundError):
            place.fs.cat_file(path)


async def _ended() -> None:
    """Wait until all else on the loop has ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)


class TestErrors:
    """Errors keep their family, their words and their cause."""

    def test_a_timeout_keeps_its_words(self, s3: Place, key: str) -> None:
        """RequestTimeout is a TimeoutError with what the service said.

        fsspec's own bridge would raise one without a word.
        """
        s3.proxy.inject(Status(400, "RequestTimeout", message="Idle."), times=None)
        with pytest.raises(TimeoutError, match="Idle") as caught:
            s3.fs.cat_file(s3.path(key))
        assert caught.value.__cause__ is not None
        assert s3.asked() == {"get_object": ATTEMPTS}

    @pytest.mark.parametrize(
        "answer",
        [
            Status(404),
            Status(403),
            Status(412),
            Status(416),
            Status(400, "InvalidArgument"),
            Status(501, "NotImplemented"),
            Status(403, "RequestTimeTooSkewed"),
        ],
        ids=repr,
    )
    def test_answers_are_not_tried_again(
        self, s3: Place, key: str, answer: Status
    ) -> None:
        """s3fs makes an OSError of each; what the service said of it decides (F4)."""
        s3.put(key, _CONTENT)
        s3.proxy.inject(answer, times=None)
        with pytest.raises(OSError, match="Injected"):
            s3.fs.cat_file(s3.path(key))
        assert s3.asked() == {"get_object": 1}

    def test_what_cannot_be_sent(self, s3: Place) -> None:
        """A line break in a key's name is the host's mistake: it is tried once."""
        settings = {**s3.settings, "key": "AKIA\nEXAMPLE"}
        policies = {"enabled": ["retry", "breaker"], "retry": RETRY}
        connector = {"type": "s3", "settings": settings}
        with s3.kit_with(policies=policies, connectors={"it": connector}) as kit:
            for _ in range(6):
                with pytest.raises(BotoCoreError, match="character") as caught:
                    kit.resolve("it").fs.cat_file(s3.path("key"))
                assert not hasattr(caught.value, "__notes__")
        assert s3.proxy.log == []

    def test_bodies_that_break_open_the_circuit(self, s3: Place, key: str) -> None:
        """A body belongs to its attempt: one that breaks is no success of its header.

        By its default numbers the circuit is open after five of them in a row.
        """
        s3.put(key, _CONTENT)
        policies = {"enabled": ["retry", "breaker"], "retry": RETRY}
        with s3.kit_with(policies=policies) as kit:
            fs = kit.resolve("it").fs
            s3.proxy.inject(ResetMidBody(), times=None)
            with pytest.raises((aiohttp.ClientError, BotoCoreError)):
                fs.cat_file(s3.path(key))
            with pytest.raises(CircuitOpen) as caught:
                fs.cat_file(s3.path(key))
            assert caught.value.circuit == "download"
            assert s3.asked() == {"get_object": 5}

    def test_cancelled_is_no_result(self, s3: Place, key: str) -> None:
        """Who waits for a call that is cancelled beneath hears of it (F1)."""
        s3.put(key, _CONTENT)
        s3.proxy.inject(Stall())
        results: list[Any] = []

        def read() -> None:
            try:
                results.append(s3.fs.cat_file(s3.path(key)))
            except Exception as error:  # noqa: BLE001 - looked at below
                results.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        s3.proxy.wait_stalled()

        async def cancel() -> None:
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()

        sync(s3.fs.loop, cancel)
        thread.join(30)
        assert isinstance(results[0], CallCancelled)
        assert s3.fs.in_flight == 0

    def test_a_drip_ends(self, place: Place, key: str) -> None:
        """What comes too slowly is given up when the attempt's time is up.

        What has come is kept: each attempt asks for the rest.
        """
        place.put(key, _CONTENT)
        place.proxy.inject(Drip(size=100, interval=0.05), times=None)
        policies = {"enabled": ["retry", "timeout"], "retry": RETRY}
        policies["timeout"] = {"seconds": 0.5, "slowest": 1e9}
        with place.kit_with(SYSTEM_CLOCK, policies=policies) as kit:
            fs = kit.resolve("it").fs
            with pytest.raises(AttemptTimedOut):
                fs.cat_file(place.path(key))
            assert fs.in_flight == 0
        assert place.asked() == {"get_object": ATTEMPTS}

    def test_a_copy_that_is_none(self) -> None:
        """Where a copy is taken for an upload of nothing, the source is not deleted.

        At a stub that answers so.
        """
        head = {"Content-Length": "9", "ETag": '"a-tag"'}

        def answer(request: StubRequest) -> Answer:
            if request.method == "HEAD":
                return Answer(200, b"", head)
            if request.method == "GET":
                return Answer(200, b"<ListBucketResult></ListBucketResult>")
            return Answer(200, b"", {"ETag": '"of-nothing"'})

        with Stub(answer) as stub, kit_at("s3", settings_for("s3", stub)) as kit:
            with pytest.raises(WrongAnswer, match="unable"):
                kit.resolve("it").fs.mv("bucket/from", "bucket/to")
            assert stub.asked("POST") == []
            assert stub.asked("DELETE") == []

    @pytest.mark.parametrize(
        "operation",
        ["create_multipart_upload", "upload_part", "complete_multipart_upload"],
    )
    def test_a_cancelled_upload(self, s3: Place, key: str, operation: str) -> None:
        """Wherever it is cancelled, what was there stays, and no upload."""
        s3.put(key, b"old")
        s3.proxy.inject(Stall(), when=operation)
        part = bytes(5 << 20)
        work = s3.fs._pipe_file(s3.path(key), part * 2, chunksize=len(part))
        assert s3.fs.loop is not None
        sending = asyncio.run_coroutine_threadsafe(work, s3.fs.loop)
        s3.proxy.wait_stalled()
        sending.cancel()
        sync(s3.fs.loop, _ended)
        assert s3.content(key) == b"old"
        assert s3.uploads(key) == []
        assert s3.fs.in_flight == 0

    def test_an_expired_token_of_a_head(self, place: Place, key: str) -> None:
        """The answer to HEAD tells no code: a 400 is taken for what can be mended."""
        place.put(key, _CONTENT)
        place.proxy.inject(Status(400, "ExpiredToken"))
        assert place.fs.size(place.path(key)) == len(_CONTENT)
        assert place.asked() == {"head_object": 2}
        place.proxy.inject(Status(400, "ExpiredToken"), times=None)
        with pytest.raises(OSError, match="Bad Request"):
            place.fs.size(place.path(key))


class Spent(io.BytesIO):
    """A body that cannot go back once it is `spent`."""

    spent = False

    def seek(self, *where: int) -> int:
        if self.spent:
            raise OSError("it is gone")
        return super().seek(*where)


class TestBodies:
    """What is sent again is what was sent, or it is not sent again (E6)."""

    @pytest.mark.parametrize("fault", [Status(503), ResetBeforeReply(), LoseReply()])
    @pytest.mark.parametrize("kind", ["bytes", "bytearray", "BytesIO", "file"])
    def test_the_same_bytes(
        self, place: Place, key: str, kind: str, fault: Any, tmp_path: Path
    ) -> None:
        """Bytes and files are sent from where they stood."""
        (tmp_path / "file").write_bytes(_CONTENT)
        make: dict[str, Callable[[], Any]] = {
            "bytes": lambda: _CONTENT,
            "bytearray": lambda: bytearray(_CONTENT),
            "BytesIO": lambda: io.BytesIO(_CONTENT),
            "file": lambda: (tmp_path / "file").open("rb"),
        }
        body = make[kind]()
        expected = _CONTENT
        if hasattr(body, "seek"):
            body.seek(100)
            expected = _CONTENT[100:]
        place.proxy.inject(fault, times=2)
        place.fs.call_s3("put_object", Bucket=place.bucket, Key=key, Body=body)
        if hasattr(body, "close"):
            body.close()
        assert place.asked() == {"put_object": 3}
        assert place.content(key) == expected

    def test_what_can_be_read_once(self, place: Place, key: str) -> None:
        """It is sent once; why that failed stands behind the error."""
        place.put(key, b"old")
        body = Spent(_CONTENT)

        def spend(_: object) -> bool:
            body.spent = True
            return True

        place.proxy.inject(Status(503), when=spend)
        with pytest.raises(NotReplayable, match="read only once") as caught:
            place.fs.call_s3("put_object", Bucket=place.bucket, Key=key, Body=body)
        assert "Injected" in str(caught.value.__cause__)
        assert place.asked() == {"put_object": 1}
        assert place.content(key) == b"old"

    def test_a_generator(self, minio: Place, key: str) -> None:
        """Botocore takes none; nothing is sent."""
        body = (piece for piece in [_CONTENT])
        with pytest.raises(BotoCoreError, match="generator"):
            minio.fs.call_s3("put_object", Bucket=minio.bucket, Key=key, Body=body)
        assert minio.proxy.log == []

    def test_a_pipe(self, minio: Place, key: str) -> None:
        """What comes from a pipe, which botocore cannot sign, is not sent in part."""
        minio.put(key, b"old")
        minio.proxy.inject(Status(503), times=None)
        reader, writer = os.pipe()
        with os.fdopen(reader, "rb") as body, os.fdopen(writer, "wb") as end:
            end.write(b"content")
            end.close()
            with pytest.raises((NotReplayable, BotoCoreError, OSError, TypeError)):
                minio.fs.call_s3("put_object", Bucket=minio.bucket, Key=key, Body=body)
        assert len(minio.proxy.log) <= 1
        assert minio.content(key) == b"old"
