"""Plugins are found without an import, loaded on demand, and never silently lost."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
import threading
import tomllib
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest

from connectorkit import (
    ConnectorKit,
    ConnectorType,
    PluginBlocked,
    PluginConflict,
    PluginFailed,
    PluginInfo,
    PluginLoaded,
    UnknownConnector,
    hookimpl,
)
from connectorkit.config import PluginsConfig
from connectorkit.discovery import RESERVED
from connectorkit.registry import Registry
from connectorkit_system import WORKFLOW_EXECUTION_ID

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKFLOW_ID = "pcs|b8cd25cd-4452-4d54-bd5e-e7d71459b702"
# A thread that has not answered by then never will.
DEADLINE = 30.0

PRELUDE = """
from connectorkit import *
from pydantic import BaseModel
"""
EMPTY = """
@hookimpl
def connectorkit_connectors():
    return []
"""


def teaching(type_id: str, *aliases: str) -> str:
    """Write a plugin that teaches one type."""
    return f"""
class Taught(ConnectorType):
    id = {type_id!r}
    aliases = {aliases!r}
    def open(self, settings, **options):
        raise NotImplementedError
@hookimpl
def connectorkit_connectors():
    return [Taught]
"""


def providing(policy: str) -> str:
    """Write a plugin that provides one policy."""
    return f"""
class Provided(Policy):
    name = {policy!r}
@hookimpl
def connectorkit_policies():
    return [Provided]
"""


def claiming(connector_id: str, name: str = "acme store") -> str:
    """Write a plugin whose system adapter claims one ID."""
    return f"""
class Store(SystemAdapter):
    name = {name!r}
    def claim(self, connector_id, config):
        if connector_id == {connector_id!r}:
            return ConnectorConfig(type="memory", settings={{"name": "acme"}})
@hookimpl
def connectorkit_adapters():
    return [Store()]
"""


def knowing(connector_id: str, type_id: str, marker: str = "") -> str:
    """Write a plugin whose lookup knows one ID."""
    return f"""
@hookimpl{marker}
def connectorkit_lookup(connector_id):
    if connector_id == {connector_id!r}:
        return ConnectorConfig(type={type_id!r})
"""


class Site:
    """A folder of distributions, as pip would have left them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, distribution: str, attribute: str = "", /, **plugins: str) -> None:
        """Install a distribution: its plugins' names and what their modules say.

        Args:
            distribution: Its name, which is version 1.0's.
            attribute: Of the module, for entry points that name no module.
            plugins: By name; `__` in one stands for a dash.
        """
        stem = re.sub(r"\W", "_", distribution)
        lines = ["[connectorkit]"]
        for plugin, source in plugins.items():
            module = f"{stem}_{plugin}"
            (self.folder / f"{module}.py").write_text(PRELUDE + dedent(source))
            lines.append(f"{plugin.replace('__', '-')} = {module}{attribute}")
        info = self.folder / f"{stem}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n"
        )
        (info / "entry_points.txt").write_text("\n".join(lines))
        importlib.invalidate_caches()

    def imported(self) -> set[str]:
        """Tell which modules of this folder were imported."""
        return {path.stem for path in self.folder.glob("*.py")} & sys.modules.keys()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Give a test a folder of distributions, and forget its modules afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    site = Site(tmp_path)
    yield site
    for module in site.imported():
        del sys.modules[module]


