"""Celery: a real worker whose forked children resolve IDs, on a real Redis."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from reaching import MINE, SYSTEM, Reach
from servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers import RcloneS3

TASKS, CHILDREN, BYTES = 200, 2, 10_000


@pytest.fixture(scope="module")
def reach(
    rclone_s3: RcloneS3, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Reach]:
    """Reach a server by a configuration, which the worker finds as well."""
    with Reach(rclone_s3, tmp_path_factory.mktemp("celery")) as reach:
        reach.kit.resolve(MINE).fs.pipe_file(f"{reach.bucket}/in", b"x" * BYTES)
        yield reach


@pytest.fixture(scope="module")
def tasks(reach: Reach) -> Iterator[Any]:
    """Run a worker; give its tasks, to send."""
    with RedisServer() as redis, pytest.MonkeyPatch.context() as patch:
        patch.setenv("TASKS_BROKER", f"{redis.endpoint_url}/0")
        patch.setenv("TASKS_INPUT", f"{reach.bucket}/in")
        here = str(Path(__file__).parent)
        command = (
            *(sys.executable, "-m", "celery", "--app", "celery_tasks", "worker"),
            *("--pool", "prefork", "--concurrency", str(CHILDREN)),
            *("--loglevel", "WARNING", "--without-gossip", "--without-mingle"),
        )
        worker = subprocess.Popen(
            command,
            env=reach.environment | {"PYTHONPATH": here},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        tasks = importlib.import_module("celery_tasks")
        try:
            yield tasks
        finally:
            tasks.app.close()
            tasks.kit.close()
            worker.terminate()
            output, _ = worker.communicate(timeout=30)
            sys.modules.pop("celery_tasks", None)
            assert worker.returncode == 0, output.decode()


def test_two_hundred_tasks(tasks: Any, reach: Reach) -> None:
    """Each resolves a store of the platform's and a connector; a child has one of each.

    The worker has used both before it forked: no child hangs, and none uses what it
    inherited.
    """
    sent = [
        tasks.run.delay(f"{reach.bucket}/in", f"{reach.bucket}/out/{number}")
        for number in range(TASKS)
    ]
    done = [each.get(timeout=60) for each in sent]
    children = {pid for pid, *_ in done}
    assert len(children) == CHILDREN
    assert {size for _, size, *_ in done} == {BYTES}
    for child in children:
        for its in (2, 3):
            assert len({each[its] for each in done if each[0] == child}) == 1
    written = reach.kit.resolve(SYSTEM).fs.du(f"{reach.bucket}/out", total=False)
    assert list(written.values()) == [BYTES] * TASKS


def test_unknown_id(tasks: Any) -> None:
    """A task that asks for an ID that nobody knows fails by that error's name."""
    with pytest.raises(Exception, match="nope") as error:
        tasks.ask.delay("nope").get(timeout=60)
    assert type(error.value).__name__ == "UnknownConnector"
