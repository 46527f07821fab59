"""gcsfs's plain JSON client, imported without the gRPC one beside it.

gcsfs's package imports the gRPC client unless the environment says otherwise, and a
process that used it hangs in its forked children. So all of gcsfs comes from here.
"""

from __future__ import annotations

import os

__all__ = [
    "GCSFile",
    "GCSFileSystem",
    "HttpError",
    "fixed_metadata",
    "get_consistency_checker",
    "quote",
    "validate_response",
]

_SWITCH = "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"
_was_set = _SWITCH in os.environ
# An environment that asks for it keeps its say, and nobody else is told.
os.environ.setdefault(_SWITCH, "false")
try:
    from gcsfs.checkers import get_consistency_checker
    from gcsfs.core import GCSFile, GCSFileSystem, quote
    from gcsfs.core import _convert_fixed_key_metadata as fixed_metadata
    from gcsfs.retry import HttpError, validate_response
finally:
    if not _was_set:
        del os.environ[_SWITCH]
