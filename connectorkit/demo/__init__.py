"""The demo: the whole job once, on this machine alone.

A plugin registered by hand teaches the kit to read zip archives; the platform's own
store is a directory, as it is by default; a user's connector is on a real S3 server,
which the demo starts and ends. Files travel from the archive through both of them and
back.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Final

import click

from connectorkit import ConnectorKit
from connectorkit.cli import output
from connectorkit.demo.server import Server, find_program, serve
from connectorkit.demo.steps import SYSTEM_ID, Steps
from connectorkit.demo.teller import Teller

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["run"]

_MARK: Final = "# Written by `connectorkit demo`, which will write it anew."
_CONFIG: Final = """\
{mark}

[system.WORKFLOW_EXECUTION]        # the platform's own store
ids = ["{system_id}"]
provider = "local"
credentials = {{ path = {store} }}

[connectors.back]                  # what came back from the S3 server
type = "local"
settings = {{ path = {back} }}

[connectors.reports]               # a user's; its server ended with the demo
type = "minio"
[connectors.reports.settings]
endpoint_url = "{endpoint_url}"
key = "env:DEMO_KEY"
secret = "env:DEMO_SECRET"
"""
_FOLDERS: Final = ("back", "s3", "system")


def run(directory: Path, *, as_json: bool = False) -> None:
    """Run the demo, and leave a report and its files in `directory`.

    Raises:
        click.UsageError: The directory holds something else.
        MissingExtra: The S3 server is not installed.
        Failure: Something did not do what the demo says that it does.
    """
    begin = time.perf_counter()
    program = find_program()
    _make_way(directory)
    teller = Teller(silent=as_json)
    with serve(program, directory / "s3") as server, _environment(server):
        _write_config(directory, server)
        with ConnectorKit(directory / "connectorkit.toml") as kit:
            steps = Steps(kit, directory, teller, server)
            steps.run()
    seconds = time.perf_counter() - begin
    _tell_what_is_left(teller, directory, seconds)
    teller.save(directory)
    if as_json:
        output.document(
            {
                "directory": str(directory),
                "report": str(directory / "report.html"),
                "files": len(steps.sources),
                "seconds": round(seconds, 3),
            }
        )


def _make_way(directory: Path) -> None:
    """Remove what an earlier demo left, and nothing else."""
    config = directory / "connectorkit.toml"
    if directory.is_dir() and any(directory.iterdir()):
        if not config.is_file() or not config.read_text().startswith(_MARK):
            raise click.UsageError(
                f"{directory} holds something else than a demo: name another --dir."
            )
        for folder in _FOLDERS:
            shutil.rmtree(directory / folder, ignore_errors=True)
    (directory / "s3").mkdir(parents=True)
    config.write_text(f"{_MARK}\n")


def _write_config(directory: Path, server: Server) -> None:
    text = _CONFIG.format(
        mark=_MARK,
        system_id=SYSTEM_ID,
        # A JSON string is a TOML string, too.
        store=json.dumps(str(directory.absolute() / "system")),
        back=json.dumps(str(directory.absolute() / "back")),
        endpoint_url=server.endpoint_url,
    )
    (directory / "connectorkit.toml").write_text(text)


@contextlib.contextmanager
def _environment(server: Server) -> Iterator[None]:
    """Set the variables that the configuration refers to."""
    values = {"DEMO_KEY": server.key, "DEMO_SECRET": server.secret}
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _tell_what_is_left(teller: Teller, directory: Path, seconds: float) -> None:
    teller.head(f"Done in {seconds:.1f} s")
    left = {
        "report.html": "what you have just read; report.txt is plain",
        "connectorkit.toml": "the configuration, whose local part still works",
        "sources.zip": "where the files came from",
        "system/": "the platform's own store",
        "s3/": "what the S3 server kept, a folder for each bucket",
        "back/": "the files that came back",
    }
    teller.table([(f"{directory}/{name}", what) for name, what in left.items()])
    teller.code(
        f"export CONNECTORKIT_CONFIG={directory}/connectorkit.toml\n"
        "connectorkit connectors\n"
        "connectorkit ls -l back:connectorkit\n"
        f"connectorkit cat '{SYSTEM_ID}:hello.txt'",
        "text",
    )
