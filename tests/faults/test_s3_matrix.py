"""Every fault meets every way to read and to write S3, once and for ever.

Once: it heals. For ever: the documented error after as many requests as attempts are
configured. In both cases the store itself, asked without the proxy, has the old bytes
or the new ones, whole, and no upload that somebody forgot.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, product
from typing import TYPE_CHECKING, Any

import pytest
from fsspec.asyn import sync

from connectorkit import (
    AttemptTimedOut,
    CircuitOpen,
    DeadlineExceeded,
    ObjectChanged,
)
from connectorkit.testing import (
    Drip,
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    ResetMidBody,
    Status,
    Truncate,
    WholeForRange,
)
from connectorkit_s3.faults import classify
from faults.impatient import Impatient, Silence, impatience
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
# What is written: an object, and one in parts of which S3 allows none but the last to
# be smaller.
_NEW = b"what comes" * 100
_PART = bytes(5 << 20)
_REST = b"rest"
_NAMES = ("a", "b", "c", "d", "e")
_number = count()


@dataclass(frozen=True)
class Cell:
    """Where a deed is done: `key` is its own, and so is `folder` on this machine."""

    place: Place
    fs: ConnectorS3FileSystem
    key: str
    folder: Path
    read_key: str = "read"

    @property
    def path(self) -> str:
        """The path of what is written."""
        return self.place.path(self.key)

    @property
    def source(self) -> str:
        """The path of what is read."""
        return self.place.path(self.read_key)


# Deeds


def _cat(cell: Cell) -> bytes:
    content: bytes = cell.fs.cat_file(cell.source)
    return content


def _range(cell: Cell) -> bytes:
    content: bytes = cell.fs.cat_file(cell.source, start=100, end=20_000)
    return content


def _stream(cell: Cell) -> bytes:
    options: Any = {"block_size": _BLOCK, "cache_type": "none"}
    with cell.fs.open(cell.source, **options) as file:
        return b"".join(iter(lambda: file.read(_BLOCK), b""))


def _stream_async(cell: Cell) -> bytes:
    async def read() -> bytes:
        content = b""
        async with await cell.fs.open_async(cell.source) as file:
            while piece := await file.read(_BLOCK):
                content += piece
        return content

    content: bytes = sync(cell.fs.loop, read)
    return content


def _get(cell: Cell) -> bytes:
    target = cell.folder / "target"
    target.write_bytes(_OLD)
    try:
        cell.fs.get_file(cell.source, str(target))
    except BaseException:
        assert target.read_bytes() == _OLD
        raise
    finally:
        assert [*cell.folder.iterdir()] == [target]
    return target.read_bytes()


def _put(cell: Cell) -> None:
    cell.fs.pipe_file(cell.path, _NEW)


def _write(cell: Cell, parts: int = 1) -> None:
    with cell.fs.open(cell.path, "wb", block_size=len(_PART)) as file:
        for _ in range(parts):
            file.write(_PART)
        file.write(_REST)


def _write_more(cell: Cell) -> None:
    _write(cell, parts=2)


def _list(cell: Cell) -> list[str]:
    pages = {"MaxKeys": 2}
    cell.fs.s3_additional_kwargs = pages
    try:
        listed: list[str] = cell.fs.ls(cell.place.path("listed"), detail=False)
    finally:
        cell.fs.s3_additional_kwargs = {}
    return [name.rpartition("/")[2] for name in listed]


def _cp(cell: Cell) -> None:
    cell.fs.cp_file(cell.source, cell.path)


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


def _reads(
    do: Callable[[Cell], bytes],
    operation: str,
    after: int = 0,
    *,
    is_mute: bool = False,
) -> Deed:
    return Deed(do, operation, after, result=_CONTENT, is_mute=is_mute)


def _writes(operation: str) -> Deed:
    return Deed(_write, operation, content=_PART + _REST, is_big=True)


DEEDS = {
    "cat": _reads(_cat, "get_object"),
    "range": Deed(_range, "get_object", result=_CONTENT[100:20_000]),
    "stream: size": _reads(_stream, "head_object", is_mute=True),
    "stream: second range": _reads(_stream, "get_object", 1),
    "stream on a loop": _reads(_stream_async, "get_object"),
    "get": _reads(_get, "get_object"),
    "put": Deed(_put, "put_object", content=_NEW, is_mute=True),
    "write: begin": _writes("create_multipart_upload"),
    # Neither the first nor the last: it fails before the file is closed.
    "write: second part": Deed(
        _write_more,
        "upload_part",
        1,
        content=_PART + _PART + _REST,
        is_big=True,
        is_mute=True,
    ),
    "write: end": _writes("complete_multipart_upload"),
    "list: second page": Deed(_list, "list_objects_v2", 1, result=[*_NAMES]),
    "cp: look": Deed(_cp, "head_object", content=_CONTENT, is_mute=True),
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
        of_head: Its class if it befalls a HEAD, whose answer has no code; if another.
        waits: Seconds before each further attempt.
        is_for_ranges: Whether it can befall a request for a range alone.
        needs_body: Whether it can befall an answer with a body alone.
    """

    fault: Fault
    attempts: int = ATTEMPTS
    error: type[Exception] = Exception
    verdict: str = "transient"
    may_be_done: bool = False
    of_head: str = ""
    waits: tuple[float, ...] = ()
    is_for_ranges: bool = False
    needs_body: bool = False


