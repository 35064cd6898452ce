"""Durations as text and back, and what a message takes from a mapping."""

import pytest
from catraca.sale.v1.sale_pb2 import SaleSpec

from services.kit.spec import DURATION, KUBERNETES_ONLY, duration_ms, duration_text, message_of


@pytest.mark.parametrize(
    ("text", "ms"),
    [("5m", 300_000), ("30s", 30_000), ("1h30m", 5_400_000), ("500ms", 500), ("1m500ms", 60_500), ("0s", 0)],
)
def test_text_and_milliseconds_say_the_same(text: str, ms: int) -> None:
    assert duration_ms(text) == ms
    assert duration_text(ms) == text


def test_the_shortest_text_is_written() -> None:
    assert duration_text(duration_ms("90m")) == "1h30m"


def test_a_negative_duration_is_told_as_one() -> None:
    assert duration_text(-1500) == "-1s500ms"


@pytest.mark.parametrize("text", ["", "5", "m", "5m1h", "1.5s", "-5s", "5m\n", "5 m"])
def test_what_is_no_duration(text: str) -> None:
    assert DURATION.fullmatch(text) is None


def test_what_a_message_leaves_out_is_listed() -> None:
    spec = SaleSpec()
    message_of({"title": "A", **{name: {"x": 1} for name in KUBERNETES_ONLY}}, spec)
    assert spec == SaleSpec(title="A")
    with pytest.raises(ValueError, match="SaleSpec has no surprise"):
        message_of({"title": "A", "surprise": 1}, spec)
