"""Streams of one buyer: so many and no more, and nothing is remembered of who has none."""

from contextlib import ExitStack

import pytest

from services.kit.errors import Refusal
from services.kit.per_buyer import StreamsPerBuyer

ANA, BIA = ("", "ana"), ("", "bia")


def test_one_too_many_is_refused_and_others_are_not_concerned() -> None:
    streams = StreamsPerBuyer(2)
    with ExitStack() as open_:
        for _ in range(2):
            open_.enter_context(streams.one_more(ANA))
        with pytest.raises(Refusal, match="STREAM_LIMIT") as refused, streams.one_more(ANA):
            pass
        assert refused.value.metadata == {"limit": "2"}
        with streams.one_more(BIA):
            assert len(streams) == 2
    assert len(streams) == 0


def test_a_stream_that_ends_makes_room_however_it_ends() -> None:
    streams = StreamsPerBuyer(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="broke"), streams.one_more(ANA):
            raise ValueError("the stream broke")
    with streams.one_more(ANA):
        assert len(streams) == 1
