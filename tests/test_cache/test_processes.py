"""content among processes: one fetch for each version, whoever is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import ConnectorKit, DeadlineExceeded
from connectorkit.clock import SYSTEM_CLOCK
from connectorkit.testing import FaultProxy, Stall
from connectorkit_cache.locks import let_go, take
from contracts.places import settings_for
from test_cache.support import Shelves, entries

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.s3_places import Place
    from servers import MotoS3

SIZE = 50_000_000
# Imports what takes long, and forks the readers. Each tells its number, waits for a
# word, reads, and tells the digest of what it read.
READERS = """
import hashlib, json, os, sys
from connectorkit import ConnectorKit
import connectorkit_s3.filesystem, connectorkit_cache.contents
config, path, pipes = json.loads(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])

def read(words, answers):
    print(os.getpid(), file=answers, flush=True)
    with ConnectorKit(config) as kit:
        fs = kit.resolve("it").fs
        for line in words:
            data = fs.cat_file(path)
            print(hashlib.sha256(data).hexdigest(), file=answers, flush=True)

def others(words, answers):
    return {fd for pair in pipes for fd in pair} - {words, answers}

for words, answers in pipes:
    if os.fork() == 0:
        for fd in others(words, answers):
            os.close(fd)
        with os.fdopen(words) as into, os.fdopen(answers, "w") as out:
            read(into, out)
        os._exit(0)
