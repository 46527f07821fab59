"""How an ID resolves, told without its secrets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from connectorkit.config import has_reference

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit.settings import Settings

__all__ = ["Explanation", "redacted"]

HIDDEN = "**********"


@dataclass(frozen=True, slots=True)
class Explanation:
    """How a connector ID resolves.

    Attributes:
        id: The ID.
        how: What claimed it: a system adapter, the configuration, a lookup, a type.
        type: The connector type's ID.
        plugin: The name of the plugin that teaches the type.
        distribution: Where that plugin comes from, with its version.
        settings: All settings, defaults included; secrets are hidden.
        policies: Names, outermost first.
        is_shared: Whether it is the platform's own, shared filesystem.
    """

    id: str
    how: str
    type: str
    plugin: str
    distribution: str
    settings: Mapping[str, Any]
    policies: tuple[str, ...]
    is_shared: bool


def redacted(settings: Settings, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return `settings` for people: secrets hidden, references as they were given."""
    shown = {}
    for name, field in type(settings).model_fields.items():
        aliases = (name, field.alias, field.validation_alias)
        given = next((raw[a] for a in aliases if isinstance(a, str) and a in raw), None)
        # What a reference led to is a secret, wherever it stands.
        shown[name] = given if has_reference(given) else _shown(getattr(settings, name))
    return shown


def _shown(value: object) -> object:
    if hasattr(value, "get_secret_value"):
        return HIDDEN
    if isinstance(value, BaseModel):
        return {name: _shown(each) for name, each in value}
    if isinstance(value, dict):
        return {str(key): _shown(each) for key, each in value.items()}
    if isinstance(value, list | tuple | set):
        return [_shown(each) for each in value]
    return value if isinstance(value, int | float | str | None) else str(value)
