"""Resolving: what answers to a connector ID, with which settings and policies."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from connectorkit.config import (
    ConnectorConfig,
    Source,
    did_you_mean,
    has_reference,
    problems_of,
    reveal,
)
from connectorkit.connector_type import ConnectorType, valid_id
from connectorkit.errors import (
    ConfigError,
    ConnectorKitError,
    InvalidSettings,
    MissingExtra,
    PluginBlocked,
    PluginFailed,
    UnknownConnector,
    UnknownPolicy,
)
from connectorkit.plugin import one_line
from connectorkit.policy import check_order

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from pydantic import BaseModel

    from connectorkit.connector_type import SystemAdapter
    from connectorkit.plugin import Plugin
    from connectorkit.policy import Policy
    from connectorkit.registry import Registry
    from connectorkit.settings import Settings

    _Tables: TypeAlias = Mapping[str, Mapping[str, Any]]

__all__ = ["DEFAULT_POLICIES", "Claim", "Plan", "Resolver"]

_log = logging.getLogger(__name__)
# Outermost first.
DEFAULT_POLICIES = ("metrics", "deadline", "retry", "pace", "breaker", "timeout")

_MOST_PROBLEMS = 20
_EVERY = "every connector"
_NONE: _Tables = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Claim:
    """What answers to a connector ID.

    Attributes:
        how: For people.
        config: Type, settings and policies.
        is_adhoc: Whether the settings came with the call.
        is_lasting: Whether it answers alike for as long as the kit lives.
        is_shared: Whether it is a store of the platform's own.
    """

    how: str
    config: ConnectorConfig
    is_adhoc: bool = False
    is_lasting: bool = False
    is_shared: bool = False

    @property
    def by(self) -> str:
        """What it is, in one word."""
        if self.is_shared:
            return "adapter"
        if self.is_adhoc:
            return "settings"
        return "configuration" if self.is_lasting else "lookup"


@dataclass(frozen=True, slots=True)
class Plan:
    """A claim, and the plugin that can serve it."""

    claim: Claim
    teaches: ConnectorType[Any]
    plugin: Plugin


class Resolver:
    """Finds what answers to an ID: adapter, configuration, lookup, type."""

    def __init__(self, source: Source, registry: Registry) -> None:
        self._source = source
        self._config = source.config
        self._registry = registry
        self._default_policies: tuple[Policy, ...] | None = None
        self._are_tables_checked = False

    def plan(
        self,
        connector_id: str,
        settings: Mapping[str, Any] | None,
        *,
        trusted: bool,
    ) -> Plan:
        """Find what answers to an ID, and the plugin that can serve it.

        Raises:
            ConnectorKitError: As `ConnectorKit.resolve` says.
        """
        valid_id(connector_id)
        if settings is not None and not isinstance(settings, Mapping):
            raise InvalidSettings(
                f"Settings of {connector_id!r} are a {type(settings).__name__}: pass "
                "a mapping of names to values."
            )
        claim = self._claim(connector_id)
        if claim is not None:
            if settings:
                raise InvalidSettings(
                    f"Connector {connector_id!r} is served by {claim.how}, and takes "
                    "no settings at the call."
                )
        elif (
            not settings
            and not self._registry.is_own_type(connector_id)
            and (found := self._registry.lookup(connector_id))
        ):
            config, plugin = found
            claim = Claim(f"the lookup of plugin {plugin!r}", config)
        else:
            named = {str(name): value for name, value in (settings or {}).items()}
            config = ConnectorConfig(
                type=connector_id, settings=named, trusted=bool(trusted)
            )
            claim = Claim("its type and settings", config, is_adhoc=True)
        found_type = self._registry.connector_type(claim.config.type)
        if found_type is None:
            raise self._unknown(connector_id, claim.config.type)
        return Plan(claim, *found_type)

    def _claim(self, connector_id: str) -> Claim | None:
        """Ask the system adapters, then the configuration."""
        for adapter in self._registry.adapters():
            config = self._claimed_by(adapter, connector_id)
            if config is not None:
                how = f"system adapter {adapter.name!r}"
                return Claim(how, config, is_lasting=True, is_shared=True)
        config = self._config.connectors.get(connector_id)
        if config is None:
            return None
        how = f"[connectors.{connector_id}] in {self._source.name}"
        return Claim(how, config, is_lasting=True)

    def _claimed_by(
        self, adapter: SystemAdapter, connector_id: str
    ) -> ConnectorConfig | None:
        try:
            config: object = adapter.claim(connector_id, self._config)
        except ConnectorKitError:
            raise
        except Exception as error:
            raise PluginFailed(
                f"System adapter {adapter.name!r} failed on {connector_id!r}: "
                f"{one_line(error)}."
            ) from error
        if config is None or isinstance(config, ConnectorConfig):
            return config
        raise PluginFailed(
            f"System adapter {adapter.name!r} answered with a {type(config).__name__}, "
            "not a ConnectorConfig."
        )

    def _unknown(self, connector_id: str, type_id: str) -> UnknownConnector:
        if type_id == connector_id:
            known = {*self._config.connectors, *self._registry.names("connector type")}
            known.update(i for s in self._config.system.values() for i in s.ids)
            what = f"Nothing answers to connector ID {connector_id!r}"
        else:
            known = set(self._registry.names("connector type"))
            what = f"Connector {connector_id!r} has the unknown type {type_id!r}"
        sentence = what + did_you_mean(type_id, known).rstrip("?")
        return UnknownConnector("; ".join([sentence, *self._registry.failures()]) + ".")

    def settings(self, connector_id: str, plan: Plan) -> Settings:
        """Validate the settings of a plan, its references resolved.

        Raises:
            InvalidSettings: They do not fit; lists every bad field.
            ConfigError: A reference leads nowhere.
        """
        config, model = plan.claim.config, plan.teaches.Settings
        problems: dict[str, str] = {}
        try:
            if not config.trusted:
                problems = _refused(config.settings, plan.teaches)
            raw = self._revealed(connector_id, config)
            valid = model.model_validate(raw, context={"trusted": config.trusted})
            if not config.trusted:
                problems = dict(valid.refusals()) | problems
            if not problems:
                return valid
        except ConfigError:
            raise
        except ValidationError as error:
            problems = problems_of(error, model.model_fields) | problems
        except RecursionError:
            problems["it"] = "is nested too deeply"
        except Exception as error:  # noqa: BLE001 - its text may hold a value
            problems["it"] = f"the type's own model fails with {type(error).__name__}"
        told = [f"{field}: {problem}" for field, problem in problems.items()]
        if len(told) > _MOST_PROBLEMS:
            told[_MOST_PROBLEMS:] = [f"and {len(told) - _MOST_PROBLEMS} more"]
        raise InvalidSettings(
            f"Settings of connector {connector_id!r} ({plan.teaches.id}) do not fit: "
            f"{'; '.join(told)}.",
            problems,
        )

    def _revealed(self, connector_id: str, config: ConnectorConfig) -> dict[str, Any]:
        if not config.trusted:
            return config.settings
        try:
            return reveal(config.settings, os.environ)
        except ConfigError as error:
            raise ConfigError(f"Connector {connector_id!r}: {error}.") from None

    def policies(
        self, connector_id: str, config: ConnectorConfig
    ) -> tuple[Policy, ...]:
        """Make the policies of a connector, outermost first.

        Raises:
            UnknownPolicy: No plugin provides one of them.
            ConfigError: The settings of one do not fit, or they stand in a wrong order.
            MissingExtra: A client library of one that is named is not installed.
        """
        if not self._are_tables_checked:
            self._check_tables(_EVERY, self._config.policies.tables)
            self._are_tables_checked = True
        of = f"connector {connector_id!r}"
        if not config.trusted and has_reference(config.tables):
            raise ConfigError(
                f"The policies of {of}: a reference to the host's environment or files "
                "is refused beside a tenant's settings."
            )
        self._check_tables(of, config.tables)
        names = config.policies
        if names is None:
            names = self._config.policies.enabled
        if names is None and not config.tables:
            return self.default_policies()
        if names is not None:
            return self._named(names, of, config.tables)
        if idle := sorted({*config.tables} - {*DEFAULT_POLICIES}):
            raise ConfigError(
                f"Connector {connector_id!r} has settings of the policy {idle[0]!r}, "
                "which is not on by default: name it in its `policies`."
            )
        return self._defaults(of, config.tables)

    def default_policies(self) -> tuple[Policy, ...]:
        """Make the policies of connectors that name none, outermost first.

        Raises:
            ConnectorKitError: As `policies` says.
        """
        if self._default_policies is None:
            names = self._config.policies.enabled
            made = self._defaults(_EVERY) if names is None else self._named(names)
            self._default_policies = made
        return self._default_policies

    def _check_tables(self, of: str, tables: _Tables) -> None:
        """See that tables configure policies that there are, enabled or not."""
        for name in sorted(tables):
            # Who turned a plugin off may leave its table; what it refers to need not be
            # there unless it is used.
            with contextlib.suppress(PluginBlocked):
                if not has_reference(tables[name]):
                    self.configured(name, of, tables[name])

    def _named(
        self, names: Iterable[str], of: str = _EVERY, tables: _Tables = _NONE
    ) -> tuple[Policy, ...]:
        policies = tuple(self._policy(name, of, tables.get(name)) for name in names)
        check_order(policies, of)
        return policies

    def _defaults(self, of: str, tables: _Tables = _NONE) -> tuple[Policy, ...]:
        """Make the policies that nobody asked for by name: what is not there is not."""
        policies = []
        for name in DEFAULT_POLICIES:
            try:
                policies.append(self._policy(name, of, tables.get(name)))
            except PluginBlocked:
                continue
            except (MissingExtra, PluginFailed) as error:
                _say_once(f"The policy {name!r} is left out: {error}")
        return tuple(policies)

    def _policy(
        self, name: str, of: str, table: Mapping[str, Any] | None = None
    ) -> Policy:
        policy, settings = self.configured(name, of, table)
        try:
            made = policy(settings)
        except ConnectorKitError:
            raise
        except Exception as error:
            raise PluginFailed(
                f"Policy {name!r} of {of} cannot be made: {one_line(error)}."
            ) from error
        made.settings = settings
        return made

    def configured(
        self, name: str, of: str, table: Mapping[str, Any] | None
    ) -> tuple[type[Policy], BaseModel]:
        """Return a policy's class, and its settings from the defaults and a table.

        Args:
            name: The policy's.
            of: Whose it is, for errors.
            table: What is set beside the defaults.

        Raises:
            UnknownPolicy: No plugin provides it.
            ConfigError: Its settings do not fit, or refer to what is not there.
        """
        found = self._registry.policy(name)
        if found is None:
            near = did_you_mean(name, self._registry.names("policy")).rstrip("?")
            raise UnknownPolicy(
                f"{of[0].upper()}{of[1:]} names the policy {name!r}, which no plugin "
                f"provides{near}."
            )
        policy, _ = found
        merged = {**self._config.policies.tables.get(name, {}), **(table or {})}
        try:
            merged = reveal(merged, os.environ)
        except ConfigError as error:
            raise ConfigError(f"Policy {name!r} of {of}: {error}.") from None
        try:
            return policy, policy.Settings.model_validate(merged)
        except ValidationError as error:
            told = problems_of(error, policy.Settings.model_fields)
            raise ConfigError(
                f"Policy {name!r} of {of} is wrong: "
                f"{'; '.join(f'{k}: {v}' for k, v in told.items())}."
            ) from None
        except Exception as error:  # noqa: BLE001 - its text may hold a value
            raise PluginFailed(
                f"The settings of policy {name!r} cannot be read: its model fails with "
                f"{type(error).__name__}."
            ) from None


@functools.cache
def _say_once(sentence: str) -> None:
    _log.warning("%s", sentence)


def _refused(raw: Mapping[str, Any], teaches: ConnectorType[Any]) -> dict[str, str]:
    """Say what a tenant's settings may not say, whatever the type."""
    problems = {
        str(name)[:60]: "a reference to the host's environment or files is refused in "
        "settings that a tenant passes"
        for name, value in raw.items()
        if has_reference(value)
    }
    if teaches.reads_host:
        problems["type"] = (
            f"{teaches.id!r} opens this machine's own files: configure the connector "
            "in connectorkit.toml, or pass trusted=True"
        )
    return problems
