"""gcsfs as a connector needs it: one attempt a call, and an end to waiting."""

from __future__ import annotations

import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import aiohttp
from fsspec.asyn import sync_wrapper
from google.oauth2.credentials import Credentials

from connectorkit.filesystem import Releasable
from connectorkit.wire import sending_once
from connectorkit_gcs.json_client import GCSFile, GCSFileSystem
from connectorkit_gcs.remedies import status_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["ConnectorGCSFileSystem", "timeouts", "token_of"]

_GCSFS_WORDS = {"anon", "browser", "cache", "cloud", "google_default"}


def timeouts(connect: float, read: float) -> aiohttp.ClientTimeout:
    """Return the limits of each request, in seconds; there is none on its whole."""
    return aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=read)


def token_of(text: str) -> object:
    """Return a token as gcsfs should get it.

    gcsfs would ask Google about an access token by putting it into a URL, and so into
    logs and errors.
    """
    is_path = os.sep in text or text.endswith(".json")
    if is_path or text in _GCSFS_WORDS:
        return text
    return Credentials(text)  # type: ignore[no-untyped-call]


def _once(method: Any) -> Callable[..., Coroutine[Any, Any, Any]]:
    """Take gcsfs's own six attempts off a method: they cannot be configured."""
    attempt: Callable[..., Coroutine[Any, Any, Any]] = method.__wrapped__
    return attempt


class ConnectorGCSFileSystem(Releasable, GCSFileSystem):  # type: ignore[misc]
    """gcsfs's JSON filesystem: one attempt a call."""

    # fsspec lays its own configuration, by protocol, over the arguments of a class: the
    # host's would reach the filesystems of its tenants.
    protocol = "connectorkit-gcs"
    _session: aiohttp.ClientSession | None

    _get_file_concurrent = _once(GCSFileSystem._get_file_concurrent)

    async def _set_session(self) -> aiohttp.ClientSession:
        return sending_once(await super()._set_session())

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return GCSFileSystem._strip_protocol(path)

    def unstrip_protocol(self, name: str) -> str:
        """Return a path as others write it, by `gs://`."""
        return f"gs://{self._strip_protocol(name)}"

    def without_client_certificate(self) -> None:
        """Never present the machine's own certificate, which names the machine."""
        self._use_client_cert = self._use_mtls_endpoint = False

    async def _request(self, *args: Any, **kwargs: Any) -> Any:
        with self.at_work():
            return await _once(GCSFileSystem._request)(self, *args, **kwargs)

    async def _get_file_request(self, *args: Any, **kwargs: Any) -> Any:
        with self.at_work():
            return await _once(GCSFileSystem._get_file_request)(self, *args, **kwargs)

    # gcsfs binds its own to the base's coroutine.
    call = sync_wrapper(GCSFileSystem._call)

    async def _info(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        if not self._strip_protocol(path).strip("/"):
            # gcsfs asks Google for a bucket without a name.
            return {"name": "", "size": 0, "type": "directory"}
        info: dict[str, Any] = await super()._info(path, *args, **kwargs)
        return info

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> GCSFile:
        if "x" in mode:
            self._refuse_to_replace(path)
        return super()._open(path, mode, **kwargs)

    def _refuse_to_replace(self, path: str) -> None:
        """Look whether `path` is taken before anything is uploaded."""
        bucket, key, _ = self.split_path(path)
        if not key:
            return
        try:
            self.call("GET", "b/{}/o/{}", bucket, key, fields="name")
        except Exception as error:
            # Who may write need not be allowed to look; then the upload decides. Its
            # frames hold it, and would hold the file, past the end of a `with`.
            if status_of(error) in {HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN}:
                error.__traceback__ = None
                return
            raise
        raise FileExistsError(path)

    async def _let_go(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
