"""What a definition may become and when, and the phase it is in: a row per rule."""

from collections.abc import Callable

import pytest
from catraca.sale.v1 import sale_pb2 as pb

from services.kit.manifest import spec_of
from services.queue.sales import rules
from tests.plans import plan_of, theatre

CREATED = 1_000_000
LOBBY, OPENS, CLOSES = 2_000_000, 3_000_000, 4_000_000

Edit = Callable[[pb.SaleSpec], object]


def spec(kind: str = "Draw", *, lobby: bool = True) -> pb.SaleSpec:
    ticket_types = [{"id": "full", "price": 100}, {"id": "half", "price": 50}]
    _, made = spec_of(
        {
            "apiVersion": "catraca.dev/v1alpha1",
            "kind": "TicketSale",
            "metadata": {"name": "show"},
            "spec": {
                "title": "A show",
                "currency": "BRL",
                "window": {"opensAt": "2027-01-01T10:00:00Z", "closesAt": "2027-01-02T10:00:00Z"},
                "line": {"kind": kind},
                "sections": [
                    {"id": "floor", "capacity": 100, "ticketTypes": ticket_types},
                    {"id": "hill", "capacity": 50, "ticketTypes": ticket_types},
                ],
            },
        }
    )
    if lobby:
        made.window.lobby_opens_at.FromMilliseconds(LOBBY)
    made.window.opens_at.FromMilliseconds(OPENS)
    made.window.closes_at.FromMilliseconds(CLOSES)
    return made


def sale(kind: str = "Draw") -> pb.Sale:
    made = rules.created("show", spec(kind), CREATED, "k1")
    if kind == "Draw":
        made.draw_commitment = "c" * 64
    return made


def fixed(before: pb.Sale, edit: Edit, now_ms: int) -> list[tuple[str, str]]:
    after = pb.SaleSpec()
    after.CopyFrom(before.spec)
    edit(after)
    return [(each.path, each.since) for each in rules.fixed(before, after, now_ms)]


def setting(path: str, value: object) -> Edit:
    """Sets a field named like `limits.per_buyer`."""

    def edit(made: pb.SaleSpec) -> None:
        *holders, name = path.split(".")
        holder: object = made
        for step in holders:
            holder = getattr(holder, step)
        setattr(holder, name, value)

    return edit


def opens_at(ms: int) -> Edit:
    return lambda made: made.window.opens_at.FromMilliseconds(ms)


def lobby_at(ms: int) -> Edit:
    return lambda made: made.window.lobby_opens_at.FromMilliseconds(ms)


def closes_at(ms: int) -> Edit:
    return lambda made: made.window.closes_at.FromMilliseconds(ms)


def new_section(made: pb.SaleSpec) -> None:
    made.sections.add(id="box", capacity=5, ticket_types=[pb.TicketType(id="full", price=1)])


def price(value: int) -> Edit:
    return lambda made: setattr(made.sections[0].ticket_types[0], "price", value)


def quota(value: int) -> Edit:
    return lambda made: setattr(made.sections[1].ticket_types[1], "quota", value)


def capacity(value: int) -> Edit:
    return lambda made: setattr(made.sections[1], "capacity", value)


def swap_ticket_types(made: pb.SaleSpec) -> None:
    made.sections[0].ticket_types.sort(key=lambda each: each.id, reverse=True)


BEFORE_LOBBY, IN_LOBBY, IN_SALE = LOBBY - 1, LOBBY + 1, OPENS + 1

FREE = [
    ("title", setting("title", "Another"), IN_SALE),
    ("section title", lambda made: setattr(made.sections[0], "title", "Floor"), IN_SALE),
    ("capacity up", capacity(51), IN_SALE),
    ("pause", setting("paused", True), IN_SALE),
    ("rate", setting("line.rate", 5.0), IN_SALE),
    ("concurrency", setting("line.concurrency", 5), IN_SALE),
    ("end", closes_at(CLOSES + 1), IN_SALE),
    ("end, earlier", closes_at(CLOSES - 1), IN_SALE),
    ("end, reopening", closes_at(CLOSES + 100), CLOSES + 1),
    ("opening, in time", opens_at(OPENS + 1), IN_LOBBY),
    ("lobby, in time", lobby_at(LOBBY + 1), BEFORE_LOBBY),
    ("lobby, had begun earlier", lobby_at(LOBBY - 10), IN_LOBBY),
    ("limit, in time", setting("limits.per_buyer", 2), IN_LOBBY),
    ("provider, in time", setting("payment.provider", "other"), IN_LOBBY),
    ("order of sections", lambda made: made.sections.sort(key=lambda each: each.id, reverse=True), IN_SALE),
]


