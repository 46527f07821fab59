"""The kit: a connector ID resolves to a filesystem."""

from __future__ import annotations

import asyncio
import os
import random as _random
import weakref
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Self

from connectorkit import config as configuration
from connectorkit import landing
from connectorkit.circuits import Circuits
from connectorkit.clock import SYSTEM_CLOCK
from connectorkit.connector import Connector
from connectorkit.errors import (
    KitClosed,
)
from connectorkit.events import ConnectorResolved, FilesystemClosed, FilesystemOpened
from connectorkit.explain import Explanation, redacted
from connectorkit.identity import identity
from connectorkit.opener import Opener
from connectorkit.pool import Opened, Pool
from connectorkit.registry import Registry
from connectorkit.resolver import Plan, Resolver

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsspec.asyn import AsyncFileSystem

    from connectorkit.clock import Clock
    from connectorkit.connector_type import ConnectorType
    from connectorkit.plugin import PluginInfo
    from connectorkit.policy import Policy

__all__ = ["ConnectorKit"]

_telling: ContextVar[bool] = ContextVar("connectorkit_telling", default=False)
# More IDs than a configuration names can only come from an adapter that claims many.
_MOST_HOT = 1_000_000


class ConnectorKit:
    """Turns connector IDs into filesystems.

    ```python
    with ConnectorKit() as kit:
        kit.resolve("reports").fs.cat_file("bucket/key")
    ```

    To make one reads the configuration and the metadata of plugins; it imports none
    of them. It is safe to share between threads, and forked children may go on using
    it: they open filesystems of their own.

    Args:
        config: The path of a connectorkit.toml, a mapping of the same shape, or None
            to search the usual places.
        clock: Monotonic seconds, and waiting by them.
        random: A number from 0 to 1, for the jitter of retries.

    Attributes:
        config: The configuration.
        registry: The plugins.
        circuits: What breakers know of each storage, to read and to switch by hand.
        is_closed: Whether it was closed.

    Raises:
        ConfigError: The configuration is wrong; names the line or the key.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        random: Callable[[], float] = _random.random,
    ) -> None:
        self._source = configuration.load(config, os.environ)
        self.config = self._source.config
        self.registry = Registry(self.config.plugins, os.environ)
        self._clock = clock
        self._opener = Opener(clock, random, self.registry.emit)
        self._pool = self._new_pool()
        self._own_pools: weakref.WeakSet[Pool] = weakref.WeakSet()
        self._hot: dict[str, Connector] = {}
        self._resolver = Resolver(self._source, self.registry)
        self.circuits = Circuits(self)
        self.is_closed = False
        if self._portable_name is not None:
            landing.KITS.add(self._portable_name, self)

    # Resolving

    def resolve(
        self,
        connector_id: str,
        settings: Mapping[str, Any] | None = None,
        *,
        trusted: bool = False,
        pool: bool = True,
    ) -> Connector:
        """Return the connector of an ID, its filesystem open.

        System adapters are asked first, then configured connectors (connectorkit.toml,
        then lookup hooks), then connector types.

        Args:
            connector_id: A system-internal ID, a configured one, or a type's ID or
                alias.
            settings: For a type's ID: the settings. They count as a tenant's: no
                references, no credentials or files of the host.
            trusted: The settings are the host's own.
            pool: False opens a filesystem for this connector alone.

        Raises:
            InvalidConnectorID: The ID is malformed.
            UnknownConnector: Nothing answers to it.
            InvalidSettings: The settings do not fit; lists every bad field.
            ConfigError: A secret that the configuration refers to is not there.
            PluginError: The plugin that should serve it cannot.
            MissingExtra: A client library is not installed.
            KitClosed: The kit was closed.
        """
        if settings is None and pool:
            try:
                return self._hot[connector_id]
            except (KeyError, TypeError):
                pass
        self._refuse_if_closed()
        plan = self._resolver.plan(connector_id, settings, trusted=trusted)
        connector = self._connector(connector_id, plan, pool=pool)
        # Opening now tells of a missing client library here, not in the first read.
        self._filesystem(connector)
        if plan.claim.is_lasting and pool and len(self._hot) < _MOST_HOT:
            connector = self._hot.setdefault(connector_id, connector)
            if self.is_closed:
                self._hot.clear()
                self._refuse_if_closed()
        self._tell(ConnectorResolved(connector_id, connector.type, plan.claim.by))
        return connector

    def _tell(self, event: ConnectorResolved) -> None:
        """Tell hooks of it, unless it was one of them that resolved the connector."""
        if _telling.get():
            return
        token = _telling.set(True)
        try:
            self.registry.emit(event)
        finally:
            _telling.reset(token)

    def _connector(self, connector_id: str, plan: Plan, *, pool: bool) -> Connector:
        claim = plan.claim
        settings = self._resolver.settings(connector_id, plan)
        policies = self._resolver.policies(connector_id, claim.config)
        its_pool = self._pool
        if not pool:
            its_pool = self._new_pool()
            self._own_pools.add(its_pool)
        return Connector(
            id=connector_id,
            type=plan.teaches.id,
            kit=self,
            is_shared=claim.is_shared,
            _teaches=plan.teaches,
            _settings=settings,
            _policies=policies,
            _key=(
                identity(plan.teaches.id, settings),
                tuple(identity(p.name, p.settings) for p in policies),
                claim.is_shared,
                # What came with a call never meets what the host configured.
                claim.is_adhoc,
            ),
            _source=None if claim.is_adhoc else self._portable_name,
            _pool=its_pool,
        )

    # Opening

    def _filesystem(self, connector: Connector) -> Opened:
        self._refuse_if_closed()
        return connector._pool.get(connector._key, lambda: self._open(connector))

    def _async_filesystem(self, connector: Connector) -> AsyncFileSystem:
        loop = asyncio.get_running_loop()
        sync = self._filesystem(connector)

        def opener() -> Opened:
            from connectorkit.guarded import ThreadedFileSystem, is_async

            if is_async(sync.inner):
                return self._open(connector, loop)
            wrapper = ThreadedFileSystem(sync.outer, asynchronous=True)
            return Opened(
                connector.id,
                connector.type,
                wrapper,
                wrapper,
                wrapper,
                sync.pipeline,
                loop,
            )

        return connector._pool.get((connector._key, loop), opener).outer

    def _open(
        self, connector: Connector, loop: asyncio.AbstractEventLoop | None = None
    ) -> Opened:
        # fsspec's own cache would hold users' filesystems, and secrets, for ever.
        is_cached = connector.is_shared and connector._pool is self._pool
        return self._opener.open(connector, is_cached=is_cached, loop=loop)

    def _new_pool(self) -> Pool:
        return Pool(
            self.config.pool.size,
            self.config.pool.idle,
            self._clock,
            opened=lambda it: self.registry.emit(FilesystemOpened(it.id, it.type)),
            left=lambda it: self.registry.emit(FilesystemClosed(it.type)),
        )

    def _refuse_if_closed(self) -> None:
        if self.is_closed:
            raise KitClosed("This kit was closed: make another one.")

    @property
    def _portable_name(self) -> str | None:
        """How another process finds this configuration: by path, or by the defaults."""
        return str(self._source.path or "") if self._source.portable else None

    # Telling

    def explain(
        self,
        connector_id: str,
        settings: Mapping[str, Any] | None = None,
        *,
        trusted: bool = False,
    ) -> Explanation:
        """Say how an ID resolves: by what, through which plugin, with which settings.

        Opens nothing. Secrets are redacted; references are shown as they are.

        Raises:
            ConnectorKitError: What `resolve` would raise, a missing client aside.
        """
        plan = self._resolver.plan(connector_id, settings, trusted=trusted)
        valid = self._resolver.settings(connector_id, plan)
        policies = self._resolver.policies(connector_id, plan.claim.config)
        return Explanation(
            id=connector_id,
            how=plan.claim.how,
            type=plan.teaches.id,
            plugin=plan.plugin.name,
            distribution=plan.plugin.origin,
            settings=redacted(valid, plan.claim.config.settings),
            policies=tuple(policy.name for policy in policies),
            is_shared=plan.claim.is_shared,
        )

    def default_policies(self) -> tuple[Policy, ...]:
        """Return the policies of connectors that name none, outermost first."""
        return self._resolver.default_policies()

    def plugins(self) -> list[PluginInfo]:
        """Return what is known of each plugin; imports none."""
        return self.registry.infos()

    def connector_type(self, connector_id: str) -> ConnectorType[Any]:
        """Return the connector type by which an ID is served; opens nothing.

        Raises:
            UnknownConnector: Nothing answers to the ID.
            PluginError: The plugin that should serve it cannot.
        """
        return self._resolver.plan(connector_id, None, trusted=True).teaches

    def connector_types(self) -> list[ConnectorType[Any]]:
        """Return every connector type on offer; loads all plugins."""
        return sorted(self.registry.connector_types(), key=lambda each: each.id)

    def connector_ids(self) -> list[str]:
        """Return the IDs that the configuration names: system ones, then the rest."""
        system = [i for store in self.config.system.values() for i in store.ids]
        return [*system, *self.config.connectors]

    def register(self, plugin: object, name: str | None = None) -> None:
        """Add a plugin by hand: a module, or an object with hooks.

        Raises:
            PluginConflict: The name is taken.
            PluginError: It breaks the contract.
        """
        self.registry.register(plugin, name)
        # It may claim what was answered otherwise until now.
        self._hot.clear()

    # The end

    def close(self) -> None:
        """Close every filesystem of this process; the kit resolves no more."""
        self.is_closed = True
        self._hot.clear()
        for pool in (self._pool, *self._own_pools):
            pool.close()

    async def aclose(self) -> None:
        """Close the kit; those of the running loop are closed when it returns."""
        loop = asyncio.get_running_loop()
        pools = (self._pool, *self._own_pools)
        mine = [fs for pool in pools for fs in pool.of_loop(loop)]
        await asyncio.to_thread(self.close)
        await asyncio.gather(*(fs._release() for fs in mine))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<ConnectorKit of {self._source.name}>"
