"""What is asked of Redis, and what its answers mean: without any input or output."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from connectorkit_slots.keys import GLOBAL, checked_limit
from connectorkit_slots.slot import Share, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from connectorkit_slots.options import Rules

__all__ = ["Ask", "Claim", "Granted", "Moved", "RefusedBy", "Script", "Verbs"]

_MILLI: Final = 1e-3


class Script(NamedTuple):
    """A script of Lua, and the digest that Redis knows it by."""

    text: str
    sha: str

    @classmethod
    def load(cls, verb: str) -> Script:
        """Read a verb's script."""
        folder = files(__package__) / "scripts"
        parts = [(folder / f"{name}.lua").read_text() for name in ("common", verb)]
        text = "\n".join(parts)
        # Redis names scripts so; nothing is kept secret by it.
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


class Ask(NamedTuple):
    """One call of a script: one round trip."""

    script: Script
    keys: Sequence[str]
    args: Sequence[Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """What is asked for: a slot for an execution, in some scopes.

    Attributes:
        scopes: Their names and limits (None for none), in the order in which they are
            looked at: the organisation's first, the global one last.
        is_taken: Whether the caller holds the slot from now on, whoever had it.
    """

    organization: str
    execution_id: str
    member: str
    token: str
    lease: float
    scopes: tuple[tuple[str, int | None], ...]
    is_taken: bool


class Granted(NamedTuple):
    """A slot was given.

    Attributes:
        epoch: What Redis calls its memory.
        token: The slot's token.
        left: Seconds for which it lasts unless it is renewed.
        reaped: How many lapsed ones were removed.
        scopes: How far each scope is used.
    """

    epoch: str
    token: str
    left: float
    reaped: int
    scopes: dict[str, Share]


class RefusedBy(NamedTuple):
    """A scope was full."""

    epoch: str
    scope: str
    used: int
    limit: int
    retry_after: float
    reaped: int


class Moved(NamedTuple):
    """Redis has lost its memory, and who has a slot shall register it first."""

    epoch: str


class Verbs:
    """The verbs of a limiter."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        keys = rules.keys
        self._keys = (keys.state, keys.records, keys.of(GLOBAL))
        self._head = (keys.prefix, rules.window, int(rules.is_started))
        self._acquire = Script.load("acquire")
        self._renew = Script.load("renew")
        self._release = Script.load("release")
        self._usage = Script.load("usage")
        self._usages = Script.load("usages")
        self._clear = Script.load("clear")

    def acquire(self, claim: Claim, epoch: str) -> Ask:
        """Ask for a slot; with an epoch, only if Redis remembers what it did then."""
        key = self._rules.keys.of
        return Ask(
            self._acquire,
            (*self._keys, *[key(name) for name, _ in claim.scopes]),
            (
                *self._head,
                "take" if claim.is_taken else "join",
                claim.member,
                claim.token,
                claim.lease,
                *self._rules.key_seconds(claim.lease),
                epoch,
                *[part for name, limit in claim.scopes for part in (name, limit or 0)],
            ),
        )

    def acquired(
        self, claim: Claim, reply: Sequence[Any]
    ) -> Granted | RefusedBy | Moved:
        """Read the answer."""
        word, epoch = _text(reply[0]), _text(reply[1])
        if word == "moved":
            return Moved(epoch)
        if word == "refused":
            place, used, limit, millis, reaped = reply[2:]
            scope, _ = claim.scopes[place - 1]
            return RefusedBy(epoch, scope, used, limit, millis * _MILLI, reaped)
        token, millis, reaped = reply[2:5]
        shares = zip(claim.scopes, reply[5::2], reply[6::2], strict=True)
        scopes = {name: Share(used, limit or None) for (name, _), used, limit in shares}
        return Granted(epoch, _text(token), millis * _MILLI, reaped, scopes)

    def renew(self, held: Iterable[tuple[Claim, float]]) -> Ask:
        """Ask to renew slots, each with the seconds since it was taken."""
        return Ask(self._renew, self._keys, (*self._head, *map(self._held, held)))

    def _held(self, each: tuple[Claim, float]) -> str:
        claim, age = each
        left = claim.lease - age if self._rules.is_started else claim.lease
        scopes = [(name, limit or 0) for name, limit in claim.scopes]
        times = (claim.lease, left, age, *self._rules.key_seconds(claim.lease))
        return json.dumps([claim.member, claim.token, *times, scopes])

    @staticmethod
    def renewed(reply: Sequence[Any]) -> tuple[str, list[float | None]]:
        """Return the epoch and for how many seconds each lasts; None if it is lost."""
        pairs = zip(reply[1::2], reply[2::2], strict=True)
        return _text(reply[0]), [ms * _MILLI if held else None for held, ms in pairs]

    def release(self, org: str, execution_id: str, token: str = "") -> Ask:
        """Ask to take a slot back, by its token or whoever has it."""
        keys = self._rules.keys
        args = (*self._head, keys.member(org, execution_id), token)
        return Ask(self._release, self._keys, (*args, f"org:{org}", GLOBAL))

    @staticmethod
    def released(reply: Sequence[Any]) -> tuple[bool, dict[str, int]]:
        """Return whether there was one, and how many slots its scopes have in use."""
        names = map(_text, reply[1::2])
        return bool(reply[0]), dict(zip(names, reply[2::2], strict=True))

    def usage(self, org: str) -> Ask:
        """Ask how far an organisation uses its slots."""
        return self._of_organization(self._usage, org)

    @staticmethod
    def used(org: str, limit: int | None, reply: Sequence[Any]) -> Usage:
        """Read the answer; Redis may have stored another limit."""
        used, stored, millis = reply
        stored = _text(stored)
        return Usage(
            organization=org,
            used=used,
            limit=int(stored) if stored else limit,
            oldest=millis * _MILLI if used else None,
        )

    def usages(self) -> Ask:
        """Ask how far each organisation that has a slot uses them."""
        return Ask(self._usages, self._keys, self._head)

    @staticmethod
    def organizations(reply: Sequence[Any]) -> list[tuple[str, Sequence[Any]]]:
        """Return each organisation, and what `used` reads."""
        starts = range(0, len(reply), 4)
        return [
            (_text(reply[i]).removeprefix("org:"), reply[i + 1 : i + 4]) for i in starts
        ]

    def clear(self, org: str) -> Ask:
        """Ask to take all slots of an organisation back."""
        return self._of_organization(self._clear, org)

    def set_limit(self, org: str, limit: int | None) -> tuple[str | int, ...]:
        """Return the command that stores a limit, or forgets it.

        Raises:
            ValueError: The limit is no whole number from 1.
        """
        where = (self._rules.keys.state, f"limit:org:{org}")
        if limit is None:
            return ("HDEL", *where)
        return ("HSET", *where, checked_limit("The limit", limit))

    def _of_organization(self, script: Script, org: str) -> Ask:
        scope = f"org:{org}"
        keys = (*self._keys, self._rules.keys.of(scope))
        return Ask(script, keys, (*self._head, scope))


def _text(value: Any) -> str:
    """Return a text, whether or not the client decodes its answers."""
    return value.decode() if isinstance(value, bytes) else str(value)
