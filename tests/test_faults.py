"""Faults: what each error means, found along its causes; the unknown is permanent."""

from __future__ import annotations

import asyncio
import errno
import http.client
import math
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import aiohttp
import botocore.exceptions
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import (
    AttemptTimedOut,
    CircuitOpen,
    DeadlineExceeded,
    Fault,
    NotReplayable,
    ObjectChanged,
    Refused,
    Verdict,
    WrongAnswer,
    classify,
)
from connectorkit.faults import retry_after
from stacks import Stack

if TYPE_CHECKING:
    from collections.abc import Iterable

SENT = Verdict(Fault.TRANSIENT)
UNSENT = Verdict(Fault.TRANSIENT, is_sent=False)
HANGUP = Verdict(Fault.TRANSIENT, is_hangup=True)
LATE = Verdict(Fault.TIMEOUT)
NEVER_SENT = Verdict(Fault.TIMEOUT, is_sent=False)
WRONG = Verdict(Fault.CORRUPT)
HOPELESS = Verdict(Fault.PERMANENT, is_sent=False)

# Every error of each client that is no answer for good. What is not named here is
# permanent: a new one in a client's next version is, until somebody has looked at it.
CLIENTS: dict[type[Exception], dict[str, Verdict]] = {
    aiohttp.ClientError: {
        "ClientConnectionError": SENT,
        "ClientConnectionResetError": SENT,
        "ClientConnectorCertificateError": HOPELESS,
        "ClientConnectorDNSError": UNSENT,
        "ClientConnectorError": UNSENT,
        "ClientConnectorSSLError": UNSENT,
        "ClientOSError": SENT,
        "ClientPayloadError": SENT,
        "ClientProxyConnectionError": UNSENT,
        "ClientSSLError": UNSENT,
        "ConnectionTimeoutError": NEVER_SENT,
        "ServerConnectionError": SENT,
        "ServerDisconnectedError": HANGUP,
        "ServerFingerprintMismatch": HOPELESS,
        "ServerTimeoutError": LATE,
        "SocketTimeoutError": LATE,
        "UnixClientConnectorError": UNSENT,
    },
    botocore.exceptions.BotoCoreError: {
        "ChecksumError": WRONG,
        "ConnectTimeoutError": NEVER_SENT,
        "ConnectionClosedError": HANGUP,
        "ConnectionError": SENT,
        "EndpointConnectionError": SENT,
        "FlexibleChecksumError": WRONG,
        "HTTPClientError": SENT,
        "IncompleteReadError": SENT,
        "ProxyConnectionError": SENT,
        "ReadTimeoutError": LATE,
        "ResponseStreamingError": SENT,
        "SSLError": SENT,
    },
    http.client.HTTPException: {"IncompleteRead": SENT, "RemoteDisconnected": HANGUP},
    requests.RequestException: {
        "ChunkedEncodingError": SENT,
        "ConnectTimeout": NEVER_SENT,
        "ConnectionError": SENT,
        "ProxyError": SENT,
        "ReadTimeout": LATE,
        "SSLError": SENT,
    },
}


def family(base: type[Exception]) -> Iterable[type[Exception]]:
    """Yield a class's own subclasses, however deep, of its own package."""
    for each in base.__subclasses__():
        if each.__module__.partition(".")[0] == base.__module__.partition(".")[0]:
            yield each
        yield from family(each)


