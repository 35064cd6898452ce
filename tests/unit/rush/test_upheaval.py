"""What is done to the services meanwhile, and which of the buyers' setbacks fall into its time."""

import time
from collections.abc import Callable

from local.rush.upheaval import ECHO_S, Upheaval
from local.stack import Stack


async def test_only_what_buyers_met_in_its_time_counts() -> None:
    stack = Stack.__new__(Stack)
    seen: list[Stack] = []

    async def act(on: Stack, done: Callable[[str, int], None]) -> None:
        seen.append(on)
        done("queue", 0)
        done("queue", 1)

    upheaval = Upheaval("test", act, unnoticed=True)
    now = int(time.time())
    before = upheaval.to_json([(now, "order UNAVAILABLE", 1)])
    assert (before["finished"], before["replicas"], before["refused"]) == (False, [], {})

    await upheaval.run(stack, opens_at=0.0)

    now = int(time.time())
    told = upheaval.to_json(
        [
            (now - 60, "join UNAVAILABLE", 1),
            (now, "order UNAVAILABLE", 2),
            (now + 1, "order UNAVAILABLE", 3),
            (now + int(ECHO_S) + 60, "enter DEADLINE", 1),
        ]
    )
    assert seen == [stack]
    assert told["finished"]
    assert told["replicas"] == ["queue-1", "queue-2"]
    assert told["refused"] == {"order UNAVAILABLE": 5}
