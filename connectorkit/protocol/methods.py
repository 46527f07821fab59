"""What the methods of the `connector://` filesystem are made of."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any

from fsspec import AbstractFileSystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from connectorkit.protocol.places import Place

__all__ = ["deferrable", "handed_on"]


def handed_on(name: str, told: Callable[[Place, Any], Any] | None = None) -> Any:
    """Make a method that is the one of the connector's filesystem.

    Args:
        name: The method's.
        told: Puts outer paths into what it answers.
    """
    theirs = getattr(AbstractFileSystem, name)
    signature = inspect.signature(theirs)
    its = list(signature.parameters)[1]

    @functools.wraps(theirs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not args and its not in kwargs:
            # Says what is missing, as Python does.
            signature.bind(self, *args, **kwargs)
        path, *rest = args or (kwargs.pop(its),)
        place: Place = self.place(path)
        answer = getattr(place.fs, name)(place.path, *rest, **kwargs)
        return answer if told is None else told(place, answer)

    return method


def deferrable(name: str) -> Any:
    """Make a method that is the connector's, and within a transaction fsspec's own.

    fsspec's writes by `open`, which a transaction holds back; those of most storages
    would publish at once.
    """
    theirs = getattr(AbstractFileSystem, name)
    at_once = handed_on(name)

    @functools.wraps(theirs)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (theirs if self._intrans else at_once)(self, *args, **kwargs)

    return method
