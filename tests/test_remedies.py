"""Errors become sentences: the errors behind an error, and what the network did."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
import ssl

import aiohttp
import pytest
import trustme

from connectorkit.remedies import address, chain, network_remedy
from connectorkit_s3.remedies import remedy
from impostors import answering, showing


class TestChain:
    """The errors behind an error."""

    def test_cause_and_context(self) -> None:
        """Cause and context are followed, the nearest first, to their ends."""
        deep = ValueError("deep")
        cause = KeyError("cause")
        cause.__context__ = deep
        error, context = RuntimeError("error"), OSError("context")
        error.__cause__ = cause
        error.__context__ = context
        error.__suppress_context__ = False
        assert [*chain(error)] == [error, cause, deep, context]

    def test_suppressed_context(self) -> None:
        """A context that was suppressed is not a reason."""
        error = RuntimeError("error")
        error.__context__ = ValueError("context")
        error.__suppress_context__ = True
        assert [*chain(error)] == [error]

    def test_cycle(self) -> None:
        """A chain that bites its tail ends."""
        error, cause = RuntimeError("error"), ValueError("cause")
        error.__cause__ = cause
        cause.__context__ = error
        assert [*chain(error)] == [error, cause]

    def test_groups(self) -> None:
        """All members of a group are reasons, and what is behind them."""
        first, second, behind = ValueError("1"), ValueError("2"), OSError("behind")
        first.__cause__ = behind
        group = ExceptionGroup("group", [first, second])
        assert [*chain(group)] == [group, first, behind, second]

    @pytest.mark.parametrize("name", ["os_error", "certificate_error", "reason"])
    def test_attributes(self, name: str) -> None:
        """Errors that a library keeps in an attribute are reasons."""
        error, kept = RuntimeError("error"), OSError("kept")
        setattr(error, name, kept)
        assert [*chain(error)] == [error, kept]

    def test_arguments(self) -> None:
        """So are those among the arguments, each but once."""
        kept = OSError("kept")
        error = RuntimeError("error", kept, "text")
        error.__cause__ = kept
        assert [*chain(error)] == [error, kept]

    def test_is_lazy(self) -> None:
        """The nearest error comes without a look at those behind it."""

        class BrokenError(Exception):
            @property
            def reason(self) -> Exception:
                raise AssertionError

        assert isinstance(next(chain(BrokenError())), BrokenError)


class TestNetworkRemedy:
    """What needs no storage to be told."""

    @pytest.mark.parametrize(
        "error",
        [
            ValueError("no network"),
            FileNotFoundError("key"),
            PermissionError("denied"),
            OSError(5, "translated by s3fs"),
            ConnectionError("what the kit raises itself"),
            KeyError("reason"),
        ],
    )
    def test_other_errors(self, error: Exception) -> None:
        """What is no fault of the network is left to others."""
        assert network_remedy(error, "http://host") is None

    def test_several_addresses(self) -> None:
        """A host whose addresses fail in different ways is still told."""
        error = OSError(
            "Multiple exceptions: [Errno 111] Connect call failed ('::1', 9), "
            "[Errno 101] Connect call failed ('127.0.0.1', 9)"
        )
        assert network_remedy(error, "http://host:9") is not None

    def test_name_service_is_away(self) -> None:
        """A resolver that is away is told from a name that does not exist."""
        error = socket.gaierror(socket.EAI_AGAIN, "Temporary failure")
        said = network_remedy(error, "http://host:9")
        assert said is not None
        assert said.startswith("this machine cannot look up the host name host ")

    def test_emptied_timeout(self) -> None:
        """A timeout that lost its words on fsspec's bridge is still one."""
        from fsspec.exceptions import FSTimeoutError

        said = network_remedy(FSTimeoutError(), "https://host")
        assert said is not None
        assert said.startswith("host:443 does not answer in time")

    @pytest.mark.parametrize("endpoint", ["host:9000", "http://host:99999"])
    def test_no_url(self, endpoint: str) -> None:
        """What cannot be called as it is written is to be rewritten."""

        async def call() -> None:
            async with aiohttp.ClientSession() as session:
                await session.get(endpoint)

        with pytest.raises(aiohttp.ClientError) as caught:
            asyncio.run(call())
        said = network_remedy(caught.value, endpoint)
        assert said is not None
        assert said.startswith("the endpoint is no address")

    def test_proxy(self) -> None:
        """A proxy that refuses is not taken for the storage."""

        class ClientHttpProxyError(Exception):
            """As aiohttp's."""

        said = network_remedy(ClientHttpProxyError(407), "https://host")
        assert said is not None
        assert "HTTPS_PROXY" in said

    @pytest.mark.parametrize(
        ("name", "words"),
        [("localhost", "made out to another name"), ("127.0.0.1", "does not trust")],
    )
    def test_standard_library(self, name: str, words: str) -> None:
        """An error of any client will do, as long as it carries the built-in one."""
        authority = trustme.CA()
        context = ssl.create_default_context()
        if name == "localhost":
            authority.configure_trust(context)
        certificate = authority.issue_cert("localhost")
        with answering(200, "", tls=showing(certificate)) as url:
            host = address(url)
            client = http.client.HTTPSConnection(host, context=context)
            with contextlib.closing(client), pytest.raises(ssl.SSLError) as caught:
                client.request("GET", "/")
        said = network_remedy(caught.value, url)
        assert said is not None
        assert host in said
        assert words in said

    @pytest.mark.parametrize(
        ("endpoint", "shown"),
        [
            ("https://host", "host:443"),
            ("http://host/path?secret=1", "host:80"),
            ("http://user:secret@host:9000/", "host:9000"),
            ("user:secret@host:9000", "host:9000"),
            ("host:9000", "host:9000"),
            ("http://[::1]:9000", "[::1]:9000"),
            ("https://host:secret", "the endpoint"),
            ("https://[secret", "the endpoint"),
            ("https://?secret=1", "the endpoint"),
            ("", "the endpoint"),
            ("Amazon S3", "Amazon S3"),
        ],
    )
    def test_address(self, endpoint: str, shown: str) -> None:
        """Of an endpoint only host and port are ever shown."""
        assert address(endpoint) == shown


class TestS3:
    """What no server could be made to say."""

    @pytest.mark.parametrize("region", ["eu\nwest", "", "{peer}", "x" * 99])
    def test_region_that_is_none(self, region: str) -> None:
        """What a server calls a region is not repeated if it cannot be one."""
        from botocore.exceptions import ClientError

        said = {"Code": "AuthorizationHeaderMalformed", "Region": region}
        error = ClientError({"Error": said}, "ListBuckets")
        sentence = remedy(error, "http://host", "us-east-1")
        assert sentence is not None
        assert "does not accept the region us-east-1" in sentence
