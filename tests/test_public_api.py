"""The public names: all there, all lazy, and the errors as their tree is drawn."""

from __future__ import annotations

import ast
import copy
import inspect
import json
import pickle
import pkgutil
import re
import subprocess
import sys
from importlib import metadata
from typing import Any, NamedTuple

import pytest

import connectorkit
from connectorkit import ConnectorKit, ConnectorKitError, errors

ERRORS = [getattr(errors, name) for name in errors.__all__]
# By class, what its constructor takes beside the message.
FURTHER: dict[str, dict[str, Any]] = {
    "CheckFailed": {"remedy": "mend it"},
    "CircuitOpen": {"circuit": "download", "retry_after": 1.5},
    "InvalidSettings": {"problems": {"key": "is required"}},
}


# Names


def test_names_are_sorted() -> None:
    """`__all__` is in order and names nothing twice."""
    assert connectorkit.__all__ == sorted(set(connectorkit.__all__))


def test_names_are_lazy() -> None:
    """No module of the package is imported before a name is used; then each is."""
    script = """
import json, sys, connectorkit
before = [name for name in sys.modules if name.startswith("connectorkit.")]
there = [name for name in connectorkit.__all__ if name in vars(connectorkit)]
missing = [name for name in connectorkit.__all__ if not hasattr(connectorkit, name)]
print(json.dumps([before, there, missing]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == [[], [], []]


def test_no_module_takes_a_name() -> None:
    """A module of a public name would take its place as soon as it is imported."""
    modules = {each.name for each in pkgutil.iter_modules(connectorkit.__path__)}
    assert modules.isdisjoint(connectorkit.__all__)


@pytest.mark.parametrize("name", connectorkit.__all__)
def test_name_is_imported_from_its_home(name: str) -> None:
    """Each name is public in its module, and is the same object there."""
    value = getattr(connectorkit, name)
    home = connectorkit._HOME.get(name, "errors")
    module = sys.modules[f"connectorkit.{home}"]
    assert getattr(module, name) is value
    if inspect.isclass(value):
        assert value.__module__.startswith("connectorkit.")
        assert inspect.getdoc(value)


def test_type_checkers_see_the_same_names() -> None:
    """What is imported for type checkers is what `__all__` names."""
    tree = ast.parse(inspect.getsource(connectorkit))
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    names = [
        alias.asname or alias.name
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    ]
    assert sorted(names) == connectorkit.__all__


def test_star_and_dir_tell_all_names() -> None:
    """A star import brings each name, and `dir` tells it."""
    found: dict[str, Any] = {}
    exec("from connectorkit import *", found)  # noqa: S102 - no other way in a function
    assert found.keys() - {"__builtins__"} == set(connectorkit.__all__)
    assert set(dir(connectorkit)) >= {*connectorkit.__all__, "__version__"}


def test_version_is_the_distributions() -> None:
    """`__version__` is read from the installed metadata."""
    assert connectorkit.__version__ == metadata.version("connectorkit")


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that is not there says so as any module does."""
    with pytest.raises(AttributeError, match="'connectorkit' has no attribute 'Conn'"):
        _ = connectorkit.Conn


# Errors


class Drawn(NamedTuple):
    """One line of the tree in the docstring."""

    name: str
    parent: str | None
    family: str | None


def _tree() -> list[Drawn]:
    """Read the tree of errors that their module's docstring draws."""
    assert errors.__doc__ is not None
    found, path = [], list[str]()
    block = errors.__doc__.split("```")[1]
    for line in block.strip().splitlines():
        parts = re.fullmatch(r"([│├└─ ]*)(\w+)(?: \(([\w.]+)\))?(?:\s+\S.*)?", line)
        assert parts is not None, line
        branch, name, family = parts.groups()
        # A level of the tree is four characters wide.
        depth, rest = divmod(len(branch), 4)
        assert rest == 0, line
        assert depth <= len(path), line
        path[depth:] = [name]
        found.append(Drawn(name, path[depth - 1] if depth else None, family))
    return found


def _family(name: str | None) -> tuple[type, ...]:
    if name is None:
        return ()
    return (pickle.PicklingError if name == "pickle.PicklingError" else _builtin(name),)


def _builtin(name: str) -> type:
    found = getattr(sys.modules["builtins"], name)
    assert isinstance(found, type)
    return found


def test_tree_names_every_error() -> None:
    """The tree, `__all__` of the errors and the public names tell the same errors."""
    names = [line.name for line in _tree()]
    assert sorted(names) == sorted(errors.__all__) == sorted(set(names))
    assert set(names) <= set(connectorkit.__all__)


@pytest.mark.parametrize("drawn", _tree(), ids=lambda drawn: drawn.name)
def test_tree_is_the_real_one(drawn: Drawn) -> None:
    """Each error derives from what the tree draws, and from nothing else."""
    parent = getattr(errors, drawn.parent) if drawn.parent else Exception
    assert getattr(errors, drawn.name).__bases__ == (parent, *_family(drawn.family))


def test_all_errors_are_in_the_tree() -> None:
    """The core's modules define no error outside of its tree; packages over it may."""
    ConnectorKit({}).registry.load_all()
    todo, found = [ConnectorKitError], set()
    while todo:
        cls = todo.pop()
        todo += cls.__subclasses__()
        if re.fullmatch(r"connectorkit\.\w+", cls.__module__):
            found.add(cls.__name__)
    assert found == set(errors.__all__)


@pytest.mark.parametrize("cls", ERRORS)
def test_error_is_no_timeout(cls: type[Exception]) -> None:
    """None derives from TimeoutError, which fsspec's bridge would empty."""
    assert issubclass(cls, ConnectorKitError)
    assert not issubclass(cls, TimeoutError)


@pytest.mark.parametrize("cls", ERRORS)
def test_error_says_when(cls: type[Exception]) -> None:
    """Each error's docstring is its own."""
    assert cls.__doc__
    assert cls.__doc__ not in {base.__doc__ for base in cls.__mro__[1:]}


@pytest.mark.parametrize("cls", ERRORS)
def test_error_survives_pickle(cls: type[Exception]) -> None:
    """Pickled or copied, an error keeps class, text, attributes and notes."""
    # Only ours: what a built-in family takes is its own affair.
    if "__init__" in vars(cls):
        assert cls.__name__ in FURTHER, "say above what else it takes"
    further = FURTHER.get(cls.__name__, {})
    error = cls("something is wrong", **further)
    error.add_note("tried once")
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own
        assert type(again) is cls
        assert (str(again), again.args) == (str(error), error.args)
        assert vars(again) == vars(error)
        assert again.__notes__ == ["tried once"]
    copied = copy.copy(error)
    for name, value in further.items():
        assert getattr(copied, name) == value


@pytest.mark.parametrize("cls", ERRORS)
def test_error_stands_for_its_text(cls: type[Exception]) -> None:
    """The message alone is enough, and is what the error reads."""
    assert str(cls("something is wrong")) == "something is wrong"