@pytest.fixture
def gates(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give plugins a module `gates`, to meet the test in."""
    gates = types.ModuleType("gates")
    monkeypatch.setitem(sys.modules, "gates", gates)
    return gates


def registry(environ: dict[str, str] | None = None, **config: Any) -> Registry:
    """Make a registry that knows nothing of this machine's environment."""
    return Registry(PluginsConfig(**config), environ or {})


def info(registry: Registry, name: str) -> PluginInfo:
    """Return what is known of the one plugin of this name."""
    (found,) = [each for each in registry.infos() if each.name == name]
    return found


def states(registry: Registry) -> dict[str, str]:
    """Return each plugin's state; of two of one name, the one that serves."""
    return {name: plugin.state for name, plugin in registry._by_name.items()}


def origin(registry: Registry, type_id: str) -> str:
    """Tell which distribution a type is taken from."""
    found = registry.connector_type(type_id)
    assert found is not None
    return found[1].origin


# Discovery


def test_discovery_imports_nothing(site: Site) -> None:
    """A new registry knows each plugin and has imported none."""
    site.add("acme-boxes", box="raise AssertionError('imported')")
    plugins = registry()
    assert site.imported() == set()
    assert set(states(plugins).values()) == {"available"}
    assert info(plugins, "box") == PluginInfo(
        "box", "available", "acme-boxes", "1.0", (), None, None
    )


def test_listing_imports_nothing(site: Site) -> None:
    """To list the plugins imports none of them."""
    site.add("acme-boxes", box=teaching("box"))
    registry().infos()
    assert site.imported() == set()


def test_ours_are_found_like_a_third_partys() -> None:
    """First-party plugins come by entry points of the distribution connectorkit."""
    found = {each.name: each.distribution for each in registry().infos()}
    assert found["s3"] == found["system"] == "connectorkit"


def test_unloadable_entry_point_is_listed(site: Site) -> None:
    """An entry point whose value is nonsense is a plugin that failed, no more."""
    site.add("acme-boxes", " is no value", box="")
    plugins = registry()
    with pytest.raises(PluginFailed):
        plugins.connector_type("box")
    assert info(plugins, "box").state == "failed"


# Loading on demand


@pytest.mark.parametrize("name", ["box", "box|0c0a7e2e", "crate"])
def test_namesake_is_loaded_alone(site: Site, name: str) -> None:
    """A plugin that bears the name asked for is imported, and no other."""
    site.add("acme-boxes", box=teaching("box", "box|0c0a7e2e"))
    site.add("acme-crates", crate=teaching("crate"))
    plugins = registry()
    assert plugins.connector_type(name) is not None
    loaded = {n for n, state in states(plugins).items() if state != "available"}
    assert loaded == {name.partition("|")[0]}


def test_policys_namesake_is_loaded_alone(site: Site) -> None:
    """A plugin named after its policy is imported, and no other."""
    site.add("acme-audit", audit=providing("audit"))
    site.add("acme-crates", crate=teaching("crate"))
    plugins = registry()
    assert plugins.policy("audit") is not None
    assert info(plugins, "audit").provides == ("policy audit",)
    assert {n for n, state in states(plugins).items() if state == "loaded"} == {"audit"}


def test_kit_loads_the_namesake_and_the_system_adapter(site: Site) -> None:
    """To resolve a type loads its plugin, the system adapter and its policies."""
    site.add("acme-crates", crate=teaching("crate"))
    for enabled in ([], ["retry"]):
        with ConnectorKit({"policies": {"enabled": enabled}}) as kit:
            kit.resolve("memory", {"name": "alone"}, trusted=True)
            loaded = {each.name for each in kit.plugins() if each.state == "loaded"}
        assert loaded == {"memory", "system", *enabled}


def test_miss_loads_the_rest(site: Site) -> None:
    """A name that no plugin bears is asked of all of them."""
    site.add("acme-boxes", boxes=teaching("box"))
    site.add("acme-crates", crates=teaching("crate"))
    plugins = registry()
    assert origin(plugins, "box") == "acme-boxes 1.0"
    assert set(states(plugins).values()) == {"loaded"}


def test_unknown_name_is_none(site: Site) -> None:
    """What nobody offers is no error here: the caller words it."""
    site.add("acme-boxes", box=teaching("box"))
    plugins = registry()
    assert plugins.connector_type("nothing") is None
    assert plugins.policy("box") is None


def test_plugin_is_loaded_once(site: Site, gates: Any) -> None:
    """However many threads ask at a time, a plugin is imported and asked once."""
    gates.asked = []
    site.add(
        "acme-boxes",
        box=teaching("box").replace("return [", "gates.asked.append(1); return [")
        + "import gates",
    )
    plugins = registry()
    barrier = threading.Barrier(8)

    def ask() -> object:
        barrier.wait(DEADLINE)
        return plugins.connector_type("box")

    with ThreadPoolExecutor(8) as pool:
        found = [
            task.result(DEADLINE) for task in [pool.submit(ask) for _ in "12345678"]
        ]
    assert (
        len(set(map(id, [pair[0] for pair in found if isinstance(pair, tuple)]))) == 1
    )
    assert gates.asked == [1]


def test_five_states(site: Site) -> None:
    """A plugin is available, loaded, blocked, failed or shadowed, and says why."""
    site.add("acme", box=teaching("box", "case"), lid=EMPTY, tray="1 / 0", jar=EMPTY)
    site.add("brand", jar=EMPTY)
    plugins = registry(disable=["lid"], prefer={"jar": "brand"})
    plugins.connector_type("box")
    with pytest.raises(PluginFailed):
        plugins.connector_type("tray")
    box, lid, tray = (info(plugins, name) for name in ("box", "lid", "tray"))
    assert (box.state, box.provides, box.error) == ("loaded", ("type box",), None)
    assert box.seconds is not None
    assert box.seconds > 0
    assert (lid.state, lid.seconds) == ("blocked", None)
    assert "disabled" in str(lid.error)
    assert (tray.state, tray.provides) == ("failed", ())
    assert tray.error == "ZeroDivisionError: division by zero"
    jars = {
        i.distribution: (i.state, i.error) for i in plugins.infos() if i.name == "jar"
    }
    assert jars == {
        "brand": ("available", None),
        "acme": ("shadowed", "'jar' is also offered by brand 1.0"),
    }


def test_infos_say_all_that_is_provided(site: Site) -> None:
    """A loaded plugin tells its types, adapters and policies."""
    source = teaching("box") + claiming("acme|1") + providing("audit")
    site.add("acme-boxes", box=source)
    plugins = registry()
    plugins.load_all()
    assert info(plugins, "box").provides == (
        "type box",
        "adapter acme store",
        "policy audit",
    )


def test_names_are_sorted(site: Site) -> None:
    """Types and policies are told in order, each once."""
    site.add("acme", a=teaching("zebra"), b=teaching("box"), c="1 / 0")
    site.add("brand", d=teaching("box"), e=providing("audit"))
    plugins = registry()
    names = plugins.names("connector type")
    assert names == sorted(set(names))
    assert {"box", "zebra", "s3", "memory"} <= set(names)
    assert "audit" in plugins.names("policy")


# Broken plugins

BROKEN = {
    "import error": (
        "import nowhere_to_be_found",
        ModuleNotFoundError,
        "nowhere_to_be",
    ),
    "syntax error": ("def f(:", SyntaxError, "invalid syntax"),
    "error at import": ("raise OSError('no licence')", OSError, "no licence"),
    "no hook": ("x = 1", PluginFailed, "has no hook"),
    "misspelt hook": (
        "@hookimpl\ndef connectorkit_conectors(): return []",
        PluginFailed,
        "did you mean 'connectorkit_connectors'",
    ),
    "unmarked hook": (
        "def connectorkit_connectors(): return []",
        PluginFailed,
        "not marked by @connectorkit.hookimpl",
    ),
    "wrong marker": (
        "from pluggy import *\n@HookimplMarker('x')\ndef connectorkit_event(event): 1",
        PluginFailed,
        "not marked by @connectorkit.hookimpl",
    ),
    "wrong argument": (
        "@hookimpl\ndef connectorkit_connectors(config): return []",
        Exception,
        "config",
    ),
    "wrapper": (
        "@hookimpl(wrapper=True)\ndef connectorkit_event(event): return (yield)",
        PluginFailed,
        "connectorkit_event is a wrapper",
    ),
    "specname": (
        "@hookimpl(specname='connectorkit_connectors')\ndef boxes(): return []",
        PluginFailed,
        "name the function connectorkit_connectors",
    ),
    "hook that raises": (
        "@hookimpl\ndef connectorkit_connectors(): return 1 / 0",
        ZeroDivisionError,
        "division by zero",
    ),
    "half a list": (
        teaching("box").replace("return [Taught]", "yield Taught; yield 1 / 0"),
        ZeroDivisionError,
        "division by zero",
    ),
    "no list": (
        "@hookimpl\ndef connectorkit_connectors(): return ConnectorType",
        PluginFailed,
        "not a list",
    ),
    "nothing": (
        "@hookimpl\ndef connectorkit_connectors(): pass",
        PluginFailed,
        "returned None, not a list",
    ),
    "a text": (
        "@hookimpl\ndef connectorkit_connectors(): return 'box'",
        PluginFailed,
        "returned 'box', not a list",
    ),
    "no connector type": (
        "@hookimpl\ndef connectorkit_connectors(): return [dict]",
        PluginFailed,
        "no subclass of ConnectorType",
    ),
    "instance of a type": (
        teaching("box").replace("[Taught]", "[Taught()]"),
        PluginFailed,
        "no subclass of ConnectorType",
    ),
    "type without open": (
        teaching("box").replace("def open", "def opens"),
        PluginFailed,
        "Taught does not define open",
    ),
    "type without ID": (
        teaching("box").replace("id =", "name ="),
        PluginFailed,
        "None is not a connector ID",
    ),
    "type with a bad ID": (teaching("a box"), PluginFailed, "'a box' is not"),
    "type with a bad alias": (teaching("box", "b/x"), PluginFailed, "'b/x' is not"),
    "type with aliases in a text": (
        teaching("box").replace("aliases = ()", "aliases = 'case'"),
        PluginFailed,
        "aliases is no tuple",
    ),
    "type with foreign settings": (
        teaching("box") + "Taught.Settings = BaseModel",
        PluginFailed,
        "no subclass of connectorkit.Settings",
    ),
    "type that cannot be made": (
        teaching("box") + "Taught.__init__ = lambda self: 1 / 0",
        ZeroDivisionError,
        "division by zero",
    ),
    "no policy": (
        "@hookimpl\ndef connectorkit_policies(): return [ConnectorType]",
        PluginFailed,
        "no subclass of Policy",
    ),
    "policy without name": (
        providing("audit").replace("name =", "title ="),
        PluginFailed,
        "Provided has no name",
    ),
    "class of an adapter": (
        claiming("acme|1").replace("[Store()]", "[Store]"),
        PluginFailed,
        "no SystemAdapter instance",
    ),
    "adapter without claim": (
        claiming("acme|1").replace("def claim", "def claims"),
        TypeError,
        "claim",
    ),
}


@pytest.mark.parametrize(
    ("source", "cause", "said"), BROKEN.values(), ids=BROKEN.keys()
)
def test_broken_plugin(
    site: Site, source: str, cause: type[Exception], said: str
) -> None:
    """It is recorded, its cause raised when asked for, and nobody else's business."""
    site.add("acme-boxes", box=source)
    site.add("acme-crates", crates=teaching("crate"))
    plugins = registry()
    assert origin(plugins, "crate") == "acme-crates 1.0"
    broken = info(plugins, "box")
    assert (broken.state, broken.provides) == ("failed", ())
    assert said in str(broken.error)
    for _ in range(2):
        with pytest.raises(PluginFailed, match=r"'box' \(acme-boxes 1\.0\)") as raised:
            plugins.connector_type("box")
        assert said in str(raised.value)
        assert isinstance(raised.value.__cause__, cause)
    assert [each for each in plugins.failures() if "'box' (acme-boxes 1.0)" in each]


def test_broken_plugin_leaves_no_hook_behind(site: Site) -> None:
    """The lookup and the events of a plugin that failed are not called."""
    source = "\n".join(
        f"@hookimpl\ndef {hook}: raise AssertionError\n"
        for hook in ("connectorkit_lookup(connector_id)", "connectorkit_event(event)")
    )
    site.add("acme-boxes", box=f"{source}{teaching('a box')}")
    plugins = registry()
    assert plugins.lookup("anything") is None
    plugins.emit(object())


def test_entry_point_that_names_a_class(site: Site) -> None:
    """A class in place of a module says what to name instead."""
    source = """
        class Plugin:
            @hookimpl
            def connectorkit_connectors(self):
                return []
    """
    site.add("acme-boxes", ":Plugin", box=source)
    with pytest.raises(PluginFailed, match="names the class Plugin"):
        registry().connector_type("box")


def test_entry_point_that_names_an_instance(site: Site) -> None:
    """An object with hooks serves as a module does."""
    source = teaching("box").replace(
        "@hookimpl\ndef connectorkit_connectors():", "def _types():"
    )
    source += """
class Plugin:
    @hookimpl
    def connectorkit_connectors(self):
        return _types()
plugin = Plugin()
"""
    site.add("acme-boxes", ":plugin", box=source)
    assert origin(registry(), "box") == "acme-boxes 1.0"


def test_entry_point_that_names_nothing(site: Site) -> None:
    """An attribute that the module lacks is named by the error."""
    site.add("acme-boxes", ":plugin", box=EMPTY)
    with pytest.raises(PluginFailed, match="no attribute 'plugin'"):
        registry().connector_type("box")


def test_unknown_connector_tells_of_broken_plugins(site: Site) -> None:
    """Where nothing answers, the error names those that might have."""
    site.add("acme-boxes", boxes="1 / 0")
    site.add("acme", jar=EMPTY)
    site.add("brand", jar=EMPTY)
    with ConnectorKit({}) as kit, pytest.raises(UnknownConnector) as raised:
        kit.resolve("box")
    assert "'boxes' (acme-boxes 1.0) failed: ZeroDivisionError" in str(raised.value)
    assert re.search(r"'jar' \((acme|brand) 1.0\) shadowed", str(raised.value))


def test_optional_hook_may_be_unknown(site: Site) -> None:
    """A hook of a newer connectorkit, marked as optional, is passed over."""
    source = "@hookimpl(optionalhook=True)\ndef connectorkit_tomorrow(): return []\n"
    site.add("acme-boxes", box=source + teaching("box"))
    assert origin(registry(), "box") == "acme-boxes 1.0"


def test_module_under_two_names(site: Site) -> None:
    """One module under two names serves under the first that is asked for."""
    site.add("acme-boxes", box=teaching("box"))
    entries = site.folder / "acme_boxes-1.0.dist-info" / "entry_points.txt"
    entries.write_text("[connectorkit]\nbox = acme_boxes_box\ncase = acme_boxes_box\n")
    plugins = registry()
    assert origin(plugins, "box") == "acme-boxes 1.0"
    with pytest.raises(PluginFailed, match="registered under a different name"):
        plugins.connector_type("case")
    assert origin(plugins, "box") == "acme-boxes 1.0"


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["import", "hook"])
def test_interrupt_goes_through(
    site: Site,
    gates: Any,
    where: str,
    interrupt: type[BaseException],
) -> None:
    """What ends a program ends it while a plugin loads; afterwards it loads anew."""
    gates.errors = {where: interrupt}
    source = teaching("box").replace("return [", "meet('hook'); return [")
    meet = """
import gates
def meet(where):
    if error := gates.errors.pop(where, None):
        raise error
meet("import")
"""
    site.add("acme-boxes", box=meet + source)
    plugins = registry()
    with pytest.raises(interrupt):
        plugins.connector_type("box")
    assert info(plugins, "box").state == "available"
    assert origin(plugins, "box") == "acme-boxes 1.0"


