"""Every fault befalls every request of GCS: right bytes, or an error, and no halves.

The proxy stands before the emulator and counts. The emulator answers for each object
that is there afterwards; it names no version of what it sends, so reading goes on only
by reading again what was read, and it cannot cancel an upload.
"""

from __future__ import annotations

import secrets
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from typing import TYPE_CHECKING, Any, TypeAlias

import aiohttp
import pytest
from google.oauth2.credentials import Credentials

from connectorkit import (
    CircuitOpen,
    ConnectorKit,
    DeadlineExceeded,
    Operation,
    Policy,
    hookimpl,
)
from connectorkit.errors import AttemptTimedOut, ObjectChanged, WrongAnswer
from connectorkit.testing import (
    Drip,
    Fault,
    FaultProxy,
    LoseReply,
    ReplaceObject,
    ResetBeforeReply,
    ResetMidBody,
    Status,
    Truncate,
    VirtualClock,
    WholeForRange,
)
from connectorkit_gcs.filesystem import ConnectorGCSFileSystem
from connectorkit_gcs.json_client import HttpError
from faults.impatient import Impatient, Silence, TeachesImpatience, impatience

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fsspec import AbstractFileSystem

    from connectorkit.testing import Request
    from servers import GcsEmulator

_ATTEMPTS = 3
_CHUNK = 1 << 18
_OLD = b"old " * 50_000
_NEW = b"new " * (2 * _CHUNK // 4) + b"and a rest"
_PIECE = 64 << 10
_RETRY = {
    "attempts": _ATTEMPTS,
    "base_delay": 0,
    "budget_ratio": None,
    "budget_burst": None,
}
# What a failed call may end with.
_FAILURES = (OSError, HttpError, aiohttp.ClientError)


@pytest.fixture(scope="module")
def bucket(gcs_emulator: GcsEmulator) -> str:
    """Make a bucket."""
    return gcs_emulator.bucket()


@pytest.fixture(scope="module")
def listening(gcs_emulator: GcsEmulator) -> Iterator[FaultProxy]:
    """Stand before the emulator."""
    with FaultProxy(gcs_emulator.endpoint_url) as proxy:
        yield proxy


def _ask(method: str, url: str, body: bytes | None = None) -> bytes:
    asked = urllib.request.Request(  # noqa: S310 - of this machine
        url, body, {"Content-Type": "application/octet-stream"}, method=method
    )
    with urllib.request.urlopen(asked, timeout=30) as answer:  # noqa: S310 - as above
        content: bytes = answer.read()
    return content


class Counts(Policy):
    """Counts the attempts of each operation, to be compared with the proxy's log."""

    name = "counts"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.attempts: Counter[str] = Counter()

    def ended(self, op: Operation, error: BaseException | None) -> None:
        del error
        self.attempts[op.name] += op.attempts


class _Teaches:
    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Counts]


@pytest.fixture(scope="module")
def clock() -> VirtualClock:
    """Let nobody wait between two attempts."""
    return VirtualClock()


def _settings(proxy: FaultProxy) -> dict[str, str]:
    about = {"token": "anon", "project_id": "test-project"}
    return {**about, "endpoint_url": proxy.url}


@pytest.fixture(scope="module")
def kit(listening: FaultProxy, clock: VirtualClock) -> Iterator[ConnectorKit]:
    """Make connectors that differ by their policies."""
    settings = _settings(listening)

    def connector(*policies: str, **tables: Any) -> dict[str, Any]:
        base = {"type": "gcs", "settings": settings, "policies": [*policies, "counts"]}
        return {**base, "retry": _RETRY, **tables}

    config = {
        "connectors": {
            "bare": connector(),
            "it": connector("retry"),
            "impatient": connector("retry", "impatient"),
        }
    }
    with ConnectorKit(config, clock=clock) as kit:
        kit.register(_Teaches(), "counts")
        kit.register(TeachesImpatience(), "impatient")
        yield kit


