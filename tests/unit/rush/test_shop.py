"""What buyers ask for: one section by taste, then whatever is left."""

from local.rush.shop import Offer, by_stock, by_taste, count

OFFERS = [
    Offer("floor", 60, (("full", 200), ("half", 100))),
    Offer("balcony", 40, (("full", 150),)),
]


def test_taste_follows_the_capacity() -> None:
    chosen = [by_taste(OFFERS, step / 100, 2)[0] for step in range(100)]
    assert sum(section == "floor" for section, _, _ in chosen) == 60
    assert {kind for section, kind, _ in chosen if section == "floor"} == {"full", "half"}
    assert all(quantity == 2 for _, _, quantity in chosen)


def test_the_whole_comes_from_the_first_section_that_has_it() -> None:
    assert by_stock(OFFERS, {"floor": 5, "balcony": 5}, 3, first=0) == [("floor", "full", 3)]
    assert by_stock(OFFERS, {"floor": 5, "balcony": 5}, 3, first=1) == [("balcony", "full", 3)]


def test_what_one_section_lacks_comes_from_the_others() -> None:
    assert by_stock(OFFERS, {"floor": 1, "balcony": 2}, 3, first=0) == [
        ("floor", "full", 1),
        ("balcony", "full", 2),
    ]


def test_what_is_promised_is_asked_for_even_where_the_count_says_nothing_is_left() -> None:
    items = by_stock(OFFERS, {"floor": 0, "balcony": 1}, 3, first=0)
    assert count(items) == 3
    assert len({section for section, _, _ in items}) == len(items)
