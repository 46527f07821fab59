"""connector://ID/path: paths, files, transactions, transfers, the process's kit."""

from __future__ import annotations

import io
import threading
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import fsspec
import pytest

import connectorkit
from connectorkit import (
    ConnectorKit,
    InvalidConnectorID,
    KitClosed,
    ObjectChanged,
    UnknownConnector,
    default_kit,
    set_default_kit,
)
from connectorkit.protocol.filesystem import ConnectorFileSystem
from connectorkit.testing import ReplaceObject, Status, VirtualClock, memory_kit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faults.s3_places import Place

MEMORY = {"type": "memory"}
MINE = "minio|c799f6e3-2b57-434e-aaac-b5daa415da19"


@pytest.fixture
def kit() -> Iterator[ConnectorKit]:
    """Make a kit of two memories the process's."""
    kit = memory_kit("other", MINE, reports={"a/b.csv": "1,2"})
    with kit, set_default_kit(kit):
        yield kit


@pytest.fixture
def fs(kit: ConnectorKit) -> ConnectorFileSystem:
    """Give the filesystem of that kit."""
    assert default_kit() is kit
    return ConnectorFileSystem()


@pytest.mark.usefixtures("kit")
class TestPaths:
    """An ID is the first part of a path."""

    @pytest.mark.parametrize(
        "path",
        [
            "connector://reports/a/b.csv",
            "connector:///reports/a/b.csv",
            "reports/a/b.csv",
            "/reports/a/b.csv",
        ],
    )
    def test_spellings_of_one_path(self, fs: ConnectorFileSystem, path: str) -> None:
        """With the protocol or without, a path leads to the same file."""
        assert fs.cat_file(path) == b"1,2"
        assert fs.unstrip_protocol(path) == "connector://reports/a/b.csv"

    def test_id_is_escaped_or_not(self, fs: ConnectorFileSystem) -> None:
        """A `|` in an ID may be written %7C, and is answered as it is."""
        fs.pipe_file(f"connector://{MINE}/x", b"1")
        escaped = MINE.replace("|", "%7C")
        assert fs.find(f"connector://{escaped}") == [f"{MINE}/x"]

    @pytest.mark.parametrize(
        "name",
        ["a%20b", "a b", "ä/ß", "日本", "a|b", "a#b", "a+b", "a&b=c", "%2F", "~"],
    )
    def test_a_path_is_never_decoded(self, fs: ConnectorFileSystem, name: str) -> None:
        """What is after the ID is the storage's, letter by letter."""
        url = f"connector://other/dir/{name}"
        with connectorkit.open(url, "wb") as file:
            file.write(b"1")
        assert default_kit().resolve("other").fs.cat_file(f"dir/{name}") == b"1"
        assert fs.find("other/dir") == [f"other/dir/{name}"]
        assert fsspec.open(url).open().read() == b"1"

    @pytest.mark.parametrize(
        "path",
        ["connector://.", "connector://../x", "connector://a b/x", "connector://a%2Fb"],
    )
    def test_what_is_no_id(self, fs: ConnectorFileSystem, path: str) -> None:
        """What cannot be an ID is said to be none, and nothing is looked for."""
        for ask in (fs.exists, fs.info, fs.ls, fs.cat, fs.open, fs.find):
            with pytest.raises(InvalidConnectorID, match="is not a connector ID"):
                ask(path)

    def test_pattern_for_ids(self, fs: ConnectorFileSystem) -> None:
        """A pattern stands for paths, never for IDs."""
        with pytest.raises(InvalidConnectorID):
            fs.glob("connector://*/a")

    def test_url_of_another_protocol(self) -> None:
        """It is refused, and no bucket is taken for an ID."""
        with pytest.raises(ValueError, match="is not a connector ID"):
            connectorkit.open("s3://reports/a/b.csv")

    def test_unknown_id(self, fs: ConnectorFileSystem) -> None:
        """Nobody knows whether a file of an unknown connector exists."""
        for ask in (fs.exists, fs.isdir, fs.isfile, fs.ls, fs.open, fs.find):
            with pytest.raises(UnknownConnector, match="nope"):
                ask("connector://nope/x")

    def test_root(self, fs: ConnectorFileSystem) -> None:
        """The root lists the IDs of the configuration; nothing else is done there."""
        assert fs.ls("connector://", detail=False) == ["other", MINE, "reports"]
        assert fs.exists("connector://")
        assert fs.isdir("connector://")
        assert not fs.isfile("connector://")
        assert fs.info("connector://")["type"] == "directory"
        assert fs.info("connector://reports")["name"] == "reports"
        for do in (fs.find, fs.mkdir, fs.touch, fs.rm, fs.glob, fs.open):
            with pytest.raises(InvalidConnectorID, match="names no connector"):
                do("connector://")

    @pytest.mark.parametrize("path", ["reports", "reports/", "reports//", "reports/."])
    def test_whole_connector_is_not_removed(
        self, fs: ConnectorFileSystem, path: str
    ) -> None:
        """A path that lost its end does not take a storage with it."""
        with pytest.raises(ValueError, match="is a whole connector"):
            fs.rm(path, recursive=True)
        with pytest.raises(ValueError, match="is a whole connector"):
            fs.rm(["other/x", path], recursive=True)
        assert fs.find("reports") == ["reports/a/b.csv"]

    def test_dots_do_not_leave_the_connector(
        self, fs: ConnectorFileSystem, tmp_path: Path
    ) -> None:
        """`..` is the storage's: of a local one refused, and never another's."""
        (tmp_path / "secret").write_bytes(b"secret")
        local = {"type": "local", "settings": {"path": str(tmp_path / "in")}}
        kit = ConnectorKit({"connectors": {"files": local}})
        with kit, set_default_kit(kit), pytest.raises(ValueError, match="escapes"):
            fs.cat_file("connector://files/../secret")

    def test_several_connectors_at_once(self, fs: ConnectorFileSystem) -> None:
        """Lists may name several connectors; what is answered is in their order."""
        fs.pipe({"other/x": b"12345", f"{MINE}/y": b"67"})
        paths = [f"{MINE}/y", "reports/a/b.csv", "other/x", "reports/a/b.csv"]
        assert fs.sizes(paths) == [2, 3, 5, 3]
        assert fs.cat_ranges(paths, [0, 1, 2, 0], 9) == [b"67", b",2", b"345", b"1,2"]
        assert fs.cat_ranges(paths, 0, 1) == [b"6", b"1", b"1", b"1"]
        assert fs.cat(paths[:3]) == {
            f"{MINE}/y": b"67",
            "reports/a/b.csv": b"1,2",
            "other/x": b"12345",
        }
        assert fs.expand_path(["other/*", f"{MINE}/*"]) == [f"{MINE}/y", "other/x"]
        fs.rm(["other/x", f"{MINE}/y"])
        assert [*fs.find("other"), *fs.find(MINE)] == []
        with pytest.raises(ValueError, match="as many starts"):
            fs.cat_ranges(paths, [0], [1])


