"""Policies: what wraps every connector without the connector or the host knowing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import BaseModel, ConfigDict

from connectorkit.errors import ConnectorKitError, PluginFailed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsspec import AbstractFileSystem

    from connectorkit.connector import Connector

__all__ = ["Policy", "PolicySettings", "is_filesystem", "wrap"]


class PolicySettings(BaseModel):
    """The base of a policy's settings: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)


class Policy:
    """Wraps a connector's filesystem; provided by a plugin, enabled by its name.

    Attributes:
        name: The name in `policies = [...]`.
        Settings: The model of the policy's table in the configuration.
    """

    name: ClassVar[str]
    Settings: ClassVar[type[BaseModel]] = PolicySettings

    def __init__(self, settings: Any = None) -> None:
        self.settings: Any = self.Settings() if settings is None else settings

    def filesystem(
        self, fs: AbstractFileSystem, connector: Connector
    ) -> AbstractFileSystem:
        """Return what the host gets for `fs`; by default `fs` itself."""
        del connector
        return fs


def wrap(
    fs: AbstractFileSystem, policies: Iterable[Policy], connector: Connector
) -> AbstractFileSystem:
    """Fold `policies`, outermost first, around `fs`.

    Raises:
        PluginFailed: A policy failed, or returned what is no filesystem.
    """
    for policy in reversed(tuple(policies)):
        try:
            wrapped = policy.filesystem(fs, connector)
        except ConnectorKitError:
            raise
        except Exception as error:
            raise PluginFailed(
                f"Policy {policy.name!r} failed on connector {connector.id!r}: "
                f"{type(error).__name__}: {error}."
            ) from error
        if not is_filesystem(wrapped):
            raise PluginFailed(
                f"Policy {policy.name!r} returned {wrapped!r:.80} in place of the "
                f"filesystem of connector {connector.id!r}."
            )
        fs = wrapped
    return fs


def is_filesystem(it: object) -> bool:
    """Tell whether something is an fsspec filesystem, fsspec not imported."""
    return hasattr(it, "unstrip_protocol") and not isinstance(it, type)
