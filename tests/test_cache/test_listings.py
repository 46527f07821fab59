"""listings: what is there, for a while, and what is written here at once."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from connectorkit import CacheEvicted
from connectorkit_cache.answers import Tree
from test_cache.support import Shelves

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faults.s3_places import Place

FILES = {"a/b": b"content", "a/c/d": b"deeper", "e": b"top"}
QUESTIONS: dict[str, Callable[[Any], Any]] = {
    "ls": lambda fs: fs.ls("a", detail=False),
    "detail": lambda fs: [it["name"] for it in fs.ls("a", detail=True)],
    "info": lambda fs: fs.info("a/b")["size"],
    "exists": lambda fs: fs.exists("a/b"),
    "isfile": lambda fs: fs.isfile("a/b"),
    "isdir": lambda fs: fs.isdir("a/c"),
    "walk": lambda fs: list(fs.walk("a")),
    "find": lambda fs: fs.find("a"),
    "glob": lambda fs: fs.glob("a/*"),
    "du": lambda fs: fs.du("a"),
    "size": lambda fs: fs.size("a/b"),
    "sizes": lambda fs: fs.sizes(["a/b", "e"]),
    "expand": lambda fs: fs.expand_path("a", recursive=True),
    "missing": lambda fs: fs.exists("a/nothing"),
}


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def shelves(request: pytest.FixtureRequest) -> Iterator[Shelves]:
    """A storage with a cache of ten seconds, and two for what is missing."""
    with Shelves("listings", "retry", is_async=request.param) as shelves:
        shelves.shelf(FILES)
        yield shelves


@pytest.mark.parametrize("question", QUESTIONS)
def test_asked_once_in_its_time(shelves: Shelves, question: str) -> None:
    """Each question is asked once, and again when its time is up."""
    fs, ask = shelves.fs(), QUESTIONS[question]
    expected = ask(fs)
    assert shelves.asked().total() > 0
    assert ask(fs) == expected
    assert shelves.asked() == {}
    shelves.clock.advance(10)
    assert ask(fs) == expected
    assert shelves.asked().total() > 0


def test_a_listing_answers_for_its_files(shelves: Shelves) -> None:
    """What a listing has told of a file is not asked for again."""
    fs = shelves.fs()
    fs.ls("a")
    shelves.asked()
    assert fs.info("a/b")["size"] == 7
    assert fs.exists("a/b")
    assert fs.isfile("a/b")
    assert fs.isdir("a/c")
    assert not fs.exists("a/x")
    assert not fs.isdir("a/b")
    with pytest.raises(FileNotFoundError):
        fs.info("a/x")
    assert shelves.asked() == {}


def test_a_listing_is_searched_once(
    shelves: Shelves, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many files a folder has: each question about one takes as long."""
    for n in range(100):
        shelves.shelves["it"].put(f"many/{n}", b"x")
    fs = shelves.fs()
    fs.ls("many")
    key, keys = fs.key, []

    def counted(path: Any) -> Any:
        keys.append(path)
        return key(path)

    monkeypatch.setattr(fs, "key", counted)
    assert fs.du("many") == 100
    assert len(keys) < 100 * 5


def test_missing_holds_for_less(shelves: Shelves) -> None:
    """That something is missing is asked again after two seconds; then all agree."""
    fs = shelves.fs()
    assert "a/x" not in fs.ls("a", detail=False)
    assert not fs.exists("a/x")
    assert not fs.exists("z")
    assert fs.find("z") == []
    shelves.shelves["it"].put("a/x", b"new")
    shelves.shelves["it"].put("z", b"new")
    assert not fs.exists("a/x")
    shelves.clock.advance(2)
    assert fs.exists("a/x")
    assert fs.exists("z")
    assert fs.info("a/x")["size"] == 3
    # It is newer than the listing, which would say otherwise.
    assert "a/x" in fs.ls("a", detail=False)


