"""Any sequence of faults over any sequence of reads and writes, beside a plain model.

The model knows of each key what it may hold: one content, or two after a write whose
outcome nobody heard. Whatever happens, a read gives one of those, or an error; a write
leaves one of those; each request is an attempt that was counted; nothing stays open.
"""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING, Any, ClassVar, TypeAlias

import pytest

from connectorkit import Policy, hookimpl
from connectorkit.testing import (
    Drip,
    LoseReply,
    ResetBeforeReply,
    ResetMidBody,
    Status,
    Truncate,
    WholeForRange,
)
from faults.s3_places import RETRY, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from connectorkit import Operation
    from connectorkit.policy import Flow
    from connectorkit.testing import Request
    from servers import MotoS3, RcloneS3

# None: the key is not there.
Contents: TypeAlias = "set[bytes | None]"

_KEYS = ("a", "b", "folder/c")
_PART = 5 << 20
_STEP = 3_000
# These are done by the server, and nobody hears of it.
_UNHEARD = (LoseReply, ResetMidBody, Truncate)


class Counting(Policy):
    """Counts attempts.

    Attributes:
        attempts: Of each operation.
        cancelled: How many operations were cancelled, whose last attempt may have been
            sent or not.
    """

    name = "counting"
    attempts: ClassVar[list[int]] = []
    cancelled: ClassVar[list[str]] = []

    def around(self, op: Operation) -> Flow:
        return (yield op)

    def ended(self, op: Operation, error: BaseException | None) -> None:
        self.attempts.append(op.attempts)
        if isinstance(error, asyncio.CancelledError):
            self.cancelled.append(op.name)


class _Plugin:
    @hookimpl
    def connectorkit_policies(self) -> list[type[Policy]]:
        return [Counting]


class Chaos:
    """A filesystem under faults, and what each of its keys may hold.

    Args:
        place: Where.
        fs: What is tried.
        seed: What all is drawn by.
        folder: For files on this machine.
    """

    def __init__(self, place: Place, fs: Any, seed: int, folder: Path) -> None:
        self.place = place
        self.fs = fs
        self.lot = Random(seed)  # noqa: S311 - meant to be foretold
        self.folder = folder
        self.root = f"chaos-{seed}"
        self.may_hold: dict[str, Contents] = {key: {None} for key in _KEYS}
        self.failures = 0
        self.deeds: list[Callable[[str], None]] = [
            self.cat,
            self.cat,
            self.range,
            self.stream,
            self.get,
            self.put,
            self.put,
            self.append,
            self.copy,
            self.remove,
            self.list,
            self.exists,
            self.give_up,
        ]

    def path(self, key: str) -> str:
        """Return the path of a key."""
        return self.place.path(f"{self.root}/{key}")

    def run(self, steps: int) -> None:
        """Do so many things, and see after each that the model holds."""
        for number in range(steps):
            key = self.lot.choice(_KEYS)
            # Now and then one that takes long.
            deed = self.write if number % 40 == 39 else self.lot.choice(self.deeds)
            deed(key)
            assert self.fs.in_flight == 0

    # Reading

    def read(self, key: str, read: Callable[[], bytes], part: slice) -> None:
        """Read, and take what came for what is there."""
        held = self.may_hold[key]
        try:
            content = read()
        except FileNotFoundError:
            assert None in held
            self.may_hold[key] = {None}
        except Exception as error:  # noqa: BLE001 - it says that it failed
            self.failed(error)
        else:
            fits: Contents = set()
            fits |= {e for e in held if e is not None and e[part] == content}
            assert fits, f"{content[:20]!r}… of {key} was never written"
            self.may_hold[key] = fits

    def cat(self, key: str) -> None:
        """Read it whole, maybe in ranges."""
        step = self.lot.choice([None, _STEP])
        path = self.path(key)
        self.read(key, lambda: self.fs.cat_file(path, chunksize=step), slice(None))

    def range(self, key: str) -> None:
        """Read a range that all that it may hold has."""
        least = min((len(each or b"") for each in self.may_hold[key]), default=0)
        if not least:
            return
        start = self.lot.randrange(least)
        end = self.lot.randint(start, least + 9)
        path = self.path(key)
        part = {"start": start, "end": end}
        self.read(key, lambda: self.fs.cat_file(path, **part), slice(start, end))

    def stream(self, key: str) -> None:
        """Read it by blocks."""

        def read() -> bytes:
            with self.fs.open(
                self.path(key), block_size=_STEP, cache_type="none"
            ) as file:
                return b"".join(iter(lambda: file.read(_STEP), b""))

        self.read(key, read, slice(None))

    def get(self, key: str) -> None:
        """Download it over an old file."""
        target = self.folder / "target"
        target.write_bytes(b"old")

        def read() -> bytes:
            try:
                self.fs.get_file(
                    self.path(key),
                    str(target),
                    chunksize=self.lot.choice([None, _STEP]),
                )
            except BaseException:
                assert target.read_bytes() == b"old"
                raise
            finally:
                assert [*self.folder.iterdir()] == [target]
            return target.read_bytes()

        self.read(key, read, slice(None))

    def exists(self, key: str) -> None:
        """Ask whether it is there."""
        try:
            is_there = self.fs.exists(self.path(key))
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(error)
            return
        self.may_hold[key] = {
            each for each in self.may_hold[key] if (each is not None) == is_there
        }
        assert self.may_hold[key]

    def list(self, _key: str) -> None:
        """List them all."""
        try:
            found = self.fs.find(self.place.path(self.root))
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(error)
            return
        for key, held in self.may_hold.items():
            is_there = self.path(key) in found
            self.may_hold[key] = {e for e in held if (e is not None) == is_there}
            assert self.may_hold[key], f"{key} is there: {is_there}"

    # Writing

    def change(self, key: str, change: Callable[[], Any], new: Contents) -> None:
        """Do what leaves what is new, or in doubt what is old."""
        try:
            change()
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(error)
            self.may_hold[key] |= new
        else:
            self.may_hold[key] = new

    def content(self) -> bytes:
        """Return content that nobody has written before."""
        return self.lot.randbytes(self.lot.choice([0, 1, 100, 10_000]) + 8)

    def put(self, key: str) -> None:
        """Write it at once."""
        content = self.content()
        self.change(key, lambda: self.fs.pipe_file(self.path(key), content), {content})

    def write(self, key: str) -> None:
        """Write it in parts."""
        content = bytes(_PART) + self.content()

        def write() -> None:
            with self.fs.open(self.path(key), "wb", block_size=_PART) as file:
                file.write(content[:_PART])
                file.write(content[_PART:])

        self.change(key, write, {content})
        # What is big would make all that follows slow.
        self.put(key)

    def give_up(self, key: str) -> None:
        """Begin to write it, and raise."""

        def write() -> None:
            with self.fs.open(self.path(key), "wb", block_size=_PART) as file:
                file.write(self.content())
                raise KeyError(key)

        try:
            write()
        except KeyError:
            return
        raise AssertionError("the exception was swallowed")

    def append(self, key: str) -> None:
        """Write more to its end."""
        more = self.content()

        def append() -> None:
            with self.fs.open(self.path(key), "ab") as file:
                file.write(more)

        new: Contents = {(each or b"") + more for each in self.may_hold[key]}
        self.change(key, append, new)

    def copy(self, key: str) -> None:
        """Copy it over another one."""
        to = self.lot.choice([each for each in _KEYS if each != key])
        try:
            self.fs.cp_file(self.path(key), self.path(to))
        except FileNotFoundError:
            assert None in self.may_hold[key]
        except Exception as error:  # noqa: BLE001 - as above
            self.failed(error)
            self.may_hold[to] |= self.may_hold[key] - {None}
        else:
            self.may_hold[key] -= {None}
            self.may_hold[to] = {*self.may_hold[key]}
            assert self.may_hold[to]

    def remove(self, key: str) -> None:
        """Delete it."""
        one = self.lot.choice([self.fs.rm_file, lambda path: self.fs.rm([path])])
        self.change(key, lambda: one(self.path(key)), {None})

    def failed(self, error: Exception) -> None:
        """Count a failure; it says after how many attempts."""
        self.failures += 1
        assert "attempt" in "".join(getattr(error, "__notes__", ())), repr(error)

    # The end

    def see(self) -> None:
        """See what the server itself has."""
        for key, held in self.may_hold.items():
            assert self.place.content(f"{self.root}/{key}") in held
        unheard = sum(
            each.operation == "create_multipart_upload"
            and isinstance(each.fault, _UNHEARD)
            for each in self.place.proxy.log
        )
        assert len(self.place.uploads(self.root)) <= unheard


