"""The sales that are called under load, one for each series, and what their buyers carry."""

import secrets
import time

from catraca.sale.v1 import sale_pb2 as sale

from local.issuer.tokens import Minter
from local.rush.sale import duration, timestamp
from tests.load.settings import LoadSettings

SECTIONS = {"floor": 12_000, "lawn": 0}
"""With prices in cents. Orders of the lawn end CONFIRMED at once, those of the floor EXPIRED: nobody pays."""
CAPACITY = 250_000
PAYMENT_WINDOW_S, HOLD_S = 5.0, 10.0
LIMIT_OF_ONE, LIMIT_OF_BFF = 20, 4
NAMESPACE = "load"


def name_of(series: str) -> str:
    """An id that no other run uses."""
    return f"load-{series}-{secrets.token_hex(3)}"


def spec(series: str) -> sale.SaleSpec:
    """Open at once, for longer than any run, with a line and far more units than are asked for.

    Buyers of a unary series are few, as each has a token of their own, and so may have more.
    """
    now = time.time()
    return sale.SaleSpec(
        title=f"Load over {series}",
        currency="BRL",
        sections=[
            sale.Section(id=name, capacity=CAPACITY, ticket_types=[sale.TicketType(id="full", price=price)])
            for name, price in SECTIONS.items()
        ],
        window=sale.Window(opens_at=timestamp(now), closes_at=timestamp(now + 6 * 3600)),
        line=sale.Line(kind=sale.LINE_KIND_DRAW, turn_duration=duration(3600)),
        limits=sale.Limits(per_buyer=LIMIT_OF_BFF if series == "bff" else LIMIT_OF_ONE, holds_per_turn=1000),
        holds=sale.Holds(duration=duration(HOLD_S)),
        payment=sale.Payment(window=duration(PAYMENT_WINDOW_S), grace=duration(1), provider="sandbox"),
    )


def tokens(series: str, settings: LoadSettings, minter: Minter) -> list[str]:
    """What authorizes the series: a token for each buyer, or one for each worker's BFF."""
    if series == "bff":
        return [
            minter.mint(f"front-{n}", roles=["bff"], namespace=f"{NAMESPACE}-{n}")
            for n in range(settings.workers)
        ]
    return [minter.mint(f"{series}-{n}", namespace=NAMESPACE) for n in range(settings.buyers)]
