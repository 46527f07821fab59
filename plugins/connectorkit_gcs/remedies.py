"""What to mend when Google Cloud Storage refuses: an error becomes one sentence.

The cause stands in several places: google.auth tells it in words, gcsfs keeps some
HTTP statuses as numbers and turns the others into built-in errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from connectorkit.remedies import address, chain, network_remedy

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["NotGCSError", "expect_gcs", "remedy", "status_of"]


class NotGCSError(ValueError):
    """A server answered with success, but not as Google Cloud Storage does."""


def expect_gcs(answer: object) -> None:
    """Make sure that the answer to a listing of buckets or objects is one.

    Raises:
        NotGCSError: It is not.
    """
    kind = answer.get("kind") if isinstance(answer, Mapping) else None
    if kind not in {"storage#buckets", "storage#objects"}:
        raise NotGCSError("the answer lists neither buckets nor objects")


def remedy(error: BaseException, endpoint: str) -> str | None:
    """Say in one sentence what to mend after `error`, or None if that is unknown.

    Args:
        error: What gcsfs, google.auth or aiohttp raised.
        endpoint: The URL that was called, or the name of the service.

    Returns:
        The sentence, without a full stop. It contains nothing of a key or a token.
    """
    pair, found = _told(chain(error))
    pair = pair or _STATUSES.get(status_of(error) or 0)
    if pair is None:
        return network_remedy(error, endpoint)
    return ": ".join(pair).format(peer=address(endpoint), **found)


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status of a refusal, or None if there was none."""
    for link in chain(error):
        # gcsfs calls it code; so did aiohttp, which now warns of that name.
        status = getattr(link, "status", None) or getattr(link, "code", None)
        if isinstance(status, int) and 400 <= status <= 599:  # noqa: PLR2004 - errors
            return status
        for pattern, status in _LOST.items():
            if re.search(pattern, _text(link)):
                return status
    return None


def _told(links: Iterable[BaseException]) -> tuple[_Pair | None, dict[str, str]]:
    """Find the words that tell most, and the names among them that may be shown."""
    texts = [_text(link) for link in links]
    for pattern, pair in _WORDS.items():
        for text in texts:
            if found := re.search(pattern, text):
                return pair, found.groupdict()
    return None, {}


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


# What is wrong, what to do.
_Pair: TypeAlias = tuple[str, str]

_LACKS: Final = (
    "json_credentials lacks {fields}",
    "paste the whole JSON file of the service account's key",
)
_NO_CREDENTIALS: Final = (
    "there are no Google credentials",
    "set json_credentials, or run gcloud auth application-default login",
)
_NO_TOKEN: Final = (
    "Google gives no token for these credentials",
    "create a new key for the service account and set it as json_credentials",
)
_BAD_TOKEN: Final = (
    "the access token is not valid or expires soon",
    "get a new one, or set json_credentials",
)
_NOT_ALLOWED: Final = (
    "the account has no permission {permission}",
    "grant it a role that holds it, such as Storage Admin, or correct the bucket",
)
_NOT_GCS: Final = (
    "{peer} answers, but not as Google Cloud Storage does",
    "correct endpoint_url, or leave it empty for Google itself",
)
_BUSY: Final = (
    "{peer} is overloaded or out of order",
    "try again later",
)

