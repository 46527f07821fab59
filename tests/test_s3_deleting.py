"""Deleting many keys by one request: for some of them it may fail.

At a stub: no real server can be told to fail for single keys.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from connectorkit import ConnectorKit
from connectorkit.testing import VirtualClock
from contracts.places import settings_for
from contracts.stub import Answer, Request, Stub

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem

_KEY = re.compile(r"<Key>([^<]*)</Key>")


class Bucket:
    """Deletes keys, unless it is told to say something else of one, so many times."""

    def __init__(self) -> None:
        self.says: dict[str, list[str]] = {}
        self.asked: list[list[str]] = []

    def __call__(self, request: Request) -> Answer:
        if request.method == "HEAD":
            return Answer(200, b"", {"ETag": '"1"'})
        keys = _KEY.findall(request.body.decode())
        self.asked.append(keys)
        errors = "".join(
            f"<Error><Key>{key}</Key><Code>{self.says[key].pop(0)}</Code>"
            "<Message>So it is.</Message></Error>"
            for key in keys
            if self.says.get(key)
        )
        return Answer(200, f"<DeleteResult>{errors}</DeleteResult>".encode())


@pytest.fixture
def bucket() -> Bucket:
    """A bucket that deletes what it is asked to."""
    return Bucket()


@pytest.fixture
def kit(bucket: Bucket) -> Iterator[ConnectorKit]:
    """A kit with a connector to it, and a clock that nobody waits for."""
    with Stub(bucket) as stub:
        connector = {"type": "s3", "settings": settings_for("s3", stub)}
        clock = VirtualClock()
        with ConnectorKit({"connectors": {"it": connector}}, clock=clock) as kit:
            yield kit


@pytest.fixture
def fs(kit: ConnectorKit) -> AbstractFileSystem:
    """Its filesystem."""
    return kit.resolve("it").fs


def test_what_passes_is_asked_for_again(fs: AbstractFileSystem, bucket: Bucket) -> None:
    """Keys that could not be deleted for now, and no others, have further attempts."""
    bucket.says = {"b": ["InternalError"], "c": ["SlowDown", "InternalError"]}
    fs.rm(["bucket/a", "bucket/b", "bucket/c"])
    assert bucket.asked == [["a", "b", "c"], ["b", "c"], ["c"]]


def test_what_stays_is_raised(fs: AbstractFileSystem, bucket: Bucket) -> None:
    """After the last attempt the error says how many are left, and how it was tried."""
    bucket.says = {key: ["InternalError"] * 9 for key in "bc"}
    with pytest.raises(OSError, match="b could not be deleted, and 1 more: Int") as it:
        fs.rm(["bucket/a", "bucket/b", "bucket/c"])
    assert bucket.asked == [["a", "b", "c"], ["b", "c"], ["b", "c"]]
    assert it.value.__cause__ is not None
    assert "3 attempts" in it.value.__cause__.__notes__[0]


def test_what_is_refused_is_not_asked_for_again(
    fs: AbstractFileSystem, bucket: Bucket
) -> None:
    """A denied key is told of once the others have had their attempts."""
    bucket.says = {"a": ["AccessDenied"], "b": ["InternalError"]}
    with pytest.raises(PermissionError, match="bucket/a"):
        fs.rm(["bucket/a", "bucket/b"])
    assert bucket.asked == [["a", "b"], ["b"]]


def test_cleanup_reports_what_stays(kit: ConnectorKit, bucket: Bucket) -> None:
    """Its per-key errors are those of the last attempt."""
    bucket.says = {"a": ["InternalError", "AccessDenied"]}
    fs = kit.resolve("it").fs
    failed = fs.delete_keys("bucket", ["a", "b"])
    assert {key: said["Code"] for key, said in failed.items()} == {"a": "AccessDenied"}


def test_throttles_of_single_keys_are_heard_of(
    kit: ConnectorKit, bucket: Bucket
) -> None:
    """The pace slows down as after any other throttle."""
    bucket.says = {"a": ["SlowDown"]}
    kit.resolve("it").fs.rm(["bucket/a"])
    memory = kit.resolve("it").pipeline.scope.memory
    rates = [it.rate for _, it in memory.items() if hasattr(it, "rate")]
    assert any(rates)
