"""Google Cloud Storage as its documentation tells it, for a `Stub`.

The emulator knows no generations, preconditions, pages, moves or batches, cancels no
upload and takes no chunk twice; this does, and can be told to misbehave.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from contracts.stub import DROP, Answer, Request

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Google", "Script", "Upload", "gcs_error"]


def gcs_error(status: int, reason: str = "", message: str = "No.") -> Answer:
    """Refuse as Google does."""
    errors = [{"reason": reason, "message": message}]
    about = {"code": status, "message": message, "errors": errors}
    return Answer(status, Answer.json({"error": about}).body)


@dataclass
class Stored:
    """An object."""

    content: bytes
    generation: str
    encoding: str | None = None

    def about(self, name: str) -> dict[str, Any]:
        """Return it as the JSON API describes it."""
        md5 = hashlib.md5(self.content, usedforsecurity=False).digest()
        return {
            "kind": "storage#object",
            "bucket": "bucket",
            "name": name,
            "size": str(len(self.content)),
            "generation": self.generation,
            "md5Hash": base64.b64encode(md5).decode(),
            "updated": "2026-11-22T00:00:00Z",
        }


@dataclass
class Upload:
    """A resumable upload."""

    name: str
    is_new: bool
    content: bytes = b""
    done: dict[str, Any] | None = None


@dataclass
class Google:
    """One bucket; every answer names the generation.

    Attributes:
        objects: What is there, by name.
        uploads: Those begun and neither done nor cancelled are open.
        page: How many names a page of a listing has.
        takes: How much of a chunk is kept; the rest is to be sent again.
    """

    objects: dict[str, Stored] = field(default_factory=dict)
    uploads: dict[str, Upload] = field(default_factory=dict)
    page: int = 1000
    takes: Callable[[int], int] = lambda size: size
    _number: int = 1000

    def put(self, name: str, content: bytes, encoding: str | None = None) -> Stored:
        """Write an object; a new generation."""
        self._number += 1
        stored = self.objects[name] = Stored(content, str(self._number), encoding)
        return stored

    @property
    def open_uploads(self) -> list[Upload]:
        """Those that are neither done nor cancelled."""
        return [each for each in self.uploads.values() if each.done is None]

    def __call__(self, request: Request) -> Answer:  # noqa: PLR0911 - a table
        """Answer."""
        if "/batch/" in request.path:
            return self._batch(request)
        _, _, where = request.path.partition("/b/")
        _, _, name = where.partition("/o")
        name = name.removeprefix("/")
        if "upload_id" in request.query:
            return self._upload(request)
        if "/upload/" in request.path:
            return self._insert(request)
        if not where:
            return Answer.json({"kind": "storage#buckets", "items": []})
        if "/o" not in where:
            return Answer.json({"kind": "storage#bucket", "name": where})
        if not name:
            return self._list(request)
        return self._object(request, name)

    def _object(self, request: Request, name: str) -> Answer:
        name, verb, target = re.fullmatch(
            r"(.*?)(?:/(rewriteTo|moveTo)/(?:b/bucket/)?o/(.*))?", name
        ).groups()  # type: ignore[union-attr]
        stored = self.objects.get(name)
        asked = request.query.get("generation")
        if stored is None or asked not in {None, stored.generation}:
            return gcs_error(404, "notFound", "No such object")
        if verb:
            copy = self.put(target, stored.content)
            if verb == "moveTo":
                del self.objects[name]
            return Answer.json({"done": True, **copy.about(target)})
        if request.method == "DELETE":
            del self.objects[name]
            return Answer(204)
        if request.query.get("alt") == "media":
            return self._download(request, stored)
        return Answer.json(stored.about(name))

    def _download(self, request: Request, stored: Stored) -> Answer:
        content, headers = stored.content, {"x-goog-generation": stored.generation}
        if stored.encoding:
            headers["Content-Encoding"] = stored.encoding
            headers["x-goog-stored-content-encoding"] = stored.encoding
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
        if asked is None:
            return Answer(200, content, headers)
        size = len(content)
        first = int(asked[1]) if asked[1] else max(0, size - int(asked[2]))
        last = min(int(asked[2] or size), size - 1) if asked[1] else size - 1
        if first >= size:
            return gcs_error(416, "requestedRangeNotSatisfiable")
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
        return Answer(206, content[first : last + 1], headers)

    def _list(self, request: Request) -> Answer:
        prefix, delimiter = (
            request.query.get("prefix", ""),
            request.query.get("delimiter"),
        )
        entries: dict[str, Any] = {}
        for name in sorted(self.objects):
            if not name.startswith(prefix):
                continue
            head, found, _ = name[len(prefix) :].partition(delimiter or "\0")
            entry = prefix + head + ((found and delimiter) or "")
            entries[entry] = None if found else self.objects[name].about(name)
        start = int(request.query.get("pageToken", 0))
        most = min(self.page, int(request.query.get("maxResults", self.page)))
        here = list(entries.items())[start : start + most]
        answer: dict[str, Any] = {
            "kind": "storage#objects",
            "items": [about for _, about in here if about],
            "prefixes": [name for name, about in here if not about],
        }
        if start + most < len(entries):
            answer["nextPageToken"] = str(start + most)
        return Answer.json(answer)

    def _insert(self, request: Request) -> Answer:
        is_new = request.query.get("ifGenerationMatch") == "0"
        if request.query["uploadType"] == "resumable":
            name = request.query["name"]
            if is_new and name in self.objects:
                return gcs_error(412, "conditionNotMet")
            number = str(len(self.uploads))
            self.uploads[number] = Upload(name, is_new)
            where = f"http://{request.headers['host']}{request.path}"
            return Answer(200, b"", {"Location": f"{where}?upload_id={number}"})
        mark = re.search('boundary="(.*)"', request.headers["content-type"])[1]  # type: ignore[index]
        _, about, content, _ = request.body.split(f"--{mark}".encode())
        name = re.search(rb'"name": "(.*?)"', about)[1].decode()  # type: ignore[index]
        if is_new and name in self.objects:
            return gcs_error(412, "conditionNotMet")
        content = content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
        return Answer.json(self.put(name, content).about(name))

    def _upload(self, request: Request) -> Answer:
        number = request.query["upload_id"]
        if request.method == "DELETE":
            del self.uploads[number]
            return Answer(499)
        upload = self.uploads.get(number)
        if upload is None:
            return gcs_error(404)
        if upload.done is not None:
            return Answer.json(upload.done)
        asked = re.fullmatch(
            r"bytes (?:\*|(\d+)-(\d+))/(\*|\d+)", request.headers["content-range"]
        )
        assert asked is not None
        if asked[1]:
            start = int(asked[1])
            assert start <= len(upload.content)
            assert len(request.body) == int(asked[2]) - start + 1
            kept = request.body[: self.takes(len(request.body))]
            upload.content = upload.content[:start] + kept
        if asked[3] != "*" and len(upload.content) == int(asked[3]):
            if upload.is_new and upload.name in self.objects:
                return gcs_error(412, "conditionNotMet")
            stored = self.put(upload.name, upload.content)
            upload.done = stored.about(upload.name)
            return Answer.json(upload.done)
        headers = {"Range": f"bytes=0-{len(upload.content) - 1}"}
        return Answer(308, b"", headers if upload.content else {})

    def _batch(self, request: Request) -> Answer:
        parts = []
        for number, name in re.findall(
            r"Content-ID: <(\S+)>\s+DELETE \S+/o/(\S+) HTTP", request.body.decode()
        ):
            answer = self._object(
                Request("DELETE", "", {}, {}, b""), name.replace("%2F", "/")
            )
            body = answer.body
            assert isinstance(body, bytes)
            parts.append(
                "Content-Type: application/http\r\n"
                f"Content-ID: <response-{number}>\r\n\r\n"
                f"HTTP/1.1 {answer.status} Said\r\n\r\n{body.decode()}\r\n"
            )
        text = "".join(f"--mark\r\n{part}" for part in parts) + "--mark--"
        headers = {"Content-Type": "multipart/mixed; boundary=mark"}
        return Answer(200, text.encode(), headers)


class Script:
    """Lets a service misbehave for the requests that come first.

    Args:
        service: What answers in the end.
        steps: For each request in turn: "ok", "drop" (unheard), "busy" (a 503,
            unheard), "lost" (done, and not answered), "failed" (done, and a 503).
        when: For which requests.
    """

    def __init__(
        self,
        service: Callable[[Request], Answer],
        steps: list[str],
        when: Callable[[Request], bool] = lambda _: True,
    ) -> None:
        self._service = service
        self._steps = list(steps)
        self._when = when

    def __call__(self, request: Request) -> Answer:
        """Answer."""
        step = "ok"
        if self._steps and self._when(request):
            step = self._steps.pop(0)
        if step == "drop":
            return DROP
        if step == "busy":
            return gcs_error(503, "backendError")
        answer = self._service(request)
        if step == "lost":
            return DROP
        return gcs_error(503, "backendError") if step == "failed" else answer
