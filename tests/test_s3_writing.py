"""Writing to S3: what is written appears whole or not at all, and nothing is left.

At real servers, through a proxy that counts and injects faults.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import subprocess
import sys
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import DeadlineExceeded, ObjectChanged, WrongAnswer
from connectorkit.testing import (
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    Status,
)
from faults.s3_places import ATTEMPTS, RETRY, Place
from waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


_OLD = b"what was there before"
_PART = bytes(5 << 20)


class Mistake(Exception):
    """What a host's own code raises."""


def _fail(file: Any, content: Any, error: Exception | None = None) -> None:
    """Raise an exception within the `with` of a file that was written to."""
    with file:
        file.write(content)
        raise error or Mistake


# Writes so much that parts are on their way, or so little that none is.
_SIZES = {"little": b"half", "parts": _PART + b"half"}


class TestExceptions:
    """An exception within a `with` leaves what was there, and no upload."""

    @pytest.mark.parametrize("size", _SIZES)
    @pytest.mark.parametrize(
        ("mode", "options"),
        [
            ("wb", {}),
            ("ab", {}),
            ("xb", {}),
            ("w", {"encoding": "latin-1"}),
            ("wb", {"compression": "gzip"}),
            ("w", {"compression": "gzip"}),
        ],
    )
    def test_within(
        self, place: Place, key: str, mode: str, options: dict[str, Any], size: str
    ) -> None:
        """In every mode, and through text and compression."""
        old = None if "x" in mode else _OLD
        if old is not None:
            place.put(key, old)
        content: Any = _SIZES[size]
        if "b" not in mode:
            content = content.decode("latin-1")
        raised = Mistake()
        path, options = place.path(key), {"block_size": len(_PART), **options}
        with pytest.raises(Mistake) as caught:
            _fail(place.fs.open(path, mode, **options), content, raised)
        assert caught.value is raised
        assert place.content(key) == old
        assert place.uploads(key) == []
        assert not place.asked()["complete_multipart_upload"]
        assert not place.asked()["put_object"]

    def test_what_could_not_be_removed_is_named(self, place: Place, key: str) -> None:
        """If the parts cannot be removed, a note on the exception names the upload."""
        place.proxy.inject(Status(500), times=None, when="abort_multipart_upload")
        with pytest.raises(Mistake) as caught:
            _fail(place.fs.open(place.path(key), "wb", block_size=len(_PART)), _PART)
        (upload,) = place.uploads(key)
        (note,) = caught.value.__notes__
        assert upload in note
        assert place.path(key) in note
        assert place.asked()["abort_multipart_upload"] == ATTEMPTS
        assert place.content(key) is None

    def test_after_the_deadline(self, s3: Place, key: str) -> None:
        """When the call's time is up, there is none to remove parts: a note says so."""
        policies = {"enabled": ["deadline", "retry"], "retry": RETRY}
        policies["deadline"] = {"seconds": 60}
        with s3.kit_with(policies=policies) as kit:
            fs = kit.resolve("it").fs
            late = ReplaceObject(lambda _: s3.clock.advance(61))
            s3.proxy.inject(late, when="upload_part")
            with pytest.raises(DeadlineExceeded) as caught:
                fs.pipe_file(s3.path(key), _PART * 2, chunksize=len(_PART))
        (upload,) = s3.uploads(key)
        assert upload in "".join(caught.value.__notes__)
        assert s3.content(key) is None

    @pytest.mark.parametrize("operation", ["create_multipart_upload", "upload_part"])
    def test_a_flush_that_fails(self, place: Place, key: str, operation: str) -> None:
        """The file is aborted by then: to close it publishes nothing."""
        place.put(key, _OLD)
        place.proxy.inject(Status(500), times=None, when=operation)
        file = place.fs.open(place.path(key), "wb", block_size=len(_PART))
        with pytest.raises(OSError, match="Injected"):
            file.write(_PART + b"rest")
        assert file.closed
        with pytest.raises(ValueError, match="not in write mode"):
            file.write(b"more")
        file.close()
        assert place.content(key) == _OLD
        assert place.uploads(key) == []

    @pytest.mark.parametrize("content", [b"", b"little", _PART + b"rest"])
    def test_a_close_that_fails(self, place: Place, key: str, content: bytes) -> None:
        """The error is raised by the close, and what was there stays."""
        place.put(key, _OLD)
        place.proxy.inject(
            Status(500),
            times=None,
            when=lambda r: r.operation in {"put_object", "complete_multipart_upload"},
        )
        file = place.fs.open(place.path(key), "wb", block_size=len(_PART))
        file.write(content)
        with pytest.raises(OSError, match="Injected"):
            file.close()
        file.close()
        assert place.content(key) == _OLD
        assert place.uploads(key) == []

    def test_after_it_was_closed(self, place: Place, key: str) -> None:
        """What was closed is written; an exception after that asks nothing."""
        file = place.fs.open(place.path(key), "wb", block_size=len(_PART))
        file.write(_PART + b"whole")
        file.close()
        with contextlib.suppress(Mistake), file:
            raise Mistake
        assert place.content(key) == _PART + b"whole"
        assert not place.asked()["abort_multipart_upload"]


