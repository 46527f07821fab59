"""Commands as Redis reads them."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from connectorkit_slots.verbs import COMMON

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from connectorkit_slots.verbs import Ask

__all__ = ["packed", "packed_words"]


def packed(ask: Ask) -> bytes:
    """Return a script's call as Redis reads it."""
    script, keys, args = ask
    count, begins = _beginning(script.sha, keys, args[:COMMON])
    rest = args[COMMON:]
    return b"*%d\r\n%b%b" % (count + len(rest), begins, _texts(rest))


@lru_cache(4096)
def _beginning(
    sha: str, keys: tuple[str, ...], common: tuple[object, ...]
) -> tuple[int, bytes]:
    """Return what is the same for many calls, and how many words it has."""
    words = ("EVALSHA", sha, len(keys), *keys, *common)
    return len(words), _texts(words)


def packed_words(words: Sequence[object]) -> bytes:
    """Return a command as Redis reads it."""
    return b"*%d\r\n%b" % (len(words), _texts(words))


def _texts(words: Iterable[object]) -> bytes:
    texts = [str(word).encode() for word in words]
    return b"".join([b"$%d\r\n%b\r\n" % (len(text), text) for text in texts])
