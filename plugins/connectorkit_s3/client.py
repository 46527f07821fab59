"""The boto3 door: a real boto3 client whose every call goes through the policies."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import boto3
from botocore import UNSIGNED, xform_name
from botocore.config import Config
from botocore.session import Session

from connectorkit import Fault
from connectorkit.call import Call
from connectorkit.fork import importing, keep_for_ever, renew_in_child
from connectorkit.sync_body import SyncBody
from connectorkit_s3.client_body import ClientBody, Reading
from connectorkit_s3.client_http import disconnect, in_time, punctual
from connectorkit_s3.client_sending import Outgoing, PartSizes
from connectorkit_s3.client_transfers import NAMES, Transfers, note_if_left
from connectorkit_s3.credentials import expire
from connectorkit_s3.operations import expect_copied, facts_of, kind_of
from connectorkit_s3.sdk import equip, presign, stay, user_agent
from connectorkit_s3.settling import Look, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from botocore.client import BaseClient

    from connectorkit import Operation, Scope
    from connectorkit_s3.wire import S3Wire

    # Makes a call of botocore's own, by its name and arguments: one request.
    Send = Callable[[str, dict[str, Any]], dict[str, Any]]

__all__ = ["Client", "Door", "door_of"]

_making = threading.Lock()
# To do these twice is not as good as once.
_UNREPEATABLE = {"rename_object"}


class Client(Transfers):
    """What is added to the class of boto3's client.

    Attributes:
        connectorkit_door: Its way through the policies.
    """

    connectorkit_door: Door | None = None

    @property
    def connectorkit_scope(self) -> Scope:
        """What the operations of its connector share."""
        assert self.connectorkit_door is not None  # noqa: S101 - for mypy
        return self.connectorkit_door.scope

    def _make_api_call(
        self, operation_name: str, api_params: dict[str, Any]
    ) -> dict[str, Any]:
        send: Send = super()._make_api_call
        if self.connectorkit_door is None:
            return send(operation_name, api_params)
        return self.connectorkit_door.call(operation_name, api_params, send)


def door_of(fs: S3Wire, arguments: Mapping[str, Any]) -> Door:
    """Return the door of a filesystem: one for each, however many threads ask.

    Args:
        fs: Whose pipeline wraps its calls, and with which it is closed.
        arguments: s3fs's own, by which `fs` was made.
    """
    if fs.door is None:
        # Nobody forks while this is under way, so that no child finds the lock held.
        with importing(), _making:
            if fs.door is None:
                fs.door = Door(fs, _make_client(arguments))
    return fs.door


def _make_client(arguments: Mapping[str, Any]) -> Any:
    """Return boto3's client as s3fs would make aiobotocore's."""
    inner = Session()
    session = boto3.session.Session(botocore_session=inner)
    # After boto3, which adds places of its own to the one that it finds.
    equip(inner)
    session.events.register_last("creating-client-class.s3", _add_policies)
    config = dict(arguments["config_kwargs"])
    secrets = {
        f"aws_{name}": arguments.get(short)
        for name, short in (
            ("access_key_id", "key"),
            ("secret_access_key", "secret"),
            ("session_token", "token"),
        )
    }
    if arguments["anon"]:
        config["signature_version"] = UNSIGNED
        secrets = {}
    client = session.client(
        "s3",
        endpoint_url=arguments["endpoint_url"],
        config=Config(**{"user_agent": user_agent(), **config}),
        **secrets,
        **arguments["client_kwargs"],
    )
    events = client.meta.events
    events.register_first("needs-retry.s3", stay, unique_id="connectorkit-stay")
    events.register_first("choose-signer.s3", presign, unique_id="connectorkit-v4")
    return client


def _add_policies(
    class_attributes: dict[str, Any], base_classes: list[type], **_kwargs: object
) -> None:
    for name in NAMES:
        class_attributes.pop(name, None)
    base_classes.insert(0, Client)


class Door:
    """The way of a boto3 client through the policies of a connector.

    Args:
        fs: Whose pipeline it is.
        client: The client.

    Attributes:
        client: The client.
        in_flight: Requests under way, bodies that are still to be read included.
    """

    def __init__(self, fs: S3Wire, client: BaseClient) -> None:
        self.client = client
        self._fs = fs
        self._patience = float(client.meta.config.read_timeout)
        self._parts = PartSizes()
        self._begin()
        client.connectorkit_door = self
        renew_in_child(self)

    def _begin(self) -> None:
        endpoint = self.client._endpoint
        endpoint.http_session = punctual(endpoint.http_session)
        self._lock = threading.Lock()
        self.in_flight = 0

    def after_fork(self) -> None:
        """Leave the parent's connections alone."""
        keep_for_ever(self.client._endpoint.http_session)
        self._begin()

    def let_go(self) -> None:
        """Close the connections; the next call connects anew."""
        disconnect(self.client._endpoint.http_session)

    @property
    def scope(self) -> Scope:
        """What the operations of the connector share."""
        return self._fs.pipeline.scope

    # Its calls

    def call(self, name: str, kwargs: dict[str, Any], send: Send) -> dict[str, Any]:
        """Make a call of the client's, one request for each attempt.

        Args:
            name: botocore's: `GetObject`.
            kwargs: Its arguments.
            send: Sends one request.
        """
        method = xform_name(name)
        model = self.client.meta.service_model.operation_model(name)

        def once(op: Operation, kwargs: dict[str, Any]) -> dict[str, Any]:
            # botocore's handlers write into what they are given.
            answer = self._once(op, lambda: send(name, {**kwargs}))
            expect_copied(method, answer)
            return answer

        self._began()
        try:
            if model.has_streaming_output:
                member = model.output_shape.serialization["payload"]
                return self._read(method, kwargs, once, member)
            member = None
            if model.has_streaming_input:
                member = model.input_shape.serialization["payload"]
            return self._operate(method, Outgoing(kwargs, member), once)
        finally:
            self._ended()

    def _began(self) -> None:
        with self._lock:
            self.in_flight += 1
        self._fs.operations += 1

    def _ended(self) -> None:
        with self._lock:
            self.in_flight -= 1

    def _once(
        self, op: Operation, send: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        try:
            with in_time(op, self._patience):
                return send()
        except Exception as error:
            if op.classify(error).fault is Fault.EXPIRED:
                expire(self.client._request_signer._credentials)
            raise

    def _operation(self, method: str, kwargs: dict[str, Any], size: int) -> Operation:
        # An append, of S3 Express.
        is_once = method in _UNREPEATABLE or "WriteOffsetBytes" in kwargs
        return self._fs.pipeline.operation(
            method,
            kind_of(method),
            **facts_of(kwargs),
            size=size,
            is_repeatable=not is_once,
        )

    def _read(
        self,
        method: str,
        kwargs: dict[str, Any],
        send: Callable[[Operation, dict[str, Any]], dict[str, Any]],
        member: str,
    ) -> dict[str, Any]:
        """Begin an operation that ends when its body is read."""
        reading = Reading(
            send,
            kwargs,
            member=member,
            patience=self._patience,
            can_resume=method == "get_object",
        )
        op = self._operation(method, kwargs, 0)
        self._began()
        body = SyncBody(self._fs.pipeline, op, reading.attempt, self._ended)
        body.open()
        answer = reading.answer
        whole = ClientBody(body, reading, answer.get("ContentLength"))
        # Not into the reading's own, which the body holds.
        return {**answer, member: whole}

    def _operate(
        self,
        method: str,
        outgoing: Outgoing,
        send: Callable[[Operation, dict[str, Any]], dict[str, Any]],
    ) -> dict[str, Any]:
        kwargs = outgoing.kwargs
        op = self._operation(method, kwargs, outgoing.size)
        may_be_done = False

        def attempt(op: Operation) -> dict[str, Any]:
            nonlocal may_be_done
            outgoing.begin(op)
            try:
                return send(op, kwargs)
            except Exception as error:
                outgoing.blame(op, error)
                verdict = op.classify(error)
                may_be_done |= verdict.is_sent and verdict.fault.is_outage
                raise

        try:
            answer = self._fs.pipeline.run(op, attempt)
        except Exception as error:
            if outgoing.failed is not None:
                raise outgoing.failed from outgoing.failed.__cause__
            note_if_left(method, kwargs, error)
            done = self._settled(op, method, kwargs, error) if may_be_done else None
            if done is None:
                raise
            return done
        finally:
            outgoing.forget()
            if method in {"complete_multipart_upload", "abort_multipart_upload"}:
                self._parts.forget(kwargs["UploadId"])
        op.bytes = op.size
        if method == "upload_part":
            self._parts.note(kwargs["UploadId"], kwargs["PartNumber"], op.size)
        return answer

    def _settled(
        self, op: Operation, method: str, kwargs: dict[str, Any], error: Exception
    ) -> dict[str, Any] | None:
        """Return the answer of a request that was done although an error came of it."""
        done = settle(method, kwargs, self.scope.classify(error), self._parts.total)
        found: dict[str, Any] = {"ResponseMetadata": {"HTTPStatusCode": 200}}
        if isinstance(done, Look):
            look = Call(self.scope)
            # In what is left of the same time, with what policies keep for it.
            look.started, look.shared = op.started, op.kept
            try:
                with look if op.call is None else contextlib.nullcontext():
                    found = self.client.head_object(**done.names)
            except Exception:  # noqa: BLE001 - the error that is settled says more
                return None
            done = done.judge(found)
        if done is None:
            return None
        told = {name: value for name, value in done.items() if value is not None}
        return {**told, "ResponseMetadata": found["ResponseMetadata"]}
