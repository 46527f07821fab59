"""What goes over the wire to Google, where its emulator is no Google.

At a service in this process that keeps to Google's documentation, and does not when a
test says so.
"""

from __future__ import annotations

import asyncio
import gc
import gzip
import pickle
import re
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import google.auth.exceptions
import pytest
from google.oauth2.credentials import Credentials
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connectorkit import ConnectorKit, Fault, Operation, Policy, hookimpl
from connectorkit.errors import CallCancelled, ObjectChanged, WrongAnswer
from connectorkit.testing import VirtualClock
from connectorkit.testing.operations import operation_of
from connectorkit_gcs import folders
from connectorkit_gcs.faults import Refusal, classify, refuse
from connectorkit_gcs.filesystem import ConnectorGCSFileSystem
from connectorkit_gcs.json_client import HttpError
from contracts.stub import DROP, Answer, Request, Stub
from faults.gcs_service import Google, Script, gcs_error
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit import Verdict

_UNIT = 1 << 18
_ATTEMPTS = 4
_RETRY = {
    "attempts": _ATTEMPTS,
    "base_delay": 0,
    "budget_ratio": None,
    "budget_burst": None,
}
_CONTENT = bytes(range(256)) * 40
# What a call may end with that meets a fault of the network or of the service.
_FAILURES = (OSError, HttpError, aiohttp.ClientError)


class Counts(Policy):
    """Counts the attempts of each operation, and remembers the operations."""

    name = "counts"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.attempts: Counter[str] = Counter()
        self.operations: list[Operation] = []

    def ended(self, op: Operation, error: BaseException | None) -> None:
        del error
        self.attempts[op.name] += op.attempts
        self.operations.append(op)


class _Teaches:
    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Counts]


class Wire:
    """A service, a filesystem of it, and what went between the two."""

    def __init__(self, stub: Stub, fs: Any, counts: Counts) -> None:
        self.stub = stub
        self.fs = fs
        self.counts = counts
        self.google = Google()
        self.begin()

    def begin(self, *steps: str, of: str | None = None) -> Google:
        """Begin with an empty bucket.

        Args:
            steps: What `Script` does.
            of: To requests of which operation.
        """
        self.google = google = Google()
        self.stub.answer = Script(google, list(steps), _is(of))
        self.stub.requests.clear()
        self.counts.attempts.clear()
        self.counts.operations.clear()
        return google

    def misbehave(self, answer: Callable[[Request], Answer | None]) -> None:
        """Let a function answer; where it does not, the service does."""
        google = self.google

        def either(request: Request) -> Answer:
            return answer(request) or google(request)

        self.stub.answer = either

    def requests(self) -> Counter[str]:
        """Return what was asked, by the names that the fault proxy has for it."""
        return Counter(map(_name, self.stub.requests))

    def assert_counted(self) -> None:
        """See that each request was an attempt of the operation of its name."""
        assert self.counts.attempts == self.requests()


def _name(request: Request) -> str:
    return operation_of(request.method, request.path, request.query, request.headers)


def _is(operation: str | None) -> Callable[[Request], bool]:
    return lambda request: operation in {None, _name(request)}


@pytest.fixture(scope="module")
def _wire() -> Iterator[Wire]:
    def nothing(_: Request) -> Answer:
        raise AssertionError

    with Stub(nothing) as stub:
        config = {
            "connectors": {
                "it": {
                    "type": "gcs",
                    "settings": {
                        "token": "anon",
                        "project_id": "project",
                        "endpoint_url": stub.endpoint_url,
                    },
                    "policies": ["retry", "counts"],
                    "retry": _RETRY,
                }
            }
        }
        with ConnectorKit(config, clock=VirtualClock()) as kit:
            kit.register(_Teaches(), "counts")
            connector = kit.resolve("it")
            [counts] = [p for p in connector._policies if isinstance(p, Counts)]
            yield Wire(stub, connector.fs, counts)


@pytest.fixture
def wire(_wire: Wire) -> Wire:
    """Begin with an empty bucket."""
    _wire.begin()
    return _wire


# Examples share a filesystem and begin with a bucket of their own.
_sharing = settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


class TestOperations:
    """Each request is one operation, by the name that the fault proxy has for it."""

    def test_of_each_call(self, wire: Wire, tmp_path: Path) -> None:
        """Calls make the requests that they need, and no others."""
        fs, path = wire.fs, "bucket/folder/key"
        local = tmp_path / "file"
        local.write_bytes(_CONTENT)
        long = bytes(2 * _UNIT)
        calls: list[tuple[Callable[[], object], list[str]]] = [
            (lambda: fs.pipe_file(path, _CONTENT), ["objects.insert"]),
            (lambda: fs.put_file(str(local), path), ["objects.insert"]),
            (lambda: fs.cat_file(path), ["objects.download"]),
            (lambda: fs.cat_file(path, 1, 9), ["objects.download"]),
            (lambda: fs.cat_file(path, start=-9), ["objects.download"]),
            (lambda: fs.cat_file(path, 5, 5), []),
            (lambda: fs.cat_file(path, 1, -1), ["objects.get", "objects.download"]),
            (lambda: fs.get_file(path, str(local)), ["objects.download"]),
            (lambda: fs.info(path), ["objects.get"]),
            (lambda: fs.info("bucket/folder"), ["objects.get", "objects.list"]),
            (lambda: fs.exists("bucket/no"), ["objects.get", "objects.list"]),
            (lambda: fs.info("bucket"), ["buckets.get"]),
            (lambda: fs.ls(""), ["buckets.list"]),
            (lambda: fs.ls("bucket/folder"), ["objects.list"]),
            (lambda: fs.find("bucket"), ["objects.list"]),
            (lambda: fs.cp_file(path, f"{path}2"), ["objects.rewrite"]),
            (lambda: fs.mv_file(f"{path}2", f"{path}3"), ["objects.move"]),
            (lambda: fs.rm_file(f"{path}3"), ["objects.delete"]),
            (
                lambda: fs.pipe_file(path, long, chunksize=_UNIT),
                ["resumable.start", *["resumable.upload"] * 2],
            ),
            (lambda: _write(fs, path, b"short"), ["objects.insert"]),
            (lambda: _write(fs, path, b""), ["objects.insert"]),
            (
                lambda: _write(fs, path, long),
                ["resumable.start", *["resumable.upload"] * 3],
            ),
            (lambda: fs.open(path).read(), ["objects.get", "objects.download"]),
        ]
        for number, (call, names) in enumerate(calls):
            wire.stub.requests.clear()
            wire.counts.attempts.clear()
            call()
            assert [_name(each) for each in wire.stub.requests] == names, number
            wire.assert_counted()

    def test_facts(self, wire: Wire) -> None:
        """An operation knows its bucket, its path, its size and its bytes."""
        wire.fs.pipe_file("bucket/a/b", b"content")
        assert wire.fs.cat_file("bucket/a/b", 1, 5) == b"onte"
        put, read = wire.counts.operations
        for op, size in ((put, 7), (read, 4)):
            assert (op.bucket, op.path) == ("bucket", "bucket/a/b")
            assert (op.size, op.bytes) == (size, size)

    def test_an_empty_last_chunk(self, wire: Wire) -> None:
        """An object as long as its chunks is complete, and its bytes are all there."""
        long = bytes(2 * _UNIT)
        _write(wire.fs, "bucket/key", long)
        assert wire.google.objects["key"].content == long


