"""A failed check says in one sentence what to mend, whatever the cause."""

from __future__ import annotations

import contextlib
import json
import re
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trustme

import connectorkit_gcs.remedies
import connectorkit_s3.remedies
from connectorkit import CheckFailed, ConnectorKit
from connectorkit.remedies import address
from impostors import (
    Accounts,
    answering,
    full,
    gcs_refusal,
    listening,
    s3_refusal,
    showing,
)
from servers import GcsEmulator, MotoS3, RcloneS3, S3Server, free_port

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, Mapping

KEY, SECRET = "AKIAEXAMPLEKEY", "example-secret"

HTML = {"Content-Type": "text/html"}
XML = {"Content-Type": "application/xml"}
JSON = {"Content-Type": "application/json"}


def remedy(type_id: str, settings: Mapping[str, Any], path: str = "") -> str:
    """Check a connector that does not work; return what is said to be mended."""
    config = {"connectors": {"it": {"type": type_id, "settings": settings}}}
    with ConnectorKit(config=config) as kit, pytest.raises(CheckFailed) as caught:
        kit.resolve("it").check(path)
    sentence = caught.value.remedy
    assert str(caught.value) == f"Connector 'it': {sentence}."
    assert_one_sentence(sentence)
    for name in ("key", "secret", "token", "json_credentials"):
        assert settings.get(name, SECRET) not in str(caught.value)
    return sentence


def check(type_id: str, settings: Mapping[str, Any], path: str = "") -> None:
    """Check a connector that works."""
    config = {"connectors": {"it": {"type": type_id, "settings": settings}}}
    with ConnectorKit(config=config) as kit:
        kit.resolve("it").check(path)


def assert_one_sentence(sentence: str) -> None:
    """Ask for "what is wrong: what to do", on a line, for people."""
    wrong, colon, mend = sentence.partition(": ")
    assert wrong
    assert colon
    assert mend
    assert "\n" not in sentence
    assert ". " not in sentence
    assert not sentence.endswith(".")
    assert len(sentence) <= 200
    assert not re.search(r"Errno|Error|Exception|object at 0x|[{}]", sentence)


def s3(endpoint_url: str, **settings: Any) -> dict[str, Any]:
    """Return settings for an S3 server that has no patience to be tried."""
    return {
        "endpoint_url": endpoint_url,
        "key": KEY,
        "secret": SECRET,
        "connect_timeout": 0.5,
        "read_timeout": 0.5,
        **settings,
    }


def keys_of(server: S3Server, **settings: Any) -> dict[str, Any]:
    """Return settings that work with a server, but for those that are given."""
    good = {"key": server.key, "secret": server.secret, "read_timeout": 15.0}
    return {**s3(server.endpoint_url, **good), **settings}


def gcs(endpoint_url: str, **settings: Any) -> dict[str, Any]:
    """Return settings for a GCS server that has no patience to be tried."""
    times = {"connect_timeout": 0.5, "read_timeout": 0.5}
    access = {} if "json_credentials" in settings else {"token": "anon"}
    named = {"endpoint_url": endpoint_url, "project_id": "project"}
    return {**named, **access, **times, **settings}


class TestSuccess:
    """A check that finds nothing to mend is silent."""

    @pytest.mark.parametrize("folder", ["", "/nothing/here"])
    def test_rclone(self, rclone_s3: RcloneS3, rclone_bucket: str, folder: str) -> None:
        """Good keys pass, at the root, for a bucket and for an empty folder in it."""
        check("minio", keys_of(rclone_s3))
        check("minio", keys_of(rclone_s3), f"{rclone_bucket}{folder}")

    @pytest.mark.parametrize("folder", ["", "/nothing/here"])
    def test_moto(self, moto_s3: MotoS3, moto_bucket: str, folder: str) -> None:
        """Good keys pass at another server, too."""
        check("minio", keys_of(moto_s3))
        check("minio", keys_of(moto_s3), f"{moto_bucket}{folder}")

    @pytest.mark.parametrize("folder", ["", "/nothing/here"])
    def test_gcs(self, gcs_emulator: GcsEmulator, gcs_bucket: str, folder: str) -> None:
        """An emulator passes without credentials."""
        check("gcs", gcs(gcs_emulator.endpoint_url))
        check("gcs", gcs(gcs_emulator.endpoint_url), f"{gcs_bucket}{folder}")


