"""Hooks: pluggy's manager, with each plugin's failures kept to itself."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import pluggy

from connectorkit import hookspecs
from connectorkit.config import ConnectorConfig, did_you_mean
from connectorkit.errors import PluginFailed
from connectorkit.plugin import hook_names, one_line

__all__ = ["Hooks"]


class Hooks:
    """The hooks of all loaded plugins."""

    def __init__(self) -> None:
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._lock = threading.Lock()

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def add(self, module: object, name: str) -> None:
        """Take a plugin's hooks up.

        Raises:
            PluginFailed: It has none, or one that would never be called.
            pluggy.PluginValidationError: One takes an argument that there is not.
        """
        with self._lock:
            self._manager.register(module, name)
            callers = self._manager.get_hookcallers(module)
            if not callers:
                raise PluginFailed(f"{module!r:.80} has no hook")
            for caller in callers:
                _refuse_the_silent(caller, module)

    def remove(self, name: str) -> None:
        """Drop a plugin's hooks, if there are any."""
        with self._lock:
            if self._manager.get_plugin(name) is not None:
                self._manager.unregister(name=name)

    def lookup(self, connector_id: str) -> tuple[ConnectorConfig, str] | None:
        """Ask the lookup hooks, by their plugins' names; the first answer counts.

        Returns:
            The configuration and the name of the plugin that gave it.

        Raises:
            PluginFailed: None knew it, and one of them failed.
        """
        failure: PluginFailed | None = None
        impls = self._manager.hook.connectorkit_lookup.get_hookimpls()
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
        for impl in self._manager.hook.connectorkit_event.get_hookimpls():
            try:
                _call(impl, event=event)
            except Exception as error:  # noqa: BLE001 - a plugin never breaks a call
                warnings.warn(
                    f"Plugin {impl.plugin_name!r} failed on an event: "
                    f"{one_line(error)}",
                    stacklevel=2,
                )


def _refuse_the_silent(caller: pluggy.HookCaller, module: object) -> None:
    """Refuse a hook that pluggy takes up and that nobody would ever call."""
    impls = [i for i in caller.get_hookimpls() if i.plugin is module]
    if any(i.wrapper or i.hookwrapper for i in impls):
        raise PluginFailed(f"{caller.name} is a wrapper: write a plain hook")
    if caller.has_spec() and not hasattr(module, caller.name):
        raise PluginFailed(f"name the function {caller.name}: specname is not read")
    if not caller.has_spec() and not all(i.optionalhook for i in impls):
        near = did_you_mean(caller.name, hook_names())
        raise PluginFailed(f"{caller.name!r} is no hook{near}")


def _call(impl: pluggy.HookImpl, **given: Any) -> Any:
    """Call one hook with those of its arguments that it takes, as pluggy would."""
    taken = (*impl.argnames, *impl.kwargnames)
    return impl.function(**{name: given[name] for name in taken if name in given})
