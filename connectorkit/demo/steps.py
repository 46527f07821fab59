"""The steps of the demo, told as they are made."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import connectorkit
from connectorkit import CheckFailed, Connector, ConnectorKit
from connectorkit.cli import output
from connectorkit.cli.exits import Failure
from connectorkit.cli.places import Place
from connectorkit.cli.transfer import copy
from connectorkit.demo import plugin

if TYPE_CHECKING:
    from connectorkit.demo.server import Server
    from connectorkit.demo.teller import Teller

__all__ = ["BUCKET", "SYSTEM_ID", "Steps"]

# The store of workflows, under the ID by which the source system's hosts know it.
SYSTEM_ID: Final = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"
BUCKET: Final = "sources"
_SHOWN: Final = 4


class Steps:
    """The whole job, step by step.

    Args:
        kit: A kit of the demo's own configuration.
        directory: Where the demo leaves what it makes.
        teller: What tells of it.
        server: The S3 server on which the connector `reports` is.
    """

    def __init__(
        self, kit: ConnectorKit, directory: Path, teller: Teller, server: Server
    ) -> None:
        self.kit = kit
        self.directory = directory
        self.teller = teller
        self.server = server
        root = Path(connectorkit.__file__).parent
        self.sources = {
            f"{root.name}/{path.relative_to(root)}": path
            for path in sorted(root.rglob("*.py"))
        }

    def run(self) -> None:
        """Go through all of them.

        Raises:
            Failure: One did not do what the demo says that it does.
        """
        archive = self._register_a_plugin()
        store = self._resolve_the_system_id()
        reports = self._resolve_a_connector()
        self._copy_both_ways(archive, store, reports)
        self._explain()
        self._check_a_wrong_secret()

    def _register_a_plugin(self) -> Connector:
        self.teller.begin("A plugin teaches the kit a storage")
        self.teller.code(inspect.getsource(plugin))
        self.teller.say("That was all of it. It is registered by hand, and resolved:")
        path = self.directory / "sources.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, source in self.sources.items():
                file.write(source, name)
        self.teller.code(
            'kit.register(plugin, name="zip")\n'
            f'archive = kit.resolve("zip", {{"path": "{path.name}"}}, trusted=True)\n'
            'archive.fs.find("")'
        )
        self.kit.register(plugin, name="zip")
        archive = self.kit.resolve("zip", {"path": str(path)}, trusted=True)
        found = archive.fs.find("")
        self.teller.result(f"{len(found)} files: the sources of this package")
        return archive

    def _resolve_the_system_id(self) -> Connector:
        self.teller.begin("The platform's own store answers to a system-internal ID")
        self.teller.code(
            f'store = kit.resolve("{SYSTEM_ID}")\n'
            'store.fs.pipe_file("hello.txt", b"Hello from the demo.\\n")\n'
            'store.fs.cat_file("hello.txt")'
        )
        store = self.kit.resolve(SYSTEM_ID)
        store.fs.pipe_file("hello.txt", b"Hello from the demo.\n")
        self.teller.result(repr(store.fs.cat_file("hello.txt")))
        self.teller.code(f'kit.resolve("{SYSTEM_ID}").fs is store.fs')
        is_shared = self.kit.resolve(SYSTEM_ID).fs is store.fs
        self.teller.result(f"{is_shared}: all who resolve it share one filesystem")
        return store

    def _resolve_a_connector(self) -> Connector:
        self.teller.begin("A user's connector is on a real S3 server")
        self.teller.say(
            f"rclone serves S3 at {self.server.endpoint_url}; [connectors.reports] in "
            "connectorkit.toml leads there."
        )
        self.teller.code(
            f'reports = kit.resolve("reports")\nreports.fs.mkdir("{BUCKET}")\n'
            "reports.check()"
        )
        reports = self.kit.resolve("reports")
        reports.fs.mkdir(BUCKET)
        reports.check()
        self.teller.result(f"{reports!r} works")
        return reports

    def _copy_both_ways(
        self, archive: Connector, store: Connector, reports: Connector
    ) -> None:
        self.teller.begin("Files go there and come back")
        self.teller.say(
            "From the archive to the platform's store, from there to the S3 server, "
            "and from there to this machine: streamed, and whole or not at all."
        )
        begin = time.perf_counter()
        count = 0
        rows = []
        for name, source in self.sources.items():
            back = self.directory / "back" / name
            way = (
                Place(f"zip:{name}", name, archive),
                Place(f"{SYSTEM_ID}:{name}", name, store),
                Place(f"reports:{BUCKET}/{name}", f"{BUCKET}/{name}", reports),
                Place.local(str(back)),
            )
            for here, there in itertools.pairwise(way):
                count += copy(here, there, None, lambda _count: None)
            digest = _digest(source)
            if _digest(back) != digest:
                raise Failure(f"{name} came back other than it went.")
            rows.append((name, output.size(source.stat().st_size), f"{digest:.24}…"))
        seconds = time.perf_counter() - begin
        self.teller.table(rows[:_SHOWN], ("file", "size", "SHA-256, there and back"))
        self.teller.say(
            f"… {len(rows)} files three times each, {output.size(count)} in "
            f"{seconds:.1f} s, and every digest is the same."
        )

    def _explain(self) -> None:
        self.teller.begin("explain tells how an ID resolves, without its secrets")
        for connector_id in (SYSTEM_ID, "reports"):
            self.teller.code(f'kit.explain("{connector_id}")')
            told = self.kit.explain(connector_id)
            settings = [f"{k} = {v}" for k, v in told.settings.items() if v is not None]
            self.teller.table(
                [
                    ("how", told.how),
                    ("type", told.type),
                    ("plugin", f"{told.plugin} of {told.distribution}"),
                    ("shared", "yes" if told.is_shared else "no"),
                    ("policies", ", ".join(told.policies) or "none"),
                    ("settings", "\n".join(settings)),
                ]
            )

    def _check_a_wrong_secret(self) -> None:
        self.teller.begin("check says what to mend")
        self.teller.code(
            'wrong = {"endpoint_url": ..., "key": ..., "secret": "not the secret"}\n'
            'kit.resolve("minio", wrong).check()'
        )
        wrong = {
            "endpoint_url": self.server.endpoint_url,
            "key": self.server.key,
            "secret": "not the secret",
        }
        try:
            self.kit.resolve("minio", wrong).check()
        except CheckFailed as error:
            self.teller.result(f"CheckFailed: {error}")
        else:
            raise Failure("The server took a wrong secret for a right one.")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