def test_plugin_that_asks_for_itself(site: Site, gates: Any) -> None:
    """A plugin that resolves its own type while it is imported is told so."""
    site.add("acme-boxes", box="import gates\ngates.plugins.connector_type('box')")
    gates.plugins = registry()
    with pytest.raises(PluginFailed, match="asks for itself while it is imported"):
        gates.plugins.connector_type("box")


def test_plugin_that_asks_for_another(site: Site, gates: Any) -> None:
    """A plugin may resolve another's type while it is imported."""
    source = "import gates\nassert gates.plugins.connector_type('crate')\n"
    site.add("acme-boxes", box=source + teaching("box"))
    site.add("acme-crates", crate=teaching("crate"))
    gates.plugins = registry()
    assert origin(gates.plugins, "box") == "acme-boxes 1.0"


# Threads


def test_slow_import_keeps_nobody_waiting(site: Site, gates: Any) -> None:
    """While one plugin is imported, others load, are listed, and are registered."""
    gates.began, gates.go = threading.Event(), threading.Event()
    slow = f"import gates\ngates.began.set()\nassert gates.go.wait({DEADLINE})\n"
    site.add("acme-slow", slow=slow + teaching("slow"))
    site.add("acme-boxes", box=teaching("box"))
    plugins = registry()
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(origin, plugins, "slow")
        try:
            assert gates.began.wait(DEADLINE)
            assert pool.submit(origin, plugins, "box").result(DEADLINE)
            assert (
                pool.submit(info, plugins, "slow").result(DEADLINE).state == "available"
            )
            pool.submit(plugins.register, Crates(), "crates").result(DEADLINE)
            assert not waiting.done()
        finally:
            gates.go.set()
        assert waiting.result(DEADLINE) == "acme-slow 1.0"


