"""s3fs as a connector needs it: one attempt a call, nothing swallowed at the root."""

from __future__ import annotations

import asyncio
import atexit
import functools
import os
import weakref
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from fsspec.asyn import sync_wrapper
from s3fs.core import S3File, S3FileSystem

from connectorkit.filesystem import Releasable
from connectorkit.wire import sending_once
from connectorkit_s3.remedies import status_of

if TYPE_CHECKING:
    import aiohttp

__all__ = ["ConnectorS3FileSystem"]

# More at a time would fill the connection pool for an answer that nobody waits for.
_PROBES = 16
_THROTTLED = {408, 429}
_REDIRECTS = {301, 302, 307}
# S3 makes a bucket that names no place there, and refuses to hear its name.
_DEFAULT_PLACE = {"LocationConstraint": "us-east-1"}


# A file that is still open when the interpreter ends would upload its rest on a loop
# that does not run any more, and wait for it for ever.
# By number: to hash a file asks the storage about it.
_writers: weakref.WeakValueDictionary[int, S3File] = weakref.WeakValueDictionary()
_pid = os.getpid


@atexit.register
def _drop_unfinished() -> None:
    for file in list(_writers.values()):
        file.closed = True


class SingleSendSession(AIOHTTPSession):  # type: ignore[misc]
    """Sends each request once, to where it was addressed."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        return sending_once(await super()._get_session(proxy_url))


class ConnectorS3FileSystem(Releasable, S3FileSystem):  # type: ignore[misc]
    """s3fs's filesystem: one attempt a call, and a root that shows what one may see."""

    # fsspec lays its own configuration, by protocol, over the arguments of a class: the
    # host's would reach the filesystems of its tenants.
    protocol = "connectorkit-s3"
    session: Any
    # s3fs counts attempts, not retries; 0 would raise None.
    retries = 1

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return S3FileSystem._strip_protocol(path)

    def unstrip_protocol(self, name: str) -> str:
        """Return a path as others write it, by `s3://`."""
        return f"s3://{self._strip_protocol(name)}"

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        config = super()._prepare_config_kwargs()
        return {"http_session_cls": SingleSendSession, **config}

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, or return the client."""
        if self.session is None:
            self.session = AioSession(**self.kwargs)
            self.session.register_component("data_loader", _loader())
        client = await super().set_session(*args, **kwargs)
        self._s3creator.connectorkit_pid = _pid()
        client.meta.events.register_first(
            "needs-retry.s3", _stay, unique_id="connectorkit-stay"
        )
        return client

    async def _call_s3(self, method: str, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("CreateBucketConfiguration") == _DEFAULT_PLACE:
            del kwargs["CreateBucketConfiguration"]
        with self.at_work():
            try:
                answer = await super()._call_s3(method, *args, **kwargs)
            except FileExistsError:
                raise
            except OSError as error:
                # s3fs knows it by an element that MinIO's answer does not have.
                refused = status_of(error) == HTTPStatus.PRECONDITION_FAILED
                if refused and kwargs.get("IfNoneMatch") == "*":
                    path = f"{kwargs['Bucket']}/{kwargs['Key']}"
                    raise FileExistsError(path) from error
                raise
            if isinstance(answer, dict) and "Body" in answer:
                self.until_read(answer["Body"])
            return answer

    # s3fs binds its own to the base's coroutine; S3File writes through this one.
    call_s3 = sync_wrapper(_call_s3)

    async def _let_go(self) -> None:
        creator, self._s3 = getattr(self, "_s3creator", None), None
        if creator is None or creator._client is None:
            return
        await creator.__aexit__(None, None, None)
        # s3fs's finalizer holds the creator for as long as the filesystem lives.
        creator._client = None

    @staticmethod
    def close_session(loop: asyncio.AbstractEventLoop | None, creator: Any) -> None:
        """Close a client when the filesystem is collected, unless it is closed."""
        is_inherited = getattr(creator, "connectorkit_pid", _pid()) != _pid()
        # A child has no part in its parent's connections, and would wait for a loop
        # that does not run.
        if creator._client is not None and not is_inherited:
            S3FileSystem.close_session(loop, creator)

    async def _lsbuckets(self, refresh: bool = False) -> list[dict[str, Any]]:
        """List the buckets that these credentials can browse.

        s3fs answers a refusal by an empty list; here it is raised.
        """
        if self.anon:
            return []
        if "" in self.dircache and not refresh:
            return list(self.dircache[""])
        names: list[str] = []
        more: dict[str, str] = {}
        while True:
            page = await self._call_s3("list_buckets", **more)
            names += [bucket["Name"] for bucket in page["Buckets"]]
            if not page.get("ContinuationToken"):
                break
            more = {"ContinuationToken": page["ContinuationToken"]}
        at_a_time = asyncio.Semaphore(_PROBES)
        seen = await asyncio.gather(*(self._can_browse(n, at_a_time) for n in names))
        buckets = [_bucket(name) for name, ok in zip(names, seen, strict=True) if ok]
        self.dircache[""] = buckets
        return buckets

    async def _can_browse(self, bucket: str, at_a_time: asyncio.Semaphore) -> bool:
        async with at_a_time:
            try:
                await self._call_s3("head_bucket", Bucket=bucket)
            except Exception as error:  # noqa: BLE001 - in doubt the bucket is shown
                status = status_of(error)
                # Denied, gone or elsewhere; a busy or broken server says nothing of it.
                return status is None or status >= 500 or status in _THROTTLED  # noqa: PLR2004
            return True

    def _open(self, path: str, mode: str = "rb", **kwargs: Any) -> S3File:
        if "x" in mode:
            self._refuse_to_replace(path)
        file = super()._open(path, mode, **kwargs)
        if "x" in mode:
            # s3fs names the class of its files nowhere that could be overridden.
            file.__class__ = _NewS3File
        if "r" not in mode:
            _writers[id(file)] = file
        return file

    def _refuse_to_replace(self, path: str) -> None:
        """Look whether `path` is taken before anything is uploaded."""
        bucket, key, _ = self.split_path(path)
        if not key:
            return
        try:
            self.call_s3("head_object", Bucket=bucket, Key=key)
        except (FileNotFoundError, PermissionError) as error:
            # Who may write need not be allowed to look; then the commit decides. Its
            # frames hold it, and would hold the file, past the end of a `with`.
            error.__traceback__ = None
            return
        raise FileExistsError(path)


class _NewS3File(S3File):  # type: ignore[misc]
    """A file opened by "xb": it never replaces an object, not even when empty."""

    def commit(self) -> None:
        try:
            if self.tell() or self.buffer is None:
                super().commit()
            else:
                self._commit_nothing()
        except FileExistsError as error:
            try:
                self.discard()
            except Exception as left:  # noqa: BLE001 - the first error says more
                error.add_note(f"The parts of its upload are still there: {left!r}")
            raise

    def _commit_nothing(self) -> None:
        # s3fs would touch the object, whether it is there or not.
        self._abort_mpu()
        acl = {"ACL": self.acl} if self.acl else {}
        self._call_s3(
            "put_object", Bucket=self.bucket, Key=self.key, IfNoneMatch="*", **acl
        )
        self.buffer = None
        self.fs.invalidate_cache(self.path)


@functools.cache
def _loader() -> Any:
    """Let all clients share botocore's description of S3.

    Each would read its own: 12 MB and a tenth of a second for each tenant.
    """
    return AioSession().get_component("data_loader")


def _stay(
    request_dict: dict[str, Any], response: Any = None, **_kwargs: object
) -> None:
    """Keep botocore from following who redirects, but is no S3.

    S3 names the bucket's region when it redirects. Without one, botocore would ask for
    it by a request that is redirected in turn, a hundred times over.
    """
    if response is None or response[0].status_code not in _REDIRECTS:
        return
    headers = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {})
    if "x-amz-bucket-region" not in headers:
        request_dict["context"].setdefault("s3_redirect", {})["redirected"] = True


def _bucket(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "Key": name,
        "type": "directory",
        "size": 0,
        "Size": 0,
        "StorageClass": "BUCKET",
    }
