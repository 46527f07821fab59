"""What a connector type's settings are made of."""

from __future__ import annotations

import re
from ipaddress import ip_address
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

__all__ = ["Endpoint", "Secret", "Settings", "Text", "refused_endpoint"]


class Settings(BaseModel):
    """The base of a connector type's settings.

    Give each field a title and a description: `connectorkit schema TYPE` prints the
    model's JSON Schema, which a web form shows. Mark secrets by `SecretStr`, or by
    `Secret`, which also reads an empty text as "not given". Validators find in
    `info.context["trusted"]` whether the settings are the host's own.
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


_ODD = re.compile(r"[\x00-\x20\x7f\\@?#]")
# Amazon's and Google's by IPv6; by IPv4 they are link-local.
_METADATA = {ip_address("fd00:ec2::254"), ip_address("fd20:ce::254")}
_METADATA_NAMES = {"metadata", "metadata.google.internal", "instance-data"}


def _blank_is_none(value: object) -> object:
    # A web form sends an empty field as "", which means "not given".
    return None if isinstance(value, str) and not value.strip() else value


def _endpoint(url: str | None) -> str | None:
    if url is None:
        return None
    # Two parsers may read two hosts from one text that holds any of these.
    if _ODD.search(url):
        raise ValueError("must be an address without credentials or odd characters")
    try:
        parts = urlsplit(url)
        is_good = parts.scheme in {"http", "https"} and parts.port != 0
    except ValueError:
        # Its text would show what stands before an @.
        is_good = False
    if not is_good or not parts.hostname:
        raise ValueError("must read like https://host or http://host:9000")
    return url.rstrip("/")


def refused_endpoint(url: str | None) -> Mapping[str, str]:
    """Refuse, for `Settings.refusals`, an endpoint that only this machine reaches.

    The addresses of clouds' metadata services hand out the host's own credentials. A
    name that resolves to one is not recognised: whoever lets strangers choose
    endpoints needs a firewall, too.
    """
    host = (urlsplit(url).hostname or "") if url else ""
    try:
        is_near = ip_address(host).is_link_local or ip_address(host) in _METADATA
    except ValueError:
        is_near = host.rstrip(".") in _METADATA_NAMES
    if is_near:
        return {"endpoint_url": "leads to this machine's metadata service"}
    return {}


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
