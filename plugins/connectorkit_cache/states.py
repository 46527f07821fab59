"""States: what all filesystems of a connector's settings share in one process."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit_cache.changes import Listener
    from connectorkit_cache.layer import Layer

__all__ = ["shared"]

S = TypeVar("S", bound="Listener")


def shared(layer: Layer, make: Callable[[], S]) -> S:
    """Return what a layer's cache keeps, the same for its sync and its async ones.

    It belongs to a connector type and its settings, to whether they came with a call,
    and to the policy's own settings.
    """
    policy, scope = layer.policy, layer.scope
    identity, _, *whose = layer.connector._key
    key = ("cache", policy.name, policy.identity, identity, *whose)
    state = scope.memory.of(key, make)
    layer.changes.listen(state)
    return state
