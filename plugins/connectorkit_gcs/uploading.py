"""Uploads: an object appears whole, or not at all."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import secrets
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from connectorkit import Kind, WrongAnswer
from connectorkit_gcs.doubt import Doubt
from connectorkit_gcs.json_client import HttpError, fixed_metadata, quote
from connectorkit_gcs.operations import Asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from connectorkit import Operation
    from connectorkit_gcs.wire import GCSWire, Reply

__all__ = ["UNIT", "About", "Upload", "digested", "insert", "md5_of"]

# Each chunk but the last is a multiple of this, by "Resumable uploads" in Google's
# documentation of Cloud Storage.
UNIT: Final = 1 << 18
_RANGE = re.compile(r"bytes=0-(\d+)")
_MORE: Final = 308


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """An object that is to be written.

    Attributes:
        bucket: Its bucket.
        key: Its name there.
        content_type: What it is.
        metadata: The user's own about it.
        fixed_key_metadata: Google's, by gcsfs's names.
        kms_key_name: By which it is encrypted.
        is_new: Whether it must not replace another.
    """

    bucket: str
    key: str
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, Any] | None = None
    fixed_key_metadata: Mapping[str, Any] | None = None
    kms_key_name: str | None = None
    is_new: bool = False

    @property
    def path(self) -> str:
        """The bucket and the name."""
        return f"{self.bucket}/{self.key}"

    def asked(self, name: str, kind: Kind = Kind.WRITE) -> Asked:
        """Return a request about it."""
        return Asked(name, kind, self.bucket, self.path)

    def resource(self) -> dict[str, Any]:
        """Return it as the JSON API describes it."""
        about: dict[str, Any] = {"name": self.key}
        if self.metadata:
            about["metadata"] = self.metadata
        return {**about, **fixed_metadata(self.fixed_key_metadata)}

    def params(self, upload: str) -> dict[str, Any]:
        """Return the parameters of an upload's URL, of a type that Google knows."""
        return {
            "uploadType": upload,
            "ifGenerationMatch": "0" if self.is_new else None,
            "kmsKeyName": self.kms_key_name,
        }

    def url(self, fs: GCSWire) -> str:
        """Return where uploads to its bucket begin."""
        return f"{fs._location}/upload/storage/v1/b/{quote(self.bucket)}/o"


def md5_of(data: Any) -> str:
    """Return a digest as Google writes it."""
    return digested(hashlib.md5(data, usedforsecurity=False))


def digested(digest: Any) -> str:
    """Return what a hash object has come to, as Google writes it."""
    return base64.b64encode(digest.digest()).decode()


async def insert(fs: GCSWire, about: About, data: Any) -> dict[str, Any]:
    """Write an object by one request; return what Google says of it.

    Raises:
        FileExistsError: It had to be new, and another is there.
        Exception: What the operation ends with.
    """
    # One that nobody can foretell: what stands in the object must not end it.
    mark = f"=={secrets.token_hex(16)}=="
    head = (
        f"--{mark}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
        f"{json.dumps(about.resource())}\r\n"
        f"--{mark}\r\nContent-Type: {about.content_type}\r\n\r\n"
    )
    body = b"".join([head.encode(), data, f"\r\n--{mark}--".encode()])
    op = fs.operation(about.asked("objects.insert"), len(data))
    doubt = Doubt(op)

    async def attempt(_op: Operation) -> Reply:
        with doubt:
            return await fs.send(
                "POST",
                about.url(fs),
                where=about.path,
                headers={"Content-Type": f'multipart/related; boundary="{mark}"'},
                data=io.BytesIO(body),
                **about.params("multipart"),
            )

    try:
        *_, contents = await fs.operate(op, attempt)
    except FileExistsError:
        if doubt and (found := await _ours(fs, about, len(data), md5_of(data))):
            return found
        raise
    return _resource(contents, about)


