"""Pace on the wire: whom a service throttles waits, by whatever door it comes.

At real servers behind a proxy that throttles; nobody waits but by the kit's clock.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from botocore.exceptions import BotoCoreError, ClientError

from connectorkit import ConnectorKit, hookimpl
from connectorkit.events import PaceChanged
from connectorkit.testing import FaultProxy, ResetBeforeReply, Status, VirtualClock
from connectorkit_gcs.json_client import HttpError
from contracts.places import settings_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from connectorkit import Connector
    from servers import GcsEmulator, S3Server

_TYPES = ("s3", "minio", "gcs")
_SERVERS = {"s3": "moto_s3", "minio": "rclone_s3", "gcs": "gcs_emulator"}
_THROTTLES = [
    *[(type_id, Status(429)) for type_id in _TYPES],
    ("s3", Status(503, "SlowDown")),
    ("minio", Status(503, "SlowDown")),
    ("minio", Status(503, "SlowDownRead")),
    ("gcs", Status(403, "rateLimitExceeded")),
]
_FAILURES = (OSError, HttpError, ClientError, BotoCoreError, aiohttp.ClientError)


class Paced:
    """A kit whose connector `it` leads through a proxy, and what it says of pace."""

    def __init__(self, type_id: str, server: Any, proxy: FaultProxy) -> None:
        self.proxy = proxy
        self.clock = VirtualClock()
        self.rates: list[float | None] = []
        self.bucket = server.bucket()
        settings = {**settings_for(type_id, server), "endpoint_url": proxy.url}
        its = {"type": type_id, "settings": settings}
        other = {"type": type_id, "settings": {**settings, "read_timeout": 77}}
        # Each request is one attempt; its error is the caller's.
        self.kit = ConnectorKit(
            {
                "connectors": {"it": its, "other": other},
                "policies": {"retry": {"attempts": 1}},
            },
            clock=self.clock,
        )
        self.kit.register(self, "hears")
        self.fs = self.connector.fs
        self.path = f"{self.bucket}/key"
        self.fs.pipe_file(self.path, b"content")

    @hookimpl
    def connectorkit_event(self, event: object) -> None:
        if isinstance(event, PaceChanged):
            self.rates.append(event.rate)

    @property
    def connector(self) -> Connector:
        return self.kit.resolve("it")

    def get(self, client: Any) -> bytes:
        """Read by the boto3 door."""
        body = client.get_object(Bucket=self.bucket, Key="key")["Body"]
        content: bytes = body.read()
        return content

    def waited(self, read: Callable[[], bytes]) -> float:
        """Return how long a read waited, by the clock."""
        before = self.clock()
        assert read() == b"content"
        return self.clock() - before

    def send(self, read: Callable[[], bytes]) -> None:
        """Read ten times a second, for two of them; nobody waits."""
        for _ in range(20):
            assert self.waited(read) == 0
            self.clock.advance(0.1)


@pytest.fixture
def begin(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Paced]]:
    """Begin at the server of a connector type."""
    opened: list[Paced] = []

    def begin(type_id: str) -> Paced:
        server: S3Server | GcsEmulator = request.getfixturevalue(_SERVERS[type_id])
        proxy = FaultProxy(server.endpoint_url)
        proxy.start()
        opened.append(Paced(type_id, server, proxy))
        return opened[-1]

    yield begin
    for each in opened:
        each.kit.close()
        each.proxy.close()


@pytest.mark.parametrize(("type_id", "throttle"), _THROTTLES, ids=str)
def test_throttled(
    begin: Callable[[str], Paced], type_id: str, throttle: Status
) -> None:
    """The service that throttles is sent 0.7 of what it was, and asked in turn.

    Others than the connector's identity do not wait.
    """
    it = begin(type_id)
    read = it.fs.cat_file
    it.send(lambda: read(it.path))
    it.proxy.inject(throttle)
    with pytest.raises(_FAILURES):
        read(it.path)
    [rate] = it.rates
    assert rate is not None
    assert rate == pytest.approx(7, rel=0.2)
    assert it.waited(lambda: read(it.path)) == pytest.approx(1 / rate, abs=0.01)
    assert it.waited(lambda: it.kit.resolve("other").fs.cat_file(it.path)) == 0


@pytest.mark.parametrize("type_id", _TYPES)
def test_outage(begin: Callable[[str], Paced], type_id: str) -> None:
    """A service that is away, or broken, is asked no slower for it."""
    it = begin(type_id)
    for fault in (Status(500), ResetBeforeReply()):
        it.proxy.inject(fault)
        with pytest.raises(_FAILURES):
            it.fs.cat_file(it.path)
        assert it.waited(lambda: it.fs.cat_file(it.path)) == 0
    assert it.rates == []


@pytest.mark.parametrize("throttle", [Status(503, "SlowDown"), Status(429)], ids=str)
@pytest.mark.parametrize("type_id", ["s3", "minio"])
def test_boto3_door(
    begin: Callable[[str], Paced], type_id: str, throttle: Status
) -> None:
    """boto3's client and the filesystem have one pace: either waits for the other."""
    it = begin(type_id)
    client = it.connector.client()
    it.send(lambda: it.get(client))
    it.proxy.inject(throttle)
    with pytest.raises(ClientError):
        it.get(client)
    [rate] = it.rates
    assert rate is not None
    assert rate == pytest.approx(7, rel=0.2)
    by_door = it.waited(lambda: it.get(client))
    by_filesystem = it.waited(lambda: it.fs.cat_file(it.path))
    assert by_door == pytest.approx(1 / rate, abs=0.01)
    # The rate rises as answers come.
    assert 0 < by_filesystem <= by_door


@pytest.mark.parametrize("type_id", _TYPES)
def test_it_ends(begin: Callable[[str], Paced], type_id: str) -> None:
    """A service that has not throttled for long is asked as before."""
    it = begin(type_id)
    it.proxy.inject(Status(429))
    with pytest.raises(_FAILURES):
        it.fs.cat_file(it.path)
    it.clock.advance(3600)
    assert it.waited(lambda: it.fs.cat_file(it.path)) == 0
    assert it.rates[-1] is None
