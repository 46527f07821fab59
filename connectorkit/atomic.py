"""Local files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING

from connectorkit.guarded.beside import Beside

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a file to write, which takes the place of `target` at the end of the block.

    It is written beside the target and renamed; an exception leaves what was there. A
    link is followed, mode and owner stay, and what is no regular file (a pipe,
    /dev/null) is written as it is.

    Raises:
        PermissionError: It is there, and may not be written.
        OSError: It cannot be written, or not renamed.
    """
    with Beside(os.fspath(target)) as beside, Path(beside.path).open("wb") as file:
        yield file
