"""A local file that is replaced is the old one or the new, and nothing is beside it."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit.atomic import replacing


def test_it_takes_its_place_at_the_end(tmp_path: Path) -> None:
    """Until then the old content is there, or no file."""
    target = tmp_path / "target"
    for old, new in ((None, b"first"), (b"first", b"second")):
        with replacing(target) as file:
            file.write(new)
            file.flush()
            assert (target.read_bytes() if target.exists() else None) == old
        assert target.read_bytes() == new
        assert [*tmp_path.iterdir()] == [target]


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, GeneratorExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_an_exception_leaves_what_was_there(
    tmp_path: Path, old: bytes | None, kind: type[BaseException]
) -> None:
    """Of any kind; it is raised itself, and nothing stays beside."""
    target = tmp_path / "target"
    if old is not None:
        target.write_bytes(old)
    error = kind("why")

    def write() -> None:
        with replacing(target) as file:
            file.write(b"half")
            raise error

    with pytest.raises(kind) as caught:
        write()
    assert caught.value is error
    assert (target.read_bytes() if target.exists() else None) == old
    assert [*tmp_path.iterdir()] == ([target] if old else [])


def test_its_mode_stays(tmp_path: Path) -> None:
    """The new file may be read and written by whom the old one was."""
    target = tmp_path / "target"
    target.write_bytes(b"old")
    target.chmod(0o640)
    with replacing(target) as file:
        file.write(b"new")
    assert stat.S_IMODE(target.stat().st_mode) == 0o640


def test_a_new_file_has_the_usual_mode(tmp_path: Path) -> None:
    """It is the one that `open` gives."""
    with replacing(tmp_path / "target"):
        pass
    (tmp_path / "usual").touch()
    modes = {path.stat().st_mode for path in tmp_path.iterdir()}
    assert len(modes) == 1


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """What it points to is replaced, whether it was there or not."""
    (tmp_path / "folder").mkdir()
    link, real = tmp_path / "link", tmp_path / "folder" / "real"
    link.symlink_to(real)
    for content in (b"first", b"second"):
        with replacing(link) as file:
            file.write(content)
        assert link.is_symlink()
        assert real.read_bytes() == content
    assert [*real.parent.iterdir()] == [real]


def test_a_pipe_is_written_itself(tmp_path: Path) -> None:
    """What is no regular file cannot be replaced."""
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
    reader.start()
    with replacing(pipe) as file:
        file.write(b"through")
    reader.join(30)
    assert read == [b"through"]
    assert pipe.is_fifo()
    with replacing("/dev/null") as file:
        file.write(b"nowhere")
    assert Path("/dev/null").is_char_device()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """The error names the file that was asked for, not the one beside it."""
    target = tmp_path / "no" / "target"
    with pytest.raises(FileNotFoundError) as caught, replacing(target):
        pass
    assert caught.value.filename == str(target)


@given(name=st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1))
def test_any_name(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """Any name that a file can have is one that can be replaced."""
    folder = tmp_path_factory.getbasetemp()
    # Filesystems take names of up to 255 bytes.
    encoded = (name * 255).encode()[:255].decode(errors="ignore")
    if encoded.strip(".") == "":
        return
    target = folder / encoded
    with replacing(target) as file:
        file.write(b"new")
    assert target.read_bytes() == b"new"
    target.unlink()
