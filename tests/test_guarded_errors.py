"""What a storage says is raised, and pieces are of one version."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from connectorkit import ObjectChanged
from guarding import FILES, Guard, Shelf

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def shelf() -> Shelf:
    """Make a storage with a few files."""
    return Shelf(FILES)


@pytest.fixture
def guard(shelf: Shelf) -> Guard:
    """Guard it."""
    return Guard(shelf)


class TestNothingIsSwallowed:
    """Every answer but "it is not there" is raised."""

    @pytest.mark.parametrize(
        "call",
        [
            lambda fs: list(fs.walk("")),
            lambda fs: list(fs.walk("", detail=True)),
            lambda fs: fs.find(""),
            lambda fs: fs.glob("*"),
            lambda fs: fs.glob("a/b"),
            lambda fs: fs.du(""),
            lambda fs: fs.exists("a/b"),
            lambda fs: fs.lexists("a/b"),
            lambda fs: fs.isfile("a/b"),
            lambda fs: fs.isdir("a"),
            lambda fs: fs.rm("a", recursive=True),
            lambda fs: fs.rm(["a/b", "e"]),
            lambda fs: fs.cat_ranges(["a/b", "e"], [0, 0], [1, 1]),
            lambda fs: fs.cat_ranges(["e", "e"], [0, 1], [1, 2]),
            lambda fs: fs.expand_path("a/*"),
            lambda fs: fs.cat("a", recursive=True),
            lambda fs: fs.copy("a", "z", recursive=True),
            lambda fs: fs.get("a", "/dev/null/nowhere", recursive=True),
            lambda fs: fs.tree(""),
            lambda fs: fs.sizes(["a/b"]),
        ],
    )
    @pytest.mark.parametrize("skip", [0, 1])
    @pytest.mark.parametrize(
        "error", [PermissionError(13, "denied"), OSError(5, "broken")]
    )
    def test_refusal(
        self,
        guard: Guard,
        shelf: Shelf,
        call: Callable[[Any], Any],
        skip: int,
        error: OSError,
    ) -> None:
        """A refusal is raised, whether it comes at the first access or later."""
        shelf.fail(*[None] * skip, *[error] * 9)
        try:
            call(guard.fs)
        except OSError as raised:
            assert raised is error
        else:
            # It was not asked that often.
            assert skip
            assert len(shelf.asked) <= skip

    def test_refusal_below(self, guard: Guard, shelf: Shelf) -> None:
        """A folder that cannot be listed is told of, however deep it lies."""
        error = PermissionError(13, "denied")
        for skip in (1, 2):
            shelf.files["a/c/f/g"] = b""
            shelf.versions["a/c/f/g"] = 0
            shelf.faults.clear()
            shelf.fail(*[None] * skip, error)
            with pytest.raises(PermissionError):
                list(guard.fs.walk(""))

    def test_callable_hears_of_all(self, guard: Guard, shelf: Shelf) -> None:
        """Who asks to be told instead is told of every folder, not of the first."""
        heard: list[OSError] = []
        shelf.fail(None, PermissionError(13, "denied"))
        found = [path for path, *_ in guard.fs.walk("", on_error=heard.append)]
        assert found == [""]
        assert len(heard) == 1

    def test_gone(self, guard: Guard) -> None:
        """What is not there is not there: no, or nothing."""
        fs = guard.fs
        assert not fs.exists("no")
        assert not fs.isfile("no")
        assert not fs.isdir("no")
        assert list(fs.walk("no")) == []
        assert fs.find("no") == []
        assert fs.glob("no*") == []

    def test_below_a_file(self, tmp_path: Path) -> None:
        """Below a file there is nothing, as local filesystems say in other words."""
        (tmp_path / "file").touch()
        fs = Guard(LocalFileSystem()).fs
        for ask in (fs.exists, fs.isfile, fs.isdir):
            assert not ask(str(tmp_path / "file" / "below"))

    @pytest.mark.parametrize("method", ["exists", "isfile", "isdir"])
    def test_no_of_a_class_that_swallows(self, method: str) -> None:
        """A no that a class made of an error is not believed; a yes is."""

        class Swallowing(Shelf):
            def exists(self, path: str, **_kwargs: Any) -> bool:
                return bool(self.asked)

            isfile = isdir = exists

        shelf = Swallowing(FILES)
        shelf.fail(PermissionError(13, "denied"))
        fs = Guard(shelf).fs
        with pytest.raises(PermissionError):
            getattr(fs, method)("a")
        assert getattr(fs, method)("anything")

    def test_errors_in_a_list(self, guard: Guard, shelf: Shelf) -> None:
        """A class that hands errors back in a list, asked not to, raises them."""

        class Handing(Shelf):
            def cat_ranges(self, *_args: Any, **_kwargs: Any) -> list[Any]:
                return [b"", PermissionError(13, "denied")]

            def rm(self, *_args: Any, **_kwargs: Any) -> Any:
                return [None, PermissionError(13, "denied")]

        fs = Guard(Handing(FILES)).fs
        with pytest.raises(PermissionError):
            fs.cat_ranges(["e", "a/b"], [0, 0], [1, 1])
        with pytest.raises(PermissionError):
            fs.rm(["e", "a/b"])

    def test_errors_that_were_asked_for(self, guard: Guard, shelf: Shelf) -> None:
        """Who asks for errors in the list gets them there."""
        shelf.fail(None, PermissionError(13, "denied"))
        ranges = guard.fs.cat_ranges(["e", "a/b"], [0, 0], [1, 1], on_error="return")
        assert ranges[0] == b"t"
        assert isinstance(ranges[1], PermissionError)

    def test_walk_of_a_class_of_its_own(self) -> None:
        """Its `walk` is used, and one that has failed does not come to its end."""

        class Walking(Shelf):
            def walk(self, path: str, **_kwargs: Any) -> Iterator[Any]:
                yield path, ["a"], []
                raise ConnectionRefusedError(errno.ECONNREFUSED, "refused")

        guard = Guard(Walking(FILES))
        steps = guard.fs.walk("")
        assert next(steps) == ("", ["a"], [])
        with pytest.raises(ConnectionRefusedError):
            next(steps)
        assert guard.names == ["walk", "walk"]


class TestVersions:
    """What comes in several pieces is of one version."""

    def test_get(self, guard: Guard, shelf: Shelf, tmp_path: Path) -> None:
        """A file that is replaced while it is got does not arrive."""
        get = Shelf.get_file

        def replacing(rpath: str, lpath: Any, **_kwargs: Any) -> None:
            get(shelf, rpath, lpath)
            shelf.put("a/b", b"another")

        shelf.get_file = replacing  # type: ignore[method-assign]
        (tmp_path / "b").write_bytes(b"old")
        with pytest.raises(ObjectChanged):
            guard.fs.get_file("a/b", str(tmp_path / "b"))
        assert [each.name for each in tmp_path.iterdir()] == ["b"]
        assert (tmp_path / "b").read_bytes() == b"old"

    def test_ranges(self, guard: Guard, shelf: Shelf) -> None:
        """Ranges of a file that is replaced between them are not told."""
        cat = Shelf.cat_file

        def replacing(*args: Any, **kwargs: Any) -> bytes:
            data = cat(shelf, *args, **kwargs)
            shelf.put("a/b", b"another")
            return data

        shelf.cat_file = replacing  # type: ignore[method-assign]
        with pytest.raises(ObjectChanged):
            guard.fs.cat_ranges(["a/b", "a/b"], [0, 3], [3, 6])
        # One range of each is of one version in any case.
        assert guard.fs.cat_ranges(["a/b", "e"], 0, 3) == [b"ano", b"top"]

    def test_deleted_meanwhile(self, guard: Guard, shelf: Shelf) -> None:
        """One that is deleted meanwhile has changed, too."""
        cat = Shelf.cat_file

        def deleting(*args: Any, **kwargs: Any) -> bytes:
            data = cat(shelf, *args, **kwargs)
            shelf.versions["a/b"] += 1
            return data

        shelf.cat_file = deleting  # type: ignore[method-assign]
        with pytest.raises(ObjectChanged):
            guard.fs.cat_ranges(["a/b", "a/b"], [0, 3], [3, 6])

    def test_storage_that_does_not_say(self, shelf: Shelf, tmp_path: Path) -> None:
        """Where a file may be read but not looked up, there is nothing to compare."""

        class Silent(Shelf):
            def info(self, path: str, **_kwargs: Any) -> dict[str, Any]:
                raise PermissionError(13, "denied")

        guard = Guard(Silent(FILES))
        guard.fs.get_file("a/b", str(tmp_path / "b"))
        assert (tmp_path / "b").read_bytes() == b"content"
