"""The public standing as a document: what is in it, what is not, and when it is another one."""

import json
from dataclasses import replace

from catraca.queue.v1 import queue_pb2

from services.queue import rules
from services.queue.public import document
from services.queue.states import Availability, Phase, Standing

STANDING = Standing(
    phase=Phase.OPEN,
    now_ms=1_700_000_060_000,
    serving=30,
    joined=100,
    cohort=80,
    key=b"the draw's key",
    availability=Availability.SELLING,
    revision=3,
    lobby_opens_ms=1_699_999_000_000,
    opens_ms=1_700_000_000_000,
    closes_ms=1_700_003_600_000,
    marks=((1_700_000_050_000, 10),),
)


def test_it_says_what_everyone_may_know_and_nothing_else() -> None:
    assert json.loads(document("a-sale", STANDING).body) == {
        "sale": "a-sale",
        "phase": "OPEN",
        "serving": 30,
        "joined": 100,
        "cohort": 80,
        "drawn": True,
        "availability": "SELLING",
        "calling_rate": 2.0,
        "pace": [1.1, 2.9],
        "opens_at": "2023-11-14T22:13:20.000Z",
        "closes_at": "2023-11-14T23:13:20.000Z",
    }


def test_the_range_of_the_pace_is_never_narrower_than_it_is_honest() -> None:
    for serving in range(20, 5000, 37):
        standing = replace(STANDING, serving=serving, joined=10_000)
        low, high = rules.pace(standing) or (0, 0)
        said = json.loads(document("a-sale", standing).body)["pace"]
        assert 0 < said[0] <= low * 1.000001 and said[1] >= high * 0.999999
        assert said == [float(f"{end:.2g}") for end in said], "two digits, so that few documents differ"
    for nothing in (replace(STANDING, phase=Phase.PAUSED), replace(STANDING, serving=12)):
        assert json.loads(document("a-sale", nothing).body)["pace"] is None


def test_before_the_draw_there_is_no_cohort() -> None:
    waiting = replace(STANDING, phase=Phase.LOBBY, cohort=None, key=b"", marks=())

    said = json.loads(document("a-sale", waiting).body)

    assert (said["cohort"], said["drawn"], said["calling_rate"]) == (0, False, 0.0)


def test_another_moment_is_not_another_document() -> None:
    quiet = replace(STANDING, marks=())
    first, later = document("a-sale", quiet), document("a-sale", replace(quiet, now_ms=quiet.now_ms + 60_000))

    assert (first.etag, first.body) == (later.etag, later.body)
    assert later.now_ms == first.now_ms + 60_000


def test_every_change_is_another_document() -> None:
    changed = [
        replace(STANDING, phase=Phase.PAUSED),
        replace(STANDING, serving=31),
        replace(STANDING, joined=101),
        replace(STANDING, availability=Availability.MAY_RETURN),
        replace(STANDING, closes_ms=STANDING.closes_ms + 1),
    ]

    etags = {document("a-sale", each).etag for each in [STANDING, *changed]} | {
        document("another", STANDING).etag
    }
    assert len(etags) == len(changed) + 2


def test_it_carries_all_that_watching_the_sale_does() -> None:
    said = set(json.loads(document("a-sale", STANDING).body))
    watched = {field.name for field in queue_pb2.SaleStanding.DESCRIPTOR.fields}

    # The moment is in a header, so that it does not make another document.
    assert said - {"sale"} == watched - {"now"}
