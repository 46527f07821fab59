"""Every fault meets every way to read and to write S3, once and for ever.

Once: it heals. For ever: the documented error after as many requests as attempts are
configured. In both cases the store itself, asked without the proxy, has the old bytes
or the new ones, whole, and no upload that somebody forgot.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import pytest
from fsspec.asyn import sync

from connectorkit.testing import (
    Drip,
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    ResetMidBody,
    Stall,
    Status,
    Truncate,
    WholeForRange,
)
from connectorkit_s3.faults import classify
from faults.s3_places import ATTEMPTS, RETRY, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit.testing import Fault, Request
    from connectorkit_s3.filesystem import ConnectorS3FileSystem
    from servers import MotoS3, RcloneS3

# What is read, in blocks that leave a rest.
_CONTENT = bytes(range(256)) * 120
_BLOCK = 10_000
_OLD = b"what was there before"
# What is written: an object, and one in three parts of which S3 allows two to be no
# smaller.
_NEW = b"what comes" * 100
_PART = bytes(5 << 20)
_PARTS = (_PART, _PART, b"rest")
_NAMES = ("a", "b", "c", "d", "e")
_number = count()

Often = Literal["once", "for ever"]


@dataclass(frozen=True)
class Cell:
    """Where a deed is done: `key` is its own, and `folder` on this machine."""

    place: Place
    fs: ConnectorS3FileSystem
    key: str
    folder: Path

    @property
    def path(self) -> str:
        """The path of the key."""
        return self.place.path(self.key)


# Deeds


def _cat(cell: Cell) -> bytes:
    content: bytes = cell.fs.cat_file(cell.place.path("read"))
    return content


def _range(cell: Cell) -> bytes:
    content: bytes = cell.fs.cat_file(cell.place.path("read"), start=100, end=20_000)
    return content


def _stream(cell: Cell) -> bytes:
    options = {"block_size": _BLOCK, "cache_type": "none"}
    with cell.fs.open(cell.place.path("read"), **options) as file:
        return b"".join(iter(lambda: file.read(_BLOCK), b""))


def _stream_async(cell: Cell) -> bytes:
    async def read() -> bytes:
        content = b""
        async with await cell.fs.open_async(cell.place.path("read")) as file:
            while piece := await file.read(_BLOCK):
                content += piece
        return content

    content: bytes = sync(cell.fs.loop, read)
    return content


def _get(cell: Cell) -> bytes:
    target = cell.folder / "target"
    target.write_bytes(_OLD)
    try:
        cell.fs.get_file(cell.place.path("read"), str(target))
    except BaseException:
        assert target.read_bytes() == _OLD
        raise
    finally:
        assert [*cell.folder.iterdir()] == [target]
    return target.read_bytes()


def _put(cell: Cell) -> None:
    cell.fs.pipe_file(cell.path, _NEW)


def _write(cell: Cell) -> None:
    with cell.fs.open(cell.path, "wb", block_size=len(_PART)) as file:
        for part in _PARTS:
            file.write(part)


def _list(cell: Cell) -> list[str]:
    pages = {"MaxKeys": 2}
    cell.fs.s3_additional_kwargs = pages
    try:
        listed: list[str] = cell.fs.ls(cell.place.path("listed"), detail=False)
    finally:
        cell.fs.s3_additional_kwargs = {}
    return [name.rpartition("/")[2] for name in listed]


def _cp(cell: Cell) -> None:
    cell.fs.cp_file(cell.place.path("read"), cell.path)


def _rm(cell: Cell) -> None:
    cell.fs.rm([f"{cell.path}/{name}" for name in _NAMES])


@dataclass(frozen=True)
class Deed:
    """What is done, and which of its requests meets the fault.

    Attributes:
        do: Does it.
        operation: Which request meets the fault.
        after: How many of those go unharmed before.
        result: What it returns.
        content: What it makes of the object of its key.
    """

    do: Callable[[Cell], Any]
    operation: str
    after: int = 0
    result: Any = None
    content: bytes | None = None
    is_big: bool = False
    # What its answer has no body of.
    is_mute: bool = False


_READ = {"result": _CONTENT}
_WRITE = {"content": b"".join(_PARTS), "is_big": True}
DEEDS = {
    "cat": Deed(_cat, "get_object", **_READ),
    "range": Deed(_range, "get_object", result=_CONTENT[100:20_000]),
    "stream: size": Deed(_stream, "head_object", is_mute=True, **_READ),
    "stream: second range": Deed(_stream, "get_object", after=1, **_READ),
    "stream on a loop": Deed(_stream_async, "get_object", **_READ),
    "get": Deed(_get, "get_object", **_READ),
    "put": Deed(_put, "put_object", content=_NEW, is_mute=True),
    "write: begin": Deed(_write, "create_multipart_upload", **_WRITE),
    "write: second part": Deed(_write, "upload_part", after=1, is_mute=True, **_WRITE),
    "write: end": Deed(_write, "complete_multipart_upload", **_WRITE),
    "list: second page": Deed(_list, "list_objects_v2", after=1, result=[*_NAMES]),
    "cp: look": Deed(_cp, "head_object", is_mute=True, content=_CONTENT),
    "cp: copy": Deed(_cp, "copy_object", content=_CONTENT),
    "rm": Deed(_rm, "delete_objects"),
}

# Faults


@dataclass(frozen=True)
class Kind:
    """A fault, and what becomes of who meets it for ever.

    Attributes:
        fault: What the proxy does.
        attempts: How many requests meet it.
        error: The family of the error.
        verdict: Its class.
        may_be_done: Whether the server does it unheard.
        waits: Seconds before each further attempt.
        is_for_ranges: Whether it can befall a request for a range alone.
        needs_body: Whether it can befall an answer with a body alone.
    """

    fault: Fault
    attempts: int = ATTEMPTS
    error: type[Exception] = Exception
    verdict: str = "transient"
    may_be_done: bool = False
    waits: list[float] = field(default_factory=list)
    is_for_ranges: bool = False
    needs_body: bool = False


KINDS = {
    "500": Kind(Status(500), error=OSError),
    "502": Kind(Status(502), error=OSError),
    "503": Kind(Status(503, "SlowDown"), error=OSError, verdict="throttled"),
    "503 after 7 s": Kind(
        Status(503, "SlowDown", retry_after=7),
        error=OSError,
        verdict="throttled",
        waits=[7.0],
    ),
    "429": Kind(Status(429), error=OSError, verdict="throttled"),
    "reset": Kind(ResetBeforeReply()),
    "reset in the body": Kind(ResetMidBody(), may_be_done=True),
    "cut": Kind(Truncate(), may_be_done=True),
    # Nothing is wrong with an answer that comes in pieces.
    "drip": Kind(Drip(size=4096, interval=0), attempts=1, needs_body=True),
    # Bytes that are wrong twice are not wrong by chance.
    "whole for range": Kind(
        WholeForRange(_CONTENT),
        attempts=2,
        error=OSError,
        verdict="corrupt",
        is_for_ranges=True,
    ),
    "reply lost": Kind(LoseReply(), may_be_done=True),
    # Credentials are renewed once.
    "expired": Kind(
        Status(400, "ExpiredToken"), attempts=2, error=OSError, verdict="expired"
    ),
}

# Cells that make no sense: why, and which.
Without = tuple[str, "Callable[[Kind, Deed, str], bool]"]
_EXCLUDED: tuple[Without, ...] = (
    (
        "only a request for a range can be answered by the whole",
        lambda kind, deed, _: (
            kind.is_for_ranges
            and deed.do not in {_range, _stream}
            or (kind.is_for_ranges and deed.operation != "get_object")
        ),
    ),
    (
        "an answer without a body cannot come in pieces",
        lambda kind, deed, _: kind.needs_body and deed.is_mute,
    ),
    (
        "moto is slow: there the parts meet what the server itself decides by: a "
        "refusal, a request that never comes, a reply that is lost",
        lambda kind, deed, type_id: (
            type_id == "s3"
            and deed.is_big
            and not isinstance(kind.fault, LoseReply | ResetBeforeReply)
            and kind is not KINDS["503"]
        ),
    ),
)


def _cells() -> Iterator[Any]:
    for type_id in ("s3", "minio"):
        for fault, kind in KINDS.items():
            for name, deed in DEEDS.items():
                if any(is_so(kind, deed, type_id) for _, is_so in _EXCLUDED):
                    continue
                for often in ("once", "for ever"):
                    label = f"{type_id}: {name}: {fault} {often}"
                    yield pytest.param(type_id, fault, name, often, id=label)


@pytest.fixture(scope="module")
def places(moto_s3: MotoS3, rclone_s3: RcloneS3) -> Iterator[Callable[[str], Place]]:
    """Open the two places when they are asked for."""
    servers = {"s3": moto_s3, "minio": rclone_s3}
    opened: dict[str, Place] = {}

    def place(type_id: str) -> Place:
        if type_id not in opened:
            its = opened[type_id] = Place(type_id, servers[type_id]).__enter__()
            its.put("read", _CONTENT)
            for name in _NAMES:
                its.put(f"listed/{name}", b"x")
        opened[type_id].quiet()
        return opened[type_id]

    yield place
    for its in opened.values():
        its.__exit__(None, None, None)


def _begin(place: Place, deed: Deed, folder: Path, fs: Any = None) -> Cell:
    cell = Cell(place, fs or place.fs, f"key-{next(_number)}", folder)
    if deed.content is not None:
        place.put(cell.key, _OLD)
    if deed.do is _rm:
        for name in _NAMES:
            place.put(f"{cell.key}/{name}", b"x")
    return cell


_usual: dict[tuple[str, str], dict[str, int]] = {}


def _requests(place: Place, deed: Deed, folder: Path) -> dict[str, int]:
    """Return how many requests a deed takes where nothing is wrong."""
    key = place.type_id, deed.do.__name__
    if key not in _usual:
        place.proxy.clear()
        assert deed.do(_begin(place, deed, folder)) == deed.result
        _usual[key] = dict(place.asked())
        place.proxy.clear()
    return _usual[key]


def _outcome(deed: Deed, cell: Cell) -> Any:
    try:
        return deed.do(cell)
    except Exception as error:  # noqa: BLE001 - returned
        return error


def _see_store(cell: Cell, deed: Deed, kind: Kind, result: Any) -> None:
    """See that the store has the old or the new, whole, and nothing more."""
    is_failed = isinstance(result, Exception)
    is_in_doubt = is_failed and kind.may_be_done
    if deed.content is not None:
        stored = cell.place.content(cell.key)
        allowed = [_OLD if is_failed else deed.content]
        assert stored in (allowed if not is_in_doubt else [_OLD, deed.content])
    if deed.do is _rm:
        stored = [cell.place.content(f"{cell.key}/{name}") for name in _NAMES]
        gone, kept = [None] * len(_NAMES), [b"x"] * len(_NAMES)
        assert stored in (
            [gone, kept] if is_in_doubt else [kept if is_failed else gone]
        )
    if not deed.is_big:
        return
    begun_unheard = 0
    if kind.may_be_done and deed.operation == "create_multipart_upload":
        # Nobody but this answer tells the ID, and the listing does not tell whose an
        # upload is: to end others by their key would end another writer's.
        begun_unheard = kind.attempts if is_failed else 1
    assert len(cell.place.uploads(cell.key)) <= begun_unheard


@pytest.mark.parametrize(("type_id", "fault", "name", "often"), [*_cells()])
def test_cell(
    places: Callable[[str], Place],
    type_id: str,
    fault: str,
    name: str,
    often: Often,
    tmp_path: Path,
) -> None:
    """Right bytes or the documented error, nothing half-written, attempts = requests.

    With `policies = ["retry"]` and no budget.
    """
    place, kind, deed = places(type_id), KINDS[fault], DEEDS[name]
    usual = _requests(place, deed, tmp_path)
    cell = _begin(place, deed, tmp_path)
    slept = len(place.clock.slept)
    place.proxy.clear()
    times = 1 if often == "once" else None
    place.proxy.inject(kind.fault, times=times, when=deed.operation, after=deed.after)
    result = _outcome(deed, cell)
    place.proxy.heal()

    asked = place.asked()
    is_harmless = kind.attempts == 1
    if often == "once" or is_harmless:
        assert result == deed.result
        more = {} if is_harmless else {deed.operation: 1}
        if deed.operation == "complete_multipart_upload" and kind.may_be_done:
            # The upload is gone: the object is looked at.
            more["head_object"] = asked["head_object"]
            assert more["head_object"] <= 1
        assert asked == {**usual, **{k: usual.get(k, 0) + n for k, n in more.items()}}
        assert place.clock.slept[slept:] == ([] if is_harmless else kind.waits)
    else:
        assert asked[deed.operation] == deed.after + kind.attempts
        assert place.clock.slept[slept:] == kind.waits * (kind.attempts - 1)
        is_settled = kind.may_be_done and not isinstance(result, Exception)
        if is_settled:
            # It was done unheard, which the object itself tells.
            assert deed.operation == "complete_multipart_upload"
        else:
            assert isinstance(result, kind.error)
            assert classify(result).fault == kind.verdict
            assert f"{kind.attempts} attempts" in result.__notes__[0]
    _see_store(cell, deed, kind, result)
    assert place.fs.in_flight == 0
