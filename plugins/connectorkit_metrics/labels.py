"""Labels: as many values as are good for a Prometheus server, and no tenant's names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable

    from connectorkit.scope import Scope
    from connectorkit_metrics.settings import MetricsSettings

__all__ = ["OTHER", "Bounded", "Labels"]

OTHER: Final = "other"
# A host's own names for its operations may be any.
_MOST_OPERATIONS = 50
_LONGEST = 100


class Bounded:
    """The values of a label: those listed, or the first so many; the rest is `other`.

    Args:
        most: How many.
        listed: These and no others.
    """

    def __init__(self, most: int, listed: Iterable[str] | None = None) -> None:
        self._known: dict[Hashable, str] = {}
        self._listed = None if listed is None else {*listed}
        self._most = most

    def __call__(self, value: str, of: Hashable = None) -> str:
        """Return a value as it is exported.

        Args:
            value: The value.
            of: What it belongs to; that of another is counted as another.
        """
        key = value, of
        if (known := self._known.get(key)) is not None:
            return known
        is_full = len(self._known) >= self._most
        if is_full if self._listed is None else value not in self._listed:
            return OTHER
        known = self._known[key] = _clean(value)
        return known


class Labels:
    """The labels of operations, by a policy's settings.

    Args:
        settings: The policy's. The source's names know buckets and no connectors.
    """

    def __init__(self, settings: MetricsSettings) -> None:
        self._connector = Bounded(settings.most_connectors, settings.connectors)
        self._bucket = Bounded(settings.most_buckets, settings.buckets)
        self._is_bucket_listed = settings.buckets is not None
        self._of_source = settings.names == "source"
        self._organization = Bounded(
            settings.most_organizations, settings.organizations
        )
        self._has_organizations = bool(
            settings.organizations or settings.most_organizations
        )
        self.operation = Bounded(_MOST_OPERATIONS)

    def place(self, scope: Scope, bucket: str) -> tuple[str, str]:
        """Return the labels of a connector and a bucket."""
        if self._of_source:
            return "", self._bucket(bucket)
        if scope.is_adhoc:
            connector = scope.type
            is_open = self._is_bucket_listed
        else:
            connector = self._connector(scope.connector)
            is_open = connector != OTHER or self._is_bucket_listed
        if not bucket:
            return connector, ""
        return connector, self._bucket(bucket, connector) if is_open else OTHER

    def organization(self, name: str) -> str:
        """Return the label of an organisation: none, unless the settings name some."""
        return self._organization(name) if name and self._has_organizations else ""


def _clean(value: str) -> str:
    """Make a text of a value: one that cannot be encoded would break every scrape."""
    return value[:_LONGEST].encode(errors="replace").decode()
