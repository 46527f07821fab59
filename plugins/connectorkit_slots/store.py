"""Redis, by redis-py: runs scripts, and tells whether Redis is away."""

from __future__ import annotations

import asyncio
import re
import threading
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from connectorkit import MissingExtra
from connectorkit.fork import importing, renew_in_child
from connectorkit_slots.convoy import Convoy
from connectorkit_slots.packing import packed, packed_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from connectorkit_slots.verbs import Ask

__all__ = ["AsyncStore", "Away", "Store", "client_of", "is_refusal", "redis_py"]

T = TypeVar("T")

_EXHAUSTED: Final = "No connection available."
_UNREACHABLE: Final = "Redis Cluster cannot be connected"
# What a script runs into, as versions before 7 tell it.
_WITHIN: Final = re.compile(r"-(READONLY|CLUSTERDOWN|MASTERDOWN|TRYAGAIN)\b|^BUSY ")


class Away(Exception):
    """Redis cannot be asked now; the client's error is its cause."""


def redis_py() -> Any:
    """Return the module.

    Raises:
        MissingExtra: It is not installed.
    """
    try:
        with importing():
            import redis.asyncio
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"Slots need {error.name}: pip install 'connectorkit[redis]'."
        ) from error
    return redis


def is_away(error: Exception) -> bool:
    """Tell whether an error says that Redis cannot be asked now.

    That is: no connection, no answer in time, or a node that says of itself that it
    does not serve now: it loads, is a replica since a failover, or its cluster is down.
    Wrong credentials, a full pool of connections, a full memory and wrong commands do
    not pass by waiting, and are errors of their own.
    """
    found = redis_py().exceptions
    if isinstance(
        error,
        (
            found.AuthenticationError,
            found.AuthorizationError,
            found.MaxConnectionsError,
        ),
    ):
        return False
    if isinstance(error, found.ConnectionError):
        return str(error) != _EXHAUSTED
    if type(error) is found.ResponseError:
        return _WITHIN.search(str(error)) is not None
    if isinstance(error, found.RedisClusterException):
        is_uncovered = isinstance(error, found.SlotNotCoveredError)
        return is_uncovered or str(error).startswith(_UNREACHABLE)
    passing = (
        found.TimeoutError,
        found.ReadOnlyError,
        found.ClusterDownError,
        found.TryAgainError,
    )
    return isinstance(error, passing)


def client_of(
    url: str, budget: float, *, is_cluster: bool, is_async: bool = False
) -> Any:
    """Return a client that waits for no longer, and does not try again.

    It connects when it is first asked.

    Raises:
        MissingExtra: redis-py is not installed.
        ValueError: The URL cannot be read.
    """
    redis = redis_py()
    from connectorkit_slots.pool import WarmPool

    module = redis.asyncio if is_async else redis
    options = {
        "socket_timeout": budget,
        "socket_connect_timeout": budget,
        # Retries are the limiter's.
        "retry": module.retry.Retry(redis.backoff.NoBackoff(), 0),
        # With the newer protocol redis-py does not see that a connection was closed.
        "protocol": 2,
        # Threads that ask at once are no reason to refuse any of them.
        "max_connections": 2**31,
    }
    try:
        if is_cluster and not is_async:
            return LateCluster(url, options)
        if is_cluster:
            return module.RedisCluster.from_url(url, **options)
        pool = (module.ConnectionPool if is_async else WarmPool).from_url(
            url, **options
        )
        # Options that it does not know it would refuse when they are used only.
        pool.connection_class(**pool.connection_kwargs)
        return module.Redis.from_pool(pool)
    except (TypeError, ValueError):
        # Its text may hold a part of the URL, such as the password.
        raise ValueError(
            "The URL of Redis cannot be read: it has to be redis://, rediss:// or "
            "unix://, with a password that is quoted as in all URLs, and no options "
            "but redis-py's."
        ) from None


class LateCluster:
    """A client of a cluster, which redis-py would look for when it is made.

    Raises:
        ValueError: The URL cannot be read.
    """

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        redis_py().connection.parse_url(url)
        self._make = partial(redis_py().RedisCluster.from_url, url, **options)
        self._made: Any = None
        self.after_fork()
        renew_in_child(self)

    def after_fork(self) -> None:
        """Take a new lock: a thread of the parent may have held the old one."""
        self._lock = threading.Lock()

    def client(self) -> Any:
        """Return the client; what says that no node can be reached is redis-py's."""
        with self._lock:
            if self._made is None:
                self._made = self._make()
            return self._made

    def close(self) -> None:
        """Close it."""
        with self._lock:
            made, self._made = self._made, None
        if made is not None:
            made.close()


def is_refusal(error: BaseException) -> bool:
    """Tell whether Redis has said no, or was not asked: nothing was given."""
    return isinstance(error, redis_py().exceptions.RedisError)


