"""A third party's plugin, installed by pip beside the wheel, does all that ours do."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import tomllib
import venv
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from connectorkit.resolver import DEFAULT_POLICIES

_ROOT = Path(__file__).parents[1]
_ACME = Path(__file__).parent / "acme"
_TABLE = tomllib.loads((_ROOT / "pyproject.toml").read_text())["project"]
_OURS = _TABLE["entry-points"]["connectorkit"]
# What the extras bring; the wheel alone brings none of it.
_CLIENTS = (
    "aiobotocore",
    "aiohttp",
    "boto3",
    "botocore",
    "gcsfs",
    "google",
    "prometheus_client",
    "redis",
    "s3fs",
)
_PRELUDE = """
import json, os, sys
from connectorkit import *
def states(kit):
    return {i.name: i.state for i in kit.plugins()}
def answer(value):
    print(json.dumps(value))
"""


@dataclass(frozen=True)
class Host:
    """A host program's environment: the wheel and acme's, nothing else."""

    folder: Path

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.folder / "bin" / "python"

    def run(self, *command: str | Path, **environ: str) -> str:
        """Run a command far from the source tree; return what it prints."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=kept | environ,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def ask(self, script: str, **environ: str) -> Any:
        """Run a script with the public names at hand; return its answer."""
        return json.loads(
            self.run(self.python, "-c", _PRELUDE + dedent(script), **environ)
        )


def _pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _install(folder: Path) -> None:
    wheels = folder.with_name("wheels")
    alone = ("--no-deps", "--no-build-isolation")
    _pip("wheel", *alone, "--wheel-dir", wheels, _ROOT, _ACME)
    # The tests' own pip installs into it, which spares it one. What is imported is
    # compiled by that; of pydantic and rich most is not.
    venv.create(folder, symlinks=True)
    install = ("--python", folder / "bin" / "python", "install", "--no-compile")
    _pip(*install, *wheels.glob("*.whl"))


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """Install the wheel and acme's once, whichever test process comes first."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder = base / "third-party" / "host"
    folder.parent.mkdir(exist_ok=True)
    ready = folder.with_name("ready")
    with folder.with_name("lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not ready.exists():
            _install(folder)
            ready.touch()
    return Host(folder)


def _rival(folder: Path, module: str, name: str = "rival-boxes") -> dict[str, str]:
    """Lay a distribution that also offers `box` into a folder; return its path."""
    metadata = folder / f"{name.replace('-', '_')}-4.5.6.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: 4.5.6\n"
    )
    (metadata / "entry_points.txt").write_text("[connectorkit]\nbox = rival_boxes\n")
    (folder / "rival_boxes.py").write_text(dedent(module))
    return {"PYTHONPATH": str(folder)}


def test_is_listed_without_being_imported(host: Host) -> None:
    """A new kit lists the third party's plugin and has imported no plugin at all."""
    infos, imported = host.ask("""
        kit = ConnectorKit()
        answer([
            [(i.name, i.state, i.distribution, i.version) for i in kit.plugins()],
            [m for m in sys.modules if "connectorkit_" in m],
        ])
    """)
    assert ["box", "available", "acme-connectorkit-box", "1.2.3"] in infos
    assert imported == []


def test_command_lists_it(host: Host) -> None:
    """`connectorkit plugins --json` names each plugin, its state and its source."""
    text = host.run(host.folder / "bin" / "connectorkit", "plugins", "--json")
    listed = {each["name"]: each for each in json.loads(text)}
    assert listed.keys() == {"box", *_OURS}
    assert listed["box"]["state"] == "available"
    assert listed["box"]["distribution"] == "acme-connectorkit-box"
    assert listed["box"]["version"] == "1.2.3"


def test_entry_points_are_installed(host: Host) -> None:
    """The installed metadata names every first-party plugin, and acme's."""
    installed = host.ask("""
        from importlib.metadata import entry_points
        answer({e.name: e.value for e in entry_points(group="connectorkit")})
    """)
    assert installed == {**_OURS, "box": "acme_connectorkit_box"}


