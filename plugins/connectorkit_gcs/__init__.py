"""GCS: connectors to Google Cloud Storage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, SecretStr, field_validator

from connectorkit import (
    CheckFailed,
    ConnectorType,
    Endpoint,
    Secret,
    Settings,
    Text,
    hookimpl,
)
from connectorkit.settings import refused_endpoint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsspec import AbstractFileSystem

    from connectorkit import ObjectInfo, Verdict

__all__ = ["GCS", "GCSSettings"]

_GOOGLE = "https://storage.googleapis.com"
# Other kinds name files, commands or addresses for this machine to read, run or call.
_KINDS_OF_TENANTS = ("service_account", "authorized_user")
# Exactly these: two parsers of URLs may see two hosts in one text.
_TOKEN_URIS = (
    None,
    "https://accounts.google.com/o/oauth2/token",
    "https://oauth2.googleapis.com/token",
    "https://www.googleapis.com/oauth2/v4/token",
)
_TEXTS = (
    "client_email",
    "client_id",
    "client_secret",
    "private_key",
    "private_key_id",
    "project_id",
    "refresh_token",
    "token_uri",
    "universe_domain",
)


class GCSSettings(Settings):
    """How to reach Google Cloud Storage, or an emulator of it."""

    project_id: Text = Field(
        None,
        title="Project ID",
        description="Needed to list or make buckets; empty for the one that the "
        "credentials name.",
    )
    json_credentials: Secret = Field(
        None,
        title="JSON credentials",
        description="The key of a service account, as JSON. Empty in a configured "
        "connector: the default credentials of the machine.",
    )
    token: Secret = Field(
        None,
        title="Token",
        description="In place of JSON credentials, as gcsfs takes it: anon, cloud, "
        "google_default, or an access token.",
    )
    endpoint_url: Endpoint = Field(
        None, title="Endpoint", description="Empty for Google itself; for emulators."
    )
    connect_timeout: float = Field(
        default=10.0,
        gt=0,
        le=3600,
        title="Connect timeout",
        description="Seconds to connect.",
    )
    # gcsfs itself would wait for ever.
    read_timeout: float = Field(
        default=60.0,
        gt=0,
        le=3600,
        title="Read timeout",
        description="Seconds to wait for the next bytes of an answer.",
    )
    default_cache_type: Literal[
        "prefetch", "adaptive", "readahead", "bytes", "block", "none"
    ] = Field(
        default="prefetch",
        title="Cache of open files",
        description="prefetch reads ahead by several requests at a time, none does not "
        "read ahead; the others are fsspec's.",
    )

    @field_validator("json_credentials", mode="before")
    @classmethod
    def _as_text(cls, value: object) -> object:
        return json.dumps(value) if isinstance(value, Mapping) else value

    @field_validator("json_credentials")
    @classmethod
    def _is_json(cls, value: SecretStr | None) -> SecretStr | None:
        if value is not None:
            try:
                content = json.loads(value.get_secret_value())
            except (ValueError, RecursionError):
                raise ValueError("is not JSON: paste the whole key file") from None
            if not isinstance(content, dict) or "type" not in content:
                raise ValueError('is no key: a JSON object with a "type" is expected')
            for name in _TEXTS:
                if not isinstance(content.get(name, ""), str):
                    raise ValueError(f"is no key: its {name} is no text")  # noqa: TRY004
        return value

    @field_validator("token")
    @classmethod
    def _not_both(cls, token: object, info: Any) -> object:
        if token is not None and info.data.get("json_credentials") is not None:
            raise ValueError("stands beside json_credentials: give one of them")
        return token

    def credentials(self) -> dict[str, Any] | None:
        """Return the JSON credentials, read."""
        if self.json_credentials is None:
            return None
        content: dict[str, Any] = json.loads(self.json_credentials.get_secret_value())
        return content

    def refusals(self) -> Mapping[str, str]:
        """Refuse what would sign with, or read from, what belongs to the host."""
        if self.token is not None and self.token.get_secret_value() != "anon":
            return {"token": "may be anon alone; give json_credentials instead"}
        content = self.credentials()
        if content is None and self.token is None:
            return {"json_credentials": "is required"}
        if content is None:
            return refused_endpoint(self.endpoint_url)
        if content["type"] not in _KINDS_OF_TENANTS:
            return {"json_credentials": f"its type is none of {_KINDS_OF_TENANTS}"}
        if content.get("token_uri") not in _TOKEN_URIS:
            return {"json_credentials": "its token_uri is not Google's"}
        return refused_endpoint(self.endpoint_url)


class GCS(ConnectorType[GCSSettings]):
    """Google Cloud Storage, through gcsfs's plain JSON client."""

    id = "gcs"
    title = "Google Cloud Storage"
    aliases = (
        "google_cloud_storage",
        "google_cloud_storage|109bbe7b-8861-45eb-8841-7244e833d97b",
    )
    requires = "connectorkit[gcs]"
    has_buckets = True
    Settings = GCSSettings

    def open(self, settings: GCSSettings, **options: Any) -> AbstractFileSystem:
        """Open the filesystem; default credentials are looked for now."""
        from connectorkit_gcs.filesystem import (
            ConnectorGCSFileSystem,
            timeouts,
            token_of,
        )

        content = settings.credentials()
        token: object = content
        if token is None and settings.token is not None:
            token = token_of(settings.token.get_secret_value())
        fs = ConnectorGCSFileSystem(
            # gcsfs warns of None, and takes "" for the one that credentials name.
            project=settings.project_id or (content or {}).get("project_id", ""),
            token=token,
            # Who brings credentials means Google, whatever STORAGE_EMULATOR_HOST says.
            endpoint_url=settings.endpoint_url or (None if token is None else _GOOGLE),
            requests_timeout=timeouts(settings.connect_timeout, settings.read_timeout),
            default_cache_type=settings.default_cache_type,
            # Another process may write at any time.
            use_listings_cache=False,
            **options,
        )
        if token is not None:
            fs.without_client_certificate()
        return fs

    def classify(self, error: BaseException) -> Verdict:
        """Say what an error means for policies, by Google's statuses and reasons."""
        from connectorkit_gcs.faults import classify

        return classify(error)

    def files_under(
        self, fs: AbstractFileSystem, folder: str
    ) -> Iterator[Iterable[ObjectInfo]]:
        """Yield the objects below a folder, a page of a listing at a time."""
        from connectorkit_gcs.folders import pages

        return pages(fs, folder)

    def delete_files(self, fs: AbstractFileSystem, paths: list[str]) -> dict[str, str]:
        """Delete objects, at Google a hundred by one request."""
        from connectorkit_gcs.folders import delete

        return delete(fs, paths)

    def endpoint(self, settings: GCSSettings) -> str:
        """Say where the storage is."""
        return settings.endpoint_url or _GOOGLE

    def check(self, fs: AbstractFileSystem, path: str, settings: GCSSettings) -> None:
        """List the buckets, or the first object under `path`."""
        from connectorkit_gcs.remedies import expect_gcs

        del settings
        bucket, _, prefix = path.strip("/").partition("/")
        ask: dict[str, Any] = {"maxResults": 1, "json_out": True}
        if bucket:
            expect_gcs(fs.call("GET", "b/{}/o", bucket, prefix=prefix, **ask))
        elif fs.project:
            expect_gcs(fs.call("GET", "b", project=fs.project, **ask))
        else:
            raise CheckFailed(
                "Without a project_id, name a bucket to check the connector by."
            )

    def remedy(
        self, error: BaseException, path: str, settings: GCSSettings
    ) -> str | None:
        """Say in one sentence what to mend, by what Google answered."""
        from connectorkit_gcs.remedies import remedy

        del path
        return remedy(error, self.endpoint(settings))


@hookimpl
def connectorkit_connectors() -> list[type[ConnectorType[Any]]]:
    """GCS."""
    return [GCS]
