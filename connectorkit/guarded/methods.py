"""What the methods of a guarded filesystem are made of."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any, TypeVar

from fsspec import AbstractFileSystem
from fsspec.utils import is_exception

from connectorkit.call import joined
from connectorkit.guarded.inner import GONE, brings
from connectorkit.operation import Kind

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from connectorkit.operation import Operation

__all__ = [
    "Doubt",
    "about",
    "answer",
    "composite",
    "counted",
    "deletion",
    "handed_on",
    "own",
    "primitive",
]

T = TypeVar("T")
_SEVERAL = (list, tuple, dict, set, frozenset)


def primitive(name: str, kind: Kind, *, is_repeatable: bool = True) -> Any:
    """Make a method that is one operation: the inner filesystem's own method."""

    @_like_fsspecs(name)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        def attempt(op: Operation) -> Any:
            return counted(op, getattr(self.inner, name)(*args, **kwargs))

        path = about(args, kwargs)
        return self._run(name, kind, path, attempt, is_repeatable=is_repeatable)

    return method


def deletion(name: str) -> Any:
    """Make a method that is one operation, and may find its work done."""

    @_like_fsspecs(name)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        path = args[0] if args else kwargs.get("path")
        doubt = Doubt()

        def attempt(op: Operation) -> Any:
            try:
                with doubt.of(op):
                    return handed_on(getattr(self.inner, name)(*args, **kwargs))
            except FileNotFoundError:
                if not doubt.may_be_done(path):
                    raise
                try:
                    self.inner.info(path)
                except GONE:
                    return None
                raise

        return self._run(name, Kind.DELETE, about(args, kwargs), attempt)

    return method


def composite(name: str, kind: Kind, *, is_repeatable: bool = True) -> Any:
    """Make a method that is fsspec's, by other methods of the guarded filesystem.

    Where the inner class brings its own it is that, as one operation: it may be the
    quicker one, or the only one that works.
    """
    one = (
        deletion(name)
        if kind is Kind.DELETE
        else primitive(name, kind, is_repeatable=is_repeatable)
    )
    fsspecs = own(name)

    @_like_fsspecs(name)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        does = one if brings(self.inner, name) else fsspecs
        return does(self, *args, **kwargs)

    return method


def own(name: str) -> Any:
    """Make a method that is fsspec's whatever the inner class brings, as one call."""
    fsspecs = getattr(AbstractFileSystem, name)

    @_like_fsspecs(name)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        with joined(self.pipeline.scope):
            return fsspecs(self, *args, **kwargs)

    return method


def answer(name: str, kind: str | None = None) -> Any:
    """Make a method that answers a question, no only if the storage says so.

    fsspec's takes any error for a no, and so do those of some classes: a no is believed
    if to look the path up gives no other reason for it.

    Args:
        name: The method's.
        kind: What fsspec calls what is asked for, of anything else.
    """

    @_like_fsspecs(name)
    def method(self: Any, path: Any, **kwargs: Any) -> bool:
        its = getattr(self.inner, name) if brings(self.inner, name) else None

        def attempt(_op: Operation) -> bool:
            if its is not None and its(path, **kwargs):
                return True
            try:
                info = self.inner.info(path, **kwargs)
            except GONE:
                return False
            return its is None and kind in {None, info["type"]}

        return bool(self._run(name, Kind.READ, path, attempt))

    return method


def _like_fsspecs(name: str) -> Callable[[Callable[..., T]], Callable[..., T]]:
    return functools.wraps(getattr(AbstractFileSystem, name))


def about(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the path, or the first of several, that a method was called with."""
    path = args[0] if args else next(iter(kwargs.values()), "")
    if isinstance(path, _SEVERAL):
        return next(iter(path), "")
    return path


def counted(op: Operation, result: T) -> T:
    """Note how many bytes came."""
    if isinstance(result, bytes):
        op.origin.bytes = len(result)
    return result


def handed_on(result: T) -> T:
    """Raise an error that was handed back in a list, where nobody would look."""
    if isinstance(result, list):
        for each in result:
            if is_exception(each):
                raise each
    return result


class Doubt:
    """Whether a path that is not there is what an attempt has deleted."""

    def __init__(self) -> None:
        self._is_sent = False
        self._op: Operation | None = None

    def of(self, op: Operation) -> Doubt:
        """Return it for the `with` of one attempt."""
        self._op = op
        return self

    def may_be_done(self, path: Any) -> bool:
        """Tell whether it may be; of several paths only some may."""
        return self._is_sent and isinstance(path, str | os.PathLike)

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if isinstance(error, Exception) and self._op is not None:
            is_gone = isinstance(error, FileNotFoundError)
            self._is_sent |= not is_gone and self._op.classify(error).is_sent
        elif error is not None:
            # Its time was up.
            self._is_sent = True