def test_event_is_told_after_the_lock_is_free(site: Site) -> None:
    """A hook that hears of a load may have another thread ask for that plugin."""
    site.add("acme-boxes", box=teaching("box"))
    plugins = registry()
    heard: list[str] = []

    class Listener:
        @hookimpl
        def connectorkit_event(self, event: object) -> None:
            if isinstance(event, PluginLoaded) and event.plugin == "box":
                with ThreadPoolExecutor(1) as pool:
                    heard.append(pool.submit(origin, plugins, "box").result(DEADLINE))

    plugins.register(Listener(), "listener")
    plugins.connector_type("box")
    assert heard == ["acme-boxes 1.0"]


# Two for one name


def test_two_for_one_plugin_name(site: Site) -> None:
    """Asked for, the name is an error that names both distributions and the way out."""
    site.add("acme", box=teaching("box"))
    site.add("brand", box=teaching("box"))
    plugins = registry()
    with pytest.raises(PluginConflict) as raised:
        plugins.connector_type("box")
    assert "acme 1.0" in str(raised.value)
    assert "brand 1.0" in str(raised.value)
    assert [i.state for i in plugins.infos() if i.name == "box"] == ["shadowed"] * 2
    assert site.imported() == set()
    with pytest.raises(PluginConflict) as again:
        plugins.connector_type("box")
    assert again.value is not raised.value


@pytest.mark.parametrize("preferred", ["acme", "brand", "Brand"])
def test_preferred_distribution_serves(site: Site, preferred: str) -> None:
    """`prefer` picks one of two for a name, however pip spells it."""
    site.add("acme", box=teaching("box"))
    site.add("brand", box=teaching("box"))
    plugins = registry(prefer={"box": preferred})
    assert origin(plugins, "box") == f"{preferred.lower()} 1.0"
    told = {i.distribution: i.state for i in plugins.infos() if i.name == "box"}
    other = "brand" if preferred == "acme" else "acme"
    assert told == {preferred.lower(): "loaded", other: "shadowed"}


