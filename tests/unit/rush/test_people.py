"""Simulated people: the same seed gives the same crowd, and the crowd has the habits it was given."""

from collections import Counter

from local.rush.people import Buy, Line, Pay, Trick, person
from local.rush.settings import Habits, Plan, RushSettings

CROWD = 20_000


def test_the_same_seed_gives_the_same_people_and_another_seed_gives_others() -> None:
    first = [person(RushSettings(seed=7), number) for number in range(50)]
    assert first == [person(RushSettings(seed=7), number) for number in range(50)]
    assert first != [person(RushSettings(seed=8), number) for number in range(50)]


def test_each_habit_has_its_share() -> None:
    habits = Habits()
    people = [person(RushSettings(), number) for number in range(CROWD)]
    shares = {
        "late": sum(one.late for one in people),
        "leaves_line": sum(one.line is Line.LEAVES_LINE for one in people),
        "holds_first": sum(one.buy is Buy.HOLDS_FIRST for one in people),
        "clicks_twice": sum(one.buy is Buy.CLICKS_TWICE for one in people),
        "never_pays": sum(one.pay is Pay.NEVER_PAYS for one in people),
        "forges": sum(one.trick is Trick.FORGED for one in people),
        "walks_away": sum(one.walks_away for one in people),
        "reconnects": sum(one.reconnects for one in people),
    }
    for name, found in shares.items():
        expected = getattr(habits, name) * CROWD
        # Five standard deviations of a binomial: a wrong share shows, chance does not.
        assert abs(found - expected) < 5 * expected**0.5 + 1, name


def test_habits_are_independent_of_each_other() -> None:
    people = [person(RushSettings(), number) for number in range(CROWD)]
    lapses = [one for one in people if one.line is Line.LAPSES_UNSEEN]
    again = sum(one.again for one in lapses)
    assert 0.35 < again / len(lapses) < 0.65


def test_nobody_who_comes_late_leaves_the_lobby_or_intrudes_before_the_opening() -> None:
    settings = RushSettings(habits=Habits(late=1.0, leaves_lobby=0.5, intrudes=0.9))
    people = [person(settings, number) for number in range(500)]
    assert not any(one.line is Line.LEAVES_LOBBY or one.trick is Trick.BEFORE_OPENING for one in people)


def test_wants_stay_within_the_limit() -> None:
    wants = Counter(person(RushSettings(limit=2), number).wants for number in range(500))
    assert set(wants) == {1, 2}


def test_a_plan_survives_the_way_to_the_other_process() -> None:
    plan = Plan(
        settings=RushSettings(buyers=5, habits=Habits(late=0.5)),
        sale="a-sale",
        targets={"queue": "127.0.0.1:1"},
        certificate={"ca": "ca.pem"},
        issuer="http://127.0.0.1:2",
        issuer_key_file="key.pem",
        sections=[["floor", 10, [["full", 100]]]],
    )
    assert Plan.loads(plan.dumps()) == plan
