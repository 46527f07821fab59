"""The wire: each request that s3fs makes is an operation, each attempt one request."""

from __future__ import annotations

import asyncio
import os
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.session import AioSession
from botocore.exceptions import ParamValidationError
from s3fs.core import S3FileSystem
from s3fs.errors import translate_boto_error

from connectorkit import Fault
from connectorkit.body import Body
from connectorkit.prefetch import NAME
from connectorkit.wire import sending_once
from connectorkit.wired import Wired
from connectorkit_s3.credentials import renew
from connectorkit_s3.operations import (
    Rewind,
    expect_copied,
    facts_of,
    kind_of,
    length_of,
    no_object,
)
from connectorkit_s3.reading import Reading, S3Body
from connectorkit_s3.remedies import status_of
from connectorkit_s3.sdk import RETRIES, equip, presign, stay, user_agent
from connectorkit_s3.settling import settled

if TYPE_CHECKING:
    import aiohttp

    from connectorkit import Operation
    from connectorkit_s3.client import Door

__all__ = ["S3Wire"]

# S3 makes a bucket that names no place there, and refuses to hear its name.
_DEFAULT_PLACE = {"LocationConstraint": "us-east-1"}
_pid = os.getpid


class SingleSendSession(AIOHTTPSession):  # type: ignore[misc]
    """Sends each request once, to where it was addressed."""

    async def _get_session(self, proxy_url: str | None) -> aiohttp.ClientSession:
        return sending_once(await super()._get_session(proxy_url))


