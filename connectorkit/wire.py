"""What goes out on the wire, for clients that are built on aiohttp."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

__all__ = ["sending_once"]


def sending_once(session: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """Return `session`, made to send each request once, to where it was addressed.

    aiohttp by itself tries a broken request again, and follows a redirect to any other
    host, where a tenant's server could send it to one that only this machine reaches.
    """
    # There is no public switch for either that holds for a whole session.
    session._retry_connection = False
    if not isinstance(session._request, functools.partial):
        session._request = functools.partial(  # type: ignore[method-assign]
            session._request, allow_redirects=False
        )
    return session
