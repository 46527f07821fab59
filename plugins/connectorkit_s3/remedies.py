"""What to mend when S3, or what calls itself S3, refuses: an error, one sentence.

S3 names the cause by a code. What is no S3 (a web server, a gateway, a login page)
names none, and botocore puts the HTTP status in the code's place.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from connectorkit.remedies import address, chain, network_remedy

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NotS3Error", "expect_s3", "remedy", "status_of"]


class NotS3Error(ValueError):
    """A server answered with success, but not as S3 does."""


def expect_s3(answer: Mapping[str, Any]) -> None:
    """Make sure that an answer to ListBuckets or ListObjectsV2 is one.

    To botocore any XML is, a web page's too: one that lacks all fields.

    Raises:
        NotS3Error: It is not.
    """
    if answer.keys().isdisjoint({"Buckets", "IsTruncated"}):
        raise NotS3Error("the answer lists neither buckets nor objects")


def remedy(error: BaseException, endpoint: str, region: str | None) -> str | None:
    """Say in one sentence what to mend after `error`, or None if that is unknown.

    Args:
        error: What s3fs or botocore raised.
        endpoint: The URL that was called, or the name of the service.
        region: The region that requests were signed for.

    Returns:
        The sentence, without a full stop. It contains no keys.
    """
    links = [*chain(error)]
    refusals = [*filter(None, map(_refusal_in, links))]
    refusal = refusals[0] if refusals else _Refusal()
    pair = _of_refusal(refusal, region) if refusals else _of_client(links)
    if pair is None:
        return network_remedy(error, endpoint)
    plain = endpoint.startswith("http://")
    return ": ".join(pair).format(
        peer=address(endpoint),
        or_tls=" and whether it wants https://" if plain else "",
        operation=refusal.operation,
        bucket=f"the bucket {refusal.bucket!r:.80}" if refusal.bucket else "the bucket",
        region=f"the region {region}" if region else "the default region",
        other_region=refusal.region,
    )


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that S3 answered with, or None if it did not answer."""
    for link in chain(error):
        answer = getattr(link, "response", None)
        if isinstance(answer, Mapping):
            status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode")
            if isinstance(status, int):
                return status
    return None


@dataclass(frozen=True, slots=True)
class _Refusal:
    """What a server said.

    Attributes:
        code: S3's code, or an HTTP status.
        message: Its words.
        operation: What was asked of it.
        bucket: The bucket that it speaks of; may be empty.
        region: Where that is, if it says so; may be empty.
    """

    code: str = ""
    message: str = ""
    operation: str = ""
    bucket: str = ""
    region: str = ""


def _refusal_in(error: BaseException) -> _Refusal | None:
    answer = getattr(error, "response", None)
    if not isinstance(answer, Mapping) or "Error" not in answer:
        return None
    said = {name: str(text) for name, text in answer["Error"].items()}
    about = answer.get("ResponseMetadata", {})
    resource, _, _ = said.get("Resource", "").strip("/").partition("/")
    return _Refusal(
        # A web page that happens to be XML has no code either.
        code=said.get("Code") or str(about.get("HTTPStatusCode", "")),
        message=said.get("Message", ""),
        operation=str(getattr(error, "operation_name", "")),
        bucket=said.get("BucketName", resource),
        region=_region_in(said, about.get("HTTPHeaders", {})),
    )


def _region_in(said: Mapping[str, str], headers: Mapping[str, str]) -> str:
    named = said.get("Region") or headers.get("x-amz-bucket-region", "")
    if re.fullmatch(r"[\w-]{1,64}", named):
        return named
    texts = said.get("Message", ""), said.get("Endpoint", "")
    found = (re.search(_REGION, text) for text in texts)
    return next((it[it.lastgroup or 0] for it in found if it), "")


