"""Places: what is an ID, what a path, what is refused."""

from __future__ import annotations

import click
import pytest

from connectorkit.cli import places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("reports:bucket/key", ("reports", "bucket/key")),
        ("minio|c799f6e3:b/k", ("minio|c799f6e3", "b/k")),
        ("reports:", ("reports", "")),
        ("reports:/", ("reports", "")),
        ("reports:.", ("reports", "")),
        ("reports:/bucket/", ("reports", "bucket")),
        ("reports:folder/.", ("reports", "folder")),
        ("reports:a:b", ("reports", "a:b")),
        ("reports:.hidden", ("reports", ".hidden")),
        ("key", (None, "key")),
        ("./a:b", (None, "./a:b")),
        ("../a:b", (None, "../a:b")),
        ("/a:b", (None, "/a:b")),
        ("~/a:b", (None, "~/a:b")),
    ],
)
def test_split(text: str, expected: tuple[str | None, str]) -> None:
    """A place is split at its first colon; without one, or with . / ~, it is local."""
    assert places.split(text) == expected


@pytest.mark.parametrize("text", ["", ":key", "s3://bucket/key"])
def test_split_refuses(text: str) -> None:
    """A place that is empty, has no ID or is a URL is refused."""
    with pytest.raises(click.UsageError):
        places.split(text)
