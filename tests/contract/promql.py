"""Reads PromQL as far as it takes to find what an expression asks of which metric. No evaluation."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<text>"(?:[^"\\]|\\.)*")
  | (?P<range>\[(?:\d+(?:ms|[smhdwy]))+\]|\[\$__rate_interval\])
  | (?P<number>\d+(?:\.\d+)?)
  | (?P<word>[A-Za-z_:][A-Za-z0-9_:]*)
  | (?P<sign>=~|!~|!=|==|<=|>=|[-+*/%^<>=(){},])
    """,
    re.VERBOSE,
)
AGGREGATIONS = frozenset({"sum", "min", "max", "avg", "count", "topk"})
# Over a counter's range, over a gauge's, and those that take what others made.
OF_COUNTERS = frozenset({"rate", "increase", "irate"})
OF_GAUGES = frozenset({"changes", "min_over_time", "max_over_time", "avg_over_time", "deriv"})
OTHER = frozenset({"histogram_quantile", "clamp_min", "clamp_max", "abs"})
GROUPINGS = frozenset({"by", "without", "on", "ignoring", "group_left", "group_right"})
OPERATORS = frozenset({"and", "or", "unless", "bool"})
CLOSES = {"(": ")", "{": "}"}


class Malformed(Exception):
    """No expression of PromQL, or one that goes beyond what is read here."""


@dataclass
class Selector:
    """One metric in an expression, and what is asked of it."""

    metric: str
    matchers: list[tuple[str, str, str]] = field(default_factory=list)
    """(label, operator, value)."""
    has_range: bool = False
    within: tuple[str, ...] = ()
    """The functions and aggregations around it, the outermost first."""


@dataclass
class Expression:
    """What was found in an expression."""

    selectors: list[Selector] = field(default_factory=list)
    grouped: set[str] = field(default_factory=set)
    """Every label in a by, on and the like."""


def tokens(text: str) -> Iterator[tuple[str, str]]:
    """(kind, text), without spaces."""
    position = 0
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise Malformed(f"{text[position : position + 12]!r} at {position}")
        position = match.end()
        if match.lastgroup != "space":
            yield str(match.lastgroup), match[0]


def parse(text: str) -> Expression:
    """Find the metrics, their matchers and the groupings of an expression. Raises Malformed."""
    reader = _Reader(list(tokens(text)))
    reader.read()
    return reader.found


class _Reader:
    def __init__(self, listed: list[tuple[str, str]]) -> None:
        self._tokens = [*listed, ("end", "")]
        self._at = 0
        self._open: list[str] = []
        self.found = Expression()

    def _take(self) -> tuple[str, str]:
        self._at += 1
        return self._tokens[self._at - 1]

    def _next(self) -> str:
        return self._tokens[self._at][1]

    def read(self) -> None:
        while True:
            kind, text = self._take()
            if kind == "end":
                break
            if kind == "word":
                self._word(text)
            elif text == "(":
                self._open.append("")
            elif text == ")":
                if not self._open:
                    raise Malformed("a bracket is closed that was not opened")
                self._open.pop()
            elif text in "{}" or kind in ("text", "range"):
                raise Malformed(f"{text} belongs to no metric")
        if self._open:
            raise Malformed("a bracket is not closed")
        if not self.found.selectors:
            raise Malformed("it names no metric")

    def _word(self, word: str) -> None:
        if word in GROUPINGS:
            self._expect("(")
            self.found.grouped |= {label for label, _, _ in self._listed(")", matched=False)}
        elif word in AGGREGATIONS:
            # Its grouping stands before or after what it aggregates.
            if self._next() in ("by", "without"):
                self._word(self._take()[1])
            self._expect("(")
            self._open.append(word)
        elif self._next() == "(" and word not in OPERATORS:
            if word not in OF_COUNTERS | OF_GAUGES | OTHER:
                raise Malformed(f"{word} is no function that is known here")
            self._take()
            self._open.append(word)
        elif word not in OPERATORS:
            self._selector(word)

    def _selector(self, metric: str) -> None:
        selector = Selector(metric, within=tuple(name for name in self._open if name))
        if self._next() == "{":
            self._take()
            selector.matchers = self._listed("}", matched=True)
        if self._tokens[self._at][0] == "range":
            self._take()
            selector.has_range = True
        self.found.selectors.append(selector)

    def _listed(self, close: str, *, matched: bool) -> list[tuple[str, str, str]]:
        """What stands between brackets, separated by commas: labels, or labels with what they match."""
        listed = []
        while self._next() != close:
            kind, label = self._take()
            if kind != "word":
                raise Malformed(f"{label!r} is no label")
            operator, value = "", ""
            if matched:
                operator, (kind, value) = self._take()[1], self._take()
                if operator not in ("=", "!=", "=~", "!~") or kind != "text":
                    raise Malformed(f"{label}{operator}{value} matches nothing")
            listed.append((label, operator, value.strip('"')))
            if self._next() == ",":
                self._take()
        self._take()
        return listed

    def _expect(self, text: str) -> None:
        found = self._take()[1]
        if found != text:
            raise Malformed(f"{found!r} where {text!r} was expected")


Known = Mapping[str, tuple[str, frozenset[str]]]
"""Kind (counter, gauge, bucket) and labels by the name of a sample."""


def problems(text: str, known: Known, values: Mapping[str, frozenset[str]]) -> list[str]:
    """What is wrong with an expression, given the samples that exist and the values that some labels have."""
    try:
        found = parse(text)
    except Malformed as malformed:
        return [str(malformed)]
    wrong = [problem for selector in found.selectors for problem in _of_selector(selector, known, values)]
    labels = frozenset[str]().union(*(known[s.metric][1] for s in found.selectors if s.metric in known))
    wrong += [f"nothing has the label {label}" for label in sorted(found.grouped - labels)]
    return wrong


def _of_selector(selector: Selector, known: Known, values: Mapping[str, frozenset[str]]) -> Iterator[str]:
    metric = selector.metric
    if metric not in known:
        yield f"there is no metric {metric}"
        return
    kind, labels = known[metric]
    innermost = selector.within[-1] if selector.within else ""
    ranged = OF_COUNTERS | OF_GAUGES
    if selector.has_range != (innermost in ranged):
        yield f"{metric} needs a range within a function over time, and only there"
    if kind == "gauge" and innermost in OF_COUNTERS:
        yield f"{metric} is a gauge, of which {innermost} makes no sense"
    if kind != "gauge" and innermost not in OF_COUNTERS:
        yield f"{metric} only grows: its rate or increase is what tells something"
    if (kind == "bucket") != ("histogram_quantile" in selector.within):
        yield f"{metric}: quantiles are of buckets, and buckets are for quantiles"
    for label, operator, value in selector.matchers:
        if label not in labels:
            yield f"{metric} has no label {label}"
        elif label in values and not value.startswith("$"):
            choices = value.split("|") if operator in ("=~", "!~") else [value]
            yield from (
                f"{label} is never {choice}" for choice in choices if choice and choice not in values[label]
            )
