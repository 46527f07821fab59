"""The alerts: each fires when it should, and not when it should not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from test_metrics.promql import firing, parse_series, parse_values

CASES = Path(__file__).with_name("alerts_test.yml")


def load() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the rules by their names, and the cases of promtool's file."""
    told = yaml.safe_load(CASES.read_text())
    (path,) = told["rule_files"]
    (group,) = yaml.safe_load((CASES.parent / path).read_text())["groups"]
    return {rule["alert"]: rule for rule in group["rules"]}, told["tests"]


RULES, TESTS = load()


def outcomes(name: str) -> list[tuple[list[Any], list[Any]]]:
    """Return what an alert does in each of its cases, and what it should do."""
    found = []
    for test in TESTS:
        series = [
            (parse_series(each["series"]), parse_values(str(each["values"])))
            for each in test["input_series"]
        ]
        for case in test["alert_rule_test"]:
            if case["alertname"] == name:
                now = int(case["eval_time"].removesuffix("m"))
                alerts = firing(RULES[name], series, now)
                got = [(labels, told(RULES[name], labels)) for labels in alerts]
                want = [
                    (each["exp_labels"], each["exp_annotations"])
                    for each in case.get("exp_alerts", [])
                ]
                found.append((got, want))
    return found


def told(rule: dict[str, Any], labels: dict[str, str]) -> dict[str, str]:
    """Return the annotations of an alert."""
    return {
        name: re.sub(r"{{ \$labels\.(\w+) }}", lambda m: labels[m[1]], text)
        for name, text in rule["annotations"].items()
    }


@pytest.mark.parametrize("name", RULES)
def test_alerts_fire_when_they_should(name: str) -> None:
    """Each alert has a case in which it fires and one in which it does not."""
    cases = outcomes(name)
    assert {bool(want) for _, want in cases} == {True, False}
    for got, want in cases:
        assert sorted(got, key=str) == sorted(want, key=str)


def test_cases_are_of_rules() -> None:
    """No case is of an alert that does not exist, and every alert has a severity."""
    named = {case["alertname"] for test in TESTS for case in test["alert_rule_test"]}
    assert named == {*RULES}
    assert {rule["labels"]["severity"] for rule in RULES.values()} == {"page", "ticket"}
