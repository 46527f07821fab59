"""Verbs of plugins: what `connectorkit_commands` hooks add to the command line.

They are asked for when a verb is none of the built-in ones, so that no plugin can
slow down, break or replace one of those; `--help` imports no plugin either, and
`plugins --load` names their verbs.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from connectorkit.kit import ConnectorKit

__all__ = ["Found", "find"]


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """What plugins add.

    Attributes:
        commands: By its name, who offers a command: the plugin's name, the command.
        failures: One sentence for each plugin whose hook failed.
    """

    commands: dict[str, list[tuple[str, click.Command]]]
    failures: list[str]


def find(kit: ConnectorKit) -> Found:
    """Load all plugins, and ask each for its verbs."""
    from connectorkit.plugin import one_line

    commands: dict[str, list[tuple[str, click.Command]]] = {}
    failures: list[str] = []
    for plugin in kit.registry.load_all():
        hook = getattr(plugin.module, "connectorkit_commands", None)
        if hook is None:
            continue
        # A group of its own: a plugin sees, and breaks, nobody else's verbs.
        group = click.Group(plugin.name)
        try:
            hook(cli=group)
        except Exception as error:  # noqa: BLE001 - another's verb may be wanted
            failures.append(
                f"plugin {plugin.name!r} ({plugin.origin}) adds no verbs: "
                f"{one_line(error)}"
            )
        else:
            for name, command in group.commands.items():
                commands.setdefault(name, []).append((plugin.name, command))
    return Found(commands, failures)
