"""The README shows what runs."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from connectorkit import set_default_kit
from connectorkit.config import KitConfig

if TYPE_CHECKING:
    import pytest

README = (Path(__file__).parents[1] / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """Return the code blocks of a language."""
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_every_python_block_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks run one after the other, as a reader would paste them."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    code = blocks("python")
    assert len(code) >= 7
    with set_default_kit(None):
        for block in code:
            exec(compile(block, "README.md", "exec", dont_inherit=True), names)  # noqa: S102


def test_every_configuration_is_valid() -> None:
    """The TOML is a connectorkit.toml, or a table of pyproject.toml."""
    for block in blocks("toml"):
        content = tomllib.loads(block)
        if "project" not in content:
            KitConfig.model_validate(content)


def test_every_verb_is_there() -> None:
    """The command line knows each verb that is shown."""
    from click.testing import CliRunner

    from connectorkit.cli import main

    verbs = {
        line.split()[2]
        for block in blocks("console")
        for line in block.splitlines()
        if line.startswith("$ connectorkit ")
    }
    assert verbs
    for verb in verbs:
        assert CliRunner().invoke(main, [verb, "--help"]).exit_code == 0
