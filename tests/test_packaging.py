"""What is built and installed is what the tree holds, and who imports whom."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TABLE = PROJECT["entry-points"]["connectorkit"]
CLIENTS = (
    "aiobotocore",
    "aiohttp",
    "boto3",
    "botocore",
    "gcsfs",
    "prometheus_client",
    "redis",
    "s3fs",
)
# Who may build on whom, beside the core.
BUILDS_ON = {("connectorkit_minio", "connectorkit_s3")}


@dataclass(frozen=True)
class Source:
    """A file of Python, and the top-level module that it belongs to."""

    path: Path
    module: str

    def imported(self) -> Iterator[str]:
        """Tell the top-level modules that it imports, wherever in the file."""
        for node in ast.walk(ast.parse(self.path.read_bytes())):
            if isinstance(node, ast.Import):
                yield from (alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                module = node.module or ""
                yield self.module if node.level else module.partition(".")[0]

    def texts(self) -> set[str]:
        """Tell the texts that stand in it, by which it might import."""
        nodes = ast.walk(ast.parse(self.path.read_bytes()))
        values = [node.value for node in nodes if isinstance(node, ast.Constant)]
        return {value for value in values if isinstance(value, str)}


def _modules(folder: str) -> list[str]:
    return sorted(
        path.stem
        for path in (ROOT / folder).iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    )


def _files(folder: str) -> list[Path]:
    """Tell the files of a folder that git would keep, relative to the root."""
    return sorted(
        path.relative_to(ROOT)
        for path in (ROOT / folder).rglob("*")
        if path.is_file()
        and not {"__pycache__", ".hypothesis"} & set(path.parts)
        and path.suffix != ".pyc"
    )


def _sources(*folders: str) -> list[Source]:
    found = []
    for folder in folders:
        for path in _files(folder):
            if path.suffix == ".py":
                stem = path.parts[0] if folder == "connectorkit" else path.parts[1]
                found.append(Source(ROOT / path, stem.removesuffix(".py")))
    return found


PLUGINS = [*_modules("plugins"), *_modules("adapters")]


# The tree


def test_each_plugin_has_an_entry_point() -> None:
    """The table of entry points and the plugins on disk name the same modules."""
    assert sorted({each.partition(".")[0] for each in TABLE.values()}) == sorted(
        PLUGINS
    )


def test_entry_point_is_named_after_its_module() -> None:
    """A first-party plugin's name is its module's, without prefix and package.

    What is loaded on demand is loaded alone: each policy of a package has its own.
    """
    for name, module in TABLE.items():
        package, _, inner = module.partition(".")
        assert name == (inner or package.removeprefix("connectorkit_"))


def test_entry_points_are_installed() -> None:
    """The installed metadata is not older than pyproject.toml.

    Where it is, `pip install -e .` brings the new entry points.
    """
    installed = metadata.distribution("connectorkit").entry_points
    found = {e.name: e.value for e in installed if e.group == "connectorkit"}
    assert found == TABLE


@pytest.mark.parametrize("folder", ["plugins", "adapters"])
def test_plugins_alone_stand_in_their_folders(folder: str) -> None:
    """Each file there is of a module `connectorkit_*`, and the folder no package."""
    tops = {path.parts[1] for path in _files(folder)}
    assert all(re.fullmatch(r"connectorkit_[a-z0-9]+(\.py)?", top) for top in tops)
    assert {top.removesuffix(".py") for top in tops} == set(_modules(folder))


def test_no_module_twice() -> None:
    """Two folders of plugins hold no module of one name."""
    assert len(PLUGINS) == len(set(PLUGINS))


# Who imports whom


@pytest.mark.parametrize(
    "source",
    _sources("plugins", "adapters"),
    ids=lambda source: str(source.path.relative_to(ROOT)),
)
def test_plugin_imports_the_core_alone(source: Source) -> None:
    """A plugin imports connectorkit, and no other plugin but what it builds on."""
    imported = set(source.imported())
    assert not imported & {"plugins", "adapters", "tests"}
    others = imported & {*PLUGINS} - {source.module}
    assert {(source.module, other) for other in others} <= BUILDS_ON


@pytest.mark.parametrize(
    "source",
    _sources("connectorkit"),
    ids=lambda source: str(source.path.relative_to(ROOT)),
)
def test_core_imports_no_plugin(source: Source) -> None:
    """The core names no plugin's module, neither in an import nor in a text."""
    assert not set(source.imported()) & {*PLUGINS, "plugins", "adapters", "tests"}
    assert not source.texts() & {*PLUGINS}


def _loaded_by(*modules: str) -> set[str]:
    """Import modules in a fresh interpreter; tell the top-level modules loaded."""
    script = (
        f"import json, sys, {', '.join(modules)}\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_plugins_import_no_client() -> None:
    """To import the first-party plugins, all of them, loads no client library."""
    assert not _loaded_by(*PLUGINS) & {*CLIENTS}


def test_import_is_cheap() -> None:
    """To import connectorkit loads no library but Python's own."""
    libraries = {"click", "fsspec", "platformdirs", "pluggy", "pydantic", "rich"}
    assert not _loaded_by("connectorkit") & {*libraries, *CLIENTS, *PLUGINS}


# What is built


@dataclass(frozen=True)
class Built:
    """The names of the files in each archive, and the wheel's metadata."""

    sdist: set[str]
    wheel: set[str]
    requires: list[str]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build the sdist from the tree, and the wheel from the sdist."""
    folder = tmp_path_factory.mktemp("dist")
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    with tarfile.open(sdist) as archive:
        members = [m.name for m in archive.getmembers() if m.isfile()]
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (named,) = [name for name in names if name.endswith("dist-info/METADATA")]
        told = archive.read(named).decode().splitlines()
    return Built(
        sdist={name.partition("/")[2] for name in members},
        wheel=names,
        requires=[
            line.partition(": ")[2] for line in told if line.startswith("Requires-Dist")
        ],
    )


def test_wheel_holds_the_packages_alone(built: Built) -> None:
    """The wheel's top levels are connectorkit, the plugins and its own metadata."""
    tops = {name.partition("/")[0].removesuffix(".py") for name in built.wheel}
    dist_info = f"connectorkit-{PROJECT['version']}.dist-info"
    assert tops == {"connectorkit", dist_info, *PLUGINS}


def test_wheel_holds_every_file(built: Built) -> None:
    """Each file of the core and the plugins is in the wheel, and no other."""
    expected = {str(path) for path in _files("connectorkit")}
    for folder in ("plugins", "adapters"):
        expected |= {str(path.relative_to(folder)) for path in _files(folder)}
    assert {name for name in built.wheel if ".dist-info/" not in name} == expected


def test_wheel_says_that_it_is_typed(built: Built) -> None:
    """Type checkers read the core's annotations: py.typed is there."""
    assert "connectorkit/py.typed" in built.wheel


def test_wheel_alone_requires_no_client(built: Built) -> None:
    """Client libraries are required by extras only."""
    plain = [line for line in built.requires if "extra ==" not in line]
    names = {re.split(r"[^\w-]", line)[0].replace("-", "_") for line in plain}
    assert not names & {*CLIENTS}


def test_sdist_holds_what_make_and_the_tests_need(built: Built) -> None:
    """From the sdist alone it is built, tested and checked as from the tree."""
    folders = ("connectorkit", "plugins", "adapters", "tests")
    expected = {str(path) for folder in folders for path in _files(folder)}
    expected |= {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile"}
    # hatchling adds these of its own accord.
    assert built.sdist - {".gitignore", "PKG-INFO"} == expected
