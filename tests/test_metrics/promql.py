"""As much of Prometheus as the tests of the alerts take: its language, and its rules.

It agrees with promtool on all of `alerts_test.yml`. A rate is not extrapolated to the
ends of its window, which no alert there is near enough to notice.
"""

from __future__ import annotations

import itertools
import operator
import re
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["Series", "firing", "minutes", "parse_values"]

Labels: TypeAlias = "dict[str, str]"
Vector: TypeAlias = "list[tuple[Labels, float]]"
# The labels of a series, its name as `__name__`; its value in each minute.
Series: TypeAlias = "tuple[Labels, list[float | None]]"

_STALE = 5
_TOKENS: Final = re.compile(
    r'\s*(?:#[^\n]*\n\s*)*(?P<token>"[^"]*"|\d+[smhd]\b|\d+(?:\.\d+)?|[a-zA-Z_:][\w:]*'
    r"|=~|!~|!=|==|>=|<=|[-+*/(){}\[\],=<>])"
)
_MINUTES: Final = {"s": 1 / 60, "m": 1, "h": 60, "d": 1440}
# Those that bind least come first.
_BINARY: Final = (("or",), ("and", "unless"), ("==", ">", "<"), ("+", "-"), ("*", "/"))
_COMPARE: Final = {"==": operator.eq, ">": operator.gt, "<": operator.lt}
_REDUCE: Final[dict[str, Callable[[Any], float]]] = {"sum": sum, "max": max}


def minutes(text: str) -> int:
    """Return how many minutes "1h" has."""
    return int(int(text[:-1]) * _MINUTES[text[-1]])


def parse_values(text: str) -> list[float | None]:
    """Return the values that promtool's notation stands for."""
    values: list[float | None] = []
    for part in text.split():
        first, _, times = part.partition("x")
        if first == "_":
            values += [None] * int(times)
            continue
        start, _, step = first.partition("+")
        values += [
            float(start) + float(step or 0) * n for n in range(int(times or 0) + 1)
        ]
    return values


def parse_series(text: str) -> Labels:
    """Return the labels of `name{label="value"}`."""
    name, _, labels = text.partition("{")
    return {"__name__": name, **dict(re.findall(r'(\w+)="([^"]*)"', labels))}


def firing(rule: dict[str, Any], series: Iterable[Series], now: int) -> list[Labels]:
    """Return the labels of the alerts that a rule gives in a minute."""
    known = [*series]
    expression = _Parser(rule["expr"]).parse()
    pending = minutes(rule.get("for", "0m"))
    active = [expression(known, at) for at in range(now - pending, now + 1)]
    return [
        labels | rule["labels"]
        for labels, _ in active[-1]
        if all(any(labels == its for its, _ in each) for each in active)
    ]


