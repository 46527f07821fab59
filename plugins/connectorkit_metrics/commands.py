"""`connectorkit metrics`: serve them, and print what goes with them."""

from __future__ import annotations

import threading
from importlib.resources import files

import click

from connectorkit.cli.common import common
from connectorkit_metrics.server import start_metrics_server

__all__ = ["metrics"]


@click.group()
@common()
def metrics() -> None:
    """Serve metrics, and print a dashboard and alerts for them."""


@metrics.command()
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=8080,
    show_default=True,
    help="0 for any that is free.",
)
@click.option(
    "--addr",
    default="127.0.0.1",
    show_default=True,
    help="For whom to listen; 0.0.0.0 for a Prometheus elsewhere.",
)
@click.option(
    "--dir",
    "directory",
    envvar="PROMETHEUS_MULTIPROC_DIR",
    show_envvar=True,
    required=True,
    type=click.Path(exists=True, file_okay=False),
    help="Where the workers leave what they count.",
)
@common()
def serve(port: int, addr: str, directory: str) -> None:
    """Export the metrics of all workers, which share them by a directory.

    The workers have PROMETHEUS_MULTIPROC_DIR set before they start. Empty the directory
    before the first of them does. When one dies, have its host call
    prometheus_client.multiprocess.mark_process_dead(pid).
    """
    with start_metrics_server(port, addr, directory=directory) as server:
        click.echo(server.url)
        threading.Event().wait()


@metrics.command()
@common()
def dashboard() -> None:
    """Print a dashboard for Grafana, to import as JSON."""
    click.echo(_packaged("dashboard.json"), nl=False)


@metrics.command()
@common()
def alerts() -> None:
    """Print alert rules for Prometheus, as YAML."""
    click.echo(_packaged("alerts.yml"), nl=False)


def _packaged(name: str) -> str:
    return files("connectorkit_metrics").joinpath(name).read_text(encoding="utf-8")
