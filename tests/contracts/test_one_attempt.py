"""One request of a connector is one on the wire, whatever befalls it (F2, F3).

s3fs, botocore, gcsfs and aiohttp would each repeat it on their own, uncounted: 250
times where all of them see a dropped connection. At a stub, since no real server can be
told to fail.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import pytest
from botocore.exceptions import BotoCoreError, HTTPClientError
from gcsfs.retry import HttpError

from contracts.places import kit_at, settings_for
from contracts.stub import DROP, Answer, Request, Stub, gcs_object, s3_error, s3_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fsspec import AbstractFileSystem

_FAILURES = (OSError, HttpError, aiohttp.ClientError, BotoCoreError, HTTPClientError)
_TYPES = ("s3", "minio", "gcs")
_PART = 5 * 2**20
_CONTENT = b"content" * 1000


def _read(fs: AbstractFileSystem, path: str) -> bytes:
    with fs.open(path) as file:
        content: bytes = file.read()
    return content


_Calls: TypeAlias = "dict[str, Callable[[AbstractFileSystem, str, Path], Any]]"

_READS: _Calls = {
    "cat_file": lambda fs, path, _: fs.cat_file(path),
    "cat_file_range": lambda fs, path, _: fs.cat_file(path, start=1, end=9),
    "get_file": lambda fs, path, folder: fs.get_file(path, str(folder / "file")),
    "open_read": lambda fs, path, _: _read(fs, path),
}
_CALLS: _Calls = {
    **_READS,
    "info": lambda fs, path, _: fs.info(path),
    "ls": lambda fs, path, _: fs.ls(path),
    "ls_root": lambda fs, *_: fs.ls(""),
    "pipe_file": lambda fs, path, _: fs.pipe_file(path, _CONTENT),
    "cp_file": lambda fs, path, _: fs.cp_file(path, f"{path}-2"),
    "rm_file": lambda fs, path, _: fs.rm_file(path),
}


def _busy(type_id: str) -> Answer:
    if type_id == "gcs":
        about = {"code": 503, "message": "busy"}
        return Answer(503, Answer.json({"error": about}).body)
    return s3_error(503, "SlowDown")


def _cut() -> Answer:
    def half() -> Iterator[bytes]:
        yield _CONTENT[: len(_CONTENT) // 2]
        raise ConnectionAbortedError

    return Answer(200, half(), {"Content-Length": str(len(_CONTENT))})


def _fault(name: str, type_id: str) -> Answer:
    if name == "busy":
        return _busy(type_id)
    return _cut() if name == "cut" else DROP


@pytest.mark.parametrize("fault", ["busy", "drop"])
@pytest.mark.parametrize("call", _CALLS)
@pytest.mark.parametrize("type_id", _TYPES)
def test_first_request_fails(
    type_id: str, call: str, fault: str, tmp_path: Path
) -> None:
    """A call whose first request fails has sent no request twice."""
    with (
        Stub(lambda _: _fault(fault, type_id)) as stub,
        kit_at(type_id, settings_for(type_id, stub)) as kit,
        pytest.raises(_FAILURES),
    ):
        _CALLS[call](kit.resolve("it").fs, "bucket/key", tmp_path)
    assert set(stub.counts().values()) == {1}
    # gcsfs looks for an object and for a folder at a time.
    assert len(stub.requests) <= (2 if type_id == "gcs" else 1)


@pytest.mark.parametrize("fault", ["busy", "drop", "cut"])
@pytest.mark.parametrize("call", _READS)
@pytest.mark.parametrize("type_id", _TYPES)
def test_body_fails(type_id: str, call: str, fault: str, tmp_path: Path) -> None:
    """A body that is refused or cut short is asked for once, and is an error."""
    bodies: list[Request] = []

    def answer(request: Request) -> Answer:
        if type_id == "gcs":
            about = gcs_object(request, _CONTENT)
            is_body = "/download/" in request.path
        else:
            about = s3_object(request, _CONTENT)
            is_body = request.method == "GET"
        if not is_body:
            return about
        bodies.append(request)
        return _fault(fault, type_id)

    with (
        Stub(answer) as stub,
        kit_at(type_id, settings_for(type_id, stub)) as kit,
        pytest.raises(_FAILURES),
    ):
        _READS[call](kit.resolve("it").fs, "bucket/key", tmp_path)
    assert len(bodies) == 1
    assert set(stub.counts().values()) == {1}


@pytest.mark.parametrize("fault", ["busy", "drop"])
@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_part_fails(type_id: str, fault: str) -> None:
    """A part of an upload that fails is sent once, and the upload is given up once."""

    def answer(request: Request) -> Answer:
        if request.method == "PUT":
            return _fault(fault, type_id)
        begun = b"<UploadId>an-upload</UploadId>"
        root = b"InitiateMultipartUploadResult"
        return Answer(200, b"<%s>%s</%s>" % (root, begun, root))

    with (
        Stub(answer) as stub,
        kit_at(type_id, settings_for(type_id, stub)) as kit,
        pytest.raises(_FAILURES),
    ):
        kit.resolve("it").fs.pipe_file("bucket/key", bytes(2 * _PART), chunksize=_PART)
    assert set(stub.counts().values()) == {1}
    # The other part may arrive still; it finds no upload to belong to.
    assert len(stub.asked("DELETE")) == 1


@pytest.mark.parametrize("type_id", _TYPES)
def test_silence_ends(type_id: str) -> None:
    """A server that never answers is asked once, and given up after `read_timeout`."""
    may_end = threading.Event()

    def answer(_: Request) -> Answer:
        assert may_end.wait(30)
        return DROP

    with Stub(answer) as stub:
        settings = {**settings_for(type_id, stub), "read_timeout": 0.2}
        with kit_at(type_id, settings) as kit, pytest.raises(_FAILURES):
            kit.resolve("it").fs.pipe_file("bucket/key", _CONTENT)
        may_end.set()
    assert len(stub.requests) == 1
