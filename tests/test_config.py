"""connectorkit.toml, the environment over it, and references to secrets."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connectorkit import ConfigError, ConnectorKit, InvalidConnectorID
from connectorkit.config import KitConfig, has_reference, load, reveal
from connectorkit.connector_type import valid_id

if TYPE_CHECKING:
    from pathlib import Path

FILE = """
[connectors.reports]
type = "minio"
policies = []

[connectors.reports.settings]
endpoint_url = "http://127.0.0.1:9000"
key = "env:REPORTS_KEY"
secret = "env:REPORTS_SECRET"

[pool]
size = 8
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in an empty directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_file_is_found_upwards_of_the_working_directory(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connectorkit.toml serves every directory below it."""
    (here / "connectorkit.toml").write_text(FILE)
    below = here / "a" / "b"
    below.mkdir(parents=True)
    monkeypatch.chdir(below)

    source = load(None, {})

    assert source.path == here / "connectorkit.toml"
    assert source.config.pool.size == 8


def test_the_variable_goes_before_the_working_directory(here: Path) -> None:
    """$CONNECTORKIT_CONFIG names the file, whatever lies near."""
    (here / "connectorkit.toml").write_text(FILE)
    (here / "other.toml").write_text("[pool]\nsize = 3\n")

    source = load(None, {"CONNECTORKIT_CONFIG": str(here / "other.toml")})

    assert source.config.pool.size == 3


@pytest.mark.usefixtures("here")
def test_the_users_own_file_comes_last(home: Path) -> None:
    """Where no file lies upwards, the user's configuration directory is looked at."""
    folder = home / ".config" / "connectorkit"
    folder.mkdir(parents=True)
    (folder / "connectorkit.toml").write_text(FILE)

    assert load(None, {}).path == folder / "connectorkit.toml"


@pytest.mark.usefixtures("here")
def test_no_file_at_all_means_the_defaults() -> None:
    """A kit needs no configuration."""
    assert load(None, {}).config == KitConfig()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[pool\nsize = 3", "line 1"),
        ("[pool]\nsize = ", "line 2"),
        ("[pool]\nsize = 0", "pool.size"),
        ('[pool]\nsize = "many"', "pool.size"),
        ("[pool]\nidle = nan", "pool.idle"),
        ("[poool]\nsize = 3", "poool"),
        ("[connectors.a]\nsettings = {}", "connectors.a.type"),
        ('[connectors.a]\ntype = ""', "connectors.a.type"),
        ('[connectors.a]\ntype = "s3"\npolices = []', "polices"),
        ('[connectors.a]\ntype = "s3"\nsettings = "x"', "connectors.a.settings"),
        ('[connectors."a b"]\ntype = "s3"', "'a b'"),
        ('[system.X]\nids = ["a b"]', "'a b'"),
        ("connectors = 3", "connectors"),
        ("x = " + "[" * 2000, "nested too deeply"),
    ],
)
def test_a_bad_file_names_the_culprit(here: Path, content: str, named: str) -> None:
    """An error of syntax says the line, an error of value the path of its key."""
    path = here / "connectorkit.toml"
    path.write_text(content)

    with pytest.raises(ConfigError) as caught:
        ConnectorKit(path)

    assert named in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_no_file_is_told_apart(here: Path) -> None:
    """A directory, a missing file and bytes that are no text each have their error."""
    (here / "bytes.toml").write_bytes(b"\xff\xfe")

    for name, said in [
        (".", "is a directory"),
        ("missing.toml", "no configuration at"),
        ("bytes.toml", "not UTF-8"),
    ]:
        with pytest.raises(ConfigError, match=said):
            load(here / name, {})


def test_a_bad_value_is_never_shown(here: Path) -> None:
    """What stands in the place of a table may be a secret."""
    path = here / "connectorkit.toml"
    path.write_text('[connectors.a]\ntype = "s3"\nsettings = "hunter2"')

    with pytest.raises(ConfigError) as caught:
        load(path, {})

    assert "hunter2" not in f"{caught.value!r} {caught.value}"


