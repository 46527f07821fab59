"""Pinned reads: every range is the one that was asked for, of one version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from connectorkit import ObjectChanged, WrongAnswer

if TYPE_CHECKING:
    from connectorkit import Operation

__all__ = ["Pinned", "changed"]

_ASKED = re.compile(r"bytes=(?=.*\d)(\d*)-(\d*)")
_ANSWERED = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
# If-Match may also name several, or any.
_ONE_TAG = re.compile(r'(W/)?"?[^",*]+"?')


class Pinned:
    """One GetObject: what is asked for next, and whether an answer is that.

    Args:
        kwargs: The arguments of GetObject.

    Attributes:
        answer: The first answer that was good; what it says of the object holds for
            all that come after.
    """

    def __init__(self, kwargs: dict[str, Any]) -> None:
        self._kwargs = kwargs
        self._first = 0
        self._last: int | None = None
        self.answer: dict[str, Any] = {}

    def ask(self, offset: int) -> dict[str, Any]:
        """Return the arguments for the bytes from an offset on."""
        kwargs = dict(self._kwargs)
        if offset:
            last = "" if self._last is None else self._last
            kwargs["Range"] = f"bytes={self._first + offset}-{last}"
            # Its range is known by now; S3 takes one of both.
            kwargs.pop("PartNumber", None)
        if tag := self.answer.get("ETag"):
            kwargs["IfMatch"] = tag
        return kwargs

    def accept(
        self, op: Operation, answer: dict[str, Any], kwargs: dict[str, Any]
    ) -> int | None:
        """Return how many bytes there are to come.

        Args:
            op: The operation.
            answer: What GetObject answered.
            kwargs: What it was asked.

        Raises:
            ObjectChanged: They would be another version's.
            WrongAnswer: They are not those that were asked for.
        """
        pin, tag = kwargs.get("IfMatch") or "", answer.get("ETag")
        # Some servers take no notice of If-Match.
        if tag and _ONE_TAG.fullmatch(pin) and _bare(tag) != _bare(pin):
            raise changed(op)
        size: int | None = answer.get("ContentLength")
        asked = kwargs.get("Range")
        where = _ANSWERED.fullmatch(answer.get("ContentRange") or "")
        part = kwargs.get("PartNumber")
        if (asked or part) and where is None:
            raise WrongAnswer(
                f"{op}: the service answers {asked or f'part {part}'} without saying "
                "which bytes it sends; they may be the whole object."
            )
        if where is not None and not (asked or part):
            raise WrongAnswer(f"{op}: the service sends a part of the object for all.")
        first, last = (0, None) if where is None else (int(where[1]), int(where[2]))
        if where is not None and last is not None:
            length = last - first + 1
            # Who sends in chunks tells no length beforehand.
            size = length if size is None else size
            is_right = not asked or _is_asked(asked, first, last, where[3])
            if not is_right or size != length:
                raise WrongAnswer(
                    f"{op}: the service answers {asked} with {where[0]}, {size} long."
                )
        if not self.answer:
            self.answer = answer
            self._first, self._last = first, last
            if not tag:
                # Nothing tells one version from another: it cannot be gone on with.
                op.origin.is_repeatable = False
        return size


def changed(op: Operation) -> ObjectChanged:
    """Return the error that says that somebody replaced the object."""
    return ObjectChanged(
        f"{op}: somebody replaced the object while it was read: read it again."
    )


def _bare(etag: str) -> str:
    return etag.removeprefix("W/").strip('"')


def _is_asked(asked: str, first: int, last: int, total: str) -> bool:
    """Tell whether an answered range is the one that was asked for."""
    match = _ASKED.fullmatch(asked)
    if match is None or total == "*":
        return match is not None and match[1] == str(first) and match[2] == str(last)
    end = int(total) - 1
    if not match[1]:
        return (first, last) == (max(0, int(total) - int(match[2])), end)
    return (first, last) == (int(match[1]), min(int(match[2] or end), end))
