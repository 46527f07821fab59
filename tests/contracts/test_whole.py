"""Nothing half, nothing lost without a word: of every storage that has buckets."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
from typing import TYPE_CHECKING, Any

import pytest

from contracts.places import kit_at, settings_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from connectorkit import Connector
    from servers import GcsEmulator, S3Server

_SERVERS = {"s3": "moto_s3", "minio": "rclone_s3", "gcs": "gcs_emulator"}


class Mistake(Exception):
    """Of whoever writes."""


class Shelf:
    """A connector and a bucket of a test's own."""

    def __init__(self, connector: Connector, bucket: str) -> None:
        self.connector = connector
        self.fs: Any = connector.fs
        self.bucket = bucket

    def path(self, name: str) -> str:
        """Return the path of an object."""
        return f"{self.bucket}/{name}"

    def content(self) -> dict[str, bytes]:
        """Return all that is stored, by name."""
        found = self.fs.find(self.bucket)
        start = len(self.bucket) + 1
        return {path[start:]: self.fs.cat_file(path) for path in found}


@pytest.fixture(params=_SERVERS)
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    """Open a bucket at each server in turn."""
    server: S3Server | GcsEmulator = request.getfixturevalue(_SERVERS[request.param])
    with kit_at(request.param, settings_for(request.param, server)) as kit:
        yield Shelf(kit.resolve("it"), server.bucket())


@pytest.mark.parametrize(
    ("mode", "options"), [("wb", {}), ("w", {}), ("wb", {"compression": "gzip"})]
)
@pytest.mark.parametrize("size", [0, 10, 6 << 20])
def test_what_was_aborted_in_a_transaction_is_not_committed(
    shelf: Shelf, size: int, mode: str, options: dict[str, Any]
) -> None:
    """Who catches the exception of one file commits the others, and not that one."""
    shelf.fs.pipe_file(shelf.path("old"), b"old")
    with shelf.fs.transaction:
        with (  # noqa: PT012 - the block is it
            pytest.raises(Mistake),
            shelf.fs.open(shelf.path("old"), mode, **options) as file,
        ):
            file.write("x" * size if mode == "w" else bytes(size))
            raise Mistake
        with shelf.fs.open(shelf.path("new"), "wb") as file:
            file.write(b"new")
    assert shelf.content() == {"old": b"old", "new": b"new"}


def test_a_folder_is_moved(shelf: Shelf) -> None:
    """All of it, and nothing is left: folders themselves are no objects."""
    for name in ("d/a", "d/sub/b", "d/sub/c"):
        shelf.fs.pipe_file(shelf.path(name), name.encode())
    shelf.fs.mv(shelf.path("d"), shelf.path("e"), recursive=True)
    assert shelf.content() == {
        "e/a": b"d/a",
        "e/sub/b": b"d/sub/b",
        "e/sub/c": b"d/sub/c",
    }


@pytest.mark.parametrize(("source", "target"), [("d", "d/e"), ("d", "d/"), ("d/", "d")])
def test_nothing_is_lost_by_a_move_into_itself(
    shelf: Shelf, source: str, target: str
) -> None:
    """Copies would be deleted with what they came from: it is refused.

    Google's own moves take one object after the other, and lose none.
    """
    for name in ("d/a", "d/sub/b"):
        shelf.fs.pipe_file(shelf.path(name), name.encode())
    with contextlib.suppress(ValueError):
        shelf.fs.mv(shelf.path(source), shelf.path(target), recursive=True)
    assert sorted(shelf.content().values()) == [b"d/a", b"d/sub/b"]


def test_an_object_where_a_folder_lies_is_told_of(
    shelf: Shelf, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Keys may be `a` and `a/b`, files may not: to get both is an error, not one."""
    if "minio" in request.node.name:
        pytest.skip("rclone keeps objects as files, which cannot be so")
    shelf.fs.pipe_file(shelf.path("col/a"), b"1")
    shelf.fs.pipe_file(shelf.path("col/a/b"), b"2")
    with pytest.raises(IsADirectoryError, match="col/a"):
        shelf.fs.get(shelf.path("col"), str(tmp_path / "col"), recursive=True)
    (tmp_path / "there").mkdir()
    with pytest.raises(IsADirectoryError):
        shelf.fs.get_file(shelf.path("col/a"), str(tmp_path / "there"))
    assert list((tmp_path / "there").iterdir()) == []


def test_a_folder_is_got_into_a_folder(shelf: Shelf, tmp_path: Path) -> None:
    """Where only a folder is asked for, one that is there is no obstacle."""
    shelf.fs.pipe_file(shelf.path("d/sub/a"), b"1")
    target = tmp_path / "got"
    for _ in range(2):
        shelf.fs.get(shelf.path("d/"), f"{target}/", recursive=True)
    files = [each for each in target.rglob("*") if each.is_file()]
    assert [each.read_bytes() for each in files] == [b"1"]


def _in_a_child(fs: Any, path: str, told: Any) -> None:
    try:
        fs.cat_file(path)
    except RuntimeError as error:
        told.put(str(error))
    else:
        told.put("no error")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_filesystem_of_the_parent_says_what_to_do(shelf: Shelf) -> None:
    """In a forked child it names its connector, whose `fs` is the child's own."""
    shelf.fs.pipe_file(shelf.path("a"), b"1")
    context = multiprocessing.get_context("fork")
    told: Any = context.Queue()
    child = context.Process(
        target=_in_a_child, args=(shelf.fs, shelf.path("a"), told), daemon=True
    )
    child.start()
    message = told.get(timeout=60)
    child.join(60)
    assert "'it'" in message
    assert "ask its connector for `fs` again" in message
