"""What a connector type's settings are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    StringConstraints,
)
from pydantic import Field as _Field

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Endpoint", "Secret", "Settings", "Text"]


class Settings(BaseModel):
    """The base of a connector type's settings.

    Give each field a title and a description: `connectorkit schema TYPE` prints the
    model's JSON Schema, which a web form shows. Mark secrets by `SecretStr`, or by
    `Secret`, which also reads an empty text as "not given".
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, validate_default=True
    )

    def refusals(self) -> Mapping[str, str]:
        """Say which fields reach for what belongs to the host, and why.

        Asked of settings that a tenant passes. By default nothing is refused; a type
        that falls back to the host's own credentials, or reads its files, must say so.
        """
        return {}


def _blank_is_none(value: object) -> object:
    # A web form sends an empty field as "", which means "not given".
    return None if isinstance(value, str) and not value.strip() else value


def _endpoint(url: str | None) -> str | None:
    if url is None:
        return None
    parts = urlsplit(url)
    try:
        port_is_good = parts.port != 0
    except ValueError:
        port_is_good = False
    if parts.scheme not in {"http", "https"} or not parts.hostname or not port_is_good:
        raise ValueError("must read like https://host or http://host:9000")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must be scheme, host and port alone, without credentials")
    return url.rstrip("/")


Text = Annotated[
    Annotated[str, StringConstraints(strip_whitespace=True, max_length=2048)] | None,
    BeforeValidator(_blank_is_none),
]
# A service account's key, the longest secret there is, takes about 2,400 characters.
Secret = Annotated[
    Annotated[SecretStr, _Field(max_length=65_536)] | None,
    BeforeValidator(_blank_is_none),
]
Endpoint = Annotated[Text, AfterValidator(_endpoint)]