class _Parser:
    """Makes functions of expressions; each takes the series and a minute."""

    def __init__(self, text: str) -> None:
        self.tokens = [m["token"] for m in _TOKENS.finditer(text)]
        assert "".join(self.tokens) == re.sub(r"#[^\n]*\n|\s", "", text)

    def parse(self) -> Any:
        found = self.binary(0)
        assert not self.tokens
        return found

    def take(self, *expected: str) -> str:
        token = self.tokens.pop(0)
        assert not expected or token in expected, f"{token!r} in place of {expected}"
        return token

    def takes(self, *tokens: str) -> bool:
        if self.tokens and self.tokens[0] in tokens:
            self.tokens.pop(0)
            return True
        return False

    def binary(self, level: int) -> Any:
        if level == len(_BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while self.tokens and self.tokens[0] in _BINARY[level]:
            sign = self.take()
            on = self.names() if self.takes("on") else None
            left = _joined(sign, left, self.binary(level + 1), on)
        return left

    def unary(self) -> Any:
        token = self.take()
        if token == "(":
            inner = self.binary(0)
            self.take(")")
            return inner
        if re.fullmatch(r"[\d.]+", token):
            return lambda _series, _now: float(token)
        if token in _REDUCE:
            by = self.names() if self.takes("by") else []
            self.take("(")
            inner = self.binary(0)
            self.take(")")
            return _reduced(_REDUCE[token], by, inner)
        if self.takes("("):
            return self.call(token)
        return self.selector(token)

    def call(self, name: str) -> Any:
        if name == "histogram_quantile":
            share = float(self.take())
            self.take(",")
            inner = self.binary(0)
            self.take(")")
            return lambda series, now: _quantile(share, inner(series, now))
        inner = self.binary(0)
        self.take(")")
        if name == "absent":
            return lambda series, now: [] if inner(series, now) else [({}, 1.0)]
        assert name in {"rate", "increase"}, name
        return lambda series, now: [
            (labels, _increase(values) / (seconds if name == "rate" else 1))
            for labels, values, seconds in inner(series, now)
            if len(values) > 1
        ]

    def names(self) -> list[str]:
        self.take("(")
        names = []
        while not self.takes(")"):
            names.append(self.take())
            self.takes(",")
        return names

    def selector(self, name: str) -> Any:
        wanted = []
        if self.takes("{"):
            while not self.takes("}"):
                label, sign, value = self.take(), self.take(), self.take()
                wanted.append((label, sign, value.strip('"')))
                self.takes(",")
        window = 0
        if self.takes("["):
            window = minutes(self.take())
            self.take("]")
        back = minutes(self.take()) if self.takes("offset") else 0

        def select(series: list[Series], now: int) -> Any:
            at = now - back
            found = [
                ({k: v for k, v in labels.items() if k != "__name__"}, values)
                for labels, values in series
                if labels["__name__"] == name
                and all(_fits(labels, *each) for each in wanted)
            ]
            if window:
                return [
                    (labels, _between(values, at - window, at), window * 60)
                    for labels, values in found
                ]
            recent = [(its, _between(values, at - _STALE, at)) for its, values in found]
            return [(labels, values[-1]) for labels, values in recent if values]

        return select


def _fits(labels: Labels, label: str, sign: str, value: str) -> bool:
    own = labels.get(label, "")
    is_it = bool(re.fullmatch(value, own)) if "~" in sign else own == value
    return is_it is not sign.startswith("!")


def _between(values: list[float | None], begin: int, end: int) -> list[float]:
    found = values[max(0, begin) : max(0, end + 1)]
    return [each for each in found if each is not None]


def _increase(values: list[float]) -> float:
    steps = itertools.pairwise(values)
    return sum(after - before if after >= before else after for before, after in steps)


def _reduced(reduce: Callable[[Any], float], by: list[str], inner: Any) -> Any:
    def evaluate(series: list[Series], now: int) -> Vector:
        groups: dict[tuple[tuple[str, str], ...], list[float]] = {}
        for labels, value in inner(series, now):
            key = tuple((name, labels[name]) for name in by if name in labels)
            groups.setdefault(key, []).append(value)
        return [(dict(key), reduce(values)) for key, values in groups.items()]

    return evaluate


def _joined(sign: str, left: Any, right: Any, on: list[str] | None) -> Any:
    def key(labels: Labels) -> Labels:
        return labels if on is None else {name: labels.get(name, "") for name in on}

    def evaluate(series: list[Series], now: int) -> Vector:
        ours, theirs = left(series, now), right(series, now)
        if sign in {"and", "unless", "or"}:
            keys = [key(labels) for labels, _ in theirs]
            if sign == "or":
                own = [key(labels) for labels, _ in ours]
                return [*ours, *(it for it in theirs if key(it[0]) not in own)]
            return [it for it in ours if (key(it[0]) in keys) is (sign == "and")]
        if not isinstance(theirs, float):
            assert sign == "/"
            return [
                (labels, value / other)
                for labels, value in ours
                for its, other in theirs
                if key(its) == key(labels) and other
            ]
        return [it for it in ours if _COMPARE[sign](it[1], theirs)]

    return evaluate


def _quantile(share: float, buckets: Vector) -> Vector:
    groups: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    for labels, value in buckets:
        key = tuple((k, v) for k, v in labels.items() if k != "le")
        groups.setdefault(key, []).append((float(labels["le"]), value))
    return [(dict(key), _within(share, sorted(its))) for key, its in groups.items()]


def _within(share: float, buckets: list[tuple[float, float]]) -> float:
    rank = share * buckets[-1][1]
    low = below = 0.0
    for bound, count in buckets:
        if count >= rank:
            break
        low, below = bound, count
    if bound == float("inf"):
        return low
    return low + (bound - low) * (rank - below) / (count - below)
