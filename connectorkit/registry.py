"""Plugins: found by their metadata, loaded on demand, never silently lost."""

from __future__ import annotations

import os
import re
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

__all__ = ["RESERVED", "Registry"]

# What ours offer under names that no plugin of ours bears: kept without an import.
RESERVED = frozenset({"google_cloud_storage", "localstorage"})


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
        self._by_name: dict[str, Plugin] = {}
        self._aside: list[Plugin] = []
        self._conflicts: dict[str, list[Plugin]] = {}
        # By a plugin's name, the thread that imports it.
        self._importing: dict[str, int] = {}
        self._discover(environ)
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take new locks: a thread of the parent may have held the old ones."""
        self._lock = threading.Lock()
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
            if name in RESERVED:
                for plugin in plugins:
                    plugin.state = "shadowed"
                    plugin.error = f"{name!r} is a name of connectorkit's own"
                self._aside += plugins
            else:
                self._by_name[name] = self._pick(name, plugins)
        self._block(environ)

    def _pick(self, name: str, plugins: list[Plugin]) -> Plugin:
        chosen = plugins[0]
        if len(plugins) > 1:
            own = [p for p in plugins if p.is_own]
            preferred = self._config.prefer.get(name)
            picked = own or [p for p in plugins if _is_from(p, preferred)]
            if picked:
                chosen = picked[0]
            else:
                self._conflicts[name] = plugins
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
            with self._lock:
                self._hook_up(plugin, module)
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

    def _hook_up(self, plugin: Plugin, module: object) -> None:
        self._hooks.register(module, plugin.name)
        callers = self._hooks.get_hookcallers(module)
        if not callers:
            raise PluginFailed(f"{module!r:.80} has no hook")
        for caller in callers:
            impls = [i for i in caller.get_hookimpls() if i.plugin is module]
            if any(i.wrapper or i.hookwrapper for i in impls):
                raise PluginFailed(f"{caller.name} is a wrapper: write a plain hook")
            if caller.has_spec() and not hasattr(module, caller.name):
                raise PluginFailed(f"a hook is named {caller.name} by specname alone")
            if not caller.has_spec() and not all(i.optionalhook for i in impls):
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
            stem = name.partition("|")[0]
            holder = self._by_name.get(stem)
            if stem in RESERVED or (holder is not None and holder.is_own):
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
        preferred = self._config.prefer.get(name)
        if (
            namesake is not None
            and (namesake.is_own or not preferred or _is_from(namesake, preferred))
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
            picked = [p for p in found if _is_from(p, preferred)]
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
        """Ask the lookup hooks, in the order of plugins' names; the first answer counts.

        Returns:
            The configuration and the name of the plugin that gave it.

        Raises:
            PluginFailed: None knew it, and one of them failed.
        """
        self.load_all()
        failure: PluginFailed | None = None
        impls = self._hooks.hook.connectorkit_lookup.get_hookimpls()
        # pluggy's own order depends on which plugin happened to be loaded first.
        impls.sort(key=lambda i: (not i.tryfirst, i.trylast, i.plugin_name))
        for impl in impls:
            try:
                config = _call(impl, connector_id=connector_id)
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
            _call_safely(impl, "failed on an event", event=event)

    def commands(self, cli: Any) -> None:
        """Let plugins add verbs to the command line; one that raises is warned of."""
        self.load_all()
        for impl in self._hooks.hook.connectorkit_commands.get_hookimpls():
            _call_safely(impl, "could not add its commands", cli=cli)

    # Telling

    def infos(self) -> list[PluginInfo]:
        """Return what is known of each plugin; imports none."""
        plugins = [*self._plugins, *self._aside]
        return [p.info() for p in sorted(plugins, key=lambda p: p.name)]

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


def _listed(names: str) -> set[str]:
    return {name for part in names.split(",") if (name := part.strip())}


def _call(impl: pluggy.HookImpl, **given: Any) -> Any:
    """Call one hook with those of its arguments that it takes, as pluggy would."""
    taken = (*impl.argnames, *impl.kwargnames)
    return impl.function(**{name: given[name] for name in taken if name in given})


def _call_safely(impl: pluggy.HookImpl, failed: str, **given: Any) -> None:
    try:
        _call(impl, **given)
    except Exception as error:  # noqa: BLE001 - a plugin never breaks a call
        warnings.warn(
            f"Plugin {impl.plugin_name!r} {failed}: {one_line(error)}", stacklevel=3
        )


def _is_from(plugin: Plugin, preferred: str | None) -> bool:
    """Tell whether `[plugins] prefer` means this one; pip's names are lax."""
    source = plugin.distribution or plugin.name
    return preferred is not None and _normal(source) == _normal(preferred)


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def _conflict(kind: str, name: str, plugins: list[Plugin]) -> PluginConflict:
    origins = " and ".join(f"{p.name!r} of {p.origin}" for p in plugins)
    choice = plugins[0].distribution or plugins[0].name
    key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else f'"{name}"'
    return PluginConflict(
        f"The {kind} {name!r} is offered by {origins}: choose one in "
        f'connectorkit.toml, [plugins] prefer = {{ {key} = "{choice}" }}.'
    )