@pytest.mark.parametrize("client", CLIENTS, ids=lambda base: base.__module__)
def test_every_error_of_a_client_is_in_the_table(client: type[Exception]) -> None:
    """Its missing credentials, bad arguments, unknown endpoints are permanent (E10)."""
    found = {each.__name__: classify(each.__new__(each)) for each in {*family(client)}}
    passing = {name: it for name, it in found.items() if it != Verdict(Fault.PERMANENT)}

    assert passing == CLIENTS[client]
    assert len(found) > len(passing)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (FileNotFoundError(), Verdict(Fault.NOT_FOUND)),
        (FileExistsError(), Verdict(Fault.PRECONDITION)),
        (PermissionError(), Verdict(Fault.AUTH)),
        (IsADirectoryError(), Verdict(Fault.PERMANENT)),
        (ValueError(), Verdict(Fault.PERMANENT)),
        (OSError("nobody knows"), Verdict(Fault.PERMANENT)),
        (OSError(errno.ENOSPC, "full"), Verdict(Fault.PERMANENT)),
        (KeyboardInterrupt(), Verdict(Fault.PERMANENT)),
        (TimeoutError(), LATE),
        (TimeoutError(errno.ETIMEDOUT, "late"), LATE),
        (asyncio.IncompleteReadError(b"", 9), SENT),
        (ConnectionResetError(), SENT),
        (ConnectionAbortedError(), SENT),
        (BrokenPipeError(), SENT),
        (ConnectionRefusedError(), UNSENT),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), UNSENT),
        (OSError(errno.ENETUNREACH, "unreachable"), UNSENT),
        (OSError(errno.EHOSTUNREACH, "unreachable"), UNSENT),
        (OSError(errno.EBUSY, "busy"), SENT),
        (OSError(errno.ESTALE, "stale"), SENT),
        (InterruptedError(errno.EINTR, "interrupted"), SENT),
        (BlockingIOError(errno.EAGAIN, "again"), SENT),
        (socket.gaierror(socket.EAI_AGAIN, "try again"), UNSENT),
        (socket.gaierror(socket.EAI_NONAME, "no such host"), HOPELESS),
        (ssl.SSLCertVerificationError("expired"), HOPELESS),
        (AttemptTimedOut("late"), LATE),
        (WrongAnswer("other bytes"), WRONG),
        (ObjectChanged("replaced"), Verdict(Fault.PRECONDITION)),
        (NotReplayable("a pipe"), HOPELESS),
        (CircuitOpen("open"), Verdict(Fault.LOCAL, "open", is_sent=False)),
        (DeadlineExceeded("up"), Verdict(Fault.LOCAL, "deadline", is_sent=False)),
        (Refused("no"), Verdict(Fault.LOCAL, "refused", is_sent=False)),
    ],
    ids=repr,
)
def test_an_error_means(error: BaseException, verdict: Verdict) -> None:
    """What its family and number say, built-in or our own."""
    assert classify(error) == verdict


PASSING = {
    "EAGAIN",
    "EBUSY",
    "ECONNABORTED",
    "ECONNREFUSED",
    "ECONNRESET",
    "EHOSTDOWN",
    "EHOSTUNREACH",
    "EINTR",
    "ENETDOWN",
    "ENETUNREACH",
    "EPIPE",
    "EREMOTEIO",
    "ESHUTDOWN",
    "ESTALE",
    "ETIMEDOUT",
    "EWOULDBLOCK",
}


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_every_error_of_the_system_has_a_verdict(number: int) -> None:
    """A number that nobody named is permanent, and none is an error by itself."""
    fault = classify(OSError(number, os.strerror(number))).fault

    assert fault.is_outage == (errno.errorcode[number] in PASSING)


