"""What bytes come back when one request in ten goes wrong.

Ten thousand mixed operations run through the default policies, against a real S3
server behind a proxy that breaks a tenth of the requests. Every read is compared with
what was written; at the end the store is read directly, object by object, and asked
for uploads that somebody began and forgot. Such a one may be there only if nobody could
hear that it was begun, or an error told its ID.

Run: python tests/benchmarks/chaos.py [operations]
"""

from __future__ import annotations

import hashlib
import random
import re
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from _bench import finish, isolate, s3_server

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsspec import AbstractFileSystem

    from connectorkit import Connector
    from connectorkit.testing import Exchange, FaultProxy

OPERATIONS, THREADS, KEYS = 10_000, 8, 40
RATE, SEED = 0.1, 2026
PART = 5 << 20
# Often enough small, sometimes the edges, now and then an upload of three parts.
SIZES = (0, 1, 1000, 4096, 65_537, 300_000)
BIG = 0.02
# What a file on this machine has that is to be downloaded over.
BEFORE = b"what was there before"
_LEFT = re.compile(r"the parts of upload '(.*?)' to")


@dataclass
class User:
    """One of a few threads, with keys of its own and what it knows of them.

    Attributes:
        local: A folder of this machine.
        may_be: By key, the contents that it may have: of a write that failed nobody
            knows whether it was done. None is no object.
        wrong: Bytes that nobody wrote.
        half: Files of this machine that are neither old nor new.
        left: IDs of uploads that an error told could not be removed.
        told: What was done, and what failed how.
    """

    fs: AbstractFileSystem
    folder: str
    local: Path
    dice: random.Random
    may_be: dict[str, set[bytes | None]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    half: list[str] = field(default_factory=list)
    left: set[str] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)

    def work(self, operations: int) -> None:
        """Do one thing after the other."""
        names, weights = zip(*WEIGHTS.items(), strict=True)
        for _ in range(operations):
            name = self.dice.choices(names, weights)[0]
            key = f"{self.folder}/{self.dice.randrange(KEYS):02}"
            known = self.may_be.setdefault(key, {None})
            try:
                VERBS[name](self, key, known)
            except Exception as error:  # noqa: BLE001 - counted
                self.told[f"{name}: {type(error).__name__}"] += 1
                self.hear(error)
            else:
                self.told["done"] += 1

    def hear(self, error: BaseException) -> None:
        """Take note of the uploads that an error says are left."""
        self.left.update(_LEFT.findall("".join(getattr(error, "__notes__", ()))))

    def content(self, big: float = BIG) -> bytes:
        """Make up a content; no two are alike."""
        is_big = self.dice.random() < big
        size = 2 * PART + 1 if is_big else self.dice.choice(SIZES)
        return self.dice.randbytes(size)

    def saw(self, key: str, seen: bytes | None, known: set[bytes | None]) -> None:
        """Compare what came with what may be; from now on it is known."""
        if seen not in known:
            self.wrong.append(f"{key}: {len(seen or b'')} bytes that nobody wrote")
        known.clear()
        known.add(seen)

    def write(
        self, known: set[bytes | None], content: bytes | None, how: Callable[[], Any]
    ) -> None:
        """Write, and remember both outcomes until one is seen."""
        known.add(content)
        how()
        known.clear()
        known.add(content)


def put(user: User, key: str, known: set[bytes | None]) -> None:
    """Write an object at once."""
    content = user.content(BIG / 4)
    how = {"chunksize": PART} if len(content) > 2 * PART else {}
    user.write(known, content, lambda: user.fs.pipe_file(key, content, **how))


def stream(user: User, key: str, known: set[bytes | None]) -> None:
    """Write an object bit by bit."""
    content = user.content()

    def how() -> None:
        with user.fs.open(key, "wb", block_size=PART) as file:
            for start in range(0, len(content), 1 << 20):
                file.write(content[start : start + (1 << 20)])

    user.write(known, content, how)


def give_up(user: User, key: str, known: set[bytes | None]) -> None:
    """Begin to write an object and fail: it stays what it was."""
    content = user.content()
    try:
        with user.fs.open(key, "wb", block_size=PART) as file:
            file.write(content)
            raise KeyError("of the user's own")  # noqa: TRY301 - what this is about
    except KeyError as error:
        user.hear(error)
    finally:
        del known


def upload(user: User, key: str, known: set[bytes | None]) -> None:
    """Upload a file."""
    content = user.content(BIG / 2)
    file = user.local / "upload"
    file.write_bytes(content)
    # Above a size of the caller's the file goes in parts.
    how = {"chunksize": PART} if len(content) > 2 * PART else {}
    user.write(known, content, lambda: user.fs.put_file(str(file), key, **how))


