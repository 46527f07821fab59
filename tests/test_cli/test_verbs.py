"""Plugins add verbs, and take none away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from connectorkit.cli import exits
from test_cli.support import only_line

if TYPE_CHECKING:
    from pathlib import Path

    from test_cli.support import Cli, Install


_VERB = """
    import click
    from connectorkit import hookimpl

    @hookimpl
    def connectorkit_commands(cli):
        @cli.command()
        @click.pass_obj
        def {name}(session):
            click.echo(f"{{session.kit!r}} from {plugin}")
"""


def test_plugins_add_verbs(cli: Cli, config: Path, install: Install) -> None:
    """A plugin's verb is run with the session, and listed by `plugins --load`."""
    install("audit", _VERB.format(name="audit", plugin="acme"))
    assert cli("audit").stdout == f"<ConnectorKit of {config}> from acme\n"
    rows = json.loads(cli("plugins", "--load", "--json").stdout)
    assert ["command audit"] in [row["provides"] for row in rows]


def test_plugins_cannot_replace_verbs(cli: Cli, install: Install) -> None:
    """A built-in verb stays what it is, whatever a plugin calls its own."""
    install("imposter", _VERB.format(name="ls", plugin="imposter"))
    assert "imposter" not in cli("ls", "shelf:").output


def test_two_plugins_for_one_verb(cli: Cli, install: Install) -> None:
    """A verb that two plugins add is refused, and both are named."""
    for plugin in ("one", "two"):
        install(plugin, _VERB.format(name="audit", plugin=plugin))
    result = cli("audit")
    assert result.exit_code == exits.USAGE
    assert "'one' and 'two'" in only_line(result)


def test_broken_plugins_break_nothing(cli: Cli, install: Install) -> None:
    """A plugin that does not load, or whose hook raises, takes no other verb away."""
    install("broken", "raise ImportError('no such thing')")
    install(
        "failing",
        """
        from connectorkit import hookimpl

        @hookimpl
        def connectorkit_commands(cli):
            raise RuntimeError("hook fails")
        """,
    )
    install("audit", _VERB.format(name="audit", plugin="acme"))
    assert cli("audit").exit_code == exits.OK
    assert cli("--help").exit_code == exits.OK
    assert cli("ls", "shelf:").exit_code == exits.OK
    unknown = cli("nonsense")
    assert unknown.exit_code == exits.USAGE
    assert "no such thing" in only_line(unknown)
    assert "hook fails" in only_line(unknown)


def test_groups_of_plugins(cli: Cli, install: Install) -> None:
    """A plugin's group without a command shows its help, line by line."""
    install(
        "grouped",
        """
        from connectorkit import hookimpl

        @hookimpl
        def connectorkit_commands(cli):
            group = cli.group("acme")(lambda: None)
            group.command("sync")(lambda: None)
        """,
    )
    result = cli("acme")
    assert result.exit_code == exits.USAGE
    assert "\n  sync" in result.stderr
    assert cli("acme", "sync").exit_code == exits.OK
