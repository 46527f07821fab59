"""connectorkit.toml, the environment over it, and references to secrets."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from connectorkit.connector_type import valid_id
from connectorkit.errors import ConfigError, InvalidConnectorID

__all__ = [
    "ConnectorConfig",
    "KitConfig",
    "PluginsConfig",
    "PoliciesConfig",
    "PoolConfig",
    "Source",
    "StoreConfig",
    "did_you_mean",
    "has_reference",
    "is_reference",
    "load",
    "problems_of",
    "reveal",
]

FILENAME = "connectorkit.toml"
_OVERRIDE = "CONNECTORKIT__CONNECTORS__"
_REFERENCE = re.compile(r"(env|file):(.*)", re.DOTALL)
# A reference names a secret, not a data set; a key file is a few kilobytes.
_MOST_SECRET_BYTES = 1 << 20
# A hundred thousand connectors take about 20 MB.
_MOST_CONFIG_BYTES = 256 << 20


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


def _names(value: object) -> object:
    if isinstance(value, str):
        return tuple(name for part in value.split(",") if (name := part.strip()))
    return value


Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class _Policied(_Table):
    """A table whose further keys are the tables of policies."""

    model_config = ConfigDict(extra="allow")

    @model_validator(mode="after")
    def _only_tables(self) -> Self:
        if clash := self.tables.keys() & {"type", "settings"}:
            raise ValueError(f"{min(clash)!r} is no key of this table")
        for key, value in self.tables.items():
            if not isinstance(value, dict):
                near = did_you_mean(key, type(self).model_fields)
                hint = near or "; the settings of a policy are a table"
                raise ValueError(f"{key!r} is no key of this table{hint}")  # noqa: TRY004 - pydantic's word
        return self

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        """Leave the policies' tables out: they may hold secrets."""
        return ((k, v) for k, v in super().__repr_args__() if k not in self.tables)

    @property
    def tables(self) -> dict[str, dict[str, Any]]:
        """The settings of policies, by the policy's name."""
        return self.model_extra or {}


class ConnectorConfig(_Policied):
    """One configured connector: `[connectors.ID]`, or what a lookup hook returns.

    Attributes:
        type: A connector type's ID or alias.
        settings: The type's settings; texts may be references (`env:`, `file:`).
        policies: Names, outermost first; None for the defaults.
        trusted: Whether the settings are the host's own. Those of a tenant may hold
            no reference and may not fall back to the host's credentials.
    """

    type: str = Field(min_length=1, max_length=255)
    settings: dict[str, Any] = Field(default_factory=dict, repr=False)
    policies: Names | None = None
    trusted: bool = True


class StoreConfig(_Policied):
    """One store of the platform's own: `[system.NAME]`."""

    ids: tuple[str, ...] = ()
    provider: str | None = None
    credentials: dict[str, Any] = Field(default_factory=dict, repr=False)
    policies: Names | None = None

    @model_validator(mode="after")
    def _valid_ids(self) -> Self:
        for connector_id in self.ids:
            valid_id(connector_id)
        if self.credentials and not self.provider:
            raise ValueError("credentials stand without a provider")
        return self


class PoliciesConfig(_Policied):
    """`[policies]`: the defaults of every connector."""

    enabled: Names | None = None


class PluginsConfig(_Table):
    """`[plugins]`: which plugins serve.

    Attributes:
        disable: Names of plugins that are not loaded.
        adapters: Third parties' plugins whose system adapters may serve.
        prefer: By a name that two distributions offer, the one to take it from.
    """

    disable: Names = ()
    adapters: Names = ()
    prefer: dict[str, str] = Field(default_factory=dict)


class PoolConfig(_Table):
    """`[pool]`: how many filesystems stay open, and for how many idle seconds."""

    size: int = Field(default=256, ge=1, le=1_000_000)
    idle: float = Field(default=600, gt=0, allow_inf_nan=False)


class KitConfig(_Table):
    """The whole file."""

    connectors: dict[str, ConnectorConfig] = Field(default_factory=dict)
    system: dict[str, StoreConfig] = Field(default_factory=dict)
    policies: PoliciesConfig = PoliciesConfig()
    plugins: PluginsConfig = PluginsConfig()
    pool: PoolConfig = PoolConfig()

    @model_validator(mode="after")
    def _valid_ids(self) -> Self:
        for connector_id in self.connectors:
            valid_id(connector_id)
        return self


@dataclass(frozen=True, slots=True)
class Source:
    """A configuration and where it came from.

    Attributes:
        config: The configuration.
        path: Its file; None where there is none.
        portable: Whether another process finds the same by `path`.
    """

    config: KitConfig
    path: Path | None
    portable: bool

    @property
    def name(self) -> str:
        """Where it came from, for people."""
        if self.path:
            return str(self.path)
        return "the defaults" if self.portable else "a mapping in memory"


def load(
    config: str | os.PathLike[str] | Mapping[str, Any] | None,
    environ: Mapping[str, str],
) -> Source:
    """Read a configuration.

    Args:
        config: A path, a mapping of the file's shape, or None to search
            `$CONNECTORKIT_CONFIG`, the working directory upwards, then the user's
            configuration directory.
        environ: The environment.

    Raises:
        ConfigError: It cannot be read; says the line, or the path of the key.
    """
    if isinstance(config, Mapping):
        return Source(_validated(config, "the mapping given as config"), None, False)
    if not isinstance(config, str | os.PathLike | None):
        raise ConfigError(
            f"The configuration is a {type(config).__name__}: pass a path, a mapping, "
            "or nothing."
        )
    path = _find(environ) if config is None else Path(config)
    raw = {} if path is None else _parse(path)
    named = "the environment" if path is None else str(path)
    _override(raw, environ, named)
    return Source(_validated(raw, named), path and path.absolute(), True)