def test_preferring_a_stranger_picks_none(site: Site) -> None:
    """`prefer` that names neither of two leaves the conflict as it is."""
    site.add("acme", box=teaching("box"))
    site.add("brand", box=teaching("box"))
    with pytest.raises(PluginConflict):
        registry(prefer={"box": "other"}).connector_type("box")


def test_conflict_concerns_nobody_else(site: Site) -> None:
    """Plugins beside a conflict load and serve."""
    site.add("acme", box=EMPTY, crates=teaching("crate"))
    site.add("brand", box=EMPTY)
    assert origin(registry(), "crate") == "acme 1.0"


def test_disabling_a_conflict(site: Site) -> None:
    """A name in conflict that is disabled says that it is disabled."""
    site.add("acme", box=EMPTY)
    site.add("brand", box=EMPTY)
    with pytest.raises(PluginBlocked):
        registry(disable=["box"]).connector_type("box")


@pytest.mark.parametrize("name", ["box", "box|0c0a7e2e", "case"])
def test_two_for_one_type(site: Site, name: str) -> None:
    """An ID or alias that two plugins offer is in conflict until one is chosen."""
    site.add("acme", a=teaching("box", "box|0c0a7e2e", "case"))
    site.add("brand", b=teaching("box", "box|0c0a7e2e", "case"))
    with pytest.raises(PluginConflict) as raised:
        registry().connector_type(name)
    assert "acme 1.0" in str(raised.value)
    assert "brand 1.0" in str(raised.value)
    for preferred in ("acme", "brand"):
        plugins = registry(prefer={name: preferred})
        assert origin(plugins, name) == f"{preferred} 1.0"


@pytest.mark.parametrize("name", ["box", "box|0c0a7e2e", "box.v2"])
def test_conflict_says_what_to_write(site: Site, name: str) -> None:
    """The line that a conflict's error offers is TOML, and ends the conflict."""
    site.add("acme", a=teaching(name))
    site.add("brand", b=teaching(name))
    with pytest.raises(PluginConflict) as raised:
        registry().connector_type(name)
    line = re.search(r"prefer = \{.*\}", str(raised.value))
    assert line is not None
    assert origin(registry(**tomllib.loads(line[0])), name)


def test_two_for_one_policy(site: Site) -> None:
    """A policy that two plugins provide is in conflict until one is chosen."""
    site.add("acme", a=providing("audit"))
    site.add("brand", b=providing("audit"))
    with pytest.raises(PluginConflict, match=r"policy 'audit'.*acme.*brand"):
        registry().policy("audit")
    found = registry(prefer={"audit": "brand"}).policy("audit")
    assert found is not None
    assert found[1].origin == "brand 1.0"


def test_preference_outweighs_the_namesake(site: Site) -> None:
    """A type is taken from the preferred distribution, not from its namesake."""
    site.add("acme", box=teaching("box"))
    site.add("brand", b=teaching("box"))
    assert origin(registry(), "box") == "acme 1.0"
    assert origin(registry(prefer={"box": "brand"}), "box") == "brand 1.0"


def test_one_distribution_with_two_for_one_type(site: Site) -> None:
    """Two plugins of one distribution in conflict are told apart by their names."""
    site.add("acme", a=teaching("box"), b=teaching("box"))
    with pytest.raises(
        PluginConflict, match=r"acme 1\.0 \('a'\) and acme 1\.0 \('b'\)"
    ):
        registry().connector_type("box")


def test_preferring_one_registered_by_hand(site: Site) -> None:
    """A plugin without distribution is preferred by its own name."""
    site.add("acme", a=teaching("crate"))
    plugins = registry(prefer={"crate": "mine"})
    plugins.register(Crates(), "mine")
    assert origin(plugins, "crate") == "registered by hand"


# What is ours


def _our_names() -> list[str]:
    plugins = registry()
    plugins.load_all()
    ours = [p for p in plugins._plugins if p.is_own]
    return sorted(
        {name for p in ours for name in (p.name, *p.types, *p.aliases, *p.policies)}
    )


OUR_NAMES = _our_names()


def test_reserved_names_are_those_without_a_plugin() -> None:
    """Each name that ours offer is a plugin's of ours or reserved, and no other is."""
    own = {each.name for each in registry().infos()}
    stems = {name.partition("|")[0] for name in (*OUR_NAMES, WORKFLOW_EXECUTION_ID)}
    assert stems - own == RESERVED


@pytest.mark.parametrize("name", sorted({n.partition("|")[0] for n in OUR_NAMES}))
@pytest.mark.parametrize("source", [EMPTY, "1 / 0"], ids=["sound", "broken"])
def test_plugin_cannot_take_our_name(site: Site, name: str, source: str) -> None:
    """A third party's plugin under a name of ours is shadowed, preferred or not."""
    site.add("acme", **{name.replace("-", "__"): source})
    plugins = registry(prefer={name: "acme"})
    (theirs,) = [i for i in plugins.infos() if i.distribution == "acme"]
    assert theirs.state == "shadowed"
    plugins.connector_type(name)
    plugins.policy(name)
    assert site.imported() == set()


