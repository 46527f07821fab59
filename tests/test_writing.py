"""Text and compression over a binary file: an exception drops what was written."""

from __future__ import annotations

import gc
import io
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from fsspec import AbstractFileSystem
from fsspec.compression import available_compressions

from connectorkit.testing import memory_kit
from connectorkit.writing import AbortingText, Compressed, LayeredOpen, abort

if TYPE_CHECKING:
    from pathlib import Path

CODECS = sorted(filter(None, available_compressions()))


class Binary(io.BytesIO):
    """A file that is committed when it is closed, unless it was aborted."""

    def __init__(self, content: bytes = b"", mode: str = "wb") -> None:
        super().__init__(content)
        self.mode = mode  # type: ignore[misc]
        self.committed: bytes | None = None
        self.reason: BaseException | None = None

    def readable(self) -> bool:
        return "r" in self.mode

    def writable(self) -> bool:
        return "r" not in self.mode

    def close(self) -> None:
        if not self.closed:
            self.committed = self.getvalue()
        super().close()

    def abort(self, error: BaseException | None = None) -> None:
        self.reason = error
        super().close()

    def __exit__(
        self, kind: object, error: BaseException | None, traceback: object
    ) -> None:
        if error is not None and self.writable():
            self.abort(error)
        else:
            self.close()


class Layered(LayeredOpen, AbstractFileSystem):  # type: ignore[misc]
    """Opens files that can abort."""

    cachable = False

    def __init__(self) -> None:
        super().__init__()
        self.files: list[Binary] = []
        self.content = b""

    def _open(self, path: str, mode: str = "rb", **_kwargs: Any) -> Binary:
        self.files.append(Binary(self.content if "r" in mode else b"", mode))
        return self.files[-1]


def _break_off(file: Any, data: Any) -> BaseException:
    """Leave the block of a file by an exception, and return it."""
    error = KeyError("broken off")
    with pytest.raises(KeyError), file:  # noqa: PT012 - the block is it
        file.write(data)
        raise error
    return error


@pytest.mark.parametrize("compression", [None, "infer", *CODECS])
@pytest.mark.parametrize("is_text", [False, True])
def test_exception_aborts(compression: str | None, is_text: bool) -> None:
    """An exception reaches the binary file as it is, and nothing is committed."""
    fs = Layered()
    mode, data = ("wt", "text") if is_text else ("wb", b"bytes")
    error = _break_off(fs.open("file.gz", mode, compression=compression), data)
    [binary] = fs.files
    assert binary.closed
    assert binary.committed is None
    assert binary.reason is error


@pytest.mark.parametrize("compression", [None, "infer", *CODECS])
@pytest.mark.parametrize("is_text", [False, True])
def test_end_commits(compression: str | None, is_text: bool) -> None:
    """At the end of a block all of it is committed, and can be read again."""
    fs = Layered()
    mode, data = ("w", "one\ntwo\n") if is_text else ("wb", b"one\ntwo\n")
    with fs.open("file.gz", mode, compression=compression) as file:
        file.write(data)
    [binary] = fs.files
    assert binary.committed
    fs.content = binary.committed
    mode = mode.replace("w", "r")
    with fs.open("file.gz", mode, compression=compression) as file:
        lines = list(file)
    assert lines == data.splitlines(keepends=True)
    assert fs.files[1].closed


@pytest.mark.parametrize("codec", CODECS)
def test_codecs_file_is_a_file(codec: str) -> None:
    """A compressed file is read, sought and asked as any other."""
    fs = Layered()
    with fs.open("file", "wb", compression=codec) as file:
        assert (file.writable(), file.readable()) == (True, False)
        assert file.write(b"0123456789") == 10
        file.flush()
    fs.content = fs.files[0].committed or b""
    with fs.open("file", "rb", compression=codec) as file:
        assert isinstance(file, Compressed)
        assert (file.writable(), file.readable()) == (False, True)
        assert file.read(2) == b"01"
        assert file.read1(2) == b"23"
        room = bytearray(2)
        assert file.readinto(room) == 2
        assert room == b"45"
        if file.seekable():
            assert file.seek(1) == file.tell() == 1
            assert file.read() == b"123456789"
    with pytest.raises(ValueError, match="closed"):
        file.read()


