"""What both of botocore's clients are told, the asynchronous one and boto3's."""

from __future__ import annotations

import functools
from typing import Any

from botocore.session import Session

__all__ = ["RETRIES", "loader", "stay"]

# One owner of retries: botocore makes one attempt.
RETRIES = {"mode": "standard", "total_max_attempts": 1}
_REDIRECTS = {301, 302, 307, 400}


@functools.cache
def loader() -> Any:
    """Let all clients share botocore's description of S3.

    Each would read its own: 12 MB and a tenth of a second for each tenant.
    """
    return Session().get_component("data_loader")


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
