"""Credentials: good ones at hand, and no event loop that waits for them."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from google.auth.transport.requests import Request
from google.oauth2.credentials import Credentials

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gcsfs.credentials import GoogleCredentials

__all__ = ["Tokens", "token_of"]

_GCSFS_WORDS = {"anon", "browser", "cache", "cloud", "google_default"}
# As gcsfs has it: what ends so soon, in seconds, is renewed before it is used.
_SOON = 300


def token_of(text: str) -> object:
    """Return a token as gcsfs should get it.

    gcsfs would ask Google about an access token by putting it into a URL, and so into
    logs and errors.
    """
    is_path = os.sep in text or text.endswith(".json")
    if is_path or text in _GCSFS_WORDS:
        return text
    return Credentials(text)  # type: ignore[no-untyped-call]


class Tokens:
    """Renews gcsfs's credentials when they end, or when the service refuses them.

    Args:
        google: gcsfs's credentials.
    """

    def __init__(self, google: GoogleCredentials) -> None:
        self._google: Any = google
        self._refused: str | None = None

    async def ready(self) -> None:
        """Renew them if they end soon or were refused, beside the event loop.

        Raises:
            Exception: google.auth's or gcsfs's, if there are none to be had.
        """
        its = self._google.credentials
        if its is None:
            return
        is_refused = self._refused is not None and its.token == self._refused
        if is_refused or not self._google._credentials_valid(_SOON):
            # google.auth knows no event loop.
            await asyncio.to_thread(self._renew)

    def refuse(self, headers: Mapping[str, str]) -> bool:
        """Take note that the service refused these headers.

        Returns:
            Whether there are others to be had.
        """
        its = self._google.credentials
        if its is None or not (
            # Those of a service account or a machine have no such token, nor need one.
            getattr(its, "refresh_token", True) or getattr(its, "refresh_handler", None)
        ):
            return False
        self._refused = headers.get("authorization", "").removeprefix("Bearer ")
        return True

    def _renew(self) -> None:
        google = self._google
        with google.lock:
            its = google.credentials
            if its.token == self._refused:
                its.refresh(Request())
                return
        google.maybe_refresh()
