"""Local: a directory of this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import stringify_path
from pydantic import Field, field_validator

from connectorkit import ConnectorType, Settings, hookimpl

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

__all__ = ["Local", "LocalSettings"]

# Linux's own limit.
_PATH_MAX = 4096


class LocalSettings(Settings):
    """Which directory."""

    path: Path = Field(
        title="Directory",
        description="An absolute path, or one that begins with ~; made if it is not "
        "there. Paths of the connector are relative to it.",
    )

    @field_validator("path", mode="before")
    @classmethod
    def _is_given(cls, value: object) -> object:
        if isinstance(value, str) and not value.strip():
            raise ValueError("is required")
        if isinstance(value, str) and len(value) > _PATH_MAX:
            raise ValueError(f"is longer than {_PATH_MAX} characters")
        return value

    @field_validator("path")
    @classmethod
    def _is_absolute(cls, path: Path) -> Path:
        if "\0" in str(path):
            raise ValueError("holds a null character")
        try:
            path = path.expanduser()
        except RuntimeError:
            raise ValueError("names a home directory that is not there") from None
        if not path.is_absolute():
            raise ValueError("must be absolute")
        if path == path.parent:
            raise ValueError("is the whole machine: name a directory")
        if set(str(path)) & set("*?["):
            # fsspec would take it for a pattern, and find other directories' files.
            raise ValueError("holds one of *?[")
        return path


class LocalDirectory(DirFileSystem):  # type: ignore[misc]
    """fsspec's, as sync as what it wraps, and true to a slash at a path's end.

    A leading slash is the directory itself. A path with `..` is refused: the system
    would follow a link before it.
    """

    # It derives from the async class, whose coroutines a local filesystem lacks.
    async_impl = False

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        # As it answers: else what is made of other methods would take `/a` and `a`,
        # which are the same here, for two.
        stripped = super()._strip_protocol(path)
        return stripped.lstrip("/") if isinstance(stripped, str) else stripped

    def _join(self, path: Any) -> Any:
        path = stringify_path(path)
        if isinstance(path, str):
            if ".." in path.split("/"):
                raise ValueError(f"the path {path!r} holds '..', which escapes")
            path = path.lstrip("/")
        joined = super()._join(path)
        # To copy, get and put, the slash says "into this folder, which may be new".
        if isinstance(path, str) and path.endswith("/"):
            return f"{joined.rstrip('/')}/"
        return joined

    def rm(self, path: Any, *args: Any, **kwargs: Any) -> None:
        """Remove files and folders below the directory; never the directory."""
        for each in [path] if isinstance(path, str) else path:
            if not self._strip_protocol(each).strip("/."):
                raise ValueError("the directory of a connector is not removed")
        super().rm(path, *args, **kwargs)


class Local(ConnectorType[LocalSettings]):
    """A directory of this machine; nothing above it can be reached by a path."""

    id = "local"
    title = "Local directory"
    aliases = ("localstorage|ded5e7f0-f527-416d-8d4a-19f559bd6da5",)
    reads_host = True
    Settings = LocalSettings

    def open(self, settings: LocalSettings, **options: Any) -> AbstractFileSystem:
        """Make the directory and open it."""
        settings.path.mkdir(parents=True, exist_ok=True)
        local = LocalFileSystem(auto_mkdir=True)
        return LocalDirectory(path=str(settings.path), fs=local, **options)

    def remedy(
        self, error: BaseException, path: str, settings: LocalSettings
    ) -> str | None:
        """Say what is wrong with the directory."""
        del path
        if isinstance(error, OSError) and error.filename == str(settings.path):
            return f"the directory {settings.path} cannot be used: {error.strerror}"
        return None

    def endpoint(self, settings: LocalSettings) -> str:
        """Say which directory."""
        return str(settings.path)


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """Local directories."""
    return [Local]