class TestFiles:
    """Files are of the outer filesystem."""

    def test_where_it_is(self, fs: ConnectorFileSystem) -> None:
        """A file tells the outer path and filesystem, in every place."""
        with fs.open("connector://reports/a/b.csv") as file:
            assert file.fs is fs
            assert file.path == "reports/a/b.csv"
            assert file.full_name == "connector://reports/a/b.csv"
            assert "reports/a/b.csv" in repr(file)

    def test_reads_as_files_do(self, fs: ConnectorFileSystem) -> None:
        """All of Python's ways to read a file."""
        fs.pipe_file("other/x", b"one\ntwo\nthree")
        with fs.open("other/x") as file:
            assert file.readline() == b"one\n"
            assert [*file] == [b"two\n", b"three"]
            assert file.seek(4) == file.tell() == 4
            assert file.readlines() == [b"two\n", b"three"]
            file.seek(-5, io.SEEK_END)
            buffer = bytearray(9)
            assert file.readinto(buffer) == 5
            assert (file.readable(), file.writable(), file.seekable()) == (1, 0, 1)
            assert not file.isatty()
        assert file.closed
        with fs.open("other/x", "rt", encoding="utf-8") as text:
            assert text.read(3) == "one"

    @pytest.mark.parametrize("compression", [None, "gzip", "bz2", "xz"])
    @pytest.mark.parametrize("mode", ["wb", "wt"])
    @pytest.mark.parametrize("way", ["fs", "fsspec", "connectorkit"])
    def test_exception_drops_what_was_written(
        self, fs: ConnectorFileSystem, mode: str, compression: str | None, way: str
    ) -> None:
        """An exception within any `with` leaves what was there."""
        url = "connector://reports/a/b.csv"
        opens = {
            "fs": fs.open,
            "fsspec": fsspec.open,
            "connectorkit": connectorkit.open,
        }
        lost: Any = "lost" if mode == "wt" else b"lost"
        opened = opens[way](url, mode=mode, compression=compression)
        with suppress(ZeroDivisionError), opened as file:
            file.write(lost)
            _ = 1 // 0
        assert fs.cat_file(url) == b"1,2"
        with opens[way](url, mode=mode, compression=compression) as file:
            file.write(lost)
        with opens[way](url, mode="rt", compression=compression) as file:
            assert file.read() == "lost"

    def test_file_that_is_closed_while_an_error_is_handled(
        self, fs: ConnectorFileSystem
    ) -> None:
        """Only the `with` that opened a file tells that it is not complete."""
        file = fsspec.open("connector://other/x", "wb").open()
        file.write(b"all of it")
        try:
            _ = 1 // 0
        except ZeroDivisionError:
            file.close()
        try:
            _ = 1 // 0
        except ZeroDivisionError:
            with fsspec.open("connector://other/y", "wb") as other:
                other.write(b"this too")
        assert fs.cat(["other/x", "other/y"]) == {
            "other/x": b"all of it",
            "other/y": b"this too",
        }

    def test_file_that_nobody_closed(self, fs: ConnectorFileSystem) -> None:
        """It is dropped: nobody said that it is complete."""
        file = fs.open("connector://other/x", "wb")
        file.write(b"half")
        del file
        assert not fs.exists("connector://other/x")


