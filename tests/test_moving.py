"""Moves into what is moved, which fsspec deletes after it has copied."""

from __future__ import annotations

from typing import Any

import fsspec
import pytest

from connectorkit import ConnectorKit, set_default_kit
from connectorkit.moving import is_move
from connectorkit.testing import memory_kit


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("a", "a/b"),
        ("a", "a/"),
        ("a/", "a"),
        ("/a", "a/b/c"),
        ("", "a"),
        ("/", "a/b"),
        (["x", "a"], ["y", "a/b"]),
    ],
)
def test_a_folder_is_not_moved_into_itself(source: Any, target: Any) -> None:
    """Whatever the spelling; the error names both."""
    with memory_kit("notes") as kit:
        fs = kit.resolve("notes").fs
        fs.pipe_file("a/b/c", b"1")
        with pytest.raises(ValueError, match="into itself"):
            fs.mv(source, target, recursive=True)
        assert fs.cat_file("a/b/c") == b"1"


@pytest.mark.parametrize(("source", "target"), [("a", "a"), ("a", "/a"), ("a/", "/a/")])
def test_a_move_to_the_same_place_is_none(source: str, target: str) -> None:
    """Two spellings of one path are one place: nothing is copied, nothing deleted."""
    with memory_kit("notes") as kit:
        fs = kit.resolve("notes").fs
        fs.pipe_file("a/x", b"1")
        fs.mv(source, target, recursive=True)
        assert fs.cat_file("a/x") == b"1"


def test_a_file_may_move_below_its_own_name() -> None:
    """Where keys are files and folders alike, only what is recursive deletes both."""
    with memory_kit("notes") as kit:
        fs = kit.resolve("notes").fs
        assert is_move(fs, "a", "a/b", recursive=False)
        assert is_move(fs, "a", "ab", recursive=True)
        assert is_move(fs, "a/b", "a", recursive=True)


def test_a_url_of_a_connector_without_policies_is_guarded_too() -> None:
    """Its own filesystem is fsspec's, which would delete what it has copied."""
    notes = {"type": "memory", "policies": [], "settings": {"name": "moving-bare"}}
    with (
        ConnectorKit({"connectors": {"notes": notes}}) as kit,
        set_default_kit(kit),
    ):
        fs = fsspec.filesystem("connector")
        fs.pipe_file("notes/a/b", b"1")
        with pytest.raises(ValueError, match="into itself"):
            fs.mv("notes/a", "notes/a/", recursive=True)
        assert fs.cat_file("notes/a/b") == b"1"
