"""Plugins: loaded on demand, by their names, and never silently lost."""

from __future__ import annotations

import os
import re
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

from connectorkit.config import PluginsConfig, did_you_mean
from connectorkit.discovery import RESERVED, discover, is_from
from connectorkit.errors import (
    PluginBlocked,
    PluginConflict,
    PluginError,
    PluginFailed,
)
from connectorkit.events import PluginLoaded
from connectorkit.fork import renew_in_child
from connectorkit.hooks import Hooks
from connectorkit.plugin import Kind, Plugin, PluginInfo, one_line, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from connectorkit.config import ConnectorConfig
    from connectorkit.connector_type import ConnectorType, SystemAdapter
    from connectorkit.policy import Policy

__all__ = ["Registry"]


class Registry:
    """All plugins of a kit.

    Finding them reads metadata alone. A plugin is imported when something is asked
    for that bears its name; only a miss imports the rest. One that breaks is recorded,
    and its cause raised when what it provides is asked for.

    Args:
        config: The `[plugins]` table.
        environ: For `CONNECTORKIT_PLUGINS`, an allow-list of third parties' plugins,
            and `CONNECTORKIT_DISABLE`; both are comma-separated names.
    """

    def __init__(
        self,
        config: PluginsConfig | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        self._config = config or PluginsConfig()
        self._hooks = Hooks()
        self._lock = threading.Lock()
        found = discover(self._config, environ)
        self._by_name, self._aside = found.by_name, found.aside
        self._conflicts = found.conflicts
        self._warned_of: set[str] = set()
        # By a plugin's name, the thread that imports it.
        self._importing: dict[str, int] = {}
        for name in found.unknown:
            self._warn_of_unknown(name)
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take new locks: a thread of the parent may have held the old ones."""
        self._lock = threading.Lock()
        self._hooks.after_fork()
        for plugin in self._by_name.values():
            plugin.lock = threading.RLock()
            plugin.loading = False
            thread = self._importing.get(plugin.name, threading.get_ident())
            if thread != threading.get_ident():
                # Python's own lock of the module is held by a thread that is not here.
                plugin.state = "failed"
                plugin.error = (
                    "another thread was importing it when this process was forked; "
                    "load it before"
                )

    def _warn_of_unknown(self, name: str) -> None:
        if name not in self._warned_of:
            self._warned_of.add(name)
            near = did_you_mean(name, self._by_name)
            warnings.warn(
                f"The configuration of plugins names {name!r}, which is not "
                f"installed{near}",
                stacklevel=2,
            )

    @property
    def _plugins(self) -> list[Plugin]:
        # A copy: one may be registered while another thread goes through them.
        return list(self._by_name.values())

    # Loading

    def register(self, module: object, name: str | None = None) -> None:
        """Add a plugin by hand: a module, or an object with hooks.

        Raises:
            PluginConflict: The name is taken.
            PluginError: It breaks the contract.
        """
        name = name or str(getattr(module, "__name__", type(module).__name__))
        plugin = Plugin(name, None, None, lambda: module)
        if self.is_own_name(name):
            raise PluginConflict(
                f"{name!r} is a name of connectorkit's own: register yours under "
                "another."
            )
        with self._lock:
            if (other := self._by_name.get(name)) is not None:
                raise PluginConflict(
                    f"A plugin {name!r} is here already ({other.origin}): register "
                    "yours under another name."
                )
            self._by_name[name] = plugin
        try:
            self._load(plugin)
        finally:
            if plugin.state != "loaded":
                with self._lock:
                    del self._by_name[name]

    def _load(self, plugin: Plugin) -> Plugin:
        """Import `plugin` and ask what it offers, once.

        Raises:
            PluginError: It is blocked, in conflict, or broken.
        """
        if plugin.state == "loaded":
            return plugin
        if plugin.state == "blocked":
            raise PluginBlocked(
                f"Plugin {plugin.name!r} ({plugin.origin}) is turned off: "
                f"{plugin.error}."
            )
        if plugin.state == "shadowed":
            raise _conflict("plugin", plugin.name, self._conflicts[plugin.name])
        # The plugin's own lock: a slow import keeps nobody from another plugin.
        with plugin.lock:
            if asked := plugin.state == "available":
                if plugin.loading:
                    raise PluginFailed(
                        f"Plugin {plugin.name!r} ({plugin.origin}) asks for itself "
                        "while it is imported."
                    )
                plugin.loading = True
                try:
                    self._ask(plugin)
                finally:
                    plugin.loading = False
        if asked:
            failed = plugin.state == "failed"
            self.emit(PluginLoaded(plugin.name, plugin.seconds or 0.0, failed))
        if plugin.state == "failed":
            raise PluginFailed(
                f"Plugin {plugin.name!r} ({plugin.origin}) cannot serve: "
                f"{one_line(plugin.error or '')}. Mend it, or disable it."
            ) from (plugin.error if isinstance(plugin.error, Exception) else None)
        return plugin

    def _ask(self, plugin: Plugin) -> None:
        begin = time.perf_counter()
        # A thread that did not survive a fork may have left it half done.
        self._unhook(plugin)
        try:
            module = self._import(plugin)
            verify(module)
            self._hooks.add(module, plugin.name)
            plugin.collect(module)
            self._refuse_own_names(plugin)
            plugin.module, plugin.state = module, "loaded"
        except Exception as error:  # noqa: BLE001 - recorded, raised when asked for
            plugin.error, plugin.state = error, "failed"
        finally:
            # What is wider than Exception goes through, and it may be tried again.
            if plugin.state != "loaded":
                self._unhook(plugin)
        plugin.seconds = time.perf_counter() - begin

    def _import(self, plugin: Plugin) -> object:
        self._importing[plugin.name] = threading.get_ident()
        try:
            return plugin.load()
        finally:
            del self._importing[plugin.name]

    def _unhook(self, plugin: Plugin) -> None:
        self._hooks.remove(plugin.name)
        plugin.forget()

    def _refuse_own_names(self, plugin: Plugin) -> None:
        if plugin.is_own:
            return
        for name in (*plugin.types, *plugin.aliases, *plugin.policies):
            if self.is_own_name(name):
                raise PluginFailed(f"it offers {name!r}, a name of connectorkit's own")

    def is_own_name(self, name: str) -> bool:
        """Tell whether a connector ID, type or policy can only be one of ours."""
        stem = name.partition("|")[0]
        holder = self._by_name.get(stem)
        return stem in RESERVED or (holder is not None and holder.is_own)

    # Asking

    def connector_type(self, name: str) -> tuple[ConnectorType[Any], Plugin] | None:
        """Return the connector type of this ID or alias, and its plugin.

        Raises:
            PluginError: The plugin that provides it cannot serve.
        """
        return self._find("connector type", name)

    def policy(self, name: str) -> tuple[type[Policy], Plugin] | None:
        """Return the policy of this name, and its plugin.

        Raises:
            PluginError: The plugin that provides it cannot serve.
        """
        return self._find("policy", name)

    def _find(self, kind: Kind, name: str) -> tuple[Any, Plugin] | None:
        namesake = self._by_name.get(name) or self._by_name.get(name.partition("|")[0])
        preferred = self._config.prefer.get(name)
        if (
            namesake is not None
            and (namesake.is_own or not preferred or is_from(namesake, preferred))
            and (offered := self._load(namesake).offers(kind, name))
        ):
            return offered, namesake
        # connectorkit's own first: nobody can take a name of theirs.
        own = [p for p in self._plugins if p.is_own]
        for plugin in self._try_load(own):
            if offered := plugin.offers(kind, name):
                return offered, plugin
        found = [p for p in self.load_all() if p.offers(kind, name)]
        if len(found) > 1:
            picked = [p for p in found if is_from(p, preferred)]
            if len(picked) != 1:
                raise _conflict(kind, name, found)
            found = picked
        if not found and namesake is not None:
            self._load(namesake)
        return (found[0].offers(kind, name), found[0]) if found else None

    def load_all(self) -> list[Plugin]:
        """Load every plugin that may serve, and return those that do."""
        return self._try_load(self._plugins)

    def _try_load(self, plugins: Iterable[Plugin]) -> list[Plugin]:
        loaded = []
        for plugin in plugins:
            try:
                loaded.append(self._load(plugin))
            except PluginError:
                continue
        return loaded

    def adapters(self) -> list[SystemAdapter]:
        """Return the system adapters: ours, then those that the config names.

        Raises:
            PluginError: One that should serve cannot.
        """
        serving = [p for p in self._plugins if p.name == "system" and p.is_own]
        serving = [p for p in serving if p.state != "blocked"]
        for name in self._config.adapters:
            # Not before it is needed: it may be registered by hand until then.
            if (plugin := self._by_name.get(name)) is None:
                self._warn_of_unknown(name)
            elif plugin not in serving:
                serving.append(plugin)
        return [each for plugin in serving for each in self._load(plugin).adapters]

    def is_own_type(self, name: str) -> bool:
        """Tell whether a name is the ID or an alias of one of our connector types."""
        own = [p for p in self._plugins if p.is_own]
        return self.is_own_name(name) and any(
            plugin.offers("connector type", name) for plugin in self._try_load(own)
        )

    def lookup(self, connector_id: str) -> tuple[ConnectorConfig, str] | None:
        """Ask the lookup hooks of all plugins; see `Hooks.lookup`."""
        self.load_all()
        return self._hooks.lookup(connector_id)

    def emit(self, event: object) -> None:
        """Tell plugins what happened."""
        self._hooks.emit(event)

    # Telling

    def infos(self) -> list[PluginInfo]:
        """Return what is known of each plugin; imports none."""
        plugins = [*self._plugins, *self._aside]
        return [p.info() for p in sorted(plugins, key=lambda p: p.name)]

    def connector_types(self) -> list[ConnectorType[Any]]:
        """Return every connector type on offer; loads all plugins."""
        return [made for p in self.load_all() for made in p.types.values()]

    def names(self, kind: Kind) -> list[str]:
        """Return every ID or name on offer; loads all plugins."""
        plugins = self.load_all()
        if kind == "policy":
            return sorted({name for p in plugins for name in p.policies})
        return sorted({name for p in plugins for name in p.types})

    def failures(self) -> list[str]:
        """Return one sentence for each plugin that failed or is in conflict."""
        return [
            f"plugin {p.name!r} ({p.origin}) {p.state}: {one_line(p.error or '')}"
            for p in self._plugins
            if p.state in {"failed", "shadowed"}
        ]


def _conflict(kind: str, name: str, plugins: list[Plugin]) -> PluginConflict:
    origins = " and ".join(
        p.origin if kind == "plugin" else f"{p.origin} ({p.name!r})" for p in plugins
    )
    choice = plugins[0].distribution or plugins[0].name
    key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else f'"{name}"'
    return PluginConflict(
        f"The {kind} {name!r} is offered by {origins}: choose one in "
        f'connectorkit.toml, [plugins] prefer = {{ {key} = "{choice}" }}.'
    )
