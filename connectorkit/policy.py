"""Policies: what wraps every connector without the connector or the host knowing.

A policy's flow is a generator, so one body serves threads and event loops: it yields
the operation to have it run by what lies within.
"""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from connectorkit.errors import ConfigError, ConnectorKitError, PluginFailed
from connectorkit.identity import identity

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Sequence

    from fsspec import AbstractFileSystem

    from connectorkit.call import Call
    from connectorkit.connector import Connector
    from connectorkit.operation import Io, Operation, Sleep

    Flow = Generator[Operation | Sleep | Io, Any, Any]

__all__ = ["Policy", "PolicySettings", "check_order", "is_filesystem", "wrap"]


# Where `retry` stands.
_RETRYING = 40


class PolicySettings(BaseModel):
    """The base of a policy's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Policy:
    """Wraps a connector's filesystem, its operations or both; enabled by its name.

    ```python
    class Patient(Policy):
        name = "patient"

        def around(self, op):
            yield Sleep(0.1)
            return (yield op)
    ```

    Attributes:
        name: The name in `policies = [...]`.
        Settings: The model of the policy's table in the configuration.
        rank: Where it stands: policies with a rank come in its order, the least
            outermost. None may stand anywhere, unless it retries: then where `retry`
            stands.
        is_retrying: Whether it runs an operation more than once; there is one such.
        is_by_call: Whether what it gives is for a whole call: then an operation of the
            host's own is one, with all that is called in it.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[BaseModel]] = PolicySettings
    rank: ClassVar[int | None] = None
    is_retrying: ClassVar[bool] = False
    is_by_call: ClassVar[bool] = False

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = self.Settings() if settings is None else settings

    @cached_property
    def identity(self) -> str:
        """A digest of its name and settings."""
        return identity(self.name, self.settings)

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """Return what the host gets for `fs`; by default `fs` itself."""
        del connector
        return fs

    def around(self, op: Operation) -> Flow:
        """Wrap an operation: a generator.

        `yield op` runs what lies within once and returns its result, or raises its
        error at the yield. `yield op.within(seconds)` does so under a limit,
        `yield Sleep(seconds)` waits, `yield Io(sync=f, async_=g)` does I/O. When the
        operation is cancelled, the flow is closed at its yield.

        The result and the error of the last run are the operation's: what a flow
        returns is not looked at, and it may raise another error only if that is a
        `ConnectorKitError` or raised `from` the run's own. To let nothing through it
        raises a `Refused`.
        """
        return (yield op)

    def shortcut(self, op: Operation) -> bool:
        """Tell whether the flow would merely pass the operation on, if it succeeds.

        If all policies say so, no flow is started unless the attempt fails; then they
        are, and hear of the error at their first yield. It may put a limit on the
        operation (`op.tighten`), and must be quick.
        """
        del op
        return False

    def expires(self, call: Call) -> float:
        """Return when a call has to be over, in monotonic seconds; by default never.

        For what a call waits for outside of its operations.
        """
        del call
        return math.inf

    def ended(self, op: Operation, error: BaseException | None) -> None:
        """Hear that an operation has ended: with a result, an error, or cancelled."""


def wrap(
    fs: AbstractFileSystem, policies: Iterable[Policy], connector: Connector
) -> AbstractFileSystem:
    """Fold `policies`, outermost first, around `fs`.

    Raises:
        PluginFailed: A policy failed, or returned what is no filesystem.
    """
    for policy in reversed(tuple(policies)):
        try:
            wrapped = policy.filesystem(fs, connector)
        except ConnectorKitError:
            raise
        except Exception as error:
            raise PluginFailed(
                f"Policy {policy.name!r} failed on connector {connector.id!r}: "
                f"{type(error).__name__}: {error}."
            ) from error
        if not is_filesystem(wrapped):
            raise PluginFailed(
                f"Policy {policy.name!r} returned {wrapped!r:.80} in place of the "
                f"filesystem of connector {connector.id!r}."
            )
        fs = wrapped
    return fs


def check_order(policies: Sequence[Policy], of: str) -> None:
    """See that policies stand in an order that works.

    Raises:
        ConfigError: They do not, or one stands twice, or two try again; says the right
            order.
    """
    names = [policy.name for policy in policies]
    ranked = [(_rank(each), each.name) for each in policies if _rank(each) is not None]
    right = [name for _, name in sorted(ranked, key=lambda each: each[0] or 0)]
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError(f"Of {of} the policy {min(twice)!r} stands twice.")
    if [name for _, name in ranked] != right:
        raise ConfigError(
            f"The policies of {of} stand in a wrong order: {', '.join(names)}. "
            f"Outermost first it has to be {', '.join(right)}."
        )
    owners = [policy.name for policy in policies if policy.is_retrying]
    if len(owners) > 1:
        raise ConfigError(
            f"Of {of} the policies {' and '.join(map(repr, owners))} try operations "
            "again, each what the other has tried: name one of them."
        )


def _rank(policy: Policy) -> int | None:
    # Within the breaker it would run an operation again whose circuit has opened.
    return _RETRYING if policy.rank is None and policy.is_retrying else policy.rank


def is_filesystem(it: object) -> bool:
    """Tell whether something is an fsspec filesystem, fsspec not imported."""
    return hasattr(it, "unstrip_protocol") and not isinstance(it, type)
