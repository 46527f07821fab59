"""The dashboard and the alerts: they show what is exported, and nothing else."""

from __future__ import annotations

import json
import re
from importlib.resources import files

from connectorkit_metrics.outcomes import OUTCOMES
from test_metrics.support import Meter, smoke


def test_dashboard_shows_what_is_there() -> None:
    """Each series and each label in the dashboard is one that is exported."""
    meter = Meter()
    smoke(meter)
    labels: dict[str, set[str]] = {}
    for sample in meter.samples():
        labels.setdefault(sample.name, set()).update(sample.labels)
    text = files("connectorkit_metrics").joinpath("dashboard.json").read_text("utf-8")
    board = json.loads(text)
    panels = [it for it in board["panels"] if it["type"] != "row"]
    targets = [(p["title"], it) for p in panels for it in p["targets"]]
    assert len(targets) > 20
    for title, target in targets:
        check(target["expr"], labels, target["legendFormat"], title)
    (variable,) = [it for it in board["templating"]["list"] if it["type"] == "query"]
    name, label = re.findall(r"label_values\((\w+), (\w+)\)", variable["definition"])[0]
    assert label in labels[name]
    ids = [it["id"] for it in board["panels"]]
    assert sorted(ids) == sorted({*ids})


def test_alerts_watch_what_is_there() -> None:
    """Each series and each label in the alerts is one that is exported."""
    meter = Meter()
    smoke(meter)
    labels: dict[str, set[str]] = {}
    for sample in meter.samples():
        labels.setdefault(sample.name, set()).update(sample.labels)
    text = files("connectorkit_metrics").joinpath("alerts.yml").read_text("utf-8")
    rules = text.split("- alert: ")[1:]
    assert len(rules) == 17
    for rule in rules:
        legend = rule.partition("annotations:")[2].replace("$labels.", "")
        expr = re.sub(r"#.*", "", rule.partition("expr:")[2].partition("labels:")[0])
        check(expr, labels, legend, rule.splitlines()[0])
    words = {
        value for rule in rules for value in re.findall(r'outcome=~?"(.*?)"', rule)
    }
    assert {it for value in words for it in value.split("|")} <= {*OUTCOMES}


def check(expr: str, labels: dict[str, set[str]], legend: str, of: str) -> None:
    """See that an expression, and what it is told by, has series and labels."""
    names = {*re.findall(r"\bconnectorkit_\w+", expr)}
    assert names, of
    assert names <= labels.keys(), (of, names - labels.keys())
    for name, matchers in re.findall(r"(connectorkit_\w+){(.*?)}", expr):
        wanted = {*re.findall(r'(\w+)\s*[=!]~?\s*"', matchers)}
        assert wanted <= labels[name], (of, wanted - labels[name])
    every = set.union(*(labels[name] for name in names))
    grouped = " ".join(re.findall(r"\b(?:by|on) \((.*?)\)", expr)).replace(",", " ")
    told = {*grouped.split(), *re.findall(r"{{ ?(\w+) ?}}", legend)}
    assert told <= every, (of, told - every)
