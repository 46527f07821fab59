"""A memory connector is the store of its name, for as long as the process lives."""

from __future__ import annotations

import secrets

import fsspec
import pytest

from connectorkit import ConnectorKit
from contracts.places import kit_at


@pytest.fixture
def name() -> str:
    """Name a store that no other test writes to."""
    return secrets.token_hex(8)


def _kit(*names: str, size: int = 256) -> ConnectorKit:
    connectors = {n: {"type": "memory", "settings": {"name": n}} for n in names}
    return ConnectorKit({"connectors": connectors, "pool": {"size": size}})


def test_names_are_apart(name: str) -> None:
    """Connectors of two names see nothing of each other."""
    one, other = f"{name}-1", f"{name}-2"
    with _kit(one, other) as kit:
        kit.resolve(one).fs.pipe_file("/file", b"one")
        assert not kit.resolve(other).fs.exists("/file")
        assert kit.resolve(other).fs.ls("/") == []
        kit.resolve(other).fs.pipe_file("/file", b"other")
        assert kit.resolve(one).fs.cat_file("/file") == b"one"


def test_apart_from_fsspec(name: str) -> None:
    """The store that fsspec keeps for the whole process is another."""
    with _kit(name) as kit:
        kit.resolve(name).fs.pipe_file(f"/{name}", b"content")
        assert not fsspec.filesystem("memory").exists(f"/{name}")


def test_name_is_shared(name: str) -> None:
    """Connectors of one name share a store, of other kits, too."""
    with _kit(name) as one, kit_at("memory", {"name": name}) as other:
        one.resolve(name).fs.pipe_file("/folder/file", b"content")
        other.resolve("it").fs.makedirs("/empty")
        assert other.resolve("it").fs.cat_file("/folder/file") == b"content"
        assert one.resolve(name).fs.ls("/", detail=False) == ["/empty", "/folder"]


def test_outlives_the_pool(name: str) -> None:
    """A store keeps its content when its filesystem leaves the pool."""
    with _kit(name, f"{name}-2", size=1) as kit:
        kit.resolve(name).fs.pipe_file("/folder/file", b"content")
        kit.resolve(f"{name}-2")
        assert len(kit._pool) == 1
        assert kit.resolve(name).fs.find("") == ["/folder/file"]
        assert kit.resolve(name).fs.cat_file("/folder/file") == b"content"
    # A new kit opens a new filesystem.
    with _kit(name) as kit:
        assert kit.resolve(name).fs.cat_file("/folder/file") == b"content"
