"""Deleting many objects by one request."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from connectorkit import Kind, WrongAnswer
from connectorkit_gcs.doubt import Doubt
from connectorkit_gcs.faults import refuse
from connectorkit_gcs.json_client import quote
from connectorkit_gcs.operations import Asked

if TYPE_CHECKING:
    from connectorkit import Operation
    from connectorkit_gcs.wire import GCSWire

__all__ = ["delete_batch"]

_BOUNDARY = re.compile(r'boundary="?([^";]+)"?')
_NUMBER = re.compile(r"Content-ID:\s*<?response-[^>\r\n]*\+(\d+)", re.IGNORECASE)
_STATUS = re.compile(r"HTTP/[0-9.]+ (\d{3})")
_JSON = re.compile(r"{.*}", re.DOTALL)


async def delete_batch(fs: GCSWire, paths: list[str]) -> dict[str, Exception | None]:
    """Delete up to a hundred objects by one request.

    Where the service could not delete some for now, those alone are asked for again.

    Returns:
        What the service said of each path: None if it is deleted.
    """
    said: dict[str, Exception | None] = {}
    failed: dict[str, Exception] = {}
    # What an earlier attempt may have deleted unheard.
    in_doubt: set[str] = set()
    op = fs.operation(Asked("batch", Kind.DELETE, fs.split_path(paths[0])[0]))

    async def attempt(op: Operation) -> None:
        left = [path for path in paths if path not in said]
        doubt = Doubt(op)
        try:
            with doubt:
                answers = await _ask(fs, op, left)
        finally:
            if doubt:
                in_doubt.update(left)
        passing = None
        for path, error in answers.items():
            if error is not None and op.scope.classify(error).fault.is_outage:
                failed[path] = error
                in_doubt.add(path)
                passing = passing or error
            elif path in in_doubt and isinstance(error, FileNotFoundError):
                said[path] = None
            else:
                said[path] = error
        if passing is not None:
            raise passing

    try:
        await fs.operate(op, attempt)
    except Exception as error:  # noqa: BLE001 - told of each that is left
        for path in paths:
            said.setdefault(path, failed.get(path, error))
    return said


async def _ask(
    fs: GCSWire, op: Operation, paths: list[str]
) -> dict[str, Exception | None]:
    """Ask once; return what the service says of each, None if it is deleted."""
    mark = f"=={secrets.token_hex(16)}=="
    parts = [_part(fs, mark, number, path) for number, path in enumerate(paths, 1)]
    _, headers, _, contents = await fs.send(
        "POST",
        fs.batch_url_base,
        where=op.bucket,
        headers={"Content-Type": f'multipart/mixed; boundary="{mark}"'},
        data="".join([*parts, f"--{mark}--"]).encode(),
    )
    boundary = _BOUNDARY.search(headers.get("Content-Type", ""))
    text = contents.decode(errors="replace")
    answers = text.split(f"--{boundary[1]}")[1:-1] if boundary else []
    said: dict[str, Exception | None] = {}
    for place, answer in enumerate(answers, 1):
        named = _NUMBER.search(answer)
        number = int(named[1]) if named else place
        if 0 < number <= len(paths):
            said[paths[number - 1]] = _error(answer, paths[number - 1])
    if len(said) < len(paths):
        raise WrongAnswer(f"{op}: the service does not answer for each object.")
    return said


def _part(fs: GCSWire, mark: str, number: int, path: str) -> str:
    bucket, key, generation = fs.split_path(path)
    query = urlencode(fs._get_params({"generation": generation}))
    where = f"/storage/v1/b/{quote(bucket)}/o/{quote(key)}"
    return (
        f"--{mark}\r\n"
        "Content-Type: application/http\r\n"
        "Content-Transfer-Encoding: binary\r\n"
        f"Content-ID: <connectorkit+{number}>\r\n\r\n"
        f"DELETE {where}{query and '?'}{query} HTTP/1.1\r\n"
        "Content-Type: application/json\r\n"
        "accept: application/json\r\n"
        "content-length: 0\r\n\r\n"
    )


def _error(answer: str, path: str) -> Exception | None:
    status, about = _STATUS.search(answer), _JSON.search(answer)
    try:
        if status is None:
            raise WrongAnswer(f"{path}: nothing was said of it.")  # noqa: TRY301 - one of many
        contents = about[0].encode() if about else b""
        refuse(int(status[1]), {}, contents, path)
    except Exception as error:  # noqa: BLE001 - one of many
        return error
    return None
