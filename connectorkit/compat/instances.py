"""How hosts of the source system come by connectors."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any

from connectorkit.compat.filesystem import WORKFLOW_STORE, SourceFileSystem

if TYPE_CHECKING:
    from connectorkit.kit import ConnectorKit

__all__ = [
    "ConnectorOperations",
    "get_connector_capabilities",
    "get_connector_instance",
    "get_fs_connector",
    "use_kit",
    "validate_connector_settings",
]

# What the source system's forms ask beyond the settings of a connector.
_FORM_ONLY = {"bucket", "connectorName", "connector_name", "endpointURL", "path"}
# The types whose paths were relative to `bucket`; Google's was never looked at.
_SCOPED = {"minio", "s3"}

_chosen: ConnectorKit | None = None


def use_kit(kit: ConnectorKit | None) -> None:
    """Make `kit` the one by which this module resolves, in the whole process.

    Args:
        kit: A kit; None for the default, which is made when it is first needed.
    """
    global _chosen  # noqa: PLW0603 - one for the process is the point
    _chosen = kit


def _kit() -> ConnectorKit:
    if _chosen is not None:
        return _chosen
    from connectorkit.landing import kit_for

    return kit_for("")


def get_connector_instance(
    connector_id: str,
    settings: Mapping[str, Any] | None,
    storage_type: str | Enum = WORKFLOW_STORE,
    *,
    trusted: bool = False,
) -> SourceFileSystem:
    """Return the connector of an ID with the source system's surface.

    Args:
        connector_id: A connector ID; the source system's own are aliases of ours.
        settings: What the host's form stored: `connectorName`, `path` and `bucket` may
            stand beside the connector type's own. For S3 and MinIO, paths are relative
            to the bucket. Not looked at for a system-internal ID.
        storage_type: For a system-internal ID: the name of the platform's store, or a
            member of the source system's enum. The default stands for the ID's own.
        trusted: The settings are the host's own, not a tenant's: they may hold
            references, and blank credentials mean the host's.

    Raises:
        ValueError: There is none, for whatever reason; that is its cause.
    """
    try:
        return _instance(connector_id, settings, storage_type, trusted=trusted)
    except Exception as error:
        raise ValueError(f"Failed to instantiate connector: {error}") from error


def _instance(
    connector_id: str,
    settings: Mapping[str, Any] | None,
    storage_type: str | Enum,
    *,
    trusted: bool,
) -> SourceFileSystem:
    from connectorkit.connector_type import valid_id

    kit = _kit()
    if _is_system(kit, valid_id(connector_id)):
        store = storage_type.name if isinstance(storage_type, Enum) else storage_type
        if store != WORKFLOW_STORE:
            connector_id = f"system|{store}"
        return SourceFileSystem(kit.resolve(connector_id))
    bucket = ""
    if isinstance(settings, Mapping):
        settings, bucket = _without_form(kit, connector_id, settings)
    connector = kit.resolve(connector_id, settings or None, trusted=trusted)
    if connector.type not in _SCOPED:
        bucket = ""
    return SourceFileSystem(connector, bucket=bucket)


def _is_system(kit: ConnectorKit, connector_id: str) -> bool:
    claims = (each.claim(connector_id, kit.config) for each in kit.registry.adapters())
    return any(claim is not None for claim in claims)


def _without_form(
    kit: ConnectorKit, connector_id: str, form: Mapping[str, Any]
) -> tuple[dict[str, Any], str]:
    """Part what a form stored into the settings of a connector type and the bucket."""
    found = kit.registry.connector_type(connector_id) if form else None
    # What a type's own settings know stays with it, as a local connector's path.
    foreign = _FORM_ONLY.difference(found[0].Settings.model_fields if found else ())
    settings = {key: value for key, value in form.items() if key not in foreign}
    return settings, str(form.get("bucket") or "") if "bucket" in foreign else ""


def validate_connector_settings(
    connector_id: str, settings: Mapping[str, Any] | None, *, trusted: bool = False
) -> tuple[bool, str]:
    """Tell whether `get_connector_instance` would return, and if not, why."""
    try:
        get_connector_instance(connector_id, settings, trusted=trusted)
    except ValueError as error:
        return False, str(error)
    return True, ""


def get_connector_capabilities(connector_id: str) -> dict[str, bool | str]:
    """Say what a connector can do, by its ID alone.

    Returns:
        `can_read`, `can_write`, `requires_oauth`, `name` and `description`; for an ID
        that nothing answers to, `error` alone.
    """
    try:
        teaches = _kit().connector_type(connector_id)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
        return {"error": str(error)}
    return {
        "can_read": True,
        "can_write": True,
        "requires_oauth": False,
        "name": teaches.title or teaches.id,
        "description": (type(teaches).__doc__ or "").partition("\n")[0],
    }


def get_fs_connector(
    connector_id: str, settings: Mapping[str, Any] | None, *, trusted: bool = False
) -> SourceFileSystem:
    """Return what `get_connector_instance` returns, for destinations.

    Raises:
        ValueError: There is none, for whatever reason; that is its cause.
    """
    return get_connector_instance(connector_id, settings, trusted=trusted)


class ConnectorOperations:
    """The class by which the source system's destinations ask for connectors."""

    get_fs_connector = staticmethod(get_fs_connector)
