"""Kits with one connector, `it`, at a storage of a test's."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.asyn import sync

from connectorkit import ConnectorKit
from connectorkit.clock import SYSTEM_CLOCK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit import Clock
    from contracts.stub import Stub
    from servers import GcsEmulator, S3Server

__all__ = ["kit_at", "settings_for", "sockets_to"]


def settings_for(type_id: str, server: S3Server | GcsEmulator | Stub) -> dict[str, Any]:
    """Return the settings of a connector at `server`."""
    if type_id == "gcs":
        project = getattr(server, "project", "test-project")
        token = {"token": "anon", "project_id": project}
        return {**token, "endpoint_url": server.endpoint_url}
    return {
        "key": getattr(server, "key", "a-key"),
        "secret": getattr(server, "secret", "a-secret"),
        "endpoint_url": server.endpoint_url,
        "region_name": "us-east-1",
    }


def kit_at(
    type_id: str,
    settings: Mapping[str, Any],
    *,
    clock: Clock = SYSTEM_CLOCK,
    **tables: Any,
) -> ConnectorKit:
    """Make a kit with one connector and, unless `tables` name some, no policies."""
    connector = {"type": type_id, "settings": dict(settings)}
    bare = {"connectors": {"it": connector}, "policies": {"enabled": []}}
    return ConnectorKit({**bare, **tables}, clock=clock)


def sockets_to(port: int, loop: asyncio.AbstractEventLoop | None = None) -> int:
    """Count the sockets by which this process is connected to `port`; Linux only.

    Args:
        port: The server's.
        loop: Another thread's loop that may still have to end some.
    """
    if loop is not None:
        # A transport ends its socket one turn of the loop after it is closed.
        for _ in range(3):
            sync(loop, asyncio.sleep, 0)
    peers = set()
    for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]:
        _, _, remote, *rest = line.split()
        if int(remote.split(":")[1], 16) == port:
            peers.add(f"socket:[{rest[6]}]")
    mine = 0
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            mine += str(descriptor.readlink()) in peers
        except FileNotFoundError:
            # The listing's own.
            continue
    return mine