@pytest.mark.parametrize("name", OUR_NAMES)
@pytest.mark.parametrize("kind", ["ID", "alias", "policy"])
def test_offer_cannot_take_our_name(site: Site, name: str, kind: str) -> None:
    """A third party's type or policy under a name of ours fails its plugin."""
    offers = {
        "ID": teaching(name),
        "alias": teaching("box", name),
        "policy": providing(name),
    }
    site.add("acme", box=offers[kind])
    plugins = registry(prefer={name: "acme", "box": "acme"})
    with pytest.raises(PluginFailed, match="a name of connectorkit's own"):
        plugins.connector_type("box")
    for found in (plugins.connector_type(name), plugins.policy(name)):
        assert found is None or found[1].is_own


def test_our_name_stays_ours_when_disabled(site: Site) -> None:
    """A first-party plugin that is turned off leaves its name to nobody."""
    site.add("acme", s3=teaching("s3"), bucket=teaching("s3"))
    plugins = registry(disable=["s3"], prefer={"s3": "acme"})
    with pytest.raises(PluginBlocked):
        plugins.connector_type("s3")


def test_by_hand_cannot_take_our_name() -> None:
    """One registered by hand may not offer a name of ours either."""
    plugins = registry()
    with pytest.raises(PluginFailed, match="'memory', a name of connectorkit's own"):
        plugins.register(Crates("memory"), "mine")


# System adapters


def test_adapter_serves_only_if_the_config_names_it(site: Site) -> None:
    """A third party's adapter is not even imported before the config names it."""
    site.add("acme-store", acme__store=claiming("acme|1"))
    plugins = registry()
    assert [each.name for each in plugins.adapters()] == ["system"]
    assert site.imported() == set()
    named = registry(adapters=["acme-store"])
    assert [each.name for each in named.adapters()] == ["system", "acme store"]


def test_adapter_that_is_not_named_claims_nothing(site: Site) -> None:
    """Loaded for its type, a third party's adapter still claims no ID."""
    site.add("acme", box=teaching("box") + claiming("acme|1"))
    with ConnectorKit({}) as kit:
        kit.registry.load_all()
        with pytest.raises(UnknownConnector):
            kit.resolve("acme|1")
    with ConnectorKit({"plugins": {"adapters": ["box"]}}) as kit:
        assert kit.explain("acme|1").how == "system adapter 'acme store'"


@pytest.mark.parametrize("connector_id", [WORKFLOW_ID, "system|REPORTS", "pcs|1"])
def test_adapter_cannot_take_a_system_internal_id(
    site: Site, connector_id: str
) -> None:
    """What the system adapter claims is its own, even if the config names another."""
    site.add("acme", aaa=claiming(connector_id))
    config = {
        "system": {"REPORTS": {"ids": ["pcs|1"], "provider": "memory"}},
        "plugins": {"adapters": ["aaa"], "prefer": {connector_id: "acme"}},
    }
    with ConnectorKit(config) as kit:
        assert kit.explain(connector_id).how == "system adapter 'system'"


def test_named_adapter_that_cannot_serve(site: Site) -> None:
    """One that the config names and that is broken or blocked is an error at once."""
    site.add("acme", wreck="1 / 0", lid=claiming("acme|1"))
    with pytest.raises(PluginFailed, match="wreck"):
        registry(adapters=["wreck"]).adapters()
    with pytest.raises(PluginBlocked, match="lid"):
        registry(adapters=["lid"], disable=["lid"]).adapters()


# Turning off


@pytest.mark.parametrize("environ", [{}, {"CONNECTORKIT_DISABLE": "box, crate"}])
def test_disabled_plugin_is_never_imported(site: Site, environ: dict[str, str]) -> None:
    """Turned off by the config or the variable, it says so when asked for."""
    site.add("acme", box="1 / 0", crate="1 / 0", tray=teaching("tray"))
    plugins = registry(environ, disable=[] if environ else ["box", "crate"])
    plugins.load_all()
    for name in ("box", "crate"):
        with pytest.raises(
            PluginBlocked, match=rf"'{name}' \(acme 1.0\) is turned off"
        ):
            plugins.connector_type(name)
    assert site.imported() == {"acme_tray"}


def test_ours_can_be_disabled() -> None:
    """A first-party plugin is turned off by name like any other."""
    plugins = registry({"CONNECTORKIT_DISABLE": "memory,system"})
    with pytest.raises(PluginBlocked):
        plugins.connector_type("memory")
    assert plugins.adapters() == []


@pytest.mark.parametrize(
    ("allowed", "serving"),
    [("", set()), ("box", {"box"}), (" box ,tray, s3,", {"box", "tray"})],
)
def test_allow_list(site: Site, allowed: str, serving: set[str]) -> None:
    """`CONNECTORKIT_PLUGINS` drops third parties that it does not name, never ours."""
    site.add("acme", box=teaching("box"), crate="1 / 0", tray=teaching("tray"))
    plugins = registry({"CONNECTORKIT_PLUGINS": allowed})
    told = states(plugins)
    theirs = ("box", "crate", "tray")
    assert {name for name in theirs if told[name] == "available"} == serving
    assert {told[name] for name in told if name not in theirs} == {"available"}
    with pytest.raises(PluginBlocked, match="not in CONNECTORKIT_PLUGINS"):
        plugins.connector_type("crate")


def test_disabling_outweighs_allowing(site: Site) -> None:
    """A plugin that is both allowed and disabled is turned off."""
    site.add("acme", box=EMPTY)
    plugins = registry({"CONNECTORKIT_PLUGINS": "box", "CONNECTORKIT_DISABLE": "box"})
    assert states(plugins)["box"] == "blocked"


