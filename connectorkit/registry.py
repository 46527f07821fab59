"""Plugins: found by their metadata, loaded on demand, never silently lost."""

from __future__ import annotations

import os
import threading
import time
import warnings
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pluggy

from connectorkit import hookspecs
from connectorkit.config import ConnectorConfig, PluginsConfig, did_you_mean
from connectorkit.errors import (
    PluginBlocked,
    PluginConflict,
    PluginError,
    PluginFailed,
)
from connectorkit.events import PluginLoaded
from connectorkit.fork import renew_in_child
from connectorkit.plugin import Kind, Plugin, PluginInfo, hook_names, one_line, verify

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from connectorkit.connector import ConnectorType, SystemAdapter
    from connectorkit.pipeline import Policy

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
        self._hooks = pluggy.PluginManager(hookspecs.GROUP)
        self._hooks.add_hookspecs(hookspecs)
        self._lock = threading.Lock()
        self._all_loaded = False
        self._by_name: dict[str, Plugin] = {}
        self._aside: list[Plugin] = []
        self._conflicts: dict[str, PluginConflict] = {}
        self._discover(environ)
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take new locks: a thread of the parent may have held the old ones."""
        self._lock = threading.Lock()
        for plugin in self._by_name.values():
            plugin.lock = threading.RLock()
            plugin.loading = False

    # Discovery

    def _discover(self, environ: Mapping[str, str]) -> None:
        by_name: dict[str, list[Plugin]] = {}
        for entry in metadata.entry_points(group=hookspecs.GROUP):
            dist = entry.dist
            plugin = Plugin(
                name=entry.name,
                distribution=dist.name if dist else None,
                version=dist.version if dist else None,
                load=entry.load,
            )
            by_name.setdefault(entry.name, []).append(plugin)
        for name, plugins in sorted(by_name.items()):
            self._by_name[name] = self._pick(name, plugins)
        self._block(environ)

    def _pick(self, name: str, plugins: list[Plugin]) -> Plugin:
        chosen = plugins[0]
        if len(plugins) > 1:
            own = [p for p in plugins if p.is_own]
            preferred = self._config.prefer.get(name)
            picked = own or [p for p in plugins if p.distribution == preferred]
            if picked:
                chosen = picked[0]
            else:
                self._conflicts[name] = _conflict("plugin", name, plugins)
            for plugin in plugins:
                if plugin is not chosen or not picked:
                    plugin.state = "shadowed"
                    others = (p.origin for p in plugins if p is not plugin)
                    plugin.error = f"{name!r} is also offered by {', '.join(others)}"
        self._aside += [p for p in plugins if p is not chosen]
        return chosen

    def _block(self, environ: Mapping[str, str]) -> None:
        disable = set(self._config.disable)
        disable |= _listed(environ.get("CONNECTORKIT_DISABLE", ""))
        allow = environ.get("CONNECTORKIT_PLUGINS")
        allowed = None if allow is None else _listed(allow)
        for name, plugin in self._by_name.items():
            if name in disable:
                plugin.state, plugin.error = "blocked", "it is disabled"
            elif allowed is not None and not plugin.is_own and name not in allowed:
                plugin.state = "blocked"
                plugin.error = "it is not in CONNECTORKIT_PLUGINS"
        named = disable | (allowed or set()) | set(self._config.adapters)
        for name in sorted(named - self._by_name.keys()):
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
        with self._lock:
            if (other := self._by_name.get(name)) is not None:
                raise PluginConflict(
                    f"A plugin {name!r} is here already ({other.origin}): register "
                    "yours under another name."
                )
            self._by_name[name] = plugin
        try:
            self._load(plugin)
        except PluginError:
            with self._lock:
                del self._by_name[name]
            raise

    def _load(self, plugin: Plugin) -> Plugin:
        """Import `plugin` and ask what it offers, once.

        Raises:
            PluginError: It is blocked, in conflict, or broken.
        """
        if plugin.state == "loaded":
            return plugin
        if plugin.name in self._conflicts:
            raise self._conflicts[plugin.name]
        if plugin.state == "blocked":
            raise PluginBlocked(
                f"Plugin {plugin.name!r} ({plugin.origin}) is turned off: "
                f"{plugin.error}."
            )
        # The plugin's own lock: a slow import keeps nobody from another plugin.
        with plugin.lock:
            if plugin.state == "available":
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
        if plugin.state == "failed":
            raise PluginFailed(
                f"Plugin {plugin.name!r} ({plugin.origin}) cannot serve: "
                f"{one_line(plugin.error or '')}. Mend it, or disable it."
            ) from (plugin.error if isinstance(plugin.error, Exception) else None)
        return plugin

    def _ask(self, plugin: Plugin) -> None:
        begin = time.perf_counter()
        try:
            module = plugin.load()
            verify(module)
            with self._lock:
                self._hook_up(plugin, module)
            plugin.collect(module)
            self._refuse_own_names(plugin)
        except Exception as error:  # noqa: BLE001 - recorded, raised when asked for
            self._unhook(plugin)
            plugin.error, plugin.state = error, "failed"
        else:
            plugin.module, plugin.state = module, "loaded"
        plugin.seconds = time.perf_counter() - begin
        self.emit(PluginLoaded(plugin.name, plugin.seconds, plugin.state == "failed"))

    def _hook_up(self, plugin: Plugin, module: object) -> None:
        self._hooks.register(module, plugin.name)
        for caller in self._hooks.get_hookcallers(module) or ():
            if not caller.has_spec():
                near = did_you_mean(caller.name, hook_names())
                raise PluginFailed(f"{caller.name!r} is no hook{near}")

    def _unhook(self, plugin: Plugin) -> None:
        with self._lock:
            if self._hooks.get_plugin(plugin.name) is not None:
                self._hooks.unregister(name=plugin.name)
        plugin.forget()

    def _refuse_own_names(self, plugin: Plugin) -> None:
        if plugin.is_own:
            return
        for name in (*plugin.types, *plugin.aliases, *plugin.policies):
            holder = self._by_name.get(name.partition("|")[0])
            if holder is not None and holder.is_own:
                raise PluginFailed(f"it offers {name!r}, a name of connectorkit's own")

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
        if namesake is not None and (
            offered := self._load(namesake).offers(kind, name)
        ):
            return offered, namesake
        # connectorkit's own first: nobody can take a name of theirs.
        own = [p for p in self._plugins if p.is_own]
        for plugin in self._try_load(own):
            if offered := plugin.offers(kind, name):
                return offered, plugin
        found = [p for p in self.load_all() if p.offers(kind, name)]
        if len(found) > 1:
            preferred = self._config.prefer.get(name)
            picked = [p for p in found if p.distribution == preferred]
            if len(picked) != 1:
                raise _conflict(kind, name, found)
            found = picked
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
            if (plugin := self._by_name.get(name)) and plugin not in serving:
                serving.append(plugin)
        return [each for plugin in serving for each in self._load(plugin).adapters]

    def lookup(self, connector_id: str) -> tuple[ConnectorConfig, str] | None:
        """Ask the lookup hooks; the first answer counts.

        Returns:
            The configuration and the name of the plugin that gave it.

        Raises:
            PluginFailed: None knew it, and one of them failed.
        """
        self.load_all()
        failure: PluginFailed | None = None
        for impl in reversed(self._hooks.hook.connectorkit_lookup.get_hookimpls()):
            try:
                config = impl.function(connector_id)
                if config is not None and not isinstance(config, ConnectorConfig):
                    raise TypeError(  # noqa: TRY301 - told like any failure of it
                        f"it returned {type(config).__name__}, not a ConnectorConfig"
                    )
            except Exception as error:  # noqa: BLE001 - another one may know the ID
                failure = failure or PluginFailed(
                    f"Plugin {impl.plugin_name!r} could not look {connector_id!r} up: "
                    f"{one_line(error)}."
                )
                failure.__cause__ = failure.__cause__ or error
            else:
                if config is not None:
                    return config, impl.plugin_name
        if failure is not None:
            raise failure
        return None

    def emit(self, event: object) -> None:
        """Tell `connectorkit_event` hooks; one that raises is warned of, no more."""
        for impl in self._hooks.hook.connectorkit_event.get_hookimpls():
            try:
                impl.function(event)
            except Exception as error:  # noqa: BLE001 - events never break a call
                warnings.warn(
                    f"Plugin {impl.plugin_name!r} failed on an event: "
                    f"{one_line(error)}",
                    stacklevel=2,
                )

    def commands(self, cli: Any) -> None:
        """Let plugins add verbs to the command line."""
        self.load_all()
        self._hooks.hook.connectorkit_commands(cli=cli)

    # Telling

    def infos(self) -> list[PluginInfo]:
        """Return what is known of each plugin; imports none."""
        plugins = [*self._plugins, *self._aside]
        return [p.info() for p in sorted(plugins, key=lambda p: p.name)]

    def names(self, kind: Kind) -> list[str]:
        """Return every ID or name on offer; loads all plugins."""
        plugins = self.load_all()
        if kind == "policy":
            return sorted(name for p in plugins for name in p.policies)
        return sorted(name for p in plugins for name in p.types)

    def failures(self) -> list[str]:
        """Return one sentence for each plugin that failed."""
        return [
            f"plugin {p.name!r} ({p.origin}) failed: {one_line(p.error or '')}"
            for p in self._plugins
            if p.state == "failed"
        ]


def _listed(names: str) -> set[str]:
    return {name for part in names.split(",") if (name := part.strip())}


def _conflict(kind: str, name: str, plugins: list[Plugin]) -> PluginConflict:
    origins = " and ".join(p.origin for p in plugins)
    choice = plugins[0].distribution or plugins[0].name
    return PluginConflict(
        f"The {kind} {name!r} is offered by {origins}: choose one in "
        f'connectorkit.toml, [plugins] prefer = {{ {name} = "{choice}" }}.'
    )
