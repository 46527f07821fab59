"""The platform's own stores: system-internal IDs, served by one shared filesystem."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from connectorkit import (
    ConfigError,
    ConnectorConfig,
    KitConfig,
    SystemAdapter,
    hookimpl,
)

__all__ = ["VARIABLES", "WORKFLOW_EXECUTION_ID", "System"]

# The store of workflows, under the ID by which the source system's hosts know it.
WORKFLOW_EXECUTION_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"
# The source system's variables; each holds {"provider": …, "credentials": {…}}.
VARIABLES = {
    "WORKFLOW_EXECUTION": "WORKFLOW_EXECUTION_FILE_STORAGE_CREDENTIALS",
    "API_EXECUTION": "API_FILE_STORAGE_CREDENTIALS",
    "HITL_FILES": "HITL_FILES_FILE_STORAGE_CREDENTIALS",
}
_PROVIDERS = ("s3", "minio", "gcs", "local")
# What fsspec's classes, whose words those variables use, call our settings.
_OTHER_WORDS = {
    "gcs": {"project": "project_id"},
    "local": {"root": "path"},
}


class System(SystemAdapter):
    """Serves the stores of `[system]`.

    A store answers to the `ids` of its table and to `system|NAME`; the store
    `WORKFLOW_EXECUTION` also to the source system's ID, unless another claims it.
    Where its table names no provider, the source system's variable does; where that
    is not set either, it is a directory under the user's data directory.
    """

    name = "system"

    def claim(self, connector_id: str, config: KitConfig) -> ConnectorConfig | None:
        """Say how a system-internal ID is served.

        Raises:
            ConfigError: The store's variable is not what it should be.
        """
        store = self._store(connector_id, config)
        if store is None:
            return None
        table = config.system.get(store)
        extra: dict[str, Any] = {}
        if table is not None:
            extra = {**table.tables, "policies": table.policies}
        if table is not None and table.provider:
            provider, credentials = table.provider, table.credentials
        else:
            provider, credentials = _from_environ(VARIABLES.get(store))
        if provider == "local" and not credentials.get("path"):
            credentials = {"path": str(_data_directory(store))}
        return ConnectorConfig(type=provider, settings=dict(credentials), **extra)

    def ids(self, config: KitConfig) -> Mapping[str, str]:
        """Name the IDs of all stores."""
        stores = {**dict.fromkeys(VARIABLES), **config.system}
        named = {
            each: name for name, store in config.system.items() for each in store.ids
        }
        return {
            WORKFLOW_EXECUTION_ID: "WORKFLOW_EXECUTION",
            **named,
            **{f"system|{name}": name for name in stores},
        }

    def _store(self, connector_id: str, config: KitConfig) -> str | None:
        for name, table in config.system.items():
            if connector_id in table.ids:
                return name
        if connector_id == WORKFLOW_EXECUTION_ID:
            return "WORKFLOW_EXECUTION"
        prefix, _, name = connector_id.partition("|")
        if prefix == "system" and (name in VARIABLES or name in config.system):
            return name
        return None


def _data_directory(store: str) -> Any:
    from platformdirs import user_data_path

    return user_data_path("connectorkit") / "system" / store


def _from_environ(variable: str | None) -> tuple[str, dict[str, Any]]:
    text = os.environ.get(variable, "") if variable else ""
    if not text.strip():
        return "local", {}
    shape = '{"provider": "s3|minio|gcs|local", "credentials": {...}}'
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise ConfigError(f"{variable} is not JSON: it should be {shape}.") from None
    provider = value.get("provider") if isinstance(value, Mapping) else None
    if provider not in _PROVIDERS:
        raise ConfigError(f"{variable} names no known provider: it should be {shape}.")
    credentials = value.get("credentials") or {}
    if not isinstance(credentials, Mapping):
        raise ConfigError(f"{variable}: its credentials should be a table: {shape}.")
    words = _OTHER_WORDS.get(provider, {})
    settings = {words.get(key, key): value for key, value in credentials.items()}
    # These speak fsspec's language, where the region is the client's business.
    client = settings.pop("client_kwargs", None) or {}
    if not isinstance(client, Mapping):
        raise ConfigError(f"{variable}: its client_kwargs should be a table: {shape}.")
    return provider, {**client, **settings}


@hookimpl
def connectorkit_adapters() -> list[SystemAdapter]:
    """The stores of the platform's own."""
    return [System()]
