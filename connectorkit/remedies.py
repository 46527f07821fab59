"""What to mend when a storage cannot be reached: an error becomes one sentence.

Connector types read their storage's own errors first, and come here for the network's.
Nothing here knows a storage's client: its errors are known by the built-in ones that
they carry, else by the name of their class. A sentence names an endpoint by host and
port alone, for URLs and messages of clients may hold secrets.
"""

from __future__ import annotations

import errno
import re
import socket
import ssl
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["address", "chain", "network_remedy"]

# Where libraries keep the error behind an error, if not in __cause__: aiohttp
# (os_error, certificate_error), urllib and urllib3 (reason).
_LINKS: Final = ("os_error", "certificate_error", "reason")


def chain(error: BaseException) -> Iterator[BaseException]:
    """Yield `error` and every error behind it, each once, the nearest first.

    Follows the cause, the context unless it is suppressed, the errors that libraries
    keep in attributes and arguments, and the members of exception groups.
    """
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        link = waiting.pop()
        if id(link) not in seen:
            seen.add(id(link))
            yield link
            waiting.extend(reversed([*_behind(link)]))


def _behind(error: BaseException) -> Iterator[BaseException]:
    if error.__cause__ is not None:
        yield error.__cause__
    if error.__context__ is not None and not error.__suppress_context__:
        yield error.__context__
    kept = [getattr(error, name, None) for name in _LINKS]
    yield from (it for it in (*kept, *error.args) if isinstance(it, BaseException))
    if isinstance(error, BaseExceptionGroup):
        yield from error.exceptions


def network_remedy(error: BaseException, endpoint: str) -> str | None:
    """Say in one sentence what to mend, if `error` comes from the network.

    Args:
        error: What a client raised.
        endpoint: The URL that was called; named where `error` does not tell the host
            that failed, which may be another: a proxy, a token service.

    Returns:
        The sentence, without a full stop, or None if it is no fault of the network.
    """
    links = [*chain(error)]
    for is_it, wrong, mend in _FAULTS:
        if any(is_it(link) for link in links):
            peer = _peer(links) or address(endpoint)
            plain = endpoint.startswith("http://")
            return f"{wrong}: {mend}".format(
                peer=peer,
                host=re.sub(r":\d+$", "", peer),
                or_tls=" and whether it wants https://" if plain else "",
            )
    return None


def address(endpoint: str) -> str:
    """Return host and port of a URL, and nothing else of it.

    What is no URL but words, such as the name of a service, is returned as it is.
    """
    if re.fullmatch(r"[\w ()-]+", endpoint):
        return endpoint
    try:
        url = urlsplit(endpoint if "://" in endpoint else f"//{endpoint}")
        host, port = url.hostname, url.port
    except ValueError:  # a port out of range, a bracket left open
        return "the endpoint"
    port = port or {"http": 80, "https": 443}.get(url.scheme)
    return _joined(host, port) if host else "the endpoint"


def _joined(host: str, port: int | None) -> str:
    host = f"[{host}]" if ":" in host else host
    return f"{host}:{port}" if port else host


def _peer(links: Sequence[BaseException]) -> str | None:
    """Find whom the client was talking to: aiohttp and urllib3 tell, requests too."""
    for link in links:
        for holder in (link, getattr(link, "conn", None), getattr(link, "pool", None)):
            host, port = getattr(holder, "host", None), getattr(holder, "port", None)
            if isinstance(host, str) and isinstance(port, int):
                return _joined(host.strip("[]"), port)
        url = getattr(getattr(link, "request", None), "url", None)
        if isinstance(url, str):
            return address(url)
    return None


def _is(*types: type[BaseException]) -> Callable[[BaseException], bool]:
    return lambda error: isinstance(error, types)


def _named(*names: str) -> Callable[[BaseException], bool]:
    return lambda error: any(it.__name__ in names for it in type(error).__mro__)


def _numbered(*numbers: int) -> Callable[[BaseException], bool]:
    return lambda error: not _numbers(error).isdisjoint(numbers)


def _numbers(error: BaseException) -> set[int]:
    if not isinstance(error, OSError):
        return set()
    if error.errno:
        return {error.errno}
    # A host with several addresses, each of which failed in its own way.
    return {int(number) for number in re.findall(r"\[Errno (\d+)\]", str(error))}


def _verified(*codes: int) -> Callable[[BaseException], bool]:
    return lambda error: getattr(error, "verify_code", None) in codes


def _lookup_failed(error: BaseException) -> bool:
    return isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN


def _not_tls(error: BaseException) -> bool:
    return getattr(error, "reason", None) in _NOT_TLS