KINDS = {
    "500": Kind(Status(500), error=OSError),
    "502": Kind(Status(502), error=OSError),
    "503": Kind(
        Status(503, "SlowDown"),
        error=OSError,
        verdict="throttled",
        of_head="transient",
    ),
    "503 after 7 s": Kind(
        Status(503, "SlowDown", retry_after=7),
        error=OSError,
        verdict="throttled",
        of_head="transient",
        waits=(7.0,),
    ),
    "429": Kind(Status(429), error=OSError, verdict="throttled"),
    "reset": Kind(ResetBeforeReply()),
    "reset in the body": Kind(ResetMidBody(), may_be_done=True),
    "cut": Kind(Truncate(), may_be_done=True),
    # Nothing is wrong with an answer that comes in pieces.
    "drip": Kind(Drip(size=4096, interval=0.002), attempts=1, needs_body=True),
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

# Cells that are left out, since there is no such thing: why, and which.
_EXCLUDED: dict[str, Callable[[Kind, Deed], bool]] = {
    "only a request for a range can be answered by the whole": lambda kind, deed: (
        kind.is_for_ranges
        and (deed.do not in {_range, _stream} or deed.operation != "get_object")
    ),
    "an answer without a body cannot come in pieces": lambda kind, deed: (
        kind.needs_body and deed.is_mute
    ),
}


def _cells() -> Iterator[Any]:
    for type_id in ("s3", "minio"):
        for fault, kind in KINDS.items():
            for name, deed in DEEDS.items():
                if any(is_so(kind, deed) for is_so in _EXCLUDED.values()):
                    continue
                for often in ("once", "for ever"):
                    label = f"{type_id}: {name}: {fault} {often}"
                    yield pytest.param((type_id, fault, name, often), id=label)


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
        left = {cell.place.content(f"{cell.key}/{name}") for name in _NAMES}
        gone, kept = {None}, {b"x"}
        assert left in ([gone, kept] if is_in_doubt else [kept if is_failed else gone])
    if not deed.is_big:
        return
    begun_unheard = 0
    if kind.may_be_done and deed.operation == "create_multipart_upload":
        # Nobody but this answer tells the ID, and the listing does not tell whose an
        # upload is: to end others by their key would end another writer's.
        begun_unheard = kind.attempts if is_failed else 1
    assert len(cell.place.uploads(cell.key)) <= begun_unheard


@pytest.mark.parametrize("coordinates", [*_cells()])
def test_cell(
    places: Callable[[str], Place], coordinates: tuple[str, ...], tmp_path: Path
) -> None:
    """Right bytes or the documented error, none by half, attempts = requests (E23).

    With `policies = ["retry"]` and no budget.
    """
    type_id, fault, name, often = coordinates
    place, kind, deed = places(type_id), KINDS[fault], DEEDS[name]
    usual = _requests(place, deed, tmp_path)
    cell = _begin(place, deed, tmp_path)
    slept: Any = len(place.clock.slept)
    place.proxy.clear()
    times = 1 if often == "once" else None
    place.proxy.inject(kind.fault, times=times, when=deed.operation, after=deed.after)
    result = _outcome(deed, cell)
    place.proxy.heal()

    asked = place.asked()
    slept = place.clock.slept[slept:]
    is_harmless = kind.attempts == 1
    if often == "once" or is_harmless:
        assert result == deed.result
        expected = Counter(usual)
        if not is_harmless:
            expected[deed.operation] += 1
        if deed.operation == "complete_multipart_upload" and kind.may_be_done:
            # The upload may be gone by then: the object is looked at.
            expected["head_object"] = asked["head_object"]
            assert asked["head_object"] <= 1
        assert asked == expected
        assert slept == ([] if is_harmless else [*kind.waits])
    else:
        assert asked[deed.operation] == deed.after + kind.attempts
        assert slept == [*kind.waits] * (kind.attempts - 1)
        is_settled = kind.may_be_done and not isinstance(result, Exception)
        if is_settled:
            # It was done unheard, which the object itself tells.
            assert deed.operation == "complete_multipart_upload"
        else:
            assert isinstance(result, kind.error)
            is_head = deed.operation == "head_object"
            verdict = (is_head and kind.of_head) or kind.verdict
            assert classify(result).fault == verdict
            assert f"{kind.attempts} attempts" in result.__notes__[0]
    _see_store(cell, deed, kind, result)
    assert place.fs.in_flight == 0


def _other(place: Place, key: str, content: bytes) -> Fault:
    """Let another client write an object at that moment."""
    return ReplaceObject(lambda _: place.put(key, content))


@pytest.mark.parametrize(
    "name", ["stream: second range", "stream on a loop", "cat", "range", "get"]
)
@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_object_replaced(
    places: Callable[[str], Place], type_id: str, name: str, tmp_path: Path
) -> None:
    """Who has read a part of the old object hears of it, and who has not reads the new.

    Nothing is tried again: the next answer would be the same.
    """
    place, deed = places(type_id), DEEDS[name]
    read_key = f"read-{next(_number)}"
    place.put(read_key, _CONTENT)
    cell = Cell(place, place.fs, "unused", tmp_path, read_key)
    new = bytes(reversed(_CONTENT))
    replace = _other(place, read_key, new)
    place.proxy.inject(replace, times=1, when=deed.operation, after=deed.after)
    result = _outcome(deed, cell)

    if deed.do is _stream:
        assert isinstance(result, ObjectChanged)
        assert place.asked() == {"head_object": 1, "get_object": 2}
    else:
        assert result == (new[100:20_000] if deed.do is _range else new)
        assert place.asked() == {"get_object": 1}


@pytest.mark.parametrize("name", [name for name in DEEDS if DEEDS[name].content])
@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_target_replaced(
    places: Callable[[str], Place], type_id: str, name: str, tmp_path: Path
) -> None:
    """Who writes last is whole: what another one put there meanwhile is gone."""
    place, deed = places(type_id), DEEDS[name]
    usual = _requests(place, deed, tmp_path)
    cell = _begin(place, deed, tmp_path)
    replace = _other(place, cell.key, b"another's")
    place.proxy.inject(replace, times=1, when=deed.operation, after=deed.after)
    assert deed.do(cell) == deed.result
    assert place.asked() == usual
    assert place.content(cell.key) == deed.content
    assert place.uploads(cell.key) == []


@pytest.mark.parametrize("name", ["cp: look", "cp: copy"])
@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_source_replaced(
    places: Callable[[str], Place], type_id: str, name: str, tmp_path: Path
) -> None:
    """A copy is of the old or of the new, whole; by how big it was nothing is cut."""
    place, deed = places(type_id), DEEDS[name]
    read_key, new = f"read-{next(_number)}", bytes(reversed(_CONTENT)) * 2
    place.put(read_key, _CONTENT)
    cell = Cell(place, place.fs, f"key-{next(_number)}", tmp_path, read_key)
    replace = _other(place, read_key, new)
    place.proxy.inject(replace, times=1, when=deed.operation)
    deed.do(cell)
    assert place.content(cell.key) == new
    assert place.asked() == {"head_object": 1, "copy_object": 1}


@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_listing_that_changes(
    places: Callable[[str], Place], type_id: str, tmp_path: Path
) -> None:
    """What was there before and after is listed once, whatever came between pages."""
    place, deed = places(type_id), DEEDS["list: second page"]
    try:
        for new in ("0", "f"):
            replace = _other(place, f"listed/{new}", b"x")
            place.quiet()
            place.proxy.inject(replace, times=1, when=deed.operation, after=1)
            listed = deed.do(_begin(place, deed, tmp_path))
            assert [name for name in listed if name in _NAMES] == [*_NAMES]
            assert {*listed} <= {*_NAMES, "0", "f"}
            assert len(listed) == len({*listed})
    finally:
        for new in ("0", "f"):
            place.store.delete_object(Bucket=place.bucket, Key=f"listed/{new}")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Make a plugin with the policy `impatient`."""
    yield from impatience(monkeypatch)


_STALLS = {
    "silence": Kind(Silence(), verdict="timeout", error=AttemptTimedOut),
    # Of an answer without a body not even the head comes, yet the server did it.
    "half an answer": Kind(
        Silence(at=0.5), verdict="timeout", error=AttemptTimedOut, may_be_done=True
    ),
}


@pytest.mark.parametrize(
    ("type_id", "fault", "often"),
    [
        ("s3", "silence", "once"),
        ("s3", "silence", "for ever"),
        ("minio", "silence", "once"),
        ("minio", "silence", "for ever"),
        ("s3", "half an answer", "once"),
        ("minio", "half an answer", "for ever"),
    ],
)
def test_stall(  # noqa: PLR0913, PLR0917 - each is an input
    places: Callable[[str], Place],
    type_id: str,
    fault: str,
    often: str,
    tmp_path: Path,
    impatient: object,
) -> None:
    """A server that falls silent costs an attempt each time, and no more.

    All deeds at a time: their attempts end when all of them have met the silence.
    """
    place, kind = places(type_id), _STALLS[fault]
    usual = {name: _requests(place, DEEDS[name], tmp_path) for name in DEEDS}
    with place.kit_with(
        policies={"enabled": ["retry", "impatient"], "retry": RETRY}
    ) as kit:
        kit.register(impatient, "impatient")
        fs = kit.resolve("it").fs
        cells = {}
        for name, deed in DEEDS.items():
            cell = cells[name] = _begin_alone(place, deed, tmp_path, fs)
            _stall(cell, deed, kind, None if often == "for ever" else 1)
        with ThreadPoolExecutor(len(cells)) as threads:
            results = threads.map(lambda n: _outcome(DEEDS[n], cells[n]), DEEDS)
            outcomes = dict(zip(DEEDS, results, strict=True))
        log = place.proxy.log
        place.proxy.heal()
        for name, result in outcomes.items():
            deed, cell = DEEDS[name], cells[name]
            asked = sum(
                each.operation == deed.operation and _is_of(cell, each) for each in log
            )
            if often == "once":
                assert result == deed.result
                assert asked == usual[name][deed.operation] + 1
            else:
                # Whether it was done unheard, the object itself tells.
                is_settled = (
                    kind.may_be_done and deed.operation == "complete_multipart_upload"
                )
                is_done = is_settled and result == deed.result
                assert is_done or isinstance(result, AttemptTimedOut)
                assert asked == _most(deed)
            _see_store(cell, deed, kind, result)
        assert fs.in_flight == 0


def _begin_alone(place: Place, deed: Deed, folder: Path, fs: Any) -> Cell:
    """Begin with an object to read that no other cell reads."""
    cell = _begin(place, deed, folder, fs)
    read_key, folder = f"read-{cell.key}", folder / cell.key
    folder.mkdir()
    place.put(read_key, _CONTENT)
    return Cell(place, fs, cell.key, folder, read_key)


def _is_of(cell: Cell, request: Request) -> bool:
    if request.operation in {"list_objects_v2", "delete_objects"}:
        # One cell alone asks so.
        return True
    key = request.path.rpartition("/")[2]
    return key in {cell.key, cell.read_key}


def _stall(cell: Cell, deed: Deed, kind: Kind, times: int | None) -> None:
    cell.place.proxy.inject(
        kind.fault,
        times=times,
        when=lambda r: r.operation == deed.operation and _is_of(cell, r),
        after=deed.after,
    )
    paths = {
        "head_object": cell.source,
        "get_object": cell.source,
        "list_objects_v2": cell.place.path("listed/"),
        "delete_objects": cell.place.bucket,
    }
    path = paths.get(deed.operation, cell.path)
    Impatient.expect(deed.operation, path, deed.after + 1, times=times)


@pytest.mark.parametrize("name", DEEDS)
@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_default_stack(
    places: Callable[[str], Place], type_id: str, name: str, tmp_path: Path
) -> None:
    """With the default policies no more is asked than attempts are configured.

    What heals, heals; what does not, raises its own error or that of an open circuit.
    """
    place, deed = places(type_id), DEEDS[name]
    usual = _requests(place, deed, tmp_path)
    with place.kit_with(policies={"retry": {"base_delay": 0}}) as kit:
        fs = kit.resolve("it").fs
        for fault, times in product(("503", "reset", "reply lost"), (1, None)):
            kind = KINDS[fault]
            cell = _begin(place, deed, tmp_path, fs)
            place.quiet()
            place.proxy.inject(
                kind.fault, times=times, when=deed.operation, after=deed.after
            )
            result = _outcome(deed, cell)
            place.proxy.heal()
            asked = place.asked()[deed.operation]
            assert asked <= (usual[deed.operation] + 1 if times else _most(deed))
            if isinstance(result, Exception):
                allowed = (CircuitOpen, DeadlineExceeded, kind.error)
                assert isinstance(result, allowed)
            else:
                assert result == deed.result
            _see_store(cell, deed, kind, result)
            # The circuit half-opens, and the service's pace is forgotten.
            place.clock.advance(3600)


def _most(deed: Deed) -> int:
    return deed.after + ATTEMPTS
