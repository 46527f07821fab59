"""Connector types and system adapters: what plugins teach."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from connectorkit.errors import InvalidConnectorID, PluginError
from connectorkit.faults import classify
from connectorkit.objects import ObjectInfo
from connectorkit.remedies import network_remedy
from connectorkit.settings import Settings as _Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsspec import AbstractFileSystem

    from connectorkit.config import ConnectorConfig, KitConfig
    from connectorkit.faults import Verdict

__all__ = ["ConnectorType", "SystemAdapter", "valid_id"]

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._|~-]{0,254}")


def valid_id(connector_id: object) -> str:
    """Return `connector_id` if it can stand as one, and as a segment of a URL.

    Raises:
        InvalidConnectorID: It is no text of 1 to 255 letters, digits and `._|~-`,
            the first of them a letter or digit.
    """
    if isinstance(connector_id, str) and _ID.fullmatch(connector_id):
        return connector_id
    shown = repr(connector_id)
    if len(shown) > 60:  # noqa: PLR2004 - a line of a terminal
        shown = f"{shown[:57]}..."
    raise InvalidConnectorID(
        f"{shown} is not a connector ID: use 1 to 255 letters, digits and ._|~-, "
        "the first a letter or digit."
    )


S = TypeVar("S", bound=_Settings)


class ConnectorType(ABC, Generic[S]):
    """A kind of storage, taught by a plugin.

    ```python
    class BoxSettings(Settings):
        token: SecretStr = Field(title="Token", description="From Box's console.")

    class Box(ConnectorType[BoxSettings]):
        id = "box"
        title = "Box"
        Settings = BoxSettings

        def open(self, settings, **options):
            from boxfs import BoxFileSystem
            return BoxFileSystem(token=settings.token.get_secret_value(), **options)
    ```

    Attributes:
        id: The type's ID; name the plugin's entry point alike, and it is loaded alone.
        title: A name for people.
        aliases: Further IDs, such as those under which a host has stored the type.
        requires: What `pip install` brings the client library, if it is an extra.
        reads_host: Whether it opens this machine's own files; then settings that a
            tenant passes are refused.
        has_buckets: Whether the first segment of a path is a bucket.
        Settings: The model of the type's settings.
    """

    id: ClassVar[str]
    title: ClassVar[str] = ""
    aliases: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[str | None] = None
    reads_host: ClassVar[bool] = False
    has_buckets: ClassVar[bool] = False
    Settings: ClassVar[type[_Settings]] = _Settings

    @abstractmethod
    def open(self, settings: S, **options: Any) -> AbstractFileSystem:
        """Open the filesystem.

        Args:
            settings: An instance of `Settings`.
            options: fsspec's own: `skip_instance_cache`, and for a host's own event
                loop `asynchronous` and `loop`. Pass them on to the filesystem class.
        """

    def endpoint(self, settings: S) -> str:
        """Say where the storage is, for messages."""
        return getattr(settings, "endpoint_url", None) or self.title or self.id

    def client(self, fs: AbstractFileSystem, settings: S) -> Any:
        """Return the storage's own client, its calls going through the policies.

        Args:
            fs: What `open` returned: whose policies they are, and with which the
                client is closed.
            settings: An instance of `Settings`.

        Raises:
            PluginError: There is none for this type.
        """
        del fs, settings
        raise PluginError(
            f"Connectors of type {self.id!r} have no client but their filesystem: "
            "use `connector.fs`."
        )

    def check(self, fs: AbstractFileSystem, path: str, settings: S) -> None:
        """Do something cheap that fails if the connector does not work."""
        del settings
        fs.ls(path, detail=False)

    def remedy(self, error: BaseException, path: str, settings: S) -> str | None:
        """Say in one sentence what to mend after `error`, or None."""
        del path
        return network_remedy(error, self.endpoint(settings))

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means for policies; by built-in and network errors here.

        A type whose storage has words of its own reads those first.
        """
        return classify(error)

    def files_under(
        self, fs: AbstractFileSystem, folder: str
    ) -> Iterator[Iterable[ObjectInfo]]:
        """Yield the files below a folder, a page at a time.

        A type whose storage lists by pages yields those, so that no listing has to
        fit into memory.
        """
        for _, _, files in fs.walk(folder, detail=True, on_error="raise"):
            yield map(ObjectInfo.from_info, files.values())

    def delete_files(self, fs: AbstractFileSystem, paths: list[str]) -> dict[str, str]:
        """Delete files; a type whose storage deletes many at once does so.

        Returns:
            What went wrong, by path.
        """
        failed = {}
        for path in paths:
            try:
                fs.rm_file(path)
            except FileNotFoundError:
                continue
            except Exception as error:  # noqa: BLE001 - the others go all the same
                failed[path] = f"{type(error).__name__}: {error}"
        return failed


class SystemAdapter(ABC):
    """Claims system-internal IDs; asked before any connector type is looked at.

    Attributes:
        name: For people.
    """

    name: ClassVar[str]

    @abstractmethod
    def claim(self, connector_id: str, config: KitConfig) -> ConnectorConfig | None:
        """Say how a system-internal ID is served, or None if it is not one."""

    def ids(self, config: KitConfig) -> Mapping[str, str]:
        """Name the IDs that it claims, each with its store's name, for listings."""
        del config
        return {}