@pytest.mark.parametrize("type_id", ["memory", "local"])
class TestBareConnector:
    """A connector without policies: what is written is whole, too."""

    @pytest.fixture
    def fs(self, type_id: str, tmp_path: Path) -> Iterator[ConnectorFileSystem]:
        """Give one of a storage that has no files of ours."""
        its = {"path": str(tmp_path)} if type_id == "local" else {"name": str(tmp_path)}
        table = {"bare": {"type": type_id, "policies": [], "settings": its}}
        kit = ConnectorKit({"connectors": table})
        with kit, set_default_kit(kit):
            yield ConnectorFileSystem()

    def test_exception_drops_what_was_written(self, fs: ConnectorFileSystem) -> None:
        """Nothing is there after an exception within the `with`."""
        with suppress(ZeroDivisionError), fs.open("bare/x", "wb") as file:
            file.write(b"half")
            _ = 1 // 0
        with (
            suppress(ZeroDivisionError),
            fsspec.open("connector://bare/x", "wt") as text,
        ):
            text.write("half")
            _ = 1 // 0
        assert not fs.exists("bare/x")

    def test_transaction(self, fs: ConnectorFileSystem) -> None:
        """It holds files back, and publishes them."""
        with fs.transaction:
            fs.pipe_file("bare/x", b"whole")
            assert not fs.exists("bare/x")
        assert fs.cat_file("bare/x") == b"whole"