def download(user: User, key: str, known: set[bytes | None]) -> None:
    """Download an object over a file: it is whole, or the file is what it was."""
    folder = user.local / "down"
    folder.mkdir(exist_ok=True)
    target = folder / "target"
    target.write_bytes(BEFORE)
    step = {"chunksize": 50_000} if user.dice.random() < 0.5 else {}
    try:
        user.fs.get_file(key, str(target), **step)
    except FileNotFoundError:
        user.saw(key, None, known)
    else:
        user.saw(key, target.read_bytes(), known)
        return
    finally:
        names = [each.name for each in folder.iterdir()]
        if names != ["target"]:
            user.half.append(f"{key}: beside its download lies {names}")
    if target.read_bytes() != BEFORE:
        user.half.append(f"{key}: of a download that failed something is left")


def cat(user: User, key: str, known: set[bytes | None]) -> None:
    """Read an object."""
    try:
        seen = user.fs.cat_file(key)
    except FileNotFoundError:
        seen = None
    user.saw(key, seen, known)


def part(user: User, key: str, known: set[bytes | None]) -> None:
    """Read a range of an object."""
    if len(known) > 1 or (content := next(iter(known))) is None or not content:
        cat(user, key, known)
        return
    start = user.dice.randrange(len(content))
    end = user.dice.randrange(start + 1, len(content) + 1)
    if user.fs.cat_file(key, start=start, end=end) != content[start:end]:
        user.wrong.append(f"{key}: another range than {start}-{end}")


def read(user: User, key: str, known: set[bytes | None]) -> None:
    """Read an object bit by bit."""
    pieces = []
    try:
        with user.fs.open(key, "rb", block_size=100_000) as file:
            while piece := file.read(70_000):
                pieces.append(piece)
    except FileNotFoundError:
        user.saw(key, None, known)
    else:
        user.saw(key, b"".join(pieces), known)


def remove(user: User, key: str, known: set[bytes | None]) -> None:
    """Delete an object."""
    user.write(known, None, lambda: user.fs.rm_file(key))


def copy(user: User, key: str, known: set[bytes | None]) -> None:
    """Copy an object onto another."""
    if len(known) > 1 or next(iter(known)) is None:
        cat(user, key, known)
        return
    target = f"{user.folder}/{user.dice.randrange(KEYS):02}"
    if target == key:
        return
    others = user.may_be.setdefault(target, {None})
    user.write(others, next(iter(known)), lambda: user.fs.cp_file(key, target))


def look(user: User, key: str, known: set[bytes | None]) -> None:
    """List the folder: what must be there is, and what cannot be is not."""
    del key, known
    listed = set(user.fs.find(user.folder))
    for key, known in user.may_be.items():
        if key in listed and known == {None}:
            user.wrong.append(f"{key}: listed, and deleted before")
        if key not in listed and None not in known:
            user.wrong.append(f"{key}: not listed")


VERBS: dict[str, Callable[[User, str, set[bytes | None]], None]] = {
    "put": put,
    "stream": stream,
    "give_up": give_up,
    "cat": cat,
    "part": part,
    "read": read,
    "remove": remove,
    "copy": copy,
    "look": look,
    "upload": upload,
    "download": download,
}
WEIGHTS = {
    "put": 18, "stream": 6, "give_up": 3, "cat": 20, "part": 18, "read": 10,
    "remove": 6, "copy": 5, "look": 4, "upload": 4, "download": 6,
}  # fmt: skip


def lost(request: Exchange) -> bool:
    """Tell whether an upload was begun, and nobody could hear of it."""
    is_begin = request.operation == "create_multipart_upload"
    return is_begin and request.fault is not None and request.server_status == 200


def uploads_forgotten(
    proxy: FaultProxy, direct: Connector, bucket: str, left: set[str]
) -> list[str]:
    """Return the open uploads of which somebody heard, and nobody told."""
    from botocore.exceptions import ClientError

    unheard = Counter(each.path.lstrip("/") for each in proxy.log if lost(each))
    forgotten = []
    pages = direct.client().get_paginator("list_multipart_uploads")
    try:
        for page in pages.paginate(Bucket=bucket):
            for each in page.get("Uploads", []):
                path = f"{bucket}/{each['Key']}"
                if each["UploadId"] in left:
                    continue
                if unheard[path]:
                    unheard[path] -= 1
                else:
                    forgotten.append(path)
    except ClientError as error:
        # rclone's answer for a bucket that never had one.
        if error.response["Error"]["Code"] != "NoSuchUpload":
            raise
    return forgotten


