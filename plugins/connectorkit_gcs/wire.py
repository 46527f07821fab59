"""The wire: each request that gcsfs makes is an operation, each attempt one request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from connectorkit import Kind
from connectorkit.wire import sending_once
from connectorkit.wired import Wired
from connectorkit_gcs.credentials import Tokens
from connectorkit_gcs.doubt import Doubt
from connectorkit_gcs.faults import refuse
from connectorkit_gcs.json_client import GCSFileSystem, HttpError
from connectorkit_gcs.operations import Asked, asked_by

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping
    from typing import TypeAlias, TypeVar

    import aiohttp

    from connectorkit import Operation

    T = TypeVar("T")
    # Status, headers, what aiohttp knows of the request, body.
    Reply: TypeAlias = tuple[int, Mapping[str, str], Any, bytes]

__all__ = ["GCSWire"]

_NOT_AUTHORIZED, _CONFLICT = 401, 409
# Of `_request`'s arguments, those that are no parameters of the URL.
_OF_REQUEST = {"headers", "json", "data", "cache_type", "cache_source"}
_ACCEPTED = {
    # There is more to come.
    "resumable.upload": (308,),
    # Google's answer to who cancels one.
    "resumable.cancel": (499,),
}


class GCSWire(Wired, GCSFileSystem):  # type: ignore[misc]
    """gcsfs's JSON filesystem with its requests put through a pipeline."""

    # fsspec lays its own configuration, by protocol, over the arguments of a class: the
    # host's would reach the filesystems of its tenants.
    protocol = "connectorkit-gcs"
    connector_type = "gcs"
    _session: aiohttp.ClientSession | None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not kwargs.keys() & {"cache_timeout", "listings_expiry_time"}:
            # Another process may write at any time.
            kwargs.setdefault("use_listings_cache", False)
        super().__init__(*args, **kwargs)
        self._tokens = Tokens(self.credentials)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return GCSFileSystem._strip_protocol(path)

    def unstrip_protocol(self, name: str) -> str:
        """Return a path as others write it, by `gs://`."""
        return f"gs://{self._strip_protocol(name)}"

    # The client

    async def _set_session(self) -> aiohttp.ClientSession:
        return sending_once(await super()._set_session())

    async def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def without_client_certificate(self) -> None:
        """Never present the machine's own certificate, which names the machine."""
        self._use_client_cert = self._use_mtls_endpoint = False

    def on_endpoint(self, url: str) -> str:
        """Return a URL that the service gave, at the endpoint that was configured.

        A server that is no Google could name another that only this machine reaches.
        """
        parts, own = urlsplit(url), urlsplit(self._location)
        is_google = parts.scheme == "https" and (parts.hostname or "").endswith(
            ".googleapis.com"
        )
        if (self.on_google and is_google) or parts[:2] == own[:2]:
            return url
        return f"{self._location}{parts.path}?{parts.query}"

    # The wire

    async def _request(
        self, method: str, path: str, *args: str, **kwargs: Any
    ) -> Reply:
        """Make one operation of what gcsfs asks for."""
        url = self._format_path(path, args)
        params = {k: v for k, v in kwargs.items() if k not in _OF_REQUEST}
        asked = asked_by(method, url, params, kwargs.get("json"))
        # The URL of an upload is what allows to go on with it: no error shows it.
        where = asked.path if path.startswith("http") else url.removeprefix(self.base)
        data: Any = kwargs.get("data")
        if hasattr(data, "read"):
            # A client closes what it has read; each attempt sends the same.
            data.seek(0)
            data = kwargs["data"] = data.read()
        op = self.operation(asked, len(data or b""))
        doubt = Doubt(op)

        async def attempt(_op: Operation) -> Reply:
            try:
                with doubt:
                    return await self.send(
                        method,
                        url,
                        where=where,
                        accepted=_ACCEPTED.get(asked.name, ()),
                        **kwargs,
                    )
            except (FileNotFoundError, HttpError) as error:
                if doubt and _is_as_wanted(asked, error):
                    return 200, {}, None, b"{}"
                raise

        return await self.operate(op, attempt)

    def operation(self, asked: Asked, size: int = 0) -> Operation:
        """Return an operation for what a request asks for."""
        return self.pipeline.operation(
            asked.name,
            asked.kind,
            bucket=asked.bucket,
            path=asked.path,
            size=size,
            is_repeatable=asked.is_repeatable,
        )

    async def operate(
        self, op: Operation, attempt: Callable[[Operation], Awaitable[T]]
    ) -> T:
        """Run an operation that sends `op.size` bytes."""
        with self.at_work():
            answer = await self.pipeline.arun(op, attempt)
        op.bytes = op.size
        return answer

    async def send(  # noqa: PLR0913 - gcsfs's own, and two
        self,
        method: str,
        url: str,
        *,
        where: str,
        accepted: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
        cache_type: str | None = None,
        cache_source: str | None = None,
        json: Any = None,
        data: Any = None,
        **params: Any,
    ) -> Reply:
        """Send one request, once, and read its answer.

        Args:
            method: GET, POST, and so on.
            url: Where to.
            where: What it is about, for errors.
            accepted: Statuses other than 2xx that are no refusal.
            headers: Further headers.
            cache_type: Of the file that asks, for gcsfs's User-Agent.
            cache_source: As `cache_type`.
            json: The body, if it is JSON.
            data: The body.
            params: Further parameters of the URL.

        Raises:
            Exception: gcsfs's for a refusal, aiohttp's for what the network did.
        """
        await self._tokens.ready()
        head = self._get_headers(headers, cache_type, cache_source)
        body = {"json": json} if json is not None else {"data": data}
        async with await self.ask(method, url, head, params, **body) as answer:
            contents = await answer.read()
        self.accept(answer, contents, head, where, accepted)
        return answer.status, answer.headers, answer.request_info, contents

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        params: Mapping[str, Any],
        **options: Any,
    ) -> aiohttp.ClientResponse:
        """Send one request, once; its answer is still to be read."""
        session = await self._set_session()
        return await session.request(
            method,
            url,
            params=self._get_params(params),
            headers=headers,
            timeout=self.requests_timeout,
            **options,
        )

    def accept(
        self,
        answer: aiohttp.ClientResponse,
        contents: bytes,
        headers: Mapping[str, str],
        where: str,
        accepted: Collection[int] = (),
    ) -> None:
        """Raise what an answer says, if it is a refusal.

        Args:
            answer: The answer.
            contents: Its body.
            headers: The request's.
            where: What the request is about.
            accepted: Statuses other than 2xx that are no refusal.
        """
        is_expired = answer.status == _NOT_AUTHORIZED and self._tokens.refuse(headers)
        refuse(answer.status, answer.headers, contents, where, accepted, is_expired)


def _is_as_wanted(asked: Asked, error: Exception) -> bool:
    """Tell whether a refusal says that what was asked for is so already."""
    if isinstance(error, FileNotFoundError):
        return asked.kind is Kind.DELETE
    is_conflict = asked.name == "buckets.insert" and error.code == _CONFLICT  # type: ignore[attr-defined]
    return is_conflict and "you already own" in str(error).lower()
