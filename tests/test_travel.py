"""What travels: connectors, filesystems and files, to other processes and by forks."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import cloudpickle
import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from connectorkit import (
    ConnectorKit,
    ConnectorType,
    NotPicklable,
    ObjectChanged,
    Settings,
    UnknownConnector,
    hookimpl,
    set_default_kit,
)
from connectorkit.protocol.filesystem import ConnectorFileSystem
from connectorkit.testing import Status, memory_kit
from contracts.places import sockets_to
from reaching import MINE, SYSTEM, Reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers import GcsEmulator, RcloneS3

CONTENT = bytes(range(256)) * 1000


@pytest.fixture(scope="module")
def shared(
    rclone_s3: RcloneS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reach]:
    """Reach a server by a configuration that all tests share."""
    with Reach(rclone_s3, tmp_path_factory.mktemp("travel")) as reach:
        yield reach


@pytest.fixture
def reach(shared: Reach) -> Reach:
    """Without faults, and with an object to read."""
    shared.quiet()
    with fsspec.open(shared.url("there"), "wb") as file:
        file.write(CONTENT)
    shared.quiet()
    return shared


def travellers(reach: Reach) -> dict[str, Any]:
    """Return all that may be pickled."""
    fs = ConnectorFileSystem()
    fs.pipe_file("files/there", CONTENT)
    fs.pipe_file("notes/there", CONTENT)
    found: dict[str, Any] = {"connector://": fs}
    for name in (MINE, SYSTEM, "files", "notes"):
        connector = reach.kit.resolve(name)
        found |= {name: connector, f"fs of {name}": connector.fs}
    for path in (reach.path("there"), "files/there", "notes/there"):
        found[f"file {path}"] = fs.open(path)
    found["OpenFile"] = fsspec.open(reach.url("there"))
    found["config"] = fsspec.filesystem("connector", config=reach.config)
    return found


class TestPickle:
    """A pickle holds an ID and where its configuration is."""

    @pytest.mark.parametrize("dumps", [pickle.dumps, cloudpickle.dumps])
    def test_no_secret_is_in_it(
        self, reach: Reach, dumps: Callable[[Any], bytes]
    ) -> None:
        """Of whatever is pickled, and it is what it was where it lands."""
        for name, each in travellers(reach).items():
            data = dumps(each)
            assert not reach.has_secret(data), name
            again = pickle.loads(data)  # noqa: S301 - made here
            assert type(again) is type(each)
            if name.startswith("file "):
                assert again.read() == CONTENT
                assert (again.path, again.fs) == (each.path, each.fs)
                again.close()
                each.close()

    def test_file_goes_on_where_it_was(self, reach: Reach) -> None:
        """At its place, in its version, under its policies."""
        fs = ConnectorFileSystem()
        with fs.open(reach.path("there"), block_size=1000, cache_type="none") as file:
            file.read(100)
            again = pickle.loads(pickle.dumps(file))  # noqa: S301 - made here
            reach.proxy.inject(Status(500), when="get_object", times=1)
            assert again.read(100) == CONTENT[100:200]
            assert reach.asked()["get_object"] >= 2 + 1
            fs.pipe_file(reach.path("there"), CONTENT[::-1])
            with pytest.raises(ObjectChanged):
                again.read(100)

    def test_writer_stays(self, reach: Reach) -> None:
        """A file that is written does not travel."""
        file = ConnectorFileSystem().open(reach.path("new"), "wb")
        with pytest.raises((RuntimeError, TypeError)):
            pickle.dumps(file)
        file.abort()

    def test_memory_alone_refuses(self) -> None:
        """What nobody could resolve elsewhere says how to configure it."""
        with memory_kit("notes") as kit, set_default_kit(kit):
            fs = ConnectorFileSystem()
            fs.pipe_file("notes/x", b"1")
            connector = kit.resolve("notes")
            adhoc = kit.resolve("memory", settings={})
            for each in (
                fs,
                connector,
                connector.fs,
                adhoc,
                adhoc.fs,
                fs.open("notes/x"),
            ):
                with pytest.raises(NotPicklable, match=r"connectorkit\.toml"):
                    pickle.dumps(each)

    def test_bare_filesystem_of_a_plugin(self) -> None:
        """Without policies, too, arguments are not written into a pickle, nor JSON."""

        class Box(ConnectorType[Settings]):
            id = title = "box"
            Settings = Settings

            def open(self, settings: Any, **options: Any) -> Any:
                return _Box("s3cret", **options)

        class Plugin:
            @hookimpl
            def connectorkit_connectors(self) -> list[Any]:
                return [Box]

        table = {"box": {"type": "box", "policies": []}}
        with ConnectorKit({"connectors": table}) as kit:
            kit.register(Plugin(), "box")
            fs = kit.resolve("box").fs
            assert type(fs) is _Box
            for spelt in (pickle.dumps, cloudpickle.dumps, lambda it: it.to_json()):
                with pytest.raises(NotPicklable) as error:
                    spelt(fs)
                assert "s3cret" not in str(error.value)

    def test_json_of_the_protocol(self, reach: Reach) -> None:
        """The connector:// filesystem may be written as JSON: it has no secret."""
        fs = ConnectorFileSystem(str(reach.config))
        text = fs.to_json()
        assert not reach.has_secret(text)
        assert fsspec.AbstractFileSystem.from_json(text).config == fs.config


