"""The guarded filesystem: each access to a storage is an operation of a pipeline."""

from __future__ import annotations

import functools
import inspect
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem
from fsspec.utils import tokenize

from connectorkit.errors import NotPicklable
from connectorkit.faults import Fault
from connectorkit.guarded.inner import GONE, brings, is_async
from connectorkit.guarded.methods import (
    about,
    answer,
    composite,
    deletion,
    own,
    primitive,
)
from connectorkit.guarded.transfers import Transfers
from connectorkit.moving import is_move
from connectorkit.operation import Kind
from connectorkit.writing import LayeredOpen

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit.connector import Connector
    from connectorkit.operation import Operation
    from connectorkit.pipeline import Pipeline

__all__ = ["GuardedFileSystem", "raise_unless_gone"]

T = TypeVar("T")
_END = object()


_MOVE = composite("mv", Kind.WRITE, is_repeatable=False)


class GuardedFileSystem(LayeredOpen, Transfers, AbstractFileSystem):  # type: ignore[misc]
    """Puts the operations of any fsspec filesystem through a pipeline.

    To who uses it, it is the inner filesystem: its paths, its quirks, its attributes.
    Each of its methods is an operation by its own name, or made of such; reads of an
    open file are, and its close. What it does better: no error is swallowed (only what
    the storage says is not there is not), and a file is written whole or not at all.

    What it cannot: a file that is changed in place ("r+b", "a+b") keeps what was
    written before an exception; a local file that is moved to another disk, and one
    that is written to a storage which neither sends it at once nor defers it, may be
    there in half if that fails; and what an inner class swallows by methods of its own
    (`find`, `glob`, `rm`) stays swallowed. A file that nobody closes is written when
    Python collects it, as all of Python's are.

    Of an asynchronous filesystem it is an asynchronous one.

    Args:
        inner: Any fsspec filesystem.
        pipeline: The policies.

    Attributes:
        inner: The filesystem that does the work, without policies.
        pipeline: The policies.
        connector: The connector that it serves, by which it is pickled.
    """

    # fsspec's cache would keep it for ever, and its configuration, which goes by the
    # protocol, is the inner filesystem's.
    cachable = False
    protocol: Any = "connectorkit-guarded"
    connector: Connector | None = None
    _intrans: bool
    # fsspec's metaclass sets these: the arguments, which are the inner filesystem's.
    _theirs: ClassVar = ("storage_args", "storage_options")

    def __new__(cls, inner: AbstractFileSystem, *_args: Any, **_kwargs: Any) -> Any:
        """Make an asynchronous one for an asynchronous filesystem."""
        if cls is GuardedFileSystem and is_async(inner):
            from connectorkit.guarded.asynchronous import GuardedAsyncFileSystem

            return super().__new__(GuardedAsyncFileSystem)
        return super().__new__(cls)

    def __init__(
        self, inner: AbstractFileSystem, pipeline: Pipeline, **options: Any
    ) -> None:
        super().__init__(**options)
        self.inner = inner
        self.pipeline = pipeline
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
        """Return what else the inner filesystem has; its methods are operations."""
        if name.startswith("__") or name == "inner":
            raise AttributeError(name)
        if name.startswith("_"):
            return self._coroutine(name)
        value = getattr(self.inner, name)
        if isinstance(value, AbstractFileSystem):
            return GuardedFileSystem(value, self.pipeline)
        if inspect.isroutine(value):
            return self._extra(name, value)
        return value

    def _coroutine(self, name: str) -> Any:
        raise AttributeError(f"{type(self).__name__!r} object has no {name!r}")

    def _extra(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        """Guard a method that fsspec does not know: nobody knows what it does."""

        @functools.wraps(method)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            return self._run(
                name,
                Kind.WRITE,
                about(args, kwargs),
                lambda _op: method(*args, **kwargs),
                is_repeatable=False,
            )

        return guarded

    # The pipeline

    def _operation(self, name: str, kind: Kind, path: Any, facts: Any) -> Operation:
        if not isinstance(path, str) or ":" in path:
            try:
                path = str(self._strip_protocol(path))
            except (TypeError, ValueError, AttributeError):
                # The inner filesystem will say what is wrong with it.
                path = str(path)
        bucket = path.lstrip("/").partition("/")[0]
        return self.pipeline.operation(name, kind, bucket=bucket, path=path, **facts)

    def _run(
        self,
        name: str,
        kind: Kind,
        path: Any,
        attempt: Callable[[Operation], T],
        **facts: Any,
    ) -> T:
        op = self._operation(name, kind, path, facts)
        return self.pipeline.run(op, attempt)

    def _seen(self, path: str) -> dict[str, Any] | None:
        """Look a file up before it is read; None if its storage does not say."""
        try:
            info: dict[str, Any] = self.info(path)
        except FileNotFoundError:
            raise
        except Exception as error:  # noqa: BLE001 - judged
            self._accept_unseen(error)
            return None
        return info

    def _accept_unseen(self, error: Exception) -> None:
        """Raise an error of looking a file up, unless reading it may work."""
        fault = self.pipeline.scope.classify(error).fault
        if fault.is_outage or fault is Fault.LOCAL:
            raise error

    # One operation each

    cat_file = primitive("cat_file", Kind.READ)
    checksum = primitive("checksum", Kind.READ)
    created = primitive("created", Kind.READ)
    info = primitive("info", Kind.READ)
    modified = primitive("modified", Kind.READ)
    sign = primitive("sign", Kind.READ)
    size = primitive("size", Kind.READ)
    ukey = primitive("ukey", Kind.READ)
    ls = primitive("ls", Kind.LIST)
    mkdir = primitive("mkdir", Kind.WRITE, is_repeatable=False)
    rm_file = deletion("rm_file")
    rmdir = deletion("rmdir")

    exists = answer("exists")
    isdir = answer("isdir", "directory")
    isfile = answer("isfile", "file")

    def makedirs(self, path: str, exist_ok: bool = False) -> None:
        """Make a folder, and those above it."""
        self._run(
            "makedirs",
            Kind.WRITE,
            path,
            lambda _op: self.inner.makedirs(path, exist_ok=exist_ok),
            is_repeatable=exist_ok,
        )

    # One operation, or many: as the inner class has it

    copy = composite("copy", Kind.WRITE)
    du = composite("du", Kind.LIST)
    expand_path = composite("expand_path", Kind.LIST)
    find = composite("find", Kind.LIST)
    glob = composite("glob", Kind.LIST)
    lexists = composite("lexists", Kind.READ)

    def mv(
        self,
        path1: Any,
        path2: Any,
        recursive: bool = False,
        maxdepth: int | None = None,
        **kwargs: Any,
    ) -> None:
        """Move files.

        Raises:
            ValueError: They would go into what is deleted.
        """
        if is_move(self, path1, path2, recursive=recursive):
            # A class of its own may know no more than two paths.
            more = {"recursive": recursive, "maxdepth": maxdepth}
            given = {name: value for name, value in more.items() if value}
            _MOVE(self, path1, path2, **given, **kwargs)

    rm = composite("rm", Kind.DELETE)
    sizes = composite("sizes", Kind.READ)
    touch = composite("touch", Kind.WRITE)

    # Many

    cat = own("cat")
    get = own("get")
    head = own("head")
    pipe = own("pipe")
    put = own("put")
    read_block = own("read_block")
    read_text = own("read_text")
    tail = own("tail")
    tree = own("tree")
    write_text = own("write_text")

    def walk(
        self,
        path: str,
        maxdepth: int | None = None,
        topdown: bool = True,
        on_error: Any = None,
        **kwargs: Any,
    ) -> Iterator[tuple[str, Any, Any]]:
        """Yield each folder below a path, with the folders and files in it.

        Args:
            path: A folder; if nothing is there, nothing is yielded.
            maxdepth: How many levels; None for all.
            topdown: Whether a folder comes before those in it, which may be taken out
                of what was yielded.
            on_error: "omit" or a callable, for folders that cannot be listed.
            kwargs: `detail`, and what the inner filesystem's `ls` takes.

        Raises:
            OSError: A folder cannot be listed, and `on_error` does not say what then.
        """
        on_error = raise_unless_gone if on_error is None else on_error
        if brings(self.inner, "walk"):
            kwargs = {"maxdepth": maxdepth, "topdown": topdown, **kwargs}
            yield from self._inner_walk(path, on_error, kwargs)
            return
        detail = kwargs.pop("detail", False)
        if maxdepth is not None and maxdepth < 1:
            raise ValueError("maxdepth must be at least 1")
        # A level at a time: fsspec's forgets `on_error` below the first.
        for root, dirs, files in AbstractFileSystem.walk(
            self, path, 1, detail=True, on_error=on_error, **kwargs
        ):
            below = dirs if detail else list(dirs)
            found = root, below, files if detail else list(files)
            if topdown:
                yield found
            if maxdepth is None or maxdepth > 1:
                for name in below:
                    yield from self.walk(
                        dirs[name]["name"].rstrip("/"),
                        None if maxdepth is None else maxdepth - 1,
                        topdown,
                        on_error,
                        detail=detail,
                        **kwargs,
                    )
            if not topdown:
                yield found

    def _inner_walk(
        self, path: str, on_error: Any, kwargs: dict[str, Any]
    ) -> Iterator[Any]:
        if "on_error" in inspect.signature(self.inner.walk).parameters:
            kwargs["on_error"] = on_error
        steps = self.inner.walk(path, **kwargs)
        failed: Exception | None = None

        def attempt(_op: Operation) -> Any:
            nonlocal failed
            if failed is not None:
                # A generator that has raised would seem to have come to its end.
                raise failed
            try:
                return next(steps, _END)
            except Exception as error:
                failed = error
                raise

        while True:
            step = self._run("walk", Kind.LIST, path, attempt, is_repeatable=False)
            if step is _END:
                return
            yield step

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
        """Forget listings at or under a path, or all of them."""
        self.inner.invalidate_cache(path)
        super().invalidate_cache(path)

    # What it is itself

    @property
    def __class__(self) -> Any:
        """Its own; for fsspec's local filesystem, one that is known as such.

        A DirFileSystem looks whether it has to keep `..` from leaving its folder.
        """
        is_local = isinstance(self.__dict__.get("inner"), LocalFileSystem)
        return type(self.inner) if is_local else type(self)

    @__class__.setter
    def __class__(self, its: type) -> None:
        raise TypeError("the class of a guarded filesystem stays")

    @property
    def _fs_token(self) -> str:
        its = (policy.identity for policy in self.pipeline.policies)
        token: str = tokenize("guarded", self.inner._fs_token, *its)
        return token

    def __repr__(self) -> str:
        of = type(self.inner).__name__
        return f"<{type(self).__name__} of {of} for {self.pipeline.scope.connector!r}>"

    def __reduce__(self) -> Any:
        # Its arguments may hold secrets: it travels as its connector does.
        if self.connector is None:
            raise NotPicklable(
                "A guarded filesystem that serves no connector is not pickled: resolve "
                "a connector, which is."
            )
        return _guarded_of, (self.connector,)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Refuse to spell the arguments out: they may hold secrets.

        Raises:
            NotPicklable: Always; the connector's ID is what to keep.
        """
        del include_password
        raise NotPicklable(
            f"The filesystem of connector {self.pipeline.scope.connector!r} may hold "
            "secrets and is not written as JSON: keep the connector's ID."
        )


def _guarded_of(connector: Connector) -> AbstractFileSystem:
    """Return what policies wrap: who pickled them wraps it again."""
    return connector.opened().guarded


def raise_unless_gone(error: OSError) -> None:
    """Raise what a folder cannot be listed for, unless it is not there."""
    if not isinstance(error, GONE):
        raise error