def _of_refusal(refusal: _Refusal, region: str | None) -> _Pair | None:
    for words, pair in _WORDS.items():
        if words in refusal.message:
            return pair
    code = refusal.code
    if refusal.operation.startswith("Head"):
        # The answer to HEAD has no body, and so no code.
        code = _OF_HEAD.get(code, code)
    known = _OF_OPERATION.get((code, refusal.operation)) or _CODES.get(code)
    if known in (_UNKNOWN_REGION, _ELSEWHERE) and refusal.region not in ("", region):
        return _OTHER_REGION
    return known or (_NOT_S3 if code.isdecimal() else None)


def _of_client(links: Iterable[BaseException]) -> _Pair | None:
    texts = [f"{type(link).__name__}: {link}" for link in links]
    for pattern, pair in _CLIENT.items():
        if any(re.search(pattern, text) for text in texts):
            return pair
    return None


# What is wrong, what to do.
_Pair: TypeAlias = tuple[str, str]

_REGION: Final = (
    r"expecting '(?P<signed>[\w-]+)'"
    r"|^The (?P<located>[\w-]+) location constraint"
    r"|[.]s3[.-](?P<served>[a-z]+-[a-z-]+-\d)[.]"
)

_CLOCK: Final = (
    "the clocks of this machine and of {peer} differ by too much",
    "set both of them by NTP",
)
_CONSOLE: Final = (
    "{peer} is the port of a console for people",
    "write the port of the S3 API in endpoint_url, often 9000",
)
_MALFORMED_KEY: Final = (
    "the access key has characters that none has",
    "copy it again, without spaces, slashes and line breaks",
)
_MALFORMED_ENDPOINT: Final = (
    "endpoint_url is no address that can be called",
    "write it as https://host or https://host:port",
)
_NOT_S3: Final = (
    "{peer} answers, but not as S3 does",
    "check host, port and path of endpoint_url{or_tls}",
)
_NOT_ROOT: Final = (
    "endpoint_url has a path or a bucket after the port",
    "leave only scheme, host and port",
)
_NO_BUCKET: Final = (
    "{bucket} does not exist",
    "create it, or correct its name",
)
_BAD_NAME: Final = (
    "this cannot be the name of a bucket",
    "correct it to 3 to 63 small letters, digits, dots and hyphens",
)
_OTHER_REGION: Final = (
    "the storage is in the region {other_region}, not in {region}",
    "set region_name to {other_region}",
)
_UNKNOWN_REGION: Final = (
    "{peer} does not accept {region}",
    "set region_name to the one that it is configured with",
)
_ELSEWHERE: Final = (
    "{bucket} is served elsewhere",
    "set endpoint_url and region_name to its own",
)
_DENIED: Final = (
    "these credentials may not call {operation}",
    "have it allowed for them, or use others",
)
_MAY_NOT_LIST: Final = (
    "these credentials may not list {bucket}",
    "have s3:ListBucket allowed for them on it, or correct its name",
)
_BARRED: Final = (
    "the account is barred from the storage",
    "ask those who run the storage",
)
_EXPIRED: Final = (
    "the temporary credentials have expired",
    "get new ones",
)
_BUSY: Final = (
    "{peer} is overloaded or still starting",
    "try again later",
)
_NO_BACKEND: Final = (
    "the gateway at {peer} reaches no storage behind it",
    "start the storage, or correct the gateway or endpoint_url",
)