WRITES: dict[str, Callable[[Any, Path], Any]] = {
    "copy": lambda fs, _: fs.copy("e", "a/x"),
    "cp_file": lambda fs, _: fs.cp_file("e", "a/x"),
    "mv": lambda fs, _: fs.mv("e", "a/x"),
    "open": lambda fs, _: _written(fs, "a/x"),
    "pipe": lambda fs, _: fs.pipe({"a/x": b"1"}),
    "pipe_file": lambda fs, _: fs.pipe_file("a/x", b"1"),
    "put": lambda fs, tmp: fs.put(str(tmp / "file"), "a/x"),
    "put_file": lambda fs, tmp: fs.put_file(str(tmp / "file"), "a/x"),
    "touch": lambda fs, _: fs.touch("a/x"),
    "write_bytes": lambda fs, _: fs.write_bytes("a/x", b"1"),
    "write_text": lambda fs, _: fs.write_text("a/x", "1"),
    "upload": lambda fs, tmp: fs.upload(str(tmp / "file"), "a/x"),
}


def _written(fs: Any, path: str) -> None:
    with fs.open(path, "wb") as file:
        file.write(b"1")


@pytest.mark.parametrize("question", ["exists", "info", "isfile", "isdir", "ls"])
def test_a_denial_is_no_answer(shelves: Shelves, question: str) -> None:
    """Who may not look is told so each time; nothing is remembered as missing."""
    fs, ask = shelves.fs(), QUESTIONS[question]
    for _ in range(2):
        shelves.shelves["it"].fail(PermissionError("no"))
        with pytest.raises(PermissionError):
            ask(fs)
    assert ask(fs)


@pytest.mark.parametrize("write", WRITES)
def test_own_writes_are_seen_at_once(
    shelves: Shelves, tmp_path: Path, write: str
) -> None:
    """By whatever method a file is written, every question is answered anew."""
    (tmp_path / "file").write_bytes(b"1")
    fs = shelves.fs()
    for question in QUESTIONS.values():
        question(fs)
    assert not fs.exists("a/x")
    WRITES[write](fs, tmp_path)
    assert fs.exists("a/x")
    assert fs.isfile("a/x")
    assert "a/x" in fs.ls("a", detail=False)
    assert "a/x" in fs.find("")
    assert "a/x" in fs.glob("a/*")
    assert "x" in next(fs.walk("a"))[2]
    assert fs.info("a/x")["size"] == len(fs.cat_file("a/x"))


@pytest.mark.parametrize("way", ["rm", "rm_file", "delete"])
def test_own_deletes_are_seen_at_once(shelves: Shelves, way: str) -> None:
    """So is whatever is deleted."""
    fs = shelves.fs()
    for question in QUESTIONS.values():
        question(fs)
    getattr(fs, way)("a/b")
    assert not fs.exists("a/b")
    assert "a/b" not in fs.find("")
    assert fs.glob("a/b") == []
    with pytest.raises(FileNotFoundError):
        fs.info("a/b")


def test_folders_are_seen_at_once(shelves: Shelves) -> None:
    """So are folders."""
    fs = shelves.fs()
    assert not fs.isdir("a/new")
    fs.mkdir("a/new")
    assert fs.isdir("a/new")
    assert not fs.isdir("a/newer/still")
    fs.makedirs("a/newer/still")
    assert fs.isdir("a/newer/still")


def test_a_write_that_failed_may_have_been_done(shelves: Shelves) -> None:
    """After an error of a write nothing is known of its path any more."""
    fs = shelves.fs()
    shelf = shelves.shelves["it"]
    assert not fs.exists("a/x")
    shelf.lost = True
    shelf.fail(*[ConnectionResetError("lost")] * 3)
    with pytest.raises(ConnectionResetError):
        fs.cp_file("e", "a/x")
    shelf.faults.clear()
    assert fs.exists("a/x")