class _Box(MemoryFileSystem):  # type: ignore[misc]
    cachable = False

    def __init__(self, password: str, **options: Any) -> None:
        super().__init__(**options)


def _in_another(fs: Any, path: str) -> bytes:
    fs.pipe_file(f"{path}-{os.getpid()}", b"written elsewhere")
    data: bytes = fs.cat_file(path)
    return data


def _asks(connector_id: str) -> bool:
    return bool(ConnectorFileSystem().exists(f"{connector_id}/x"))


class TestProcesses:
    """Workers of all kinds."""

    @pytest.mark.parametrize("method", ["spawn", "fork"])
    def test_pool_of_processes(self, reach: Reach, method: str) -> None:
        """Spawned or forked, a worker gets a filesystem and resolves it."""
        context = multiprocessing.get_context(method)
        fs = ConnectorFileSystem()
        with ProcessPoolExecutor(2, mp_context=context) as pool:
            inner = pool.submit(
                _in_another, reach.kit.resolve(MINE).fs, f"{reach.bucket}/there"
            )
            outer = pool.submit(_in_another, fs, reach.path("there"))
            assert inner.result(60) == outer.result(60) == CONTENT
            with pytest.raises(UnknownConnector, match="nope"):
                pool.submit(_asks, "nope").result(60)
        found = fs.glob(reach.path("there-*"))
        assert {*fs.cat(found).values()} == {b"written elsewhere"}

    def test_threads(self, reach: Reach) -> None:
        """Threads share one filesystem beneath, and its connections."""
        fs = ConnectorFileSystem()

        def work(number: int) -> bytes:
            ConnectorFileSystem().pipe_file(reach.path(f"t{number}"), b"%d" % number)
            data: bytes = fsspec.open(reach.url(f"t{number}")).open().read()
            return data

        with ThreadPoolExecutor(8) as threads:
            assert [*threads.map(work, range(32))] == [b"%d" % n for n in range(32)]
        assert fs.place(MINE).fs is reach.kit.resolve(MINE).fs

    def test_host_with_a_loop(self, reach: Reach) -> None:
        """On a loop of the host's, tools run in its threads, connectors on the loop."""

        async def host() -> tuple[bytes, bytes]:
            path = reach.path("there")
            async with ConnectorKit(reach.config) as kit:
                fs = kit.resolve(MINE).async_fs()
                own = await fs._cat_file(f"{reach.bucket}/there")
                return own, await asyncio.to_thread(
                    ConnectorFileSystem().cat_file, path
                )

        assert asyncio.run(host()) == (CONTENT, CONTENT)


