"""Big objects through the boto3 door: little memory, right bytes, no lost request."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit.testing import FaultProxy, ResetBeforeReply, ResetMidBody

if TYPE_CHECKING:
    from servers import RcloneS3

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="Linux tells a process its peak, and forgets it"
)

_MOST = 64

# In a process of its own, whose peak is nobody else's. It prints what each deed took of
# memory, in MiB beyond what there was, and how many attempts the pipeline made.
_SCRIPT = """
import gc, hashlib, io, json, sys
from collections import Counter
from pathlib import Path
from connectorkit import ConnectorKit, Policy, hookimpl

url, key, secret, bucket, size = sys.argv[1:]
size = int(size)
attempts = Counter()

class Tally(Policy):
    name = "tally"
    def ended(self, op, error):
        attempts[op.name] += op.attempts

class Teaches:
    @hookimpl
    def connectorkit_policies(self):
        return [Tally]

class Pattern(io.RawIOBase):
    BLOCK = hashlib.shake_128(b"pattern").digest(1 << 20)
    def __init__(self):
        self.at = 0
    def readable(self):
        return True
    def seekable(self):
        return True
    def tell(self):
        return self.at
    def seek(self, offset, whence=0):
        self.at = {0: 0, 1: self.at, 2: size}[whence] + offset
        return self.at
    def read(self, amount=-1):
        left = size - self.at
        amount = left if amount is None or amount < 0 else min(left, amount)
        out, done = bytearray(amount), 0
        while done < amount:
            piece = self.BLOCK[self.at % len(self.BLOCK) :][: amount - done]
            out[done : done + len(piece)] = piece
            done += len(piece)
            self.at += len(piece)
        return out

def digest(pieces):
    sum = hashlib.sha256()
    for piece in pieces:
        sum.update(piece)
    return sum.hexdigest()

def status(name):
    text = Path("/proc/self/status").read_text()
    return int(text.split(name + ":")[1].split()[0]) / 1024

took = {}
def measure(deed):
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    deed()
    took[deed.__name__] = status("VmHWM") - before

# rclone keeps a part waiting for others, and takes none a second time.
settings = {"endpoint_url": url, "key": key, "secret": secret, "read_timeout": 300}
policies = ["tally", "deadline", "retry", "pace", "breaker", "timeout"]
it = {"type": "minio", "settings": settings, "policies": policies}
it |= {"retry": {"base_delay": 0.01}, "timeout": {"seconds": 600}}
with ConnectorKit({"connectors": {"it": it}}) as kit:
    kit.register(Teaches(), "teaches")
    client = kit.resolve("it").client()
    # What is made once, and imported late.
    client.put_object(Bucket=bucket, Key="small", Body=b"x")
    client.download_fileobj(bucket, "small", io.BytesIO())
    client.upload_fileobj(io.BytesIO(bytes(9 << 20)), bucket, "small")
    source = Pattern()
    want = digest(iter(lambda: source.read(1 << 20), b""))

    def upload():
        client.upload_fileobj(Pattern(), bucket, "big")

    def get():
        body = client.get_object(Bucket=bucket, Key="big")["Body"]
        assert digest(body.iter_chunks(1 << 20)) == want

    def download():
        client.download_file(bucket, "big", sys.argv[0])
        with open(sys.argv[0], "rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == want

    for deed in (upload, get, download):
        measure(deed)
print(json.dumps({"took": took, "attempts": attempts}))
"""


def _endure(server: RcloneS3, size: int, target: str) -> dict[str, Any]:
    """Upload and get an object, with a reset in each, and return what it took."""
    with FaultProxy(server.endpoint_url) as proxy:
        proxy.inject(ResetBeforeReply(at=1 << 20), when="upload_part", after=3)
        proxy.inject(ResetMidBody(at=0.5), when=_is_whole)
        args = [proxy.url, server.key, server.secret, server.bucket(), str(size)]
        code = _SCRIPT.replace("sys.argv[0]", repr(target))
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        told: dict[str, Any] = json.loads(done.stdout)
        arrived: dict[str, int] = {}
        for each in proxy.log:
            arrived[each.operation] = arrived.get(each.operation, 0) + 1
        assert told["attempts"] == arrived
        # The reset of each was felt.
        assert sum(each.fault is not None for each in proxy.log) == 2
        assert arrived["upload_part"] == 2 + size // (8 << 20) + 1
    return told


def _is_whole(request: Any) -> bool:
    is_get = request.operation == "get_object" and request.path.endswith("/big")
    return is_get and request.range is None


def test_little_memory(rclone_s3: RcloneS3, tmp_path_factory: Any) -> None:
    """64 MiB go up and come back by less than that, over resets, once each."""
    target = tmp_path_factory.mktemp("big") / "target"
    took = _endure(rclone_s3, 64 << 20, str(target))["took"]
    assert max(took.values()) < _MOST, took


@pytest.mark.soak
def test_little_memory_for_a_gibibyte(
    rclone_s3: RcloneS3, tmp_path_factory: Any
) -> None:
    """As much as for 64 MiB."""
    target = tmp_path_factory.mktemp("big") / "target"
    took = _endure(rclone_s3, 1 << 30, str(target))["took"]
    assert max(took.values()) < _MOST, took