# A pattern for "Class: message". The first that fits counts: credentials come before
# the requests made with them.
_WORDS: Final[Mapping[str, _Pair]] = {
    r"^MalformedError: .*missing fields (?P<fields>[a-z_, ]+)": _LACKS,
    r"^MalformedError: The (?P<fields>private_key) field was not found": _LACKS,
    r"^ValueError: .*(PEM file|deserialize key|key could be detected)": (
        "the private_key in json_credentials is damaged",
        r"paste the JSON file again as Google gave it, its \n included",
    ),
    r"^KeyError: '(refresh_token|client_secret|client_id)'": (
        "json_credentials is no key of a service account",
        "paste the whole JSON file that Google gave for it",
    ),
    r"^RefreshError: .*(short-lived token|\biat\b)": (
        "the clock of this machine differs from Google's",
        "set it by NTP",
    ),
    r"^RefreshError: .*Invalid JWT Signature": (
        "the key in json_credentials was deleted or is not the account's",
        "create a new key for the service account and set it as json_credentials",
    ),
    r"^RefreshError: .*account not found": (
        "the service account in json_credentials does not exist",
        "restore it, or set the key of another as json_credentials",
    ),
    r"^RefreshError: .*disabled": (
        "the account in json_credentials is disabled",
        "enable it in Google's console, or use another",
    ),
    r"^Re(fresh|auth)\w*Error: .*(expired or revoked|[Rr]eauth)": (
        "the login behind the credentials has expired or was revoked",
        "run gcloud auth application-default login, or set json_credentials",
    ),
    r"^RefreshError: <": (
        "what token_uri in json_credentials names is not Google's token service",
        "paste the JSON file again as Google gave it",
    ),
    r"^RefreshError|^ValueError: Invalid gcloud credentials": _NO_TOKEN,
    r"^DefaultCredentialsError: File .* was not found": (
        "the file that GOOGLE_APPLICATION_CREDENTIALS names is missing",
        "correct the variable, or set json_credentials",
    ),
    r"^DefaultCredentialsError: .*not a valid json": (
        "the file of default credentials is damaged",
        "run gcloud auth application-default login, or set json_credentials",
    ),
    r"^DefaultCredentialsError|Anonymous caller": _NO_CREDENTIALS,
    r"^ValueError: [\s\S]*does not match the google default project": (
        "project_id is not the project of the default credentials",
        "set project_id to that one, or set json_credentials",
    ),
    r"^ValueError: (Provided token is|The provided raw token)": _BAD_TOKEN,
    r"nknown project|nvalid project|Required parameter: project": (
        "project_id is missing or unknown",
        "set it to the ID of the project, which is not its name or number",
    ),
    r"nvalid bucket name": (
        "this cannot be the name of a bucket",
        "correct it to 3 to 63 small letters, digits, dots, hyphens and underscores",
    ),
    r"^\w+: Forbidden: [\s\S]*billing account": (
        "the billing account of the project is closed",
        "open it in Google's console",
    ),
    r"^\w+: Forbidden: [\s\S]*(has not been used in project|accessNotConfigured)": (
        "the Cloud Storage API is not enabled in the project",
        "enable it in Google's console",
    ),
    r"^\w+: Forbidden: [\s\S]*([Rr]ate ?[Ll]imit|[Qq]uota)": _BUSY,
    r"^\w+: Forbidden: [\s\S]*Permission '(?P<permission>[\w.]+)' denied": (
        _NOT_ALLOWED
    ),
    r"^\w+: Forbidden: [\s\S]*not have (?P<permission>[\w.]+) access": _NOT_ALLOWED,
    r"^FileNotFoundError: b/(?P<bucket>[^/\s]+)": (
        "the bucket '{bucket}' does not exist",
        "create it, or correct its name or endpoint_url",
    ),
    # Google answers in JSON; a page from anywhere else does not.
    # Nor does it redirect.
    r"^HttpError: (<[\s\S]*, 4|[\s\S]*, 3)\d\d$|^\w+: Forbidden: \S*\s+<": _NOT_GCS,
    r"^NotGCSError|^JSONDecodeError|^FileNotFoundError: b/?$": _NOT_GCS,
}

# Statuses for which gcsfs raises something without a number.
_LOST: Final[Mapping[str, int]] = {
    r"^FileNotFoundError: b\b": 404,
    r"^\w+: Forbidden: ": 403,
    r"^ProxyError: $": 502,
}

_STATUSES: Final[Mapping[int, _Pair]] = {
    401: (
        "Google does not accept the access token",
        "get a new one, or set json_credentials",
    ),
    403: (
        "the account may not do this",
        "grant it the role Storage Admin or Storage Object Viewer, or use another",
    ),
    405: _NOT_GCS,
    407: (
        "a proxy on the way wants credentials of its own",
        "write them into HTTPS_PROXY",
    ),
    408: _BUSY,
    429: _BUSY,
    500: _BUSY,
    501: _NOT_GCS,
    502: _BUSY,
    503: _BUSY,
    504: _BUSY,
}