def test_a_variable_goes_over_the_file(here: Path) -> None:
    """CONNECTORKIT__CONNECTORS__<ID>__<KEY> sets a setting, the type or a policy's."""
    path = here / "connectorkit.toml"
    path.write_text(FILE)

    config = load(
        path,
        {
            "CONNECTORKIT__CONNECTORS__REPORTS__REGION_NAME": "eu-central-1",
            "CONNECTORKIT__CONNECTORS__REPORTS__SETTINGS__KEY": "other",
            "CONNECTORKIT__CONNECTORS__REPORTS__POLICIES": "metrics, retry",
            "CONNECTORKIT__CONNECTORS__REPORTS__RETRY__ATTEMPTS": "5",
            "CONNECTORKIT__CONNECTORS__NEW_ONE__TYPE": "memory",
        },
    ).config

    reports = config.connectors["reports"]
    assert reports.settings["region_name"] == "eu-central-1"
    assert reports.settings["key"] == "other"
    assert reports.settings["endpoint_url"] == "http://127.0.0.1:9000"
    assert reports.policies == ("metrics", "retry")
    assert reports.tables == {"retry": {"attempts": "5"}}
    assert config.connectors["new_one"].type == "memory"


@pytest.mark.parametrize(
    "variable",
    [
        "CONNECTORKIT__CONNECTORS__REPORTS",
        "CONNECTORKIT__CONNECTORS__",
        "CONNECTORKIT__CONNECTORS____TYPE",
        "CONNECTORKIT__CONNECTORS__REPORTS__SETTINGS____KEY",
        "CONNECTORKIT__CONNECTORS__REPORTS__TYPE__X",
    ],
)
def test_a_malformed_variable_is_named(here: Path, variable: str) -> None:
    """A variable that sets nothing is an error, not a silence."""
    path = here / "connectorkit.toml"
    path.write_text(FILE)

    with pytest.raises(ConfigError, match=variable):
        load(path, {variable: "x"})


def test_a_mapping_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables go over files; a mapping is the host's own word."""
    monkeypatch.setenv("CONNECTORKIT__CONNECTORS__A__TYPE", "s3")
    given_config = {"connectors": {"a": {"type": "memory"}}}

    with ConnectorKit(given_config) as kit:
        assert kit.resolve("a").type == "memory"

    assert given_config == {"connectors": {"a": {"type": "memory"}}}


def test_references_are_resolved_late(tmp_path: Path) -> None:
    """`env:` and `file:` give their secret when a connector is resolved."""
    secret = tmp_path / "secret"
    secret.write_text("from a file\n")

    revealed = reveal(
        {"key": "env:KEY", "deep": {"list": [f"file:{secret}"]}, "plain": 3},
        {"KEY": "from the environment"},
    )

    assert revealed == {
        "key": "from the environment",
        "deep": {"list": ["from a file"]},
        "plain": 3,
    }


@pytest.mark.parametrize("reference", ["env:NOT_SET", "file:/not/there", "file:/"])
def test_a_reference_to_nothing_names_the_setting(reference: str) -> None:
    """The error says which connector and which setting, and where it pointed."""
    kit = ConnectorKit(
        {"connectors": {"a": {"type": "s3", "settings": {"key": reference}}}}
    )

    with pytest.raises(ConfigError) as caught:
        kit.resolve("a")

    for named in ("'a'", "key", reference.partition(":")[2]):
        assert named in str(caught.value)


def test_a_file_too_large_for_a_secret_is_refused(tmp_path: Path) -> None:
    """A reference to a data set is a mistake; it is not read into memory."""
    large = tmp_path / "large"
    large.write_bytes(b"x" * (1 << 20) + b"x")

    with pytest.raises(ConfigError, match="too large"):
        reveal({"key": f"file:{large}"}, {})


@given(st.text())
def test_ids_have_one_alphabet(text: str) -> None:
    """Whatever is a valid ID can stand in a URL; whatever is not is refused."""
    try:
        valid_id(text)
    except InvalidConnectorID as error:
        assert len(str(error)) < 300
    else:
        assert 1 <= len(text) <= 255
        assert text.isascii()
        assert not set(text) & set("/ :*?[]#%\\\"'\n")


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._|~-]{0,254}", fullmatch=True))
def test_every_id_of_the_alphabet_is_valid(text: str) -> None:
    """The alphabet is the whole rule."""
    assert valid_id(text) == text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), JSON))
def test_any_mapping_is_a_config_or_a_config_error(raw: dict[str, Any]) -> None:
    """No shape of configuration escapes as another kind of error."""
    try:
        load(raw, {})
    except ConfigError as error:
        assert str(error)


@given(st.text())
def test_any_file_is_a_config_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    """No text of a file escapes as another kind of error."""
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        load(path, {})
    except ConfigError:
        return
    assert tomllib.loads(path.read_text()) is not None


@given(st.dictionaries(st.text(), JSON))
def test_settings_without_references_stay_as_they_are(raw: dict[str, Any]) -> None:
    """Only references are replaced."""
    if not has_reference(raw):
        assert reveal(raw, {}) == raw
