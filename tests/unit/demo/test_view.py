"""The demo's view shows what is known, and holds together before anything is."""

import time

from catraca.events.v1 import events_pb2 as events
from rich.console import Console

from local.demo.view import line, view
from local.demo.watch import Picture


def drawn(picture: Picture) -> str:
    console = Console(width=160, record=True, file=None, force_terminal=False)
    with console.capture() as capture:
        console.print(view(picture, "the parts", ["an address"]))
    return capture.get()


def test_is_drawn_before_anything_is_known() -> None:
    picture = Picture("demo-1")
    assert "demo-1: SCHEDULED" in drawn(picture)
    assert "sold 0 of 0" in line(picture)


def test_shows_counts_orders_events_and_the_end() -> None:
    picture = Picture("demo-1", opens_at=time.time() + 30, phase="LOBBY")
    picture.counts = {"capacity": 300, "promised": 12, "held": 3, "sold": 45, "turns": 4}
    picture.orders = {"CONFIRMED": 20, "EXPIRED": 2}
    picture.crowd = {"joined": 99, "serving": 30}
    picture.conclusion = ["all is well"]
    change = events.QueueChange(act=events.QUEUE_ACT_SERVING, serving=30)
    picture.messages.append(
        ("catraca.queue.demo-1.line", events.QueueBatch(changes=[change]).SerializeToString())
    )
    text = drawn(picture)
    for shown in (
        "opens in",
        "the parts",
        "an address",
        "45 of 300",
        "orders EXPIRED",
        "serving up to place 30",
        "all is well",
        "4 turns are running",
    ):
        assert shown in text, shown
    assert "sold 45 of 300; orders: CONFIRMED 20, EXPIRED 2" in line(picture)


def test_only_the_latest_events_are_shown() -> None:
    picture = Picture("demo-1")
    for serving in range(1, 100):
        change = events.QueueChange(act=events.QUEUE_ACT_SERVING, serving=serving)
        picture.messages.append(
            ("catraca.queue.demo-1.line", events.QueueBatch(changes=[change]).SerializeToString())
        )
    shown = picture.events(3)
    assert [text.rpartition(" ")[2] for text in shown] == ["97", "98", "99"]
