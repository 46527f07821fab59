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
from s3transfer.exceptions import RetriesExceededError as GaveUp
from s3transfer.futures import NonThreadedExecutor
from s3transfer.manager import TransferManager

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
# Of a file object whose parts several threads send, and of what arrives for one that
# cannot seek; boto3's own is ten parts of 8 MiB. Two at least, or one would wait for
# the other.
_MOST_IN_MEMORY = 24 << 20
_LEAST_PARTS = 2

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
        """Download an object to a binary file object."""
        if not hasattr(Fileobj, "write"):
            raise ValueError("Fileobj must implement write")
        # What is appended has to come in order.
        with self._transfers(Config, in_order=is_append_mode(Fileobj)) as manager:
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
    def _transfers(self, config: Any, *, in_order: bool = False) -> Iterator[Any]:
        """Give a manager of transfers, for one call."""
        config = _bounded(config)
        is_threaded = getattr(config, "use_threads", True) and not in_order
        executor = _Executor if is_threaded else NonThreadedExecutor
        left: list[str] = []
        token = _left.set(left)
        try:
            with (
                joined(self.connectorkit_scope),
                TransferManager(self, config, None, executor) as manager,
            ):
                yield manager
        except BaseException as error:
            told = _told(error)
            for each in left:
                told.add_note(each)
            if told is error:
                raise
            raise told from told.__cause__
        finally:
            _left.reset(token)


def _bounded(config: Any) -> Any:
    """Return a transfer's configuration with nothing in it that tries again."""
    config = copy.copy(config) if config is not None else TransferConfig()
    config.num_download_attempts = 1
    parts = max(_LEAST_PARTS, _MOST_IN_MEMORY // config.multipart_chunksize)
    for name in ("max_in_memory_upload_chunks", "max_in_memory_download_chunks"):
        setattr(config, name, min(getattr(config, name), parts))
    return config


def _told(error: BaseException) -> BaseException:
    """Return what is raised for an error: with its notes, or what it stands for."""
    if isinstance(error, RetriesExceededError | GaveUp):
        last = error.last_exception
        if isinstance(last, ConnectorKitError):
            return last
        error.__cause__ = last
    if isinstance(error, S3UploadFailedError) and error.__context__ is not None:
        for note in getattr(error.__context__, "__notes__", ()):
            error.add_note(note)
    return error


def _subscribers(callback: Any) -> list[ProgressCallbackInvoker] | None:
    return None if callback is None else [ProgressCallbackInvoker(callback)]
