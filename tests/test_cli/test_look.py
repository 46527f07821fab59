"""The commands that tell tell the truth, and no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from connectorkit.cli import exits
from test_cli.support import SECRET, configure, only_line

if TYPE_CHECKING:
    from pathlib import Path

    from servers import RcloneS3
    from test_cli.support import Cli, Install


def test_plugins_reads_metadata(cli: Cli) -> None:
    """`plugins` lists what is installed, and imports none of it."""
    rows = json.loads(cli("plugins", "--json").stdout)
    assert {"gcs", "local", "memory", "minio", "s3", "system"} <= {
        row["name"] for row in rows
    }
    assert {row["state"] for row in rows} == {"available"}
    assert [*rows[0]] == [
        "name",
        "state",
        "distribution",
        "version",
        "provides",
        "seconds",
        "error",
    ]


def test_plugins_load(cli: Cli, install: Install) -> None:
    """`plugins --load` tells what each provides, how long it took, why it failed."""
    install("broken", "raise ImportError('no such thing')")
    result = cli("plugins", "--load", "--json")
    rows = {row["name"]: row for row in json.loads(result.stdout)}
    assert rows["minio"]["provides"] == ["type minio"]
    assert rows["minio"]["seconds"] > 0
    assert rows["broken"]["state"] == "failed"
    assert "no such thing" in rows["broken"]["error"]
    assert rows["broken"]["distribution"] == "acme-broken"
    assert result.exit_code == exits.OK
    lines = cli("plugins", "--load").stdout.splitlines()
    assert [line.count("\t") for line in lines] == [5] * len(rows)


def test_types(cli: Cli) -> None:
    """`types` prints a line for each type: its ID, its title, its aliases."""
    lines = [line.split("\t") for line in cli("types").stdout.splitlines()]
    assert ["minio", "MinIO", "minio|c799f6e3-2b57-434e-aaac-b5daa415da19"] in lines


def test_connectors(cli: Cli, config: Path) -> None:
    """`connectors` lists system IDs, then the others, and no setting of theirs."""
    configure(config, "mine", key="k", secret=SECRET)
    result = cli("connectors", "--json")
    rows = json.loads(result.stdout)
    assert {"id": "acme|store", "type": "local", "store": "STORE"} in rows
    assert {"id": "system|STORE", "type": "local", "store": "STORE"} in rows
    assert rows[-1] == {"id": "mine", "type": "minio", "store": None}
    assert SECRET not in result.output


def test_schema(cli: Cli) -> None:
    """`schema` prints a type's JSON Schema, with the titles that a form shows."""
    schema = json.loads(cli("schema", "minio").stdout)
    assert schema["properties"]["endpoint_url"]["title"] == "Endpoint"


def test_schema_of_an_unknown_type(cli: Cli) -> None:
    """An unknown type ends with 3, and what is close to it is named."""
    result = cli("schema", "mino")
    assert result.exit_code == exits.NOT_FOUND
    assert "did you mean 'minio'" in only_line(result)


def test_explain_configured(cli: Cli, config: Path) -> None:
    """`explain` shows how an ID resolves, and hides its secrets."""
    configure(config, "mine", key="the-key-itself", secret=SECRET)
    result = cli("explain", "mine", "--json")
    told = json.loads(result.stdout)
    assert told["type"] == "minio"
    assert str(config) in told["how"]
    assert told["settings"]["region_name"] == "us-east-1"
    assert SECRET not in result.output
    assert "settings.region_name\tus-east-1\n" in cli("explain", "mine").stdout


@pytest.mark.parametrize("way", ["inline", "file", "stdin"])
def test_explain_settings(cli: Cli, tmp_path: Path, way: str) -> None:
    """Settings are given as JSON, as @FILE or by standard input."""
    text = json.dumps({"key": "k", "secret": SECRET})
    path = tmp_path / "settings.json"
    path.write_text(text)
    given = {"inline": text, "file": f"@{path}", "stdin": "@-"}[way]
    result = cli("explain", "minio", "--settings", given, stdin=text)
    assert result.exit_code == exits.OK
    assert "type\tminio\n" in result.stdout
    assert SECRET not in result.output


@pytest.mark.parametrize("text", [f'{{"secret": "{SECRET}"', f'["{SECRET}"]', "@none"])
def test_explain_bad_settings(cli: Cli, text: str) -> None:
    """Settings that cannot be read are told of, and never repeated."""
    result = cli("explain", "minio", "--settings", text)
    assert result.exit_code in {exits.CONFIG, exits.NOT_FOUND}
    assert SECRET not in only_line(result)


def test_explain_trusted(cli: Cli, tmp_path: Path) -> None:
    """A tenant's settings may not open this machine's files; the host's may."""
    given = json.dumps({"path": str(tmp_path)})
    refused = cli("explain", "local", "--settings", given)
    assert refused.exit_code == exits.CONFIG
    assert cli("explain", "local", "--settings", given, "--trusted").exit_code == 0


def test_unknown_connector(cli: Cli) -> None:
    """An ID to which nothing answers ends with 3, and what is close is named."""
    result = cli("ls", "shelff:")
    assert result.exit_code == exits.NOT_FOUND
    assert "did you mean 'shelf'" in only_line(result)


def test_check(cli: Cli, config: Path, rclone: str, rclone_s3: RcloneS3) -> None:
    """`check` says ok, or what to mend; the exit code is that of the first failure."""
    url = rclone_s3.endpoint_url
    configure(config, "wrong", endpoint_url=url, key=rclone_s3.key, secret=SECRET)
    configure(config, "down", endpoint_url="http://127.0.0.1:9", key="k", secret=SECRET)
    good = cli("check", rclone, "shelf")
    assert good.exit_code == exits.OK
    assert good.stdout == f"ok\t{rclone}\nok\tshelf\n"

    bad = cli("check", "wrong", rclone, "down")
    assert bad.exit_code == exits.DENIED
    assert bad.stdout == f"ok\t{rclone}\n"
    first, second = bad.stderr.splitlines()
    assert "the secret key does not match the access key" in first
    assert "nothing listens on 127.0.0.1:9" in second
    assert SECRET not in bad.output

    assert cli("check", "down").exit_code == exits.TRY_AGAIN
    assert cli("check", "rclone:no-such-bucket").exit_code == exits.NOT_FOUND


def test_check_all_as_json(cli: Cli, config: Path) -> None:
    """`check --all --json` prints one document of all that are configured."""
    configure(config, "noenv", key="env:NOT_SET", secret="env:NOT_SET")
    result = cli("check", "--all", "--json")
    rows = {row["id"]: row for row in json.loads(result.stdout)}
    assert [*rows] == ["acme|store", "shelf", "mem", "noenv"]
    assert rows["shelf"]["ok"] is True
    assert rows["shelf"]["error"] is None
    assert "NOT_SET" in rows["noenv"]["error"]
    assert result.exit_code == exits.CONFIG


def test_check_of_nothing(cli: Cli) -> None:
    """`check` wants a connector or --all."""
    assert cli("check").exit_code == exits.USAGE
