"""A stream tells every last state, nothing twice, and keeps little: whatever happens in whatever order."""

from collections import defaultdict

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from services.notifier.rules import (
    Mailbox,
    State,
    TooManyOrders,
    buyer_key,
    key_and_order,
    key_turn_version,
    subject_of,
    turn_subject_of,
)

BUYERS = [buyer_key("concert", f"buyer{number}") for number in range(3)]
ORDERS = [(key, f"{key}-order{number}") for key in BUYERS for number in range(2)]
MAX_PENDING = 1


def state(key: str, order: str, version: int) -> State:
    return State(key, order, version, f"{order} in version {version}".encode())


class Telling(RuleBasedStateMachine):
    """A mailbox beside a stream of orders, a follower that loses messages, and a reader of last states."""

    def __init__(self) -> None:
        super().__init__()
        self.mailbox = Mailbox(MAX_PENDING, max_orders=100)
        self.published: dict[tuple[str, str], int] = {}
        self.in_flight: list[State] = []
        self.following = True
        # What a request that is under way asked for, and what the server answered it, if it did already.
        self.asked: list[str] = []
        self.answer: list[State] | None = None
        self.told: dict[str, dict[str, int]] = defaultdict(dict)
        # What had been decided when the buyer was added: being caught up promises at least that.
        self.owed: dict[str, dict[str, int]] = {}
        self.added = 0
        self.caught_up = 0

    @initialize(live=st.booleans())
    def begin(self, live: bool) -> None:
        if live:
            for key in BUYERS:
                self.a_buyer_is_added(key)
            self.mailbox.finish_reading(self.mailbox.begin_reading(len(BUYERS)), [])

    @rule(order=st.sampled_from(ORDERS))
    def checkout_decides(self, order: tuple[str, str]) -> None:
        version = self.published[order] = self.published.get(order, -1) + 1
        if self.following:
            self.in_flight.append(state(*order, version))

    @rule()
    def news_arrives(self) -> None:
        if self.in_flight:
            self.mailbox.offer(self.in_flight.pop(0))

    @rule()
    def the_follower_is_lost(self) -> None:
        self.following = False
        self.in_flight.clear()

    @rule()
    def the_follower_is_back(self) -> None:
        if not self.following:
            self.following = True
            self.mailbox.forget_position()

    @rule(key=st.sampled_from(BUYERS))
    def a_buyer_is_added(self, key: str) -> None:
        if self.mailbox.add(key):
            self.owed[key] = {
                order[1]: version for order, version in self.published.items() if order[0] == key
            }
        self.added += 1

    @rule(key=st.sampled_from(BUYERS))
    def a_buyer_is_dropped(self, key: str) -> None:
        self.mailbox.drop(key)
        self.told.pop(key, None)

    @rule(at_most=st.integers(1, 3))
    def reading_begins(self, at_most: int) -> None:
        if not self.asked and self.mailbox.wants_reading:
            self.asked = self.mailbox.begin_reading(at_most)

    @rule()
    def the_server_reads(self) -> None:
        if self.asked and self.answer is None:
            self.answer = [
                state(*order, version) for order, version in self.published.items() if order[0] in self.asked
            ]

    @rule()
    def reading_ends(self) -> None:
        if self.answer is not None:
            self.mailbox.finish_reading(self.asked, self.answer)
            self.asked, self.answer = [], None

    @rule()
    def reading_fails(self) -> None:
        if self.asked:
            self.mailbox.fail_reading(self.asked)
            self.asked, self.answer = [], None

    @rule(at_most=st.integers(1, 3))
    def the_client_reads(self, at_most: int) -> None:
        batch = self.mailbox.take(at_most, max_bytes=1_000_000)
        if batch is None:
            return
        for told in batch.states:
            assert told.key in self.mailbox.subjects
            assert told.version > self.told[told.key].get(told.order_id, -1), "told twice, or out of order"
            self.told[told.key][told.order_id] = told.version
        assert self.caught_up <= batch.caught_up <= self.added
        self.caught_up = batch.caught_up
        if self.caught_up == self.added:
            for key in self.mailbox.subjects:
                assert all(self.told[key].get(order, -1) >= least for order, least in self.owed[key].items())

    @invariant()
    def little_is_kept(self) -> None:
        assert len(self.mailbox._pending) <= MAX_PENDING
        assert self.mailbox._unread.keys() | self.mailbox._reading <= self.mailbox.subjects.keys()

    def teardown(self) -> None:
        """When everything has come to rest, every client knows every last state."""
        self.the_follower_is_back()
        while self.in_flight:
            self.news_arrives()
        for _ in range(100):
            self.reading_begins(3)
            self.the_server_reads()
            self.reading_ends()
            self.the_client_reads(3)
        for (key, order), version in self.published.items():
            if key in self.mailbox.subjects:
                assert self.told[key].get(order) == version
        assert self.caught_up == self.added


