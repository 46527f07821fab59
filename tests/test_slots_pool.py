"""Connections to Redis: ready while there is much to do, looked at after a rest."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis

from connectorkit_slots import pool as pools
from connectorkit_slots.pool import WarmPool
from slotting import Bench, benches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RedisServer


@pytest.fixture
def bench(redis_server: RedisServer) -> Iterator[Bench]:
    """Run on a Redis."""
    yield from benches(redis_server)


@pytest.fixture
def pool(bench: Bench) -> Iterator[Any]:
    """Make a pool for it."""
    pool = WarmPool.from_url(bench.server.endpoint_url, protocol=2)
    yield pool
    pool.disconnect()


def _used(pool: Any) -> Any:
    connection = pool.get_connection()
    give_back = pool.release
    try:
        connection.send_command("CLIENT", "ID")
        number = connection.read_response()
        give_back = pool.keep
        return number
    finally:
        give_back(connection)


def test_it_goes_from_hand_to_hand(pool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was used a moment ago is used again, without a look at it."""
    monkeypatch.setattr(pools, "_RESTED", 60)
    first = pool.get_connection()
    first.connect()
    looks: list[float] = []
    monkeypatch.setattr(type(first), "can_read", lambda *_: looks.append(0))
    pool.keep(first)
    numbers = {_used(pool) for _ in range(9)}
    assert len(numbers) == 1
    assert looks == []


def test_what_broke_while_it_rested_is_found(
    bench: Bench, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Redis may have closed it: the next command goes by another one."""
    monkeypatch.setattr(pools, "_RESTED", 0)
    number = _used(pool)
    bench.redis.client_kill_filter(_id=number)
    assert _used(pool) != number


def test_one_that_broke_has_all_looked_at(
    bench: Bench, pool: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others broke as well, perhaps, and no second command shall fail by that."""
    monkeypatch.setattr(pools, "_RESTED", 60)
    both = [pool.get_connection() for _ in range(2)]
    for each in both:
        each.send_command("CLIENT", "ID")
        bench.redis.client_kill_filter(_id=each.read_response())
        pool.keep(each)
    with pytest.raises(redis.exceptions.ConnectionError):
        _used(pool)
    assert _used(pool)


def test_what_comes_back_late_is_closed(bench: Bench, pool: Any) -> None:
    """A slot may be given back after its limiter was closed."""
    early = pool.get_connection()
    pool.disconnect(inuse_connections=False)
    early.send_command("CLIENT", "ID")
    numbers = {early.read_response()}
    pool.keep(early)
    numbers.add(_used(pool))
    late = pool.get_connection()
    late.connect()
    pool.release(late)
    assert (early._sock, late._sock) == (None, None)
    left = {int(each["id"]) for each in bench.redis.client_list()}
    assert not left & numbers


def test_threads_share_as_many_as_they_need(bench: Bench, pool: Any) -> None:
    """Never one for two commands at once, and none is lost."""
    numbers: list[set[Any]] = [set() for _ in range(8)]

    def run(mine: set[Any]) -> None:
        for _ in range(50):
            mine.add(_used(pool))

    threads = [threading.Thread(target=run, args=(mine,)) for mine in numbers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(set().union(*numbers)) <= 8
    pool.disconnect()
    left = {int(each["id"]) for each in bench.redis.client_list()}
    assert not left & set().union(*numbers)
