"""Connections of redis-py that are looked at only once they have rested."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from redis import ConnectionPool

from connectorkit.fork import renew_in_child

if TYPE_CHECKING:
    from redis import Connection

__all__ = ["WarmPool"]

# Seconds: no Redis ends and is there again in less.
_RESTED: Final = 0.01


class WarmPool(ConnectionPool):
    """A pool whose connections go from hand to hand while there is much to do.

    redis-py's own asks the kernel before each command whether the connection still
    stands, and tells its observers; for a script that is half of the client's work.
    What was used a moment ago stands, or else the command fails as it would if the
    connection broke on the way, and all others are looked at again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._is_closed = False
        super().__init__(*args, **kwargs)
        renew_in_child(self)

    def reset(self) -> None:
        """Forget all connections: they may be those of a parent process."""
        # What is done at once by append and pop needs no lock.
        self._warm: list[tuple[float, Connection]] = []
        super().reset()

    def after_fork(self) -> None:
        """Use nothing that is the parent's."""
        self.reset()

    def get_connection(self, *args: Any, **kwargs: Any) -> Connection:
        """Return a connection that is ready for a command."""
        try:
            released, connection = self._warm.pop()
        except IndexError:
            return super().get_connection(*args, **kwargs)
        if time.monotonic() - released < _RESTED:
            return connection
        super().release(connection)
        return super().get_connection(*args, **kwargs)

    def keep(self, connection: Any) -> None:
        """Take a connection back that is good for the next one as it is.

        Whoever uses redis-py's own `release` does not say so of it.
        """
        # redis-py says it by a name of its own from version 8 on only.
        if connection._sock is None or not self.owns_connection(connection):
            self.release(connection)
            return
        self._warm.append((time.monotonic(), connection))
        self._end()

    def release(self, connection: Any) -> None:
        """Take a connection back; if it broke, all others are looked at again."""
        super().release(connection)
        if connection._sock is None:
            self._cool()
        self._end()

    def disconnect(self, inuse_connections: bool = True) -> None:
        """Close all connections, and those that are used yet when they come back."""
        self._is_closed = True
        self._cool()
        super().disconnect(inuse_connections)

    def _end(self) -> None:
        """Once the pool is closed, leave nothing open that was given back late."""
        if self._is_closed:
            self.disconnect(inuse_connections=False)

    def _cool(self) -> None:
        while self._warm:
            with suppress(IndexError):
                super().release(self._warm.pop()[1])
