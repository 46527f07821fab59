"""MinIO: S3 with the defaults that S3-compatible servers need."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from connectorkit import ConnectorType, Endpoint, Text, hookimpl
from connectorkit_s3 import S3, S3Settings

__all__ = ["Minio", "MinioSettings"]


class MinioSettings(S3Settings):
    """How to reach a MinIO, or another server that speaks S3."""

    # Not required: the source system's hosts keep Amazon S3 under this type, too.
    endpoint_url: Endpoint = Field(
        None,
        title="Endpoint",
        description="Such as https://minio.example.com:9000; empty for Amazon S3.",
    )
    region_name: Text = Field(
        "us-east-1", title="Region", description="What the server calls its region."
    )
    addressing_style: Literal["auto", "path", "virtual"] = Field(
        default="path",
        title="Addressing style",
        description="Whether the bucket stands in the path or in the host name.",
    )


class Minio(S3):
    """MinIO and other S3-compatible servers, through s3fs."""

    id = "minio"
    title = "MinIO"
    aliases = ("minio|c799f6e3-2b57-434e-aaac-b5daa415da19",)
    Settings = MinioSettings

    def client_config(self, settings: S3Settings) -> dict[str, Any]:
        """Send and verify checksums only where the server asks for them.

        Many S3-compatible servers refuse the trailers that botocore sends by default,
        or answer a range with the checksum of the whole object.
        """
        return {
            **super().client_config(settings),
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """MinIO."""
    return [Minio]
