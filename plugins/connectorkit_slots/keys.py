"""The names of keys, scopes and members in Redis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

__all__ = [
    "GLOBAL",
    "SOURCE_PREFIX",
    "Keys",
    "checked_id",
    "checked_limit",
    "checked_scopes",
]

GLOBAL: Final = "global"
# Of the system that this one learned from.
SOURCE_PREFIX: Final = "api_deployment:rate_limit:"
# Redis keeps limits as text and Lua counts in doubles; no fleet has as many.
_MOST: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a limiter: a prefix and a name each, all under one hash tag.

    Attributes:
        prefix: What they begin with.
        members_name_org: Whether a member of a set names its organisation too. The
            source's do not.
    """

    prefix: str
    members_name_org: bool = True

    @classmethod
    def own(cls, namespace: str) -> Keys:
        """Return those of a namespace.

        Raises:
            TypeError: It is no text.
            ValueError: It cannot be a hash tag.
        """
        if not isinstance(namespace, str):
            raise TypeError(f"A namespace has to be a text, not {namespace!r}.")
        if not namespace or {*"{}"} & {*namespace} or not namespace.isprintable():
            raise ValueError(
                f"{namespace!r} is no namespace: it needs a character, and no brace."
            )
        return cls(f"connectorkit:{{{namespace}}}:")

    @classmethod
    def source(cls) -> Keys:
        """Return those of the system that this one learned from."""
        return cls(SOURCE_PREFIX, members_name_org=False)

    @property
    def state(self) -> str:
        """The key of what is known beside slots: limits and the highest time."""
        return f"{self.prefix}state"

    @property
    def records(self) -> str:
        """The key of who holds each slot, since when, and in which scopes."""
        return f"{self.prefix}records"

    def of(self, scope: str) -> str:
        """Return the key of a scope's set."""
        return self.prefix + scope

    def member(self, org: str, execution_id: str) -> str:
        """Return what stands for an execution in each of its scopes."""
        if not self.members_name_org:
            return execution_id
        # So that no two pairs make one member.
        return f"{org.replace('%', '%25').replace('/', '%2F')}/{execution_id}"


def checked_id(what: str, value: object) -> str:
    """Return the text of an ID.

    Raises:
        TypeError: It is no ID, but an object that has one, perhaps.
        ValueError: It is empty, or not to be written.
    """
    if isinstance(value, bool) or not isinstance(value, (str, int, UUID)):
        raise TypeError(
            f"{what} has to be an ID: a text, an integer or a UUID, not an object of "
            f"{type(value).__name__}; what is released has to be what was acquired."
        )
    # The value of an enumeration's member, not its name.
    text = str.__str__(value) if isinstance(value, str) else str(value)
    if not text:
        raise ValueError(f"{what} is empty.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what}, {text!r}, cannot be written in UTF-8.") from None
    return text


def checked_limit(what: str, value: object) -> int:
    """Return a limit.

    Raises:
        ValueError: It is no whole number from 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _MOST:
        raise ValueError(
            f"{what} is {value!r}: it has to be a whole number from 1 to {_MOST}, or "
            "None for no limit."
        )
    return value


def checked_scopes(scopes: Mapping[str, int]) -> dict[str, int]:
    """Return further scopes and their limits.

    Raises:
        TypeError: They are no mapping of texts.
        ValueError: A name is not `kind:ID`, or a limit is none.
    """
    if not isinstance(scopes, Mapping):
        raise TypeError(
            f"Further scopes have to be a mapping, as in {{'user:7': 3}}, not "
            f"{scopes!r}."
        )
    for given in scopes:
        name = checked_id("A further scope", given)
        kind, _, rest = name.partition(":")
        if not kind or not rest or kind == "org":
            raise ValueError(
                f"{name!r} is no further scope: name it `kind:ID`, as in 'user:7', "
                "with a kind that is not 'org'."
            )
    return {
        name: checked_limit(f"The limit of {name!r}", limit)
        for name, limit in scopes.items()
    }