@pytest.mark.parametrize(("edit", "now_ms"), [row[1:] for row in FREE], ids=[row[0] for row in FREE])
def test_what_may_change(edit: Edit, now_ms: int) -> None:
    assert fixed(sale(), edit, now_ms) == []


FIXED = [
    ("section removed", lambda made: made.sections.pop(), BEFORE_LOBBY, "spec.sections", "definition"),
    ("capacity down", capacity(49), BEFORE_LOBBY, "spec.sections[1].capacity", "definition"),
    ("currency", setting("currency", "EUR"), BEFORE_LOBBY, "spec.currency", "commitment"),
    ("no line", setting("line.kind", pb.LINE_KIND_NONE), BEFORE_LOBBY, "spec.line.kind", "commitment"),
    ("beacon", setting("line.beacon", "drand"), BEFORE_LOBBY, "spec.line.beacon", "commitment"),
    ("section added", new_section, BEFORE_LOBBY, "spec.sections[2]", "commitment"),
    ("price", price(99), BEFORE_LOBBY, "spec.sections[0].ticketTypes[0].price", "commitment"),
    ("quota", quota(9), BEFORE_LOBBY, "spec.sections[1].ticketTypes[1].quota", "commitment"),
    ("ticket types", swap_ticket_types, BEFORE_LOBBY, "spec.sections[0].ticketTypes", "commitment"),
    ("lobby", lobby_at(LOBBY + 10), IN_LOBBY, "spec.window.lobbyOpensAt", "lobby"),
    ("opening", opens_at(OPENS + 10), IN_SALE, "spec.window.opensAt", "opening"),
    ("opening, just before", opens_at(OPENS + 10), OPENS - 1, "spec.window.opensAt", "opening"),
    ("limit", setting("limits.per_buyer", 3), IN_SALE, "spec.limits.perBuyer", "opening"),
    ("provider", setting("payment.provider", "x"), IN_SALE, "spec.payment.provider", "opening"),
    ("rehearsal", setting("rehearsal", True), IN_SALE, "spec.rehearsal", "opening"),
]


@pytest.mark.parametrize(
    ("edit", "now_ms", "path", "since"), [row[1:] for row in FIXED], ids=[row[0] for row in FIXED]
)
def test_what_is_fixed(edit: Edit, now_ms: int, path: str, since: str) -> None:
    assert fixed(sale(), edit, now_ms) == [(path, since)]


def test_without_a_line_the_opening_fixes_what_the_commitment_fixes_elsewhere() -> None:
    for edit in (setting("currency", "EUR"), price(99), setting("line.kind", pb.LINE_KIND_DRAW), new_section):
        assert fixed(sale("None"), edit, IN_LOBBY) == []
        assert [since for _, since in fixed(sale("None"), edit, IN_SALE)] == ["opening"]
    assert fixed(sale("None"), capacity(1), BEFORE_LOBBY) == [("spec.sections[1].capacity", "definition")]


@pytest.mark.parametrize(
    ("now_ms", "paused", "phase"),
    [
        (LOBBY - 1, False, pb.SALE_PHASE_SCHEDULED),
        (LOBBY - 1, True, pb.SALE_PHASE_SCHEDULED),
        (LOBBY, False, pb.SALE_PHASE_LOBBY),
        (LOBBY, True, pb.SALE_PHASE_LOBBY),
        (OPENS - 1, False, pb.SALE_PHASE_LOBBY),
        (OPENS, False, pb.SALE_PHASE_OPEN),
        (OPENS, True, pb.SALE_PHASE_PAUSED),
        (CLOSES - 1, False, pb.SALE_PHASE_OPEN),
        (CLOSES, False, pb.SALE_PHASE_CLOSED),
        (CLOSES, True, pb.SALE_PHASE_CLOSED),
    ],
)
def test_the_phase_follows_from_definition_and_clock(now_ms: int, paused: bool, phase: int) -> None:
    made = sale()
    made.spec.paused = paused
    assert rules.phase(made, now_ms) == phase