def test_an_answer_from_before_a_write_is_not_kept(shelves: Shelves) -> None:
    """What was asked before a write, and answered after it, is not remembered."""
    fs = shelves.fs()
    shelf = shelves.shelves["it"]
    listing, done = shelf.listing, threading.Event()

    def slow(path: str) -> Any:
        found = listing(path)
        if not done.is_set():
            done.set()
            fs.cp_file("e", "a/x")
        return found

    shelf.listing = slow
    if shelves.is_async:
        # On the loop nobody can wait for the loop.
        return
    assert "a/x" not in fs.ls("a", detail=False)
    assert "a/x" in fs.ls("a", detail=False)


def test_answers_are_the_callers(shelves: Shelves) -> None:
    """Who changes an answer changes no other."""
    fs = shelves.fs()
    fs.ls("a", detail=True)[0]["size"] = 99
    fs.ls("a", detail=True).clear()
    assert fs.info("a/b")["size"] == 7
    fs.info("a/b")["size"] = 99
    fs.find("a", detail=True)["a/b"]["size"] = 99
    assert fs.info("a/b")["size"] == 7
    assert fs.find("a", detail=True)["a/b"]["size"] == 7


def test_refresh_asks(shelves: Shelves) -> None:
    """`refresh=True`, as s3fs has it, and `invalidate_cache` ask the storage."""
    fs = shelves.fs()
    fs.ls("a")
    shelves.shelves["it"].put("a/x", b"new")
    assert "a/x" in fs.ls("a", detail=False, refresh=True)
    shelves.shelves["it"].put("a/y", b"new")
    fs.invalidate_cache("a")
    assert "a/y" in fs.ls("a", detail=False)
    shelves.shelves["it"].put("a/z", b"new")
    fs.invalidate_cache()
    assert "a/z" in fs.ls("a", detail=False)


def test_walks_can_be_pruned(shelves: Shelves) -> None:
    """What is taken out of a step of a walk is not walked; what was asked stays."""
    fs = shelves.fs()
    for root, folders, _ in fs.walk(""):
        if root == "a":
            folders.clear()
    assert [root for root, *_ in fs.walk("")] == ["", "a", "a/c"]
    assert [root for root, *_ in fs.walk("", maxdepth=1)] == [""]
    assert [root for root, *_ in fs.walk("", topdown=False)] == ["a/c", "a", ""]


def test_bounded() -> None:
    """It remembers so many files and folders; who leaves is told."""
    with Shelves("listings", listings={"max_entries": 10}) as shelves:
        shelves.shelf({f"f{n}/{m}": b"1" for n in range(3) for m in range(5)})
        fs = shelves.fs()
        for n in (0, 1, 2, 2, 0):
            fs.ls(f"f{n}")
        results = shelves.ears.results("listings")
        assert results == ["miss", "miss", "miss", "hit", "miss"]
        evicted = [it for it in shelves.ears.events if isinstance(it, CacheEvicted)]
        assert sum(it.entries for it in evicted) == 3


def test_one_listing_for_many_questions(place: Place, key: str) -> None:
    """On S3 and MinIO a folder that was listed answers for all that is in it."""
    for n in range(3):
        place.put(f"{key}/f/{n}", b"x" * n)
    with place.kit_with(policies={"enabled": ["listings"]}) as kit:
        fs = kit.resolve("it").fs
        folder = place.path(f"{key}/f")
        names = fs.ls(folder)
        for name in names:
            assert fs.exists(name)
            assert fs.info(name)["ETag"]
        assert not fs.exists(f"{folder}/9")
        assert place.asked() == {"list_objects_v2": 1}
        fs.pipe_file(f"{folder}/9", b"new")
        assert fs.exists(f"{folder}/9")
        assert len(fs.ls(folder)) == 4


