"""What is asked of Redis, and what its answers mean: without any input or output."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from math import ceil
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from connectorkit_slots.keys import GLOBAL, checked_limit
from connectorkit_slots.slot import Share, Usage

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from connectorkit_slots.options import Rules

__all__ = [
    "COMMON",
    "Ask",
    "Claim",
    "Granted",
    "Moved",
    "RefusedBy",
    "Reply",
    "Script",
    "Verbs",
]

# JSON, whether or not the client decodes its answers.
Reply: TypeAlias = str | bytes
COMMON: Final = 4
# Seconds: at once, nearly.
_LEAST: Final = 0.001


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
    """One call of a script: one round trip.

    Attributes:
        args: `COMMON` of them are the same for all calls of a limiter.
    """

    script: Script
    keys: tuple[str, ...]
    args: tuple[Any, ...]


class Claim(NamedTuple):
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

    def along(self, more: Iterable[tuple[str, int | None]]) -> Claim:
        """Return it with further scopes, of which those that it has stay."""
        first, *further, last = self.scopes
        scopes = {**dict(more), **dict(further)}
        return self._replace(scopes=(first, *scopes.items(), last))


class Granted(NamedTuple):
    """A slot was given.

    Attributes:
        epoch: What Redis calls its memory.
        left: Seconds for which it lasts unless it is renewed.
        reaped: How many lapsed ones were removed.
        scopes: How far each scope is used.
        more: Further scopes that it is in, with their limits, whoever named them.
    """

    epoch: str
    left: float
    reaped: int
    scopes: dict[str, Share]
    more: tuple[tuple[str, int | None], ...] = ()


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
        is_told = rules.emit is not None
        seconds = ceil(rules.key_ttl)
        self._common = (rules.scheme, rules.window, seconds, int(is_told))
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
            (*self._keys, *[key(name) for name, _ in claim.scopes[:-1]]),
            (
                *self._common,
                "take" if claim.is_taken else "join",
                claim.lease,
                claim.member,
                claim.token,
                epoch,
                *[limit or 0 for _, limit in claim.scopes],
            ),
        )

    def acquired(self, claim: Claim, reply: Reply) -> Granted | RefusedBy | Moved:
        """Read the answer.

        Raises:
            ValueError: The execution's ID is another organisation's, or others use
                another scheme there.
        """
        word, epoch, *rest = _read(reply)
        if word == "moved":
            return Moved(epoch)
        if word == "refused":
            place, used, limit, left, reaped = rest
            scope, _ = claim.scopes[place - 1]
            return RefusedBy(epoch, scope, used, limit, max(left, _LEAST), reaped)
        if word == "foreign":
            raise ValueError(
                f"Execution {claim.execution_id!r} has a slot of another organization: "
                "with names='source' its ID has to be its own among all of them."
            )
        if word == "mixed":
            raise ValueError(
                f"The keys {self._rules.keys.prefix}… are used with the scheme "
                f"{rest[0]!r}, whose slots this limiter ({self._rules.scheme!r}) would "
                "take for others: use that scheme, or a namespace of its own."
            )
        left, reaped, counts, limits, *more = rest
        shares = zip(claim.scopes, counts, limits, strict=True)
        scopes = {name: Share(used, limit or None) for (name, _), used, limit in shares}
        named = tuple((name, limit or None) for name, limit in more[0]) if more else ()
        return Granted(epoch, left, reaped, scopes, named)

    def renew(self, held: Iterable[tuple[Claim, float]]) -> Ask:
        """Ask to renew slots, each with the seconds since it was taken."""
        return Ask(self._renew, self._keys, (*self._common, *map(self._held, held)))

    def _held(self, each: tuple[Claim, float]) -> str:
        claim, age = each
        left = claim.lease - age if self._rules.is_started else claim.lease
        scopes = [(name, limit or 0) for name, limit in claim.scopes]
        return json.dumps([claim.member, claim.token, claim.lease, left, age, scopes])

    @staticmethod
    def renewed(reply: Reply) -> tuple[str, list[float]]:
        """Return the epoch, and for how many seconds each lasts; 0 if it is lost."""
        epoch, *lasting = _read(reply)
        return epoch, lasting

    def release(
        self, org: str, execution_id: str, token: str = "", age: float = 0.0
    ) -> Ask:
        """Ask to take a slot back, by its token or whoever has it.

        With an age it is wanted since so many seconds.
        """
        keys = self._rules.keys
        args = (*self._common, keys.member(org, execution_id), token, age)
        return Ask(self._release, self._keys, (*args, f"org:{org}", GLOBAL))

    @staticmethod
    def released(reply: Reply) -> tuple[bool, dict[str, int]]:
        """Return whether there was one, and how many slots its scopes have in use."""
        was_there, *used = _read(reply)
        return was_there, dict(used)

    def usage(self, org: str) -> Ask:
        """Ask how far an organisation uses its slots."""
        return self._of_organization(self._usage, org)

    @staticmethod
    def used(org: str, limit: int | None, reply: Reply) -> Usage:
        """Read the answer; Redis may have stored another limit."""
        return _usage(org, limit, _read(reply))

    def usages(self) -> Ask:
        """Ask how far each organisation that has a slot uses them."""
        return Ask(self._usages, self._keys, self._common)

    def all_used(self, reply: Reply) -> list[Usage]:
        """Read the answer."""
        names = [(name.removeprefix("org:"), told) for name, *told in _read(reply)]
        return [_usage(org, self._rules.limit(org), told) for org, told in names]

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
        keys = (*self._keys, self._rules.keys.of(f"org:{org}"))
        return Ask(script, keys, self._common)


def _read(reply: Reply) -> Any:
    # To be told bytes, json would find out their encoding first.
    return json.loads(reply if isinstance(reply, str) else reply.decode())


def _usage(org: str, limit: int | None, told: Sequence[Any]) -> Usage:
    used, stored, age = told
    return Usage(org, used, stored or limit, age if used else None)