class TestAppending:
    """Appending to an object never makes it less."""

    @pytest.mark.parametrize("status", [403, 500, 503])
    def test_opening_fails(self, place: Place, key: str, status: int) -> None:
        """Who cannot look does not begin anew: what is there stays.

        s3fs's file would be closed by the garbage collector, and publish nothing in
        place of the object.
        """
        place.put(key, _OLD)
        place.proxy.inject(Status(status), times=None, when="head_object")
        with contextlib.suppress(OSError):
            place.fs.open(place.path(key), "ab")
        gc.collect()
        place.proxy.heal()
        assert place.content(key) == _OLD
        assert set(place.asked()) == {"head_object"}

    @pytest.mark.parametrize("old", [None, b"", _OLD])
    @pytest.mark.parametrize("new", [b"", b" and more"])
    def test_little(
        self, place: Place, key: str, old: bytes | None, new: bytes
    ) -> None:
        """What is there is kept, and what is not there is begun."""
        if old is not None:
            place.put(key, old)
        with place.fs.open(place.path(key), "ab") as file:
            file.write(new)
        assert place.content(key) == (old or b"") + new

    def test_much(self, s3: Place, key: str) -> None:
        """What is big enough for a part is copied there; a reply may be lost."""
        s3.put(key, _PART)
        for operation in (
            "upload_part_copy",
            "upload_part",
            "complete_multipart_upload",
        ):
            s3.proxy.inject(LoseReply(), when=operation)
        with s3.fs.open(s3.path(key), "ab") as file:
            file.write(b"more")
        assert s3.content(key) == _PART + b"more"
        assert s3.uploads(key) == []

    @pytest.mark.parametrize("operation", ["upload_part_copy", "upload_part"])
    def test_much_fails(self, s3: Place, key: str, operation: str) -> None:
        """A copy or a part that fails ends the upload, and the object stays."""
        s3.put(key, _PART)
        s3.proxy.inject(Status(500), times=None, when=operation)
        file = s3.fs.open(s3.path(key), "ab")
        file.write(b"more")
        with pytest.raises(OSError, match="Injected"):
            file.close()
        assert s3.content(key) == _PART
        assert s3.uploads(key) == []

    def test_where_nothing_can_be_copied(self, minio: Place, key: str) -> None:
        """Rclone copies no parts, and says so by saying nothing: that is an error."""
        minio.put(key, _PART)
        file = minio.fs.open(minio.path(key), "ab")
        file.write(b"more")
        with pytest.raises(WrongAnswer, match="unable"):
            file.close()
        assert minio.content(key) == _PART
        assert minio.uploads(key) == []

    def test_replaced_while_it_is_opened(self, place: Place, key: str) -> None:
        """What is read is what is kept, whatever was looked at before."""
        place.put(key, b"")
        bigger = ReplaceObject(lambda _: place.put(key, _OLD))
        place.proxy.inject(bigger, when="get_object")
        with place.fs.open(place.path(key), "ab"):
            pass
        assert place.content(key) == _OLD


