"""What a limiter decides, whether threads or an event loop wait for Redis."""

from __future__ import annotations

import logging
import math
import threading
from asyncio import CancelledError
from itertools import count
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from connectorkit.events import SlotsReaped, SlotWasLost
from connectorkit.fork import renew_in_child
from connectorkit_slots.errors import SlotLimitExceeded, SlotsUnavailable
from connectorkit_slots.heartbeat import Heartbeat, Lease
from connectorkit_slots.keys import GLOBAL, checked_id, checked_scopes
from connectorkit_slots.local import Book, Full
from connectorkit_slots.options import Rules
from connectorkit_slots.release import Release
from connectorkit_slots.slot import Holding, Share, margin
from connectorkit_slots.telling import Teller
from connectorkit_slots.verbs import Claim, Moved, RefusedBy, Verbs

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from uuid import UUID

    from connectorkit_slots.options import SlotOptions
    from connectorkit_slots.slot import Mode
    from connectorkit_slots.store import Away, Store
    from connectorkit_slots.verbs import Ask, Granted, Reply

__all__ = ["Desk"]

S = TypeVar("S", bound=Holding)

_log = logging.getLogger(__name__)
# While Redis is away nobody knows when a slot will be free: soon is as good a guess.
_SOON: Final = 1.0
# For so long, at least, a release by hand waits for Redis.
_HOUR: Final = 3600.0