@pytest.mark.parametrize("path", ["", "bucket", "bucket/folder"])
class TestS3Keys:
    """Keys, secrets and the clock that requests are signed by."""

    def test_wrong_key(self, rclone_s3: RcloneS3, path: str) -> None:
        """A server that does not know the access key is named."""
        said = remedy("minio", keys_of(rclone_s3, key=KEY), path)
        assert f"127.0.0.1:{rclone_s3.port} does not know the access key" in said

    def test_wrong_secret(self, rclone_s3: RcloneS3, path: str) -> None:
        """A wrong secret is told from a wrong key."""
        said = remedy("minio", keys_of(rclone_s3, secret=SECRET), path)
        assert "the secret key does not match the access key" in said

    @pytest.mark.parametrize("hours", [-24 * 365, -1, 1, 25])
    def test_clock_skew(
        self,
        rclone_s3: RcloneS3,
        monkeypatch: pytest.MonkeyPatch,
        path: str,
        hours: int,
    ) -> None:
        """A wrong clock is no matter of keys; slow, rclone calls it AccessDenied."""
        shift = timedelta(hours=hours)
        monkeypatch.setattr(
            "botocore.auth.get_current_datetime",
            lambda *_, **__: datetime.now(UTC).replace(tzinfo=None) + shift,
        )
        said = remedy("minio", keys_of(rclone_s3), path)
        assert "clock" in said
        assert "NTP" in said

    def test_line_break_in_key(self, rclone_s3: RcloneS3, path: str) -> None:
        """A line break that came along with the key is found."""
        settings = keys_of(rclone_s3, key="AKIA\nEXAMPLE")
        assert "line breaks" in remedy("minio", settings, path)


class TestS3Buckets:
    """Buckets that are not there."""

    @pytest.mark.parametrize("path", ["no-such-bucket", "no-such-bucket/folder"])
    def test_missing(self, rclone_s3: RcloneS3, moto_s3: MotoS3, path: str) -> None:
        """A missing bucket is named, whichever way a server tells of it."""
        for server in (rclone_s3, moto_s3):
            said = remedy("minio", keys_of(server), path)
            assert "the bucket 'no-such-bucket' does not exist" in said

    def test_name_is_malformed(self, moto_s3: MotoS3) -> None:
        """A name that no bucket can have is refused by its form."""
        assert "3 to 63" in remedy("minio", keys_of(moto_s3), "no bucket!")


