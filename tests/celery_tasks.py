"""The Celery application of test_celery.py: what a host has, as small as it is."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from celery import Celery

from connectorkit import ConnectorKit
from reaching import MINE, SYSTEM

if TYPE_CHECKING:
    from connectorkit import Connector

app = Celery(broker=os.environ["TASKS_BROKER"], backend=os.environ["TASKS_BROKER"])
app.conf.broker_connection_retry_on_startup = True
kit = ConnectorKit()

# Before the worker forks, it has used both: no child may use what it inherits.
for each in (SYSTEM, MINE):
    kit.resolve(each).fs.cat_file(os.environ["TASKS_INPUT"])


@app.task(name="run")  # type: ignore[untyped-decorator]
def run(source: str, target: str) -> tuple[int, int, int, int]:
    """Read from the platform's store, write to a user's connector.

    Returns:
        The process, the number of bytes, and which filesystem either had.
    """
    store, mine = kit.resolve(SYSTEM), kit.resolve(MINE)
    content = store.fs.cat_file(source)
    with mine.fs.open(target, "wb") as file:
        file.write(content)
    return os.getpid(), len(content), _number(store), _number(mine)


@app.task(name="ask")  # type: ignore[untyped-decorator]
def ask(connector_id: str) -> bool:
    """Tell whether an ID can be resolved."""
    return bool(kit.resolve(connector_id))


def _number(connector: Connector) -> int:
    return id(connector.fs)
