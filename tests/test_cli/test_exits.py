"""Errors are one line and an exit code, and the help tells which."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

import click
import pytest

from connectorkit import (
    CheckFailed,
    ConfigError,
    InvalidConnectorID,
    InvalidSettings,
    MissingExtra,
    PluginFailed,
    UnknownConnector,
)
from connectorkit.cli import exits, main
from connectorkit.cli.exits import exit_code
from connectorkit.cli.session import Session
from test_cli.support import PROGRAM, SECRET, only_line

if TYPE_CHECKING:
    from test_cli.support import Cli, Install


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (click.UsageError("x"), exits.USAGE),
        (InvalidConnectorID("x"), exits.USAGE),
        (UnknownConnector("x"), exits.NOT_FOUND),
        (FileNotFoundError("x"), exits.NOT_FOUND),
        (PermissionError("x"), exits.DENIED),
        (CheckFailed("x"), exits.DENIED),
        (TimeoutError("x"), exits.TRY_AGAIN),
        (ConnectionResetError("x"), exits.TRY_AGAIN),
        (OSError(16, "SlowDown"), exits.TRY_AGAIN),
        (ConfigError("x"), exits.CONFIG),
        (InvalidSettings("x"), exits.CONFIG),
        (MissingExtra("x"), exits.CONFIG),
        (PluginFailed("x"), exits.CONFIG),
        (RuntimeError("x"), exits.FAILED),
        (IsADirectoryError("x"), exits.FAILED),
    ],
)
def test_exit_code(error: Exception, code: int) -> None:
    """Each family of errors has its exit code, and keeps it behind another error."""
    assert exit_code(error) == code
    told = exits.Failure("told")
    told.__cause__ = error
    assert exit_code(told) == code


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (FileNotFoundError("x"), exits.NOT_FOUND),
        (ConnectionRefusedError("x"), exits.TRY_AGAIN),
        (PermissionError("x"), exits.DENIED),
        (ValueError("x"), exits.DENIED),
    ],
)
def test_exit_code_of_a_check(cause: Exception, code: int) -> None:
    """A failed check ends by what failed it: a missing bucket, no server, a refusal."""
    error = CheckFailed("x")
    error.__cause__ = cause
    assert exit_code(error) == code


def test_help_documents_exit_codes(cli: Cli) -> None:
    """The help names each exit code that is documented, and each command."""
    told = cli("--help").stdout
    assert all(
        f"{code:<3}  {meaning}" in told for code, meaning in exits.MEANINGS.items()
    )
    assert all(f"\n  {name} " in told for name in main.commands)


def test_no_arguments(cli: Cli) -> None:
    """Without any argument the help is printed."""
    assert cli().stdout == cli("--help").stdout


@pytest.mark.parametrize("command", sorted(main.commands))
def test_help_of_commands(cli: Cli, command: str) -> None:
    """Each command has help by -h, offers --json, and its summary is not cut."""
    result = cli(command, "-h")
    assert result.exit_code == exits.OK
    assert "--json" in result.stdout
    assert not main.commands[command].get_short_help_str(60).endswith("...")


def test_help_loads_no_client(install: Install) -> None:
    """`--help` imports no plugin, storage client, pydantic, fsspec or rich."""
    install("loud", "print('imported')")
    script = """
        import sys
        from connectorkit.cli import main
        try:
            main(["--help"])
        except SystemExit as end:
            assert not end.code
        heavy = {"aiobotocore", "fsspec", "gcsfs", "pydantic", "rich", "s3fs"}
        loaded = heavy & {*sys.modules}
        assert not loaded, loaded
    """
    result = _python(script)
    assert result.returncode == 0, result.stderr
    assert "imported" not in result.stdout


def _python(script: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_version(cli: Cli) -> None:
    """`--version` prints the version of pyproject.toml."""
    file = Path(__file__).parents[2] / "pyproject.toml"
    version = tomllib.loads(file.read_text())["project"]["version"]
    assert cli("--version").stdout == f"connectorkit {version}\n"


@pytest.mark.parametrize(
    "args", [["nonsense"], ["ls"], ["ls", "--nonsense", "x"], ["ls", "s3://b/k"]]
)
def test_usage_errors(cli: Cli, args: list[str]) -> None:
    """A wrong command line ends with 2, in one line that leads to the help."""
    result = cli(*args)
    assert result.exit_code == exits.USAGE
    assert only_line(result).startswith("connectorkit: ")
    assert only_line(result).endswith(" -h")


@pytest.mark.parametrize(
    "args", [["--json", "stat", "none"], ["stat", "none", "--json"]]
)
def test_errors_as_json(cli: Cli, args: list[str]) -> None:
    """With --json, before or after the command, an error is one line of JSON."""
    result = cli(*args)
    assert result.exit_code == exits.NOT_FOUND
    assert result.stdout == ""
    error = json.loads(only_line(result))["error"]
    assert error["type"] == "FileNotFoundError"
    assert error["message"].startswith("none: ")


def test_usage_errors_as_json(cli: Cli) -> None:
    """With --json even an error of the command line itself is JSON."""
    error = json.loads(only_line(cli("cp", "--json")))["error"]
    assert error["type"] == "MissingParameter"


def test_debug_shows_the_traceback(cli: Cli) -> None:
    """A traceback is printed with --debug alone."""
    assert "Traceback" not in cli("cat", "none").stderr
    told = cli("cat", "none", "--debug").stderr
    assert told.startswith("Traceback")
    assert told.splitlines()[-1].startswith("connectorkit: none: ")


def test_config_is_named(cli: Cli, tmp_path: Path) -> None:
    """A configuration that is not there or wrong is named, and the code is 6."""
    result = cli("connectors", "--config", tmp_path / "none.toml")
    assert result.exit_code == exits.CONFIG
    assert "none.toml" in only_line(result)
    (tmp_path / "bad.toml").write_text("connectors = 1")
    result = cli("--config", tmp_path / "bad.toml", "connectors")
    assert result.exit_code == exits.CONFIG
    assert "connectors" in only_line(result)


@pytest.mark.usefixtures("config")
def test_warnings_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A warning is one line of standard error, and changes nothing else."""
    monkeypatch.setenv("CONNECTORKIT_DISABLE", "mino")
    result = subprocess.run(
        [PROGRAM, "connectors"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0
    assert result.stderr.startswith("connectorkit: warning: ")
    assert "'minio'" in result.stderr
    assert result.stderr.count("\n") == 1


def test_errors_hide_secrets(cli: Cli, config: Path, install: Install) -> None:
    """A secret that a storage repeats in its error reaches no message and no trace."""
    install(
        "leaky",
        """
        from connectorkit import ConnectorType, Secret, Settings, hookimpl

        class LeakySettings(Settings):
            secret: Secret = None

        class Leaky(ConnectorType[LeakySettings]):
            id = "leaky"
            Settings = LeakySettings

            def open(self, settings, **options):
                from fsspec.implementations.memory import MemoryFileSystem

                class LeakyFileSystem(MemoryFileSystem):
                    def info(self, path, **_more):
                        raise OSError(f"wrong: {settings.secret.get_secret_value()}")

                return LeakyFileSystem(skip_instance_cache=True)

        @hookimpl
        def connectorkit_connectors():
            return [Leaky]
        """,
    )
    with config.open("a") as file:
        file.write(
            f'[connectors.leaky]\ntype = "leaky"\nsettings = {{ secret = "{SECRET}" }}'
        )
    for flags in ([], ["--debug"], ["--json"]):
        result = cli("stat", "leaky:x", *flags)
        assert result.exit_code == exits.FAILED
        assert "wrong: ***" in result.stderr
        assert SECRET not in result.output


def test_signed_urls_are_cut() -> None:
    """What signs a URL, a user in it and a bearer's token reach no message."""
    hide = Session().without_secrets
    assert hide("at https://h/k?X-Sig=abc&a=b now") == "at https://h/k?********** now"
    assert hide("http://user:pass@host/k") == "http://**********@host/k"
    assert hide("Authorization: Bearer ya29.x") == "Authorization: Bearer **********"
    assert hide("did you mean 'minio'?") == "did you mean 'minio'?"
