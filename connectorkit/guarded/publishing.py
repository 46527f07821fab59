"""Publishing: a whole file goes to a storage, as one attempt that can be made again."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from fsspec import AbstractFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.spec import AbstractBufferedFile

from connectorkit.guarded.inner import beneath, brings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["appended", "published"]

_CHUNK = 1 << 20


def appended(path: str, source: IO[bytes]) -> None:
    """Append to a file of this machine; if that fails, it is as it was.

    Raises:
        OSError: It failed.
    """
    source.seek(0)
    with Path(path).open("ab", buffering=0) as file:
        is_regular = file.seekable()
        start = os.fstat(file.fileno()).st_size
        count = 0
        try:
            while chunk := source.read(_CHUNK):
                count += _write(file, chunk)
        except BaseException:
            # Unless somebody else appends to it: then nothing tells what is whose.
            if is_regular and os.fstat(file.fileno()).st_size == start + count:
                file.truncate(start)
            raise
