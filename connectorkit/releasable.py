"""What the kit adds to the fsspec classes that it opens."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from typing import TYPE_CHECKING, Any

from connectorkit.errors import NotPicklable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fsspec import AbstractFileSystem

    from connectorkit.connector import Connector

__all__ = ["Releasable", "release", "travel_as_connector"]


class Releasable:
    """For an fsspec class that counts its requests and can close its connections.

    A subclass puts each request in `with self.at_work():`, hands what is read after
    it to `self.until_read(body)`, and closes its client in `_let_go`; the next
    request connects anew.

    Attributes:
        in_flight: Requests under way, bodies that are still to be read included.
        operations: Requests begun since it was opened.
        connector: The connector that it serves; None for one that stands alone.
    """

    _requests: int = 0
    _bodies: weakref.WeakSet[Any] | None = None
    operations: int = 0
    connector: Connector | None = None

    @contextlib.contextmanager
    def at_work(self) -> Iterator[None]:
        """Count a request as under way."""
        self.operations += 1
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1

    def until_read(self, body: object) -> None:
        """Count `body` as under way until it is `closed`, or nobody holds it."""
        if self._bodies is None:
            self._bodies = weakref.WeakSet()
        self._bodies.add(body)

    @property
    def in_flight(self) -> int:
        """Requests under way, bodies that are still to be read included."""
        bodies = tuple(self._bodies or ())
        return self._requests + sum(not getattr(b, "closed", False) for b in bodies)

    def seen(self, info: Mapping[str, Any]) -> dict[str, Any]:
        """Return by which options `open` reads what `info` tells of, unasked again.

        It then reads that version or raises `ObjectChanged`. {} if there are none.
        """
        del info
        return {}

    async def _release(self) -> None:
        """Close the client, unless a request is under way; runs on its own loop."""
        if not self.in_flight:
            await self._let_go()

    async def _let_go(self) -> None:
        """Close the client; before the first `await`, forget it."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # Its arguments hold secrets: it travels as its connector does.
        if self.connector is None:
            return super().__reduce__()  # type: ignore[return-value]
        return _filesystem_of, (self.connector,)

    def to_dict(self, *, include_password: bool = True) -> dict[str, Any]:
        """Refuse to spell the arguments out: they hold secrets.

        Raises:
            NotPicklable: It serves a connector; its ID is what to keep.
        """
        if self.connector is not None:
            raise _not_spelt_out(self.connector)
        return super().to_dict(include_password=include_password)  # type: ignore[misc,no-any-return]


def travel_as_connector(fs: AbstractFileSystem, connector: Connector) -> None:
    """Have a filesystem of anybody's class pickled as its connector.

    Its arguments may hold secrets, which fsspec would write into a pickle and JSON.
    """

    def to_dict(*, include_password: bool = True) -> dict[str, Any]:
        del include_password
        raise _not_spelt_out(connector)

    # pickle asks the object; to copy it asks the class, and stays what it was.
    fs.__reduce_ex__ = lambda _protocol: (_filesystem_of, (connector,))
    fs.to_dict = to_dict


def _not_spelt_out(connector: Connector) -> NotPicklable:
    return NotPicklable(
        f"The filesystem of connector {connector.id!r} may hold secrets and is not "
        "written as JSON: keep the connector's ID."
    )


def _filesystem_of(connector: Connector) -> AbstractFileSystem:
    """Return what policies wrap: who pickled them wraps it again."""
    return connector.opened().inner


def release(fs: AbstractFileSystem, loop: asyncio.AbstractEventLoop | None) -> None:
    """Close the connections of `fs`, if it can and no request of it is under way.

    Args:
        fs: The filesystem.
        loop: The host's loop that it belongs to; None for fsspec's own.
    """
    if not isinstance(fs, Releasable):
        return
    its: asyncio.AbstractEventLoop = loop or fs.loop  # type: ignore[attr-defined]
    if loop is None and asyncio._get_running_loop() is not its:
        from fsspec.asyn import sync

        sync(its, fs._release)
    elif its.is_running():
        its.call_soon_threadsafe(lambda: _keep(its.create_task(fs._release())))


_closing: set[asyncio.Task[None]] = set()


def _keep(task: asyncio.Task[None]) -> None:
    # A loop holds its tasks weakly; one that closes must not be collected first.
    _closing.add(task)
    task.add_done_callback(_closing.discard)