class Guarded(MotoS3):
    """moto with users and policies, and an administrator who makes them."""

    def start(self) -> None:
        """Start the server; its first three requests make the administrator."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("INITIAL_NO_AUTH_ACTION_COUNT", "3")
            super().start()
        self.key, self.secret = self.user("admin", "*", "*").values()

    def user(self, name: str, action: str, resource: str) -> dict[str, str]:
        """Make a user who may do one thing; return settings: key and secret."""
        import botocore.session

        may = {"Effect": "Allow", "Action": action, "Resource": resource}
        policy = {"Version": "2012-10-17", "Statement": [may]}
        client = botocore.session.get_session().create_client(
            "iam",
            endpoint_url=self.endpoint_url,
            region_name=self.region_name,
            aws_access_key_id=self.key,
            aws_secret_access_key=self.secret,
        )
        with contextlib.closing(client) as iam:
            iam.create_user(UserName=name)
            made = iam.create_access_key(UserName=name)["AccessKey"]
            document = json.dumps(policy)
            iam.put_user_policy(
                UserName=name, PolicyName="policy", PolicyDocument=document
            )
        return {"key": made["AccessKeyId"], "secret": made["SecretAccessKey"]}


@pytest.fixture(scope="module")
def guarded() -> Iterator[Guarded]:
    """Run a server that asks who may do what."""
    with Guarded() as server:
        yield server


class TestS3Permissions:
    """Users, policies and session tokens."""

    def test_buckets_may_not_be_listed(self, guarded: Guarded) -> None:
        """Who may list one bucket alone is told to check that one, and may."""
        bucket = guarded.bucket()
        keys = guarded.user("lister", "s3:ListBucket", f"arn:aws:s3:::{bucket}")
        said = remedy("minio", keys_of(guarded, **keys))
        assert "may not list buckets" in said
        assert "s3:ListAllMyBuckets" in said
        check("minio", keys_of(guarded, **keys), f"{bucket}/folder")

    def test_bucket_may_not_be_listed(self, guarded: Guarded) -> None:
        """The permission that is missing for a bucket is named."""
        keys = guarded.user("root", "s3:ListAllMyBuckets", "*")
        said = remedy("minio", keys_of(guarded, **keys), guarded.bucket())
        assert "may not list" in said
        assert "s3:ListBucket " in said
        check("minio", keys_of(guarded, **keys))

    def test_wrong_key(self, guarded: Guarded) -> None:
        """An unknown key is told as such here, too."""
        settings = keys_of(guarded, key=KEY)
        assert "does not know the access key" in remedy("minio", settings)

    def test_wrong_secret(self, guarded: Guarded) -> None:
        """So is a wrong secret."""
        settings = keys_of(guarded, secret=SECRET)
        assert "the secret key does not match" in remedy("minio", settings)

    def test_foreign_session_token(self, guarded: Guarded) -> None:
        """A session token of other credentials is told from a wrong key."""
        settings = keys_of(guarded, token="bogus")
        assert "the session token does not belong" in remedy("minio", settings)


class TestS3Impostors:
    """Servers that are not S3, or not all that S3 is."""

    @pytest.mark.parametrize("path", ["", "bucket"])
    @pytest.mark.parametrize("body", ["<p>Hello<br>", "<html><p>Hello</p></html>", ""])
    def test_web_page(self, body: str, path: str) -> None:
        """A web page is no list, be it XML or empty."""
        with answering(200, body, HTML) as url:
            said = remedy("minio", s3(url), path)
        assert f"{address(url)} answers, but not as S3 does" in said

    @pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500, 501])
    @pytest.mark.parametrize("body", ["<p>Hello<br>", "<html><p>Hello</p></html>"])
    def test_web_server(self, status: int, body: str) -> None:
        """A web server is not taken for S3, however it refuses."""
        with answering(status, body, HTML) as url:
            said = remedy("minio", s3(url))
        assert f"{address(url)} answers, but not as S3 does" in said
        assert "whether it wants https://" in said

    @pytest.mark.parametrize("status", [502, 503, 504])
    def test_gateway(self, status: int) -> None:
        """A gateway without a storage behind it is told from the storage."""
        with answering(status, "<p>Sorry", HTML) as url:
            assert "the gateway at" in remedy("minio", s3(url))

    def test_path_in_endpoint(self, rclone_s3: RcloneS3) -> None:
        """An endpoint with a path, which S3 takes for a bucket, is corrected."""
        url = f"{rclone_s3.endpoint_url}/browser"
        said = remedy("minio", keys_of(rclone_s3, endpoint_url=url))
        assert "leave only scheme, host and port" in said

    def test_bucket_in_endpoint(self, moto_s3: MotoS3, moto_bucket: str) -> None:
        """An endpoint that names a bucket does not pass for a list of buckets."""
        url = f"{moto_s3.endpoint_url}/{moto_bucket}"
        said = remedy("minio", keys_of(moto_s3, endpoint_url=url))
        assert "path of endpoint_url" in said

    def test_console(self) -> None:
        """The port of MinIO's console, which calls it denied access, is corrected."""
        body = s3_refusal(
            "AccessDenied",
            "S3 API Request made to Console port. S3 Requests should be sent to API "
            "port.",
        )
        with answering(403, body, XML) as url:
            assert "write the port of the S3 API" in remedy("minio", s3(url))

    @pytest.mark.parametrize("path", ["", "bucket"])
    @pytest.mark.parametrize("region", [None, "us-east-1", "eu-north-1"])
    def test_wrong_region(self, region: str | None, path: str) -> None:
        """The region that a server expects is told."""
        body = s3_refusal(
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region is wrong; expecting "
            "'eu-west-1'.",
            Region="eu-west-1",
        )
        with answering(400, body, XML) as url:
            said = remedy("minio", s3(url, region_name=region), path)
        assert "set region_name to eu-west-1" in said

    def test_region_that_says_nothing(self) -> None:
        """A server that expects the region it refuses is not believed."""
        body = s3_refusal(
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region is wrong; expecting "
            "'us-east-1'.",
        )
        with answering(400, body, XML) as url:
            said = remedy("minio", s3(url, region_name="us-east-1"))
        assert "does not accept the region us-east-1" in said

    def test_redirect(self) -> None:
        """A bucket that is served from another region says which."""
        body = s3_refusal(
            "PermanentRedirect",
            "The bucket you are attempting to access must be addressed using the "
            "specified endpoint.",
            Endpoint="bucket.s3.eu-west-1.amazonaws.com",
        )
        headers = {**XML, "x-amz-bucket-region": "eu-west-1"}
        with answering(301, body, headers) as url:
            said = remedy("minio", s3(url, region_name="us-east-1"), "bucket")
        assert "set region_name to eu-west-1" in said

    def test_region_of_another_error(self) -> None:
        """A region that is mentioned by the way is not taken for the cause."""
        body = s3_refusal("NoSuchBucket", "No.", BucketName="b-1", Region="eu-west-1")
        with answering(404, body, XML) as url:
            said = remedy("minio", s3(url, region_name=None), "b-1")
        assert "the bucket 'b-1' does not exist" in said

    def test_malformed_region(self) -> None:
        """What is no region's name is refused before anything is sent."""
        settings = s3("http://127.0.0.1:1", region_name="not a region")
        assert "region_name is no region's name" in remedy("minio", settings)

    @pytest.mark.parametrize(
        ("code", "status", "words"),
        [
            ("ExpiredToken", 400, "have expired"),
            ("SlowDown", 503, "overloaded"),
            ("XMinioServerNotInitialized", 503, "still starting"),
            ("AllAccessDisabled", 403, "barred"),
            ("RequestTimeTooSkewed", 403, "clock"),
        ],
    )
    def test_code(self, code: str, status: int, words: str) -> None:
        """A code of S3's tells more than its status."""
        with answering(status, s3_refusal(code, "No."), XML) as url:
            assert words in remedy("minio", s3(url))


