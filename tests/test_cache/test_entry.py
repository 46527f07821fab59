"""content: an entry is checked when it is read, and no more often than it has to be."""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit_cache import entry
from connectorkit_cache.snapshot import BLOCK
from test_cache.support import Shelves

if TYPE_CHECKING:
    from pathlib import Path

DATA = hashlib.shake_256(b"entry").digest(3 * BLOCK + 1000)


def _whole(file: Any) -> bytes:
    data: bytes = file.read()
    return data


def _in_pieces(file: Any) -> bytes:
    """Read by so much that no block ends where a read does."""
    steps = iter(itertools.cycle([10, 8192, 50_000, BLOCK + 7]))
    return b"".join(iter(lambda: file.read(next(steps)), b""))


def _by_lines(file: Any) -> bytes:
    return b"".join(file)


@pytest.mark.parametrize("read", [_whole, _in_pieces, _by_lines])
def test_each_block_is_checked_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any
) -> None:
    """However an open file is read on: to check is most of what reading costs."""
    with Shelves("content", content={"directory": str(tmp_path / "cache")}) as shelves:
        shelves.shelf({"a/b": DATA})
        fs = shelves.fs()
        assert fs.cat_file("a/b") == DATA
        checked: Counter[bytes] = Counter()

        def digest(data: bytes) -> Any:
            checked[data] += 1
            return hashlib.sha256(data)

        monkeypatch.setattr(entry, "_digest", digest)
        with fs.open("a/b") as file:
            assert read(file) == DATA
        starts = range(0, len(DATA), BLOCK)
        blocks = [DATA[start : start + BLOCK] for start in starts]
        assert [checked[block] for block in blocks] == [1, 1, 1, 1]