class Upload:
    """An upload by chunks; one that was not answered is asked how far it got.

    Args:
        fs: Sends the requests.
        about: The object.
        md5: Returns the digest of all that was to be sent, as Google writes it.
    """

    def __init__(self, fs: GCSWire, about: About, md5: Callable[[], str]) -> None:
        self._fs = fs
        self._about = about
        self._md5 = md5
        self._url = ""
        self._offset = 0
        self._is_in_doubt = False

    async def start(self) -> None:
        """Begin.

        Raises:
            FileExistsError: The object had to be new, and another is there.
            Exception: What the operation ends with.
        """
        fs, about = self._fs, self._about

        async def attempt(_op: Operation) -> Reply:
            return await fs.send(
                "POST",
                about.url(fs),
                where=about.path,
                headers={"X-Upload-Content-Type": about.content_type},
                json=about.resource(),
                name=about.key,
                **about.params("resumable"),
            )

        op = fs.operation(about.asked("resumable.start"))
        _, headers, *_ = await fs.operate(op, attempt)
        if "Location" not in headers:
            raise WrongAnswer(f"{op}: the service does not say where to upload to.")
        self._url = fs.on_endpoint(headers["Location"])

    async def send(
        self, data: bytes | memoryview, start: int, *, is_last: bool
    ) -> dict[str, Any] | None:
        """Send the next chunk; return what Google says of the object, if it is done.

        Args:
            data: The chunk; a multiple of `UNIT`, unless it is the last.
            start: Where it begins in the object.
            is_last: Whether the object ends with it.

        Raises:
            Exception: What the operation ends with.
        """
        size = start + len(data) if is_last else None
        while True:
            # The service may have taken less than the last time was sent.
            chunk = Chunk(bytes(data[self._offset - start :]), self._offset, size)
            op = self._fs.operation(
                self._about.asked("resumable.upload"), len(chunk.data)
            )
            try:
                done = await self._fs.operate(op, partial(self._attempt, chunk))
            except (FileNotFoundError, HttpError) as error:
                is_gone = isinstance(error, FileNotFoundError) or (
                    error.code == HTTPStatus.GONE
                )
                if is_gone and self._is_in_doubt and size is not None:
                    done = await _ours(self._fs, self._about, size, self._md5())
                    if done is not None:
                        return done
                raise
            if done is not None or (self._offset == chunk.end and not is_last):
                return done

    async def _attempt(self, chunk: Chunk, op: Operation) -> dict[str, Any] | None:
        """Send what the service does not have of a chunk."""
        if self._is_in_doubt:
            reply = await self._put(b"", f"bytes */{chunk.total}")
            done = self._take(op, reply, chunk)
            self._is_in_doubt = False
            if done is not None or (self._offset == chunk.end and chunk.size is None):
                return done
            # The question was a request of its own.
            op.origin.attempts += 1
        before = self._offset
        data = chunk.data[before - chunk.start :]
        which = f"{before}-{chunk.end - 1}" if data else "*"
        doubt = Doubt(op)
        try:
            with doubt:
                reply = await self._put(data, f"bytes {which}/{chunk.total}")
        finally:
            self._is_in_doubt = bool(doubt)
        done = self._take(op, reply, chunk)
        if done is None and self._offset == before:
            raise WrongAnswer(f"{op}: the service keeps nothing of what it is sent.")
        return done

    async def _put(self, data: bytes, which: str) -> Reply:
        return await self._fs.send(
            "PUT",
            self._url,
            where=self._about.path,
            accepted=(_MORE,),
            headers={
                "Content-Range": which,
                "Content-Type": self._about.content_type,
            },
            data=io.BytesIO(data) if data else None,
        )

    def _take(self, op: Operation, reply: Reply, chunk: Chunk) -> dict[str, Any] | None:
        """Note how far the upload got; return the object if it is done.

        Raises:
            WrongAnswer: It got where it cannot be.
        """
        status, headers, _, contents = reply
        if status != _MORE:
            if chunk.size is None:
                raise WrongAnswer(f"{op}: the service ended the upload by itself.")
            return _resource(contents, self._about)
        found = _RANGE.fullmatch(headers.get("Range", ""))
        offset = int(found[1]) + 1 if found else 0
        if offset == 1 and not self._offset:
            # Of nothing, a server may say that it has the first byte.
            offset = 0
        if not self._offset <= offset <= chunk.end:
            raise WrongAnswer(
                f"{op}: of an upload that was at byte {self._offset} the service says "
                f"that it is at {offset}."
            )
        self._offset = offset
        return None

    async def abandon(self, error: BaseException | None) -> None:
        """Cancel it after `error`, which is told if that fails too.

        Raises:
            Exception: It failed, and there is no error to tell.
        """
        if not self._url:
            return
        fs, about = self._fs, self._about
        # Google refuses to hear the condition again.
        url = self._url.replace("&ifGenerationMatch=0", "")

        async def attempt(_op: Operation) -> None:
            try:
                await fs.send("DELETE", url, where=about.path, accepted=(499,))
            except FileNotFoundError:
                # It is gone already.
                return

        op = fs.operation(about.asked("resumable.cancel", Kind.DELETE))
        try:
            await fs.operate(op, attempt)
        except Exception as left:
            if error is None:
                raise
            error.add_note(
                f"connectorkit: the upload to {about.path} could not be cancelled "
                f"({type(left).__name__}); Google drops it after a week."
            )


@dataclass(frozen=True, slots=True)
class Chunk:
    """What is sent by one operation.

    Attributes:
        data: The bytes.
        start: Where they begin in the object.
        size: How many the object has; None as long as nobody knows.
    """

    data: bytes
    start: int
    size: int | None

    @property
    def end(self) -> int:
        """Where they end in the object."""
        return self.start + len(self.data)

    @property
    def total(self) -> str:
        """The size as a Content-Range has it."""
        return "*" if self.size is None else str(self.size)


def _resource(contents: bytes, about: About) -> dict[str, Any]:
    try:
        resource = json.loads(contents)
    except ValueError:
        resource = None
    if not isinstance(resource, dict):
        raise WrongAnswer(
            f"The service took {about.path}, and does not answer as Google does."
        )
    return resource


async def _ours(
    fs: GCSWire, about: About, size: int, md5: str
) -> dict[str, Any] | None:
    """Look whether an object is what was to be written, though nobody said so."""
    try:
        found = await fs._call(
            "GET", "b/{}/o/{}", about.bucket, about.key, json_out=True
        )
    except Exception:  # noqa: BLE001 - the error that is settled says more
        return None
    is_ours = found.get("size") == str(size) and found.get("md5Hash") == md5
    return found if is_ours else None
