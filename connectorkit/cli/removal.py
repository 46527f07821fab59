"""Removing files and folders, and making sure that they are gone."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import click

from connectorkit.cli import output
from connectorkit.cli.transfer import local_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from connectorkit.cli.places import Place
    from connectorkit.objects import ObjectInfo

__all__ = ["Removal"]

# S3 deletes so many at a time; between two batches Ctrl-C is heard.
_BATCH = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Removal:
    """A file to remove, or a folder with the files in it."""

    place: Place
    is_folder: bool
    files: Sequence[ObjectInfo]

    @classmethod
    def of(cls, place: Place) -> Removal:
        """Look at what is to be removed.

        Raises:
            Failure: It is not there, or is nothing that this command removes.
        """
        if place.connector is None:
            raise click.UsageError(
                f"{place}: it is a local path: name a connector's, ID:path."
            )
        if place.is_root:
            raise click.UsageError(
                f"{place}: the root of a connector is not removed: name what is in it."
            )
        info = place.info()
        if not info.is_dir:
            return cls(place, is_folder=False, files=[info])
        found = [info for _, info in place.listing(recursive=True)]
        return cls(place, is_folder=True, files=found)

    @property
    def question(self) -> str:
        """What to ask before a folder goes."""
        count = len(self.files)
        files = "1 file" if count == 1 else f"{count} files"
        size = output.size(sum(info.size for info in self.files))
        return f"Remove {output.one_line(self.place.text)} with {files}, {size}?"

    def run(self) -> int:
        """Remove it and return how many files went.

        Raises:
            Failure: Something is still there.
        """
        with self.place.told():
            if not self.is_folder:
                self.place.fs.rm_file(self.place.path)
            elif local_path(self.place) is not None:
                self.place.fs.rm(self.place.path, recursive=True)
            else:
                self._empty()
        return len(self.files)

    def _empty(self) -> None:
        fs = self.place.fs
        # With the empty objects that mark folders, which no listing shows.
        paths = fs.find(self.place.path)
        for start in range(0, len(paths), _BATCH):
            fs.rm(paths[start : start + _BATCH])
        # fsspec takes the slash off the names of the objects that mark folders.
        left = {*paths} & {*fs.find(self.place.path)}
        for path in sorted(left):
            fs.rm_file(path)
        # What is listed now are real folders, the deepest last; a top one may be a
        # bucket.
        folders = {*fs.find(self.place.path, withdirs=True), self.place.path}
        for folder in sorted(folders, reverse=True):
            if "/" in folder.strip("/") and fs.isdir(folder):
                fs.rmdir(folder)
