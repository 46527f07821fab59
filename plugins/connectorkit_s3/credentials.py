"""Credentials that expired before their time."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

__all__ = ["expire", "renew"]


def expire(credentials: Any) -> None:
    """Have credentials renewed before they sign again, if they can be."""
    if hasattr(credentials, "_expiry_time"):
        # botocore asks for new ones when these are about to expire; it has no other
        # way to be told.
        credentials._expiry_time = datetime.min.replace(tzinfo=UTC)


async def renew(session: Any) -> None:
    """Have a session's credentials renewed before they sign again, if they can be.

    Args:
        session: aiobotocore's.
    """
    expire(await session.get_credentials())
