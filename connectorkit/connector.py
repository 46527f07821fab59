"""What a connector is: a type that a plugin teaches, and settings under an ID."""

from __future__ import annotations

import inspect
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from connectorkit.errors import (
    CheckFailed,
    InvalidConnectorID,
    MissingExtra,
    NotPicklable,
    PluginError,
)
from connectorkit.faults import classify
from connectorkit.objects import ObjectInfo
from connectorkit.operation import Kind
from connectorkit.remedies import network_remedy
from connectorkit.settings import Settings as _Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
    from datetime import timedelta

    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    from connectorkit.cleanup import CleanupReport
    from connectorkit.config import ConnectorConfig, KitConfig
    from connectorkit.faults import Verdict
    from connectorkit.kit import ConnectorKit
    from connectorkit.pipeline import Pipeline, Policy
    from connectorkit.pool import Opened, Pool

__all__ = [
    "Connector",
    "ConnectorType",
    "SystemAdapter",
    "valid_id",
]

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
T = TypeVar("T")
# An enumeration takes its time to look a value up.
_KINDS = {kind.value: kind for kind in Kind}


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


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Connector:
    """A connector type with settings under a connector ID; what `resolve` returns.

    A handle: cheap, immutable, safe to share between threads and to keep for long. It
    pickles as its ID and is resolved again where it lands.

    Attributes:
        id: The connector ID that was resolved.
        type: The ID of its connector type.
        kit: The kit that resolved it.
        is_shared: Whether it is a store of the platform's own.
    """

    id: str
    type: str
    kit: ConnectorKit
    is_shared: bool
    _teaches: ConnectorType[Any]
    _settings: _Settings
    _policies: tuple[Policy, ...]
    # Identity, policies, whether it is shared, whether its settings came with a call.
    _key: tuple[Hashable, Hashable, bool, bool]
    # The configuration by which it is resolved again elsewhere, if there is one.
    _source: str | None
    # The kit's, or one of its own.
    _pool: Pool
    # Composed when it is first asked for.
    _composed: list[Pipeline] = field(default_factory=list)

    @property
    def pipeline(self) -> Pipeline:
        """Its policies, composed: what each of its operations goes through.

        Raises:
            KitClosed: The kit was closed.
        """
        if self.kit.is_closed:
            self.kit._refuse_if_closed()
        if not self._composed:
            self._composed.append(self.kit._opener.pipeline(self))
        return self._composed[0]

    @property
    def fs(self) -> AbstractFileSystem:
        """The connector's filesystem: an ordinary fsspec one.

        The same one for all who resolve these settings in this process; after a fork
        the child's own; opened again if it was closed for being idle.

        Raises:
            MissingExtra: The client library is not installed.
            KitClosed: The kit was closed.
        """
        return self.opened().outer

    def opened(self) -> Opened:
        """Return the filesystem, and the one that its policies wrap.

        Raises:
            MissingExtra: The client library is not installed.
            KitClosed: The kit was closed.
        """
        return self.kit._filesystem(self)

    def async_fs(self) -> AsyncFileSystem:
        """Return the filesystem for the running event loop, one for each loop.

        Its coroutines (`_cat_file`, `_ls`, …) run on the host's own loop.

        Raises:
            RuntimeError: No event loop is running.
        """
        return self.kit._async_filesystem(self)

    def client(self) -> Any:
        """Return the storage's own client; for S3 and MinIO boto3's.

        ```python
        s3 = connector.client()
        s3.upload_fileobj(file, "bucket", "key")
        ```

        A real client of boto3's, with the connector's credentials and settings. Each
        of its requests is an operation under the connector's policies, which alone try
        again; its errors are boto3's, and those of policies. The same one for all who
        resolve these settings in this process, threads may share it, and it is closed
        with the kit. A forked child gets one of its own, and finds one that it
        inherited without connections.

        Raises:
            MissingExtra: The client library is not installed.
            PluginError: There is none for connectors of this type.
            CheckFailed: The settings make no client; says what to mend.
            KitClosed: The kit was closed.
        """
        opened = self.opened()
        try:
            return self._teaches.client(opened.inner, self._settings)
        except ModuleNotFoundError as error:
            if self._teaches.requires is None:
                raise
            raise MissingExtra(
                f"The client of connector {self.id!r} ({self.type}) needs "
                f"{error.name}: pip install '{self._teaches.requires}'."
            ) from error
        except Exception as error:
            if (remedy := self.remedy(error)) is not None:
                raise self.failed(remedy) from error
            raise

    def call(  # noqa: PLR0913 - each is a fact of the operation
        self,
        name: str,
        kind: Kind | str,
        fn: Callable[[], T],
        *,
        bucket: str = "",
        path: str = "",
        is_repeatable: bool = True,
    ) -> T:
        """Run a callable of the host's own through the connector's policies.

        ```python
        rows = connector.call("query", "read", lambda: client.query(sql))
        rows = await connector.call("query", "read", client.query_async)
        ```

        Args:
            name: What it does, for metrics and errors.
            kind: "read", "write", "list" or "delete": the circuit that it belongs to.
            fn: Makes one attempt, and raises if it fails. A coroutine function gives a
                coroutine to await.
            bucket: For metrics.
            path: For errors.
            is_repeatable: Whether to do it twice is as good as once; else it is tried
                again only if it cannot have been done.

        Raises:
            CircuitOpen: The circuit is open.
            DeadlineExceeded: There is no time left.
            Exception: What `fn` raised last.
        """
        pipeline = self.pipeline
        op = pipeline.operation(
            name,
            _KINDS.get(kind) or Kind(kind),
            bucket=bucket,
            path=path,
            is_repeatable=is_repeatable,
        )
        if not _is_plain_function(fn) and inspect.iscoroutinefunction(fn):
            return pipeline.arun(op, lambda _op: fn())  # type: ignore[return-value]
        return pipeline.run(op, lambda _op: fn())

    def check(self, path: str = "") -> None:
        """Find out whether the connector works, by one cheap request or two.

        Args:
            path: A bucket, or a folder in it; needed where the credentials may not
                list buckets.

        Raises:
            CheckFailed: It does not; says in one sentence what to mend.
        """
        try:
            self._teaches.check(self.opened().inner, path, self._settings)
        except CheckFailed:
            raise
        except Exception as error:
            # Its text stays with the cause: a client's may hold a token.
            unknown = f"the storage cannot be used ({type(error).__name__})"
            raise self.failed(self.remedy(error, path) or unknown) from error

    def remedy(self, error: BaseException, path: str = "") -> str | None:
        """Say in one sentence what to mend after an error of the connector's.

        Args:
            error: What an operation raised.
            path: On what it failed.

        Returns:
            None if it is no error that is mended by credentials or settings.
        """
        try:
            return self._teaches.remedy(error, path, self._settings)
        except Exception:  # noqa: BLE001 - the error itself says more than its reader's
            return None

    def failed(self, remedy: str) -> CheckFailed:
        """Return the error that says how to mend this connector."""
        return CheckFailed(f"Connector {self.id!r}: {remedy}.", remedy)

    def cleanup(
        self,
        prefix: str,
        *,
        older_than: timedelta | float | None = None,
        dry_run: bool = False,
        told: Callable[[CleanupReport], None] = lambda _report: None,
    ) -> CleanupReport:
        """Delete the files below a folder, or those that are old; best effort.

        The listing is streamed and deleted by batches, and never beyond the folder:
        `runs/1` does not reach `runs/10`. No circuit stops deletes, and whatever fails
        is reported, not raised.

        Args:
            prefix: The folder; on S3 and GCS one in a bucket.
            older_than: Delete what was last written longer ago than this, or than so
                many seconds, by the storage's times and this machine's clock. What
                has no time is kept.
            dry_run: Only report what would go.
            told: Told of the report as it grows.

        Raises:
            ValueError: The prefix is empty or no plain path, or the age is negative.
        """
        from connectorkit.cleanup import cleanup

        return cleanup(self, prefix, older_than=older_than, dry_run=dry_run, told=told)

    def stat(self, path: str) -> ObjectInfo:
        """Look one object or folder up.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        return ObjectInfo.from_info(self.fs.info(path))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _memo: object) -> Self:
        return self

    def __repr__(self) -> str:
        return f"<Connector {self.id!r} ({self.type})>"

    def __reduce__(self) -> tuple[Callable[..., Connector], tuple[str, str]]:
        if self._source is None:
            raise NotPicklable(
                f"Connector {self.id!r} was made from settings in memory, which may "
                "hold secrets, and so is not pickled: configure it in "
                "connectorkit.toml, and it travels as its ID."
            )
        return _resolve_again, (self.id, self._source)


def _is_plain_function(fn: Callable[..., Any]) -> bool:
    """Tell in no time of most functions that they are no coroutine functions."""
    code = getattr(fn, "__code__", None)
    return code is not None and not (code.co_flags & inspect.CO_COROUTINE or vars(fn))


def _resolve_again(connector_id: str, source: str) -> Connector:
    """Resolve a pickled connector where it lands."""
    from connectorkit.landing import kit_for

    return kit_for(source).resolve(connector_id)