def _write(fs: Any, path: str, content: bytes, **options: Any) -> None:
    with fs.open(path, "wb", block_size=_UNIT, **options) as file:
        file.write(content[:_UNIT])
        file.write(content[_UNIT:])


class TestReading:
    """What is read is one version, and just the range that was asked for."""

    @_sharing
    @given(
        size=st.integers(1, 5000),
        start=st.none() | st.integers(-5000, 5000),
        end=st.none() | st.integers(-5000, 5000),
        cuts=st.lists(st.integers(0, 5000), max_size=_ATTEMPTS - 1),
        how=st.sampled_from(["generation", "etag", "nothing"]),
    )
    def test_goes_on_where_it_broke_off(  # noqa: PLR0913, PLR0917 - each is an input
        self,
        wire: Wire,
        size: int,
        start: int | None,
        end: int | None,
        cuts: list[int],
        how: str,
    ) -> None:
        """However often a body breaks off, the bytes are those of a slice.

        By as many requests, whatever the service tells of the version.
        """
        google = wire.begin()
        content = (_CONTENT * 2)[:size]
        stored = google.put("key", content)
        left = list(cuts)

        def cut(request: Request) -> Answer | None:
            if _name(request) != "objects.download":
                return None
            answer = _by(how, google(request), stored.generation)
            assert isinstance(answer.body, bytes)
            if request.headers.get("if-match", '"tag"') != '"tag"':
                return gcs_error(412)
            if not left or answer.status >= 300:
                return answer
            length = {"Content-Length": str(len(answer.body))}
            at = min(left.pop(0), len(answer.body) - 1)
            return Answer(
                answer.status, _breaking(answer.body, at), {**answer.headers, **length}
            )

        wire.misbehave(cut)
        if (start or 0) >= size and (end is None or end > (start or 0)):
            with pytest.raises(HttpError, match="416"):
                wire.fs.cat_file("bucket/key", start=start, end=end)
            return
        assert (
            wire.fs.cat_file("bucket/key", start=start, end=end) == (content[start:end])
        )
        wire.assert_counted()
        broken = len(cuts) - len(left)
        if content[start:end]:
            assert wire.requests()["objects.download"] == broken + 1

    @pytest.mark.parametrize("how", ["generation", "etag", "nothing"])
    @pytest.mark.parametrize("name", ["cat_file", "get_file"])
    def test_never_goes_on_in_another_version(
        self, wire: Wire, name: str, how: str, tmp_path: Path
    ) -> None:
        """What was replaced while it was read is an error, and no file is left."""
        google = wire.google
        google.put("key", _CONTENT)
        asked = 0

        def replaced(request: Request) -> Answer | None:
            nonlocal asked
            asked += 1
            if asked > 1 and how == "etag":
                assert request.headers["if-match"] == '"tag"'
                return gcs_error(412)
            stored = google.objects["key"]
            # A server that knows nothing of generations sends what is there.
            query = {"alt": "media"}
            if how == "generation":
                query.update(request.query)
            request = Request("GET", request.path, query, request.headers, b"")
            answer = _by(how, google(request), stored.generation)
            if asked > 1:
                return answer
            assert isinstance(answer.body, bytes)
            google.put("key", bytes(len(_CONTENT)))
            length = {"Content-Length": str(len(answer.body))}
            body = _breaking(answer.body, 5000)
            return Answer(200, body, {**answer.headers, **length})

        wire.misbehave(replaced)
        target = tmp_path / "file"
        args = [str(target)] if name == "get_file" else []
        with pytest.raises(ObjectChanged):
            getattr(wire.fs, name)("bucket/key", *args)
        assert asked == 2
        assert not [*tmp_path.iterdir()]

    def test_a_server_that_ignores_the_pin(self, wire: Wire) -> None:
        """An answer of another generation is an error, though it was not asked for."""
        google = wire.google
        google.put("key", _CONTENT)
        with wire.fs.open("bucket/key") as file:
            other = google.put("key", _CONTENT)
            wire.misbehave(
                lambda request: (
                    google._download(request, other)
                    if request.query.get("alt") == "media"
                    else None
                )
            )
            with pytest.raises(ObjectChanged):
                file.read(10)

    def test_removed_while_open(self, wire: Wire) -> None:
        """What is gone was changed: it was there when the file was opened."""
        wire.google.put("key", _CONTENT)
        with wire.fs.open("bucket/key") as file:
            del wire.google.objects["key"]
            with pytest.raises(ObjectChanged):
                file.read(10)
        with pytest.raises(FileNotFoundError):
            wire.fs.cat_file("bucket/key")

    @_sharing
    @given(
        first=st.integers(0, 40),
        length=st.integers(0, 40),
        total=st.integers(0, 40) | st.just("*"),
        is_told=st.booleans(),
        status=st.sampled_from([200, 206]),
    )
    def test_a_range_is_the_one_asked_for(  # noqa: PLR0913, PLR0917 - each is an input
        self,
        wire: Wire,
        first: int,
        length: int,
        total: Any,
        is_told: bool,
        status: int,
    ) -> None:
        """Whatever bytes a server sends for a range, only the right ones are taken."""
        body = bytes(range(first, first + length))
        told = f"bytes {first}-{first + length - 1}/{total}"
        headers = {"Content-Range": told} if is_told else {}
        wire.misbehave(lambda _: Answer(status, body, headers))
        try:
            read = wire.fs.cat_file("bucket/key", start=5, end=30)
        except WrongAnswer:
            return
        assert is_told
        size = min(total, 30) - 5
        assert (first, length) == (5, max(0, size))
        assert read == body

    def test_a_part_for_the_whole(self, wire: Wire) -> None:
        """A part of an object is never taken for all of it."""
        told = {"Content-Range": "bytes 0-9/20"}
        wire.misbehave(lambda _: Answer(206, bytes(10), told))
        with pytest.raises(WrongAnswer):
            wire.fs.cat_file("bucket/key")

    @pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 304])
    def test_what_is_no_answer(self, wire: Wire, status: int) -> None:
        """The body of a redirect, or of any other status, is no object's."""
        wire.misbehave(lambda _: Answer(status, b"" if status in {204, 304} else b"x"))
        with pytest.raises((WrongAnswer, HttpError)):
            wire.fs.cat_file("bucket/key")

    def test_compressed_objects(self, wire: Wire, tmp_path: Path) -> None:
        """What is stored compressed is read as it is stored, however it is read."""
        packed = b"not even gzip, and nobody looks" * 100
        wire.google.put("key", packed, encoding="gzip")
        target = tmp_path / "file"
        wire.fs.get_file("bucket/key", str(target))
        assert target.read_bytes() == packed
        assert wire.fs.cat_file("bucket/key") == packed
        assert wire.fs.cat_file("bucket/key", 3, 10) == packed[3:10]
        assert wire.fs.open("bucket/key").read() == packed

    @pytest.mark.parametrize(
        "headers",
        [
            {"Content-Encoding": "gzip"},
            {"x-goog-stored-content-encoding": "gzip"},
            {"Content-Encoding": "br", "x-goog-stored-content-encoding": "gzip"},
        ],
    )
    def test_recoded_on_the_way(self, wire: Wire, headers: dict[str, str]) -> None:
        """What comes packed or unpacked otherwise than it is stored is an error."""
        wire.misbehave(lambda _: Answer(200, b"content", headers))
        with pytest.raises(WrongAnswer):
            wire.fs.cat_file("bucket/key")

    @pytest.mark.parametrize("is_told", [True, False])
    def test_many_ranges_at_a_time(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, is_told: bool, tmp_path: Path
    ) -> None:
        """A long object is read in ranges of one version, if the service names one."""
        monkeypatch.setattr("connectorkit_gcs.transfers._ONE_STREAM", 1000)
        monkeypatch.setattr(wire.fs, "MIN_CHUNK_SIZE_FOR_CONCURRENCY", 1000)
        stored = wire.google.put("key", _CONTENT)
        if not is_told:
            wire.misbehave(lambda request: _by("nothing", wire.google(request), ""))
        target = tmp_path / "file"
        wire.fs.get_file("bucket/key", str(target), chunk_size=3000)
        assert target.read_bytes() == _CONTENT
        assert wire.fs.cat_file("bucket/key", concurrency=4) == _CONTENT
        assert wire.fs.cat_file("bucket/key", 10, None, concurrency=4) == _CONTENT[10:]
        ranged = [each for each in wire.stub.requests if "range" in each.headers]
        assert len(ranged) == (10 if is_told else 1)
        if is_told:
            pins = [each.query.get("generation") for each in ranged]
            # Of the last call the first request learned the version.
            assert Counter(pins) == {stored.generation: 9, None: 1}

    def test_one_of_many_ranges_fails(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The error of one range ends the download, and the old file stays."""
        monkeypatch.setattr("connectorkit_gcs.transfers._ONE_STREAM", 1000)
        wire.google.put("key", _CONTENT)
        wire.misbehave(
            lambda request: (
                gcs_error(403)
                if "bytes=6000-" in request.headers.get("range", "")
                else None
            )
        )
        target = tmp_path / "file"
        target.write_bytes(b"old")
        with pytest.raises(PermissionError):
            wire.fs.get_file("bucket/key", str(target), chunk_size=3000)
        assert [each.read_bytes() for each in tmp_path.iterdir()] == [b"old"]

    def test_a_folder_is_no_file(self, wire: Wire) -> None:
        """To open a folder for reading is an error, not an empty file."""
        wire.google.put("folder/key", b"x")
        with pytest.raises(FileNotFoundError):
            wire.fs.open("bucket/folder")

    def test_an_open_file_travels_with_its_version(self, wire: Wire) -> None:
        """A pickled file goes on in the version that it was opened in, or fails."""
        wire.google.put("key", _CONTENT)
        with wire.fs.open("bucket/key") as file:
            function, args = file.__reduce__()
        assert function(*args).read() == _CONTENT
        wire.google.put("key", _CONTENT)
        with pytest.raises(FileNotFoundError):
            function(*args)

    def test_cancelled_beneath(
        self, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A read that is cancelled beneath its caller is an error, not None (F1)."""
        wire.google.put("key", _CONTENT)

        async def cancelled(*_args: Any, **_options: Any) -> bytes:
            raise asyncio.CancelledError

        with wire.fs.open("bucket/key") as file, monkeypatch.context() as patch:
            patch.setattr(wire.fs, "read_range", cancelled)
            with pytest.raises(CallCancelled):
                file.read(10)
        monkeypatch.setattr(wire.fs, "read_range", cancelled)
        with (
            wire.fs.open("bucket/key", cache_type="none") as file,
            pytest.raises(CallCancelled),
        ):
            file.read(10)


def _by(how: str, answer: Answer, generation: str) -> Answer:
    """Tell the version by a generation, an ETag, or not at all."""
    headers = {k: v for k, v in answer.headers.items() if k != "x-goog-generation"}
    if how == "generation":
        headers["x-goog-generation"] = generation
    elif how == "etag":
        headers["ETag"] = '"tag"'
    return Answer(answer.status, answer.body, headers)


def _breaking(body: bytes, at: int) -> Iterator[bytes]:
    yield body[:at]
    raise ConnectionAbortedError


class TestUploading:
    """An object appears whole, or not at all."""

    @_sharing
    @given(
        steps=st.lists(
            st.sampled_from(["ok", "ok", "drop", "busy", "lost", "failed"]), max_size=12
        ),
        takes=st.sampled_from([1, 2, 3]),
        rest=st.integers(0, 3),
    )
    def test_whatever_befalls_the_chunks(
        self, wire: Wire, steps: list[str], takes: int, rest: int
    ) -> None:
        """The object is what was written, or there is none, and no upload is open."""
        google = wire.begin(*steps, of="resumable.upload")
        google.takes = lambda size: min(size, takes * _UNIT)
        content = (_CONTENT * 200)[: 5 * _UNIT + rest]
        try:
            wire.fs.pipe_file("bucket/key", content, chunksize=3 * _UNIT)
        except _FAILURES as error:
            assert f"{_ATTEMPTS} attempts" in error.__notes__[0]
            stored = google.objects.get("key")
            assert stored is None or stored.content == content
        else:
            assert google.objects["key"].content == content
        assert not google.open_uploads
        wire.assert_counted()

    @pytest.mark.parametrize("step", ["lost", "failed"])
    @pytest.mark.parametrize("mode", ["wb", "xb"])
    def test_last_chunk_is_not_answered(self, wire: Wire, step: str, mode: str) -> None:
        """An upload that ended unheard is asked about, and has succeeded."""
        google = wire.begin("ok", "ok", step, of="resumable.upload")
        with wire.fs.open("bucket/key", mode, block_size=_UNIT) as file:
            file.write(_CONTENT * 60)
        assert google.objects["key"].content == _CONTENT * 60

    @pytest.mark.parametrize("status", [404, 410])
    def test_session_is_gone(self, wire: Wire, status: int) -> None:
        """Where the service forgot an upload, the object tells whether it is done."""
        is_done = False

        def forget(request: Request) -> Answer | None:
            nonlocal is_done
            if _name(request) != "resumable.upload":
                return None
            if is_done:
                return gcs_error(status)
            answer = wire.google(request)
            is_done = answer.status == 200
            return DROP if is_done else answer

        wire.misbehave(forget)
        _write(wire.fs, "bucket/key", bytes(2 * _UNIT + 1))
        assert wire.requests()["objects.get"] == 1
        # And where it is another's, it does not.
        is_done = False
        google = wire.google

        def replace(request: Request) -> Answer | None:
            answer = forget(request)
            if is_done:
                google.put("key", b"another's")
            return answer

        wire.misbehave(replace)
        with pytest.raises((FileNotFoundError, HttpError)):
            _write(wire.fs, "bucket/key", bytes(2 * _UNIT + 1))

    @pytest.mark.parametrize(
        ("told", "status"),
        [("bytes=0-9999999", 308), ("", 308), ("", 200), ("bytes=5-9", 308)],
    )
    def test_nonsense_about_an_upload(self, wire: Wire, told: str, status: int) -> None:
        """A service that says what cannot be ends the upload, with no end of asking."""
        wire.misbehave(
            lambda request: (
                Answer(status, b"{}", {"Range": told} if told else {})
                if request.method == "PUT"
                else None
            )
        )
        with pytest.raises(WrongAnswer):
            _write(wire.fs, "bucket/key", bytes(3 * _UNIT))
        assert wire.requests()["resumable.upload"] <= 2
        assert not wire.google.uploads

    def test_other_bytes_are_stored(self, wire: Wire) -> None:
        """An object that is not what was written is an error."""
        wire.misbehave(
            lambda request: (
                Answer.json({"md5Hash": "AAAA"}) if request.method == "POST" else None
            )
        )
        with pytest.raises(WrongAnswer):
            _write(wire.fs, "bucket/key", b"content")

    @pytest.mark.parametrize("size", [10, 3 * _UNIT])
    def test_exception_within_the_with(self, wire: Wire, size: int) -> None:
        """What is written before an exception is dropped; the old object stays."""
        wire.google.put("key", b"old")

        def fail() -> None:
            with wire.fs.open("bucket/key", "wb", block_size=_UNIT) as file:
                file.write(bytes(size))
                raise KeyError

        with pytest.raises(KeyError) as it:
            fail()
        assert not hasattr(it.value, "__notes__")
        assert wire.google.objects["key"].content == b"old"
        assert not wire.google.uploads

    def test_flush_that_fails(self, wire: Wire) -> None:
        """A file whose chunk cannot be sent is dropped, and closes without a word."""
        wire.misbehave(
            lambda request: gcs_error(403) if request.method == "PUT" else None
        )
        file = wire.fs.open("bucket/key", "wb", block_size=_UNIT)
        with pytest.raises(PermissionError):
            file.write(bytes(_UNIT))
        assert file.closed
        file.close()
        assert not wire.google.objects
        assert not wire.google.uploads
        with pytest.raises(ValueError, match="not in write mode"):
            file.write(b"x")

    def test_upload_that_stays(self, wire: Wire) -> None:
        """An upload that cannot even be cancelled is told of by the first error."""
        wire.misbehave(
            lambda request: (
                gcs_error(403 if request.method == "PUT" else 500)
                if request.method in {"PUT", "DELETE"}
                else None
            )
        )
        with pytest.raises(PermissionError) as it:
            wire.fs.pipe_file("bucket/key", bytes(2 * _UNIT), chunksize=_UNIT)
        assert "could not be cancelled" in it.value.__notes__[-1]
        # Who knows it could go on with the upload.
        assert "upload_id" not in str(it.value) + it.value.__notes__[-1]
        assert wire.requests()["resumable.cancel"] == _ATTEMPTS

    def test_a_server_elsewhere(self, wire: Wire) -> None:
        """An upload goes on at the endpoint, whatever host the service names."""

        def elsewhere(request: Request) -> Answer | None:
            if _name(request) != "resumable.start":
                return None
            said = wire.google(request).headers["Location"]
            where = re.sub("//[^/]*", "//169.254.169.254", said)
            return Answer(200, b"", {"Location": where})

        wire.misbehave(elsewhere)
        _write(wire.fs, "bucket/key", bytes(2 * _UNIT))
        assert wire.google.objects["key"].content == bytes(2 * _UNIT)

    def test_content_like_a_boundary(self, wire: Wire) -> None:
        """What gcsfs would take for the end of an object is a part of it."""
        content = b"\r\n--==0==--\r\n--==0==\n\nand on\r"
        wire.fs.pipe_file("bucket/key", content)
        assert wire.google.objects["key"].content == content

    @pytest.mark.parametrize("size", [10, 2 * _UNIT])
    def test_transaction(self, wire: Wire, size: int) -> None:
        """A transaction's objects appear at its end, or not at all."""
        with wire.fs.transaction:
            with wire.fs.open("bucket/key", "wb", block_size=_UNIT) as file:
                file.write(bytes(size))
            assert not wire.google.objects
        assert wire.google.objects["key"].content == bytes(size)

        def fail() -> None:
            with wire.fs.transaction:
                with wire.fs.open("bucket/2", "wb", block_size=_UNIT) as file:
                    file.write(bytes(size))
                raise KeyError

        with pytest.raises(KeyError):
            fail()
        assert "2" not in wire.google.objects
        assert not wire.google.open_uploads

    def test_source_becomes_shorter(
        self, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A file that is cut off while it is uploaded makes no object."""
        monkeypatch.setattr("connectorkit_gcs.transfers._ONE_UPLOAD", _UNIT)
        source = tmp_path / "file"
        source.write_bytes(bytes(3 * _UNIT))

        def cut(request: Request) -> None:
            if request.method == "PUT":
                source.write_bytes(bytes(_UNIT))

        wire.misbehave(cut)
        with pytest.raises(OSError, match="became shorter"):
            wire.fs.put_file(str(source), "bucket/key", chunksize=_UNIT)
        assert not wire.google.objects
        assert not wire.google.uploads

    def test_append(self, wire: Wire) -> None:
        """To append is refused: gcsfs would replace the object."""
        wire.google.put("key", b"old")
        with pytest.raises(NotImplementedError):
            wire.fs.open("bucket/key", "ab")
        assert wire.google.objects["key"].content == b"old"

    def test_unclosed_file_that_nobody_holds(self, wire: Wire) -> None:
        """A file whose upload could not begin commits nothing when it is collected."""
        wire.begin("busy", "busy", "busy", "busy", of="resumable.start")
        file = wire.fs.open("bucket/key", "wb", block_size=_UNIT)
        with pytest.raises(HttpError):
            file.write(bytes(_UNIT))
        del file
        gc.collect()
        assert not wire.google.objects

    @pytest.mark.parametrize("size", [4, 3 * _UNIT])
    def test_collected(
        self, wire: Wire, size: int, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A file that nobody closed is dropped, and the log says so."""
        wire.google.put("key", b"old")
        file = wire.fs.open("bucket/key", "wb", block_size=_UNIT)
        file.write(bytes(size))
        del file
        gc.collect()
        assert "bucket/key" in caplog.text
        assert "never closed" in caplog.text
        wait_until(lambda: not wire.google.uploads)
        assert wire.google.objects["key"].content == b"old"

    def test_transaction_of_unclosed_files(self, wire: Wire) -> None:
        """A transaction commits its files once, those that nobody closed among them."""
        with wire.fs.transaction:
            wire.fs.open("bucket/key", "wb").write(b"new")
        gc.collect()
        assert wire.google.objects["key"].content == b"new"
        assert wire.requests()["objects.insert"] == 1


class TestConditionalCreate:
    """A create whose reply was lost is settled by looking."""

    @pytest.mark.parametrize("step", ["lost", "failed"])
    def test_ours(self, wire: Wire, step: str) -> None:
        """The object that is there is what was to be written: it was."""
        google = wire.begin(step, of="objects.insert")
        wire.fs.pipe_file("bucket/key", b"ours", mode="create")
        assert google.objects["key"].content == b"ours"
        assert wire.requests() == {"objects.insert": 2, "objects.get": 1}
        wire.assert_counted()

    def test_of_a_file(self, wire: Wire) -> None:
        """The same holds of a file that was opened by "xb"."""
        wire.begin("lost", of="objects.insert")
        with wire.fs.open("bucket/key", "xb") as file:
            file.write(b"ours")
        assert wire.google.objects["key"].content == b"ours"

    def test_anothers(self, wire: Wire) -> None:
        """Another object is there, so another was quicker."""
        google = wire.begin("drop", of="objects.insert")
        script = wire.stub.answer

        def meanwhile(request: Request) -> Answer:
            if _name(request) == "objects.insert" and len(wire.stub.requests) == 2:
                google.put("key", b"anothers")
            return script(request)

        wire.stub.answer = meanwhile
        with pytest.raises(FileExistsError):
            wire.fs.pipe_file("bucket/key", b"ours", mode="create")
        assert google.objects["key"].content == b"anothers"

    def test_no_doubt(self, wire: Wire) -> None:
        """Who is told at once that it exists does not look, be it the same."""
        wire.google.put("key", b"ours")
        with pytest.raises(FileExistsError):
            wire.fs.pipe_file("bucket/key", b"ours", mode="create")
        assert wire.requests() == {"objects.insert": 1}


class TestDeleting:
    """What is deleted is gone; what is not is an error."""

    @pytest.fixture
    def batching(self, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> Wire:
        """Take the service for Google's own, which alone takes batches."""
        monkeypatch.setattr(ConnectorGCSFileSystem, "on_google", True)
        for number in range(5):
            wire.google.put(f"d/{number}", b"x")
        return wire

    def test_by_batch(self, batching: Wire) -> None:
        """Many objects go by one request."""
        batching.fs.rm("bucket/d", recursive=True)
        assert not batching.google.objects
        assert batching.requests()["batch"] == 1
        batching.assert_counted()

    @pytest.mark.parametrize("step", ["lost", "failed", "busy", "drop"])
    def test_batch_is_not_answered(self, batching: Wire, step: str) -> None:
        """A batch whose reply was lost is sent again; what is gone by then is right."""
        google = batching.google
        batching.stub.answer = Script(google, [step], _is("batch"))
        batching.fs.rm([f"bucket/d/{number}" for number in range(5)])
        assert not google.objects
        assert batching.requests() == {"batch": 2}

    def test_some_cannot_be_deleted_now(self, batching: Wire) -> None:
        """Only what is left of a batch is asked for again."""
        google, asked = batching.google, []

        def busy(request: Request) -> Answer | None:
            if _name(request) != "batch":
                return None
            asked.append(re.findall(r"/o/\S*?(\d) HTTP", request.body.decode()))
            if len(asked) > 2:
                return None
            kept = {"d/1": google.objects.get("d/1"), "d/3": google.objects.get("d/3")}
            answer = google(request)
            google.objects.update({k: v for k, v in kept.items() if v})
            assert isinstance(answer.body, bytes)
            body = re.sub(
                rb"(\+[24]>\s+HTTP/1.1) 204" if len(asked) == 1 else rb"(HTTP/1.1) 204",
                rb"\1 503",
                answer.body,
            )
            return Answer(200, body, answer.headers)

        batching.misbehave(busy)
        batching.fs.rm([f"bucket/d/{number}" for number in range(5)])
        assert asked == [["0", "1", "2", "3", "4"], ["1", "3"], ["1", "3"]]
        assert not google.objects
        batching.assert_counted()

    def test_one_is_refused(self, batching: Wire) -> None:
        """What the service said of one is raised; the others are gone."""
        google = batching.google

        def refuse_one(request: Request) -> Answer | None:
            if _name(request) != "batch":
                return None
            kept = google.objects["d/2"]
            answer = google(request)
            google.objects["d/2"] = kept
            assert isinstance(answer.body, bytes)
            body = re.sub(rb"(\+3>\s+HTTP/1.1) 204", rb"\1 403", answer.body)
            return Answer(200, body, answer.headers)

        batching.misbehave(refuse_one)
        with pytest.raises(PermissionError, match="bucket/d/2"):
            batching.fs.rm([f"bucket/d/{number}" for number in range(5)])
        assert [*google.objects] == ["d/2"]
        assert batching.requests() == {"batch": 1}

    def test_it_stays_busy(self, batching: Wire) -> None:
        """A batch is sent as often as attempts are configured, and no oftener."""
        batching.misbehave(
            lambda request: gcs_error(503) if _name(request) == "batch" else None
        )
        with pytest.raises(HttpError):
            batching.fs.rm(["bucket/d/1", "bucket/d/2"])
        assert batching.requests() == {"batch": _ATTEMPTS}

    @pytest.mark.parametrize(
        "body", [b"", b"--mark--", b"--mark\r\nHTTP/1.1 204 Gone\r\n--mark--"]
    )
    def test_batch_is_answered_in_part(self, batching: Wire, body: bytes) -> None:
        """An object that no answer speaks of is not taken for deleted."""
        headers = {"Content-Type": "multipart/mixed; boundary=mark"}
        batching.misbehave(
            lambda request: (
                Answer(200, body, headers) if _name(request) == "batch" else None
            )
        )
        with pytest.raises(WrongAnswer):
            batching.fs.rm(["bucket/d/1", "bucket/d/2"])

    def test_cleanup(self, batching: Wire) -> None:
        """A cleanup lists by pages, deletes by batches and reports what stays."""
        google, fs = batching.google, batching.fs
        google.page = 2
        google.put("dd/0", b"beside")
        listed = [[*page] for page in folders.pages(fs, "bucket/d")]
        assert [[each.path for each in page] for page in listed] == [
            ["bucket/d/0", "bucket/d/1"],
            ["bucket/d/2", "bucket/d/3"],
            ["bucket/d/4"],
        ]
        many = [*(f"bucket/d/{number}" for number in range(130))]
        assert folders.delete(fs, many) == {}
        assert [*google.objects] == ["dd/0"]
        assert batching.requests() == {"objects.list": 3, "batch": 2}
        batching.misbehave(lambda _: gcs_error(403))
        assert folders.delete(fs, ["bucket/dd/0"]).keys() == {"bucket/dd/0"}

    @pytest.mark.parametrize("step", ["lost", "failed"])
    def test_one(self, wire: Wire, step: str) -> None:
        """An object that is gone after a delete that nobody answered was deleted."""
        google = wire.begin(step, of="objects.delete")
        google.put("key", b"x")
        wire.fs.rm_file("bucket/key")
        assert not google.objects
        assert wire.requests() == {"objects.delete": 2}
        with pytest.raises(FileNotFoundError):
            wire.fs.rm_file("bucket/key")

    def test_refused_before_it_could_be_done(self, wire: Wire) -> None:
        """What was throttled was not done: an object that is missing was missing."""
        answers = [gcs_error(429), gcs_error(404)]
        wire.misbehave(lambda _: answers.pop(0))
        with pytest.raises(FileNotFoundError):
            wire.fs.rm_file("bucket/key")


class TestMoving:
    """A move is made once."""

    def test_reply_is_lost(self, wire: Wire) -> None:
        """A move that nobody answered is not made again, nor by a copy and a delete."""
        google = wire.begin("lost", of="objects.move")
        google.put("key", b"x")
        with pytest.raises(_FAILURES) as it:
            wire.fs.mv_file("bucket/key", "bucket/key2")
        assert classify(it.value).fault is Fault.TRANSIENT
        assert wire.requests() == {"objects.move": 1}
        assert [*google.objects] == ["key2"]

    @pytest.mark.parametrize("status", [403, 405, 501])
    def test_service_cannot(self, wire: Wire, status: int) -> None:
        """Where the service does not move, the object is copied and then deleted."""
        wire.google.put("key", b"x")
        wire.misbehave(
            lambda request: (
                gcs_error(status) if _name(request) == "objects.move" else None
            )
        )
        wire.fs.mv("bucket/key", "bucket/key2")
        assert [*wire.google.objects] == ["key2"]

    def test_onto_itself(self, wire: Wire) -> None:
        """An object that is moved onto itself stays."""
        wire.google.put("key", b"x")
        wire.fs.mv_file("bucket/key", "gs://bucket/key")
        assert [*wire.google.objects] == ["key"]

    def test_compose_of_itself(self, wire: Wire) -> None:
        """What would be appended twice is not tried again; what would not is."""
        wire.misbehave(lambda _: gcs_error(503))
        with pytest.raises(HttpError):
            wire.fs.merge("bucket/a", ["bucket/a", "bucket/b"])
        assert wire.requests() == {"objects.compose": 1}
        with pytest.raises(HttpError):
            wire.fs.merge("bucket/c", ["bucket/a", "bucket/b"])
        assert wire.requests() == {"objects.compose": 1 + _ATTEMPTS}
        wire.assert_counted()

    def test_bucket_that_was_made_unheard(self, wire: Wire) -> None:
        """A bucket that is ours after a create that nobody answered was made."""
        ours = "Your previous request to create the named bucket succeeded and you "
        taken = gcs_error(409, "conflict", f"{ours}already own it.")
        answers = [DROP, taken, taken]
        wire.misbehave(lambda _: answers.pop(0))
        wire.fs.mkdir("bucket-2")
        with pytest.raises(HttpError):
            wire.fs.mkdir("bucket-2")


class TestLooking:
    """A refusal is no answer to the question whether something is there."""

    @pytest.mark.parametrize("status", [403, 503])
    @pytest.mark.parametrize(
        "look",
        [
            lambda fs: fs.exists("bucket"),
            lambda fs: fs.exists("bucket/key"),
            lambda fs: fs.isfile("bucket/key"),
            lambda fs: fs.isdir("bucket/key"),
            lambda fs: fs.ls("bucket/key"),
            lambda fs: fs.find("bucket/key"),
            lambda fs: fs.glob("bucket/*"),
            lambda fs: [*fs.walk("bucket")],
            lambda fs: fs.du("bucket"),
            lambda fs: fs.cat_ranges(["bucket/key"], [0], [1]),
            lambda fs: fs.rm("bucket/key", recursive=True),
            lambda fs: fs.buckets,
        ],
    )
    def test_is_raised(
        self, wire: Wire, look: Callable[[Any], object], status: int
    ) -> None:
        """It is raised, not taken for an empty folder or a no (E12)."""
        wire.misbehave(lambda _: gcs_error(status))
        with pytest.raises(PermissionError if status == 403 else HttpError):
            look(wire.fs)

    def test_bucket_that_may_not_be_looked_at(self, wire: Wire) -> None:
        """A bucket whose listing is allowed is there, and be it empty."""
        wire.misbehave(
            lambda request: gcs_error(403) if _name(request) == "buckets.get" else None
        )
        assert wire.fs.isdir("bucket")
        assert wire.requests() == {"buckets.get": 1, "objects.list": 1}

    def test_object_that_may_not_be_looked_at(self, wire: Wire) -> None:
        """An object that may only be listed is found there, page by page."""
        wire.google.put("key", b"x")
        wire.google.put("key2", b"yy")
        empty: list[Answer] = [Answer.json({"items": [], "nextPageToken": "0"})]

        def hide(request: Request) -> Answer | None:
            if _name(request) == "objects.get":
                return gcs_error(403)
            return empty.pop() if empty else None

        wire.misbehave(hide)
        assert wire.fs.info("bucket/key")["size"] == 1
        with pytest.raises(FileNotFoundError):
            wire.fs.info("bucket/ke")

    def test_throttled_403(self, wire: Wire) -> None:
        """Who asks too often is not taken for one who may not ask."""
        answers = [gcs_error(403, "rateLimitExceeded")]
        wire.google.put("key", b"x")
        wire.misbehave(lambda _: answers.pop() if answers else None)
        assert wire.fs.info("bucket/key")["size"] == 1
        assert wire.requests() == {"objects.get": 2}

    @pytest.mark.parametrize("which", [0, 1, 2])
    def test_page_fails(self, wire: Wire, which: int) -> None:
        """A page of a listing that fails is asked for again, and no other."""
        google = wire.begin(*["ok"] * which, "busy", of="objects.list")
        google.page = 2
        for number in range(5):
            google.put(f"d/{number}", b"x")
        assert wire.fs.find("bucket/d") == [f"bucket/d/{n}" for n in range(5)]
        assert wire.requests() == {"objects.list": 4}
        tokens = [each.query.get("pageToken") for each in wire.stub.requests]
        assert len({*tokens}) == 3
        wire.assert_counted()


class TestCredentials:
    """Credentials that the service refuses are renewed, once."""

    @staticmethod
    def _fs(stub: Stub, credentials: Credentials) -> Any:
        return ConnectorGCSFileSystem(
            token=credentials,
            endpoint_url=stub.endpoint_url,
            project="p",
            skip_instance_cache=True,
        )

    @staticmethod
    def _token(request: Request) -> str:
        return request.headers["authorization"]

    def test_expired(self) -> None:
        """A token that was refused is renewed before the one further attempt."""
        later = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)
        renewed = 0

        def renew(_request: Any, scopes: Any) -> tuple[str, datetime]:
            nonlocal renewed
            del scopes
            renewed += 1
            assert threading.current_thread().name != "fsspecIO"
            return "new", later

        def answer(request: Request) -> Answer:
            is_new = self._token(request) == "Bearer new"
            return Answer(200, b"content") if is_new else gcs_error(401, "authError")

        old = Credentials("old", expiry=later, refresh_handler=renew)  # type: ignore[no-untyped-call]
        with Stub(answer) as stub:
            fs = self._fs(stub, old)
            assert fs.cat_file("bucket/key") == b"content"
            assert fs.cat_file("bucket/key") == b"content"
        assert [*map(self._token, stub.requests)] == [
            "Bearer old",
            "Bearer new",
            "Bearer new",
        ]
        assert renewed == 1

    @pytest.mark.parametrize("is_renewable", [True, False])
    def test_refused_for_good(self, is_renewable: bool) -> None:
        """New credentials that are refused, too, or none, end it."""
        later = datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=1)

        def renew(_request: Any, scopes: Any) -> tuple[str, datetime]:
            del scopes
            return "new", later

        handler = renew if is_renewable else None
        old = Credentials("old", expiry=later, refresh_handler=handler)  # type: ignore[no-untyped-call]
        with (
            Stub(lambda _: gcs_error(401, "authError")) as stub,
            pytest.raises(HttpError) as it,
        ):
            self._fs(stub, old).cat_file("bucket/key")
        assert len(stub.requests) == (2 if is_renewable else 1)
        assert classify(it.value).fault is (
            Fault.EXPIRED if is_renewable else Fault.AUTH
        )

    def test_no_token_is_to_be_had(self) -> None:
        """Where Google's token service does not answer, nothing was sent."""
        errors: Any = google.auth.exceptions
        error = errors.TransportError("no way")
        verdict = classify(error)
        assert (verdict.fault, verdict.is_sent) == (Fault.TRANSIENT, False)
        error = errors.RefreshError("no such account")
        verdict = classify(error)
        assert (verdict.fault, verdict.is_sent) == (Fault.AUTH, False)


class TestStandAlone:
    """Made with gcsfs's own arguments, the filesystem has the default policies."""

    def test_default_policies(self) -> None:
        """It is retried, limited and counted as a connector's is."""
        fs = ConnectorGCSFileSystem(
            token="anon", endpoint_url="http://127.0.0.1:9", skip_instance_cache=True
        )
        names = [policy.name for policy in fs.pipeline.policies]
        assert {"deadline", "retry", "timeout"} <= {*names}
        assert fs.pipeline.scope.type == "gcs"
        assert fs.pipeline is fs.pipeline
        assert not fs.dircache.use_listings_cache

    def test_it_works(self) -> None:
        """A connection that ended unheard is tried again at once, by one request."""
        google = Google()
        google.put("key", _CONTENT)
        with Stub(Script(google, ["drop"])) as stub:
            fs = ConnectorGCSFileSystem(
                token="anon", endpoint_url=stub.endpoint_url, skip_instance_cache=True
            )
            assert fs.cat_file("bucket/key") == _CONTENT
            with fs.open("bucket/key2", "wb") as file:
                file.write(b"x")
            assert fs.cat("bucket/key2") == b"x"
        assert len(stub.requests) == 4

    def test_listings_cache_on_demand(self) -> None:
        """Who asks for gcsfs's cache of listings has it."""
        google = Google()
        google.put("d/key", b"x")
        with Stub(google) as stub:
            fs = ConnectorGCSFileSystem(
                token="anon",
                endpoint_url=stub.endpoint_url,
                skip_instance_cache=True,
                cache_timeout=100,
            )
            for _ in range(2):
                assert fs.ls("bucket/d", detail=False) == ["bucket/d/key"]
            assert fs.info("bucket/d/key")["size"] == 1
            assert fs.isdir("bucket/d")
        assert len(stub.requests) == 1


def _refused(status: int, headers: dict[str, str], body: bytes) -> Exception:
    try:
        # Braces are the object's own.
        refuse(status, headers, body, "b/{bucket}/o/%7Bkey")
    except Exception as error:  # noqa: BLE001 - any, and there is one
        return error
    raise AssertionError


class TestClassify:
    """What an error means is told by Google's statuses and reasons."""

    @staticmethod
    def _said(
        status: int, reason: str = "", body: bytes | None = None, **headers: str
    ) -> Verdict:
        content = gcs_error(status, reason).body if body is None else body
        assert isinstance(content, bytes)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return classify(_refused(status, named, content))

    @pytest.mark.parametrize(
        ("status", "reason", "fault", "is_sent"),
        [
            (400, "invalid", Fault.PERMANENT, True),
            (401, "authError", Fault.AUTH, False),
            (403, "forbidden", Fault.AUTH, False),
            (403, "rateLimitExceeded", Fault.THROTTLED, False),
            (403, "userRateLimitExceeded", Fault.THROTTLED, False),
            (404, "notFound", Fault.NOT_FOUND, False),
            (408, "uploadBrokenConnection", Fault.TIMEOUT, True),
            (409, "conflict", Fault.PERMANENT, True),
            (410, "gone", Fault.PERMANENT, True),
            (412, "conditionNotMet", Fault.PRECONDITION, False),
            (416, "requestedRangeNotSatisfiable", Fault.PERMANENT, True),
            (429, "rateLimitExceeded", Fault.THROTTLED, False),
            (500, "backendError", Fault.TRANSIENT, True),
            (501, "notImplemented", Fault.PERMANENT, True),
            (502, "", Fault.TRANSIENT, True),
            (503, "backendError", Fault.TRANSIENT, True),
            (504, "", Fault.TRANSIENT, True),
            (599, "", Fault.TRANSIENT, True),
            (302, "", Fault.PERMANENT, True),
        ],
    )
    def test_table(self, status: int, reason: str, fault: Fault, is_sent: bool) -> None:
        """Each status has its class, and says whether anything was done."""
        verdict = self._said(status, reason)
        assert (verdict.fault, verdict.is_sent) == (fault, is_sent)
        assert verdict.code == (reason or str(status))

    @given(
        status=st.integers(300, 599),
        body=st.binary() | st.sampled_from([b"[]", b'{"error": {"errors": [{}]}}']),
    )
    def test_any_answer(self, status: int, body: bytes) -> None:
        """Whatever a server says, it is an error with its status behind it."""
        error = _refused(status, {}, body)
        assert isinstance(error.__cause__, Refusal)
        assert error.__cause__.status == status
        classify(error)

    def test_retry_after(self) -> None:
        """How long to wait is read in both forms, and nonsense is not read."""
        assert self._said(503, Retry_After="7").retry_after == 7
        soon = datetime.now(UTC) + timedelta(minutes=5)
        wait = self._said(429, Retry_After=format_datetime(soon)).retry_after
        assert wait is not None
        assert 200 < wait <= 300
        assert self._said(503, Retry_After="soon").retry_after is None
        assert self._said(503).retry_after is None

    def test_packed_refusal(self) -> None:
        """The reason of a refusal is read, be it packed on the way."""
        content = gcs_error(403, "rateLimitExceeded").body
        assert isinstance(content, bytes)
        verdict = self._said(403, body=gzip.compress(content), Content_Encoding="gzip")
        assert verdict.fault is Fault.THROTTLED

    def test_refusal_travels(self) -> None:
        """What stands behind an error is the same after a pickle."""
        refusal = Refusal(503, "backendError", "7", True)
        copy = pickle.loads(pickle.dumps(refusal))  # noqa: S301 - made here
        assert vars(copy) == vars(refusal)
        assert str(copy) == "HTTP status 503, backendError"

    def test_requester_pays(self, wire: Wire) -> None:
        """Who has to pay is told how."""
        said = "Bucket is a requester pays bucket but no user project provided."
        wire.misbehave(lambda _: gcs_error(400, "required", said))
        with pytest.raises(ValueError, match="requester_pays=True"):
            wire.fs.info("bucket/key")
