"""No entry crosses from one credential, or tenant, to another."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import ConnectorKit
from test_cache.support import Shelves, entries

if TYPE_CHECKING:
    from pathlib import Path

    from faults.s3_places import Place

CACHES = ["hot", "content", "listings"]


@pytest.mark.parametrize("cache", CACHES)
def test_tenants_do_not_share(cache: str, tmp_path: Path) -> None:
    """Two that came with their own settings under one ID have their own answers.

    Here both storages name the same path and the same version for other bytes.
    """
    tables: dict[str, Any] = {"content": {"directory": str(tmp_path)}}
    with Shelves(cache, **tables) as shelves:
        shelves.shelf({"k": b"alice's"}, "alice")
        shelves.shelf({"k": b"bob's !!"}, "bob")
        for name, data in (("alice", b"alice's"), ("bob", b"bob's !!")) * 2:
            fs = shelves.fs("shelf", name=name)
            assert fs.cat_file("k") == data
            assert fs.info("k")["size"] == len(data)


@pytest.mark.parametrize("cache", CACHES)
def test_credentials_do_not_share(cache: str, tmp_path: Path) -> None:
    """Neither do two credentials at one storage, be it only a secret that differs."""
    tables: dict[str, Any] = {"content": {"directory": str(tmp_path)}}
    with Shelves(cache, **tables) as shelves:
        shelves.shelf({"k": b"content"})
        for secret in ("one", "two", ""):
            fs = shelves.fs("shelf", name="it", secret=secret)
            assert fs.exists("k")
            assert fs.cat_file("k") == b"content"
        results = shelves.ears.results(cache)
        assert results.count("miss") == 3
        assert results.count("hit") == 0
        # What the host has configured is not what a tenant brings, be it the same.
        assert shelves.fs("it").exists("k")
        assert shelves.fs("it").cat_file("k") == b"content"
        assert shelves.ears.results(cache).count("hit") == 0


@pytest.mark.parametrize("cache", CACHES)
def test_kits_with_other_settings_do_not_share(cache: str, tmp_path: Path) -> None:
    """Two kits in one process, whose ID leads to different storages, never mix them."""
    tables: dict[str, Any] = {"content": {"directory": str(tmp_path)}}
    content = [b"one", b"two"]

    def config(name: str) -> dict[str, Any]:
        settings = {"name": name}
        connector = {"type": "memory", "settings": settings}
        return {
            "connectors": {"it": connector},
            "policies": {"enabled": [cache], **tables},
        }

    with ConnectorKit(config("one")) as one, ConnectorKit(config("two")) as two:
        for kit, data in zip((one, two), content, strict=True):
            kit.resolve("it").fs.pipe_file("/k", data)
        for _ in range(2):
            for kit, data in zip((one, two), content, strict=True):
                assert kit.resolve("it").fs.cat_file("/k") == data
                assert kit.resolve("it").fs.info("/k")["size"] == 3


@pytest.mark.parametrize("cache", CACHES)
def test_kits_of_one_storage_see_each_others_writes(cache: str, tmp_path: Path) -> None:
    """What is written through one kit is seen at once through another of this process.

    Their policies may have other settings.
    """
    tables = {"content": {"directory": str(tmp_path)}}
    kits = []
    for number in range(2):
        its = {"content": {"directory": str(tmp_path), "largest": 1000 + number}}
        its |= {"hot": {"seconds": 100 + number}, "listings": {"seconds": 100 + number}}
        connector = {"type": "memory", "settings": {"name": f"shared-{cache}"}}
        config = {"connectors": {"it": connector}}
        kits.append(ConnectorKit({**config, "policies": {"enabled": [cache], **its}}))
    del tables
    one, two = (kit.resolve("it").fs for kit in kits)
    try:
        for number in range(3):
            data = b"x" * number
            assert not two.exists(f"/f/{number}")
            one.pipe_file("/f/k", data)
            one.touch(f"/f/{number}")
            assert two.cat_file("/f/k") == data
            assert two.info("/f/k")["size"] == number
            assert two.exists(f"/f/{number}")
            assert f"/f/{number}" in two.ls("/f", detail=False)
    finally:
        for kit in kits:
            kit.close()


def test_who_may_not_look_is_served_nothing(
    s3: Place, key: str, tmp_path: Path
) -> None:
    """An entry on disk is no right: each process asks by its own credentials."""
    from connectorkit.testing import Status

    s3.put(key, b"content")
    policies = {"enabled": ["content"], "content": {"directory": str(tmp_path)}}
    with s3.kit_with(policies=policies) as kit:
        kit.resolve("it").fs.cat_file(s3.path(key))
    s3.proxy.inject(Status(403), times=None)
    with s3.kit_with(policies=policies) as kit, pytest.raises(PermissionError):
        kit.resolve("it").fs.cat_file(s3.path(key))
    assert len(entries(tmp_path)) == 1


def test_names_on_disk_tell_nothing(tmp_path: Path) -> None:
    """No path, ID or secret stands in a name, and no path or secret in an entry."""
    content = {"directory": str(tmp_path / "c")}
    with Shelves("content", content=content) as shelves:
        shelves.shelf({"payroll/2026": b"content"}, "alices-bucket")
        fs = shelves.fs("shelf", name="alices-bucket", secret="s3cr3t-s3cr3t")
        fs.cat_file("payroll/2026")
    for path in (tmp_path / "c").rglob("*"):
        told = str(path.relative_to(tmp_path)).encode()
        told += path.read_bytes() if path.is_file() else b""
        for word in (b"payroll", b"alices", b"s3cr3t"):
            assert word not in told
