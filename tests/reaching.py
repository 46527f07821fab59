"""What the tests of tools and of many processes share: connectors in a real file.

```python
with Reach(rclone, tmp_path) as reach:
    fsspec.open(reach.url("a.parquet"))      # as any process would that has the file
```
"""

from __future__ import annotations

import os
from collections import Counter
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import pytest

from connectorkit import ConnectorKit, set_default_kit
from connectorkit.testing import FaultProxy

if TYPE_CHECKING:
    from pathlib import Path

    from servers import S3Server

__all__ = ["MINE", "SYSTEM", "Reach"]

MINE = "minio|c799f6e3-2b57-434e-aaac-b5daa415da19"
SYSTEM = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"

_CONFIG = """
[connectors."{mine}"]
type = "minio"
retry = {{ base_delay = 0 }}
[connectors."{mine}".settings]
endpoint_url = "{url}"
key = "env:REACH_KEY"
secret = "env:REACH_SECRET"
region_name = "us-east-1"

[connectors.files]
type = "local"
settings = {{ path = "{folder}/files" }}

[connectors.notes]
type = "memory"

[system.WORKFLOW_EXECUTION]
provider = "minio"
[system.WORKFLOW_EXECUTION.credentials]
endpoint_url = "{url}"
key = "env:REACH_KEY"
secret = "env:REACH_SECRET"
"""


class Reach:
    """Connectors to a server behind a proxy, by a connectorkit.toml; for a `with`.

    `$CONNECTORKIT_CONFIG` names the file, for this process and for its children.

    Attributes:
        proxy: What stands between.
        bucket: A bucket of its own.
        config: The file.
        kit: The process's default kit meanwhile.
        secrets: What no bytes may hold.
    """

    def __init__(self, server: S3Server, folder: Path) -> None:
        self.proxy = FaultProxy(server.endpoint_url)
        self.bucket = server.bucket()
        self.config = folder / "connectorkit.toml"
        self.secrets = (server.key, server.secret)
        self._folder = folder
        self._ends = ExitStack()

    def __enter__(self) -> Self:
        self._ends.enter_context(self.proxy)
        patch = self._ends.enter_context(pytest.MonkeyPatch.context())
        config = _CONFIG.format(mine=MINE, url=self.proxy.url, folder=self._folder)
        self.config.write_text(config)
        key, secret = self.secrets
        variables = {"KEY": key, "SECRET": secret}
        for name, value in variables.items():
            patch.setenv(f"REACH_{name}", value)
        patch.setenv("CONNECTORKIT_CONFIG", str(self.config))
        self.kit = self._ends.enter_context(ConnectorKit())
        self._ends.enter_context(set_default_kit(self.kit))
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ends.close()

    def path(self, key: str) -> str:
        """Return a key's path of the `connector://` filesystem."""
        return f"{MINE}/{self.bucket}/{key}"

    def url(self, key: str) -> str:
        """Return a key's URL."""
        return f"connector://{self.path(key)}"

    def asked(self) -> Counter[str]:
        """Return how often each operation was asked for."""
        return Counter(each.operation for each in self.proxy.log)

    def quiet(self) -> None:
        """End all faults, and forget what was asked."""
        self.proxy.heal()
        self.proxy.clear()

    def has_secret(self, data: bytes | str) -> bool:
        """Tell whether something holds a secret."""
        text = data if isinstance(data, bytes) else data.encode()
        return any(each.encode() in text for each in self.secrets)

    @property
    def environment(self) -> dict[str, Any]:
        """The variables for a child."""
        return dict(os.environ)
