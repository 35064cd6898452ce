"""Judges a snapshot: every check once, in the order of the invariants."""

from local.audit import (
    i1_units,
    i2_counts,
    i3_limit,
    i4_charged,
    i5_issued,
    i6_orders,
    i7_once,
    i8_line,
    i11_published,
)
from local.audit.facts import Facts
from local.audit.findings import Finding
from local.audit.line import LineReplay
from local.audit.replay import Replay


def judge(facts: Facts) -> list[Finding]:
    """One finding per invariant. Pure: the same facts are judged the same."""
    replay = Replay(facts)
    return [
        i1_units.check(facts, replay),
        i2_counts.check(facts, replay),
        i3_limit.check(facts, replay),
        i4_charged.check(facts),
        i5_issued.check(facts),
        i6_orders.check(facts),
        i7_once.check(facts, replay),
        i8_line.check(facts, LineReplay(facts)),
        i11_published.check(facts, replay),
    ]


def persistent(first: list[Finding], second: list[Finding]) -> list[Finding]:
    """The second reading's findings, with only those violations that the first one had too.

    A sale that goes on while its stores are read one after the other can look wrong for a moment; what is
    wrong stays wrong.
    """
    for before, after in zip(first, second, strict=True):
        known = set(before.violations)
        after.violations = [sentence for sentence in after.violations if sentence in known]
    return second
