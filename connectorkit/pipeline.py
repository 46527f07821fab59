"""The pipeline: a connector's policies, composed, and the drivers of their flow."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from connectorkit.call import current
from connectorkit.errors import ConnectorKitError, PluginFailed
from connectorkit.fold import Stopped, fold, throwable
from connectorkit.limit import Limit
from connectorkit.operation import Kind, Operation, Sleep
from connectorkit.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from connectorkit.scope import Scope

__all__ = ["Pipeline", "within"]

T = TypeVar("T")
_log = logging.getLogger(__name__)


class Pipeline:
    """The operation policies of one connector, composed once.

    Attributes:
        policies: Those with a flow, outermost first.
        scope: What the operations of the connector share.
        is_by_call: Whether one of the policies goes by calls.
        changes: How many operations began that may change what the storage has.

    Raises:
        PluginFailed: A policy's `around` is no generator.
    """

    def __init__(self, policies: Iterable[Policy], scope: Scope) -> None:
        self._all = policies = tuple(policies)
        self.policies = tuple(p for p in policies if _has_flow(p))
        self.scope = scope
        self.changes = 0
        self.is_by_call = any(policy.is_by_call for policy in policies)
        self._observers = [p for p in policies if type(p).ended is not Policy.ended]
        self._shortcuts = [p.shortcut for p in self.policies]

    @property
    def is_bare(self) -> bool:
        """Whether no policy has to do with operations."""
        return not self.policies and not self._observers

    def is_like(self, other: Pipeline) -> bool:
        """Tell whether another one does the same, by the same memories."""
        mine, theirs = self.scope, other.scope
        return (
            [(p.name, p.identity) for p in self._all]
            == [(p.name, p.identity) for p in other._all]
            and mine.identity == theirs.identity
            and mine.memory is theirs.memory
        )

    def operation(self, name: str, kind: Kind, **facts: Any) -> Operation:
        """Return an operation, a part of the call under way if there is one.

        Args:
            name: The service's own name for it.
            kind: What it does.
            facts: `bucket`, `path`, `size` and `is_repeatable` of `Operation`.
        """
        scope = self.scope
        if kind is Kind.WRITE or kind is Kind.DELETE:
            self.changes += 1
        return Operation(name, kind, scope, current(scope), **facts)

    def run(self, op: Operation, attempt: Callable[[Operation], T]) -> T:
        """Run an operation from a thread.

        Args:
            op: From `operation`.
            attempt: Makes one attempt. It ends it when the time of the operation that
                it gets is up (`left()`), as well as its client can.
        """
        error: BaseException | None = None
        try:
            if self.is_plain(op):
                try:
                    return attempt(op)
                except Exception as raised:  # noqa: BLE001 - the flow decides
                    op.known = raised
            return self._run(op, attempt)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.tell(op, error)
            del error

    def _run(self, op: Operation, attempt: Callable[[Operation], T]) -> T:
        op.unlimited()
        flow = fold(self.policies, op)
        clock = self.scope.clock
        step: Callable[[Any], Any] = flow.send
        argument: Any = None
        handled = sys.exception()
        try:
            if op.known is not None:
                op.known = throwable(op.known, handled)
            while True:
                effect = step(argument)
                step, argument = flow.send, None
                try:
                    if effect.__class__ is Operation:
                        argument = attempt(effect)
                    elif effect.__class__ is Sleep:
                        clock.sleep(effect.seconds)
                    else:
                        argument = effect.sync()
                except Exception as error:  # noqa: BLE001 - the flow decides
                    step, argument = flow.throw, throwable(error, handled)
        except StopIteration as stop:
            value: T = stop.value
            return value
        except Stopped as stopped:
            raise stopped.error from None
        finally:
            flow.close()
            op.known = None
            del flow, step, argument, handled

    async def arun(
        self, op: Operation, attempt: Callable[[Operation], Awaitable[T]]
    ) -> T:
        """Run an operation on the running event loop.

        Args:
            op: From `operation`.
            attempt: Makes one attempt; it is cancelled when its time is up.
        """
        # Who gave the coroutine may await it much later.
        op.started = self.scope.clock()
        error: BaseException | None = None
        try:
            if self.is_plain(op):
                try:
                    return await within(op, attempt)
                except Exception as raised:  # noqa: BLE001 - the flow decides
                    op.known = raised
            return await self._arun(op, attempt)
        except BaseException as raised:
            error = raised
            raise
        finally:
            self.tell(op, error)
            del error

    async def _arun(
        self, op: Operation, attempt: Callable[[Operation], Awaitable[T]]
    ) -> T:
        op.unlimited()
        flow = fold(self.policies, op)
        clock = self.scope.clock
        step: Callable[[Any], Any] = flow.send
        argument: Any = None
        handled = sys.exception()
        try:
            if op.known is not None:
                op.known = throwable(op.known, handled)
            while True:
                effect = step(argument)
                step, argument = flow.send, None
                try:
                    if effect.__class__ is Operation:
                        argument = await within(effect, attempt)
                    elif effect.__class__ is Sleep:
                        await clock.asleep(effect.seconds)
                    else:
                        argument = await effect.async_()
                except Exception as error:  # noqa: BLE001 - the flow decides
                    step, argument = flow.throw, throwable(error, handled)
        except StopIteration as stop:
            value: T = stop.value
            return value
        except Stopped as stopped:
            raise stopped.error from None
        finally:
            flow.close()
            op.known = None
            del flow, step, argument, handled

    def is_plain(self, op: Operation) -> bool:
        """Tell whether no flow has anything to do, unless the attempt fails.

        Then the attempt can be made at once. Should it fail, its error is to be left
        in `op.known` before the flow is started.
        """
        try:
            for shortcut in self._shortcuts:
                if not shortcut(op):
                    return False
        except ConnectorKitError:
            raise
        except Exception as error:
            failed = next(p for p in self.policies if p.shortcut == shortcut)
            raise PluginFailed(
                f"Policy {failed.name!r} failed before the operation was tried: "
                f"{type(error).__name__}: {error}. {op}."
            ) from error
        op.attempts = 1
        return True

    def tell(self, op: Operation, error: BaseException | None) -> None:
        """Tell observers that an operation has ended."""
        for policy in self._observers:
            try:
                policy.ended(op, error)
            except Exception:  # noqa: BLE001 - no outcome is its to change
                _log.exception("Policy %r failed when %s ended.", policy.name, op)
        op.forget()


async def within(op: Operation, attempt: Callable[[Operation], Awaitable[T]]) -> T:
    """Make an attempt in the time that there is left for it.

    Raises:
        ConnectorKitError: The time is up, and the attempt was cancelled.
    """
    if op.expires == math.inf:
        return await attempt(op)
    limit = Limit(op.left())
    try:
        return await attempt(op)
    except asyncio.CancelledError as error:
        if limit.lift():
            raise op.overrun() from error
        raise
    finally:
        limit.lift()


def _has_flow(policy: Policy) -> bool:
    around = type(policy).around
    if around is Policy.around:
        return False
    if not inspect.isgeneratorfunction(around):
        raise PluginFailed(
            f"Policy {policy.name!r} cannot wrap operations: its `around` has to be a "
            "generator, with a `yield op`."
        )
    return True
