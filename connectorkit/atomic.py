"""Local files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["replacing"]


@contextlib.contextmanager
def replacing(target: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Yield a file to write, which takes the place of `target` at the end of the block.

    It is written beside the target and renamed; an exception leaves what was there.
    A link is followed; what is no regular file (a pipe, /dev/null) is written as it is.

    Raises:
        OSError: It cannot be written, or not renamed.
    """
    path = Path(os.path.realpath(target))
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    # Most filesystems take names of 255 bytes; a letter has up to four.
    beside = path.with_name(f".{path.name[:50]}.{secrets.token_hex(6)}.part")
    try:
        with beside.open("xb") as file:
            yield file
        if path.exists():
            shutil.copymode(path, beside)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
