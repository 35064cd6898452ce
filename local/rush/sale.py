"""The sale that a rush sells out: a few standing sections, several prices, one section free of charge."""

from catraca.sale.v1 import sale_pb2 as sale
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from local.rush.settings import RushSettings

# What the schema allows.
SHORTEST_HOLD_S = 5.0

# Share of the capacity, and ticket types with prices in cents.
HOUSE = (
    ("floor", "Floor", 0.60, (("full", 24_000), ("half", 12_000))),
    ("balcony", "Balcony", 0.37, (("full", 18_000), ("half", 9_000))),
    ("community", "Community lawn", 0.03, (("free", 0),)),
)


def sections(tickets: int) -> list[sale.Section]:
    """The house with this many units in all; sections that would be empty are left out."""
    sizes = {name: int(tickets * share) for name, _, share, _ in HOUSE}
    sizes["floor"] += tickets - sum(sizes.values())
    return [
        sale.Section(
            id=name,
            title=title,
            capacity=sizes[name],
            kind=sale.SECTION_KIND_STANDING,
            ticket_types=[
                sale.TicketType(id=kind, title=kind.capitalize(), price=price) for kind, price in types
            ],
        )
        for name, title, _, types in HOUSE
        if sizes[name] > 0
    ]


def spec(settings: RushSettings, title: str, now: float) -> sale.SaleSpec:
    """The definition: its lobby is open at once, and it opens after the lobby's time."""
    opens_at = now + settings.lobby_s
    return sale.SaleSpec(
        title=title,
        currency="BRL",
        sections=sections(settings.tickets),
        window=sale.Window(opens_at=timestamp(opens_at), closes_at=timestamp(opens_at + settings.open_s)),
        line=sale.Line(kind=sale.LINE_KIND_DRAW, turn_duration=duration(settings.turn_s), rate=settings.rate),
        limits=sale.Limits(per_buyer=settings.limit),
        # Nobody who is within the turn may lose a hold by its time alone.
        holds=sale.Holds(duration=duration(max(settings.turn_s, SHORTEST_HOLD_S))),
        payment=sale.Payment(
            window=duration(settings.payment_window_s), grace=duration(settings.grace_s), provider="sandbox"
        ),
        orders=sale.Orders(queue_max=duration(settings.queue_max_s)),
    )


def described(definition: sale.SaleSpec) -> list[list[object]]:
    """The sections as the crowd's plan holds them."""
    return [
        [section.id, section.capacity, [[kind.id, kind.price] for kind in section.ticket_types]]
        for section in definition.sections
    ]


def timestamp(seconds: float) -> Timestamp:
    """Seconds since 1970 as protobuf has it, to the millisecond."""
    value = Timestamp()
    value.FromMilliseconds(round(seconds * 1000))
    return value


def duration(seconds: float) -> Duration:
    """Seconds as protobuf has it, to the millisecond."""
    value = Duration()
    value.FromMilliseconds(round(seconds * 1000))
    return value