class Desk(Generic[S]):
    """Takes claims, and makes slots of the answers.

    Args:
        options: The limiter's.
        store: What the heartbeat renews by.
        kind: The class of its slots.
        give_back: How they are released.

    Attributes:
        rules: What the options come to.
        verbs: What is asked of Redis.
        store: What the heartbeat renews by.
        heartbeat: Who renews.
        teller: Who tells of it.
    """

    def __init__(
        self,
        options: SlotOptions,
        store: Store,
        kind: type[S],
        give_back: Callable[[Holding], Any],
    ) -> None:
        self.rules = Rules.of(options)
        if store.is_cluster and not self.rules.keys.members_name_org:
            raise ValueError(
                "names='source' does not go with a cluster: those keys have no hash "
                "tag, so no script reaches all of them. Use names='own'."
            )
        self.verbs = Verbs(self.rules)
        self.teller = Teller(self.rules.emit)
        self.store = store
        self.heartbeat = Heartbeat.of(store.address)
        self._kind = kind
        self._give_back = give_back
        self._epoch = ""
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Hold nothing: the slots are the parent's."""
        # Taken again by what a callback asks for.
        self._lock = threading.RLock()
        self._book = Book(self.rules.processes)
        self._away_until = -math.inf
        self._is_owing = False
        # Each token begins with a name of the process's own.
        self._process, self._numbers = token_hex(12), count()

    # What is asked for

    def claim(
        self,
        org: str | int,
        execution_id: str | int | UUID,
        lease: float | None,
        scopes: Mapping[str, int] | None,
        *,
        is_taken: bool,
    ) -> Claim:
        """Return a claim to a slot.

        Raises:
            TypeError: An ID is none.
            ValueError: An ID is empty, a limit is none, a scope's name is no name.
        """
        organization = checked_id("The organization", org)
        execution = checked_id("The execution", execution_id)
        return Claim(
            organization=organization,
            execution_id=execution,
            member=self.rules.keys.member(organization, execution),
            token=f"{self._process}{next(self._numbers):x}",
            lease=self.rules.lasting(lease),
            scopes=(
                (f"org:{organization}", self.rules.limit(organization)),
                *(checked_scopes(scopes).items() if scopes else ()),
                (GLOBAL, self.rules.global_limit),
            ),
            is_taken=is_taken,
        )

    def ask(self, claim: Claim) -> Ask:
        """Return what to ask Redis."""
        # Only who has slots has something to register before others get any.
        return self.verbs.acquire(claim, self._epoch if len(self._book) else "")

    # What Redis answers

    def settle(
        self,
        claim: Claim,
        sent: float,
        reply: Reply,
        on_lost: Callable[[S], object] | None,
    ) -> S | Moved:
        """Return the slot, or that this process's slots have to be registered first.

        Raises:
            SlotLimitExceeded: A scope is full.
            ValueError: The execution's ID is another organisation's.
        """
        answer = self.verbs.acquired(claim, reply)
        if isinstance(answer, Moved):
            return answer
        self._epoch = answer.epoch
        if answer.reaped:
            self.teller.tell(SlotsReaped(answer.reaped))
        if isinstance(answer, RefusedBy):
            raise self._refusal(
                claim,
                "redis",
                Full(answer.scope, answer.used, answer.limit),
                answer.retry_after,
            )
        return self._granted(claim, sent, answer, on_lost)

    @property
    def is_owing(self) -> bool:
        """Whether this process holds what was given without Redis.

        That comes first: nothing is to be asked for before it is registered.
        """
        return self._is_owing

    def register(self) -> None:
        """Register what this process holds, if Redis is there."""
        with self._lock:
            if self._is_owing:
                self.heartbeat.renew(self)
                self._is_owing = self._book.has_unregistered

    def recover(self, epoch: str) -> None:
        """Register what this process holds with a Redis that has forgotten it."""
        with self._lock:
            if self._epoch != epoch:
                self.heartbeat.renew(self)
                self._epoch = epoch

    def _granted(
        self,
        claim: Claim,
        sent: float,
        answer: Granted,
        on_lost: Callable[[S], object] | None,
    ) -> S:
        # Redis counts from when it was asked or later: it never gives the slot away
        # before this.
        deadline = sent + answer.left - margin(answer.left)
        slot = self._slot(claim, "redis", answer.scopes, deadline, on_lost)
        if claim.is_taken:
            held = claim.along(answer.more) if answer.more else claim
            self._hold(held, slot, sent)
        self.teller.decided(claim, "granted", "redis", answer.scopes)
        return slot

    # What stands in for Redis

    def asks_redis(self) -> bool:
        """Tell whether Redis is to be asked: it was not away a moment ago."""
        return self.rules.clock() >= self._away_until

    def went_away(self) -> None:
        """Hear that Redis is away."""
        self._away_until = self.rules.clock() + self.rules.pause

    def came_back(self, epoch: str) -> None:
        """Hear that it is not."""
        self._away_until = -math.inf
        if self._epoch not in {"", epoch}:
            # One slot was due and is registered; the others shall not wait for that.
            self._is_owing = True
        self._epoch = epoch

    def stand_in(
        self, claim: Claim, cause: Away | None, on_lost: Callable[[S], object] | None
    ) -> S:
        """Decide without Redis.

        Raises:
            SlotLimitExceeded: This process has given out its share.
            SlotsUnavailable: By the settings nothing stands in for it.
        """
        mode = self.rules.on_error
        if mode == "closed":
            self._refused_unheard(claim, cause)
            self.teller.decided(claim, "refused", "closed", {})
            raise self.unavailable(cause)
        with self._lock:
            found = self._book.room(claim)
            if isinstance(found, Full) and mode == "local":
                self._refused_unheard(claim, cause)
                raise self._refusal(claim, "local", found, _SOON)
            slot = self._stand_in_slot(claim, found, on_lost)
        self.teller.decided(claim, "granted", slot.mode, slot.scopes)
        return slot

    def _refused_unheard(self, claim: Claim, cause: Away | None) -> None:
        """Take back what Redis may have given, though nobody heard of it."""
        if cause is not None:
            self.give_up(claim)

    def unavailable(self, cause: Away | None) -> SlotsUnavailable:
        """Return the error that says that Redis is away."""
        error = SlotsUnavailable(
            "Redis, which counts the slots, is away; try again, or choose on_error="
            "'local' or 'open' to go on without it."
        )
        error.__cause__ = cause.__cause__ if cause else None
        return error

    def _stand_in_slot(
        self,
        claim: Claim,
        found: dict[str, Share] | Full,
        on_lost: Callable[[S], object] | None,
    ) -> S:
        now = self.rules.clock()
        is_open = self.rules.on_error == "open"
        shares = {} if isinstance(found, Full) or is_open else found
        # Nobody can give away what Redis does not know; who holds it registers it.
        deadline = math.inf if claim.is_taken else now + claim.lease
        mode: Mode = "open" if is_open else "local"
        slot = self._slot(claim, mode, shares, deadline, on_lost)
        if claim.is_taken:
            self._hold(claim, slot, now)
            self._is_owing = True
        elif (before := self._book.find(claim.member)) is None or not before.is_held:
            self._book.put(claim, slot)
        return slot

    # What is held

    def _slot(
        self,
        claim: Claim,
        mode: Mode,
        scopes: Mapping[str, Share],
        deadline: float,
        on_lost: Callable[[S], object] | None,
    ) -> S:
        def tell(slot: Holding) -> None:
            self._lost(claim, slot, on_lost)

        slot = self._kind(
            organization=claim.organization,
            execution_id=claim.execution_id,
            token=claim.token,
            mode=mode,
            scopes=scopes,
            lease=claim.lease,
            deadline=deadline,
            clock=self.rules.clock,
            tell=tell if claim.is_taken else None,
        )
        slot.give_back = self._give_back
        return slot

    def _hold(self, claim: Claim, slot: S, since: float) -> None:
        before = self._book.put(claim, slot)
        self.heartbeat.add(Lease(claim, slot, self, since))
        if before is not None:
            # The execution was taken over, by this very process.
            before.lose()

    def close(self) -> None:
        """Renew nothing any more."""
        self.heartbeat.leave(self)

    def let_go(self, slot: Holding) -> Release:
        """Hold a slot no more; return what gives it back."""
        if slot.is_doubtful:
            # A renewal that nobody heard of may come after the release, and would
            # register it again, but for a second one.
            self.release_later(self._over(slot))
        return self._over(slot)

    def _over(self, its: Holding | Claim) -> Release:
        self.heartbeat.drop(its.token)
        self.forget(its.organization, its.execution_id, its.token)
        return Release(self, its.organization, its.execution_id, its.token, its.lease)

    def by_hand(self, org: str | int, execution_id: str | int | UUID) -> Release:
        """Return what gives back whatever slot an execution has.

        Raises:
            TypeError: An ID is none.
            ValueError: An ID is empty.
        """
        organization = checked_id("The organization", org)
        execution = checked_id("The execution", execution_id)
        return Release(self, organization, execution, "", max(_HOUR, self.rules.lease))

    def given_back(self, slot: Holding, reply: Reply) -> None:
        """Tell how many slots are in use without one that was released."""
        if self.rules.emit is not None:
            _, used = self.verbs.released(reply)
            known = {
                n: Share(used[n], s.limit) for n, s in slot.scopes.items() if n in used
            }
            self.teller.used(slot.organization, known)

    def forget(self, org: str, execution_id: str, token: str = "") -> bool:
        """Strike a slot out of this process's own book; tell whether it was there."""
        return self._book.drop(self.rules.keys.member(org, execution_id), token)

    def give_up(self, claim: Claim) -> None:
        """Take back what may have been given to a caller that has gone."""
        self.release_later(self._over(claim))

    def release_later(self, release: Release) -> None:
        """Have the background ask what could not be asked now."""
        self.heartbeat.release(release)

    def take_back_here(self, release: Release, cause: Away) -> bool:
        """Take back what this process has, and the rest when Redis is there again.

        Returns:
            Whether this process had it.

        Raises:
            SlotsUnavailable: By the settings nothing stands in for Redis.
        """
        if self.rules.on_error == "closed":
            raise self.unavailable(cause)
        self.release_later(release)
        member = self.rules.keys.member(release.organization, release.execution_id)
        holding = self._book.find(member)
        if holding is None:
            return False
        if holding.is_held:
            holding.lose()
        self.forget(release.organization, release.execution_id)
        return True

    def _lost(
        self, claim: Claim, slot: Holding, on_lost: Callable[[Any], object] | None
    ) -> None:
        self.heartbeat.drop(slot.token)
        self._book.drop(claim.member, slot.token)
        self.teller.tell(SlotWasLost(claim.organization))
        if on_lost is not None:
            try:
                on_lost(slot)
            except (Exception, SystemExit, CancelledError):  # noqa: BLE001 - breaks no call
                # It may be the thread that renews, which goes on.
                _log.exception("The on_lost of %r failed.", slot)

    # What is told

    def _refusal(
        self, claim: Claim, mode: str, full: Full, retry_after: float
    ) -> SlotLimitExceeded:
        scope, used, limit = full
        self.teller.decided(claim, "refused", mode, {scope: Share(used, limit)}, scope)
        of_what = "all organizations together" if scope == GLOBAL else repr(scope)
        where = "" if mode == "redis" else " in this process, while Redis is away"
        return SlotLimitExceeded(
            f"Execution {claim.execution_id!r} of organization {claim.organization!r} "
            f"got no slot: {used} of {limit} slots of {of_what} are taken{where}. Try "
            f"again in {math.ceil(retry_after)} s.",
            scope,
            used,
            limit,
            retry_after,
        )
