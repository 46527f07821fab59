"""metrics: what operations did, how long they took and how often, for Prometheus.

```
settings   which names, and how many labels
outcomes   how an operation ended, in one word
labels     bounded
ledger     entries that wait to be counted
series     what all series share · own, source: the vocabularies
exports    the series of this process
gate       no fork while something is counted
app        /metrics and /circuits for WSGI and ASGI · server: for a host without either
commands   the verbs of the command line
dashboard.json, alerts.yml
```

prometheus_client is imported when the first policy is made, never before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from connectorkit import Policy, hookimpl
from connectorkit_metrics.app import MetricsApp, metrics_app
from connectorkit_metrics.exports import EXPORTS
from connectorkit_metrics.outcomes import outcome_of
from connectorkit_metrics.server import MetricsServer, start_metrics_server
from connectorkit_metrics.settings import MetricsSettings

if TYPE_CHECKING:
    import click
    from prometheus_client import CollectorRegistry

    from connectorkit.operation import Operation

__all__ = [
    "Metrics",
    "MetricsApp",
    "MetricsServer",
    "MetricsSettings",
    "metrics_app",
    "start_metrics_server",
]


class Metrics(Policy):
    """Counts operations and what became of them; changes nothing about them.

    An operation leaves an entry, which is counted when somebody asks for the metrics,
    or together with a thousand others. In prometheus_client's multiprocess mode it is
    counted at once.

    Args:
        settings: Its settings.
        registry: Where the series are exported; None for prometheus_client's own.

    Raises:
        MissingExtra: prometheus_client is not installed.
        ConfigError: Another collector in the registry has the names of the series.
    """

    name = "metrics"
    rank = 10
    Settings = MetricsSettings
    settings: MetricsSettings

    def __init__(
        self,
        settings: MetricsSettings | None = None,
        registry: CollectorRegistry | None = None,
    ) -> None:
        super().__init__(settings)
        self._series = EXPORTS.series(self.settings.names, registry)
        self._most = self._series.most
        ledger = self._series.ledger(self.identity, self.settings)
        self._pending = ledger.pending

    def ended(self, op: Operation, error: BaseException | None) -> None:
        """Note how an operation ended."""
        outcome = "success"
        if error is not None:
            outcome, rejected = outcome_of(op, error)
            if rejected is not None:
                self._series.hear(rejected)
        scope = op.scope
        pending = self._pending
        pending.append(
            (
                scope,
                op.name,
                op.bucket,
                op.kind,
                outcome,
                op.attempts,
                op.bytes,
                scope.clock() - op.started - op.idle,
            )
        )
        # What is abandoned may be collected anywhere, even while prometheus_client
        # holds a lock that counting would wait for.
        if len(pending) >= self._most and outcome != "abandoned":
            self._series.count()


@hookimpl
def connectorkit_policies() -> list[type[Policy]]:
    """Provide metrics."""
    return [Metrics]


@hookimpl
def connectorkit_event(event: object) -> None:
    """Count what happens beside operations."""
    EXPORTS.hear(event)


@hookimpl
def connectorkit_commands(cli: click.Group) -> None:
    """Add `connectorkit metrics`."""
    from connectorkit_metrics.commands import metrics

    cli.add_command(metrics)