def test_type_is_resolved_and_used(host: Host) -> None:
    """Its type and aliases are one filesystem; of the types it alone is loaded."""
    found = host.ask("""
        with ConnectorKit() as kit:
            settings = {"token": "t", "room": "cellar"}
            fs = kit.resolve("box", settings).fs
            fs.pipe_file("a", b"content")
            states = states(kit)
            aliases = ["box|0c0a7e2e-4f3f-4a53-9d0e-6a4a2f3e8b11", "acme_box"]
            answer([
                [kit.resolve(alias, settings).fs.cat_file("a").decode()
                 for alias in aliases],
                states,
                repr(kit.resolve("box", settings)),
            ])
    """)
    contents, states, shown = found
    assert contents == ["content", "content"]
    loaded = {n for n, s in states.items() if s == "loaded"}
    assert loaded - {*DEFAULT_POLICIES} == {"box", "system"}
    assert shown == "<Connector 'box' (box)>"


def test_policy_is_enabled_by_the_config(host: Host) -> None:
    """A configured connector is wrapped by the third party's policy."""
    inside, policies = host.ask("""
        settings = {"token": "t", "room": "attic"}
        config = {"connectors": {
            "fenced": {"type": "box", "settings": settings, "policies": ["fence"],
                       "fence": {"folder": "shared"}},
            "bare": {"type": "box", "settings": settings},
        }}
        with ConnectorKit(config) as kit:
            kit.resolve("bare").fs.pipe_file("shared/a", b"inside")
            kit.resolve("bare").fs.pipe_file("b", b"outside")
            fenced = kit.resolve("fenced").fs
            answer([[fenced.cat_file("a").decode(), fenced.exists("b")],
                    kit.explain("fenced").policies])
    """)
    assert inside == ["inside", False]
    assert policies == ["fence"]


def test_lookup_answers(host: Host) -> None:
    """An ID that only the third party's lookup knows resolves; others stay unknown."""
    how, content, unknown = host.ask("""
        with ConnectorKit() as kit:
            kit.resolve("acme-office-7").fs.pipe_file("a", b"content")
            room = kit.resolve("box", {"token": "staff", "room": "7"})
            try:
                kit.resolve("acme-shop-7")
            except UnknownConnector as error:
                answer([kit.explain("acme-office-7").how,
                        room.fs.cat_file("a").decode(), str(error)])
    """)
    assert "'box'" in how
    assert content == "content"
    assert "acme-shop-7" in unknown


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"CONNECTORKIT_DISABLE": "box"}, "disabled"),
        ({"CONNECTORKIT_PLUGINS": ""}, "not in CONNECTORKIT_PLUGINS"),
        ({"CONNECTORKIT_PLUGINS": "memory"}, "not in CONNECTORKIT_PLUGINS"),
    ],
    ids=["disable", "allow none", "allow another"],
)
def test_is_blocked(host: Host, environ: dict[str, str], reason: str) -> None:
    """Turned off by either variable it is never imported, and ours all serve."""
    states, error, imported = host.ask(
        """
        with ConnectorKit() as kit:
            kit.resolve("memory").fs.pipe_file("a", b"")
            try:
                kit.resolve("box", {"token": "t"})
            except PluginBlocked as error:
                imported = "acme_connectorkit_box" in sys.modules
                answer([states(kit), str(error), imported])
        """,
        **environ,
    )
    assert states == dict.fromkeys(_OURS, "loaded") | {"box": "blocked"}
    assert reason in error
    assert not imported


def test_is_allowed(host: Host) -> None:
    """Named in the allow-list it serves, and so do ours, which are not named."""
    states = host.ask(
        """
        with ConnectorKit() as kit:
            kit.resolve("box", {"token": "t"})
            kit.resolve("memory", {})
            kit.registry.load_all()
            answer(states(kit))
        """,
        CONNECTORKIT_PLUGINS="box",
    )
    assert states == dict.fromkeys([*_OURS, "box"], "loaded")


