"""A slot that is to be given back, now or as soon as Redis can be told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from connectorkit_slots.desk import Desk
    from connectorkit_slots.verbs import Ask

__all__ = ["Release"]


@dataclass(eq=False, slots=True)
class Release:
    """What is to be given back, since when.

    Attributes:
        desk: Whose limiter's it is.
        token: The slot's; empty for whatever slot the execution has.
        lasting: Seconds for which it is worth trying.
        since: When it was asked for, by the limiter's clock.
        due: When it is to be tried.
    """

    desk: Desk[Any]
    organization: str
    execution_id: str
    token: str
    lasting: float
    since: float = field(init=False)
    due: float = field(init=False)

    def __post_init__(self) -> None:
        self.since = self.due = self.desk.rules.clock()

    @property
    def is_worth_it(self) -> bool:
        """Whether Redis may still have the slot."""
        return self.desk.rules.clock() < self.since + self.lasting

    def ask(self, *, is_late: bool = False) -> Ask:
        """Return what to ask Redis.

        Args:
            is_late: Whether it was asked for a while ago: a slot that the execution
                has got since then is not meant.
        """
        age = self.desk.rules.clock() - self.since if is_late else 0.0
        return self.desk.verbs.release(
            self.organization, self.execution_id, self.token, age
        )
