"""What all clients of S3 are told: who they are, and how to read times."""

from __future__ import annotations

import urllib.request
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.utils import parse_timestamp
from hypothesis import given
from hypothesis import strategies as st

import connectorkit
from connectorkit_s3.sdk import time_of
from contracts.places import kit_at, settings_for
from contracts.stub import Answer, Stub, s3_object

if TYPE_CHECKING:
    from servers import RcloneS3

_ODD = [
    "2024-01-01T10:00:00+02:00",
    "2024-01-01T10:00:00",
    "2024-01-01",
    "1700000000",
    1700000000,
    1700000000.5,
]


@given(st.datetimes(min_value=datetime(1970, 1, 2), max_value=datetime(2200, 1, 1)))  # noqa: DTZ001 - made aware below
def test_times_are_botocores(when: datetime) -> None:
    """S3's two ways of writing a time mean what botocore reads in them."""
    when = when.replace(microsecond=when.microsecond // 1000 * 1000, tzinfo=UTC)
    said = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    assert time_of(said) == parse_timestamp(said) == when
    header = format_datetime(when, usegmt=True)
    assert time_of(header) == parse_timestamp(header)
    assert time_of(header).utcoffset() == timedelta(0)


@pytest.mark.parametrize("said", _ODD)
def test_other_times_are_left_to_botocore(said: Any) -> None:
    """A time that is written in any other way is read by botocore."""
    assert time_of(said) == parse_timestamp(said)


@pytest.mark.parametrize(
    "said", ["Z", "GMT", "x Z", "Wed, 12 Oct 2009 25:50:00 GMT", "2024-01-01T99:00Z"]
)
def test_what_is_no_time_is_refused(said: str) -> None:
    """What is no time is an error, never another time."""
    with pytest.raises(ValueError, match=r"."):
        time_of(said)


def test_offset_is_not_passed_over() -> None:
    """A time with an offset and a Z is not taken for the time without it."""
    with pytest.raises(ValueError, match=r"."):
        time_of("2024-01-01T10:00:00+01:00Z")


def test_clients_say_who_they_are() -> None:
    """An access log shows connectorkit and its version, through either door."""
    with Stub(lambda request: s3_object(request, b"x")) as stub:
        settings = {"endpoint_url": stub.endpoint_url, "key": "k", "secret": "s"}
        with kit_at("s3", settings) as kit:
            it = kit.resolve("it")
            it.fs.cat_file("bucket/key")
            it.client().get_object(Bucket="bucket", Key="key")["Body"].read()
        agents = [each.headers["user-agent"] for each in stub.requests]
    assert len(agents) == 2
    for agent in agents:
        assert agent.startswith(f"connectorkit/{connectorkit.__version__} Python/3.")


def test_urls_are_signed_as_requests_are(rclone_s3: RcloneS3) -> None:
    """Both doors sign by version 4, which a server that checks signatures takes."""
    path = f"{rclone_s3.bucket()}/key"
    with kit_at("minio", settings_for("minio", rclone_s3)) as kit:
        it = kit.resolve("it")
        it.fs.pipe_file(path, b"content")
        bucket, key = path.split("/")
        urls = [
            it.fs.sign(path),
            it.fs.url(path),
            it.client().generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}
            ),
        ]
    for url in urls:
        assert "X-Amz-Signature=" in url
        with urllib.request.urlopen(url) as answer:  # noqa: S310 - the test's server
            assert answer.read() == b"content"


def test_hosts_own_name_stays() -> None:
    """A name that the host gives its client is the one that it has."""
    from connectorkit_s3.filesystem import ConnectorS3FileSystem

    with Stub(lambda _request: Answer(200, b"x", {"ETag": '"1"'})) as stub:
        fs = ConnectorS3FileSystem(
            key="k",
            secret="s",
            endpoint_url=stub.endpoint_url,
            config_kwargs={"user_agent": "acme/1"},
            skip_instance_cache=True,
        )
        fs.cat_file("bucket/key")
        [request] = stub.requests
    assert request.headers["user-agent"].startswith("acme/1 ")