def stored_by_half(direct: Connector, user: User) -> list[str]:
    """Return the objects that are none of what they may be."""
    half = []
    for key, known in user.may_be.items():
        try:
            stored = direct.fs.cat_file(key)
        except FileNotFoundError:
            stored = None
        if stored not in known:
            digest = hashlib.md5(stored or b"", usedforsecurity=False)
            half.append(f"{key}: {len(stored or b'')} bytes, {digest.hexdigest()}")
    return half


def main() -> None:
    """Measure."""
    isolate()
    operations = int(sys.argv[1]) if len(sys.argv) > 1 else OPERATIONS
    from connectorkit import ConnectorKit
    from connectorkit.testing import (
        FaultProxy,
        LoseReply,
        ResetBeforeReply,
        ResetMidBody,
        Stall,
        Status,
        Truncate,
        WholeForRange,
    )

    counted, lock = Counter[str](), threading.Lock()

    class Count:
        """Counts operations as the pipeline sees them."""

        @staticmethod
        def ended(op: Any, _error: BaseException | None) -> None:
            with lock:
                counted["operations"] += 1
                counted["attempts"] += op.attempts

    with (
        s3_server() as server,
        FaultProxy(server.endpoint_url, seed=SEED) as proxy,
        tempfile.TemporaryDirectory() as local,
    ):

        def whole(request: Any) -> bytes:
            return Path(f"{server.root}{request.path}").read_bytes()

        reach = {"key": server.key, "secret": server.secret}
        bucket = server.bucket()
        short = {
            "retry": {"base_delay": 0.005, "max_delay": 0.02},
            "pace": {"least": 500, "calm": 0.5},
            # Of a request without a body; one of a big part has longer.
            "timeout": {"seconds": 1.0},
        }
        through = ConnectorKit(
            {
                "connectors": {
                    "it": {
                        "type": "minio",
                        "settings": {**reach, "endpoint_url": proxy.url},
                        **short,
                    }
                }
            }
        )
        connector = through.resolve("it")
        connector.opened().pipeline._observers.append(Count())  # type: ignore[arg-type]
        proxy.random(
            RATE,
            [
                Status(500, "InternalError"),
                Status(503, "SlowDown"),
                Status(503, "ServiceUnavailable"),
                Status(429),
                Status(400, "ExpiredToken"),
                ResetBeforeReply(),
                ResetMidBody(at=0.5),
                Truncate(at=0.5),
                LoseReply(),
                Stall(),
                Stall(at=0.5),
                WholeForRange(whole),
            ],
        )
        users = []
        for n in range(THREADS):
            (folder := Path(local, str(n))).mkdir()
            dice = random.Random(SEED + n)  # noqa: S311
            users.append(User(connector.fs, f"{bucket}/{n}", folder, dice))
        started = time.perf_counter()
        with ThreadPoolExecutor(THREADS) as threads:
            for each in [
                threads.submit(user.work, operations // THREADS) for user in users
            ]:
                each.result()
        seconds = time.perf_counter() - started
        requests, faults = proxy.count(), sum(bool(e.fault) for e in proxy.log)
        begun = proxy.count("create_multipart_upload")
        unheard = sum(map(lost, proxy.log))
        proxy.heal()

        direct = ConnectorKit(
            {
                "connectors": {
                    "it": {
                        "type": "minio",
                        "settings": {**reach, "endpoint_url": server.endpoint_url},
                    }
                }
            }
        ).resolve("it")
        left = {each for user in users for each in user.left}
        forgotten = uploads_forgotten(proxy, direct, bucket, left)
        half = [each for user in users for each in user.half]
        half += [f"{path}: an upload that nobody ended" for path in forgotten]
        half += [line for user in users for line in stored_by_half(direct, user)]
        through.close()

    told = sum((user.told for user in users), Counter[str]())
    wrong = [each for user in users for each in user.wrong]
    for line in wrong[:20]:
        print("wrong:", line)
    for line in half[:20]:
        print("half:", line)
    failed = {name: count for name, count in told.items() if name != "done"}
    print(f"{seconds:.1f} s; failed: {failed}")
    finish(
        "chaos",
        calls=sum(told.values()),
        calls_done=told["done"],
        calls_failed=sum(failed.values()),
        operations=counted["operations"],
        attempts=counted["attempts"],
        requests=requests,
        faults=faults,
        fault_rate=round(faults / requests, 4),
        requests_per_operation=round(requests / counted["operations"], 4),
        wrong_bytes=len(wrong),
        half_files=len(half),
        uploads=begun,
        uploads_unheard=unheard,
        uploads_forgotten=len(forgotten),
        uploads_told=len(left),
        targets={
            "wrong_bytes": 0,
            "half_files": 0,
            "requests_per_operation": 1.2,
            "attempts": "as many as requests",
        },
    )


if __name__ == "__main__":
    main()
