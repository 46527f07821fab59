"""Identity: what circuits, retry budgets and pooled filesystems belong to.

A connector type's ID is shared by many tenants, and one tenant may configure a storage
under several IDs: neither tells storages apart. Type and settings do.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import AnyUrl

from connectorkit.errors import PluginFailed

if TYPE_CHECKING:
    from connectorkit.settings import Settings

__all__ = ["identity"]

# An identity never leaves its process and the children it forks, so the key need not
# either; without the key nobody can try secrets against a digest.
_KEY = secrets.token_bytes(32)
# Types of settings whose text tells any two values apart.
_NAMED = (PurePath, AnyUrl, Decimal, Enum, UUID, date, time, timedelta)


def identity(type_id: str, settings: Settings) -> str:
    """Return a keyed digest of a connector type and all its settings.

    Raises:
        PluginFailed: A setting is of a kind that cannot be told from another.
    """
    text = json.dumps([type_id, settings.model_dump()], default=_plain, sort_keys=True)
    return hashlib.blake2b(text.encode(), key=_KEY, digest_size=16).hexdigest()


def _plain(value: object) -> object:
    """Turn a setting into JSON; two different ones must never look the same."""
    if hasattr(value, "get_secret_value"):
        return value.get_secret_value()
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, _NAMED):
        return str(value)
    raise PluginFailed(
        f"A setting is of type {type(value).__name__}, which cannot tell two "
        "connectors apart: use texts, numbers, paths, URLs, dates or secrets."
    )