class Store:
    """A client for threads."""

    def __init__(self, client: Any) -> None:
        redis = redis_py()
        self._client = client
        self.is_cluster = isinstance(client, redis.RedisCluster | LateCluster)
        timeout = 0.0 if self.is_cluster else _timeout_of(client)
        if timeout is None:
            raise ValueError(
                "The client of Redis has no socket_timeout: a Redis that hangs would "
                "keep the slots of this process from being renewed. Give it one, of a "
                "tenth of a second, say."
            )
        self._no_script = redis.exceptions.NoScriptError
        self._refusal = redis.exceptions.ResponseError
        self._broken = redis.exceptions.ConnectionError
        # Whose slots are renewed in one round trip; in memory only.
        self.address: object = self
        if not self.is_cluster:
            pool = client.connection_pool
            self._keep = getattr(pool, "keep", pool.release)
            patience = 2 * timeout + 1.0
            self._convoy = Convoy(
                self._exchange, patience, redis.exceptions.RedisError, self._broken
            )
            self.address = _address(pool) or self

    @property
    def client(self) -> Any:
        """The client; to ask for it may look for a cluster."""
        late = self._client
        return late.client() if isinstance(late, LateCluster) else late

    def run(self, ask: Ask) -> Any:
        """Run a script.

        Raises:
            Away: Redis cannot be asked now.
        """
        script, keys, args = ask
        # Not by `_or_away`: a generator's start and end are much beside all else here.
        try:
            try:
                if self.is_cluster:
                    return self.client.evalsha(script.sha, len(keys), *keys, *args)
                return self._sent(packed(ask))
            except self._no_script:
                if self.is_cluster:
                    return self.client.eval(script.text, len(keys), *keys, *args)
                words = ("EVAL", script.text, len(keys), *keys, *args)
                return self._sent(packed_words(words))
        except Exception as error:
            if is_away(error):
                raise Away from error
            raise

    def _sent(self, command: bytes) -> Any:
        """Send a command as the client would, who takes half as long again for it."""
        answer = self._again(self._convoy.ask, command)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _again(self, send: Callable[[T], Any], what: T) -> Any:
        """Send on another connection what found its own one broken.

        Redis has closed it, perhaps long ago, and one connection is not all of it. Each
        script may be asked for twice, as its token says for what.
        """
        try:
            return send(what)
        except self._broken as error:
            if not is_away(error):
                raise
            return send(what)

    def _exchange(self, commands: Sequence[bytes]) -> list[Any]:
        pool = self.client.connection_pool
        connection = pool.get_connection()
        is_whole = False
        try:
            connection.send_packed_command((b"".join(commands),))
            answers = [self._read(connection) for _ in commands]
            is_whole = True
            return answers
        finally:
            if is_whole:
                self._keep(connection)
            else:
                # Who was interrupted here leaves no answer to the next one.
                connection.disconnect()
                pool.release(connection)

    def _read(self, connection: Any) -> Any:
        """Return an answer, or the error that Redis has answered with."""
        try:
            return connection.read_response()
        except self._refusal as error:
            return error

    def run_all(self, asks: Sequence[Ask]) -> list[Any]:
        """Run scripts in one round trip; what one of them raised is its answer.

        On a cluster it is one for each.

        Raises:
            Away: Redis cannot be asked now.
        """
        if self.is_cluster or len(asks) == 1:
            return [self._answer(ask) for ask in asks]
        # Not by redis-py's pipelines, which leave their answers behind if they are
        # interrupted.
        with _or_away():
            answers = self._again(self._exchange, [packed(ask) for ask in asks])
        return [
            self._answer(ask) if isinstance(answer, self._no_script) else answer
            for ask, answer in zip(asks, answers, strict=True)
        ]

    def _answer(self, ask: Ask) -> Any:
        try:
            return self.run(ask)
        except Away:
            raise
        except Exception as error:  # noqa: BLE001 - of this one script
            return error

    def command(self, *words: str | int) -> Any:
        """Run a command.

        Raises:
            Away: Redis cannot be asked now.
        """
        with _or_away():
            if self.is_cluster:
                return self.client.execute_command(*words)
            return self._sent(packed_words(words))


class AsyncStore:
    """A client for an event loop."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._no_script = redis_py().exceptions.NoScriptError

    async def run(self, ask: Ask) -> Any:
        """Run a script.

        Raises:
            Away: Redis cannot be asked now.
        """
        script, keys, args = ask
        client = self.client
        with _or_away(), _cancellable():
            try:
                return await client.evalsha(script.sha, len(keys), *keys, *args)
            except self._no_script:
                return await client.eval(script.text, len(keys), *keys, *args)

    async def command(self, *words: str | int) -> Any:
        """Run a command.

        Raises:
            Away: Redis cannot be asked now.
        """
        with _or_away(), _cancellable():
            return await self.client.execute_command(*words)


@contextmanager
def _or_away() -> Iterator[None]:
    """Turn what says that Redis is away into `Away`."""
    try:
        yield
    except Exception as error:
        if is_away(error):
            raise Away from error
        raise


@contextmanager
def _cancellable() -> Iterator[None]:
    """Raise a cancellation that redis-py has swallowed, as it may while it connects."""
    task = asyncio.current_task()
    before = task.cancelling() if task else 0
    yield
    if task and task.cancelling() > before:
        raise asyncio.CancelledError


def _timeout_of(client: Any) -> float | None:
    """Return for how many seconds a client waits for an answer; None for ever."""
    pool = client.connection_pool
    # What stands in neither is redis-py's affair, by its version.
    connection = pool.connection_class(**pool.connection_kwargs)
    timeout: float | None = connection.socket_timeout
    return timeout


def _address(pool: Any) -> object:
    """Return where a pool of ours leads, and how; None for what the host has made."""
    from connectorkit_slots.pool import WarmPool

    if not isinstance(pool, WarmPool):
        return None
    its = pool.connection_kwargs
    of_host = {
        name: each for name, each in its.items() if isinstance(each, str | int | float)
    }
    return pool.connection_class, frozenset(of_host.items())