"""


class Reader:
    """A process that reads one object whenever it is told to."""

    def __init__(self) -> None:
        self.words, words = os.pipe()
        answers, self.answers = os.pipe()
        self._in, self._out = os.fdopen(words, "w"), os.fdopen(answers)

    def begin(self) -> None:
        """Let it read."""
        self._in.write("read\n")
        self._in.flush()

    def line(self) -> str:
        """Return what it says next: its number, or the digest of what it has read."""
        return self._out.readline().strip()

    def close(self) -> None:
        """End it."""
        self._in.close()
        assert self._out.read() == ""
        self._out.close()


def readers_of(config: dict[str, Any], path: str, count: int) -> list[Reader]:
    """Start processes that read an object."""
    readers = [Reader() for _ in range(count)]
    pipes = [(it.words, it.answers) for it in readers]
    command = [sys.executable, "-c", READERS, json.dumps(config), path]
    descriptors = [it for pair in pipes for it in pair]
    subprocess.run([*command, json.dumps(pipes)], pass_fds=descriptors, check=True)
    for descriptor in descriptors:
        os.close(descriptor)
    return readers


@pytest.fixture
def proxy(moto_s3: MotoS3) -> Iterator[FaultProxy]:
    """A way to a server that keeps to conditions, which counts."""
    with FaultProxy(moto_s3.endpoint_url) as proxy:
        yield proxy


def config_of(server: MotoS3, proxy: FaultProxy, directory: Path) -> dict[str, Any]:
    """Return the configuration of a connector with a cache."""
    settings = {**settings_for("s3", server), "endpoint_url": proxy.url}
    return {
        "connectors": {"it": {"type": "s3", "settings": settings}},
        "policies": {
            "enabled": ["content", "retry"],
            "content": {"directory": str(directory)},
        },
    }


def test_eight_processes_read_while_one_writes_and_one_is_killed(
    moto_s3: MotoS3, proxy: FaultProxy, tmp_path: Path
) -> None:
    """One whole GET for each version, and each reader has one version's bytes.

    The one that is killed while it fills the entry leaves a GET that came to nothing.
    """
    config = config_of(moto_s3, proxy, tmp_path / "cache")
    path = f"{moto_s3.bucket()}/big"
    versions = [hashlib.shake_256(b"%d" % n).digest(SIZE) for n in range(2)]
    digests = [hashlib.sha256(it).hexdigest() for it in versions]
    settings = settings_for("s3", moto_s3)
    behind = {"it": {"type": "s3", "settings": settings, "policies": []}}
    with ConnectorKit({"connectors": behind}) as kit:
        writer = kit.resolve("it").fs
        writer.pipe_file(path, versions[0])
        first, *rest = readers_of(config, path, 8)
        killed_one, *_ = [int(it.line()) for it in (first, *rest)]
        # The first one fills, and is held up in the middle of it.
        proxy.inject(Stall(at=0.5), when="get_object")
        first.begin()
        proxy.wait_stalled(timeout=30)
        for reader in rest:
            reader.begin()
        _until(lambda: proxy.count("head_object") >= 8)
        assert proxy.count("get_object") == 1
        os.kill(killed_one, signal.SIGKILL)
        first.close()
        # While the next one fetches, the object is overwritten.
        _until(lambda: proxy.count("get_object") >= 2)
        writer.pipe_file(path, versions[1])
        found = [reader.line() for reader in rest]
        assert {*found} <= {*digests}
        for reader in rest:
            reader.begin()
        assert [reader.line() for reader in rest] == [digests[1]] * 7
        for reader in rest:
            reader.close()
        proxy.release()
    gets = [it for it in proxy.log if it.operation == "get_object"]
    # The one that came to nothing, and one for each version that somebody has read.
    killed, *others = gets
    assert killed.sent < SIZE
    whole = [it for it in others if it.status == HTTPStatus.OK]
    assert len(whole) == len({digests[1], *found})
    assert not [it for it in entries(tmp_path / "cache") if it.suffix == ".part"]


def _until(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_lock_is_free_when_its_holder_is_killed(tmp_path: Path) -> None:
    """At once, also if the holder had forked a child that lives on."""
    part = tmp_path / "x.part"
    holder = os.fork()
    if holder == 0:
        take(part, 1)
        child = os.fork()
        if child == 0:
            time.sleep(30)
            os._exit(0)
        (tmp_path / "child").write_text(str(child))
        (tmp_path / "child").rename(tmp_path / "ready")
        time.sleep(30)
        os._exit(0)
    _until((tmp_path / "ready").exists)
    child = int((tmp_path / "ready").read_text())
    try:
        assert take(part, 0.05) is None
        os.kill(holder, signal.SIGKILL)
        os.waitpid(holder, 0)
        begin = time.monotonic()
        descriptor = take(part, 5)
        assert descriptor is not None
        assert time.monotonic() - begin < 1
        let_go(descriptor)
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("cache", ["hot", "content"])
def test_nobody_is_waited_for_beyond_the_deadline(tmp_path: Path, cache: str) -> None:
    """Whoever fetches has time of its own; a call ends when its time is up."""
    tables: dict[str, Any] = {
        "deadline": {"seconds": 0.3},
        "content": {"directory": str(tmp_path)},
    }
    with Shelves(cache, "deadline", clock=SYSTEM_CLOCK, **tables) as shelves:
        shelf = shelves.shelf({"k": b"content"})
        fs = shelves.fs()
        begun, go = threading.Event(), threading.Event()
        cut = shelf.cut

        def slowly(*args: Any) -> bytes:
            begun.set()
            go.wait(30)
            data: bytes = cut(*args)
            return data

        shelf.cut = slowly
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(fs.cat_file, "k")
            assert begun.wait(10)
            with pytest.raises(DeadlineExceeded):
                fs.cat_file("k")
            assert not first.done()
            go.set()


def test_another_process_is_not_waited_for_beyond_the_deadline(tmp_path: Path) -> None:
    """However patient, and however well the other one gets on."""
    part = tmp_path / "x.part"
    holder = take(part, 1)
    assert holder is not None
    begin = time.monotonic()
    assert take(part, 30, left=0.1) is None
    assert time.monotonic() - begin < 5
    let_go(holder)


def test_a_part_is_never_taken_for_an_entry(
    s3: Place, key: str, tmp_path: Path
) -> None:
    """What a killed process has left is begun anew."""
    s3.put(key, b"content" * 1000)
    content = {"directory": str(tmp_path / "cache")}
    policies = {"enabled": ["content"], "content": content}
    with s3.kit_with(policies=policies) as kit:
        fs = kit.resolve("it").fs
        fs.cat_file(s3.path(key))
        [entry] = entries(tmp_path / "cache")
        whole = entry.read_bytes()
        part = entry.with_name(f"{entry.name}.part")
        for left in (b"", whole[:100], whole[:-1], whole, b"x" * 100_000):
            entry.unlink(missing_ok=True)
            part.write_bytes(left)
            assert fs.cat_file(s3.path(key)) == b"content" * 1000
            assert not part.exists()


def test_one_that_does_not_get_on_is_not_waited_for(
    s3: Place, key: str, tmp_path: Path
) -> None:
    """Whoever holds an entry's lock and is stopped holds nobody up for long."""
    s3.put(key, b"content")
    content = {"directory": str(tmp_path / "cache"), "patience": 0.2}
    policies = {"enabled": ["content"], "content": content}
    with s3.kit_with(policies=policies) as kit:
        fs = kit.resolve("it").fs
        fs.cat_file(s3.path(key))
        [entry] = entries(tmp_path / "cache")
        entry.unlink()
        descriptor = take(entry.with_name(f"{entry.name}.part"), 1)
        assert descriptor is not None
        try:
            assert fs.cat_file(s3.path(key)) == b"content"
        finally:
            let_go(descriptor)


def test_forked_children_share_it(s3: Place, key: str, tmp_path: Path) -> None:
    """A child that is forked while its parent uses the cache reads by it as well."""
    s3.put(key, b"content")
    content = {"directory": str(tmp_path / "cache")}
    policies = {"enabled": ["hot", "content", "listings"], "content": content}
    with s3.kit_with(policies=policies) as kit:
        connector = kit.resolve("it")
        assert connector.fs.cat_file(s3.path(key)) == b"content"
        stop = threading.Event()

        def busy() -> None:
            while not stop.is_set():
                connector.fs.cat_file(s3.path(key))

        thread = threading.Thread(target=busy)
        thread.start()
        try:
            children = [_child(connector, s3.path(key)) for _ in range(4)]
        finally:
            stop.set()
            thread.join()
        assert [os.waitstatus_to_exitcode(os.waitpid(it, 0)[1]) for it in children] == [
            0
        ] * 4
        assert s3.asked()["get_object"] == 1


def _child(connector: Any, path: str) -> int:
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = int(connector.fs.cat_file(path) != b"content")
        finally:
            os._exit(status)
    return child
