"""content in trouble: right bytes, no error by it, and one line that says so."""

from __future__ import annotations

import errno
import io
import logging
import os
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import ObjectChanged
from connectorkit_cache.entry import description_of
from connectorkit_cache.snapshot import BLOCK, Damaged
from test_cache.support import Shelves, entries

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from faults.s3_places import Place

DATA = bytes(range(256)) * 3000


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the cache is."""
    return tmp_path / "cache"


@pytest.fixture
def shelves(directory: Path) -> Iterator[Shelves]:
    """A storage with a cache."""
    with Shelves("content", content={"directory": str(directory)}) as shelves:
        shelves.shelf({"k": DATA, "l": b"another"})
        yield shelves


def check_told_once(caplog: pytest.LogCaptureFixture, word: str) -> None:
    """See that one line was written, and what about."""
    [record] = [it for it in caplog.records if it.name == "connectorkit_cache"]
    assert word in record.message
    assert "'it'" in record.message


# A directory that cannot be used


def _full(monkeypatch: pytest.MonkeyPatch, _directory: Path) -> None:
    def pwrite(*_args: Any) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", pwrite)


def _full_at_the_end(monkeypatch: pytest.MonkeyPatch, _directory: Path) -> None:
    pwrite = os.pwrite

    def some(descriptor: int, data: Any, place: int) -> int:
        if place >= len(DATA) - 10:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(descriptor, data, place)

    monkeypatch.setattr(os, "pwrite", some)


def _read_only(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    def refuse(path: Any, flags: int, *args: Any, **options: Any) -> int:
        if flags & os.O_CREAT and str(path).startswith(str(directory)):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return opened(path, flags, *args, **options)

    # Root may write anywhere, and the tests may run as root.
    opened = os.open
    monkeypatch.setattr(os, "open", refuse)


def _a_file(_monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    directory.write_text("in the way")


def _somebody_elses(_monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    (directory / "v1").mkdir(parents=True)
    (directory / "v1").chmod(0o777)


def _cut_key(_monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    (directory / "v1").mkdir(parents=True, mode=0o700)
    (directory / "v1" / "key").write_bytes(b"short")


def _no_links(monkeypatch: pytest.MonkeyPatch, _directory: Path) -> None:
    def refuse(*_args: Any) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)


TROUBLES = (
    _full,
    _full_at_the_end,
    _read_only,
    _a_file,
    _somebody_elses,
    _cut_key,
    _no_links,
)


@pytest.mark.parametrize("trouble", TROUBLES)
def test_read_around_what_cannot_be_used(
    shelves: Shelves,
    directory: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    trouble: Callable[[pytest.MonkeyPatch, Path], None],
) -> None:
    """A full, read-only, strange or broken directory costs nobody a read."""
    fs = shelves.fs()
    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
        trouble(patch, directory)
        for _ in range(3):
            assert fs.cat_file("k") == DATA
            assert fs.cat_file("k", 5, 9) == DATA[5:9]
            with fs.open("k") as file:
                assert file.read() == DATA
                assert file.fs is fs
        check_told_once(caplog, "read around it")
        assert {*shelves.ears.results()} == {"around"}
    if directory.is_dir():
        assert entries(directory) == []


def test_it_is_used_again_when_it_can_be(
    shelves: Shelves, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that was full and is not any more is written to."""
    fs = shelves.fs()
    with monkeypatch.context() as patch:
        _full(patch, directory)
        fs.cat_file("k")
    assert fs.cat_file("k") == DATA
    assert fs.cat_file("k") == DATA
    assert shelves.ears.results() == ["around", "miss", "hit"]


def test_deleted_while_in_use(shelves: Shelves, directory: Path) -> None:
    """Open files go on, and what is read next makes the directory anew."""
    fs = shelves.fs()
    with fs.open("k") as file:
        assert file.read(10) == DATA[:10]
        shutil.rmtree(directory)
        assert file.read() == DATA[10:]
    for _ in range(2):
        assert fs.cat_file("k") == DATA
    assert fs.cat_file("l") == b"another"
    assert shelves.ears.results() == ["miss", "miss", "hit", "miss"]


def test_deleted_while_it_is_filled(shelves: Shelves, directory: Path) -> None:
    """An entry whose folder goes while it is filled is read around."""
    fs = shelves.fs()
    shelf = shelves.shelves["it"]
    cut, done = shelf.cut, threading.Event()

    def deleting(*args: Any) -> bytes:
        if not done.is_set():
            shutil.rmtree(directory)
            done.set()
        data: bytes = cut(*args)
        return data

    shelf.cut = deleting
    assert fs.cat_file("k") == DATA
    assert fs.cat_file("k") == DATA


# Entries that are damaged