@pytest.mark.parametrize(
    ("environ", "config"),
    [
        ({"CONNECTORKIT_PLUGINS": "boxx"}, {}),
        ({"CONNECTORKIT_DISABLE": "boxx"}, {}),
        ({}, {"disable": ["boxx"]}),
        ({}, {"adapters": ["boxx"]}),
        (
            {"CONNECTORKIT_PLUGINS": "boxx,boxx", "CONNECTORKIT_DISABLE": "boxx"},
            {"disable": ["boxx"], "adapters": ["boxx"]},
        ),
    ],
    ids=["allow", "disable", "config disable", "config adapters", "all"],
)
def test_unknown_name_warns_once(
    site: Site, environ: dict[str, str], config: dict[str, list[str]]
) -> None:
    """A name that is not installed is warned of once, with what is close to it."""
    site.add("acme", box=EMPTY)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = registry(environ, **config)
        made.adapters()
        made.adapters()
    (told,) = [str(each.message) for each in caught]
    assert "'boxx', which is not installed; did you mean 'box'" in told


# By hand


class Crates:
    """A plugin in the hands of a host."""

    def __init__(self, type_id: str = "crate") -> None:
        self.type_id = type_id

    @hookimpl
    def connectorkit_connectors(self) -> list[type[ConnectorType[Any]]]:
        """Crates."""

        class Crate(ConnectorType[Any]):
            id = self.type_id

            def open(self, settings: Any, **options: Any) -> Any:
                raise NotImplementedError

        return [Crate]


def test_register_by_hand() -> None:
    """An object with hooks serves at once, by default under the name of its class."""
    plugins = registry()
    plugins.register(Crates())
    told = info(plugins, "Crates")
    assert (told.state, told.distribution, told.version) == ("loaded", None, None)
    assert told.provides == ("type crate",)
    assert origin(plugins, "crate") == "registered by hand"


def test_register_a_module(site: Site) -> None:
    """A module serves as an entry point's would, under its own name."""
    (site.folder / "homemade.py").write_text(PRELUDE + teaching("box"))
    plugins = registry()
    plugins.register(importlib.import_module("homemade"))
    assert origin(plugins, "box") == "registered by hand"
    assert info(plugins, "homemade").state == "loaded"


def test_name_clash(site: Site) -> None:
    """A name that is taken, by one found or registered, says by whom."""
    site.add("acme", box=EMPTY)
    plugins = registry()
    plugins.register(Crates(), "mine")
    for name, holder in [
        ("box", r"acme 1\.0"),
        ("mine", "registered by hand"),
        ("s3", "connectorkit"),
        ("minio|mine", "connectorkit"),
    ]:
        with pytest.raises(PluginConflict, match=f"'{name}' is .*{holder}"):
            plugins.register(Crates("other"), name)
    assert plugins.connector_type("other") is None


class Unsound:
    """Offers what its class was told to, or raises it."""

    offered: Any = ()

    @hookimpl
    def connectorkit_connectors(self) -> Any:
        """Whatever it is."""
        if isinstance(self.offered, BaseException):
            raise self.offered
        return self.offered

    @hookimpl
    def connectorkit_event(self, event: object) -> None:
        """Hear nothing of a failure."""
        raise AssertionError(event)


