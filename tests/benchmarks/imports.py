"""What it costs to import connectorkit, and what its command line loads.

Run: python tests/benchmarks/imports.py
"""

from __future__ import annotations

import subprocess
import sys
import time

from _bench import finish, median

ROUNDS = 15
CLIENTS = ("s3fs", "gcsfs", "aiobotocore", "botocore", "boto3", "aiohttp", "redis",
           "prometheus_client")  # fmt: skip
HELP = f"""
import sys
from connectorkit.cli import main
sys.argv = ["connectorkit", "--help"]
try:
    main()
except SystemExit:
    pass
print([name for name in {CLIENTS!r} if name in sys.modules], file=sys.stderr)
"""
SNIPPETS = {
    "bare": "pass",
    "import connectorkit": "import connectorkit",
    "hookimpl (a plugin)": "from connectorkit import hookimpl",
    "ConnectorKit (a host)": "from connectorkit import ConnectorKit",
    "import pluggy": "import pluggy",
}


def milliseconds(code: str) -> float:
    """Time a fresh interpreter that runs `code`."""
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return (time.perf_counter() - begin) * 1e3


def main() -> None:
    """Measure."""
    times: dict[str, list[float]] = {name: [] for name in SNIPPETS}
    for code in SNIPPETS.values():
        milliseconds(code)
    for _ in range(ROUNDS):
        for name, code in SNIPPETS.items():
            times[name].append(milliseconds(code))
    bare = median(times["bare"])
    over = {name: median(each) - bare for name, each in times.items()}
    for name, each in over.items():
        print(f"{name:>22} {each:7.1f} ms over a bare interpreter")
    done = subprocess.run(
        [sys.executable, "-c", HELP], check=True, capture_output=True, text=True
    )
    finish(
        "imports",
        import_ms=round(over["import connectorkit"], 1),
        hookimpl_ms=round(over["hookimpl (a plugin)"], 1),
        kit_ms=round(over["ConnectorKit (a host)"], 1),
        pluggy_ms=round(over["import pluggy"], 1),
        help_loads=done.stderr.strip(),
        targets={"import_ms": 60, "help_loads": "[]"},
    )


if __name__ == "__main__":
    main()
