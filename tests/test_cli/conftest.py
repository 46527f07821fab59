"""Fixtures for the tests of the command line."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from connectorkit.cli import main
from test_cli.support import configure

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result

    from servers import MotoS3, RcloneS3
    from test_cli.support import Cli, Install


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Configure a local connector, `shelf`, and one within the process, `mem`."""
    path = tmp_path / "connectorkit.toml"
    path.write_text(
        dedent(f"""
            [connectors.shelf]
            type = "local"
            settings = {{ path = "{tmp_path}/shelf" }}
            [connectors.mem]
            type = "memory"
            settings = {{ name = "{tmp_path}" }}
            [system.STORE]
            ids = ["acme|store"]
            provider = "local"
            credentials = {{ path = "{tmp_path}/store" }}
        """)
    )
    monkeypatch.setenv("CONNECTORKIT_CONFIG", str(path))
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def cli(config: Path) -> Cli:
    """Run command lines in this process, as scripts do: without a terminal."""
    assert config.exists()
    runner = CliRunner()

    def run(*args: object, stdin: str | bytes | None = None) -> Result:
        result = runner.invoke(main, [str(arg) for arg in args], input=stdin)
        assert isinstance(result.exception, SystemExit | None)
        return result

    return run


@pytest.fixture
def rclone(config: Path, rclone_s3: RcloneS3, rclone_bucket: str) -> str:
    """Configure a connector to rclone's server; return a bucket's place."""
    configure(
        config,
        "rclone",
        endpoint_url=rclone_s3.endpoint_url,
        key=rclone_s3.key,
        secret=rclone_s3.secret,
    )
    return f"rclone:{rclone_bucket}"


@pytest.fixture
def moto(config: Path, moto_s3: MotoS3, moto_bucket: str) -> str:
    """Configure a connector to moto's server; return a bucket's place."""
    configure(
        config,
        "moto",
        endpoint_url=moto_s3.endpoint_url,
        key=moto_s3.key,
        secret=moto_s3.secret,
    )
    return f"moto:{moto_bucket}"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install plugins as pip would: metadata and a module on the path."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(site)
    # For programs that the test starts.
    monkeypatch.setenv("PYTHONPATH", str(site))

    def install(name: str, code: str) -> None:
        # Modules outlive a test, so their names must differ.
        module = f"acme_{name}_{abs(hash(site))}"
        (site / f"{module}.py").write_text(dedent(code))
        metadata = site / f"acme_{name}-1.2.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.2\n"
        )
        (metadata / "entry_points.txt").write_text(
            f"[connectorkit]\n{name} = {module}\n"
        )

    return install
