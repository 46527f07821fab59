"""`UPath("connector://ID/path")`: pathlib's manners over connectors."""

from __future__ import annotations

from upath.implementations.cloud import CloudPath

__all__ = ["ConnectorPath"]


class ConnectorPath(CloudPath):
    """A path of `connector://`; the ID is its drive, as a bucket is S3's."""

    __slots__ = ()
