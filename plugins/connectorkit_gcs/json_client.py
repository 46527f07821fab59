"""gcsfs's plain JSON client, imported without the gRPC one beside it.

gcsfs's package imports the gRPC client unless the environment says otherwise, and a
process that used it hangs in its forked children.
"""

from __future__ import annotations

import os

__all__ = ["GCSFile", "GCSFileSystem"]

_SWITCH = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
_was_set = _SWITCH in os.environ
# An environment that asks for it keeps its say, and nobody else is told.
os.environ.setdefault(_SWITCH, "false")
try:
    from gcsfs.core import GCSFile, GCSFileSystem
finally:
    if not _was_set:
        del os.environ[_SWITCH]
