"""The kit: a connector ID resolves to a filesystem."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from datetime import time as time_of_day
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

from pydantic import AnyUrl, ValidationError

from connectorkit import config as configuration
from connectorkit.config import ConnectorConfig, did_you_mean, problems_of, reveal
from connectorkit.connector import Connector, ConnectorType, valid_id
from connectorkit.errors import (
    ConfigError,
    InvalidSettings,
    KitClosed,
    MissingExtra,
    PluginFailed,
    UnknownConnector,
    UnknownPolicy,
)
from connectorkit.events import FilesystemClosed, FilesystemOpened
from connectorkit.explain import Explanation, redacted
from connectorkit.filesystem import Releasable
from connectorkit.pipeline import Policy, wrap
from connectorkit.pool import Opened, Pool
from connectorkit.registry import Plugin, PluginInfo, Registry
from connectorkit.settings import Settings

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from fsspec.asyn import AsyncFileSystem

__all__ = ["ConnectorKit", "kit_for"]

# An identity never leaves the process, so its key need not either; without the key
# nobody can try secrets against a digest.
_IDENTITY_KEY = secrets.token_bytes(32)
_MOST_PROBLEMS = 20
# Types of settings whose text tells any two values apart.
_NAMED = (PurePath, AnyUrl, Decimal, Enum, UUID, date, time_of_day, timedelta)


@dataclass(frozen=True, slots=True)
class _Plan:
    """How a connector ID is served."""

    how: str
    teaches: ConnectorType[Any]
    plugin: Plugin
    config: ConnectorConfig
    is_shared: bool = False
    is_portable: bool = False
    is_lasting: bool = False


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
        clock: Monotonic seconds, for the pool's idle time.

    Raises:
        ConfigError: The configuration is wrong; names the line or the key.
    """

    def __init__(
        self,
        config: str | os.PathLike[str] | Mapping[str, Any] | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source = configuration.load(config, os.environ)
        self.config = self._source.config
        self.registry = Registry(self.config.plugins, os.environ)
        self._pool = Pool(
            self.config.pool.size, self.config.pool.idle, clock, self._left
        )
        self._hot: dict[str, Connector] = {}
        self._default_policies: tuple[Policy, ...] | None = None
        self._is_closed = False
        if self._source.portable:
            _kits.setdefault(self._portable_name, self)

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
        plan = self._plan(connector_id, settings, trusted=trusted)
        connector = self._connector(connector_id, plan, pool=pool)
        # Opening now tells of a missing client library here, not in the first read.
        self._filesystem(connector)
        if plan.is_lasting and pool:
            connector = self._hot.setdefault(connector_id, connector)
        return connector

    def _plan(
        self,
        connector_id: str,
        settings: Mapping[str, Any] | None,
        *,
        trusted: bool,
    ) -> _Plan:
        valid_id(connector_id)
        if settings is not None and not isinstance(settings, Mapping):
            raise InvalidSettings(
                f"Settings of {connector_id!r} are a {type(settings).__name__}: pass "
                "a mapping of names to values."
            )
        source = self._source
        for adapter in self.registry.adapters():
            if (config := adapter.claim(connector_id, self.config)) is not None:
                _refuse_settings(connector_id, settings, "a system-internal ID")
                how = f"system adapter {adapter.name!r}"
                return self._taught(
                    connector_id, config, how,
                    is_shared=True, is_portable=source.portable, is_lasting=True,
                )  # fmt: skip
        if (config := self.config.connectors.get(connector_id)) is not None:
            _refuse_settings(connector_id, settings, f"configured in {source.name}")
            how = f"[connectors.{connector_id}] in {source.name}"
            return self._taught(
                connector_id, config, how,
                is_portable=source.portable, is_lasting=True,
            )  # fmt: skip
        if not settings and (found := self.registry.lookup(connector_id)):
            config, plugin = found
            how = f"lookup of plugin {plugin!r}"
            return self._taught(
                connector_id, config, how, is_portable=source.portable
            )
        config = ConnectorConfig(
            type=connector_id, settings=dict(settings or {}), trusted=trusted
        )
        return self._taught(connector_id, config, "type and settings")

    def _taught(
        self, connector_id: str, config: ConnectorConfig, how: str, **facts: bool
    ) -> _Plan:
        found = self.registry.connector_type(config.type)
        if found is None:
            raise self._unknown(connector_id, config.type)
        return _Plan(how, *found, config, **facts)

    def _unknown(self, connector_id: str, type_id: str) -> UnknownConnector:
        if type_id == connector_id:
            known = {*self.config.connectors, *self.registry.names("connector type")}
            known.update(i for s in self.config.system.values() for i in s.ids)
            what = f"Nothing answers to connector ID {connector_id!r}"
        else:
            known = set(self.registry.names("connector type"))
            what = f"Connector {connector_id!r} has the unknown type {type_id!r}"
        sentence = what + did_you_mean(type_id, known).rstrip("?")
        return UnknownConnector("; ".join([sentence, *self.registry.failures()]) + ".")

    def _connector(self, connector_id: str, plan: _Plan, *, pool: bool) -> Connector:
        settings = self._settings(connector_id, plan)
        policies = self._policies(connector_id, plan.config)
        return Connector(
            id=connector_id,
            type=plan.teaches.id,
            _kit=self,
            _teaches=plan.teaches,
            _settings=settings,
            _policies=policies,
            _key=(
                _identity(plan.teaches.id, settings),
                tuple(f"{p.name} {p.settings.model_dump_json()}" for p in policies),
                plan.is_shared,
            ),
            _is_shared=plan.is_shared,
            _source=self._portable_name if plan.is_portable else None,
            _alone=None if pool else {},
        )

    def _settings(self, connector_id: str, plan: _Plan) -> Settings:
        raw, problems = plan.config.settings, dict[str, str]()
        if plan.config.trusted:
            try:
                raw = reveal(raw, os.environ)
            except ConfigError as error:
                raise ConfigError(f"Connector {connector_id!r}: {error}.") from None
        else:
            problems |= _refused(raw, plan.teaches)
        settings = None
        try:
            settings = plan.teaches.Settings.model_validate(raw)
        except ValidationError as error:
            known = plan.teaches.Settings.model_fields
            problems = problems_of(error, known) | problems
        except Exception as error:  # noqa: BLE001 - its text may hold a value
            problems["it"] = f"the type's own model fails with {type(error).__name__}"
        if settings is not None and not plan.config.trusted:
            problems = dict(settings.refusals()) | problems
        if problems:
            told = [f"{k}: {v}" for k, v in problems.items()]
            if len(told) > _MOST_PROBLEMS:
                told[_MOST_PROBLEMS:] = [f"and {len(told) - _MOST_PROBLEMS} more"]
            raise InvalidSettings(
                f"Settings of connector {connector_id!r} ({plan.teaches.id}) do not "
                f"fit: {'; '.join(told)}.",
                problems,
            )
        assert settings is not None  # noqa: S101 - else there was a problem
        return settings

    def _policies(
        self, connector_id: str, config: ConnectorConfig
    ) -> tuple[Policy, ...]:
        is_default = config.policies is None and not config.tables
        if is_default and self._default_policies is not None:
            return self._default_policies
        names = config.policies
        if names is None:
            names = self.config.policies.enabled or ()
        for name in sorted({*config.tables} - {*names}):
            self._policy(name, connector_id)
        policies = tuple(
            self._policy(name, connector_id, config.tables.get(name, {}))
            for name in names
        )
        if is_default:
            self._default_policies = policies
        return policies

    def _policy(
        self, name: str, connector_id: str, table: Mapping[str, Any] | None = None
    ) -> Policy:
        found = self.registry.policy(name)
        if found is None:
            near = did_you_mean(name, self.registry.names("policy")).rstrip("?")
            raise UnknownPolicy(
                f"Connector {connector_id!r} names the policy {name!r}, which no "
                f"plugin provides{near}."
            )
        policy, _ = found
        merged = {**self.config.policies.tables.get(name, {}), **(table or {})}
        try:
            return policy(policy.Settings.model_validate(merged))
        except ValidationError as error:
            told = problems_of(error, policy.Settings.model_fields)
            raise ConfigError(
                f"Policy {name!r} of connector {connector_id!r} is wrong: "
                f"{'; '.join(f'{k}: {v}' for k, v in told.items())}."
            ) from None

    # Opening

    def _filesystem(self, connector: Connector) -> AbstractFileSystem:
        if (alone := connector._alone) is None:
            return self._pool.get(
                connector._key, lambda: self._open(connector)
            )
        key = os.getpid()
        if key not in alone:
            alone[key] = self._open(connector)
        return alone[key].outer

    def _async_filesystem(self, connector: Connector) -> AsyncFileSystem:
        loop = asyncio.get_running_loop()
        sync = self._filesystem(connector)

        def opener() -> Opened:
            if getattr(sync, "async_impl", False):
                return self._open(connector, loop)
            from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper

            wrapper = AsyncFileSystemWrapper(sync, asynchronous=True)
            return Opened(connector.type, wrapper, sync, loop)

        key: Hashable = (connector._key, loop)
        if (alone := connector._alone) is None:
            return self._pool.get(key, opener)
        if key not in alone:
            alone[key] = opener()
        return alone[key].outer

    def _open(
        self, connector: Connector, loop: asyncio.AbstractEventLoop | None = None
    ) -> Opened:
        self._refuse_if_closed()
        teaches = connector._teaches
        options: dict[str, Any] = {"skip_instance_cache": not connector._is_shared}
        if loop is not None:
            options = {"skip_instance_cache": True, "asynchronous": True, "loop": loop}
        try:
            inner = teaches.open(connector._settings, **options)
        except ModuleNotFoundError as error:
            if teaches.requires is None:
                raise
            raise MissingExtra(
                f"Connector {connector.id!r} ({teaches.id}) needs {error.name}: "
                f"pip install '{teaches.requires}'."
            ) from error
        if not hasattr(inner, "unstrip_protocol"):
            raise PluginFailed(
                f"Connector type {teaches.id!r} opened {inner!r:.80}, which is no "
                "fsspec filesystem."
            )
        if isinstance(inner, Releasable):
            inner.connector = connector
        self.registry.emit(FilesystemOpened(connector.id, connector.type))
        outer = wrap(inner, connector._policies, connector)
        return Opened(connector.type, outer, inner, loop)

    def _left(self, entry: Opened) -> None:
        self.registry.emit(FilesystemClosed(entry.type))

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise KitClosed("This kit was closed: make another one.")

    @property
    def _portable_name(self) -> str:
        return str(self._source.path or "")

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
        plan = self._plan(connector_id, settings, trusted=trusted)
        valid = self._settings(connector_id, plan)
        return Explanation(
            id=connector_id,
            how=plan.how,
            type=plan.teaches.id,
            plugin=plan.plugin.name,
            distribution=plan.plugin.origin,
            settings=redacted(valid, plan.config.settings),
            policies=tuple(p.name for p in self._policies(connector_id, plan.config)),
            is_shared=plan.is_shared,
        )

    def plugins(self) -> list[PluginInfo]:
        """Return what is known of each plugin; imports none."""
        return self.registry.infos()

    def connector_types(self) -> list[ConnectorType[Any]]:
        """Return every connector type on offer; loads all plugins."""
        names = self.registry.names("connector type")
        found = [self.registry.connector_type(name) for name in names]
        return [each[0] for each in found if each is not None]

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

    # The end

    def close(self) -> None:
        """Close every filesystem of this process; the kit resolves no more."""
        self._is_closed = True
        self._hot.clear()
        self._pool.close()

    async def aclose(self) -> None:
        """Close the kit; those of the running loop are closed when it returns."""
        loop = asyncio.get_running_loop()
        mine = self._pool.of_loop(loop)
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


def _refuse_settings(
    connector_id: str, settings: Mapping[str, Any] | None, what: str
) -> None:
    if settings:
        raise InvalidSettings(
            f"Connector {connector_id!r} is {what} and takes no settings at the call."
        )


def _refused(
    raw: Mapping[str, Any], teaches: ConnectorType[Any]
) -> dict[str, str]:
    """Say what a tenant's settings may not say, whatever the type."""
    problems = {
        str(name)[:60]: "a reference to the host's environment or files is refused in "
        "settings that a tenant passes"
        for name, value in raw.items()
        if configuration.has_reference(value)
    }
    if teaches.reads_host:
        problems["type"] = (
            f"{teaches.id!r} opens this machine's own files: configure the connector "
            "in connectorkit.toml, or pass trusted=True"
        )
    return problems


def _identity(type_id: str, settings: Settings) -> str:
    text = json.dumps(
        [type_id, settings.model_dump()], default=_plain, sort_keys=True
    )
    return hashlib.blake2b(text.encode(), key=_IDENTITY_KEY, digest_size=16).hexdigest()


def _plain(value: object) -> object:
    """Turn a setting into JSON; two different ones must never look the same."""
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, _NAMED):
        return str(value)
    raise PluginFailed(
        f"A setting is of type {type(value).__name__}, which cannot tell two "
        "connectors apart: use texts, numbers, paths, URLs, dates or secrets."
    )


_kits: weakref.WeakValueDictionary[str, ConnectorKit] = weakref.WeakValueDictionary()
_landed: dict[str, ConnectorKit] = {}
_landing = threading.Lock()


def kit_for(source: str) -> ConnectorKit:
    """Return this process's kit of a configuration, for connectors that land here.

    Args:
        source: The configuration's path; empty for the defaults.
    """
    with _landing:
        kit = _kits.get(source)
        if kit is None or kit._is_closed:  # noqa: SLF001 - same module
            kit = _kits[source] = _landed[source] = ConnectorKit(source or None)
        return kit