def test_archived_stays_archived() -> None:
    made = sale()
    made.phase = pb.SALE_PHASE_ARCHIVED
    assert rules.phase(made, LOBBY) == pb.SALE_PHASE_ARCHIVED


@pytest.mark.parametrize(
    ("kind", "created_ms", "lobby_ms"),
    [("Draw", CREATED, CREATED), ("Draw", OPENS + 5, OPENS), ("None", CREATED, OPENS)],
)
def test_a_lobby_without_a_time(kind: str, created_ms: int, lobby_ms: int) -> None:
    made = rules.created("show", spec(kind, lobby=False), created_ms, "k1")
    assert made.spec.window.lobby_opens_at.ToMilliseconds() == lobby_ms


def test_the_same_spec_again_is_the_same_sale() -> None:
    before = rules.created("show", spec(lobby=False), CREATED, "k1")
    before.draw_commitment = "c"
    assert rules.changed(before, spec(lobby=False)) == before


def test_a_new_sale_must_not_be_over() -> None:
    assert rules.wrong_at_creation(spec(), CLOSES - 1) == []
    assert [each.path for each in rules.wrong_at_creation(spec(), CLOSES)] == ["spec.window.closesAt"]


def seated() -> pb.Sale:
    """A sale without a line whose first section is the stalls; all is released before the opening."""
    made = spec("None")
    made.seating_plan.digest = "a" * 64
    made.seating_plan.release_at.FromMilliseconds(OPENS - 1000)
    made.sections[0].kind = pb.SECTION_KIND_SEATED
    made.sections[0].seats.categories.append("Stalls")
    return rules.created("show", made, CREATED, "k1")


def release_at(ms: int) -> Edit:
    return lambda made: made.seating_plan.release_at.FromMilliseconds(ms)


def standing(made: pb.SaleSpec) -> None:
    made.sections[0].kind = pb.SECTION_KIND_STANDING
    made.sections[0].ClearField("seats")


SEATED_FIXED = [
    (setting("seating_plan.digest", "b"), "spec.seatingPlan.digest", "definition"),
    (lambda made: made.sections[0].seats.categories.append("More"), "spec.sections[0].seats", "definition"),
    (lambda made: made.sections[0].seats.accessible.append("A1"), "spec.sections[0].seats", "definition"),
]


@pytest.mark.parametrize(("edit", "path", "since"), SEATED_FIXED)
def test_units_keep_their_seats(edit: Edit, path: str, since: str) -> None:
    assert fixed(seated(), edit, BEFORE_LOBBY) == [(path, since)]


def test_a_section_stays_what_it_is() -> None:
    assert ("spec.sections[0].kind", "definition") in fixed(seated(), standing, BEFORE_LOBBY)
    made = lambda made: setattr(made.sections[1], "kind", pb.SECTION_KIND_SEATED)  # noqa: E731
    assert fixed(seated(), made, BEFORE_LOBBY) == [("spec.sections[1].kind", "definition")]


def test_what_was_released_stays_released() -> None:
    assert fixed(seated(), release_at(OPENS - 900), OPENS - 7000) == []
    again = fixed(seated(), release_at(OPENS + 900), OPENS - 500)
    assert again == [("spec.seatingPlan.releaseAt", "release")]


def test_the_plan_says_how_many_seats_a_section_has() -> None:
    made = rules.seated(seated().spec, plan_of(theatre()))
    assert [section.capacity for section in made.sections] == [38, 50]


def test_lists_leave_sections_out() -> None:
    made = sale()
    short = rules.without_sections(made)
    assert not short.spec.sections
    assert made.spec.sections
    assert short.sale == made.sale