def _find(environ: Mapping[str, str]) -> Path | None:
    if chosen := environ.get("CONNECTORKIT_CONFIG"):
        return Path(chosen)
    from platformdirs import user_config_path

    here = Path.cwd()
    folders = (here, *here.parents, user_config_path("connectorkit"))
    return next((p for f in folders if (p := f / FILENAME).is_file()), None)


def _parse(path: Path) -> dict[str, Any]:
    text = ""
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_CONFIG_BYTES + 1).decode()
        if len(text) > _MOST_CONFIG_BYTES:
            raise ConfigError(f"{path} is too large for a configuration.")
        return tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"There is no configuration at {path}.") from None
    except IsADirectoryError:
        raise ConfigError(
            f"{path} is a directory: name the file in it, {FILENAME}."
        ) from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}).") from None
    except tomllib.TOMLDecodeError as error:
        # Where the text ends too early, tomllib does not say the line.
        where = "" if "line" in str(error) else f", line {len(text.splitlines())}"
        raise ConfigError(f"{path} is not TOML: {error}{where}.") from None
    except RecursionError:
        raise ConfigError(f"{path} is nested too deeply.") from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        # A number with thousands of digits, a path with a null character.
        raise ConfigError(f"{str(path)!r} cannot be read: {error}.") from None


def _override(
    raw: dict[str, Any], environ: Mapping[str, str], named: str
) -> dict[str, Any]:
    """Lay `CONNECTORKIT__CONNECTORS__<ID>__<KEY>` over what the file says."""
    for variable in sorted(environ):
        if not variable.startswith(_OVERRIDE):
            continue
        connector_id, *path = variable.removeprefix(_OVERRIDE).lower().split("__")
        if not connector_id or not path or not all(path):
            raise ConfigError(f"{variable} should read {_OVERRIDE}<ID>__<KEY>.")
        if len(path) == 1 and path[0] not in ConnectorConfig.model_fields:
            path.insert(0, "settings")
        table = raw
        for key in ("connectors", connector_id, *path[:-1]):
            table = table.setdefault(key, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{variable}: {key!r} is not a table in {named}.")
        table[path[-1]] = environ[variable]
    return raw


def _validated(raw: Mapping[str, Any], named: str) -> KitConfig:
    try:
        return KitConfig.model_validate(raw)
    except ValidationError as error:
        found = "; ".join(f"{k}: {v}" for k, v in problems_of(error).items())
        raise ConfigError(f"{named} is wrong: {found}.") from None
    except InvalidConnectorID as error:
        raise ConfigError(f"{named} is wrong: {error}") from None


_WORDS = {"missing": "is required", "extra_forbidden": "is not known here"}


def problems_of(error: ValidationError, known: Iterable[str] = ()) -> dict[str, str]:
    """Say what is wrong with each field, never what its value was."""
    found: dict[str, str] = {}
    for each in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part)[:60] for part in each["loc"]) or "it"
        text = _WORDS.get(each["type"]) or each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            text += did_you_mean(str(each["loc"][-1]), known)
        found.setdefault(path, text[:1].lower() + text[1:])
    return found


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return "; did you mean …?" where something close to `name` is known."""
    near = difflib.get_close_matches(name[:255], list(names), n=3)
    return f"; did you mean {' or '.join(map(repr, near))}?" if near else ""


def is_reference(value: object) -> bool:
    """Tell whether a setting refers to a secret: `env:NAME` or `file:/path`."""
    return isinstance(value, str) and _REFERENCE.fullmatch(value) is not None


def has_reference(value: object) -> bool:
    """Tell whether there is a reference anywhere within a setting."""
    if isinstance(value, Mapping):
        return any(map(has_reference, value.values()))
    if isinstance(value, list | tuple):
        return any(map(has_reference, value))
    return is_reference(value)


def reveal(settings: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """Replace each reference in `settings` by the secret that it names.

    Raises:
        ConfigError: A variable is not set or a file cannot be read; names the setting.
    """

    def revealed(value: Any, path: str) -> Any:
        match value:
            case str() if found := _REFERENCE.fullmatch(value):
                scheme, target = found.groups()
                if scheme == "env":
                    return _from_environ(target, path, environ)
                return _from_file(target, path)
            case dict():
                return {k: revealed(v, f"{path}.{k}") for k, v in value.items()}
            case list() | tuple():
                return [revealed(v, f"{path}[{i}]") for i, v in enumerate(value)]
        return value

    return {key: revealed(value, key) for key, value in settings.items()}


def _from_environ(name: str, path: str, environ: Mapping[str, str]) -> str:
    try:
        return environ[name]
    except (KeyError, ValueError):
        raise ConfigError(
            f"{path} refers to the environment variable {name!r}, which is not set"
        ) from None


def _from_file(name: str, path: str) -> str:
    try:
        with Path(name).open("rb") as file:
            content = file.read(_MOST_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "there can be no such file"
        raise ConfigError(f"{path} refers to the file {name!r}: {why}") from None
    if len(content) > _MOST_SECRET_BYTES:
        raise ConfigError(f"{path} refers to {name!r}, too large for a secret")
    try:
        return content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"{path} refers to {name!r}, which is not UTF-8") from None
