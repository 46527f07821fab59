"""Local files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
import stat
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

__all__ = ["Beside", "in_the_way", "replacing"]

# What filesystems say that know no hard links.
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV}


class Beside:
    """A place beside a local file; for a `with`, at whose end it becomes the file.

    An exception leaves what was there before, and nothing else. A link is followed.
    The new file has the mode of the old one, and its owner if that is allowed; who has
    the old one by a hard link keeps it. What is no regular file (a pipe, a device, a
    folder) is written itself.

    Args:
        target: The file.
        is_new: Whether it must not be there.

    Attributes:
        path: Where to write.
        is_direct: Whether that is the target itself.

    Raises:
        FileExistsError: It is there, and must not be.
        PermissionError: It is there, and may not be written.
    """

    def __init__(self, target: str, *, is_new: bool = False) -> None:
        if is_new and os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        self.path = target
        self._is_new = is_new
        there = _stat(Path(target))
        # A slash at its end says that it is to be a folder.
        self.is_direct = target.endswith("/")
        if there is not None and not stat.S_ISREG(there.st_mode):
            self.is_direct = True
        elif there is not None and not os.access(target, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), target)
        self._target = Path(os.path.realpath(target))
        if not self.is_direct:
            name = f".connectorkit-{secrets.token_hex(8)}.part"
            self.path = str(self._target.with_name(name))

    def settle(self) -> None:
        """Let it take its place, if anything was written.

        Raises:
            FileExistsError: Another one has taken it, and it must not be replaced.
            OSError: It cannot; what was there before stays.
        """
        beside = Path(self.path)
        if self.is_direct or not os.path.lexists(beside):
            return
        if beside.is_dir():
            # What was asked for is a folder.
            beside.rmdir()
            self._target.mkdir(parents=True, exist_ok=True)
        elif self._is_new:
            self._settle_new(beside)
        else:
            if (there := _stat(self._target)) is not None:
                _make_alike(beside, there)
            beside.replace(self._target)

    def _settle_new(self, beside: Path) -> None:
        try:
            self._target.hardlink_to(beside)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Once it is there, nobody else makes it.
            self._target.touch(exist_ok=False)
            try:
                beside.replace(self._target)
            except BaseException:
                self._target.unlink()
                raise
        else:
            beside.unlink()

    def clear(self) -> None:
        """Remove what was written and has not settled."""
        beside = Path(self.path)
        if self.is_direct:
            return
        if beside.is_dir() and not beside.is_symlink():
            shutil.rmtree(beside)
        else:
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                beside.unlink()

    def explain(self, error: BaseException) -> None:
        """Let an error name the file that was asked for."""
        if isinstance(error, OSError) and str(error.filename) == self.path:
            error.filename = str(self._target)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.settle()
            else:
                self.explain(error)
        except BaseException as failed:
            self.explain(failed)
            raise
        finally:
            self.clear()


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


def in_the_way(path: str, target: str) -> IsADirectoryError:
    """Return the error that says that a folder lies where an object is to be stored.

    Keys may name an object and, with a slash behind, a folder; files may not.
    """
    why = f"{os.strerror(errno.EISDIR)}, where {path!r} is to be stored"
    return IsADirectoryError(errno.EISDIR, why, target)


def _stat(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def _make_alike(beside: Path, old: os.stat_result) -> None:
    new = beside.stat()
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        with contextlib.suppress(OSError):
            os.chown(beside, old.st_uid, old.st_gid)
    if old.st_mode != new.st_mode:
        beside.chmod(stat.S_IMODE(old.st_mode))
