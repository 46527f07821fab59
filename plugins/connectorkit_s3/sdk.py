"""What both of botocore's clients are told, the asynchronous one and boto3's."""

from __future__ import annotations

import functools
import platform
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from botocore.session import Session
from botocore.utils import parse_timestamp
from dateutil.tz import tzutc

from connectorkit import __version__

__all__ = ["RETRIES", "equip", "presign", "stay", "time_of", "user_agent"]

# One owner of retries: botocore makes one attempt.
RETRIES = {"mode": "standard", "total_max_attempts": 1}
_REDIRECTS = {301, 302, 307, 400}


_TZUTC = tzutc()


def equip(session: Session) -> None:
    """Give a session what its clients share, and a faster way to read times."""
    session.register_component("data_loader", _loader())
    answers = session.get_component("response_parser_factory")
    answers.set_parser_defaults(timestamp_parser=time_of)


@functools.cache
def _loader() -> Any:
    """Let all clients share botocore's description of S3.

    Each would read its own: 12 MB and a tenth of a second for each tenant.
    """
    return Session().get_component("data_loader")


def time_of(said: Any) -> Any:
    """Return a time as botocore does, without a guess at the form of each.

    S3 writes them in two ways; the guess would cost a tenth of a second for a page of a
    listing.
    """
    if isinstance(said, str) and said.endswith(("Z", "GMT")):
        try:
            if said[-1] == "Z":
                told = datetime.fromisoformat(said[:-1])
            else:
                told = parsedate_to_datetime(said)
        except ValueError:
            return parse_timestamp(said)
        if told.tzinfo in {None, UTC}:
            return told.replace(tzinfo=_TZUTC)
    return parse_timestamp(said)


@functools.cache
def user_agent() -> str:
    """Return what all clients call themselves, such as in a service's access log.

    botocore would put its own name together anew for each request, a twentieth of the
    time that a small read takes; now it only adds its version.
    """
    return f"connectorkit/{__version__} Python/{platform.python_version()}"


def stay(request_dict: dict[str, Any], response: Any = None, **_kwargs: object) -> None:
    """Keep botocore from following who redirects, but is no S3.

    S3 names the bucket's region when it redirects. Without one, botocore would ask for
    it by a request that is redirected in turn, a hundred times over; or by one that
    nobody counts, when HEAD is answered 400 as it is where a token has expired.
    """
    if response is None or response[0].status_code not in _REDIRECTS:
        return
    about = response[1]
    headers = about.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    is_told = "x-amz-bucket-region" in headers or about.get("Error", {}).get("Region")
    if not is_told:
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def presign(signature_version: Any, **_kwargs: object) -> str | None:
    """Sign URLs as requests are signed.

    By default botocore signs them by a version that new buckets of S3, and many servers
    that speak like it, do not take any more.
    """
    for what in ("query", "presign-post"):
        if signature_version in {f"v4-{what}", f"s3v4-{what}"}:
            return f"s3v4-{what}"
    return None
