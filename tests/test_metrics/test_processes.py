"""Processes: prefork workers share what they count, and a fork loses nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from test_metrics.support import matching, parsed

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

TESTS = Path(__file__).parents[1]
PROGRAM = Path(sys.executable).with_name("connectorkit")
WORKERS = 4
EACH = 25

# A master that has worked itself, and four workers that it forks.
PREFORK = """
import os, sys
from test_metrics.support import ERRORS, Meter

meter = Meter()
meter.run(name="in_master")
workers = []
for number in range({workers}):
    if (worker := os.fork()) == 0:
        states = "half_open", "forced_closed", "forced_open", "forced_closed"
        meter.put(states[number])
        for _ in range({each}):
            meter.run(seconds=0.3, attempts=2)
        for error in ERRORS.values():
            meter.run(error, name=f"worker_{{number}}")
        # As a worker that is killed: nothing is done at its exit.
        os._exit(0)
    workers.append(worker)
print(*workers)
sys.exit(max(os.waitpid(worker, 0)[1] for worker in workers))
"""

# A thread counts and asks all the time, while others are forked.
FORKING = """
import os, sys, threading
from connectorkit import Kind, Pipeline
from test_metrics.support import Meter

meter = Meter()
meter.policy._most = 3
pipeline = Pipeline([meter.policy], meter.scope())
done = threading.Event()

def work():
    while not done.is_set():
        op = pipeline.operation("get_object", Kind.READ)
        pipeline.run(op, lambda _op: None)
        meter.samples()

thread = threading.Thread(target=work)
thread.start()
for _ in range({children}):
    if (child := os.fork()) == 0:
        meter.run(name="in_child")
        total = meter.value("connectorkit_operations_total")
        build = meter.value("connectorkit_build_info")
        os._exit(0 if (total, build) == (1, 1) else 1)
    if os.waitpid(child, 0)[1]:
        done.set()
        sys.exit("a child did not count as it should")
done.set()
thread.join()
"""


# A child that does nothing, while its parent stops serving.
SERVING = """
import os, socket
from connectorkit_metrics import start_metrics_server

begin, end = os.pipe()
server = start_metrics_server(0)
if (child := os.fork()) == 0:
    os.close(end)
    os.read(begin, 1)
    os._exit(0)
server.close()
with start_metrics_server(server.port):
    socket.create_connection((server.addr, server.port)).close()
os.close(end)
os.waitpid(child, 0)
"""


def run(script: str, **variables: str) -> str:
    """Run a script as a program of its own; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(TESTS), **variables},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def scrape(directory: Path) -> list[Sample]:
    """Return what `connectorkit metrics serve` exports of a directory."""
    with subprocess.Popen(
        [PROGRAM, "metrics", "serve", "--port", "0", "--dir", directory],
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().strip()
            with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 - ours
                return parsed(answer.read().decode())
        finally:
            server.send_signal(signal.SIGTERM)


def test_a_scrape_of_prefork_workers_is_their_sum(tmp_path: Path) -> None:
    """What four workers and their master counted is exported, each once.

    Of the workers none did anything at its exit. When the host says that one is dead,
    its circuits are not the worst any more.
    """
    workers = [
        *map(
            int,
            run(
                PREFORK.format(workers=WORKERS, each=EACH),
                PROMETHEUS_MULTIPROC_DIR=str(tmp_path),
            ).split(),
        )
    ]
    samples = scrape(tmp_path)

    def value(name: str, **labels: str) -> float:
        return matching(samples, f"connectorkit_{name}", **labels)

    outcomes = 15
    assert value("operations_total", operation="in_master") == 1
    assert value("operations_total", operation="get_object") == WORKERS * EACH
    for outcome in ("success", "open", "corrupt", "refused"):
        for number in range(WORKERS):
            name = f"worker_{number}"
            assert value("operations_total", operation=name, outcome=outcome) == 1
    total = 1 + WORKERS * (EACH + outcomes)
    assert value("operations_total") == total
    assert value("operation_duration_seconds_count") == total
    assert value("operation_duration_seconds_sum") == pytest.approx(
        0.3 * WORKERS * EACH
    )
    assert value("operation_attempts_sum") == total + WORKERS * EACH
    assert value("retry_attempts_total", attempt="2") == WORKERS * EACH
    assert value("circuit_transitions_total") == WORKERS
    assert value("circuit_state", circuit="upload") == 2
    assert value("circuits_open", circuit="upload") == 1
    assert value("build_info") == 1
    _say_dead(tmp_path, workers[2])
    samples = scrape(tmp_path)
    assert value("circuit_state", circuit="upload") == 1
    assert value("operations_total") == total


def _say_dead(directory: Path, pid: int) -> None:
    from prometheus_client.multiprocess import mark_process_dead

    mark_process_dead(pid, str(directory))  # type: ignore[no-untyped-call]


def test_forks_while_others_count() -> None:
    """A child that is forked at any moment counts on, from zero, and never hangs."""
    run(FORKING.format(children=30))


def test_a_child_leaves_the_port_to_its_parent() -> None:
    """A server that is closed frees its port, though a forked child lives on."""
    run(SERVING)


def test_a_directory_that_is_not_there(
    tmp_path: Path,
) -> None:
    """A launcher that made no directory is told so when the policy is made."""
    script = """
from connectorkit import ConfigError
from connectorkit_metrics import Metrics
try:
    Metrics()
except ConfigError as error:
    print(error)
"""
    missing = tmp_path / "missing"
    told = run(script, PROMETHEUS_MULTIPROC_DIR=str(missing))
    assert str(missing) in told
    assert "make it" in told


def test_nothing_is_imported_before_it_is_needed() -> None:
    """To import the plugin, or to find it, imports no prometheus_client."""
    script = """
import json, sys
import connectorkit_metrics
from connectorkit import ConnectorKit
ConnectorKit({}).plugins()
print(json.dumps([name for name in sys.modules if "prometheus" in name]))
"""
    assert json.loads(run(script)) == []