class TestTheChain:
    """What lies behind an error may say more than the error."""

    def test_a_cause_is_found(self) -> None:
        """An unknown error is what it came from."""
        error = OSError("the client's own")
        error.__cause__ = ConnectionResetError()

        assert classify(error) == SENT

    def test_a_context_is_found_unless_it_is_suppressed(self) -> None:
        """As Python prints it."""
        error = OSError("the client's own")
        error.__context__ = ConnectionResetError()
        assert classify(error) == SENT

        error.__suppress_context__ = True
        assert classify(error) == Verdict(Fault.PERMANENT)

    def test_the_nearest_answer_counts(self) -> None:
        """What was answered at last is no matter of what went wrong before."""
        error = FileNotFoundError()
        error.__context__ = ConnectionRefusedError()

        assert classify(error).fault is Fault.NOT_FOUND

    def test_the_particular_lies_deeper(self) -> None:
        """That nothing was sent, or that a connection was closed, is the client's word.

        What the wrapper says of itself is more general.
        """
        for inner, verdict in (
            (aiohttp.ServerDisconnectedError(), HANGUP),
            (ConnectionRefusedError(), UNSENT),
        ):
            outer = botocore.exceptions.HTTPClientError(error=inner)
            outer.__cause__ = inner
            assert classify(outer) == verdict

    def test_a_distrusted_certificate_is_final(self) -> None:
        """Though the wrapper is a connection error."""
        inner = ssl.SSLCertVerificationError("self-signed")
        outer = botocore.exceptions.SSLError(endpoint_url="https://x", error=inner)
        outer.__cause__ = inner

        assert classify(outer) == HOPELESS

    def test_a_circle_of_causes_ends(self) -> None:
        """Each error is looked at once."""
        one, two = OSError("one"), OSError("two")
        one.__cause__, two.__cause__ = two, one

        assert classify(one) == Verdict(Fault.PERMANENT)


class TestRetryAfter:
    """A service may say when to come back, in two forms."""

    @pytest.mark.parametrize(
        ("header", "seconds"),
        [("7", 7), (" 7 ", 7), ("0", 0), (7, 7), ("1.5", 1.5), ("-3", 0), ("1e3", 1e3)],
    )
    def test_seconds(self, header: object, seconds: float) -> None:
        """A number is some seconds; less than none is none."""
        assert retry_after(header) == seconds

    @pytest.mark.parametrize("zone", [None, UTC])
    def test_a_date(self, zone: Any) -> None:
        """It is so far away; one that is past means at once."""
        now = datetime.now(UTC)
        hence = format_datetime((now + timedelta(hours=2)).replace(tzinfo=zone))
        past = format_datetime((now - timedelta(hours=2)).replace(tzinfo=zone))

        assert retry_after(hence) == pytest.approx(7200, abs=60)
        assert retry_after(past) == 0

    @pytest.mark.parametrize(
        "header", [None, "", "soon", "nan", "inf", "-inf", b"\xff", "1,5", "9" * 400]
    )
    def test_what_nobody_can_read_is_none(self, header: object) -> None:
        """It is no error, and no wait without end."""
        assert retry_after(header) is None

    @given(
        header=st.text()
        | st.from_regex(r"[A-Z][a-z]{2}, \d{1,4} [A-Za-z]{3} \d{1,6} [\d:]{5,9} \S*")
        | st.binary()
        | st.floats()
    )
    def test_any_header_is_a_wait_or_none(self, header: object) -> None:
        """Whatever a service sends, nothing breaks."""
        wait = retry_after(header)

        assert wait is None or 0 <= wait < math.inf


class TestAnOperationsVerdict:
    """An operation asks once for each error."""

    def test_it_is_asked_for_once(self) -> None:
        """Several policies ask in turn; another error is another question."""
        asked: list[BaseException] = []

        def judge(error: BaseException) -> Verdict:
            asked.append(error)
            return SENT

        op, one, two = Stack(classify=judge).op(), OSError("1"), OSError("2")

        for error in (one, one, two, two, one):
            assert op.within(5).classify(error) == SENT
        assert asked == [one, two, one]

    def test_a_refusal_is_nobody_elses_to_judge(self) -> None:
        """A storage's own table is not asked: it might find an older answer behind."""
        refused = CircuitOpen("open")
        refused.__context__ = ConnectionResetError()

        assert Stack(classify=lambda _: SENT).op().classify(refused).fault is (
            Fault.LOCAL
        )


def test_outages_are_what_may_pass() -> None:
    """Throttles, failures, time-outs and wrong bytes; nothing that was answered."""
    outages = {fault for fault in Fault if fault.is_outage}

    assert outages == {Fault.THROTTLED, Fault.TRANSIENT, Fault.TIMEOUT, Fault.CORRUPT}
