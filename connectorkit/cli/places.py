"""Places: `ID:path` on a connector, or a path of this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import posixpath
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import click

from connectorkit.cli.exits import Failure, OutputClosed
from connectorkit.errors import ConnectorKitError
from connectorkit.objects import ObjectInfo

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem

    from connectorkit.connector import Connector
    from connectorkit.objects import ObjectInfo

__all__ = ["BLOCK", "STANDARD", "Place", "sentence", "split"]

# Standard input, or standard output.
STANDARD = "-"
# Bytes of a read-ahead, and of the least part of an upload: 10,000 parts, all that S3
# takes, are 160 GiB.
BLOCK = 16 << 20


def split(text: str) -> tuple[str | None, str]:
    """Split `ID:path` into its ID, None for a local path, and its path.

    Raises:
        click.UsageError: It is a URL, or empty.
    """
    if not text:
        raise click.UsageError("A path is empty: write ID:path, or a local path.")
    connector_id, colon, path = text.partition(":")
    if not colon or text.startswith(("/", ".", "~")):
        return None, text
    if path.startswith("//"):
        raise click.UsageError(
            f"{text!r} is a URL: write ID:path, with the ID of a connector."
        )
    if not connector_id:
        raise click.UsageError(f"{text!r} names no connector: write ID:path.")
    # Every connector has one root, and no slash tells a folder from an object.
    path = path.removesuffix("/.").strip("/")
    return connector_id, "" if path == "." else path


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """A file, an object or a folder, there or not.

    Attributes:
        text: As it was named on the command line.
        path: The path within the connector; an absolute one on this machine.
        connector: The connector; None for this machine.
    """

    text: str
    path: str
    connector: Connector | None = None

    @classmethod
    def local(cls, text: str) -> Place:
        """Return the place of a local path; its slash at the end is not lost."""
        return cls(text, str(Path(text).expanduser().absolute()))

    @property
    def fs(self) -> AbstractFileSystem:
        """The filesystem that it is on."""
        if self.connector is not None:
            return self.connector.fs
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    @property
    def name(self) -> str:
        """The last segment of its path; empty for a root, `.` and `..`."""
        path = self.text
        if self.connector is not None:
            path = path.partition(":")[2]
        name = path.rstrip("/").rpartition("/")[2]
        return "" if name in {".", "..", "~"} else name

    @property
    def is_root(self) -> bool:
        """Whether it is all of a connector."""
        is_all = posixpath.normpath(f"/{self.path}") == "/"
        return self.connector is not None and is_all

    def join(self, name: str) -> Place:
        """Return the place of `name` below this one."""
        folder = self.text.removesuffix("/.")
        if not folder.endswith(("/", ":")):
            folder = f"{folder}/"
        path = f"{self.path.rstrip('/')}/{name}"
        if self.connector is not None:
            path = path.lstrip("/")
        return dataclasses.replace(self, text=folder + name, path=path)

    def info(self) -> ObjectInfo:
        """Look it up.

        Raises:
            Failure: It is not there, or the storage does not say.
        """
        from connectorkit.objects import ObjectInfo

        with self.told():
            return ObjectInfo.from_info(self.fs.info(self.path))

    def is_folder(self) -> bool:
        """Tell whether it is there and a folder.

        Raises:
            Failure: The storage does not say.
        """
        if self.path in {"", "/"}:
            return True
        try:
            # Not isdir, which for many storages takes any error for a No.
            return self.info().is_dir
        except Failure as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return False
            raise

    def listing(self, *, recursive: bool = False) -> list[tuple[str, ObjectInfo]]:
        """Return what is in the folder, or the file itself, with relative names.

        Args:
            recursive: Return all files below, and no folders.

        Raises:
            Failure: It is not there, or the storage does not say.
        """
        from connectorkit.objects import ObjectInfo

        with self.told():
            if recursive:
                infos = [*self.fs.find(self.path, detail=True).values()]
            else:
                infos = self.fs.ls(self.path, detail=True)
            if not infos:
                # Many storages list nothing where nothing is.
                self.fs.info(self.path)
            found = [ObjectInfo.from_info(each) for each in infos]
        base = self.path.strip("/")
        named = [
            (_relative(each.path, base), each)
            for each in found
            # Consoles mark a folder by an empty object whose name ends in a slash.
            if not each.path.endswith("/") and not (recursive and each.is_dir)
        ]
        return sorted(named, key=lambda pair: pair[0])

    def open(self) -> IO[bytes]:
        """Open the file for reading."""
        if self.connector is None:
            return Path(self.path).open("rb")
        return cast("IO[bytes]", self.fs.open(self.path, "rb", block_size=BLOCK))

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Turn what is raised within into a sentence that names this place.

        Raises:
            Failure: The sentence; what was raised is its cause.
        """
        try:
            yield
        except (click.ClickException, click.Abort, ConnectorKitError):
            raise
        except (Failure, OutputClosed):
            raise
        except Exception as error:
            raise Failure(f"{self}: {self._remedy(error)}.") from error

    def __str__(self) -> str:
        # As it stands before a colon.
        return self.text.removesuffix(":")

    def _remedy(self, error: Exception) -> str:
        told = None
        if self.connector is not None:
            told = self.connector.remedy(error, self.path)
        elif isinstance(error, FileNotFoundError) and "/" not in self.text:
            return f"{sentence(error)} (on a connector it would be ID:path)"
        return told or sentence(error)


def _relative(path: str, base: str) -> str:
    path = path.strip("/")
    if path == base:
        return path.rpartition("/")[2]
    return path.removeprefix(f"{base}/") if base else path


def sentence(error: BaseException) -> str:
    """Say what an error says, in one line and without a full stop."""
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror
    elif isinstance(error, FileNotFoundError):
        # fsspec's bears a path and no words.
        text = "nothing is there"
    else:
        text = str(error) or type(error).__name__
    notes = getattr(error, "__notes__", ())
    return "; ".join(" ".join(t.split()).rstrip(".") for t in (text, *notes))