class TestCreating:
    """What may only be created replaces nothing."""

    @pytest.mark.parametrize("content", [b"", b"mine"])
    def test_taken(
        self, place: Place, key: str, content: bytes, tmp_path: Path
    ) -> None:
        """It is refused, even where the service takes no notice of the condition."""
        place.put(key, _OLD)
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(FileExistsError):
            place.fs.pipe_file(place.path(key), content, mode="create")
        with pytest.raises(FileExistsError):
            place.fs.put_file(str(tmp_path / "file"), place.path(key), mode="create")
        with pytest.raises(FileExistsError):
            place.fs.open(place.path(key), "xb")
        assert place.content(key) == _OLD
        assert set(place.asked()) == {"head_object"}

    @pytest.mark.parametrize("content", [b"", b"mine", _PART + b"mine"])
    def test_taken_meanwhile(self, s3: Place, key: str, content: bytes) -> None:
        """Between the look and the write the condition decides, and nothing is left."""
        theirs = ReplaceObject(lambda _: s3.put(key, _OLD))
        writes = {"put_object", "complete_multipart_upload"}
        for _ in range(2):
            s3.proxy.inject(theirs, when=lambda r: r.operation in writes)
            file = s3.fs.open(s3.path(key), "xb", block_size=len(_PART))
            file.write(content)
            with pytest.raises(FileExistsError):
                file.close()
            assert s3.content(key) == _OLD
            s3.store.delete_object(Bucket=s3.bucket, Key=key)
            s3.proxy.heal()
        assert s3.uploads(key) == []

    @pytest.mark.parametrize("content", [b"", b"mine", _PART + b"mine"])
    def test_free(self, place: Place, key: str, content: bytes) -> None:
        """What is free is created."""
        with place.fs.open(place.path(key), "xb", block_size=len(_PART)) as file:
            file.write(content)
        assert place.content(key) == content

    def test_who_may_not_look(self, s3: Place, key: str) -> None:
        """Who may write need not be allowed to look: the service decides."""
        s3.put(key, _OLD)
        s3.proxy.inject(Status(403), times=None, when="head_object")
        with pytest.raises(FileExistsError):
            s3.fs.pipe_file(s3.path(key), b"mine", mode="create")
        assert s3.content(key) == _OLD


class TestTransactions:
    """A transaction writes all of its files, or none."""

    def test_committed(self, place: Place, key: str) -> None:
        """They appear at its end, those that nobody closed among them."""
        with place.fs.transaction:
            closed = place.fs.open(place.path(key), "wb", block_size=len(_PART))
            closed.write(_PART + b"rest")
            closed.close()
            left_open = place.fs.open(place.path(f"{key}-2"), "wb")
            left_open.write(_PART + b"rest")
            empty = place.fs.open(place.path(f"{key}-3"), "wb")
            assert place.content(key) is None
        assert place.content(key) == _PART + b"rest"
        assert place.content(f"{key}-2") == _PART + b"rest"
        assert place.content(f"{key}-3") == b""
        assert empty.closed
        assert place.uploads(key) == []

    def test_failed(self, place: Place, key: str) -> None:
        """An exception drops them all."""
        with contextlib.suppress(Mistake), place.fs.transaction:
            for number in range(2):
                with place.fs.open(place.path(f"{key}-{number}"), "wb") as file:
                    file.write(_PART)
            raise Mistake
        assert place.content(f"{key}-0") is None
        assert place.uploads(key) == []

    def test_aborted_within(self, place: Place, key: str) -> None:
        """A file that an exception ended is not committed with the others."""
        with place.fs.transaction:
            with (
                contextlib.suppress(Mistake),
                place.fs.open(place.path(key), "wb") as file,
            ):
                file.write(_PART)
                raise Mistake
            with place.fs.open(place.path(f"{key}-2"), "wb") as file:
                file.write(b"whole")
        assert place.content(key) is None
        assert place.content(f"{key}-2") == b"whole"
        assert place.uploads(key) == []

    def test_commit_fails(self, place: Place, key: str) -> None:
        """A commit that fails leaves no upload of this file or of those after it."""
        place.proxy.inject(Status(500), times=None, when="complete_multipart_upload")
        transaction = place.fs.transaction
        transaction.start()
        for number in range(2):
            with place.fs.open(place.path(f"{key}-{number}"), "wb") as file:
                file.write(_PART)
        with pytest.raises(OSError, match="Injected"):
            transaction.complete()
        assert place.uploads(key) == []


