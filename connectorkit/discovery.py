"""Finding plugins: by their metadata alone, each under the one name it may have."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any

from connectorkit import hookspecs
from connectorkit.plugin import Plugin, one_line

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit.config import PluginsConfig

__all__ = ["RESERVED", "Found", "discover", "is_from"]

# What ours offer under names that no plugin of ours bears: kept without an import.
RESERVED = frozenset({"google_cloud_storage", "localstorage", "pcs"})


@dataclass(slots=True)
class Found:
    """The plugins that are installed.

    Attributes:
        by_name: The one that serves under each name, unless it is blocked.
        aside: Those that another one keeps from their name.
        conflicts: All that offer one name, where nothing says which of them serves.
        unknown: Names that the configuration blocks or allows, and nobody has.
    """

    by_name: dict[str, Plugin] = field(default_factory=dict)
    aside: list[Plugin] = field(default_factory=list)
    conflicts: dict[str, list[Plugin]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def discover(config: PluginsConfig, environ: Mapping[str, str]) -> Found:
    """Find all plugins, and say of each whether it may serve; imports none.

    Args:
        config: The `[plugins]` table.
        environ: See `Registry`.
    """
    by_name: dict[str, list[Plugin]] = {}
    # Each look into a distribution's metadata parses them anew, README and all.
    about: dict[Any, Any] = {None: {"Name": None, "Version": None}}
    for entry in _entry_points():
        if entry.dist is not None and entry.dist not in about:
            about[entry.dist] = entry.dist.metadata
        plugin = Plugin(
            name=entry.name,
            distribution=about[entry.dist]["Name"],
            version=about[entry.dist]["Version"],
            load=entry.load,
        )
        by_name.setdefault(entry.name, []).append(plugin)
    found = Found()
    own = {p.name for plugins in by_name.values() for p in plugins if p.is_own}
    for name, plugins in sorted(by_name.items()):
        # A third party could also deny what it cannot take: by failing.
        if name not in own and name.partition("|")[0] in own | RESERVED:
            for plugin in plugins:
                plugin.state = "shadowed"
                plugin.error = f"{name!r} is a name of connectorkit's own"
            found.aside += plugins
        else:
            _pick(found, name, plugins, config.prefer.get(name))
    _block(found, set(config.disable), environ)
    return found


def _pick(
    found: Found, name: str, plugins: list[Plugin], preferred: str | None
) -> None:
    own = [p for p in plugins if p.is_own]
    picked = own or [p for p in plugins if is_from(p, preferred)] or plugins[:1]
    found.by_name[name] = chosen = picked[0]
    found.aside += [p for p in plugins if p is not chosen]
    is_settled = len(plugins) == 1 or bool(own) or is_from(chosen, preferred)
    if not is_settled:
        found.conflicts[name] = plugins
    for plugin in plugins:
        if plugin is not chosen or not is_settled:
            plugin.state = "shadowed"
            others = (p.origin for p in plugins if p is not plugin)
            plugin.error = f"{name!r} is also offered by {', '.join(others)}"


def _block(found: Found, disable: set[str], environ: Mapping[str, str]) -> None:
    disable |= _listed(environ.get("CONNECTORKIT_DISABLE", ""))
    allow = environ.get("CONNECTORKIT_PLUGINS")
    allowed = None if allow is None else _listed(allow)
    for name, plugin in found.by_name.items():
        if name in disable:
            plugin.state, plugin.error = "blocked", "it is disabled"
        elif allowed is not None and not plugin.is_own and name not in allowed:
            plugin.state = "blocked"
            plugin.error = "it is not in CONNECTORKIT_PLUGINS"
    found.unknown = sorted((disable | (allowed or set())) - found.by_name.keys())


def _entry_points() -> list[metadata.EntryPoint]:
    try:
        return list(metadata.entry_points(group=hookspecs.GROUP))
    except Exception:  # noqa: BLE001 - one distribution's file is damaged: which?
        found: dict[str, list[metadata.EntryPoint]] = {}
        for dist in metadata.distributions():
            try:
                found.setdefault(
                    dist.name, list(dist.entry_points.select(group=hookspecs.GROUP))
                )
            except Exception as error:  # noqa: BLE001 - told, and left out
                warnings.warn(
                    f"The entry points of a distribution cannot be read: "
                    f"{one_line(error)}",
                    stacklevel=2,
                )
        return [entry for entries in found.values() for entry in entries]


def _listed(names: str) -> set[str]:
    return {name for part in names.split(",") if (name := part.strip())}


def is_from(plugin: Plugin, preferred: str | None) -> bool:
    """Tell whether `[plugins] prefer` means this one; pip's names are lax."""
    source = plugin.distribution or plugin.name
    return preferred is not None and _normal(source) == _normal(preferred)


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()
