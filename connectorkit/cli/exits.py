"""Exit codes: what a script learns without reading a message."""

from __future__ import annotations

import errno
from typing import Final

import click

from connectorkit.errors import (
    AttemptTimedOut,
    CheckFailed,
    ConfigError,
    InvalidConnectorID,
    InvalidSettings,
    MissingExtra,
    PluginError,
    Refused,
    UnknownConnector,
    UnknownPolicy,
)

__all__ = [
    "CONFIG",
    "DENIED",
    "FAILED",
    "INTERRUPTED",
    "MEANINGS",
    "NOT_FOUND",
    "OK",
    "PIPE_CLOSED",
    "TERMINATED",
    "TRY_AGAIN",
    "USAGE",
    "Failure",
    "OutputClosed",
    "exit_code",
]

OK, FAILED, USAGE, NOT_FOUND, DENIED, TRY_AGAIN, CONFIG = range(7)
# 128 and the signal's number, as shells count.
INTERRUPTED, PIPE_CLOSED, TERMINATED = 130, 141, 143

MEANINGS: Final = {
    OK: "done",
    FAILED: "the storage said no, or anything else",
    USAGE: "the command line is wrong",
    NOT_FOUND: "there is no such object, bucket or connector",
    DENIED: "credentials or permissions do not do, or a check failed",
    TRY_AGAIN: "a timeout, a lost connection, a busy storage: try again",
    CONFIG: "configuration, settings, a plugin or a missing library",
    INTERRUPTED: "interrupted by Ctrl-C",
}


class Failure(Exception):
    """An error that is already told as a sentence.

    Args:
        message: The sentence.
        code: The exit code; None to read it off the cause.
    """

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.code = code


class OutputClosed(Exception):
    """Whoever read our output has gone, as `head` does; no fault of anyone's."""


# The first that fits counts, so the particular stand before the general.
_CODES: Final[tuple[tuple[tuple[type[BaseException], ...], int], ...]] = (
    ((click.UsageError, InvalidConnectorID), USAGE),
    ((UnknownConnector,), NOT_FOUND),
    ((ConfigError, InvalidSettings, MissingExtra, PluginError, UnknownPolicy), CONFIG),
    ((FileNotFoundError,), NOT_FOUND),
    ((PermissionError,), DENIED),
    (
        (TimeoutError, ConnectionError, AttemptTimedOut, Refused),
        TRY_AGAIN,
    ),
)
# What s3fs makes of 503 and 500, and how sockets say that the way there is broken.
_PASSING: Final = {
    errno.EBUSY,
    getattr(errno, "EREMOTEIO", errno.EBUSY),
    errno.EHOSTUNREACH,
    errno.ENETDOWN,
    errno.ENETUNREACH,
}
# gcsfs keeps the HTTP status in `code`.
_PASSING_STATUSES: Final = {408, 429, 500, 502, 503, 504}


def exit_code(error: BaseException) -> int:
    """Return the exit code for `error`, by it or by what stands behind it."""
    # Not before it is needed: this loads ssl.
    from connectorkit.remedies import chain

    if isinstance(error, Failure) and error.code is not None:
        return error.code
    is_check = False
    for link in chain(error):
        # A connection error by its family, which says nothing of what failed it.
        if isinstance(link, CheckFailed):
            is_check = True
        elif (code := _code_of(link)) is not None:
            return code if not is_check or code in {NOT_FOUND, TRY_AGAIN} else DENIED
    return DENIED if is_check else FAILED


def _code_of(error: BaseException) -> int | None:
    import socket

    for types, code in _CODES:
        if isinstance(error, types):
            return code
    if isinstance(error, OSError) and error.errno in {*_PASSING, socket.EAI_AGAIN}:
        return TRY_AGAIN
    if getattr(error, "code", None) in _PASSING_STATUSES:
        return TRY_AGAIN
    return None