class TestTransactions:
    """A transaction publishes all of its files at its end, or none."""

    def test_all_or_nothing(self, fs: ConnectorFileSystem, tmp_path: Path) -> None:
        """Whatever way a file is written, and across connectors."""
        (tmp_path / "local").write_bytes(b"5")

        def write() -> None:
            with fs.open("other/1", "wb") as file:
                file.write(b"1")
            fs.pipe_file(f"{MINE}/2", b"2")
            fs.pipe({"other/3": b"3"})
            fs.write_text("other/4", "4")
            fs.put(str(tmp_path / "local"), f"{MINE}/5")
            fs.cp("reports/a/b.csv", "other/6")
            fs.cp("reports/a/b.csv", "reports/7")

        with suppress(ZeroDivisionError), fs.transaction:
            write()
            _ = 1 // 0
        assert fs.find("reports") == ["reports/a/b.csv"]
        assert fs.find("other") + fs.find(MINE) == []
        with fs.transaction:
            write()
            assert fs.find("other") == []
        names = [f"other/{n}" for n in "1346"] + [f"{MINE}/2", f"{MINE}/5", "reports/7"]
        assert sorted(fs.cat(names).values()) == [
            b"1",
            b"1,2",
            b"1,2",
            *b"2 3 4 5".split(),
        ]

    def test_moves_are_refused(self, fs: ConnectorFileSystem) -> None:
        """A move deletes at once, which nothing could take back."""
        with fs.transaction, pytest.raises(ValueError, match="cannot take a move back"):
            fs.mv("reports/a/b.csv", "other/x")
        assert fs.exists("reports/a/b.csv")


