"""Filesystems that stand alone: made without a kit, they have the default policies."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from connectorkit.pipeline import Pipeline
from connectorkit.scope import Scope

if TYPE_CHECKING:
    from connectorkit.kit import ConnectorKit
    from connectorkit.wired import Wired

__all__ = ["standalone_pipeline"]


@functools.cache
def _kit() -> ConnectorKit:
    """Return a kit that knows the plugins and no configuration."""
    from connectorkit.kit import ConnectorKit

    return ConnectorKit({})


def standalone_pipeline(fs: Wired) -> Pipeline:
    """Return the default policies for a filesystem that serves no connector."""
    kit, type_id = _kit(), fs.connector_type
    teaches = kit.connector_type(type_id)
    scope = Scope(
        type_id,
        type_id,
        # fsspec's own digest of its arguments.
        (type(fs), fs._fs_token),  # type: ignore[attr-defined]
        is_adhoc=True,
        classify=teaches.classify,
        emit=kit.registry.emit,
    )
    return Pipeline(kit.default_policies(), scope)
