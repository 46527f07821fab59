"""fsspec's own suites hold on every connector type that the kit brings.

fsspec's functions for `mv` are not among them: they open fsspec's own local filesystem
by its name, and so tell nothing of another.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

import pytest
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from connectorkit import ConnectorKit
from contracts.places import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsspec import AbstractFileSystem

    from connectorkit import Connector
    from servers import GcsEmulator, MotoS3

# A connector and a folder of it that is the suite's own.
Place: TypeAlias = "tuple[Connector, str]"

_numbers = itertools.count()


@pytest.fixture(scope="module")
def kit(
    moto_s3: MotoS3, gcs_emulator: GcsEmulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConnectorKit]:
    """Make a kit with a connector of each type, under the type's ID."""
    settings = {
        "s3": settings_for("s3", moto_s3),
        "gcs": settings_for("gcs", gcs_emulator),
        "local": {"path": str(tmp_path_factory.mktemp("local"))},
        "memory": {"name": "fsspec-suite"},
    }
    with ConnectorKit(
        {"connectors": {i: {"type": i, "settings": s} for i, s in settings.items()}}
    ) as kit:
        yield kit


def _join(*parts: str) -> str:
    return "/".join(parts)


def _once(build: str) -> Any:
    """Let the tests share what they only read; fsspec would make it for each."""

    @pytest.fixture(scope="class")  # type: ignore[misc]
    @classmethod
    def source(cls: type[AbstractFixtures], place: Place) -> str:
        connector, folder = place
        path: str = getattr(cls(), build)(connector.fs, _join, f"{folder}/{build}")
        return path

    return source


class _Suite(
    AbstractCopyTests,  # type: ignore[misc]
    AbstractGetTests,  # type: ignore[misc]
    AbstractPutTests,  # type: ignore[misc]
    AbstractPipeTests,  # type: ignore[misc]
    AbstractOpenTests,  # type: ignore[misc]
    AbstractFixtures,  # type: ignore[misc]
):
    @pytest.fixture
    def fs(self, place: Place) -> AbstractFileSystem:
        return place[0].fs

    @pytest.fixture
    def fs_path(self, place: Place) -> str:
        return f"{place[1]}/{next(_numbers)}"

    @pytest.fixture
    def fs_target(self, fs_path: str) -> str:
        # fsspec's cleans up, which here costs more requests than some of the tests.
        return f"{fs_path}/target"

    @pytest.fixture
    def fs_join(self) -> Callable[..., str]:
        return _join

    fs_bulk_operations_scenario_0 = _once("_bulk_operations_scenario_0")
    fs_glob_edge_cases_files = _once("_glob_edge_cases_files")
    fs_dir_and_file_with_same_name_prefix = _once("_dir_and_file_with_same_name_prefix")
    fs_10_files_with_hashed_names = _once("_10_files_with_hashed_names")


class _BucketSuite(_Suite):
    @pytest.fixture
    def supports_empty_directories(self) -> bool:
        return False


class TestS3(_BucketSuite):
    """Type `s3`, by its endpoint at a moto."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, kit: ConnectorKit, moto_s3: MotoS3) -> Place:
        """Make the bucket."""
        return kit.resolve("s3"), moto_s3.bucket()


class TestGCS(_BucketSuite):
    """Type `gcs`, at an emulator."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, kit: ConnectorKit, gcs_emulator: GcsEmulator) -> Place:
        """Make the bucket."""
        return kit.resolve("gcs"), gcs_emulator.bucket()

    @pytest.mark.xfail(
        strict=True,
        raises=pytest.fail.Exception,
        reason="the emulator ignores ifGenerationMatch and lets the second write win",
    )
    def test_pipe_exclusive(self, fs: AbstractFileSystem, fs_target: str) -> None:
        """A write that demands a new name leaves an old one alone."""
        super().test_pipe_exclusive(fs, fs_target)


class TestLocal(_Suite):
    """Type `local`."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, kit: ConnectorKit) -> Place:
        """Take the root of the connector."""
        return kit.resolve("local"), "suite"


class TestMemory(_Suite):
    """Type `memory`."""

    @pytest.fixture(scope="class")
    @classmethod
    def place(cls, kit: ConnectorKit) -> Place:
        """Take the root of the store, which fsspec's class writes with a slash."""
        return kit.resolve("memory"), "/suite"
