"""Opening: a connector's filesystem, with its policies around it."""

from __future__ import annotations

import random as _random
from functools import partial
from typing import TYPE_CHECKING, Any

from connectorkit.clock import SYSTEM_CLOCK
from connectorkit.errors import ConnectorKitError, MissingExtra, PluginFailed
from connectorkit.fork import importing
from connectorkit.identity import fleet_identity
from connectorkit.pipeline import Pipeline
from connectorkit.plugin import one_line
from connectorkit.policy import is_filesystem, wrap
from connectorkit.pool import Opened
from connectorkit.releasable import Releasable, travel_as_connector
from connectorkit.scope import SHARED, Memory, Scope
from connectorkit.wired import Wired

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from fsspec import AbstractFileSystem

    from connectorkit.clock import Clock
    from connectorkit.connector import Connector
    from connectorkit.connector_type import ConnectorType

__all__ = ["Opener"]


class Opener:
    """Opens filesystems for a kit.

    Args:
        clock: Monotonic seconds, and waiting by them.
        random: A number from 0 to 1.
        emit: Tells hooks of an event.

    Attributes:
        memory: What policies remember of each identity.
    """

    def __init__(
        self,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
        emit: Callable[[object], None] = lambda _event: None,
    ) -> None:
        self._clock = clock
        self._random = random
        self._emit = emit
        # Who brings a clock brings a time of their own, and memories by it.
        self.memory = SHARED if clock is SYSTEM_CLOCK else Memory()
        self._imported: set[ConnectorType[Any]] = set()

    def open(
        self,
        connector: Connector,
        *,
        is_cached: bool,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> Opened:
        """Open a connector's filesystem.

        Args:
            connector: Whose.
            is_cached: Whether fsspec's own cache may hold it: for ever.
            loop: A host's own loop to run on.

        Raises:
            MissingExtra: The client library is not installed.
            PluginFailed: The connector type, or a policy, breaks its contract.
        """
        pipeline = connector.pipeline
        options: dict[str, Any] = {"skip_instance_cache": not is_cached}
        if loop is not None:
            options = {"skip_instance_cache": True, "asynchronous": True, "loop": loop}
        inner = self._inner(connector, options)
        if isinstance(inner, Wired) and not inner.may_serve(pipeline):
            # fsspec's cache has it from another kit, which has other policies.
            inner = self._inner(connector, {**options, "skip_instance_cache": True})
        guarded = _guarded(inner, pipeline, connector)
        if isinstance(inner, Releasable):
            inner.connector = connector
        outer = wrap(guarded, connector._policies, connector)
        return Opened(
            connector.id, connector.type, outer, guarded, inner, pipeline, loop
        )

    def pipeline(self, connector: Connector) -> Pipeline:
        """Compose the policies of a connector."""
        identity, _, _, is_adhoc = connector._key
        scope = Scope(
            connector.id,
            connector.type,
            identity,
            is_adhoc=is_adhoc,
            clock=self._clock,
            random=self._random,
            classify=connector._teaches.classify,
            emit=self._emit,
            memory=self.memory,
            fleet_identity=partial(fleet_identity, connector.type, connector._settings),
        )
        return Pipeline(connector._policies, scope)

    def _inner(
        self, connector: Connector, options: dict[str, Any]
    ) -> AbstractFileSystem:
        teaches = connector._teaches
        try:
            inner = self._import_and_open(connector, options)
        except ModuleNotFoundError as error:
            if teaches.requires is None:
                raise
            raise MissingExtra(
                f"Connector {connector.id!r} ({teaches.id}) needs {error.name}: "
                f"pip install '{teaches.requires}'."
            ) from error
        except Exception as error:
            # A damaged key, say: the sentence of `check` is the one that helps.
            if (remedy := connector.remedy(error)) is not None:
                raise connector.failed(remedy) from error
            if isinstance(error, ConnectorKitError | OSError | ValueError):
                raise
            raise PluginFailed(
                f"Connector {connector.id!r} ({teaches.id}) cannot be opened: "
                f"{one_line(error)}."
            ) from error
        if not is_filesystem(inner):
            raise PluginFailed(
                f"Connector type {teaches.id!r} opened {inner!r:.80}, which is no "
                "fsspec filesystem."
            )
        return inner

    def _import_and_open(
        self, connector: Connector, options: dict[str, Any]
    ) -> AbstractFileSystem:
        teaches, settings = connector._teaches, connector._settings
        if teaches in self._imported:
            return teaches.open(settings, **options)
        # The first opening imports the client.
        with importing():
            fs = teaches.open(settings, **options)
        self._imported.add(teaches)
        return fs


def _guarded(
    inner: AbstractFileSystem, pipeline: Pipeline, connector: Connector
) -> AbstractFileSystem:
    """Put the operations of a filesystem through a pipeline."""
    if isinstance(inner, Wired):
        inner.pipeline = pipeline
        return inner
    if pipeline.is_bare:
        if not isinstance(inner, Releasable):
            travel_as_connector(inner, connector)
        return inner
    from connectorkit.guarded import GuardedFileSystem

    guarded: AbstractFileSystem = GuardedFileSystem(inner, pipeline)
    guarded.connector = connector
    return guarded