@pytest.mark.parametrize(
    ("offered", "raised"),
    [
        ([dict], PluginFailed),
        (ValueError("broken"), PluginFailed),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
def test_failing_register_leaves_nothing_behind(
    offered: Any, raised: type[BaseException]
) -> None:
    """After a failure the name is free and no hook of the plugin is called."""
    plugins = registry()
    before = plugins.infos()
    unsound = Unsound()
    unsound.offered = offered
    with pytest.raises(raised):
        plugins.register(unsound, "mine")
    assert plugins.infos() == before
    assert plugins.failures() == []
    plugins.emit(object())
    plugins.register(Crates(), "mine")
    assert origin(plugins, "crate") == "registered by hand"


def test_register_a_class() -> None:
    """A class in place of its instance is refused."""
    with pytest.raises(PluginFailed, match="names the class Crates"):
        registry().register(Crates)


# Events


class Ear:
    """Hears of everything."""

    def __init__(self) -> None:
        self.heard: list[object] = []

    @hookimpl
    def connectorkit_event(self, event: object) -> None:
        """Write it down."""
        self.heard.append(event)


class DeafEar:
    """Takes no argument, which pluggy allows."""

    heard = 0

    @hookimpl
    def connectorkit_event(self) -> None:
        """Count."""
        self.heard += 1


class SoreEar:
    """Cannot bear to hear anything."""

    @hookimpl
    def connectorkit_event(self, event: object) -> None:
        """Fail."""
        raise RuntimeError(event)


def test_loads_are_told(site: Site) -> None:
    """Each load is an event, with its seconds and whether it failed."""
    site.add("acme", box=teaching("box"), tray="1 / 0")
    plugins, ear = registry(), Ear()
    plugins.register(ear)
    plugins.load_all()
    told = {e.plugin: e for e in ear.heard if isinstance(e, PluginLoaded)}
    assert told.keys() == states(plugins).keys()
    assert {name for name, event in told.items() if event.failed} == {"tray"}
    assert all(event.seconds >= 0 for event in told.values())


def test_event_never_breaks_a_call(site: Site) -> None:
    """A hook that raises is warned of; the call goes on and others hear."""
    site.add("acme", box=teaching("box"))
    plugins, ear, deaf = registry(), Ear(), DeafEar()
    plugins.register(ear, "a")
    plugins.register(deaf, "z")
    with pytest.warns(UserWarning, match="'m' failed on an event: RuntimeError"):
        plugins.register(SoreEar(), "m")
    with pytest.warns(UserWarning, match="'m' failed on an event: RuntimeError"):
        assert origin(plugins, "box") == "acme 1.0"
    assert {e.plugin for e in ear.heard if isinstance(e, PluginLoaded)} >= {"m", "box"}
    assert deaf.heard == 3


# Lookups


@pytest.mark.parametrize("first", ["aaa", "zzz"])
def test_first_lookup_by_name_answers(site: Site, first: str) -> None:
    """The answer is the same whichever plugin happened to be loaded first."""
    site.add("acme", aaa=knowing("office", "memory"), zzz=knowing("office", "local"))
    plugins = registry()
    plugins.connector_type(first)
    found = plugins.lookup("office")
    assert found is not None
    assert (found[0].type, found[1]) == ("memory", "aaa")


def test_lookup_that_wants_to_be_first(site: Site) -> None:
    """The marks `tryfirst` and `trylast` outweigh the name."""
    site.add(
        "acme",
        aaa=knowing("office", "memory", "(trylast=True)"),
        mmm=knowing("office", "local"),
        zzz=knowing("office", "s3", "(tryfirst=True)"),
    )
    plugins = registry()
    found = plugins.lookup("office")
    assert found is not None
    assert found[1] == "zzz"
    without = registry(disable=["mmm", "zzz"]).lookup("office")
    assert without is not None
    assert without[1] == "aaa"


def test_lookup_that_does_not_know(site: Site) -> None:
    """None from all of them is no answer, and no error."""
    site.add("acme", aaa=knowing("office", "memory"), zzz=knowing("shop", "memory"))
    plugins = registry()
    found = plugins.lookup("shop")
    assert found is not None
    assert found[1] == "zzz"
    assert plugins.lookup("school") is None


FAILING = "@hookimpl\ndef connectorkit_lookup(connector_id): raise OSError('vault')"
WRONG = "@hookimpl\ndef connectorkit_lookup(connector_id): return {'type': 'memory'}"


@pytest.mark.parametrize(
    ("source", "cause", "said"),
    [
        (FAILING, OSError, "OSError: vault"),
        (WRONG, TypeError, "returned dict, not a ConnectorConfig"),
    ],
    ids=["failing", "wrong"],
)
def test_broken_lookup(
    site: Site, source: str, cause: type[Exception], said: str
) -> None:
    """One that fails does not hide another's answer; with none, its cause is raised."""
    site.add("acme", aaa=source, zzz=knowing("office", "memory"))
    plugins = registry()
    found = plugins.lookup("office")
    assert found is not None
    assert found[1] == "zzz"
    with pytest.raises(PluginFailed, match=r"'aaa' could not look 'shop' up") as raised:
        plugins.lookup("shop")
    assert said in str(raised.value)
    assert isinstance(raised.value.__cause__, cause)
    assert states(plugins)["aaa"] == "loaded"


def test_first_failing_lookup_is_the_cause(site: Site) -> None:
    """Where several lookups fail, the first one's name and cause are raised."""
    site.add("acme", aaa=FAILING, zzz=WRONG)
    with pytest.raises(PluginFailed, match="'aaa'") as raised:
        registry().lookup("shop")
    assert isinstance(raised.value.__cause__, OSError)


def test_blocked_lookup_is_not_asked(site: Site) -> None:
    """A plugin that is turned off looks nothing up."""
    site.add("acme", aaa=FAILING)
    assert registry(disable=["aaa"]).lookup("office") is None


def test_interrupt_goes_through_a_lookup(site: Site) -> None:
    """What ends a program ends a lookup."""
    site.add("acme", aaa=FAILING.replace("OSError('vault')", "KeyboardInterrupt"))
    with pytest.raises(KeyboardInterrupt):
        registry().lookup("office")


# Commands


# Forks

FORK = """
import os, signal, sys, threading, types
gates = sys.modules["gates"] = types.ModuleType("gates")
gates.began, gates.go, gates.parent = threading.Event(), threading.Event(), os.getpid()
from connectorkit import PluginFailed
from connectorkit.config import PluginsConfig
from connectorkit.registry import Registry
plugins = Registry(PluginsConfig(), {})
threading.Thread(target=plugins.connector_type, args=("slow",), daemon=True).start()
assert gates.began.wait(20)
child = os.fork()
if not child:
    # A child that waits for a lock of a thread that is gone would wait for ever.
    signal.alarm(20)
    try:
        answer = plugins.connector_type(sys.argv[1])[1].state
    except PluginFailed as error:
        answer = str(error)
    print(answer, flush=True)
    os._exit(0)
status = os.waitpid(child, 0)[1]
gates.go.set()
print(plugins.connector_type("slow")[1].state, status)
"""
WAIT = """
import gates, os
def wait():
    gates.began.set()
    assert os.getpid() != gates.parent or gates.go.wait(20)
"""


def _fork_and_ask(site: Site, name: str) -> list[str]:
    """Fork while a thread loads `slow`; return the answers of child and parent."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK, name],
        env={**os.environ, "PYTHONPATH": str(site.folder)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@needs_fork
@pytest.mark.parametrize("name", ["slow", "box"])
def test_fork_while_a_hook_runs(site: Site, name: str) -> None:
    """A child forked while a thread asks a plugin what it offers loads it itself."""
    hook = teaching("slow").replace("return [", "wait(); return [")
    site.add("acme", slow=WAIT + hook, box=teaching("box"))
    assert _fork_and_ask(site, name) == ["loaded", "loaded 0"]


@needs_fork
def test_fork_while_another_is_imported(site: Site) -> None:
    """A child forked while a thread imports one plugin loads all others."""
    site.add("acme", slow=f"{WAIT}\nwait()\n{teaching('slow')}", box=teaching("box"))
    assert _fork_and_ask(site, "box") == ["loaded", "loaded 0"]


@needs_fork
def test_fork_while_it_is_imported(site: Site) -> None:
    """A child forked while a thread imports a plugin is told, and does not hang.

    Python's own lock of the module stays held in such a child.
    """
    site.add("acme", slow=f"{WAIT}\nwait()\n{teaching('slow')}")
    told, parent = _fork_and_ask(site, "slow")
    assert "another thread was importing it when this process was forked" in told
    assert parent == "loaded 0"