def _proxy_failed(error: BaseException) -> bool:
    # gcsfs raises requests' ProxyError, without a word, for any HTTP 502.
    return _named(*_PROXY)(error) and bool(error.args)


# OpenSSL's names for an answer that is no TLS; which one depends on its version and on
# the bytes that came.
_NOT_TLS: Final = frozenset(
    {
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNKNOWN_PROTOCOL",
        "WRONG_VERSION_NUMBER",
    }
)

_PROXY: Final = (
    "ClientHttpProxyError",
    "ClientProxyConnectionError",
    "ProxyConnectionError",
    "ProxyError",
)

# X509_V_ERR_* of OpenSSL.
_NOT_YET_VALID, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64

# Which fault it is, what is wrong, what to do. The first that fits counts, so the
# particular stand before the general. Built-in errors outlive the names of clients'
# classes: those only refine them, or stand where a client brings nothing else.
_FAULTS: Final[tuple[tuple[Callable[[BaseException], bool], str, str], ...]] = (
    (
        _proxy_failed,
        "a proxy on the way does not let the request through",
        "correct HTTP_PROXY and HTTPS_PROXY, or name the storage in NO_PROXY",
    ),
    (
        _lookup_failed,
        "this machine cannot look up the host name {host} at present",
        "mend its name resolution, or try again",
    ),
    (
        _is(socket.gaierror),
        "the host name {host} is unknown",
        "correct it in the endpoint, or mend this machine's name resolution",
    ),
    (
        _verified(_OTHER_NAME, _OTHER_ADDRESS),
        "the certificate of {peer} is made out to another name",
        "use that name in the endpoint, or have it reissued for this one",
    ),
    (
        _verified(_EXPIRED, _NOT_YET_VALID),
        "the certificate of {peer} is not valid today",
        "renew it on the server, or set this machine's clock",
    ),
    (
        _is(ssl.SSLCertVerificationError),
        "this machine does not trust the certificate of {peer}",
        "install its authority's here, or for a mere test turn verification off",
    ),
    (
        _not_tls,
        "{peer} does not speak TLS",
        "write http:// in the endpoint, or use the port that serves https://",
    ),
    (
        _is(ssl.SSLEOFError),
        "{peer} hangs up during the TLS handshake",
        "check that this port serves https:// and that no firewall interferes",
    ),
    (
        _is(ssl.SSLError),
        "no TLS session with {peer} comes about",
        "check which versions it accepts and if it wants a client's certificate",
    ),
    (
        _numbered(errno.ECONNREFUSED),
        "nothing listens on {peer}",
        "correct host and port in the endpoint, or start the server",
    ),
    (
        _numbered(
            errno.EADDRNOTAVAIL,
            errno.EHOSTDOWN,
            errno.EHOSTUNREACH,
            errno.ENETDOWN,
            errno.ENETUNREACH,
        ),
        "no route leads from this machine to {host}",
        "correct the endpoint, or check network, firewall and VPN",
    ),
    (
        _named("ConnectTimeout", "ConnectTimeoutError", "ConnectionTimeoutError"),
        "{peer} does not take the connection in time",
        "correct host and port in the endpoint, or check the firewall",
    ),
    (
        _named("ReadTimeout", "ReadTimeoutError", "SocketTimeoutError"),
        "{peer} takes the connection but does not answer in time",
        "check that the port is the storage's{or_tls}, or allow it more time",
    ),
    (
        _named("Timeout", "TimeoutError"),
        "{peer} does not answer in time",
        "check the endpoint, the firewall and the server, or allow it more time",
    ),
    (
        _named("BadHttpMessage"),
        "{peer} does not speak HTTP",
        "check that the port is the storage's{or_tls}",
    ),
    (
        _named("InvalidSchema", "InvalidURL", "MissingSchema", "NonHttpUrlClientError"),
        "the endpoint is no address that can be called",
        "write it as https://host or https://host:port",
    ),
    (
        # Not every ConnectionError: what the kit itself refuses is one, too.
        _named(
            "BrokenPipeError",
            "ChunkedEncodingError",
            "ClientPayloadError",
            "ConnectionAbortedError",
            "ConnectionClosedError",
            "ConnectionResetError",
            "IncompleteRead",
            "IncompleteReadError",
            "ProtocolError",
            "ResponseStreamingError",
            "ServerDisconnectedError",
        ),
        "{peer} hangs up",
        "check that the port is the storage's{or_tls}, and look at the server",
    ),
    (
        _named("ClientConnectorError", "EndpointConnectionError"),
        "{peer} cannot be reached",
        "check the endpoint, the network and the firewall",
    ),
)
