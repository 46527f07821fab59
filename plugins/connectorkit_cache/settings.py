"""The settings of the policies."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from connectorkit import PolicySettings

__all__ = ["ContentSettings", "HotSettings", "ListingsSettings"]


class HotSettings(PolicySettings):
    """Small objects in memory.

    Attributes:
        seconds: For how long an object is served without asking whether it still is
            what it was. So old may be what others wrote in place of it.
        max_bytes: How many bytes it keeps, of all objects of one connector type and its
            settings in one process, each with a KiB for what is known of it; what was
            not used for longest leaves.
        largest: Bytes; an object of more is read around it.
    """

    seconds: float = Field(default=2.0, ge=0, le=86_400)
    max_bytes: int = Field(default=64 << 20, gt=0)
    largest: int = Field(default=1 << 20, ge=0)


class ContentSettings(PolicySettings):
    """Whole objects on disk, shared by all processes of this user on this machine.

    Attributes:
        directory: Where they are; None for `connectorkit/content` in the user's cache
            directory.
        max_bytes: How many bytes of disk the directory takes, whoever fills it; what
            was not used for longest leaves. What finds no room is read around.
        largest: Bytes; an object of more is read around it.
        seconds: For how long an object that this process has asked about is served
            without asking again. By default it asks each time: what is read is what the
            storage had meanwhile.
        stale: Whether an object is served that this process has asked about before,
            while the circuit is open and nobody can ask.
        patience: Seconds to wait for another process that fetches an object and gets
            nothing more of it; then it is read around the cache.
    """

    directory: Path | None = None
    max_bytes: int = Field(default=2 << 30, gt=0)
    largest: int = Field(default=256 << 20, ge=0)
    seconds: float = Field(default=0.0, ge=0, le=86_400)
    stale: bool = True
    patience: float = Field(default=30.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.largest > self.max_bytes:
            raise ValueError(
                "'largest' is more than 'max_bytes': such an object would never stay"
            )
        return self

    @property
    def folder(self) -> Path:
        """Where they are."""
        if self.directory is not None:
            return self.directory.expanduser().absolute()
        from platformdirs import user_cache_path

        return user_cache_path("connectorkit") / "content"


class ListingsSettings(PolicySettings):
    """What a storage says is there, in memory.

    Attributes:
        seconds: For how long an answer holds. So old may be what others changed.
        missing_seconds: For how long it holds that something is not there; at most
            `seconds`.
        max_entries: How many files and folders it remembers, of one connector type and
            its settings in one process; what was not used for longest leaves.
    """

    seconds: float = Field(default=10.0, ge=0, le=86_400)
    missing_seconds: float = Field(default=2.0, ge=0, le=86_400)
    max_entries: int = Field(default=100_000, gt=0)
