"""S3: connectors to Amazon S3 and what speaks like it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationInfo, field_validator

from connectorkit import (
    CheckFailed,
    ConnectorType,
    Endpoint,
    Secret,
    Settings,
    Text,
    hookimpl,
)
from connectorkit.fork import importing
from connectorkit.settings import refused_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fsspec import AbstractFileSystem

    from connectorkit import ObjectInfo, Verdict

__all__ = ["S3", "S3Settings"]


class S3Settings(Settings):
    """How to reach a bucket store that speaks S3."""

    key: Secret = Field(
        None,
        title="Access key ID",
        description="Empty in a configured connector: the cloud's own chain "
        "(variables, profile, IAM role).",
    )
    secret: Secret = Field(
        None, title="Secret access key", description="Belongs to the access key ID."
    )
    token: Secret = Field(
        None, title="Session token", description="For temporary credentials only."
    )
    endpoint_url: Endpoint = Field(
        None, title="Endpoint", description="Empty for Amazon S3 itself."
    )
    region_name: Text = Field(None, title="Region", description="Such as eu-central-1.")
    anon: bool = Field(
        default=False,
        title="Anonymous",
        description="Sign no request; for public buckets.",
    )
    verify_tls: bool = Field(
        default=True,
        title="Verify TLS",
        description="Turn off only for a server whose certificate cannot be verified.",
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        default="auto",
        title="Addressing style",
        description="Whether the bucket stands in the path or in the host name.",
    )
    max_connections: int = Field(
        default=50,
        ge=1,
        le=1000,
        title="Connections",
        description="The most connections that one process holds to the storage.",
    )
    # s3fs's own numbers.
    connect_timeout: float = Field(
        default=5.0,
        gt=0,
        le=3600,
        title="Connect timeout",
        description="Seconds to connect.",
    )
    read_timeout: float = Field(
        default=15.0,
        gt=0,
        le=3600,
        title="Read timeout",
        description="Seconds to wait for the next bytes of an answer.",
    )
    default_cache_type: Literal["prefetch", "readahead", "bytes", "block", "none"] = (
        Field(
            default="prefetch",
            title="Cache of open files",
            description="prefetch reads ahead by several requests at a time, none does "
            "not read ahead; the others are fsspec's.",
        )
    )

    @field_validator("secret")
    @classmethod
    def _with_its_key(cls, secret: object, info: ValidationInfo) -> object:
        if "key" in info.data and (info.data["key"] is None) != (secret is None):
            raise ValueError("key and secret belong together: give both or neither")
        return secret

    def refusals(self) -> Mapping[str, str]:
        """Refuse to sign for a tenant with what the host may do."""
        if self.key is None and not self.anon:
            return {"key": "is required, with its secret"}
        return refused_endpoint(self.endpoint_url)


class S3(ConnectorType[S3Settings]):
    """Amazon S3, through s3fs."""

    id = "s3"
    title = "Amazon S3"
    requires = "connectorkit[s3]"
    has_buckets = True
    Settings = S3Settings

    def open(self, settings: S3Settings, **options: Any) -> AbstractFileSystem:
        """Open the filesystem; nothing is sent until it is used."""
        from connectorkit_s3.filesystem import ConnectorS3FileSystem

        return ConnectorS3FileSystem(**self.arguments(settings), **options)

    def arguments(self, settings: S3Settings) -> dict[str, Any]:
        """Return what s3fs calls these settings."""
        secrets = {
            name: value.get_secret_value()
            for name in ("key", "secret", "token")
            if (value := getattr(settings, name)) is not None
        }
        return {
            **secrets,
            "anon": settings.anon,
            "endpoint_url": settings.endpoint_url,
            "client_kwargs": {
                "region_name": settings.region_name,
                # True would keep botocore from reading AWS_CA_BUNDLE.
                "verify": None if settings.verify_tls else False,
            },
            "config_kwargs": self.client_config(settings),
            "default_cache_type": settings.default_cache_type,
            # Another process may write at any time.
            "use_listings_cache": False,
        }

    def client(self, fs: AbstractFileSystem, settings: S3Settings) -> Any:
        """Return the boto3 client that goes with a filesystem.

        Args:
            fs: What `open` returned.
            settings: Its settings.
        """
        with importing():
            from connectorkit_s3.client import door_of

        return door_of(fs, self.arguments(settings)).client

    def client_config(self, settings: S3Settings) -> dict[str, Any]:
        """Return the arguments of botocore's `Config`."""
        return {
            # One owner of retries: botocore makes one attempt.
            "retries": {"mode": "standard", "total_max_attempts": 1},
            "s3": {
                "addressing_style": settings.addressing_style,
                # Else a profile of the host's decides.
                "use_accelerate_endpoint": False,
            },
            "max_pool_connections": settings.max_connections,
            "connect_timeout": settings.connect_timeout,
            "read_timeout": settings.read_timeout,
            # AWS_ENDPOINT_URL is for who uses the host's own credentials.
            "ignore_configured_endpoint_urls": bool(settings.key or settings.anon),
        }

    def endpoint(self, settings: S3Settings) -> str:
        """Say where the storage is."""
        return settings.endpoint_url or "Amazon S3"

    def check(self, fs: AbstractFileSystem, path: str, settings: S3Settings) -> None:
        """List the buckets, or the first key under `path`."""
        from connectorkit_s3.remedies import expect_s3

        bucket, _, prefix = path.strip("/").partition("/")
        if bucket:
            ask = {"Bucket": bucket, "Prefix": prefix, "MaxKeys": 1}
            expect_s3(fs.call_s3("list_objects_v2", **ask))
        elif settings.anon:
            raise CheckFailed("Without a key, name a bucket to check the connector by.")
        else:
            expect_s3(fs.call_s3("list_buckets"))

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means, by S3's own codes."""
        from connectorkit_s3.faults import classify

        return classify(error)

    def files_under(
        self, fs: AbstractFileSystem, folder: str
    ) -> Iterator[Iterable[ObjectInfo]]:
        """Yield the keys below a folder, a page of a listing at a time."""
        from connectorkit_s3.folders import pages

        return pages(fs, folder)

    def delete_files(self, fs: AbstractFileSystem, paths: list[str]) -> dict[str, str]:
        """Delete up to a thousand keys by one request."""
        from connectorkit_s3.folders import delete

        return delete(fs, paths)

    def remedy(
        self, error: BaseException, path: str, settings: S3Settings
    ) -> str | None:
        """Say in one sentence what to mend, by the code that S3 answered."""
        from connectorkit_s3.remedies import remedy

        del path
        return remedy(error, self.endpoint(settings), settings.region_name)


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """S3."""
    return [S3]
