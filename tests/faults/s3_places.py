"""An S3 server, a fault proxy before it, and a look behind both of them.

```python
with Place("s3", moto) as place:
    place.proxy.inject(Status(503), when="get_object")
    place.fs.cat_file(f"{place.bucket}/key")    # through the proxy
    place.content("key")                        # of the server itself
```
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Self

from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.session import Session

from connectorkit import ConnectorKit
from connectorkit.testing import FaultProxy, VirtualClock

if TYPE_CHECKING:
    from connectorkit_s3.filesystem import ConnectorS3FileSystem
    from servers import S3Server

__all__ = ["ATTEMPTS", "RETRY", "Place"]

ATTEMPTS = 3
# As many attempts as are configured, at once, and never fewer.
RETRY = {
    "attempts": ATTEMPTS,
    "base_delay": 0,
    "budget_ratio": None,
    "budget_burst": None,
}


class Place:
    """A bucket behind a proxy; for a `with`.

    Args:
        type_id: By which connector type the proxy is called.
        server: What stands behind it.

    Attributes:
        proxy: What stands between.
        bucket: A bucket of the place's own.
        clock: The kit's; nobody waits by it.
        kit: Has the connector `it`, with policies ["retry"] and no budget.
        fs: Its filesystem.
        store: botocore's client, to the server itself and with nothing between.
    """

    def __init__(self, type_id: str, server: S3Server) -> None:
        self.type_id = type_id
        self.server = server
        self.proxy = FaultProxy(server.endpoint_url)
        self.bucket = server.bucket()
        self.clock = VirtualClock()
        quiet = "when_required"
        self.store: Any = Session().create_client(
            "s3",
            endpoint_url=server.endpoint_url,
            aws_access_key_id=server.key,
            aws_secret_access_key=server.secret,
            region_name="us-east-1",
            config=Config(
                retries={"total_max_attempts": 1, "mode": "standard"},
                s3={"addressing_style": "path"},
                request_checksum_calculation=quiet,
                response_checksum_validation=quiet,
            ),
        )

    def __enter__(self) -> Self:
        self.proxy.start()
        self.kit = self.kit_with(policies={"enabled": ["retry"], "retry": RETRY})
        self.fs: ConnectorS3FileSystem = self.kit.resolve("it").fs
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.kit.close()
        self.store.close()
        self.proxy.close()

    @property
    def settings(self) -> dict[str, str]:
        """The settings of a connector to the proxy."""
        return {
            "key": self.server.key,
            "secret": self.server.secret,
            "endpoint_url": self.proxy.url,
            "region_name": "us-east-1",
        }

    def kit_with(self, clock: Any = None, **tables: Any) -> ConnectorKit:
        """Return a kit whose connector `it` leads to the proxy."""
        connectors = {"it": {"type": self.type_id, "settings": self.settings}}
        config = {"connectors": connectors, **tables}
        return ConnectorKit(config, clock=self.clock if clock is None else clock)

    # Before a test

    def quiet(self) -> None:
        """End all faults, and forget what was asked."""
        self.proxy.heal()
        self.proxy.clear()

    def path(self, key: str) -> str:
        """Return the path of a key."""
        return f"{self.bucket}/{key}"

    def put(self, key: str, content: bytes) -> None:
        """Write an object behind the proxy's back."""
        self.store.put_object(Bucket=self.bucket, Key=key, Body=content)

    # After it

    def asked(self) -> Counter[str]:
        """Return how often each operation was asked for, through the proxy."""
        return Counter(each.operation for each in self.proxy.log)

    def content(self, key: str) -> bytes | None:
        """Return what the server has, or None."""
        try:
            answer = self.store.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
            return None
        content: bytes = answer["Body"].read()
        return content

    def uploads(self, key: str = "") -> list[str]:
        """Return the IDs of the uploads to a key that were begun and not ended."""
        try:
            page = self.store.list_multipart_uploads(Bucket=self.bucket, Prefix=key)
        except ClientError as error:
            # rclone's answer for a bucket that never had one.
            assert error.response["Error"]["Code"] == "NoSuchUpload"
            return []
        return [each["UploadId"] for each in page.get("Uploads", [])]
