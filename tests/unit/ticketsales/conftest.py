"""A sale as the operator meets it, with times that read well: it opens at one million milliseconds."""

from collections.abc import Callable
from typing import Any

import pytest
from catraca.sale.v1 import sale_pb2 as pb
from catraca_operator.floors import Floor
from catraca_operator.reconcile import Actual, Limits
from catraca_operator.spec import Desired, Override, Replicas, Scaling, Schedule
from catraca_operator.status import Target

from services.kit.manifest import spec_of

LOBBY, OPENS, CLOSES = 900_000, 1_000_000, 2_000_000
LIMITS = Limits(hold_back_ahead_ms=15_000, hold_back_most_ms=300_000, refresh_ms=5_000, idle_ms=30_000)


def definition(kind: str = "Draw", **changes: Any) -> pb.SaleSpec:
    """A definition with its times set, defaults filled in."""
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
                "sections": [{"id": "floor", "capacity": 100, "ticketTypes": [{"id": "full", "price": 100}]}],
                **changes,
            },
        }
    )
    made.window.lobby_opens_at.FromMilliseconds(LOBBY)
    made.window.opens_at.FromMilliseconds(OPENS)
    made.window.closes_at.FromMilliseconds(CLOSES)
    return made


def desired(**changes: Any) -> Desired:
    """What the author wants: 2 replicas of the queue from the lobby on, 6 from the opening."""
    made: dict[str, Any] = {
        "name": "show",
        "generation": 1,
        "definition": definition(),
        "schedule": Schedule(LOBBY, OPENS, CLOSES),
        "scaling": Scaling(60_000, 3, 50_000, False, {"queue": Replicas(2, 6, 10)}),
    }
    return Desired(**made | changes)


def override(until_ms: int, **floors: int) -> Override:
    """A person's word."""
    return Override(until_ms, "because", floors)


def sale(phase: str, spec: pb.SaleSpec | None = None, **counts: int) -> pb.Sale:
    """The sale as the services have it."""
    made = pb.Sale(sale="show", spec=spec or definition(), revision=7, phase=f"SALE_PHASE_{phase}")
    made.counts.CopyFrom(pb.SaleCounts(**{"capacity": 100, "free": 100} | counts))
    return made


def target(ready: int, floor: int, *, present: int | None = None, metrics: bool = True) -> Target:
    """A service whose floor is due to be this."""
    at = present if present is not None else floor
    return Target(at, ready, Floor(floor, floor, 1, 50), metrics)


@pytest.fixture
def looked() -> Callable[..., Actual]:
    """What was seen of the sale: by default defined, with the status of that."""

    def make(seen: pb.Sale | None, **changes: Any) -> Actual:
        made: dict[str, Any] = {
            "sale": seen,
            "targets": {"queue": target(6, 6)},
            "before": {"observedGeneration": 1},
        }
        return Actual(**made | changes)

    return make