def test_exception_while_reading_closes() -> None:
    """What is read is closed: there is nothing to drop."""
    fs = Layered()
    fs.content = b"text"
    with pytest.raises(KeyError), fs.open("file", "r") as file:  # noqa: PT012 - the block is it
        file.read()
        raise KeyError
    assert fs.files[0].closed
    assert fs.files[0].reason is None


def test_wrong_encoding_aborts() -> None:
    """A file whose text cannot even begin is not left behind."""
    fs = Layered()
    with pytest.raises(LookupError):
        fs.open("file", "w", encoding="no such")
    assert fs.files[0].committed is None
    with pytest.raises(ValueError, match="no such"):
        fs.open("file", "wb", compression="no such")
    assert all(file.committed is None for file in fs.files)


def test_codec_that_fails_aborts() -> None:
    """If a codec cannot finish, the binary file is aborted with its error."""

    class Failing(io.BytesIO):
        def close(self) -> None:
            raise OSError("the codec failed")

    binary = Binary()
    file = Compressed(lambda _binary, **_mode: Failing(), binary, "w")
    with pytest.raises(OSError, match="codec"):
        file.close()
    assert binary.committed is None
    assert str(binary.reason) == "the codec failed"


def test_file_that_cannot_abort_is_closed() -> None:
    """Over a file of another kind, an exception closes it, as ever."""
    beneath = io.BytesIO()
    _break_off(AbortingText(beneath), "text")
    assert beneath.closed
    abort(again := io.BytesIO())
    assert again.closed


def test_dropped_file_stays_dropped() -> None:
    """To close a dropped file, or to collect it, commits nothing."""
    fs = Layered()
    for mode, compression in [("w", None), ("wb", "gzip"), ("w", "gzip")]:
        file = fs.open("file", mode, compression=compression)
        _break_off(file, "text" if mode == "w" else b"bytes")
        file.close()
        del file
    gc.collect()
    assert [file.committed for file in fs.files] == [None] * 3


def test_collected_file_of_another_kind_is_committed() -> None:
    """Over a file that does not drop what nobody closed, it is closed, as Python's."""
    fs = Layered()
    fs.open("file", "w", compression="gzip").write("text")
    gc.collect()
    assert fs.files[0].committed


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("mode", ["wb", "w", "ab", "xb"])
@pytest.mark.parametrize("place", ["memory", "local"])
def test_collected_file_is_dropped(
    place: str,
    mode: str,
    compression: str | None,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What nobody closed is not complete: what was there before stays, and a line says.

    Of a guarded filesystem; those of S3 and GCS have tests of their own.
    """
    settings = {"path": tmp_path} if place == "local" else {"name": tmp_path.name}
    with memory_kit() as kit:
        fs = kit.resolve(place, settings=settings, trusted=True).fs
        before = [] if mode == "xb" else ["file"]
        for name in before:
            fs.pipe_file(name, b"before")
        data: Any = "text" if mode == "w" else b"text"
        fs.open("file", mode, compression=compression).write(data)
        gc.collect()
        assert "'file' was never closed" in caplog.text.replace("/file", "file")
        assert [name.strip("/") for name in fs.find("")] == before
        assert [fs.cat_file(name) for name in before] == [b"before"] * len(before)


def test_unfinished_file_is_forgotten_at_exit() -> None:
    """A process ends with an open file, and commits nothing then."""
    script = """
        import sys
        from connectorkit.writing import drop_at_exit

        class File:
            closed = False
            def __del__(self):
                print("closed" if self.closed else "left open")

        class Forsaken(File):
            def forsake(self):
                self.closed = True

        keep = File(), Forsaken()
        for file in keep:
            drop_at_exit(file)
    """
    done = subprocess.run(
        [sys.executable, "-c", dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split("\n") == ["closed", "closed", ""]
