"""fsspec's own suites hold on its local filesystem, guarded, as on the bare one.

Through a DirFileSystem, and on memory, they hold in the contracts of connector types.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.tests.abstract import (
    AbstractCopyTests,
    AbstractFixtures,
    AbstractGetTests,
    AbstractOpenTests,
    AbstractPipeTests,
    AbstractPutTests,
)

from guarding import Guard

if TYPE_CHECKING:
    from pathlib import Path


class TestLocal(
    AbstractCopyTests,  # type: ignore[misc]
    AbstractGetTests,  # type: ignore[misc]
    AbstractPutTests,  # type: ignore[misc]
    AbstractPipeTests,  # type: ignore[misc]
    AbstractOpenTests,  # type: ignore[misc]
    AbstractFixtures,  # type: ignore[misc]
):
    """All of them but the one for `mv`, which opens a filesystem by itself."""

    @pytest.fixture
    def fs(self) -> Any:
        """Guard it."""
        return Guard(LocalFileSystem(auto_mkdir=True)).fs

    @pytest.fixture
    def fs_path(self, tmp_path: Path) -> str:
        """Take a folder of the test's."""
        return str(tmp_path)
