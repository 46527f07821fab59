"""The guarded filesystem: any fsspec filesystem behind a connector's policies."""

from connectorkit.guarded.filesystem import GuardedFileSystem
from connectorkit.guarded.inner import is_async
from connectorkit.guarded.threaded import ThreadedFileSystem

__all__ = ["GuardedFileSystem", "ThreadedFileSystem", "is_async"]