class TestLeftOpen:
    """What nobody closed is not complete."""

    @pytest.mark.parametrize("size", _SIZES)
    @pytest.mark.parametrize(
        ("mode", "options"),
        [
            ("wb", {}),
            ("ab", {}),
            ("w", {"encoding": "latin-1"}),
            ("wb", {"compression": "gzip"}),
            ("w", {"compression": "bz2", "encoding": "latin-1"}),
        ],
    )
    def test_collected(  # noqa: PLR0913, PLR0917 - fixtures
        self,
        place: Place,
        key: str,
        mode: str,
        options: dict[str, Any],
        size: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """It is dropped, with a line in the log, and whoever collects does not wait."""
        place.put(key, _OLD)
        content: Any = _SIZES[size]
        if "b" not in mode:
            content = content.decode("latin-1")
        options = {"block_size": len(_PART), **options}
        file = place.fs.open(place.path(key), mode, **options)
        file.write(content)
        with caplog.at_level(logging.WARNING, "connectorkit.writing"):
            del file
            gc.collect()
        assert place.path(key) in caplog.text
        wait_until(lambda: not place.uploads(key))
        assert place.content(key) == _OLD

    def test_at_exit(self, minio: Place, key: str) -> None:
        """A process with an unclosed writer exits, and publishes nothing."""
        minio.put(key, _OLD)
        settings = {**minio.settings, "endpoint_url": minio.server.endpoint_url}
        program = (
            "import sys, connectorkit\n"
            f"kit = connectorkit.ConnectorKit({{'connectors': {{'it': "
            f"{{'type': {minio.type_id!r}, 'settings': {settings!r}}}}}}})\n"
            f"file = kit.resolve('it').fs.open({minio.path(key)!r}, 'wb')\n"
            "file.write(b'half')\n"
            # The interpreter's own end finds it alive.
            "sys.kept = file\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            timeout=60,
            check=True,
            text=True,
        )
        assert done.stderr == ""
        assert minio.content(key) == _OLD


class TestUploads:
    """Objects that are sent at once, or in parts by several at a time."""

    @pytest.mark.parametrize("way", ["pipe", "put"])
    def test_a_part_fails(
        self, place: Place, key: str, way: str, tmp_path: Path
    ) -> None:
        """The others are cancelled, the upload is aborted, what was there stays."""
        place.put(key, _OLD)
        content = _PART * 3 + b"rest"
        (tmp_path / "file").write_bytes(content)
        send: dict[str, Callable[[], Any]] = {
            "pipe": lambda: place.fs.pipe_file(
                place.path(key), content, chunksize=len(_PART)
            ),
            "put": lambda: place.fs.put_file(
                str(tmp_path / "file"), place.path(key), chunksize=len(_PART)
            ),
        }
        second = place.proxy.inject(
            Status(500), times=None, when=lambda r: r.query.get("partNumber") == "2"
        )
        with pytest.raises(OSError, match="Injected"):
            send[way]()
        assert second.fired == ATTEMPTS
        assert place.content(key) == _OLD
        assert place.uploads(key) == []
        assert place.fs.in_flight == 0
        place.proxy.heal()
        send[way]()
        assert place.content(key) == content

    def test_at_a_time(self, place: Place, key: str) -> None:
        """One at a time is one at a time: each part begins when the last has ended."""
        place.fs.pipe_file(
            place.path(key), _PART * 3, chunksize=len(_PART), max_concurrency=1
        )
        parts = [e for e in place.proxy.log if e.operation == "upload_part"]
        numbers = [each.query["partNumber"] for each in parts]
        assert numbers == ["1", "2", "3"]
        for last, part in pairwise(parts):
            assert last.end is not None
            assert last.end <= part.begin

    def test_get_leaves_what_was_there(
        self, place: Place, key: str, tmp_path: Path
    ) -> None:
        """A download that fails leaves the old file, and no other."""
        place.put(key, b"new" * 100)
        target = tmp_path / "target"
        target.write_bytes(_OLD)
        place.proxy.inject(ResetBeforeReply(), times=None)
        with pytest.raises(Exception, match="3 attempts"):
            place.fs.get_file(place.path(key), str(target))
        assert [*tmp_path.iterdir()] == [target]
        assert target.read_bytes() == _OLD
        place.proxy.heal()
        place.fs.get_file(place.path(key), str(target))
        assert target.read_bytes() == b"new" * 100


class TestCopies:
    """A copy is of one version, complete or gone."""

    _CONTENT = _PART + bytes([1]) * len(_PART) + b"rest"

    @pytest.fixture(autouse=True)
    def _in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let all that is copied be big; by itself that begins at 150 MB."""
        monkeypatch.setattr("connectorkit_s3.copying.MANAGED_COPY_THRESHOLD", 0)

    def copy(self, place: Place, key: str, **options: Any) -> None:
        """Copy an object to another key, in blocks."""
        to = place.path(f"{key}-2")
        place.fs.cp_file(place.path(key), to, **options)

    def test_in_parts(self, s3: Place, key: str) -> None:
        """Blocks of the source become parts, each pinned to its version."""
        s3.put(key, self._CONTENT)
        self.copy(s3, key, block=len(_PART))
        assert s3.content(f"{key}-2") == self._CONTENT
        copies = [e for e in s3.proxy.log if e.operation == "upload_part_copy"]
        ranges = [e.headers["x-amz-copy-source-range"] for e in copies]
        assert ranges == [
            "bytes=0-5242879",
            "bytes=5242880-10485759",
            "bytes=10485760-10485763",
        ]
        tag = s3.fs.info(s3.path(key))["ETag"]
        assert {e.headers["x-amz-copy-source-if-match"] for e in copies} == {tag}

    def test_the_same_parts(self, s3: Place, key: str) -> None:
        """With `preserve_etag` the copy is of the parts that the source is of."""
        s3.fs.pipe_file(s3.path(key), self._CONTENT, chunksize=len(_PART))
        self.copy(s3, key, preserve_etag=True)
        tags = [s3.fs.info(s3.path(k))["ETag"] for k in (key, f"{key}-2")]
        assert tags[0] == tags[1]
        assert s3.content(f"{key}-2") == self._CONTENT

    def test_a_part_fails(self, s3: Place, key: str) -> None:
        """The upload is aborted, and what was there before stays."""
        s3.put(key, self._CONTENT)
        s3.put(f"{key}-2", _OLD)
        s3.proxy.inject(Status(500), times=None, after=1, when="upload_part_copy")
        with pytest.raises(OSError, match="Injected"):
            self.copy(s3, key, block=len(_PART))
        assert s3.content(f"{key}-2") == _OLD
        assert s3.uploads(key) == []

    def test_replaced_between_parts(self, s3: Place, key: str) -> None:
        """Parts of two objects make none."""
        s3.put(key, self._CONTENT)
        new = ReplaceObject(lambda _: s3.put(key, bytes(len(self._CONTENT))))
        s3.proxy.inject(new, when="upload_part_copy", after=1)
        with pytest.raises(ObjectChanged, match="copy it again"):
            self.copy(s3, key, block=len(_PART))
        assert s3.content(f"{key}-2") is None
        assert s3.uploads(key) == []

    def test_where_nothing_can_be_copied_in_parts(self, minio: Place, key: str) -> None:
        """Rclone takes such a part for an empty one; nothing comes of it."""
        minio.put(key, self._CONTENT)
        with pytest.raises(WrongAnswer, match="unable"):
            self.copy(minio, key, block=len(_PART))
        assert minio.content(f"{key}-2") is None
        assert minio.uploads(key) == []

    def test_merge_fails(self, s3: Place, key: str) -> None:
        """A source that is not there ends the merge, and leaves no upload."""
        s3.put(key, _PART)
        with pytest.raises(FileNotFoundError):
            s3.fs.merge(s3.path(f"{key}-2"), [s3.path(key), s3.path(f"{key}-3")])
        assert s3.content(f"{key}-2") is None
        assert s3.uploads(key) == []


@pytest.mark.parametrize("path", ["", "/", "bucket", "bucket/", "/bucket"])
def test_a_path_without_a_key_is_no_objects(s3: Place, path: str) -> None:
    """Whichever method is asked says so in a sentence, and sends nothing."""
    s3.quiet()
    fs = s3.fs
    ways: list[Callable[[], Any]] = [
        lambda: fs.pipe_file(path, b"1"),
        lambda: fs.touch(path),
        lambda: fs.put_file(__file__, path),
        lambda: fs.open(path, "wb"),
        lambda: fs.open(path, "rb"),
        lambda: fs.cat_file(path),
        lambda: fs.rm_file(path),
    ]
    for way in ways:
        with pytest.raises(IsADirectoryError, match="its path reads bucket/key"):
            way()
    assert s3.proxy.log == []