def _flipped(entry: Path, at: int) -> None:
    whole = bytearray(entry.read_bytes())
    whole[at] ^= 1
    entry.write_bytes(whole)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "a bit of the content": lambda it: _flipped(it, 100),
    "a bit of the last block": lambda it: _flipped(it, len(DATA) - 1),
    "a bit of the description": lambda it: _flipped(it, len(DATA) + 10),
    "a bit of the end": lambda it: _flipped(it, -1),
    "a bit of the length": lambda it: _flipped(it, -45),
    "cut": lambda it: os.truncate(it, 1000),
    "cut by a byte": lambda it: os.truncate(it, it.stat().st_size - 1),
    "empty": lambda it: os.truncate(it, 0),
    "zeros": lambda it: it.write_bytes(bytes(it.stat().st_size)),
    "longer": lambda it: it.write_bytes(it.read_bytes() + b"more"),
    "shifted": lambda it: it.write_bytes(b"x" + it.read_bytes()),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_what_is_damaged_is_fetched_again(
    shelves: Shelves,
    directory: Path,
    caplog: pytest.LogCaptureFixture,
    damage: str,
) -> None:
    """No byte of a damaged entry is returned; the next read finds it mended."""
    fs = shelves.fs()
    fs.cat_file("k")
    [entry] = entries(directory)
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            DAMAGES[damage](entry)
            assert fs.cat_file("k") == DATA
        check_told_once(caplog, "damaged")
    shelves.asked()
    assert fs.cat_file("k") == DATA
    assert shelves.asked() == {"info": 1}


def test_damaged_while_it_is_open(s3: Place, key: str, directory: Path) -> None:
    """An open file reads what is damaged from the storage, if that has the version."""
    s3.put(key, DATA)
    policies = {"enabled": ["content"], "content": {"directory": str(directory)}}
    with s3.kit_with(policies=policies) as kit:
        fs = kit.resolve("it").fs
        with fs.open(s3.path(key)) as file:
            [entry] = entries(directory)
            _flipped(entry, BLOCK + 5)
            assert file.read() == DATA
        with fs.open(s3.path(key)) as file:
            [entry] = entries(directory)
            _flipped(entry, BLOCK + 5)
            s3.put(key, DATA[::-1])
            with pytest.raises(OSError, match="replaced"):
                file.read()


def test_damaged_while_it_is_copied(shelves: Shelves, directory: Path) -> None:
    """Into a file that is open already only what is missing is written."""
    fs = shelves.fs()
    fs.cat_file("k")
    [entry] = entries(directory)
    _flipped(entry, len(DATA) - 1)
    target = io.BytesIO(b"head: ")
    target.seek(6)
    fs.get_file("k", None, outfile=target)
    assert target.getvalue() == b"head: " + DATA


def test_damaged_while_it_is_open_unpinned(shelves: Shelves, directory: Path) -> None:
    """So it does of a storage that cannot be asked for one version."""
    fs = shelves.fs()
    with fs.open("k") as file:
        [entry] = entries(directory)
        _flipped(entry, BLOCK + 5)
        assert file.read() == DATA
    with fs.open("k") as file:
        [entry] = entries(directory)
        _flipped(entry, BLOCK + 5)
        shelves.shelves["it"].put("k", DATA[::-1])
        with pytest.raises(ObjectChanged, match="replaced"):
            file.read()


def test_entries_of_others_are_not_mistaken(shelves: Shelves, directory: Path) -> None:
    """An entry that was put in the place of another, of another size, is not read."""
    fs = shelves.fs()
    fs.cat_file("k")
    [one] = entries(directory)
    fs.cat_file("l")
    [other] = {*entries(directory)} - {one}
    shutil.copy(other, one)
    assert fs.cat_file("k") == DATA


def test_a_description_is_checked(tmp_path: Path) -> None:
    """What is no entry has no description."""
    path = tmp_path / "no-entry"
    path.write_bytes(b"x" * 1000)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(Damaged):
            description_of(descriptor)
    finally:
        os.close(descriptor)


def test_only_its_user_may_look(shelves: Shelves, directory: Path) -> None:
    """The directory and its entries are this user's alone."""
    shelves.fs().cat_file("k")
    assert (directory / "v1").stat().st_mode & 0o077 == 0
    [entry] = entries(directory)
    assert entry.stat().st_mode & 0o077 == 0
    assert (directory / "v1" / "key").stat().st_mode & 0o077 == 0
    assert b"secret" not in entry.read_bytes()[len(DATA) :]


def test_a_full_disk_gets_room(
    shelves: Shelves, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When its disk is full the cache lets go of what it has: others need it, too."""
    fs = shelves.fs()
    fs.cat_file("k")
    with monkeypatch.context() as patch:
        _full(patch, directory)
        assert fs.cat_file("l") == b"another"
    assert entries(directory) == []
    for _ in range(2):
        assert fs.cat_file("k") == DATA
    assert shelves.ears.results() == ["miss", "around", "miss", "hit"]