class Place:
    """A bucket behind a proxy, and a look at the store itself."""

    def __init__(
        self, kit: ConnectorKit, proxy: FaultProxy, store: str, bucket: str
    ) -> None:
        self.kit = kit
        self.proxy = proxy
        self._store = store
        self.bucket = bucket
        self.folder = secrets.token_hex(4)
        self.path = f"{bucket}/{self.folder}/object"
        self._counts: Counts | None = None

    def fs(self, connector_id: str = "it") -> AbstractFileSystem:
        """Return the filesystem of a connector."""
        connector = self.kit.resolve(connector_id)
        [self._counts] = [p for p in connector._policies if isinstance(p, Counts)]
        self._counts.attempts.clear()
        return connector.fs

    def put(self, content: bytes) -> None:
        """Write the object past the proxy."""
        name = f"name={self.folder}%2Fobject"
        where = f"/upload/storage/v1/b/{self.bucket}/o?uploadType=media&{name}"
        _ask("POST", f"{self._store}{where}", content)

    def content(self, name: str = "object") -> bytes | None:
        """Read past the proxy; None if there is nothing."""
        where = f"/download/storage/v1/b/{self.bucket}/o/{self.folder}%2F{name}"
        try:
            return _ask("GET", f"{self._store}{where}?alt=media")
        except urllib.error.HTTPError as error:
            error.close()
            return None

    def requests(self) -> Counter[str]:
        """Return what the proxy saw, by operation."""
        return Counter(each.operation for each in self.proxy.log)

    def assert_counted(self) -> None:
        """See that each request on the wire was an attempt of its operation."""
        assert self._counts is not None
        assert self._counts.attempts == self.requests()


@pytest.fixture
def places(
    kit: ConnectorKit, listening: FaultProxy, gcs_emulator: GcsEmulator, bucket: str
) -> Iterator[Places]:
    """Put old objects into a bucket behind a proxy that does no harm yet."""

    def make() -> Place:
        place = Place(kit, listening, gcs_emulator.endpoint_url, bucket)
        place.put(_OLD)
        return place

    yield make
    listening.heal()
    listening.clear()


@pytest.fixture
def place(places: Places) -> Place:
    """Put one there."""
    return places()


Places: TypeAlias = "Callable[[], Place]"

# What is done, and what it comes to.
_Call: TypeAlias = "Callable[[AbstractFileSystem, str, Path], object]"


def _read(fs: AbstractFileSystem, path: str, _: Path) -> bytes:
    with fs.open(path, block_size=_PIECE, cache_type="readahead") as file:
        return b"".join(iter(lambda: file.read(_PIECE), b""))


def _prefetch(fs: AbstractFileSystem, path: str, _: Path) -> bytes:
    with fs.open(path) as file:
        return b"".join(iter(lambda: file.read(_PIECE), b""))


def _get(fs: AbstractFileSystem, path: str, folder: Path) -> bytes:
    target = folder / "file"
    target.write_bytes(b"what was here")
    try:
        fs.get_file(path, str(target))
    except BaseException:
        assert target.read_bytes() == b"what was here"
        raise
    finally:
        assert [each.name for each in folder.iterdir()] == ["file"]
    return target.read_bytes()


