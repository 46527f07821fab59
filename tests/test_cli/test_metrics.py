"""`connectorkit metrics`: what goes with the metrics, and their server."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import TYPE_CHECKING

from connectorkit.cli import exits
from test_cli.support import only_line

if TYPE_CHECKING:
    from pathlib import Path

    from test_cli.support import Cli


def test_dashboard(cli: Cli) -> None:
    """The dashboard is printed as Grafana imports it."""
    result = cli("metrics", "dashboard")
    assert result.exit_code == exits.OK
    assert json.loads(result.stdout)["title"] == "connectorkit"
    assert result.stdout == _packaged("dashboard.json")


def test_alerts(cli: Cli) -> None:
    """The alert rules are printed as Prometheus reads them."""
    result = cli("metrics", "alerts")
    assert result.exit_code == exits.OK
    assert "\ngroups:\n" in result.stdout
    assert result.stdout == _packaged("alerts.yml")


def test_serve_needs_a_directory(cli: Cli, tmp_path: Path) -> None:
    """Without a directory of workers there is nothing to serve, and it says so."""
    result = cli("metrics", "serve", "--port", "0")
    assert result.exit_code == exits.USAGE
    assert "PROMETHEUS_MULTIPROC_DIR" in only_line(result)
    result = cli("metrics", "serve", "--port", "0", "--dir", tmp_path / "missing")
    assert result.exit_code == exits.USAGE


def test_the_verb_is_listed(cli: Cli) -> None:
    """`plugins --load` names the verb."""
    rows = json.loads(cli("plugins", "--load", "--json").stdout)
    (row,) = [row for row in rows if row["name"] == "metrics"]
    assert "command metrics" in row["provides"]


def _packaged(name: str) -> str:
    return files("connectorkit_metrics").joinpath(name).read_text(encoding="utf-8")
