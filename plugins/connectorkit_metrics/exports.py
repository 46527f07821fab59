"""The series of this process, each made once for a registry."""

from __future__ import annotations

import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from connectorkit import ConfigError, MissingExtra
from connectorkit.fork import importing, renew_in_child

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from connectorkit_metrics.series import Series

__all__ = ["EXPORTS", "Exports", "prometheus"]

# Kept with the registry, not with this module: who imports it anew, such as a reloader,
# finds what is registered already.
_PLACE = "_connectorkit_series"


class Exports:
    """What is exported, and has to hear of events."""

    def __init__(self) -> None:
        self._all: tuple[weakref.ref[Series], ...] = ()
        self._registries: weakref.WeakSet[CollectorRegistry] = weakref.WeakSet()
        self._lock = threading.Lock()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take new locks."""
        self._lock = threading.Lock()
        for registry in self._registries:
            # Another thread of the parent may have been asking for the metrics.
            registry._lock = threading.RLock()  # type: ignore[assignment]

    def series(self, names: str, registry: CollectorRegistry | None = None) -> Series:
        """Return the series of a vocabulary in a registry, made if there are none.

        Args:
            names: Of the settings.
            registry: None for prometheus_client's own.

        Raises:
            MissingExtra: prometheus_client is not installed.
            ConfigError: They cannot be exported: another collector has their names, or
                there is no directory to share them by.
        """
        registry = registry or prometheus().REGISTRY
        with self._lock:
            found: dict[str, Series] = vars(registry).setdefault(_PLACE, {})
            series = found.get(names)
            if series is None:
                series = _made(names)
                try:
                    registry.register(series)
                except ValueError as error:
                    raise ConfigError(
                        f"The metrics by the names of {names!r} cannot be exported: "
                        "another collector in the registry has one of them. Remove "
                        f"that one, or choose other names. {error}"
                    ) from None
                found[names] = series
            self._registries.add(registry)
            known = [each for each in self._all if each() is not None]
            if not any(each() is series for each in known):
                known.append(weakref.ref(series))
            self._all = tuple(known)
            return series

    def hear(self, event: object) -> None:
        """Tell all series of an event."""
        for each in self._all:
            if (series := each()) is not None:
                series.hear(event)


def prometheus() -> Any:
    """Return prometheus_client.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        with importing():
            import prometheus_client
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"The policy 'metrics' needs {error.name}: "
            "pip install 'connectorkit[metrics]'."
        ) from error
    return prometheus_client


def _made(names: str) -> Series:
    folder = os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(
            f"PROMETHEUS_MULTIPROC_DIR is {folder!r}, which is no directory: make it, "
            "and empty it, before the first worker starts."
        )
    if names == "source":
        from connectorkit_metrics.source import SourceSeries

        return SourceSeries()
    from connectorkit_metrics.own import OwnSeries

    return OwnSeries()


EXPORTS = Exports()
