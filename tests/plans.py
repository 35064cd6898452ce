"""Seating plans for tests, in pretix's format: the example's small theatre, and stadiums of any size."""

import json
from functools import cache
from math import cos, pi, sin
from pathlib import Path
from typing import Any

from catraca.sale.v1 import sale_pb2

from services.kit.plans.compiled import Plan
from services.kit.plans.document import read_plan

THEATRE = Path(__file__).parents[1] / "examples/theatre-plan.json"

Document = dict[str, Any]


def theatre() -> Document:
    """Fifty-five seats in seven rows, drawn by hand."""
    document: Document = json.loads(THEATRE.read_text("utf-8"))
    return document


def hall(*rows: str, category: str = "Hall", name: str = "") -> Document:
    """One zone, a row per text: `o` is a seat, a space an aisle. Seats are called A1, A2, … B1, …"""
    drawn = []
    for number, pattern in enumerate(rows):
        letter, seats = chr(ord("A") + number), []
        for column, mark in enumerate(pattern):
            if mark != " ":
                label = str(len(seats) + 1)
                seats.append(_seat(f"{letter}{label}", label, column * 10, 0, category))
        drawn.append({"row_number": letter, "position": {"x": 0, "y": number * 12}, "seats": seats})
    zone = {"name": name, "position": {"x": 0, "y": 0}, "rows": drawn}
    return {"name": "A hall", "zones": [zone], "categories": [{"name": category}]}


def stadium(seats: int = 50_000, *, blocks: int = 40, per_row: int = 25) -> Document:
    """A bowl: blocks around an oval pitch, each with rows one behind the other, in three categories.

    A row has an aisle in its middle. Zones are called like gates, and ids like those that editors make.
    """
    categories = ("Lower", "Middle", "Upper")
    rows_of_block = -(-seats // (blocks * per_row))
    zones, left = [], seats
    for block in range(blocks):
        angle, rows = 2 * pi * block / blocks, []
        for row in range(rows_of_block):
            wide = min(per_row, left)
            left -= wide
            if not wide:
                break
            category = categories[3 * row // rows_of_block]
            rows.append(_row_of_stand(block, row, wide, angle, category))
        zones.append({"name": f"Gate {block + 1}", "position": {"x": 40_000, "y": 40_000}, "rows": rows})
    return {
        "name": f"A stadium of {seats}",
        "size": {"width": 80_000, "height": 80_000},
        "zones": zones,
        "categories": [{"name": name, "color": "#336699"} for name in categories],
    }


def _row_of_stand(block: int, row: int, wide: int, angle: float, category: str) -> Document:
    seats, out = [], 4000 + 40 * row
    for place in range(wide):
        # Around the block's middle; from there on an aisle is wider than a seat.
        along = 20 * (place - (wide - 1) / 2) + (30 if place >= wide // 2 else 0)
        x, y = out * cos(angle) - along * sin(angle), out * sin(angle) + along * cos(angle)
        id = f"{block:04x}{row:04x}-{place:04x}-4c1d-9b3e-{block * 7919 + row * 104_729 + place:012x}"
        seats.append(_seat(id, str(place + 1), round(x), round(y), category))
    return {"row_number": str(row + 1), "seats": seats}


def _seat(id: str, number: str, x: int, y: int, category: str) -> Document:
    return {
        "seat_guid": id,
        "seat_number": number,
        "position": {"x": x, "y": y},
        "category": category,
    }


def plan_of(document: Document) -> Plan:
    """The document's plan."""
    return read_plan(json.dumps(document).encode())


@cache
def stadium_plan(seats: int = 50_000) -> Plan:
    """A stadium's plan, read once."""
    return plan_of(stadium(seats))


def seated_section(
    id: str,
    *categories: str,
    focus: sale_pb2.SeatFocus.ValueType = sale_pb2.SEAT_FOCUS_FRONT,
    accessible: tuple[str, ...] = (),
    companion: tuple[str, ...] = (),
) -> sale_pb2.Section:
    """A seated section with the ticket types full and half."""
    return sale_pb2.Section(
        id=id,
        kind=sale_pb2.SECTION_KIND_SEATED,
        ticket_types=[
            sale_pb2.TicketType(id="full", price=1000),
            sale_pb2.TicketType(id="half", price=500),
        ],
        seats=sale_pb2.SectionSeats(
            categories=categories, focus=focus, accessible=accessible, companion=companion
        ),
    )


def spec_of_seats(*sections: sale_pb2.Section) -> sale_pb2.SaleSpec:
    """The part of a spec that a plan is laid out by."""
    return sale_pb2.SaleSpec(sections=sections)