_CODES: Final[Mapping[str, _Pair]] = {
    "InvalidAccessKeyId": (
        "{peer} does not know the access key",
        "copy key and secret again from its console, or create new ones there",
    ),
    "SignatureDoesNotMatch": (
        "the secret key does not match the access key",
        "copy both again from the storage's console",
    ),
    "RequestTimeTooSkewed": _CLOCK,
    "RequestExpired": _CLOCK,
    "AccessDenied": _DENIED,
    "NoSuchBucket": _NO_BUCKET,
    "InvalidBucketName": _BAD_NAME,
    "AuthorizationHeaderMalformed": _UNKNOWN_REGION,
    "IllegalLocationConstraintException": _UNKNOWN_REGION,
    "InvalidRegion": _UNKNOWN_REGION,
    "PermanentRedirect": _ELSEWHERE,
    "TemporaryRedirect": _ELSEWHERE,
    "ExpiredToken": _EXPIRED,
    "TokenRefreshRequired": _EXPIRED,
    "InvalidToken": (
        "the session token does not belong to the access key",
        "get new temporary credentials, or use keys that need no token",
    ),
    "AccountProblem": _BARRED,
    "AllAccessDisabled": _BARRED,
    "NotSignedUp": _BARRED,
    "UserSuspended": _BARRED,
    "InternalError": _BUSY,
    "ServiceUnavailable": _BUSY,
    "SlowDown": _BUSY,
    "SlowDownRead": _BUSY,
    "TooManyRequests": _BUSY,
    "XMinioServerNotInitialized": _BUSY,
    "MethodNotAllowed": _NOT_S3,
    "NotImplemented": _NOT_S3,
    "407": (
        "a proxy on the way wants credentials of its own",
        "write them into HTTP_PROXY and HTTPS_PROXY",
    ),
    "429": _BUSY,
    "502": _NO_BACKEND,
    "503": _NO_BACKEND,
    "504": _NO_BACKEND,
}

# Where the code alone would mislead.
_OF_OPERATION: Final[Mapping[tuple[str, str], _Pair]] = {
    ("AccessDenied", "ListBuckets"): (
        "these credentials may not list buckets",
        "have s3:ListAllMyBuckets allowed for them, or check one bucket alone",
    ),
    ("AccessDenied", "ListObjectsV2"): _MAY_NOT_LIST,
    ("AccessDenied", "HeadBucket"): _MAY_NOT_LIST,
    ("NoSuchBucket", "ListBuckets"): _NOT_ROOT,
    ("NoSuchKey", "ListObjectsV2"): _NOT_ROOT,
}

_OF_HEAD: Final[Mapping[str, str]] = {
    "301": "PermanentRedirect",
    "403": "AccessDenied",
    "404": "NoSuchBucket",
}

# Where the words say more than the code: rclone calls a slow clock AccessDenied, and
# MinIO's console whatever comes to it.
_WORDS: Final[Mapping[str, _Pair]] = {
    "difference between the request time": _CLOCK,
    "API port": _CONSOLE,
    "AKID": _MALFORMED_KEY,
}

# What the client itself refuses, before it asks: a pattern for "Class: message".
_CLIENT: Final[Mapping[str, _Pair]] = {
    r"^NotS3Error|^ResponseParserError": _NOT_S3,
    r"^NoCredentialsError": ("no access key is set", "set key and secret"),
    r"^PartialCredentialsError": ("of key and secret one is missing", "set both"),
    r"^CredentialRetrievalError|^TokenRetrievalError": (
        "this machine's own credentials cannot be had",
        "log in anew, or set key and secret",
    ),
    r"^ParamValidationError: [\s\S]*bucket name": _BAD_NAME,
    r"^InvalidRegionError": (
        "region_name is no region's name",
        "write it like us-east-1",
    ),
    # botocore finds the host of http://host:99999 no name of a region.
    r"^EndpointResolutionError|^ValueError: Invalid endpoint": _MALFORMED_ENDPOINT,
    r"character detected in": _MALFORMED_KEY,
    r"^ValueError: .*credentials encoded in URL": (
        "endpoint_url contains the name of a user",
        "remove it, and what stands before the @",
    ),
    # botocore looks neither in the system's store nor in SSL_CERT_FILE.
    r"^SSLCertVerificationError: .*(self.signed|local issuer|first certificate)": (
        "this machine does not trust the certificate of {peer}",
        "name its authority's file in AWS_CA_BUNDLE, or for a test turn off verify_tls",
    ),
    r"^HTTPClientError: .*No such file": (
        "the file of trusted certificates is missing",
        "correct AWS_CA_BUNDLE or REQUESTS_CA_BUNDLE",
    ),
}
