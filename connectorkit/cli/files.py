"""The commands that touch files: ls, stat, cat, cp, rm."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from connectorkit.cli import output
from connectorkit.cli.asking import confirm
from connectorkit.cli.common import common, with_session
from connectorkit.cli.exits import FAILED, Failure
from connectorkit.cli.output import Column
from connectorkit.cli.places import STANDARD, Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from connectorkit.cli.session import Session
    from connectorkit.objects import ObjectInfo

__all__ = ["cat", "cp", "ls", "rm", "stat"]


@click.command()
@click.argument("place", metavar="PLACE")
@click.option("-l", "--long", "is_long", is_flag=True, help="Show sizes and times.")
@click.option("-r", "--recursive", is_flag=True, help="List all files below.")
@common()
@with_session
def ls(session: Session, place: str, *, is_long: bool, recursive: bool) -> None:
    """List a folder, a bucket or a connector's root.

    Names of folders end in a slash. PLACE is ID:path, or a local path.
    """
    found = session.place(place).listing(recursive=recursive)
    if session.as_json:
        output.document([_facts(info) for _, info in found])
        return
    name = Column("name")
    names = [f"{text}/" if info.is_dir else text for text, info in found]
    if not is_long:
        output.lines(names)
        return
    columns = (
        Column("size", justify="right", fold=False, human=output.size),
        Column("modified", style="dim", fold=False, human=output.moment),
        name,
    )
    rows = [
        (None if info.is_dir else info.size, info.modified, text)
        for text, (_, info) in zip(names, found, strict=True)
    ]
    output.table(columns, rows)


@click.command()
@click.argument("place", metavar="PLACE")
@common()
@with_session
def stat(session: Session, place: str) -> None:
    """Tell size, time and hash of an object or a file."""
    facts = _facts(session.place(place).info())
    if session.as_json:
        output.document(facts)
        return
    if sys.stdout.isatty():
        facts["size"] = f"{facts['size']} ({output.size(facts['size'])})"
    output.record(facts.items())


@click.command()
@click.argument("places", metavar="PLACE...", nargs=-1, required=True)
@common()
@with_session
def cat(session: Session, places: tuple[str, ...]) -> None:
    """Write files to standard output.

    A PLACE of - is standard input. With --json the content stays what it is, and
    errors alone are JSON.
    """
    from connectorkit.cli.transfer import to_stdout

    for text in places:
        to_stdout(_given(session, text))


@click.command()
@click.argument("sources", metavar="SRC...", nargs=-1, required=True)
@click.argument("target", metavar="DST")
@click.option("-r", "--recursive", is_flag=True, help="Copy folders, too.")
@common()
@with_session
def cp(
    session: Session, sources: tuple[str, ...], target: str, *, recursive: bool
) -> None:
    """Copy files from anywhere to anywhere.

    SRC and DST are ID:path, a local path, or - for standard input or output. Into a
    DST that is a folder, or ends in a slash, each SRC goes under its own name; the
    content of a folder goes there by SRC/. instead. A file is copied whole or not at
    all.
    """
    from connectorkit.cli.progress import progress
    from connectorkit.cli.transfer import copy

    jobs = _plan(session, sources, target, recursive=recursive)
    _refuse_clashes(jobs)
    total = sum(job.size for job in jobs if job.size is not None)
    is_known = all(job.size is not None for job in jobs)
    done = []
    is_visible = target != STANDARD or not sys.stdout.isatty()
    with progress(total if is_known else None, len(jobs), shown=is_visible) as tell:
        for job in jobs:
            tell.begin(job.source.text)
            count = copy(job.source, job.target, job.size, tell.advance)
            done.append((job.source.text, job.target.text, count))
    if target == STANDARD:
        return
    if session.as_json:
        keys = ("source", "target", "size")
        output.document([dict(zip(keys, each, strict=True)) for each in done])
    elif sys.stdout.isatty():
        files = "1 file" if len(done) == 1 else f"{len(done)} files"
        size = output.size(sum(count for *_, count in done))
        output.write(f"{files} copied, {size}\n")
    else:
        output.table([Column("")] * 3, done)


@click.command()
@click.argument("places", metavar="ID:PATH...", nargs=-1, required=True)
@click.option("-r", "--recursive", is_flag=True, help="Remove folders, too.")
@click.option("-y", "--yes", is_flag=True, help="Do not ask before a folder goes.")
@common()
@with_session
def rm(
    session: Session, places: tuple[str, ...], *, recursive: bool, yes: bool
) -> None:
    """Remove objects and files of connectors.

    A top folder, which may be a bucket, is emptied and stays. The root of a connector
    is never removed.
    """
    from connectorkit.cli.removal import Removal

    removals = [Removal.of(session.place(text)) for text in places]
    for removal in removals:
        if removal.is_folder and not recursive:
            raise click.UsageError(f"{removal.place}: it is a folder: pass -r.")
    for removal in removals:
        if removal.is_folder and not yes:
            confirm(removal.question, done="removed")
    done = [(removal.place.text, removal.run()) for removal in removals]
    if session.as_json:
        keys = ("place", "files")
        output.document([dict(zip(keys, each, strict=True)) for each in done])
    elif not sys.stdout.isatty():
        output.table([Column("")] * 2, done)


def _facts(info: ObjectInfo) -> dict[str, Any]:
    return dataclasses.asdict(info)


def _given(session: Session, text: str) -> Place:
    return Place(STANDARD, STANDARD) if text == STANDARD else session.place(text)


@dataclasses.dataclass(frozen=True, slots=True)
class _Job:
    """One file to copy; its size is None where nobody knows it."""

    source: Place
    target: Place
    size: int | None


def _plan(
    session: Session, sources: tuple[str, ...], target: str, *, recursive: bool
) -> list[_Job]:
    """Say which file goes where."""
    place = _given(session, target)
    is_folder = target != STANDARD and (target.endswith("/") or place.is_folder())
    if len(sources) > 1 and not is_folder:
        raise click.UsageError(
            f"{target}: it is no folder, which several sources need: end it in /."
        )
    jobs: list[_Job] = []
    for text in sources:
        source = _given(session, text)
        if text == STANDARD:
            if is_folder:
                raise click.UsageError(
                    "Standard input has no name: name the file, not its folder."
                )
            jobs.append(_Job(source, place, None))
            continue
        into = place.join(source.name) if is_folder and source.name else place
        info = source.info()
        if not info.is_dir:
            jobs.append(_Job(source, into, info.size))
        elif not recursive:
            raise click.UsageError(f"{text}: it is a folder: pass -r.")
        elif target == STANDARD:
            raise click.UsageError(f"{text}: a folder cannot go to standard output.")
        else:
            jobs += _tree(session, source, into)
    return jobs


def _tree(session: Session, source: Place, target: Place) -> Iterator[_Job]:
    """Say which file below a folder goes where."""
    from connectorkit.cli.transfer import local_path

    is_to_disk = local_path(target) is not None
    for name, found in source.listing(recursive=True):
        file = source.join(name)
        if (path := local_path(file)) is not None and not path.is_file():
            session.say(f"warning: {file.text}: left out, since it is no file.")
        elif is_to_disk and {"", ".", ".."} & {*name.split("/")}:
            # An object may be called ../../.profile.
            raise Failure(f"{file.text}: it cannot be a local file's name.", FAILED)
        else:
            yield _Job(file, target.join(name), found.size)


def _refuse_clashes(jobs: list[_Job]) -> None:
    taken: dict[tuple[object, str], str] = {}
    for job in jobs:
        if STANDARD in (job.source.text, job.target.text):
            continue
        if _spot(job.source) == _spot(job.target):
            raise click.UsageError(f"{job.source.text} and {job.target.text} are one.")
        other = taken.setdefault(_spot(job.target), job.source.text)
        if other != job.source.text:
            raise click.UsageError(
                f"{other} and {job.source.text} would both become {job.target.text}."
            )


def _spot(place: Place) -> tuple[object, str]:
    if place.connector is None:
        return None, str(Path(place.path).resolve())
    return id(place.fs), place.path
