"""A connector: a type with settings under an ID; what `resolve` returns."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from connectorkit.call import Call
from connectorkit.errors import CheckFailed, MissingExtra, NotPicklable
from connectorkit.identity import identity
from connectorkit.objects import ObjectInfo
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from datetime import timedelta

    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

    from connectorkit.cleanup import CleanupReport
    from connectorkit.connector_type import ConnectorType
    from connectorkit.kit import ConnectorKit
    from connectorkit.operation import Operation
    from connectorkit.pipeline import Pipeline
    from connectorkit.policy import Policy
    from connectorkit.pool import Opened, Pool
    from connectorkit.settings import Settings as _Settings

__all__ = ["Connector"]

T = TypeVar("T")
# An enumeration takes its time to look a value up.
_KINDS = {kind.value: kind for kind in Kind}


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
        resolve these settings in this process, threads may share it, and its
        connections are closed with the kit. A forked child gets one of its own, and
        finds one that it inherited without connections. Its calls block: on an event
        loop, run them by `asyncio.to_thread`.

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
            fn: Makes one attempt, and raises if it fails. For a coroutine function, or
                an object that is called as one, this returns a coroutine to await.
            bucket: For metrics.
            path: For errors.
            is_repeatable: Whether to do it twice is as good as once; else it is tried
                again only if it cannot have been done.

        Raises:
            CircuitOpen: The circuit is open.
            DeadlineExceeded: There is no time left.
            TypeError: `fn` gave a coroutine, and is no coroutine function: no policy
                would stand around what it does.
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
        is_async = not _is_plain_function(fn) and _is_coroutine_function(fn)
        if pipeline.is_by_call and op.call is None:
            as_call: Any = _arun_as_call if is_async else _run_as_call
            return as_call(pipeline, op, fn)  # type: ignore[no-any-return]
        if is_async:
            return pipeline.arun(op, lambda _op: fn())  # type: ignore[arg-type, return-value]
        return _run(pipeline, op, fn)

    def check(self, path: str = "") -> None:
        """Find out whether the connector works, by one cheap request or two.

        On S3 and GCS no policy stands between: it tells what is wrong now, at once,
        also while a circuit is open.

        Args:
            path: A bucket, or a folder in it; needed where the credentials may not
                list buckets.

        Raises:
            CheckFailed: It does not; says in one sentence what to mend.
        """
        from connectorkit.wired import without_policies

        try:
            with without_policies():
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

    def fingerprint(self, key: bytes) -> str:
        """Return a keyed digest of the connector's type and settings, secrets included.

        Whoever has the key comes to the same one, in another process as well: two
        connectors have one fingerprint only if they have the same credentials at the
        same place. What came with a call never has that of what the host configured.

        Args:
            key: At most 64 bytes. It keeps others from trying secrets against it.
        """
        digest = identity(self._teaches.id, self._settings, key)
        _, _, is_shared, is_adhoc = self._key
        return f"{digest}-{is_shared:d}{is_adhoc:d}"

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


def _run(pipeline: Pipeline, op: Operation, fn: Callable[[], T]) -> T:
    def attempt(op: Operation) -> T:
        result = fn()
        if result.__class__ is CoroutineType:
            result.close()  # type: ignore[attr-defined]
            raise TypeError(
                f"{op}: its function gave a coroutine; pass a coroutine function, such "
                "as an `async def`, and await the call."
            )
        return result

    return pipeline.run(op, attempt)


def _run_as_call(pipeline: Pipeline, op: Operation, fn: Callable[[], T]) -> T:
    """Run an operation as a call, of which all that is called in it is a part."""
    with Call(pipeline.scope) as op.call:
        return _run(pipeline, op, fn)


async def _arun_as_call(
    pipeline: Pipeline, op: Operation, fn: Callable[[], Any]
) -> Any:
    with Call(pipeline.scope) as op.call:
        return await pipeline.arun(op, lambda _op: fn())


def _is_plain_function(fn: Callable[..., Any]) -> bool:
    """Tell in no time of most functions that they are no coroutine functions."""
    code = getattr(fn, "__code__", None)
    return code is not None and not (code.co_flags & inspect.CO_COROUTINE or vars(fn))


def _is_coroutine_function(fn: Callable[..., Any]) -> bool:
    call = getattr(type(fn), "__call__", None)  # noqa: B004 - whether it is async
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)


def _resolve_again(connector_id: str, source: str) -> Connector:
    """Resolve a pickled connector where it lands."""
    from connectorkit.landing import kit_for

    return kit_for(source).resolve(connector_id)
