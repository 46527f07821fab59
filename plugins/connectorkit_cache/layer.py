"""A layer: a filesystem around another, for caches."""

from __future__ import annotations

import functools
import inspect
import math
from typing import TYPE_CHECKING, Any, ClassVar

from fsspec import AbstractFileSystem
from fsspec.utils import tokenize

from connectorkit import NotPicklable
from connectorkit.call import current
from connectorkit.writing import LayeredOpen
from connectorkit_cache.changes import changes_of
from connectorkit_cache.delegation import READS, WRITES, named, reading, writing
from connectorkit_cache.file import OuterFile
from connectorkit_cache.telling import Teller

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit import Connector, Policy

__all__ = ["Layer", "bottom_of"]


class Layer(LayeredOpen, AbstractFileSystem):  # type: ignore[misc]
    """Hands every method on to another filesystem; a cache overrides those it answers.

    To who uses it, it is that filesystem: its paths, its quirks, its attributes. Open
    files belong to this one. It pickles as its connector does.

    Args:
        inner: The filesystem around which it lies.
        policy: The policy that made it.
        connector: The connector that it serves.
    """

    cachable = False
    protocol: Any = "connectorkit-cache"
    # fsspec's metaclass sets these: the arguments, which are the inner filesystem's.
    _theirs: ClassVar = ("storage_args", "storage_options")

    def __init__(
        self,
        inner: AbstractFileSystem,
        policy: Policy,
        connector: Connector,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.inner = inner
        self.policy = policy
        self.connector = connector
        self.scope = connector.pipeline.scope
        self.changes = changes_of(self.scope.identity)
        self.teller = Teller(self.scope, policy.name)
        self.dircache = inner.dircache
        for name in (
            "blocksize",
            "protocol",
            "root_marker",
            "sep",
            "transaction_type",
            "_isfilestore",
            "_parent",
            "_strip_protocol",
            "unstrip_protocol",
        ):
            setattr(self, name, getattr(inner, name))

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self._theirs:
            super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        """Return what else the inner filesystem has; its methods may write."""
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        value = getattr(self.inner, name)
        if inspect.iscoroutinefunction(value):

            @functools.wraps(value)
            async def acall(*args: Any, **kwargs: Any) -> Any:
                try:
                    return await value(*args, **kwargs)
                finally:
                    self.forget_all_of(args, kwargs)

            return acall
        if not inspect.isroutine(value) or name.startswith("_"):
            return value

        @functools.wraps(value)
        def call(*args: Any, **kwargs: Any) -> Any:
            try:
                return value(*args, **kwargs)
            finally:
                self.forget_all_of(args, kwargs)

        return call

    @property
    def beneath(self) -> Any:
        """The inner filesystem, for who calls it from a thread."""
        return self.inner

    def left(self) -> float:
        """Return for how many seconds the call under way may wait."""
        if (call := current(self.scope)) is None:
            return math.inf
        policies = self.connector.pipeline.policies
        until = min((each.expires(call) for each in policies), default=math.inf)
        return until - self.scope.clock()

    # What may have been changed

    def key(self, path: Any) -> str:
        """Return a path in the one form by which it is remembered."""
        return str(self._strip_protocol(path)).strip("/")

    def forget_all_of(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Let all caches of this storage forget what a call may have changed."""
        keys = set()
        for path in named(args, kwargs):
            try:
                keys.add(self.key(path))
            except (TypeError, ValueError, AttributeError):
                # The inner filesystem said what is wrong with it.
                continue
        # Who names nothing may have changed anything.
        self.changes.add(keys or {""})

    def look(self, path: str) -> dict[str, Any]:
        """Ask the storage itself what a path is, whatever caches know.

        Raises:
            FileNotFoundError: Nothing is there.
        """
        its = self.beneath
        ask = its.look if isinstance(its, Layer) else its.info
        info: dict[str, Any] = ask(path)
        return info

    # One by one, as the tables say

    for _name in READS:
        locals()[_name] = reading(_name)
    for _name in WRITES:
        locals()[_name] = writing(_name)
    del _name

    # Opening

    def _open(
        self,
        path: str,
        mode: str = "rb",
        block_size: int | None = None,
        autocommit: bool = True,
        cache_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        options = {"block_size": block_size, "cache_options": cache_options, **kwargs}
        options = {name: it for name, it in options.items() if it is not None}
        if not autocommit:
            options["autocommit"] = False
        return OuterFile(
            self, path, mode, self.inner.open(path, mode, **options), options
        )

    # Transactions are the inner filesystem's

    @property
    def transaction(self) -> Any:
        """The inner filesystem's; at its end all that was known is forgotten."""
        return Transaction(self)

    def start_transaction(self) -> Any:
        """Begin to defer writes."""
        self.inner.start_transaction()
        return self.transaction

    def end_transaction(self) -> None:
        """Let what was deferred take its place."""
        try:
            self.inner.end_transaction()
        finally:
            self.changes.add([""])

    # What is the inner filesystem's

    @property
    def fsid(self) -> Any:
        """The inner filesystem's."""
        return self.inner.fsid

    @property
    def storage_args(self) -> Any:
        """The inner filesystem's."""
        return self.inner.storage_args

    @property
    def storage_options(self) -> Any:
        """The inner filesystem's."""
        return self.inner.storage_options

    def invalidate_cache(self, path: str | None = None) -> None:
        """Forget what is known at or under a path, or everything."""
        self.changes.add(["" if path is None else self.key(path)])
        self.inner.invalidate_cache(path)

    # What it is itself

    @property
    def _fs_token(self) -> str:
        its = self.policy.name, self.policy.identity, self.inner._fs_token
        token: str = tokenize("cached", *its)
        return token

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self.inner!r} for {self.scope.connector!r}>"

    def __reduce__(self) -> Any:
        # Its arguments may hold secrets: it travels as its connector does.
        return _layer_of, (self.connector, self.policy.name)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Refuse to spell the arguments out: they may hold secrets.

        Raises:
            NotPicklable: Always; the connector's ID is what to keep.
        """
        del include_password
        raise NotPicklable(
            f"The filesystem of connector {self.scope.connector!r} may hold secrets "
            "and is not written as JSON: keep the connector's ID."
        )


class Transaction:
    """The inner filesystem's transaction, after which nothing is known any more."""

    def __init__(self, layer: Layer) -> None:
        self._layer = layer
        self._its = layer.inner.transaction

    def __getattr__(self, name: str) -> Any:
        return getattr(self._its, name)

    def __enter__(self) -> Any:
        self._its.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        try:
            self._its.__exit__(*exc_info)
        finally:
            self._layer.changes.add([""])


def _chain(fs: Any) -> Iterator[Any]:
    yield fs
    while isinstance(fs, Layer):
        fs = fs.inner
        yield fs


def bottom_of(fs: AbstractFileSystem) -> AbstractFileSystem:
    """Return the filesystem around which all layers lie."""
    *_, last = _chain(fs)
    return last


def _layer_of(connector: Connector, name: str) -> AbstractFileSystem:
    """Return the layer of a policy, where its connector is resolved again."""
    outer = connector.opened().outer
    for each in _chain(outer):
        if isinstance(each, Layer) and each.policy.name == name:
            return each
    return outer