def _write(fs: AbstractFileSystem, path: str, _: Path) -> None:
    with fs.open(path, "wb", block_size=_CHUNK) as file:
        for start in range(0, len(_NEW), _CHUNK // 2):
            file.write(_NEW[start : start + _CHUNK // 2])


_READS: dict[str, _Call] = {
    "cat": lambda fs, path, _: fs.cat_file(path),
    "range": lambda fs, path, _: fs.cat_file(path, start=10, end=150_000),
    "read": _read,
    "prefetch": _prefetch,
    "get": _get,
}
_CALLS: dict[str, tuple[_Call, str]] = {
    **{name: (call, "objects.download") for name, call in _READS.items()},
    "put": (lambda fs, path, _: fs.pipe_file(path, _NEW), "objects.insert"),
    "write_start": (_write, "resumable.start"),
    "write_part": (_write, "resumable.upload"),
    "list": (
        lambda fs, path, _: fs.find(path.rpartition("/")[0]),
        "objects.list",
    ),
    "cp": (lambda fs, path, _: fs.cp_file(path, f"{path}-2"), "objects.rewrite"),
    "rm": (lambda fs, path, _: fs.rm_file(path), "objects.delete"),
}
_USUAL = {"read": 2, "prefetch": 3, "write_part": 3}


def _assert_done(name: str, result: object, place: Place) -> None:
    """See that a call has come to what it should."""
    expected: dict[str, object] = {
        **dict.fromkeys(_READS, _OLD),
        "range": _OLD[10:150_000],
        "list": [place.path],
    }
    if name in expected:
        assert result == expected[name]
    stored = place.content()
    if name in {"put", "write_start", "write_part"}:
        assert stored == _NEW
    elif name == "rm":
        assert stored is None
    else:
        assert stored == _OLD
    if name == "cp":
        assert place.content("object-2") == _OLD


_ONCE: dict[str, Fault] = {
    "408": Status(408),
    "429": Status(429),
    "429_rate_limit_403": Status(403, "rateLimitExceeded"),
    "500": Status(500),
    "502": Status(502),
    "503": Status(503),
    "504": Status(504),
    "reset": ResetBeforeReply(),
    "reset_mid_request": ResetBeforeReply(at=0),
    "reset_mid_body": ResetMidBody(),
    "truncate": Truncate(),
    "lose_reply": LoseReply(),
}


@pytest.mark.parametrize("fault", _ONCE)
@pytest.mark.parametrize("name", _CALLS)
def test_fault_that_passes(name: str, fault: str, place: Place, tmp_path: Path) -> None:
    """After one fault the call comes to the same as without it, by one attempt more.

    A chunk that was not answered costs one more: the upload is asked how far it got.
    """
    call, operation = _CALLS[name]
    place.proxy.inject(_ONCE[fault], when=operation)
    result = call(place.fs(), place.path, tmp_path)
    _assert_done(name, result, place)
    place.assert_counted()
    further = 1
    if name == "write_part" and not fault.startswith("429"):
        is_taken = fault in {"lose_reply", "reset_mid_body", "truncate"}
        further = 1 if is_taken else 2
    assert place.requests()[operation] == _USUAL.get(name, 1) + further


@pytest.mark.parametrize("which", [0, 1, 2])
@pytest.mark.parametrize("fault", ["503", "reset", "reset_mid_request", "lose_reply"])
def test_fault_of_each_chunk(
    fault: str, which: int, place: Place, tmp_path: Path
) -> None:
    """Whichever chunk is not answered, the object is what was written.

    Where the last was taken, the emulator forgets the upload: the object tells.
    """
    place.proxy.inject(_ONCE[fault], when="resumable.upload", after=which)
    _write(place.fs(), place.path, tmp_path)
    assert place.content() == _NEW
    place.assert_counted()
    is_taken = fault == "lose_reply"
    assert place.requests() == {
        "resumable.start": 1,
        "resumable.upload": 3 + (1 if is_taken else 2),
        **({"objects.get": 1} if is_taken and which == 2 else {}),
    }


_UNHEARD = {"reset_mid_body", "truncate", "lose_reply"}
_FOR_EVER: dict[str, Fault] = {
    "429": Status(429),
    "500": Status(500),
    "502": Status(502),
    "503": Status(503),
    "reset": ResetBeforeReply(),
    "reset_mid_body": ResetMidBody(),
    "truncate": Truncate(at=0.3),
    "lose_reply": LoseReply(),
}


@pytest.mark.parametrize("fault", _FOR_EVER)
@pytest.mark.parametrize("name", _CALLS)
def test_fault_that_stays(name: str, fault: str, place: Place, tmp_path: Path) -> None:
    """A request that always fails is sent as often as attempts are configured (F3).

    The call ends with the last error, which says so; nothing is left by half.
    """
    call, operation = _CALLS[name]
    place.proxy.inject(_FOR_EVER[fault], times=None, when=operation)
    with pytest.raises(_FAILURES) as it:
        call(place.fs(), place.path, tmp_path)
    assert f"{_ATTEMPTS} attempts" in it.value.__notes__[0]
    assert place.requests()[operation] == _ATTEMPTS
    place.assert_counted()
    is_answered = fault in {"429", "500", "502", "503", "reset"}
    stored = place.content()
    if name == "rm":
        assert (stored is None) is not is_answered
    elif name == "put" and not is_answered:
        # It was done, and nobody heard of it.
        assert stored == _NEW
    else:
        assert stored == _OLD
    if name == "write_part":
        assert place.requests()["resumable.cancel"] == 1
        assert "could not be cancelled" in it.value.__notes__[-1]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 412, 501])
@pytest.mark.parametrize("name", _CALLS)
def test_answer_for_good(name: str, status: int, place: Place, tmp_path: Path) -> None:
    """What the service answers for good is asked once, and changes nothing."""
    call, operation = _CALLS[name]
    place.proxy.inject(Status(status), times=None, when=operation)
    families = {403: PermissionError, 404: FileNotFoundError, 412: FileExistsError}
    if name in {"read", "prefetch"}:
        # What was there when it was opened is not there any more.
        families |= {404: ObjectChanged, 412: ObjectChanged}
    with pytest.raises(families.get(status, HttpError)):
        call(place.fs(), place.path, tmp_path)
    assert place.requests()[operation] == 1
    place.assert_counted()
    assert place.content() == _OLD


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Let the policy `impatient` limit what is known to stall."""
    yield from impatience(monkeypatch)


# A request to an upload does not tell whose it is: who begins one is by itself.
_TOGETHER = [name for name in _CALLS if name != "write_start"]


@pytest.mark.parametrize(
    ("fault", "often", "names"),
    [
        (Silence(), "once", _TOGETHER),
        (Silence(), "once", ["write_start"]),
        # Who cannot begin one is in nobody's way.
        (Silence(), "for ever", [*_CALLS]),
        # Of an answer without a body not even the head comes, yet the server did it.
        (Silence(at=0.5), "once", _TOGETHER),
        (Silence(at=0.5), "once", ["write_start"]),
        (Silence(at=0.5), "for ever", [*_CALLS]),
    ],
    ids=lambda value: "" if isinstance(value, list) else str(value),
)
@pytest.mark.usefixtures("impatient")
def test_stall(
    fault: Fault, often: str, names: list[str], places: Places, tmp_path: Path
) -> None:
    """A server that falls silent costs an attempt each time, and no more.

    All calls at a time: their attempts end when all of them have met the silence.
    """
    at = {name: places() for name in names}
    fs, times = at[names[0]].fs("impatient"), 1 if often == "once" else None
    for name, place in at.items():
        operation = _CALLS[name][1]
        place.proxy.inject(fault, times=times, when=_is_of(place, operation))
        path = f"{place.bucket}/{place.folder}/" if name == "list" else place.path
        # What reads ahead has several under way.
        for number in range(1, 2 if times else 10):
            Impatient.expect(operation, path, number, times=times)

    def outcome(name: str) -> object:
        folder = tmp_path / name
        folder.mkdir()
        try:
            return _CALLS[name][0](fs, at[name].path, folder)
        except Exception as error:  # noqa: BLE001 - returned
            return error

    with ThreadPoolExecutor(len(names)) as threads:
        outcomes = dict(zip(names, threads.map(outcome, names), strict=True))
    log = at[names[0]].proxy.log
    at[names[0]].assert_counted()
    for name, result in outcomes.items():
        place, operation = at[name], _CALLS[name][1]
        asked = [each for each in log if _is_of(place, operation)(each)]
        if often == "once":
            _assert_done(name, result, place)
            further = 2 if name == "write_part" and fault == Silence() else 1
            assert len(asked) == _USUAL.get(name, 1) + further
        else:
            assert isinstance(result, AttemptTimedOut)
            assert f"{_ATTEMPTS} attempts" in result.__notes__[0]
            assert len(asked) == _ATTEMPTS
            allowed: set[bytes | None] = {_OLD}
            if fault != Silence() and name in {"put", "rm"}:
                allowed = {_NEW if name == "put" else None}
            assert place.content() in allowed


def _is_of(place: Place, operation: str) -> Callable[[Request], bool]:
    """Tell requests of one place from others, where they say whose they are."""
    is_alone = operation in {"resumable.upload", "objects.insert"}

    def is_of(request: Request) -> bool:
        is_told = place.folder in f"{request.path} {request.query}"
        return request.operation == operation and (is_told or is_alone)

    return is_of


@pytest.mark.parametrize("name", [name for name in _CALLS if name != "rm"])
def test_drip(name: str, place: Place, tmp_path: Path) -> None:
    """An answer that comes in small pieces is read to its end, and asked for once.

    To a delete there is none.
    """
    call, operation = _CALLS[name]
    size = 20_000 if name in _READS else 50
    rule = place.proxy.inject(
        Drip(size=size, interval=0.001), times=None, when=operation
    )
    result = call(place.fs(), place.path, tmp_path)
    _assert_done(name, result, place)
    assert place.requests()[operation] == rule.fired == _USUAL.get(name, 1)
    place.assert_counted()


@pytest.fixture(scope="module")
def tokens(listening: FaultProxy) -> Tokens:
    """Open a filesystem whose credentials can be renewed, with the default policies."""
    tokens = Tokens()
    tokens.fs = ConnectorGCSFileSystem(
        token=tokens.credentials(),
        endpoint_url=listening.url,
        project="test-project",
        skip_instance_cache=True,
    )
    tokens.fs.pipeline.scope.clock = VirtualClock()
    return tokens


class Tokens:
    """Access tokens, and how often there was a new one."""

    fs: Any

    def __init__(self) -> None:
        self.renewed = 0

    def credentials(self) -> Credentials:
        """Return some that are good for long, unless the service refuses them."""

        def renew(_request: Any, scopes: Any) -> tuple[str, datetime]:
            del scopes
            self.renewed += 1
            return f"token-{self.renewed}", later

        later = datetime.now(UTC).replace(tzinfo=None) + timedelta(days=1)
        return Credentials("token-0", expiry=later, refresh_handler=renew)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("name", _CALLS)
def test_expired_token(name: str, tokens: Tokens, place: Place, tmp_path: Path) -> None:
    """A token that is refused is renewed, and asked with once more; then it is final.

    With the default policies.
    """
    call, operation = _CALLS[name]
    # What was refused to a test before is renewed by now, and its retries forgotten.
    tokens.fs.cat_file(place.path)
    tokens.fs.pipeline.scope.clock.advance(3600)
    place.proxy.clear()
    place.proxy.inject(Status(401, "authError"), when=operation)
    before = tokens.renewed
    result = call(tokens.fs, place.path, tmp_path)
    _assert_done(name, result, place)
    assert place.requests()[operation] == _USUAL.get(name, 1) + 1
    assert tokens.renewed == before + 1

    place.put(_OLD)
    place.proxy.inject(Status(401, "authError"), times=None, when=operation)
    place.proxy.clear()
    with pytest.raises(HttpError):
        call(tokens.fs, place.path, tmp_path)
    assert place.requests()[operation] == 2
    # An upload is cancelled by a request of its own, with a token of its own.
    assert tokens.renewed == before + 2 + (name == "write_part")
    assert place.content() == _OLD


@pytest.mark.parametrize("name", _CALLS)
def test_default_stack(
    name: str, listening: FaultProxy, place: Place, tmp_path: Path
) -> None:
    """With the default policies no more is asked than attempts are configured.

    What heals, heals; what does not, raises its own error or that of an open circuit.
    """
    call, operation = _CALLS[name]
    clock = VirtualClock()
    connector = {
        "type": "gcs",
        "settings": _settings(listening),
        "retry": {"attempts": _ATTEMPTS, "base_delay": 0},
    }
    with ConnectorKit({"connectors": {"it": connector}}, clock=clock) as kit:
        fs = kit.resolve("it").fs
        for fault, times in product(_FOR_EVER, (1, None)):
            place.put(_OLD)
            place.proxy.clear()
            place.proxy.inject(_FOR_EVER[fault], times=times, when=operation)
            try:
                result = call(fs, place.path, tmp_path)
            except (CircuitOpen, DeadlineExceeded, *_FAILURES):
                stored = place.content()
                is_changed = name in {"put", "rm"} and fault in _UNHEARD
                assert stored == _OLD or (
                    is_changed and stored == (_NEW if name == "put" else None)
                )
                assert times is None
            else:
                _assert_done(name, result, place)
            place.proxy.heal()
            # A chunk that was not answered costs one more.
            most = _USUAL.get(name, 1) + 1 + (name == "write_part")
            assert place.requests()[operation] <= (most if times else _ATTEMPTS)
            # The circuit half-opens, and the service's pace is forgotten.
            clock.advance(3600)


@pytest.mark.parametrize("content", [None, _OLD])
@pytest.mark.parametrize("name", ["range", "read", "prefetch"])
def test_whole_object_for_a_range(
    name: str, content: bytes | None, place: Place, tmp_path: Path
) -> None:
    """The whole object is never taken for a part of it, and asked for once more."""
    fault = WholeForRange(content)
    place.proxy.inject(fault, when="objects.download")
    result = _READS[name](place.fs(), place.path, tmp_path)
    _assert_done(name, result, place)
    place.proxy.inject(fault, times=None, when="objects.download")
    place.proxy.clear()
    with pytest.raises(WrongAnswer):
        _READS[name](place.fs(), place.path, tmp_path)
    # What is wrong twice is not wrong by chance.
    assert place.requests()["objects.download"] == 2


@pytest.mark.parametrize("name", ["read", "prefetch"])
def test_object_replaced_between_ranges(
    name: str, place: Place, tmp_path: Path
) -> None:
    """An open file never goes on in another version, be it as long as its own."""
    other = b"other" * (len(_OLD) // 5)
    assert len(other) == len(_OLD)
    replace = ReplaceObject(lambda _: place.put(other))
    place.proxy.inject(replace, when="objects.download", after=1)
    with pytest.raises(ObjectChanged):
        _READS[name](place.fs(), place.path, tmp_path)


@pytest.mark.parametrize("other", [b"other" * (len(_OLD) // 5), b"s", _OLD + b"x"])
@pytest.mark.parametrize("name", ["cat", "range", "get"])
def test_object_replaced_within_a_body(
    name: str, other: bytes, place: Place, tmp_path: Path
) -> None:
    """A body that broke off is not gone on with in another version."""
    place.proxy.inject(ResetMidBody(), when="objects.download")
    replace = ReplaceObject(lambda _: place.put(other))
    place.proxy.inject(replace, when="objects.download")
    with pytest.raises((ObjectChanged, WrongAnswer)):
        _READS[name](place.fs(), place.path, tmp_path)


def test_retry_after(place: Place, clock: VirtualClock) -> None:
    """The service is not asked again before it wants to be; too long is not waited."""
    fs, slept = place.fs(), len(clock.slept)
    place.proxy.inject(Status(503, retry_after=7), when="objects.download")
    assert fs.cat_file(place.path) == _OLD
    place.proxy.inject(Status(429, retry_after=3600), when="objects.download")
    with pytest.raises(HttpError):
        fs.cat_file(place.path)
    assert clock.slept[slept:] == [7]


@pytest.mark.parametrize("name", _CALLS)
def test_bare(name: str, place: Place, tmp_path: Path) -> None:
    """Without policies a request that fails is sent once (F3)."""
    call, operation = _CALLS[name]
    place.proxy.inject(Status(503), times=None, when=operation)
    with pytest.raises(_FAILURES):
        call(place.fs("bare"), place.path, tmp_path)
    assert place.requests()[operation] == 1
    place.assert_counted()
