"""The transfers of boto3's client: one call each, its parts in whatever threads.

They are boto3's own. What differs: the threads know whose call they work for, a part
is tried again by the policies alone, and fewer parts of a file are in memory.
"""

from __future__ import annotations

import contextlib
import copy
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar, copy_context
from typing import TYPE_CHECKING, Any

from boto3.compat import is_append_mode
from boto3.exceptions import RetriesExceededError, S3UploadFailedError
from boto3.s3.transfer import ProgressCallbackInvoker, S3Transfer, TransferConfig
from botocore.client import BaseClient
from s3transfer.bandwidth import BandwidthLimiter, LeakyBucket
from s3transfer.compat import seekable
from s3transfer.exceptions import RetriesExceededError as GaveUp
from s3transfer.futures import NonThreadedExecutor, TransferCoordinator
from s3transfer.manager import TransferManager
from s3transfer.utils import OSUtils

from connectorkit import ConnectorKitError, Fault
from connectorkit.call import joined
from connectorkit_s3.faults import classify
from connectorkit_s3.operations import left_behind

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from concurrent.futures import Future

    from connectorkit import Scope

__all__ = ["NAMES", "Transfers", "note_if_left"]

NAMES = ("copy", "download_file", "download_fileobj", "upload_file", "upload_fileobj")
# Of a file object whose parts several threads send; boto3's own is ten parts of 8 MiB.
# Two at least, or one would wait for the other.
_MOST_TO_SEND = 24 << 20
_LEAST_PARTS = 2
# Of what has arrived and is not written yet; boto3's own is 25 MiB.
_MOST_TO_WRITE = 8 << 20

# What the transfer under way has to say of uploads that could not be aborted.
_left: ContextVar[list[str] | None] = ContextVar("connectorkit_s3_left", default=None)


def note_if_left(method: str, kwargs: Mapping[str, Any], error: Exception) -> None:
    """Note an upload that could not be aborted; s3transfer swallows the error."""
    left = _left.get()
    if left is None or method != "abort_multipart_upload":
        return
    if classify(error).fault is not Fault.NOT_FOUND:
        left.append(left_behind(kwargs, error))


