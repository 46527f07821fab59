"""The pipeline: a connector's policies, composed, and the drivers of their flows."""

from __future__ import annotations

import asyncio
import inspect
import logging
import math
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from connectorkit.call import current
from connectorkit.errors import ConnectorKitError, PluginFailed
from connectorkit.limit import Limit
from connectorkit.operation import Io, Kind, Operation, Sleep
from connectorkit.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from connectorkit.policy import Flow
    from connectorkit.scope import Scope

__all__ = ["Pipeline", "throwable", "within"]

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
        flow = self.flow(op)
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
        flow = self.flow(op)
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

    def flow(self, op: Operation) -> Flow:
        """Fold the policies' flows into one, which yields what a driver has to do.

        It yields the operation for each attempt, as well as a `Sleep` or an `Io`; it
        returns the result or raises the error of the operation.
        """
        try:
            return (yield from self._layer(0, op))
        except Exception:
            if (known := op.known) is None:
                raise
        # Refused by what changed meanwhile, but the attempt was made.
        op.known = None
        try:
            raise known
        finally:
            del known

    def _layer(self, depth: int, op: Operation) -> Flow:  # noqa: C901, PLR0912 - one loop
        if depth == len(self.policies):
            return (yield from _attempt(op))
        policy = self.policies[depth]
        flow = policy.around(op)
        step: Callable[[Any], Any] = flow.send
        argument = result = error = None
        is_tried = False
        try:
            while True:
                try:
                    effect = step(argument)
                except StopIteration:
                    break
                except Exception as raised:
                    if raised is not error and self._is_meant(
                        policy, op, raised, error, is_tried=is_tried
                    ):
                        raise
                    break
                try:
                    if effect.__class__ is Operation:
                        is_tried, error = True, None
                        argument = result = yield from self._layer(depth + 1, effect)
                    elif effect.__class__ is Sleep:
                        argument = yield _awake(effect, op)
                    elif effect.__class__ is Io:
                        argument = yield effect
                    else:
                        raise TypeError(f"its flow yields {effect!r:.80}")  # noqa: TRY301
                    step = flow.send
                except Exception as raised:  # noqa: BLE001 - the policy decides
                    if effect.__class__ is Operation:
                        error = raised
                    step, argument = flow.throw, raised
            if error is not None:
                raise error
            if not is_tried:
                raise PluginFailed(
                    f"Policy {policy.name!r} ended without running the operation. {op}."
                )
            return result
        finally:
            _close(flow, policy)
            # An error's traceback holds this frame, which would hold the error.
            del flow, step, argument, error

    def _is_meant(
        self,
        policy: Policy,
        op: Operation,
        raised: Exception,
        error: Exception | None,
        *,
        is_tried: bool,
    ) -> bool:
        """Tell what a policy raised on purpose from its mistakes.

        Raises:
            PluginFailed: It is a mistake, and the operation has no outcome yet.
        """
        if isinstance(raised, ConnectorKitError | Stopped):
            return True
        if error is not None and raised.__cause__ is error:
            return True
        if not is_tried:
            raise PluginFailed(
                f"Policy {policy.name!r} failed before the operation was tried: "
                f"{type(raised).__name__}: {raised}. {op}."
            ) from raised
        _log.error(
            "Policy %r failed; the operation's own outcome stands. %s",
            policy.name,
            op,
            exc_info=raised,
        )
        return False


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


class Stopped(Exception):
    """Carries a StopIteration of an attempt through flows, which cannot raise it."""

    def __init__(self, error: StopIteration) -> None:
        super().__init__()
        self.error = error


def throwable(error: Exception, handled: BaseException | None) -> Exception:
    """Return an attempt's error as flows can be told of it.

    A caller that makes an operation inside an `except` is handling an error that has
    nothing to do with it. Python puts that one behind each error that is raised
    meanwhile, in place of what was there.
    """
    if isinstance(error, StopIteration):
        return Stopped(error)
    if handled is not None:
        link: BaseException = error
        while (behind := link.__context__) is not None and behind is not handled:
            link = behind
        link.__context__ = None
        if error.__cause__ is None and not error.__suppress_context__:
            error.__cause__ = error.__context__
    return error


def _attempt(op: Operation) -> Flow:
    """Have an attempt made, unless the first one was, before any flow was started."""
    origin = op.origin
    if (known := origin.known) is not None:
        origin.known = None
        try:
            raise known
        finally:
            # An error's traceback holds this frame, which would hold the error.
            del known
    if op.left() <= 0:
        raise op.overrun()
    origin.attempts += 1
    return (yield op)


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


def _awake(sleep: Sleep, op: Operation) -> Sleep:
    """Let nobody sleep past the end of the operation's time."""
    if not sleep.seconds >= 0:
        raise ValueError(f"its flow sleeps for {sleep.seconds!r} seconds")
    if sleep.seconds > op.left():
        raise op.overrun()
    return sleep


def _close(flow: Flow, policy: Policy) -> None:
    try:
        flow.close()
    except Exception:  # noqa: BLE001 - no outcome is its to change
        _log.exception("Policy %r failed when its flow was closed.", policy.name)
