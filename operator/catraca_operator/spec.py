"""A TicketSale resource decoded: the definition that services get, and what is for the operator alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from catraca.sale.v1.sale_pb2 import LINE_KIND_DRAW, SaleSpec
from google.protobuf.timestamp_pb2 import Timestamp

from services.kit.manifest import ManifestInvalid, defaulted, spec_of
from services.kit.spec import duration_ms

SERVICES = ("queue", "inventory", "checkout", "notifier")
"""What is scaled, in the order in which it is told; the names are those of `spec.scaling.services`."""


@dataclass(frozen=True, slots=True)
class Replicas:
    """What a sale wants of one service."""

    floor: int
    peak: int
    most: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """The sale's own times, milliseconds since 1970; lobby ≤ opens < closes."""

    lobby_ms: int
    opens_ms: int
    closes_ms: int


@dataclass(frozen=True, slots=True)
class Scaling:
    """How floors follow the schedule."""

    lead_ms: int = 600_000
    steps: int = 3
    cooldown_ms: int = 600_000
    by_forecast: bool = False
    services: Mapping[str, Replicas] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Override:
    """A person's floors until a time."""

    until_ms: int
    reason: str
    floors: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Desired:
    """A TicketSale as its author wants it."""

    name: str
    generation: int
    definition: SaleSpec
    schedule: Schedule
    scaling: Scaling
    override: Override | None = None
    when_ready: bool = False
    """The opening is held back until the floors stand."""
    deleting: bool = False


def decode(body: Mapping[str, Any]) -> Desired:
    """Decode a resource as the API server has it. Raises ManifestInvalid: it may be of another schema.

    One that is being deleted needs no valid definition: it is drained by what the services hold.
    """
    metadata = body["metadata"]
    deleting = "deletionTimestamp" in metadata
    manifest = {field: body[field] for field in ("apiVersion", "kind", "spec")}
    manifest["metadata"] = {"name": metadata["name"]}
    try:
        name, definition = spec_of(manifest)
    except ManifestInvalid:
        if not deleting:
            raise
        nothing = SaleSpec(), Schedule(0, 0, 0), Scaling()
        return Desired(metadata["name"], metadata["generation"], *nothing, deleting=True)
    spec = defaulted(manifest)
    return Desired(
        name=name,
        generation=metadata["generation"],
        definition=definition,
        schedule=schedule_of(definition, time_ms(metadata["creationTimestamp"])),
        scaling=_scaling(spec["scaling"]),
        override=_override(spec["override"]) if "override" in spec else None,
        when_ready=spec["openPolicy"] == "WhenReady",
        deleting=deleting,
    )


def schedule_of(spec: SaleSpec, created_ms: int) -> Schedule:
    """A definition's times. A lobby without one opens when the sale is defined, if there is a line."""
    window = spec.window
    opens_ms = window.opens_at.ToMilliseconds()
    if window.HasField("lobby_opens_at"):
        lobby_ms = window.lobby_opens_at.ToMilliseconds()
    else:
        lobby_ms = min(created_ms, opens_ms) if spec.line.kind == LINE_KIND_DRAW else opens_ms
    return Schedule(lobby_ms, opens_ms, window.closes_at.ToMilliseconds())


def time_ms(text: str) -> int:
    """Milliseconds since 1970 of a time in a resource."""
    moment = Timestamp()
    moment.FromJsonString(text)
    return int(moment.ToMilliseconds())


def time_text(ms: int) -> str:
    """A time as resources have it, to the millisecond."""
    moment = Timestamp()
    moment.FromMilliseconds(ms)
    return str(moment.ToJsonString())


def _scaling(spec: Mapping[str, Any]) -> Scaling:
    services = {
        name: Replicas(each["floor"], each["peak"], each["max"]) for name, each in spec["services"].items()
    }
    return Scaling(
        lead_ms=duration_ms(spec["leadTime"]),
        steps=spec["warmUpSteps"],
        cooldown_ms=duration_ms(spec["cooldown"]),
        by_forecast=spec["raiseByForecast"],
        services={name: services[name] for name in SERVICES if name in services},
    )


def _override(spec: Mapping[str, Any]) -> Override:
    return Override(time_ms(spec["until"]), spec["reason"], dict(spec["floors"]))