class _Executor(ThreadPoolExecutor):
    """Threads that know the call that they work for."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        return super().submit(copy_context().run, fn, *args, **kwargs)


class Transfers(BaseClient):  # type: ignore[misc]
    """boto3's transfers, for the class of its client."""

    @property
    def connectorkit_scope(self) -> Scope:
        """What the operations of its connector share."""
        raise NotImplementedError

    def upload_file(  # noqa: PLR0913, PLR0917 - boto3's own
        self,
        Filename: Any,  # noqa: N803 - boto3's own
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        ExtraArgs: Any = None,  # noqa: N803
        Callback: Any = None,  # noqa: N803
        Config: Any = None,  # noqa: N803
    ) -> None:
        """Upload a file; in parts, if it is big."""
        with self._transfers(Config) as manager:
            S3Transfer(manager=manager).upload_file(
                Filename, Bucket, Key, extra_args=ExtraArgs, callback=Callback
            )

    def download_file(  # noqa: PLR0913, PLR0917
        self,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Filename: Any,  # noqa: N803
        ExtraArgs: Any = None,  # noqa: N803
        Callback: Any = None,  # noqa: N803
        Config: Any = None,  # noqa: N803
    ) -> None:
        """Download an object to a file; it appears whole or not at all."""
        if OSUtils().is_special_file(Filename):
            # A pipe, say, to which it goes in order.
            with open(Filename, "wb") as pipe:  # noqa: PTH123 - as boto3 does
                self.download_fileobj(Bucket, Key, pipe, ExtraArgs, Callback, Config)
            return
        with self._transfers(Config) as manager:
            S3Transfer(manager=manager).download_file(
                Bucket, Key, Filename, extra_args=ExtraArgs, callback=Callback
            )

    def upload_fileobj(  # noqa: PLR0913, PLR0917
        self,
        Fileobj: Any,  # noqa: N803
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        ExtraArgs: Any = None,  # noqa: N803
        Callback: Any = None,  # noqa: N803
        Config: Any = None,  # noqa: N803
    ) -> None:
        """Upload what a binary file object has, from where it stands."""
        if not hasattr(Fileobj, "read"):
            raise ValueError("Fileobj must implement read")
        with self._transfers(Config) as manager:
            manager.upload(
                Fileobj, Bucket, Key, ExtraArgs, _subscribers(Callback)
            ).result()

    def download_fileobj(  # noqa: PLR0913, PLR0917
        self,
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        Fileobj: Any,  # noqa: N803
        ExtraArgs: Any = None,  # noqa: N803
        Callback: Any = None,  # noqa: N803
        Config: Any = None,  # noqa: N803
    ) -> None:
        """Download an object to a binary file object: to one that can seek by parts."""
        if not hasattr(Fileobj, "write"):
            raise ValueError("Fileobj must implement write")
        in_order = is_append_mode(Fileobj) or not seekable(Fileobj)
        with self._transfers(Config) as manager:
            manager._validate_all_known_args(
                ExtraArgs or {}, manager.ALLOWED_DOWNLOAD_ARGS
            )
            if in_order:
                # s3transfer would do so by parts, in memory, of which the eleventh
                # waits for ever where it does not ask for the size first.
                asked = {"Bucket": Bucket, "Key": Key, **(ExtraArgs or {})}
                _pour(self.get_object(**asked), Fileobj, Callback, manager.config)
            else:
                manager.download(
                    Bucket, Key, Fileobj, ExtraArgs, _subscribers(Callback)
                ).result()

    def copy(  # noqa: PLR0913, PLR0917
        self,
        CopySource: Any,  # noqa: N803
        Bucket: str,  # noqa: N803
        Key: str,  # noqa: N803
        ExtraArgs: Any = None,  # noqa: N803
        Callback: Any = None,  # noqa: N803
        SourceClient: Any = None,  # noqa: N803
        Config: Any = None,  # noqa: N803
    ) -> None:
        """Copy an object within the storage; in parts, if it is big."""
        with self._transfers(Config) as manager:
            manager.copy(
                CopySource, Bucket, Key, ExtraArgs, _subscribers(Callback), SourceClient
            ).result()

    @contextlib.contextmanager
    def _transfers(self, config: Any) -> Iterator[Any]:
        """Give a manager of transfers, for one call."""
        config = _bounded(config)
        is_threaded = getattr(config, "use_threads", True)
        executor = _Executor if is_threaded else NonThreadedExecutor
        left: list[str] = []
        token = _left.set(left)
        try:
            with (
                joined(self.connectorkit_scope),
                TransferManager(self, config, None, executor) as manager,
            ):
                yield manager
        except BaseException as error:  # noqa: BLE001 - raised again, and told more
            told: BaseException | None = _told(error, left)
            try:
                if told is not None:
                    raise told from told.__cause__
                raise
            finally:
                # Its traceback holds this frame.
                del told
        finally:
            _left.reset(token)


def _bounded(config: Any) -> Any:
    """Return a transfer's configuration with nothing in it that tries again."""
    config = copy.copy(config) if config is not None else TransferConfig()
    config.num_download_attempts = 1
    parts = max(_LEAST_PARTS, _MOST_TO_SEND // config.multipart_chunksize)
    pieces = max(1, _MOST_TO_WRITE // config.io_chunksize)
    for name, most in (
        ("max_in_memory_upload_chunks", parts),
        ("max_io_queue_size", pieces),
    ):
        setattr(config, name, min(getattr(config, name), most))
    return config


def _pour(answer: dict[str, Any], file: Any, callback: Any, config: Any) -> None:
    """Write a body to a file object, in order."""
    with answer["Body"] as body:
        source = body
        if config.max_bandwidth is not None:
            limiter = BandwidthLimiter(LeakyBucket(config.max_bandwidth))
            source = limiter.get_bandwith_limited_stream(body, TransferCoordinator())
        while data := source.read(config.io_chunksize):
            file.write(data)
            if callback is not None:
                callback(len(data))


def _told(error: BaseException, left: list[str]) -> BaseException | None:
    """Complete an error by what is known of it; return what it stands for, if that."""
    stands_for = None
    notes = left
    if isinstance(error, RetriesExceededError | GaveUp):
        last = error.last_exception
        if isinstance(last, ConnectorKitError):
            stands_for = last
        else:
            error.__cause__ = last
    if isinstance(error, S3UploadFailedError):
        notes = [*getattr(error.__context__, "__notes__", ()), *left]
    for note in notes:
        (stands_for or error).add_note(note)
    return stands_for


def _subscribers(callback: Any) -> list[ProgressCallbackInvoker] | None:
    return None if callback is None else [ProgressCallbackInvoker(callback)]
