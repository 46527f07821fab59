"""Circuits: what breakers know of each storage, and the switches for people.

Breakers are plugins. The core finds their circuits in what identities remember, and
the policies that have some, by the classes below.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

from connectorkit.errors import ConfigError
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from connectorkit.connector import Connector
    from connectorkit.kit import ConnectorKit
    from connectorkit.scope import Memory, Scope

__all__ = [
    "Circuit",
    "CircuitInfo",
    "CircuitSet",
    "CircuitState",
    "Circuits",
    "HasCircuits",
    "circuits_in",
]


class CircuitState(StrEnum):
    """What a circuit does with calls.

    Attributes:
        CLOSED: Lets them through.
        HALF_OPEN: Lets a few through, to try whether the service is back.
        OPEN: Lets none through for a while.
        FORCED_OPEN: Lets none through until somebody says otherwise.
        FORCED_CLOSED: Lets all through, whatever comes of them, until somebody says
            otherwise.
    """

    CLOSED = "closed"
    HALF_OPEN = "half_open"
    OPEN = "open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


_FORCED = {CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED}


@dataclass(frozen=True, slots=True)
class CircuitInfo:
    """What is known of a circuit.

    Attributes:
        connector: The ID of the connector that used it first; others of the same type
            and settings share it.
        type: The connector type's ID.
        is_adhoc: Whether that connector's settings came with a call.
        circuit: "upload", "download" or "list".
        state: What it does with calls. An open one whose time is up is half open.
        seconds_left: Seconds until an open one lets a call through; None in all other
            states.
        failures: How many count against the service: in a row or in the window. Of one
            that is open, how many opened it.
    """

    connector: str
    type: str
    is_adhoc: bool
    circuit: str
    state: CircuitState
    seconds_left: float | None
    failures: int


class Circuit(ABC):
    """What a breaker knows of one kind of operation on one storage.

    Attributes:
        name: "upload", "download" or "list".
        connector: The ID of the connector that used it first.
    """

    name: str
    connector: str

    @abstractmethod
    def info(self) -> CircuitInfo:
        """Say what is known of it; changes nothing."""

    @abstractmethod
    def force(self, state: CircuitState) -> None:
        """Put it in a state: forced open, forced closed, or closed as at first."""

    @abstractmethod
    def tell(self, connector: str, emit: Callable[[object], None]) -> None:
        """Emit a `CircuitChanged` for each transition that nobody was told of yet."""


C = TypeVar("C", bound=Circuit)


class CircuitSet(dict[Kind, C]):
    """What a breaker remembers of an identity: its circuits by kind of operation."""

    def all(self) -> list[C]:
        """Return its circuits; a breaker may be adding some at this moment."""
        return [*self.values()]


class HasCircuits(ABC):
    """A policy that breaks circuits."""

    @abstractmethod
    def circuits(self, scope: Scope) -> CircuitSet[Any]:
        """Return the circuits of an identity, made if there are none."""


def circuits_in(memory: Memory) -> list[CircuitInfo]:
    """Say what is known of all circuits in a memory, in order of their names."""
    found = [each for _, each in memory.items() if isinstance(each, CircuitSet)]
    return _infos(circuit for each in found for circuit in each.all())


class Circuits:
    """The circuits of a kit, to read and to switch by hand: `kit.circuits`.

    ```python
    for circuit in kit.circuits:
        print(circuit.connector, circuit.circuit, circuit.state)
    kit.circuits.force_open("reports", "upload")
    kit.circuits.reset("reports")
    ```

    They are those of this process and of all its kits, since a service is the same for
    all of them. A connector is named by its ID or itself: a configured ID stands for
    all connectors of the same type and settings, a type's ID for all tenants that came
    by it, and a connector of `resolve` for its own settings. None stands for all that
    have been used. To read them changes nothing; what is switched is told by a
    `CircuitChanged`.
    """

    def __init__(self, kit: ConnectorKit) -> None:
        self._kit = kit
        # What was switched by hand is not forgotten, however long nobody uses it.
        self._pinned: dict[int, CircuitSet[Any]] = {}

    def __iter__(self) -> Iterator[CircuitInfo]:
        return iter(self.infos())

    def infos(
        self, connector: str | Connector | None = None, circuit: str | None = None
    ) -> list[CircuitInfo]:
        """Say what is known of circuits, in order of their names.

        Raises:
            UnknownConnector: Nothing answers to the ID.
            ValueError: No circuit has this name.
        """
        return _infos(_named(circuit, self._sets(connector)))

    def force_open(
        self, connector: str | Connector | None = None, circuit: str | None = None
    ) -> list[CircuitInfo]:
        """Let no call through until `reset`, such as for a maintenance.

        A configured connector need not have been used before.

        Returns:
            The circuits that were meant, as they are now.

        Raises:
            ConnectorKitError: The ID cannot be resolved, or has no breaker.
            ValueError: No circuit has this name.
        """
        return self._force(CircuitState.FORCED_OPEN, connector, circuit)

    def force_closed(
        self, connector: str | Connector | None = None, circuit: str | None = None
    ) -> list[CircuitInfo]:
        """Let all calls through, whatever comes of them, until `reset`.

        Returns:
            The circuits that were meant, as they are now.

        Raises:
            ConnectorKitError: As `force_open` says.
            ValueError: No circuit has this name.
        """
        return self._force(CircuitState.FORCED_CLOSED, connector, circuit)

    def reset(
        self, connector: str | Connector | None = None, circuit: str | None = None
    ) -> list[CircuitInfo]:
        """Close circuits, forced ones too, and forget what they have counted.

        Returns:
            The circuits that were meant, as they are now.

        Raises:
            ConnectorKitError: As `force_open` says.
            ValueError: No circuit has this name.
        """
        return self._force(CircuitState.CLOSED, connector, circuit)

    def _force(
        self,
        state: CircuitState,
        connector: str | Connector | None,
        circuit: str | None,
    ) -> list[CircuitInfo]:
        sets = self._sets(connector, is_made=True)
        found = _named(circuit, sets)
        for its in found:
            its.force(state)
        for each in sets:
            if any(it.info().state in _FORCED for it in each.all()):
                self._pinned[id(each)] = each
            else:
                self._pinned.pop(id(each), None)
        for its in found:
            its.tell(its.connector, self._kit.registry.emit)
        return _infos(found)

    def _sets(
        self, connector: str | Connector | None, *, is_made: bool = False
    ) -> list[CircuitSet[Any]]:
        known: list[tuple[Hashable, CircuitSet[Any]]] = [
            (key[0] if isinstance(key, tuple) else key, each)
            for key, each in self._kit._opener.memory.items()
            if isinstance(each, CircuitSet)
        ]
        if connector is None:
            return [each for _, each in known]
        if isinstance(connector, str):
            plan = self._kit._resolver.plan(connector, None, trusted=False)
            if plan.claim.is_adhoc:
                # A type's ID: of its tenants there may be any number.
                return [each for _, each in known if _is_of(each, connector)]
            connector = self._kit._connector(connector, plan, pool=True)
        identity = connector._key[0]
        sets = [each for its, each in known if its == identity]
        if is_made:
            own = self._made(connector)
            sets += [each for each in own if all(each is not it for it in sets)]
        return sets

    def _made(self, connector: Connector) -> list[CircuitSet[Any]]:
        """Return the circuits that a connector uses, or will use; opens nothing."""
        breakers = [p for p in connector._policies if isinstance(p, HasCircuits)]
        if not breakers:
            names = ", ".join(policy.name for policy in connector._policies) or "none"
            raise ConfigError(
                f"Connector {connector.id!r} has no circuits: none of its policies "
                f"({names}) is a breaker."
            )
        scope = self._kit._opener.pipeline(connector).scope
        return [each.circuits(scope) for each in breakers]

    def __repr__(self) -> str:
        return f"<Circuits of {self._kit!r}>"


def _is_of(circuits: CircuitSet[Any], connector_id: str) -> bool:
    return any(each.connector == connector_id for each in circuits.all())


def _named(name: str | None, sets: list[CircuitSet[Any]]) -> list[Circuit]:
    found = [circuit for each in sets for circuit in each.all()]
    names = sorted({each.name for each in found})
    if name is None or not names:
        return found
    if name not in names:
        raise ValueError(
            f"No circuit is called {name!r}: there are {', '.join(names)}."
        )
    return [each for each in found if each.name == name]


def _infos(circuits: Iterable[Circuit]) -> list[CircuitInfo]:
    infos = [each.info() for each in circuits]
    return sorted(infos, key=lambda each: (each.connector, each.circuit))
