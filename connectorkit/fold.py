"""The fold: the flows of all policies as one, which the drivers drive."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from connectorkit.errors import ConnectorKitError, PluginFailed
from connectorkit.operation import Io, Operation, Sleep

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.policy import Flow, Policy

__all__ = ["Stopped", "fold", "throwable"]

_log = logging.getLogger(__name__)


def fold(policies: tuple[Policy, ...], op: Operation) -> Flow:
    """Fold the policies' flows into one, which yields what a driver has to do.

    It yields the operation for each attempt, as well as a `Sleep` or an `Io`; it
    returns the result or raises the error of the operation.
    """
    try:
        return (yield from _layer(policies, 0, op))
    except Exception:
        if (known := op.known) is None:
            raise
    # Refused by what changed meanwhile, but the attempt was made.
    op.known = None
    try:
        raise known
    finally:
        del known


def _layer(  # noqa: C901, PLR0912 - one loop
    policies: tuple[Policy, ...], depth: int, op: Operation
) -> Flow:
    if depth == len(policies):
        return (yield from _attempt(op))
    policy = policies[depth]
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
                if raised is not error and _is_meant(
                    policy, op, raised, error, is_tried=is_tried
                ):
                    raise
                break
            try:
                if effect.__class__ is Operation:
                    is_tried, error = True, None
                    argument = result = yield from _layer(policies, depth + 1, effect)
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