@pytest.fixture(params=["minio", "gcs"])
def kind(request: pytest.FixtureRequest) -> str:
    """Run a test with each type that speaks HTTP."""
    return str(request.param)


def settings_of(kind: str, url: str) -> dict[str, Any]:
    """Return settings for a server of that type, or an impostor of it."""
    return s3(url) if kind == "minio" else gcs(url)


class TestNetwork:
    """Faults between here and the storage, whatever its type."""

    @pytest.mark.parametrize("path", ["", "bucket"])
    def test_refused(self, kind: str, path: str) -> None:
        """A port that nothing listens on is named."""
        port = free_port()
        said = remedy(kind, settings_of(kind, f"http://127.0.0.1:{port}"), path)
        assert f"nothing listens on 127.0.0.1:{port}" in said

    def test_refused_by_name(self, kind: str) -> None:
        """So it is where the host has several addresses, and all refuse."""
        port = free_port()
        said = remedy(kind, settings_of(kind, f"http://localhost:{port}"))
        assert f"nothing listens on localhost:{port}" in said

    def test_unknown_host(self, kind: str) -> None:
        """A name that cannot be resolved is named, without its port."""
        said = remedy(kind, settings_of(kind, "https://storage.invalid:9000"))
        assert re.search(r"host name storage\.invalid[ ,]", said)

    def test_no_route(self, kind: str) -> None:
        """An address that no route leads to is told from a closed port."""
        # 2001:db8::/32 is for documentation: nothing is ever there.
        said = remedy(kind, settings_of(kind, "http://[2001:db8::1]:9000"))
        assert "[2001:db8::1]" in said
        assert "no route" in said or "in time" in said

    @pytest.mark.skipif(sys.platform != "linux", reason="how a full queue behaves")
    def test_no_connection(self, kind: str) -> None:
        """A host that drops what is sent to it ends in a timeout that says so."""
        with full() as port:
            said = remedy(kind, settings_of(kind, f"http://127.0.0.1:{port}"))
        assert f"127.0.0.1:{port} does not take the connection in time" in said

    def test_no_answer(self, kind: str) -> None:
        """A server that takes a connection and stays silent is told from that."""
        with listening(lambda _: None) as port:
            said = remedy(kind, settings_of(kind, f"http://127.0.0.1:{port}"))
        assert f"127.0.0.1:{port} takes the connection but does not answer" in said

    def test_hang_up(self, kind: str) -> None:
        """A server that hangs up is told from one that is not there."""

        def hang_up(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.close()

        with listening(hang_up) as port:
            said = remedy(kind, settings_of(kind, f"http://127.0.0.1:{port}"))
        assert f"127.0.0.1:{port} hangs up" in said

    def test_no_http(self, kind: str) -> None:
        """A port where something else than HTTP is spoken is told as such."""

        def greet(connection: socket.socket) -> None:
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n")
            connection.recv(65536)
            connection.close()

        with listening(greet) as port:
            said = remedy(kind, settings_of(kind, f"http://127.0.0.1:{port}"))
        assert f"127.0.0.1:{port} does not speak HTTP" in said

    def test_redirected_elsewhere(self, kind: str) -> None:
        """A redirect is not followed: what sends one is not the storage."""
        target = f"127.0.0.1:{free_port()}"
        with answering(302, "", {"Location": f"http://{target}/?secret=1"}) as url:
            said = remedy(kind, settings_of(kind, url))
        assert f"{address(url)} answers, but not as" in said


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Make an authority that this machine does not trust."""
    return trustme.CA()


class TestTls:
    """Certificates, and http for https."""

    def test_untrusted(self, kind: str, authority: trustme.CA) -> None:
        """A certificate of an unknown authority is refused, and why is told."""
        certificate = authority.issue_cert("127.0.0.1")
        with answering(200, "", tls=showing(certificate)) as url:
            said = remedy(kind, settings_of(kind, url))
        assert f"does not trust the certificate of {address(url)}" in said

    def test_unverified(self, authority: trustme.CA) -> None:
        """Without verification, the check goes on to see who answers."""
        certificate = authority.issue_cert("127.0.0.1")
        with answering(200, "", tls=showing(certificate)) as url:
            said = remedy("minio", s3(url, verify_tls=False))
        assert "not as S3 does" in said
        assert "https" not in said

    def test_plain_server(self, rclone_s3: RcloneS3, kind: str) -> None:
        """A URL with https:// for a server without TLS is corrected."""
        url = rclone_s3.endpoint_url.replace("http:", "https:")
        said = remedy(kind, settings_of(kind, url))
        assert f"127.0.0.1:{rclone_s3.port} does not speak TLS: write http://" in said

    def test_tls_server(self, kind: str, authority: trustme.CA) -> None:
        """A URL with http:// for a server with TLS makes one think of https://."""
        certificate = authority.issue_cert("127.0.0.1")
        with answering(200, "", tls=showing(certificate)) as url:
            said = remedy(kind, settings_of(kind, url.replace("https:", "http:")))
        assert "whether it wants https://" in said

    def test_hang_up(self, kind: str) -> None:
        """A server that hangs up during the handshake is told from an untrusted one."""

        def hang_up(connection: socket.socket) -> None:
            connection.recv(65536)
            connection.close()

        with listening(hang_up) as port:
            said = remedy(kind, settings_of(kind, f"https://127.0.0.1:{port}"))
        assert f"127.0.0.1:{port} hangs up" in said

    @pytest.mark.parametrize(
        ("name", "days", "words"),
        [
            ("127.0.0.1", 1, "answers, but not as S3 does"),
            ("other.example", 1, "is made out to another name"),
            ("10.0.0.1", 1, "is made out to another name"),
            ("127.0.0.1", -1, "is not valid today"),
        ],
    )
    def test_trusted(
        self,
        authority: trustme.CA,
        monkeypatch: pytest.MonkeyPatch,
        name: str,
        days: int,
        words: str,
    ) -> None:
        """Of a trusted authority, it must still be this host's and of today."""
        until = datetime.now(UTC) + timedelta(days=days)
        certificate = authority.issue_cert(name, not_after=until)
        with (
            authority.cert_pem.tempfile() as trusted,
            answering(200, "", tls=showing(certificate)) as url,
        ):
            monkeypatch.setenv("AWS_CA_BUNDLE", trusted)
            assert words in remedy("minio", s3(url))

    def test_trusted_file_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A missing file of trusted certificates is no missing object."""
        monkeypatch.setenv("AWS_CA_BUNDLE", "/nowhere/authority.pem")
        said = remedy("minio", s3("https://127.0.0.1:1"))
        assert "correct AWS_CA_BUNDLE" in said


@pytest.fixture(scope="module")
def accounts() -> Iterator[Accounts]:
    """Run a token service."""
    with Accounts().serving() as accounts:
        yield accounts


class TestGcsCredentials:
    """Keys of service accounts, and credentials of the machine."""

    @pytest.fixture
    def key(self, accounts: Accounts, request: pytest.FixtureRequest) -> dict[str, str]:
        """Make a service account of this test's own, with a key."""
        return accounts.new_key(f"{request.node.name}@project.example")

    @staticmethod
    def said(server: GcsEmulator, key: Mapping[str, str]) -> str:
        """Return what is said of a key."""
        url = server.endpoint_url
        return remedy("gcs", gcs(url, json_credentials=json.dumps(key)))

    def test_good(self, gcs_emulator: GcsEmulator, key: dict[str, str]) -> None:
        """A good key passes."""
        settings = {"json_credentials": json.dumps(key), "read_timeout": 10.0}
        check("gcs", gcs(gcs_emulator.endpoint_url, **settings))

    @pytest.mark.parametrize("field", ["client_email", "private_key", "token_uri"])
    def test_field_is_missing(
        self, gcs_emulator: GcsEmulator, key: dict[str, str], field: str
    ) -> None:
        """A field that is missing in the JSON is named."""
        del key[field]
        assert f"lacks {field}: paste the whole" in self.said(gcs_emulator, key)

    @pytest.mark.parametrize("lost", ["\n", "-----BEGIN", "MI"])
    def test_private_key_is_damaged(
        self, gcs_emulator: GcsEmulator, key: dict[str, str], lost: str
    ) -> None:
        """A private key that lost something, often its line breaks, is found out."""
        key["private_key"] = key["private_key"].replace(lost, r"\n")
        said = self.said(gcs_emulator, key)
        assert "private_key in json_credentials is damaged" in said

    def test_not_of_a_service_account(self, gcs_emulator: GcsEmulator) -> None:
        """JSON for something else is not taken for a damaged key."""
        said = self.said(gcs_emulator, {"type": "authorized_user"})
        assert "json_credentials" in said
        assert "paste the whole JSON file" in said

    def test_key_was_deleted(
        self, gcs_emulator: GcsEmulator, accounts: Accounts, key: dict[str, str]
    ) -> None:
        """A key that was deleted is told from a malformed one."""
        accounts.keys[key["client_email"]].clear()
        assert "the key in json_credentials was deleted" in self.said(gcs_emulator, key)

    def test_key_of_another(
        self, gcs_emulator: GcsEmulator, accounts: Accounts, key: dict[str, str]
    ) -> None:
        """So is one that another account signs with."""
        key["private_key"] = accounts.new_key("another")["private_key"]
        assert "or is not the account's" in self.said(gcs_emulator, key)

    def test_account_was_deleted(
        self, gcs_emulator: GcsEmulator, accounts: Accounts, key: dict[str, str]
    ) -> None:
        """An account that does not exist is told from a deleted key."""
        del accounts.keys[key["client_email"]]
        assert "the service account" in self.said(gcs_emulator, key)

    @pytest.mark.parametrize("hours", [-2, 2])
    def test_clock_skew(
        self,
        gcs_emulator: GcsEmulator,
        key: dict[str, str],
        monkeypatch: pytest.MonkeyPatch,
        hours: int,
    ) -> None:
        """A wrong clock, which Google calls an invalid grant, is no matter of keys."""
        shift = timedelta(hours=hours)
        monkeypatch.setattr(
            "google.auth._helpers.utcnow",
            lambda: datetime.now(UTC).replace(tzinfo=None) + shift,
        )
        said = self.said(gcs_emulator, key)
        assert "clock" in said
        assert "NTP" in said

    def test_token_service_is_refused(
        self, gcs_emulator: GcsEmulator, key: dict[str, str]
    ) -> None:
        """It is the token service that is named, not the storage, if that is away."""
        port = free_port()
        key["token_uri"] = f"http://127.0.0.1:{port}/token"
        assert f"nothing listens on 127.0.0.1:{port}" in self.said(gcs_emulator, key)

    def test_token_service_is_unknown(
        self, gcs_emulator: GcsEmulator, key: dict[str, str]
    ) -> None:
        """So it is if its name cannot be resolved."""
        key["token_uri"] = "https://oauth2.invalid/token"
        assert "host name oauth2.invalid" in self.said(gcs_emulator, key)

    def test_not_the_token_service(
        self, gcs_emulator: GcsEmulator, key: dict[str, str]
    ) -> None:
        """A token_uri that leads to a web server is told from a bad key."""
        with answering(404, "<p>Sorry", HTML) as url:
            key["token_uri"] = url
            said = self.said(gcs_emulator, key)
        assert "token_uri in json_credentials" in said

    @pytest.mark.parametrize("settings", [{"token": "google_default"}, {}])
    def test_no_default_credentials(self, settings: dict[str, str]) -> None:
        """Where the machine has no credentials of its own, the two ways out are told.

        gcsfs then asks without, if it is not told to insist: Google says so.
        """
        said_by_google = gcs_refusal(
            401,
            "Anonymous caller does not have storage.buckets.list access to the Google "
            "Cloud project.",
        )
        with answering(401, said_by_google, JSON) as url:
            named = {"endpoint_url": url, "project_id": "project", **settings}
            said = remedy("gcs", named)
        assert "there are no Google credentials" in said
        assert "set json_credentials" in said

    def test_default_credentials_are_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A variable that names a missing file is corrected."""
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere/key.json")
        said = remedy("gcs", {"token": "google_default", "project_id": "project"})
        assert "GOOGLE_APPLICATION_CREDENTIALS" in said


class TestGcsStorage:
    """What the storage answers."""

    @pytest.mark.parametrize("path", ["no-such-bucket", "no-such-bucket/folder"])
    def test_missing_bucket(self, gcs_emulator: GcsEmulator, path: str) -> None:
        """A missing bucket is named."""
        said = remedy("gcs", gcs(gcs_emulator.endpoint_url), path)
        assert "the bucket 'no-such-bucket' does not exist" in said

    @pytest.mark.parametrize("path", ["", "bucket"])
    @pytest.mark.parametrize("body", ["<p>Hello", "[]", '{"hello": 1}', ""])
    def test_web_page(self, body: str, path: str) -> None:
        """A web page is no list, be it JSON or empty."""
        with answering(200, body, HTML) as url:
            said = remedy("gcs", gcs(url), path)
        assert f"{address(url)} answers, but not as Google Cloud Storage does" in said

    @pytest.mark.parametrize("status", [400, 403, 404, 405, 501])
    def test_web_server(self, status: int) -> None:
        """A web server is not taken for GCS, however it refuses."""
        with answering(status, "<p>Hello", HTML) as url:
            said = remedy("gcs", gcs(url))
        assert f"{address(url)} answers, but not as Google Cloud Storage does" in said

    def test_s3_server(self, rclone_s3: RcloneS3) -> None:
        """Neither is a server for S3."""
        said = remedy("gcs", gcs(rclone_s3.endpoint_url))
        assert "not as Google Cloud Storage does" in said

    @pytest.mark.parametrize(
        ("status", "message", "words"),
        [
            (
                403,
                "Permission 'storage.x.get' denied on resource (or it may not exist).",
                "no permission storage.x.get: grant",
            ),
            (
                403,
                "robot@project.example does not have storage.x.get access to it.",
                "no permission storage.x.get: grant",
            ),
            (
                403,
                "Cloud Storage JSON API has not been used in project 1 before.",
                "the Cloud Storage API is not enabled",
            ),
            (
                403,
                "The billing account for the owning project is disabled.",
                "the billing account",
            ),
            (403, "No.", "grant it the role"),
            (400, "Unknown project id: project", "project_id is missing or unknown"),
            (400, "Required parameter: project", "project_id is missing or unknown"),
            (400, "Invalid bucket name: 'x!'", "3 to 63"),
            (401, "Invalid Credentials", "does not accept the access token"),
            (429, "Slow down.", "try again later"),
            (500, "Backend Error", "try again later"),
            (502, "", "try again later"),
            (503, "Backend Error", "try again later"),
        ],
    )
    def test_refusal(self, status: int, message: str, words: str) -> None:
        """What Google says is taken up, also where gcsfs drops its status."""
        with answering(status, gcs_refusal(status, message), JSON) as url:
            assert words in remedy("gcs", gcs(url))


class TestSentences:
    """Of every sentence, also of those that no server could be made to cause."""

    @pytest.mark.parametrize(
        "pair",
        sorted(
            {
                pair
                for table in (
                    connectorkit_s3.remedies._CODES,
                    connectorkit_s3.remedies._OF_OPERATION,
                    connectorkit_s3.remedies._WORDS,
                    connectorkit_s3.remedies._CLIENT,
                    connectorkit_gcs.remedies._WORDS,
                    connectorkit_gcs.remedies._STATUSES,
                )
                for pair in table.values()
            }
        ),
    )
    def test_form(self, pair: tuple[str, str]) -> None:
        """It says on one line what is wrong and what to do."""
        assert_one_sentence(re.sub(r"\{\w+\}", "x" * 12, ": ".join(pair)))