_FORKS = """
import os, sys, fsspec
from connectorkit import ConnectorKit, set_default_kit

kit = ConnectorKit()
set_default_kit(kit)
fs = fsspec.filesystem("connector")
places = sys.argv[1:]
for place in places:
    fs.pipe_file(f"{place}/parent", b"parent")
    assert fs.cat_file(f"{place}/parent") == b"parent"
half = {place: fs.open(f"{place}/half", "wb") for place in places}
for file in half.values():
    file.write(b"half")

def child(number):
    for place in places:
        fs.pipe_file(f"{place}/{number}", b"child")
        assert fs.cat_file(f"{place}/{number}") == b"child"
        assert fs.cat_file(f"{place}/parent") == b"parent"
        with fsspec.open(f"connector://{place}/open-{number}", "wb") as file:
            file.write(b"child")
        assert fs.ls(place)

children = []
for number in range(8):
    pid = os.fork()
    if not pid:
        code = 1
        try:
            child(number)
            code = 0
        finally:
            os._exit(code)
    children.append(pid)
print([os.waitpid(each, 0)[1] for each in children])
for place, file in half.items():
    file.write(b" whole")
    file.close()
    assert fs.cat_file(f"{place}/half") == b"half whole"
    assert len(fs.find(place)) == 2 + 8 * 2, fs.find(place)
kit.close()
"""


def _told(script: str) -> tuple[str, str]:
    """Run a script, and return what it printed, by either way."""
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return done.stdout, done.stderr


class TestForks:
    """Prefork workers: the parent has used its connectors before."""

    def test_eight_children_of_a_parent_that_used_all(
        self,
        reach: Reach,
        gcs_emulator: GcsEmulator,
        gcs_bucket: str,
        tmp_path: Path,
    ) -> None:
        """They read and write on S3 and GCS, none hangs, and the parent goes on."""
        config = tmp_path / "connectorkit.toml"
        config.write_text(
            reach.config.read_text()
            + dedent(f"""
            [connectors.gcs]
            type = "gcs"
            settings = {{ token = "anon", project_id = "{gcs_emulator.project}",
                         endpoint_url = "{gcs_emulator.endpoint_url}" }}
            """).replace(",\n", ",")
        )
        places = [reach.path("forks"), f"gcs/{gcs_bucket}"]
        done = subprocess.run(
            [sys.executable, "-W", "error::ResourceWarning", "-c", _FORKS, *places],
            env=reach.environment | {"CONNECTORKIT_CONFIG": str(config)},
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        assert (done.stdout, done.stderr) == (f"{[0] * 8}\n", "")

    def test_fork_while_the_default_kit_is_made(self) -> None:
        """A child forked while a thread makes the process's first kit has one, too."""
        script = """
            import faulthandler, os, sys, threading
            from connectorkit import default_kit

            threading.Thread(target=default_kit).start()
            ends = []
            for _ in range(10):
                pid = os.fork()
                if not pid:
                    faulthandler.dump_traceback_later(20, exit=True)
                    default_kit()
                    os._exit(0)
                ends.append(os.waitpid(pid, 0)[1])
            print(ends)
        """
        assert _told(script) == (f"{[0] * 10}\n", "")

    def test_fork_waits_for_an_import_that_logs(self) -> None:
        """It holds no lock of Python's meanwhile that the import needs to end."""
        script = """
            import os, threading
            from connectorkit.fork import importing
            import logging, concurrent.futures.thread

            begun, steps = threading.Event(), []

            def work():
                with importing():
                    begun.set()
                    while not waits.is_set():
                        pass
                    logging.getLogger("new")
                    steps.append("imported")

            waits = threading.Event()
            os.register_at_fork(before=waits.set)
            threading.Thread(target=work).start()
            begun.wait()
            pid = os.fork()
            if not pid:
                os._exit(steps != ["imported"])
            print(os.waitpid(pid, 0)[1])
        """
        assert _told(script) == ("0\n", "")

    def test_no_inherited_socket_is_used_or_shut_down(self, reach: Reach) -> None:
        """Each child connects anew; the parent's connections serve it as before."""
        fs = ConnectorFileSystem()
        fs.cat_file(reach.path("there"))
        port = int(reach.proxy.url.rpartition(":")[2])
        before = sockets_to(port)
        reach.quiet()
        children = []
        for _ in range(8):
            pid = os.fork()
            if not pid:
                code = 1
                with suppress(BaseException):
                    code = int(fs.cat_file(reach.path("there")) != CONTENT)
                os._exit(code)
            children.append(pid)
        assert [os.waitpid(each, 0)[1] for each in children] == [0] * 8
        theirs = {each.connection for each in reach.proxy.log}
        assert len(theirs) == 8
        assert sockets_to(port) == before
        reach.quiet()
        assert fs.cat_file(reach.path("there")) == CONTENT
        # By a connection that was there before theirs.
        assert {each.connection < min(theirs) for each in reach.proxy.log} == {True}
