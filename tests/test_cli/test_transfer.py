"""A file is copied whole or not at all, whatever comes between."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING, Self

import pytest

from connectorkit.cli import exits, places
from test_cli.support import LARGE, PROGRAM, only_line, s3, uploads

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from test_cli.support import Cli


class _Breaking:
    """A source that breaks after some bytes."""

    def __init__(self, count: int, size: int | None = None) -> None:
        self.left = count
        self.size = size

    def read(self, count: int) -> bytes:
        if not self.left and self.size is None:
            raise ConnectionResetError("the line is cut")
        given = min(count, self.left)
        self.left -= given
        return bytes(given)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        pass


@pytest.mark.parametrize("target", ["moto", "shelf", "mem", "local"])
@pytest.mark.parametrize("size", [None, LARGE + 1])
def test_cp_is_all_or_nothing(
    cli: Cli, config: Path, moto: str, target: str, size: int | None
) -> None:
    """Whether a source breaks or ends early, what was there stays, and nothing else."""
    folder = {"moto": moto, "shelf": "shelf:x", "mem": "mem:x", "local": "x"}[target]
    place = f"{folder}/file"
    cli("cp", "-", place, stdin=b"what was there")
    (config.parent / "source").touch()
    with pytest.MonkeyPatch.context() as patch:
        breaking = _Breaking(LARGE, size)
        patch.setattr(places.Place, "open", lambda _place: breaking)
        result = cli("cp", "source", place)
    assert result.exit_code == (exits.FAILED if size else exits.TRY_AGAIN)
    assert only_line(result).startswith("connectorkit: source: ")
    assert cli("cat", place).stdout == "what was there"
    assert cli("ls", "-r", folder).stdout == "file\n"
    assert uploads(config, moto) == []


@pytest.fixture
def _heeded() -> Iterator[None]:
    """Let programs heed Ctrl-C, which a shell has what it runs behind it ignore."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_heeded")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("target", ["moto", "local"])
def test_signals_leave_nothing(
    config: Path, moto: str, number: signal.Signals, target: str
) -> None:
    """Ctrl-C and `timeout` in the midst of a copy leave no part of it anywhere."""
    place = f"{moto}/file" if target == "moto" else "folder/file"
    process = subprocess.Popen(
        [PROGRAM, "cp", "-", place], stdin=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with process:
        assert process.stdin is not None
        # All but what a pipe holds has been taken when this returns.
        process.stdin.write(bytes(LARGE))
        process.send_signal(number)
        assert process.wait(30) == 128 + number
        assert process.stderr is not None
        assert b"Traceback" not in process.stderr.read()
    assert uploads(config, moto) == []
    assert s3(config, moto)[0].find(moto.partition(":")[2]) == []
    assert not [path for path in config.parent.rglob("*") if "file" in path.name]
    assert not [*config.parent.rglob("*.part")]


@pytest.mark.usefixtures("config")
def test_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """A reader that has enough, as `head` does, ends the program without a word."""
    (tmp_path / "file").write_bytes(bytes(LARGE))
    for args in (["cat", "file"], ["cp", "file", "-"]):
        process = subprocess.Popen(
            [PROGRAM, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert process.stdout.read(10) == bytes(10)
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait(30) == exits.PIPE_CLOSED
