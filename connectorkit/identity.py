"""Identity: what circuits, retry budgets and pooled filesystems belong to.

A connector type's ID is shared by many tenants, and one tenant may configure a storage
under several IDs: neither tells storages apart. Type and settings do.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from uuid import UUID

from pydantic import AnyUrl, BaseModel, SecretBytes, SecretStr
from pydantic import Secret as PydanticSecret

from connectorkit.errors import PluginFailed

__all__ = ["fleet_identity", "identity"]

# An identity never leaves its process and the children it forks, so the key need not
# either; without the key nobody can try secrets against a digest.
_KEY = secrets.token_bytes(32)
# What a fleet shares cannot be kept from who reads it there; so each guess of a secret
# has to take this long: some 10 ms, in 4 MiB.
_WORK = 1 << 12
# Types of settings whose text tells any two values apart.
_NAMED = (PurePath, AnyUrl, Decimal, UUID, date, time, timedelta)


def identity(name: str, settings: BaseModel, key: bytes = _KEY) -> str:
    """Return a keyed digest of a connector type, or a policy, and all its settings.

    Args:
        name: The type's ID, or the policy's name.
        settings: Theirs.
        key: By which it is made; this process's own, unless others are to come to the
            same digest.

    Raises:
        PluginFailed: A setting is of a kind that cannot be told from another.
    """
    text = _text(name, settings)
    return hashlib.blake2b(text, key=key, digest_size=16).hexdigest()


def fleet_identity(name: str, settings: BaseModel) -> str:
    """Return a digest that is the same in all processes of a fleet.

    For names in a store that they share. Takes some 10 ms, and so does each guess of
    whoever would try secrets against it.

    Raises:
        PluginFailed: As `identity` says.
    """
    text = _text(name, settings)
    slow = hashlib.scrypt(text, salt=b"connectorkit", n=_WORK, r=8, p=1, dklen=16)
    return slow.hex()


def _text(name: str, settings: BaseModel) -> bytes:
    return json.dumps([name, _tagged(settings)]).encode()


def _tagged(value: object) -> list[object]:  # noqa: C901 - a table, a line each
    """Turn a setting into JSON that no other setting turns into.

    A model's own serializers are not asked: they may mask or leave out what tells two
    tenants apart.
    """
    kind = type(value).__name__
    tagged: object
    match value:
        case Enum():
            tagged = value.name
        case None | bool() | int() | str():
            tagged = value
        case float():
            tagged = repr(value)
        case bytes():
            tagged = value.hex()
        case BaseModel():
            tagged = [[field, _tagged(each)] for field, each in value]
        case Mapping():
            pairs = [[_tagged(key), _tagged(each)] for key, each in value.items()]
            tagged = sorted(pairs, key=json.dumps)
        case list() | tuple():
            tagged = [_tagged(each) for each in value]
        case set() | frozenset():
            tagged = sorted(map(_tagged, value), key=json.dumps)
        case SecretStr() | SecretBytes() | PydanticSecret():
            tagged = _tagged(value.get_secret_value())
        case _ if isinstance(value, _NAMED):
            tagged = str(value)
        case _:
            raise PluginFailed(
                f"A setting is of type {kind}, which cannot tell two connectors "
                "apart: use texts, numbers, paths, URLs, dates or secrets."
            )
    return [kind, tagged]