def _whole(place: Place) -> WholeForRange:
    def content(request: Request) -> bytes:
        return place.content(request.path.split("/", 2)[2]) or b""

    return WholeForRange(content)


def _try(place: Place, seed: int, steps: int, folder: Path) -> None:
    place.quiet()
    faults = [
        Status(500),
        Status(503, "SlowDown"),
        Status(429, retry_after=3),
        Status(400, "ExpiredToken"),
        ResetBeforeReply(),
        ResetMidBody(at=1),
        ResetMidBody(at=0.6),
        Truncate(at=0.3),
        LoseReply(),
        Drip(size=700, interval=0),
        _whole(place),
    ]
    policies = {"enabled": ["counting", "retry"], "retry": RETRY}
    with place.kit_with(policies=policies) as kit:
        kit.register(_Plugin(), "counting")
        chaos = Chaos(place, kit.resolve("it").fs, seed, folder)
        Counting.attempts.clear()
        Counting.cancelled.clear()
        # So many that of four operations one fails for good.
        place.proxy.random(0.5, faults)
        chaos.run(steps)
        place.proxy.heal()
        attempts = sum(Counting.attempts)
        least = attempts - len(Counting.cancelled)
        assert least <= len(place.proxy.log) <= attempts
        assert chaos.failures
        chaos.see()
        chaos.run(30)
        chaos.see()


@pytest.fixture(params=["s3", "minio"])
def place(
    request: pytest.FixtureRequest, moto_s3: MotoS3, rclone_s3: RcloneS3
) -> Iterator[Place]:
    """One after the other."""
    servers = {"s3": moto_s3, "minio": rclone_s3}
    with Place(request.param, servers[request.param]) as place:
        yield place


def test_some(place: Place, tmp_path: Path) -> None:
    """A hundred steps, the same ones each time."""
    _try(place, 1, 90, tmp_path)


@pytest.mark.soak
def test_many(place: Place, tmp_path: Path) -> None:
    """Many thousands, by many seeds."""
    for seed in range(100, 120):
        _try(place, seed, 600, tmp_path)