def test_conflict_names_both_distributions(host: Host, tmp_path: Path) -> None:
    """Two for one name: an error that names both, until the config prefers one."""
    rival = """
        from connectorkit import ConnectorType, hookimpl
        from connectorkit_memory import Memory
        class Rival(Memory):
            id = "box"
            title = "Rival"
        @hookimpl
        def connectorkit_connectors():
            return [Rival]
    """
    error, titles, states = host.ask(
        """
        kit = ConnectorKit()
        try:
            kit.resolve("box", {})
        except PluginConflict as conflict:
            error = str(conflict)
        titles, all_states = [], []
        for name in ["rival-boxes", "acme-connectorkit-box"]:
            kit = ConnectorKit({"plugins": {"prefer": {"box": name}}})
            titles.append(kit.registry.connector_type("box")[0].title)
            all_states.append(sorted(
                (i.distribution, i.state) for i in kit.plugins() if i.name == "box"
            ))
        answer([error, titles, all_states])
        """,
        **_rival(tmp_path, rival),
    )
    assert "acme-connectorkit-box 1.2.3" in error
    assert "rival-boxes 4.5.6" in error
    assert titles == ["Rival", "Acme Box"]
    assert states == [
        [["acme-connectorkit-box", "shadowed"], ["rival-boxes", "loaded"]],
        [["acme-connectorkit-box", "loaded"], ["rival-boxes", "shadowed"]],
    ]


def test_broken_plugin_breaks_nobody_else(host: Host, tmp_path: Path) -> None:
    """One that fails to import is recorded, and raised when it is asked for."""
    (tmp_path / "wreck.py").write_text("import nowhere_to_be_found")
    metadata = tmp_path / "wreck-0.1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: wreck\nVersion: 0.1\n"
    )
    (metadata / "entry_points.txt").write_text("[connectorkit]\nwreck = wreck\n")
    error, cause, content, state = host.ask(
        """
        with ConnectorKit() as kit:
            kit.resolve("acme-office-8").fs.pipe_file("a", b"content")
            content = kit.resolve("acme-office-8").fs.cat_file("a").decode()
            try:
                kit.resolve("wreck", {})
            except PluginFailed as failed:
                answer([str(failed), type(failed.__cause__).__name__, content,
                        states(kit)["wreck"]])
        """,
        PYTHONPATH=str(tmp_path),
    )
    assert "wreck 0.1" in error
    assert "nowhere_to_be_found" in error
    assert cause == "ModuleNotFoundError"
    assert content == "content"
    assert state == "failed"


def test_our_plugins_import_without_their_extras(host: Host) -> None:
    """With no extra installed every first-party module imports."""
    states, clients = host.ask(f"""
        import importlib
        from importlib.util import find_spec
        for module in {sorted(_OURS.values())!r}:
            importlib.import_module(module)
        kit = ConnectorKit()
        kit.registry.load_all()
        answer([states(kit), [name for name in {_CLIENTS!r} if find_spec(name)]])
    """)
    assert clients == []
    assert {name: states[name] for name in _OURS} == dict.fromkeys(_OURS, "loaded")


@pytest.mark.parametrize(
    ("connector_id", "settings", "extra"),
    [
        ("s3", {"key": "k", "secret": "s"}, "s3"),
        ("minio", {"key": "k", "secret": "s", "endpoint_url": "http://a.test"}, "s3"),
        ("gcs", {"token": "anon"}, "gcs"),
    ],
)
def test_missing_extra_says_what_to_install(
    host: Host, connector_id: str, settings: dict[str, str], extra: str
) -> None:
    """Without its client a type says the line for pip, as an ImportError."""
    error, is_import_error = host.ask(f"""
        try:
            ConnectorKit().resolve({connector_id!r}, {settings!r})
        except MissingExtra as error:
            answer([str(error), isinstance(error, ImportError)])
    """)
    assert re.search(rf"pip install 'connectorkit\[{extra}\]'", error)
    assert is_import_error
