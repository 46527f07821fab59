"""What the tests of the command line share."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from connectorkit import ConnectorKit

if TYPE_CHECKING:
    from click.testing import Result

PROGRAM = Path(sys.executable).with_name("connectorkit")
SECRET = "a-secret-that-nobody-may-see"
# More than two parts of an upload.
LARGE = 40_000_000


class Cli(Protocol):
    """Runs a command line in this process."""

    def __call__(self, *args: object, stdin: str | bytes | None = None) -> Result:
        """Return what it printed, and its exit code."""


class Install(Protocol):
    """Installs a plugin."""

    def __call__(self, name: str, code: str) -> None:
        """Install a module of this code as the plugin of this name."""


def configure(config: Path, name: str, type_id: str = "minio", **settings: str) -> None:
    """Add a connector to a configuration."""
    told = "\n".join(f'{key} = "{value}"' for key, value in settings.items())
    table = f'\n[connectors.{name}]\ntype = "{type_id}"\n'
    with config.open("a") as file:
        file.write(f"{table}[connectors.{name}.settings]\n{told}\n")


def only_line(result: Result) -> str:
    """Return the one line that went to standard error."""
    lines: list[str] = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    return lines[0]


def s3(config: Path, place: str) -> tuple[Any, str]:
    """Return the filesystem and the bucket of a place."""
    connector_id, _, bucket = place.partition(":")
    return ConnectorKit(config).resolve(connector_id).fs, bucket


def uploads(config: Path, place: str) -> list[Any]:
    """Return the uploads to a bucket that were begun and not ended."""
    fs, bucket = s3(config, place)
    return list(fs.call_s3("list_multipart_uploads", Bucket=bucket).get("Uploads", []))


def plant(root: Path) -> None:
    """Make a folder with two files in it."""
    (root / "sub" / "deep").mkdir(parents=True)
    (root / "one").write_text("1")
    (root / "sub" / "deep" / "two").write_text("2")