Telling.TestCase.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)
TestTelling = Telling.TestCase


def test_a_state_read_while_newer_news_waits_is_told_once_in_its_newest_version() -> None:
    mailbox = Mailbox(10, 10)
    key, order = ORDERS[0]
    mailbox.add(key)
    keys = mailbox.begin_reading(10)
    mailbox.offer(state(key, order, 3))
    mailbox.offer(state(key, order, 4))
    mailbox.finish_reading(keys, [state(key, order, 2)])

    batch = mailbox.take(10, 1000)

    assert batch is not None
    assert [told.version for told in batch.states] == [4]
    assert mailbox.take(10, 1000) is None


def test_being_caught_up_is_said_with_the_last_of_the_states_read() -> None:
    mailbox = Mailbox(10, 10)
    key = BUYERS[0]
    mailbox.add(key)
    keys = mailbox.begin_reading(10)
    mailbox.finish_reading(keys, [state(key, "first", 0), state(key, "second", 0)])

    one, two = mailbox.take(1, 1000), mailbox.take(1, 1000)

    assert one is not None
    assert one.caught_up == 0
    assert two is not None
    assert two.caught_up == 1
    assert mailbox.take(1, 1000) is None


def test_a_buyer_added_again_during_a_read_is_caught_up_by_the_next_one() -> None:
    mailbox = Mailbox(10, 10)
    key, order = ORDERS[0]
    mailbox.add(key)
    asked = mailbox.begin_reading(10)
    mailbox.drop(key)
    mailbox.add(key)
    mailbox.finish_reading(asked, [state(key, order, 0)])

    first = mailbox.take(10, 1000)
    mailbox.finish_reading(mailbox.begin_reading(10), [state(key, order, 1)])
    second = mailbox.take(10, 1000)

    assert first is not None
    assert first.caught_up == 1, "only the addition that was dropped again is settled"
    assert second is not None
    assert [told.version for told in second.states] == [1]
    assert second.caught_up == 2


def test_a_buyer_without_orders_is_caught_up_too() -> None:
    mailbox = Mailbox(10, 10)
    mailbox.add(BUYERS[0])
    mailbox.finish_reading(mailbox.begin_reading(10), [])

    batch = mailbox.take(10, 1000)

    assert batch is not None
    assert (batch.states, batch.caught_up) == ([], 1)


def test_a_full_batch_leaves_the_rest_for_the_next() -> None:
    mailbox = Mailbox(10, 10)
    key = BUYERS[0]
    mailbox.add(key)
    mailbox.finish_reading(mailbox.begin_reading(10), [state(key, f"order{n}", 0) for n in range(3)])

    sizes = [len(batch.states) for _ in range(3) if (batch := mailbox.take(10, max_bytes=30)) is not None]

    assert sizes == [2, 1]


def test_more_orders_than_a_stream_may_remember_end_it() -> None:
    mailbox = Mailbox(10, max_orders=2)
    key = BUYERS[0]
    mailbox.add(key)
    mailbox.finish_reading(mailbox.begin_reading(10), [state(key, f"order{n}", 0) for n in range(3)])

    with pytest.raises(TooManyOrders):
        mailbox.take(10, 1000)


def test_dropping_a_buyer_makes_room_for_other_orders() -> None:
    mailbox = Mailbox(10, max_orders=1)
    for key in BUYERS[:2]:
        mailbox.add(key)
        mailbox.finish_reading(mailbox.begin_reading(10), [state(key, f"{key}-order", 0)])
        batch = mailbox.take(10, 1000)
        assert batch is not None
        assert [told.key for told in batch.states] == [key]
        mailbox.drop(key)


def test_a_subject_names_buyer_and_order() -> None:
    assert key_and_order("catraca.checkout.concert.order.abc.xyz") == ("concert.abc", "xyz")
    assert key_and_order("catraca.checkout.concert.order.abc") is None
    assert key_and_order("catraca.checkout.concert.other.abc.xyz") is None
    assert subject_of("concert.abc") == "catraca.checkout.concert.order.abc.*"


def test_a_turns_subject_names_it_with_its_sale_and_its_last_word_wins() -> None:
    near, come = (key_turn_version(f"catraca.turn.concert.abc.7.{word}") for word in ("near", "come"))

    assert near == ("concert.abc", "turn concert 7", 0)
    assert come == ("concert.abc", "turn concert 7", 1)
    assert key_turn_version("catraca.turn.concert.abc.7.over") is None
    assert key_turn_version("catraca.turn.concert.abc.7") is None
    assert turn_subject_of("concert.abc") == "catraca.turn.concert.abc.*.*"
