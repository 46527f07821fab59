"""The filesystem of `connector://`: it holds no storage, it finds each path's own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Self

from fsspec import AbstractFileSystem
from fsspec.utils import stringify_path

from connectorkit.default import default_kit, is_default
from connectorkit.errors import NotPicklable
from connectorkit.landing import kit_for
from connectorkit.protocol.across import Across
from connectorkit.protocol.files import ConnectorFile
from connectorkit.protocol.looks import Look, Looks
from connectorkit.protocol.methods import deferrable, handed_on
from connectorkit.protocol.places import (
    PROTOCOL,
    Place,
    place_of,
    plain,
)
from connectorkit.protocol.several import Several
from connectorkit.releasable import Releasable
from connectorkit.writing import LayeredOpen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit.kit import ConnectorKit

__all__ = ["ConnectorFileSystem"]


class ConnectorFileSystem(LayeredOpen, Across, Several, AbstractFileSystem):  # type: ignore[misc]
    """Every connector in one fsspec filesystem: `connector://ID/path`.

    The ID is a path's first part. Each method is that of the connector's own
    filesystem, under its policies; paths in answers begin with the ID. It holds no
    secret and no connection, and pickles as the name of its configuration. Its
    listing of the root shows the IDs that the configuration names.

    It is a synchronous filesystem; on an event loop use `Connector.async_fs()`.

    Args:
        config: The path of a connectorkit.toml; None for the process's default kit.
        storage_options: fsspec's own.
    """

    protocol = PROTOCOL
    root_marker = ""

    def __init__(
        self, config: str | os.PathLike[str] | None = None, **storage_options: Any
    ) -> None:
        super().__init__(**storage_options)
        self._looks = Looks()
        self.config = None if config is None else os.path.abspath(config)  # noqa: PTH100 - no link is followed

    @property
    def kit(self) -> ConnectorKit:
        """The kit that resolves its IDs."""
        return default_kit() if self.config is None else kit_for(self.config)

    @property
    def fsid(self) -> str:
        """Its protocol, and its configuration if it has one of its own."""
        return PROTOCOL if self.config is None else f"{PROTOCOL}:{self.config}"

    # Paths

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        if isinstance(path, list):
            return [cls._strip_protocol(each) for each in path]
        return plain(str(stringify_path(path))).rstrip("/")

    def unstrip_protocol(self, name: str) -> str:
        """Return a path as a URL."""
        return f"{PROTOCOL}://{self._strip_protocol(name)}"

    def place(self, path: Any) -> Place:
        """Resolve a path, to the connector's filesystem and the path there.

        Raises:
            InvalidConnectorID: It names no connector.
            ConnectorKitError: What `ConnectorKit.resolve` raises.
        """
        self._looks.take()
        return place_of(self.kit, str(stringify_path(path)))

    # One path

    checksum = handed_on("checksum")
    created = handed_on("created")
    modified = handed_on("modified")
    sign = handed_on("sign")
    size = handed_on("size")
    ukey = handed_on("ukey")

    find = handed_on("find", Place.entries)
    glob = handed_on("glob", Place.entries)

    cat_file = handed_on("cat_file")
    get_file = handed_on("get_file")
    head = handed_on("head")
    read_block = handed_on("read_block")
    read_bytes = handed_on("read_bytes")
    read_text = handed_on("read_text")
    tail = handed_on("tail")

    pipe_file = deferrable("pipe_file")
    touch = deferrable("touch")
    write_bytes = deferrable("write_bytes")
    write_text = deferrable("write_text")

    makedirs = handed_on("makedirs")
    mkdir = handed_on("mkdir")
    rm_file = handed_on("rm_file")
    rmdir = handed_on("rmdir")

    def du(self, path: Any, *args: Any, **kwargs: Any) -> Any:
        """Return how many bytes the files below a path have, together or each."""
        place = self.place(path)
        return place.keyed(place.fs.du(place.path, *args, **kwargs))

    def walk(self, path: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        """Yield each folder below a path, with the folders and files in it."""
        place = self.place(path)
        for step in place.fs.walk(place.path, *args, **kwargs):
            told = place.step(step)
            yield told
            if told[1] is not step[1]:
                # Who walks from the top may have taken some out.
                for name in set(step[1]) - set(told[1]):
                    del step[1][name]

    # One path, or the root

    def ls(self, path: Any, detail: bool = True, **kwargs: Any) -> list[Any]:
        """List a folder; the root has the connectors that the configuration names."""
        if self._is_root(path):
            self.kit._refuse_if_closed()
            ids = self.kit.connector_ids()
            return [_folder(each) for each in ids] if detail else ids
        place = self.place(path)
        found: list[Any]
        found = place.entries(place.fs.ls(place.path, detail=detail, **kwargs))
        return found

    def info(self, path: Any, **kwargs: Any) -> dict[str, Any]:
        """Look a file or folder up.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        if self._is_root(path):
            return _folder("")
        place = self.place(path)
        return place.entry(place.fs.info(place.path, **kwargs))

    def exists(self, path: Any, **kwargs: Any) -> bool:
        """Tell whether something is there; an ID that nobody knows is an error."""
        return self._asked("exists", path, True, **kwargs)

    def lexists(self, path: Any, **kwargs: Any) -> bool:
        """Tell whether something is there, be it a link that leads nowhere."""
        return self._asked("lexists", path, True, **kwargs)

    def isdir(self, path: Any) -> bool:
        """Tell whether a folder is there."""
        return self._asked("isdir", path, True)

    def isfile(self, path: Any) -> bool:
        """Tell whether a file is there; an open at once does not look it up again."""
        if self._is_root(path):
            return False
        place = self.place(path)
        if not isinstance(place.fs, Releasable):
            return bool(place.fs.isfile(place.path))
        try:
            info: dict[str, Any] = place.fs.info(place.path)  # type: ignore[attr-defined]
        except FileNotFoundError:
            return False
        self._looks.last = Look.of(place, info, self.kit._clock())
        return bool(info["type"] == "file")

    def _asked(self, question: str, path: Any, of_root: bool, **kwargs: Any) -> bool:
        if self._is_root(path):
            return of_root
        place = self.place(path)
        return bool(getattr(place.fs, question)(place.path, **kwargs))

    def _is_root(self, path: Any) -> bool:
        return not self._strip_protocol(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget listings at or under a path, or those of all connectors in use."""
        if path is None or self._is_root(path):
            for each in self.kit._pool.filesystems():
                each.invalidate_cache()
        else:
            place = self.place(path)
            place.fs.invalidate_cache(place.path)

    # Opening

    def _open(
        self, path: Any, mode: str = "rb", autocommit: bool = True, **kwargs: Any
    ) -> ConnectorFile:
        last = self._looks.take()
        place = self.place(path)
        options = {k: v for k, v in kwargs.items() if v is not None}
        if (
            last is not None
            and mode == "rb"
            and not {"size", "version_id"} & {*options}
        ):
            options |= last.options(place, self.kit._clock())
        fs = place.fs if mode == "rb" else self._writing(place)
        if autocommit:
            file = fs.open(place.path, mode, **options)
        elif type(fs)._open is AbstractFileSystem._open:
            raise NotImplementedError(
                f"Connector {place.id!r} cannot take part in a transaction: its "
                "filesystem knows no file that is held back."
            )
        else:
            # Its `open` would count the file to a transaction of its own.
            file = fs._open(place.path, mode, autocommit=False, **options)
        return ConnectorFile(self, place, file)

    def _writing(self, place: Place) -> AbstractFileSystem:
        """Return what writes files that are whole: without policies, not any does."""
        connector = self.kit.resolve(place.id)
        opened = connector.opened()
        if opened.outer is not opened.inner or isinstance(opened.inner, Releasable):
            return place.fs
        from connectorkit.guarded import GuardedFileSystem

        return GuardedFileSystem(place.fs, connector.pipeline)

    # Travelling

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[Callable[..., ConnectorFileSystem], tuple[Any, ...]]:
        return _landed, (self._source(),)

    def _source(self) -> str | None:
        if self.config is not None:
            return self.config
        name = self.kit._portable_name
        if name is None:
            raise NotPicklable(
                f"{PROTOCOL}:// resolves by a kit that was made from settings in "
                "memory, which may hold secrets, and so is not pickled: configure its "
                "connectors in connectorkit.toml, and IDs travel."
            )
        return name or None

    def __dask_tokenize__(self) -> tuple[str, str]:
        # What one kit computed of an ID is not what another would.
        kit = self.kit
        name = kit._portable_name
        return PROTOCOL, f"kit {id(kit)}" if name is None else name


def _landed(config: str | None) -> ConnectorFileSystem:
    if config is None or is_default(config):
        return ConnectorFileSystem()
    return ConnectorFileSystem(config)


def _folder(name: str) -> dict[str, Any]:
    return {"name": name, "size": 0, "type": "directory"}