def test_whole_folders_are_deleted_and_moved(place: Place, key: str) -> None:
    """What is below a folder that goes, or comes, is known anew as well."""
    with place.kit_with(policies={"enabled": ["listings"]}) as kit:
        fs = kit.resolve("it").fs
        top = place.path(key)
        for way in ("recursive", "pattern", "move"):
            fs.pipe({f"{top}/f/{n}/k": b"1" for n in range(3)})
            assert len(fs.find(top)) == 3
            assert fs.exists(f"{top}/f/1/k")
            assert fs.ls(f"{top}/f/1") == [f"{top}/f/1/k"]
            match way:
                case "recursive":
                    fs.rm(f"{top}/f", recursive=True)
                case "pattern":
                    fs.rm(f"{top}/f/*/k")
                case "move":
                    fs.copy(f"{top}/f/", f"{top}/g/", recursive=True)
                    fs.mv(f"{top}/f/0/k", f"{top}/g/k")
                    assert fs.exists(f"{top}/g/k")
                    assert not fs.exists(f"{top}/f/0/k")
                    fs.rm(f"{top}/f", recursive=True)
                    assert fs.exists(f"{top}/g/1/k")
            assert not fs.exists(f"{top}/f/1/k")
            assert not [it for it in fs.find(top) if "/f/" in it]


def test_a_cleanup_is_seen_at_once(place: Place, key: str) -> None:
    """What `cleanup` deletes beneath the cache is gone for it as well."""
    place.put(f"{key}/f/1", b"1")
    with place.kit_with(policies={"enabled": ["listings"]}) as kit:
        connector = kit.resolve("it")
        assert connector.fs.exists(place.path(f"{key}/f/1"))
        assert connector.cleanup(place.path(key)).deleted == 1
        assert not connector.fs.exists(place.path(f"{key}/f/1"))


def test_a_version_by_its_id_is_the_storages(s3: Place, key: str) -> None:
    """A path that names a version is in no listing: the storage is asked."""
    s3.put(f"{key}/k", b"content")
    with s3.kit_with(policies={"enabled": ["listings"]}) as kit:
        fs = kit.resolve("it").fs
        fs.ls(s3.path(key))
        before = s3.proxy.requests
        fs.exists(f"{s3.path(key)}/k?versionId=null")
        assert s3.proxy.requests > before


# What is remembered by path

NAMES = st.sampled_from(["", "a", "a/b", "a/b/c", "a/d", "e"])


class Remembering(RuleBasedStateMachine):
    """A tree of answers is a dictionary from which whole branches are dropped."""

    def __init__(self) -> None:
        super().__init__()
        self.tree: Tree[int] = Tree(6)
        self.model: dict[tuple[str, str], tuple[int, int]] = {}

    @rule(path=NAMES, key=st.sampled_from("xy"), value=st.integers(), cost=st.just(1))
    def put(self, path: str, key: str, value: int, cost: int) -> None:
        self.model.pop((path, key), None)
        self.model[path, key] = value, cost
        left = 0
        while len(self.model) > 6:
            del self.model[next(iter(self.model))]
            left += 1
        assert self.tree.put(path, value, key, cost) == (left, left)

    @rule(path=NAMES, key=st.sampled_from("xy"))
    def get(self, path: str, key: str) -> None:
        found = self.model.get((path, key))
        if found is not None:
            self.model[path, key] = self.model.pop((path, key))
        assert self.tree.get(path, key) == (found and found[0])

    @rule(path=NAMES, key=st.sampled_from("xy"))
    def discard(self, path: str, key: str) -> None:
        self.model.pop((path, key), None)
        self.tree.discard(path, key)

    @rule(path=NAMES)
    def forget(self, path: str) -> None:
        self.tree.forget(path)
        for where in [*self.model]:
            if _touches(where[0], path):
                del self.model[where]

    @rule(path=NAMES)
    def below(self, path: str) -> None:
        expected = {it for it in self.model if _is_under(it[0], path)}
        assert {*self.tree.below(path)} == expected
        above = {it for it in self.model if _is_under(path, it[0])}
        assert {*self.tree.above(path)} == above

    @invariant()
    def holds_as_much(self) -> None:
        assert len(self.tree) == len(self.model) == self.tree.cost
        if not self.model:
            assert not self.tree._root.below


def _is_under(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def _touches(path: str, changed: str) -> bool:
    return _is_under(path, changed) or _is_under(changed, path)


TestRemembering = Remembering.TestCase
TestRemembering.settings = hypothesis_settings(max_examples=40, deadline=None)
