"""A kit without storages, for the tests of hosts."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from connectorkit import ConnectorKit

__all__ = ["memory_kit"]


def memory_kit(
    *connector_ids: str, **connectors: Mapping[str, bytes | str]
) -> ConnectorKit:
    """Return a kit whose connectors keep their files in this process's memory.

    ```python
    kit = memory_kit("inbox", reports={"2024/a.csv": b"1,2"})
    assert kit.resolve("reports").fs.cat_file("2024/a.csv") == b"1,2"
    ```

    No two kits and no two connectors share a file. The files stay in memory until the
    process ends.

    Args:
        *connector_ids: Connectors that are empty.
        **connectors: Connectors with files: content by path; text is UTF-8.

    Raises:
        ConfigError: A connector ID is malformed.
        TypeError: One is named twice.
    """
    from connectorkit import ConnectorKit

    if twice := sorted({*connector_ids} & {*connectors}):
        raise TypeError(f"memory_kit() got {twice[0]!r} both empty and with files.")
    # The stores of one name are one store, and outlive their kit.
    unique = secrets.token_hex(8)
    ids = (*connector_ids, *connectors)
    tables = {
        each: {"type": "memory", "settings": {"name": f"{unique}/{number}"}}
        for number, each in enumerate(ids)
    }
    kit = ConnectorKit({"connectors": tables})
    for each, files in connectors.items():
        fs = kit.resolve(each).fs
        for path, content in files.items():
            fs.pipe_file(
                path, content.encode() if isinstance(content, str) else content
            )
    return kit