class TestTransfers:
    """Files go from one connector to another."""

    @pytest.mark.parametrize(
        ("source", "target", "options", "arrived"),
        [
            ("reports/a/b.csv", "other/x.csv", {}, ["other/x.csv"]),
            ("reports/a/b.csv", "other/new/", {}, ["other/new/b.csv"]),
            ("reports/a/*.csv", "other/new/", {}, ["other/new/b.csv"]),
            ("reports/a", "other/new", {"recursive": True}, ["other/new/b.csv"]),
            ("reports/a/", "other/new/", {"recursive": True}, ["other/new/b.csv"]),
            ("reports/a", "other/", {"recursive": True}, ["other/a/b.csv"]),
            (["reports/a/b.csv"], ["other/z"], {}, ["other/z"]),
            (["reports/a/b.csv"], "other/z/", {}, ["other/z/b.csv"]),
        ],
    )
    def test_copy_and_move(
        self,
        fs: ConnectorFileSystem,
        source: Any,
        target: Any,
        options: dict[str, Any],
        arrived: list[str],
    ) -> None:
        """Where they go is what fsspec says; a move takes them away."""
        fs.cp(source, target, **options)
        assert fs.find("other") == arrived
        # The folders of the first copy are there to stay.
        mine = [each.replace("other", MINE) for each in arrived]
        if isinstance(target, str):
            target = [target]
        moved = [each.replace("other", MINE) for each in target]
        fs.mv(source, moved if arrived == ["other/z"] else moved[0], **options)
        assert fs.cat(mine) == {mine[0]: b"1,2"}
        assert fs.find("reports") == []

    def test_move_leaves_what_comes_meanwhile(
        self, fs: ConnectorFileSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What was not copied is not deleted."""
        stream = fs._stream

        def slowly(source: str, target: str) -> None:
            fs.pipe_file("reports/a/late", b"late")
            stream(source, target)

        monkeypatch.setattr(fs, "_stream", slowly)
        fs.mv("reports/a", "other/a", recursive=True)
        assert fs.find("other") == ["other/a/b.csv"]
        assert fs.find("reports") == ["reports/a/late"]

    def test_move_that_fails_deletes_nothing(
        self, fs: ConnectorFileSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All are copied before one is deleted."""
        fs.pipe({f"reports/a/{n}": b"1" for n in range(9)})
        stream = fs._stream

        def breaks(source: str, target: str) -> None:
            if source.endswith("7"):
                raise OSError("broken")
            stream(source, target)

        monkeypatch.setattr(fs, "_stream", breaks)
        with pytest.raises(OSError, match="broken"):
            fs.mv("reports/a", "other/a", recursive=True)
        assert len(fs.find("reports/a")) == 10

    @pytest.mark.parametrize(
        ("source", "target"), [("reports/a", "reports/a/b"), ("reports", "reports/all")]
    )
    def test_move_into_itself(
        self, fs: ConnectorFileSystem, source: str, target: str
    ) -> None:
        """It is refused: what was copied would be deleted with where it is."""
        with pytest.raises(ValueError, match="into itself"):
            fs.mv(source, target, recursive=True)
        assert fs.find("reports") == ["reports/a/b.csv"]

    @pytest.mark.parametrize("other", ["twin", "link"])
    def test_move_between_two_ids_of_one_storage(
        self, tmp_path: Path, other: str
    ) -> None:
        """The file that would be deleted is the one that was just written."""
        real, link = tmp_path / "real", tmp_path / "link"
        (real / "a").mkdir(parents=True)
        link.symlink_to(real)
        (real / "a" / "b").write_bytes(b"precious")
        folders = {"one": real, "twin": real, "link": link}
        kit = ConnectorKit(
            {
                "connectors": {
                    name: {"type": "local", "settings": {"path": str(folder)}}
                    for name, folder in folders.items()
                }
            }
        )
        with kit, set_default_kit(kit):
            fs = ConnectorFileSystem()
            for source, target in [("one/a/b", f"{other}/a/b"), ("one/a", f"{other}/")]:
                with suppress(ValueError):
                    fs.mv(source, target, recursive=True)
                assert fs.cat_file("one/a/b") == b"precious"

    @pytest.mark.parametrize("policies", [[], ["listings"]])
    def test_move_leaves_what_is_replaced_meanwhile(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policies: list[str]
    ) -> None:
        """What was copied is not what would be deleted."""
        source = {"type": "local", "settings": {"path": str(tmp_path)}}
        connectors = {"here": {**source, "policies": policies}, "there": MEMORY}
        (tmp_path / "x").write_bytes(b"old")
        kit = ConnectorKit({"connectors": connectors})
        with kit, set_default_kit(kit):
            fs = ConnectorFileSystem()
            stream = fs._stream

            def slowly(source: str, target: str) -> None:
                stream(source, target)
                (tmp_path / "x").write_bytes(b"newer")

            monkeypatch.setattr(fs, "_stream", slowly)
            with pytest.raises(ObjectChanged, match="was replaced while it was moved"):
                fs.mv("here/x", "there/x")
            assert fs.cat_file("here/x") == b"newer"

    def test_target_that_cannot_be(
        self, fs: ConnectorFileSystem, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """That a target is not found is no reason to skip its source."""

        def fails(source: str, target: str) -> None:
            raise FileNotFoundError(f"no bucket for {target} from {source}")

        monkeypatch.setattr(fs, "_stream", fails)
        with pytest.raises(FileNotFoundError, match="no bucket"):
            fs.cp("reports/a", "other/a", recursive=True)

    def test_missing_file(self, fs: ConnectorFileSystem) -> None:
        """It is not there, and nothing comes of it."""
        with pytest.raises(FileNotFoundError):
            fs.cp("reports/nope", "other/x")
        with pytest.raises(FileNotFoundError):
            fs.mv("reports/nope", "other/x", recursive=True)
        assert fs.find("other") == []

    def test_get_and_put(self, fs: ConnectorFileSystem, tmp_path: Path) -> None:
        """Files of several connectors come to this machine, and go from it."""
        fs.pipe_file("other/x", b"x")
        fs.get(["reports/a/b.csv", "other/x"], [f"{tmp_path}/1", f"{tmp_path}/2"])
        assert (tmp_path / "1").read_bytes() == b"1,2"
        assert (tmp_path / "2").read_bytes() == b"x"
        fs.put([f"{tmp_path}/1", f"{tmp_path}/2"], [f"{MINE}/1", "other/2"])
        assert fs.cat([f"{MINE}/1", "other/2"]) == {
            f"{MINE}/1": b"1,2",
            "other/2": b"x",
        }
        fs.get("reports/a", f"{tmp_path}/folder", recursive=True)
        assert (tmp_path / "folder" / "b.csv").read_bytes() == b"1,2"


class TestStreams:
    """A copy between two connectors on the wire."""

    @pytest.fixture
    def both(self, s3: Place) -> Iterator[ConnectorFileSystem]:
        """Two IDs of one S3."""
        each = {"type": "s3", "settings": s3.settings, "retry": {"base_delay": 0}}
        # By a clock that stands, all is at once.
        clock = VirtualClock()
        kit = ConnectorKit({"connectors": {"one": each, "two": each}}, clock=clock)
        with kit, set_default_kit(kit):
            yield ConnectorFileSystem()

    def test_requests(self, both: ConnectorFileSystem, s3: Place) -> None:
        """A small file is one look, one read and one write."""
        s3.put("small", b"1" * 1000)
        both.exists("one/x")
        s3.quiet()
        both._stream(f"one/{s3.path('small')}", f"two/{s3.path('copied')}")
        assert s3.asked() == {"head_object": 1, "get_object": 1, "put_object": 1}
        assert s3.content("copied") == b"1" * 1000

    def test_look_and_open(self, both: ConnectorFileSystem, s3: Place) -> None:
        """What is opened at once after it was looked up is not looked up again."""
        path = f"one/{s3.path('small')}"
        s3.put("small", b"old")
        both.exists(path)
        s3.quiet()
        assert both.isfile(path)
        with both.open(path) as file:
            assert file.read() == b"old"
        assert s3.asked() == {"head_object": 1, "get_object": 1}

    def test_look_and_another_version(
        self, both: ConnectorFileSystem, s3: Place
    ) -> None:
        """One that is replaced in between is never read as the one that was seen."""
        path = f"one/{s3.path('small')}"
        s3.put("small", b"old")
        assert both.isfile(path)
        s3.put("small", b"newer")
        with both.open(path) as file, pytest.raises(ObjectChanged):
            file.read()
        # Any other call in between, and it is looked up.
        assert both.isfile(path)
        both.pipe_file(path, b"newest of all")
        with both.open(path) as file:
            assert file.read() == b"newest of all"
        assert both.isfile(path)
        s3.put("small", b"changed")
        assert both.size(path) == 7
        with both.open(path) as file:
            assert file.read() == b"changed"

    @pytest.mark.parametrize("way", ["fs", "client"])
    def test_look_and_a_write_of_ones_own(
        self, both: ConnectorFileSystem, s3: Place, way: str
    ) -> None:
        """What this process has written in between is what is read."""
        path = s3.path("small")
        s3.put("small", b"old")
        connector = both.kit.resolve("one")
        bucket, _, key = path.partition("/")
        assert both.isfile(f"one/{path}")
        if way == "fs":
            connector.fs.pipe_file(path, b"newer")
        else:
            connector.client().put_object(Bucket=bucket, Key=key, Body=b"newer")
        assert both.open(f"one/{path}").read() == b"newer"

    def test_look_that_is_old(
        self,
        both: ConnectorFileSystem,
        s3: Place,
    ) -> None:
        """A look of a while ago does not count."""
        path = f"one/{s3.path('small')}"
        s3.put("small", b"old")
        assert both.isfile(path)
        s3.put("small", b"newer")
        clock = both.kit._clock
        assert isinstance(clock, VirtualClock)
        clock.advance(0.1)
        with both.open(path) as file:
            assert file.read() == b"newer"

    def test_large_file(self, both: ConnectorFileSystem, s3: Place) -> None:
        """A large one goes by parts, and faults on its way are healed."""
        content = bytes(range(256)) * (80 << 10)
        s3.put("large", content)
        s3.proxy.inject(Status(503), when="get_object", times=1)
        s3.proxy.inject(Status(503), when="upload_part", times=1)
        both.cp_file(f"one/{s3.path('large')}", f"two/{s3.path('copied')}")
        assert s3.content("copied") == content
        asked = s3.asked()
        assert asked["upload_part"] == 3 + 1
        assert asked["get_object"] <= 3 + 1

    @pytest.mark.parametrize("ask", ["exists", "lexists", "isfile", "isdir", "info"])
    def test_denial(self, both: ConnectorFileSystem, s3: Place, ask: str) -> None:
        """Who may not look is told so: it is no answer that nothing is there."""
        s3.proxy.inject(Status(403), times=None)
        with pytest.raises(PermissionError):
            getattr(both, ask)(f"one/{s3.path('denied')}")

    def test_source_that_is_replaced(
        self, both: ConnectorFileSystem, s3: Place
    ) -> None:
        """The target is what it was, and no upload is left."""
        s3.put("changing", b"1" * (40 << 20))
        s3.put("target", b"before")
        replaced = ReplaceObject(lambda _: s3.put("changing", b"2" * (40 << 20)))
        s3.proxy.inject(replaced, when="get_object", after=1)
        with pytest.raises(ObjectChanged):
            both.cp_file(f"one/{s3.path('changing')}", f"two/{s3.path('target')}")
        assert s3.content("target") == b"before"
        assert s3.uploads("target") == []


class TestDefaultKit:
    """The kit of the process."""

    def test_it_is_made_once(self) -> None:
        """All threads get one kit of the usual places; a new one, if it is closed."""
        with set_default_kit(None):
            found: list[ConnectorKit] = []
            threads = [
                threading.Thread(target=lambda: found.append(default_kit()))
                for _ in range(8)
            ]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert len({*map(id, found)}) == 1
            found[0].close()
            assert default_kit() is not found[0]

    def test_it_is_the_hosts_own(self) -> None:
        """A kit that the host made of the usual places is taken: one pool, not two."""
        with set_default_kit(None):
            default_kit().close()
            with ConnectorKit() as mine:
                assert default_kit() is mine

    def test_it_is_replaced_for_a_while(self, kit: ConnectorKit) -> None:
        """The one before is back after the `with`, whatever happened."""
        with suppress(ZeroDivisionError), set_default_kit(memory_kit("x")) as other:
            assert default_kit() is other
            _ = 1 // 0
        assert default_kit() is kit

    def test_closed_kit(self, fs: ConnectorFileSystem, kit: ConnectorKit) -> None:
        """A kit that was set and closed says so: its host has ended."""
        kit.close()
        for ask in (fs.cat_file, fs.ls, fs.exists, fs.open):
            with pytest.raises(KitClosed):
                ask("reports/a/b.csv")
        with pytest.raises(KitClosed):
            fs.ls("")

    def test_filesystem(self, kit: ConnectorKit) -> None:
        """It is the connector's own."""
        assert connectorkit.filesystem("reports") is kit.resolve("reports").fs

    def test_two_kits(self, fs: ConnectorFileSystem, tmp_path: Path) -> None:
        """One ID is of the kit that is asked, in one process with another."""
        path = tmp_path / "connectorkit.toml"
        path.write_text(
            '[connectors.reports]\ntype = "memory"\nsettings.name = "own"\n'
        )
        own = fsspec.filesystem("connector", config=path)
        own.pipe_file("reports/a/b.csv", b"own")
        assert fs.cat_file("reports/a/b.csv") == b"1,2"
        url = "connector://reports/a/b.csv"
        with fsspec.open(url, config=str(path)) as file:
            assert file.read() == b"own"
        assert own.__dask_tokenize__() != fs.__dask_tokenize__()

    @pytest.mark.usefixtures("kit")
    def test_two_kits_before_caches_of_fsspec(self, tmp_path: Path) -> None:
        """Fsspec's caches keep by path: a configuration that is named keeps apart."""
        found = []
        for name in ("one", "two"):
            path = tmp_path / f"{name}.toml"
            path.write_text(
                f'[connectors.it]\ntype = "memory"\nsettings.name = "{name}"\n'
            )
            options = {"config": str(path)}
            fsspec.filesystem("connector", **options).pipe_file("it/k", name.encode())
            url = "simplecache::connector://it/k"
            with fsspec.open(url, connector=options) as file:
                found.append(file.read())
        assert found == [b"one", b"two"]


def test_copies_between_two_ids_hold_little(tmp_path: Path) -> None:
    """A file goes by blocks: of one of 96 MiB there never are 32 in memory."""
    size = 96 << 20
    connectors = {}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        settings = {"path": str(tmp_path / name)}
        connectors[name] = {"type": "local", "settings": settings}
    with (tmp_path / "one" / "large").open("wb") as file:
        file.truncate(size)
    with ConnectorKit({"connectors": connectors}) as kit, set_default_kit(kit):
        fs = ConnectorFileSystem()
        fs.isfile("two/nothing")
        tracemalloc.start()
        try:
            fs.cp_file("one/large", "two/large")
            _, most = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (tmp_path / "two" / "large").stat().st_size == size
    assert most < 32 << 20
