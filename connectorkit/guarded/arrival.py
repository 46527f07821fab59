"""Arrival: where a file of a storage comes to on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from fsspec.utils import isfilelike, stringify_path

from connectorkit.atomic import Beside

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

__all__ = ["Arrival"]


class Arrival:
    """A path, or something to write to; for a `with`, at whose end the file is there.

    At a path an exception leaves what was there before.

    Args:
        target: The path, or something with `write`.
        is_file: Whether it is certain to be the latter.
    """

    def __init__(self, target: Any, *, is_file: bool = False) -> None:
        self._file: Any = target if is_file or isfilelike(target) else None
        self._path = "" if self._file is not None else stringify_path(target)
        self._beside: Beside | None = None
        self._start: int | None = None
        self._failed: BaseException | None = None

    def is_folder(self, info: Mapping[str, Any] | None) -> bool:
        """Tell whether it was a folder that is asked for; then it is made."""
        if self._file is not None or info is None or info["type"] != "directory":
            return False
        Path(self._path).mkdir(parents=True, exist_ok=True)
        return True

    def __enter__(self) -> Self:
        if self._file is None:
            self._beside = Beside(self._path)
        elif getattr(self._file, "seekable", bool)():
            self._start = self._file.tell()
        return self

    @property
    def is_repeatable(self) -> bool:
        """Whether a second attempt can begin where the first one did."""
        if self._beside is not None:
            return not self._beside.is_direct
        return self._start is not None

    def begin(self) -> Any:
        """Return what an attempt writes to.

        Raises:
            BaseException: What the last one failed with, if it cannot begin anew.
        """
        if self._failed is not None:
            if not self.is_repeatable:
                raise self._failed
            if self._beside is not None:
                self._beside.clear()
            elif self._file is not None:
                self._file.seek(self._start)
                self._file.truncate()
        return self._file if self._beside is None else self._beside.path

    def failed(self, error: BaseException) -> None:
        """Remember what an attempt failed with."""
        self._failed = error

    def size(self) -> int:
        """Return how many bytes have come, as far as that can be told."""
        if self._beside is None:
            return 0 if self._start is None else self._file.tell() - self._start
        path = Path(self._beside.path)
        return path.stat().st_size if path.is_file() else 0

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._beside is not None:
            self._beside.__exit__(kind, error, traceback)
