"""The kit of the whole process, for tools that are given a URL and nothing else."""

from __future__ import annotations

import contextlib
import threading
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Literal, TextIO, overload

from connectorkit.fork import importing, renew_in_child

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsspec import AbstractFileSystem

    from connectorkit.kit import ConnectorKit

__all__ = ["default_kit", "filesystem", "is_default", "open", "set_default_kit"]

_TextMode = Literal["r", "rt", "w", "wt", "a", "at", "x", "xt"]
_BytesMode = Literal["rb", "wb", "ab", "xb"]


class _Default:
    """The process's kit: what the host has set, or else one that is made."""

    def __init__(self) -> None:
        self.chosen: ConnectorKit | None = None
        self._made: ConnectorKit | None = None
        self._lock = threading.Lock()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def kit(self) -> ConnectorKit:
        """Return the kit."""
        if self.chosen is not None:
            return self.chosen
        made = self._made
        if made is None or made.is_closed:
            with self._lock:
                made = self._made
                if made is None or made.is_closed:
                    # The first one imports; a child could not finish that.
                    with importing():
                        made = self._made = _of_usual_places()
        return made

    def reads(self, source: str) -> bool:
        """Tell whether the kit, if there is one yet, is of this configuration."""
        kit = self.chosen or self._made
        return kit is not None and kit._portable_name == source


def _of_usual_places() -> ConnectorKit:
    from connectorkit.kit import ConnectorKit
    from connectorkit.landing import kit_for

    new = ConnectorKit()
    # The host's own of this configuration, if it has one: two would connect twice.
    return kit_for(new._portable_name or "")


_DEFAULT = _Default()


def is_default(source: str) -> bool:
    """Tell whether the process's kit, if there is one yet, is of a configuration."""
    return _DEFAULT.reads(source)


def default_kit() -> ConnectorKit:
    """Return the process's kit, by which `connector://` resolves IDs.

    It is what `set_default_kit` was given, or else made of the usual places when it is
    first asked for; a host's own open kit of that configuration is taken. A forked
    child goes on with its parent's.

    Raises:
        ConfigError: The configuration is wrong; names the line or the key.
    """
    return _DEFAULT.kit()


def set_default_kit(
    kit: ConnectorKit | None,
) -> contextlib.AbstractContextManager[ConnectorKit | None]:
    """Make a kit the process's, for all of its threads, at once.

    ```python
    set_default_kit(kit)           # from now on
    with set_default_kit(kit): ... # for a while, as tests do
    ```

    Args:
        kit: The kit; None for one of the usual places.

    Returns:
        What puts the one before back, at the end of a `with`.
    """
    before, _DEFAULT.chosen = _DEFAULT.chosen, kit
    return _until_then(before, kit)


@contextlib.contextmanager
def _until_then(
    before: ConnectorKit | None, kit: ConnectorKit | None
) -> Iterator[ConnectorKit | None]:
    try:
        yield kit
    finally:
        _DEFAULT.chosen = before


def filesystem(connector_id: str) -> AbstractFileSystem:
    """Return a connector's filesystem, resolved by the process's kit.

    Its paths are the storage's own: `bucket/key`. For those of `connector://` use
    `fsspec.filesystem("connector")`.

    Raises:
        ConnectorKitError: What `ConnectorKit.resolve` raises.
    """
    return default_kit().resolve(connector_id).fs


@overload
def open(url: str, mode: _TextMode, **options: Any) -> TextIO: ...  # noqa: A001 - as fsspec's
@overload
def open(url: str, mode: _BytesMode = ..., **options: Any) -> BinaryIO: ...  # noqa: A001 - as fsspec's
@overload
def open(url: str, mode: str, **options: Any) -> IO[Any]: ...  # noqa: A001 - as fsspec's
def open(url: str, mode: str = "rb", **options: Any) -> Any:  # noqa: A001 - as fsspec's
    """Open `connector://ID/path`, by the process's kit.

    ```python
    with connectorkit.open("connector://reports/bucket/a.csv", "w") as file: ...
    ```

    An exception within the `with` drops what was written; what was there stays.

    Args:
        url: `connector://ID/path`.
        mode: As Python's own `open` takes it; bytes if nothing is said.
        options: `encoding`, `errors` and `newline` for text; `compression`,
            `block_size` in bytes; and the storage's own.

    Raises:
        ValueError: It is a URL of another protocol.
        FileNotFoundError: Nothing is there to read.
        ConnectorKitError: What `ConnectorKit.resolve` raises.
    """
    from connectorkit.protocol.filesystem import ConnectorFileSystem

    return ConnectorFileSystem().open(url, mode, **options)
