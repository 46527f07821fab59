"""`connectorkit cache`: what is on disk."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connectorkit.cli import output
from connectorkit.cli.asking import confirm
from connectorkit.cli.common import common, with_session
from connectorkit.cli.exits import FAILED, Failure
from connectorkit_cache.entry import description_of
from connectorkit_cache.locks import is_at, try_lock
from connectorkit_cache.snapshot import Damaged

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit.cli.session import Session

__all__ = ["cache"]


@click.group()
@common()
def cache() -> None:
    """Look at what the policy `content` keeps on disk, or delete it."""


_directory = click.option(
    "--dir",
    "directory",
    type=click.Path(file_okay=False, path_type=Path),
    help="The cache's directory; else those that the configuration names, or the "
    "user's own.",
)


@cache.command()
@_directory
@common()
@with_session
def show(session: Session, directory: Path | None) -> None:
    """Show how much is there, by the ID of the connector that fetched it."""
    found = [_about(each) for each in _directories(session, directory)]
    if session.as_json:
        output.document(found)
        return
    for each in found:
        click.echo(
            f"{each['directory']}: {each['entries']} entries, "
            f"{output.size(each['bytes'])}; {each['parts']} being filled or left over, "
            f"{each['damaged']} damaged"
        )
        for connector, its in each["connectors"].items():
            told = f"{its['entries']} entries, {output.size(its['bytes'])}"
            click.echo(f"  {output.one_line(connector)}: {told}")


@cache.command()
@_directory
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@common()
@with_session
def clear(session: Session, directory: Path | None, *, yes: bool) -> None:
    """Delete all entries; asks first. What is being read or filled goes on."""
    places = _directories(session, directory)
    if not yes:
        told = ", ".join(map(str, places))
        confirm(f"Delete all entries in {told}?", done="deleted")
    done = [_cleared(each) for each in places]
    if session.as_json:
        output.document(done)
    else:
        for each in done:
            told = f"{each['entries']} entries deleted, {output.size(each['bytes'])}"
            click.echo(f"{each['directory']}: {told}")
    if failed := sum(each["failed"] for each in done):
        raise Failure(f"{failed} entries could not be deleted.", FAILED)


def _directories(session: Session, directory: Path | None) -> list[Path]:
    """Return the directories of the configuration, each once."""
    if directory is not None:
        return [directory]
    config, resolver = session.kit.config, session.kit._resolver
    tables = {
        f"connector {name!r}": its.tables["content"]
        for name, its in [*config.connectors.items(), *config.system.items()]
        if "content" in its.tables
    }
    every = ("every connector", None)
    made = [resolver.configured("content", *it) for it in [every, *tables.items()]]
    return [*dict.fromkeys(settings.folder for _, settings in made)]  # type: ignore[attr-defined]


def _entries(directory: Path) -> Iterator[Path]:
    yield from sorted((directory / "v1" / "objects").glob("??/*"))


def _about(directory: Path) -> dict[str, Any]:
    entries: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    parts = damaged = 0
    for path in _entries(directory):
        if path.suffix == ".part":
            parts += 1
            continue
        try:
            about, size = _description(path)
        except FileNotFoundError:
            continue
        except (OSError, Damaged, ValueError, KeyError):
            damaged += 1
            continue
        entries[about["connector"]] += 1
        sizes[about["connector"]] += size
    return {
        "directory": str(directory),
        "entries": entries.total(),
        "bytes": sizes.total(),
        "parts": parts,
        "damaged": damaged,
        "connectors": {
            name: {"entries": entries[name], "bytes": sizes[name]}
            for name in sorted(entries)
        },
    }


def _description(path: Path) -> tuple[dict[str, Any], int]:
    """Return what an entry says of itself, and its length."""
    # What is no file may have to be waited for.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags)
    try:
        return description_of(descriptor), os.fstat(descriptor).st_size
    finally:
        os.close(descriptor)


def _cleared(directory: Path) -> dict[str, Any]:
    from connectorkit_cache.usage import Usage

    count = size = failed = 0
    for path in _entries(directory):
        with contextlib.suppress(FileNotFoundError):
            its = path.lstat().st_size
            if path.suffix == ".part" and _is_filled(path):
                continue
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError:
                failed += 1
                continue
            if path.suffix != ".part":
                count, size = count + 1, size + its
    root = directory / "v1"
    if count:
        Usage(root / "usage", root / "objects").recount()
    told = {"directory": str(directory), "entries": count, "bytes": size}
    return {**told, "failed": failed}


def _is_filled(part: Path) -> bool:
    """Tell whether somebody fills it now."""
    try:
        descriptor = os.open(part, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        # It is none of ours.
        return False
    try:
        return not (try_lock(descriptor) and is_at(descriptor, part))
    finally:
        os.close(descriptor)