class S3Wire(Wired, S3FileSystem):  # type: ignore[misc]
    """s3fs's filesystem with its requests put through a pipeline."""

    # fsspec lays its own configuration, by protocol, over the arguments of a class: the
    # host's would reach the filesystems of its tenants.
    protocol = "connectorkit-s3"
    connector_type = "s3"
    session: Any
    # s3fs counts attempts, not retries; 0 would raise None.
    retries = 1
    # boto3's way to the same storage, once somebody asked for it.
    door: Door | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # Another process may write at any time.
        kwargs.setdefault("use_listings_cache", False)
        kwargs.setdefault("default_cache_type", NAME)
        self._part_sizes: dict[str, dict[int, int | None]] = {}
        super().__init__(*args, **kwargs)

    @classmethod
    def _strip_protocol(cls, path: Any) -> Any:
        return S3FileSystem._strip_protocol(path)

    def unstrip_protocol(self, name: str) -> str:
        """Return a path as others write it, by `s3://`."""
        return f"s3://{self._strip_protocol(name)}"

    # The client

    def _prepare_config_kwargs(self) -> dict[str, Any]:
        config = super()._prepare_config_kwargs()
        return {
            "http_session_cls": SingleSendSession,
            "user_agent": user_agent(),
            **config,
            "retries": RETRIES,
        }

    async def set_session(self, *args: Any, **kwargs: Any) -> Any:
        """Connect, or return the client."""
        if self._s3 is not None and not (args or kwargs):
            return self._s3
        if self.session is None:
            self.session = AioSession(**self.kwargs)
            equip(self.session)
        client = await super().set_session(*args, **kwargs)
        self._s3creator.connectorkit_pid = _pid()
        events = client.meta.events
        events.register_first("needs-retry.s3", stay, unique_id="connectorkit-stay")
        events.register_first("choose-signer.s3", presign, unique_id="connectorkit-v4")
        return client

    _connect = set_session

    @property
    def in_flight(self) -> int:
        """Requests under way, bodies that are still to be read included."""
        through_door = self.door.in_flight if self.door is not None else 0
        return super().in_flight + through_door

    async def _let_go(self) -> None:
        if self.door is not None:
            self.door.let_go()
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

    async def get_s3(self, _bucket: str | None = None) -> Any:
        """Return the client.

        With `cache_regions` s3fs would ask for a bucket's region by a request that
        nobody counts; botocore learns it from the first answer.
        """
        return self._s3

    # The wire

    async def _call_s3(self, method: str, *more: Any, **kwargs: Any) -> Any:
        if kwargs.get("CreateBucketConfiguration") == _DEFAULT_PLACE:
            del kwargs["CreateBucketConfiguration"]
        with self.at_work():
            if method == "get_object":
                return await self._get_object(more, kwargs)
            return await self._operate(method, more, kwargs)

    async def _get_object(
        self, more: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> dict[str, Any]:
        reading = Reading(self, more, kwargs)
        op = self._operation("get_object", kwargs)
        body = Body(self.pipeline, op, reading.attempt)
        await body.open()
        # Not the reading's own, which the body holds.
        answer = dict(reading.answer)
        answer["Body"] = S3Body(body, answer.get("ContentLength"))
        self.until_read(answer["Body"])
        return answer

    async def _operate(
        self, method: str, more: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        body = kwargs.get("Body")
        size = sent = length_of(body)
        if method == "complete_multipart_upload":
            # S3 puts the parts together before it answers: that takes its time.
            size = self.uploaded(kwargs["UploadId"]) or 0
        op = self._operation(method, kwargs, size)
        rewind = Rewind(body)
        may_be_done = False

        async def attempt(op: Operation) -> Any:
            nonlocal may_be_done
            rewind(op)
            try:
                return await self.send(method, more, kwargs)
            except Exception as error:
                rewind.failed = error
                verdict = op.classify(error)
                may_be_done |= verdict.is_sent and verdict.fault.is_outage
                raise
            except asyncio.CancelledError:
                may_be_done = True
                raise

        try:
            answer = await self.pipeline.arun(op, attempt)
        except Exception as error:
            if may_be_done:
                verdict = self.pipeline.scope.classify(error)
                if (done := await settled(self, method, kwargs, verdict)) is not None:
                    return done
            raise
        finally:
            # Its traceback holds these frames.
            rewind.failed = None
            if method in {"complete_multipart_upload", "abort_multipart_upload"}:
                self._part_sizes.pop(kwargs["UploadId"], None)
        op.bytes = sent
        if method in {"upload_part", "upload_part_copy"}:
            sizes = self._part_sizes.setdefault(kwargs["UploadId"], {})
            # What is copied tells nobody its size.
            sizes[kwargs["PartNumber"]] = sent if method == "upload_part" else None
        return answer

    def _operation(
        self, method: str, kwargs: dict[str, Any], size: int = 0
    ) -> Operation:
        return self.pipeline.operation(
            method, kind_of(method), **facts_of(kwargs), size=size
        )

    async def send(
        self, method: str, more: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Send one request, once; errors are those of s3fs, with botocore's behind."""
        try:
            await self.set_session()
            client = await self.get_s3(kwargs.get("Bucket"))
            call = getattr(client, method)
            kwargs = self._get_s3_method_kwargs(call, *more, **kwargs)
            answer = await call(**kwargs)
            expect_copied(method, answer)
        except Exception as error:
            if isinstance(error, ParamValidationError) and kwargs.get("Key") == "":
                raise no_object(kwargs["Bucket"]) from error
            if self.pipeline.scope.classify(error).fault is Fault.EXPIRED:
                await renew(self.session)
            told = translate_boto_error(error)
            if told is error:
                raise
            refused = status_of(told) == HTTPStatus.PRECONDITION_FAILED
            # s3fs knows it by an element that MinIO's answer does not have.
            if refused and kwargs.get("IfNoneMatch") == "*":
                path = f"{kwargs['Bucket']}/{kwargs['Key']}"
                raise FileExistsError(path) from error
            raise told from error
        return answer

    def uploaded(self, upload_id: str) -> int | None:
        """Return how many bytes of an upload have arrived; None if nobody knows."""
        sizes = [*self._part_sizes.get(upload_id, {}).values()]
        return None if None in sizes else sum(filter(None, sizes))
