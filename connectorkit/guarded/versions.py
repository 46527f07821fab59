"""Versions: a file that is read in several pieces has to stay the one it was."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any

from connectorkit.errors import ObjectChanged
from connectorkit.guarded.inner import GONE, version

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit.guarded.transfers import Transfers

__all__ = ["Versions", "changed", "descriptor_of"]


class Versions:
    """Compares a file's version before the first of several pieces and after the last.

    Where the file is open on this machine, that is after each piece, and costs nothing;
    elsewhere it is a request, when the end is reached and when the file is closed. A
    change that keeps what the storage tells of a file (its size, its time, its ETag if
    it has one) goes unseen, and what was read before one is seen is not taken back.

    Args:
        fs: The guarded filesystem.
        path: The file's path there.
        info: What the storage said of it when it was opened, if it did.
        descriptor: The file's, if it is open on this machine.
    """

    def __init__(
        self,
        fs: Transfers,
        path: str,
        info: Mapping[str, Any] | None = None,
        descriptor: int | None = None,
    ) -> None:
        self._fs = fs
        self._path = path
        self._descriptor = descriptor
        self._pieces = 0
        self._is_due = False
        self._before: tuple[Any, ...] | None = None
        if descriptor is not None:
            self._before = self._now()
        elif info is not None:
            self._before = version(info)

    def begin(self) -> None:
        """Ask for the version before the first piece, unless it is known."""
        if self._before is None:
            try:
                info = self._fs._seen(self._path)
            except FileNotFoundError:
                info = None
            # Of a storage that does not say there is nothing to compare.
            self._before = () if info is None else version(info)

    def count(self) -> None:
        """Count a piece.

        Raises:
            ObjectChanged: It is not of the file that the pieces before were of.
        """
        self._pieces += 1
        self._is_due = self._pieces > 1
        if self._descriptor is not None:
            self.check()

    def check(self) -> None:
        """Compare, if several pieces came and one since this was last done.

        Raises:
            ObjectChanged: They are not of one file.
        """
        if not self._is_due or not self._before:
            return
        self._is_due = False
        try:
            now = self._now()
        except GONE as error:
            raise changed(self._path) from error
        if now != self._before:
            raise changed(self._path)

    def _now(self) -> tuple[Any, ...]:
        if self._descriptor is not None:
            # Not by its path: a file that takes its place leaves this one as it is.
            now = os.fstat(self._descriptor)
            return now.st_size, now.st_mtime_ns
        return version(self._fs.info(self._path))


def changed(path: str) -> ObjectChanged:
    """Return the error that says that a file is not what it was."""
    return ObjectChanged(
        f"{path!r} was changed while it was read, and what came may be of two "
        "versions: read it again."
    )


def descriptor_of(file: Any) -> int | None:
    """Return the descriptor of a regular file that is open on this machine."""
    try:
        descriptor: int = file.fileno()
        is_regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except (AttributeError, OSError, TypeError, ValueError):
        return None
    return descriptor if is_regular else None
