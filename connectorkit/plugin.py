"""A plugin: what it is, and whether it keeps the contract."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from connectorkit import hookspecs
from connectorkit.connector_type import ConnectorType, SystemAdapter, valid_id
from connectorkit.errors import ConnectorKitError, PluginFailed
from connectorkit.policy import Policy
from connectorkit.settings import Settings

__all__ = [
    "OWN",
    "Kind",
    "Plugin",
    "PluginInfo",
    "hook_names",
    "one_line",
    "verify",
]

# The distribution whose plugins are ours; nobody else gets their names.
OWN = "connectorkit"
Kind = Literal["connector type", "policy"]
State = Literal["available", "loaded", "blocked", "failed", "shadowed"]


@dataclass(frozen=True, slots=True)
class PluginInfo:
    """What is known of a plugin.

    Attributes:
        name: Its entry point's name: its only name.
        state: `available` (not asked for yet), `loaded`, `blocked` (turned off),
            `failed` (see `error`) or `shadowed` (another one serves its name).
        distribution: What `pip` calls it; None for one registered by hand.
        version: Of the distribution.
        provides: Such as `type box` or `policy audit`; known once it is loaded.
        seconds: How long its import and its hooks took.
        error: Why it cannot serve.
    """

    name: str
    state: State
    distribution: str | None
    version: str | None
    provides: tuple[str, ...]
    seconds: float | None
    error: str | None


@dataclass(slots=True, eq=False)
class Plugin:
    """A plugin and what it offered."""

    name: str
    distribution: str | None
    version: str | None
    load: Callable[[], object]
    state: State = "available"
    error: BaseException | str | None = None
    seconds: float | None = None
    module: object = None
    types: dict[str, ConnectorType[Any]] = field(default_factory=dict)
    aliases: dict[str, ConnectorType[Any]] = field(default_factory=dict)
    policies: dict[str, type[Policy]] = field(default_factory=dict)
    adapters: tuple[SystemAdapter, ...] = ()
    lock: threading.RLock = field(default_factory=threading.RLock)
    loading: bool = False

    @property
    def is_own(self) -> bool:
        """Whether connectorkit itself ships it."""
        return self.distribution == OWN

    @property
    def origin(self) -> str:
        """The distribution with its version, for messages."""
        if self.distribution is None:
            return "registered by hand"
        return f"{self.distribution} {self.version or ''}".strip()

    def offers(self, kind: Kind, name: str) -> Any:
        """Return the connector type or policy that it offers under `name`."""
        if kind == "policy":
            return self.policies.get(name)
        return self.types.get(name) or self.aliases.get(name)

    def collect(self, module: object) -> None:
        """Ask `module` what it offers.

        Raises:
            PluginFailed: It offers what it may not.
        """
        for each in _ask(module, "connectorkit_connectors"):
            made = _connector_type(each)
            for name in (made.id, *made.aliases):
                if self.offers("connector type", name) is not None:
                    raise PluginFailed(f"it offers the connector type {name!r} twice")
                self.aliases[name] = made
            self.types[made.id] = self.aliases.pop(made.id)
        for each in _ask(module, "connectorkit_policies"):
            policy = _policy(each)
            if policy.name in self.policies:
                raise PluginFailed(f"it offers the policy {policy.name!r} twice")
            self.policies[policy.name] = policy
        self.adapters = tuple(map(_adapter, _ask(module, "connectorkit_adapters")))

    def forget(self) -> None:
        """Take back what was offered."""
        self.types, self.aliases, self.policies, self.adapters = {}, {}, {}, ()

    def info(self) -> PluginInfo:
        """Return the public view."""
        return PluginInfo(
            name=self.name,
            state=self.state,
            distribution=self.distribution,
            version=self.version,
            provides=(
                *(f"type {name}" for name in self.types),
                *(f"adapter {each.name}" for each in self.adapters),
                *(f"policy {name}" for name in self.policies),
            ),
            seconds=self.seconds,
            error=None if self.error is None else one_line(self.error),
        )


def one_line(error: BaseException | str) -> str:
    """Return an error's class and text, short enough for a table."""
    if isinstance(error, str):
        text = error
    else:
        try:
            text = f"{type(error).__name__}: {error}"
        except Exception:  # noqa: BLE001 - a plugin's error may fail to tell itself
            text = type(error).__name__
    return " ".join(text.split())[:300]


def hook_names() -> list[str]:
    """Return the names of all hooks."""
    return [name for name in vars(hookspecs) if name.startswith("connectorkit_")]


def verify(module: object) -> None:
    """Find what pluggy would pass over in silence."""
    if inspect.isclass(module):
        raise PluginFailed(
            f"the entry point names the class {module.__name__}: name a module, or an "
            "instance"
        )
    unmarked = [
        name
        for name in hook_names()
        if callable(hook := getattr(module, name, None))
        and not hasattr(hook, f"{hookspecs.GROUP}_impl")
    ]
    if unmarked:
        raise PluginFailed(f"{unmarked[0]} is not marked by @connectorkit.hookimpl")


def _ask(module: object, hook: str) -> Iterable[Any]:
    function = getattr(module, hook, None)
    if function is None:
        return ()
    offered = function()
    if isinstance(offered, str | bytes) or not isinstance(offered, Iterable):
        raise PluginFailed(f"{hook} returned {offered!r:.80}, not a list")
    return offered


def _connector_type(offered: object) -> ConnectorType[Any]:
    if not (inspect.isclass(offered) and issubclass(offered, ConnectorType)):
        raise PluginFailed(f"{offered!r:.80} is no subclass of ConnectorType")
    name = offered.__name__
    aliases = getattr(offered, "aliases", ())
    if not isinstance(aliases, tuple | list):
        raise PluginFailed(f"{name}.aliases is no tuple of connector IDs")
    for each in (getattr(offered, "id", None), *aliases):
        try:
            valid_id(each)
        except ConnectorKitError as error:
            raise PluginFailed(f"{name}: {error}") from None
    model: object = offered.Settings
    if not (inspect.isclass(model) and issubclass(model, Settings)):
        raise PluginFailed(f"{name}.Settings is no subclass of connectorkit.Settings")
    if not model.__pydantic_complete__:
        # Else the first who passes settings would hear of an annotation.
        model.model_rebuild()
    if inspect.isabstract(offered):
        missing = ", ".join(sorted(offered.__abstractmethods__))
        raise PluginFailed(f"{name} does not define {missing}")
    return offered()


def _policy(offered: object) -> type[Policy]:
    if not (inspect.isclass(offered) and issubclass(offered, Policy)):
        raise PluginFailed(f"{offered!r:.80} is no subclass of Policy")
    if not isinstance(getattr(offered, "name", None), str):
        raise PluginFailed(f"{offered.__name__} has no name")
    model: object = offered.Settings
    if not (inspect.isclass(model) and issubclass(model, BaseModel)):
        raise PluginFailed(f"{offered.__name__}.Settings is no pydantic model")
    return offered


def _adapter(offered: object) -> SystemAdapter:
    if not isinstance(offered, SystemAdapter):
        raise PluginFailed(f"{offered!r:.80} is no SystemAdapter instance")
    if not isinstance(getattr(offered, "name", None), str):
        raise PluginFailed(f"{type(offered).__name__} has no name")
    return offered
