"""The line's domain values as messages of the contract; filled in place, as batches hold thousands."""

from catraca.queue.v1 import queue_pb2
from catraca.sale.v1 import sale_pb2
from google.protobuf.timestamp_pb2 import Timestamp

from services.queue import rules
from services.queue.states import Availability, DrawFacts, Phase, PlaceState, PlaceView, Standing

_STATES = {state: queue_pb2.PlaceState.Value(f"PLACE_STATE_{state}") for state in PlaceState}
_PHASES = {phase: sale_pb2.SalePhase.Value(f"SALE_PHASE_{phase}") for phase in Phase}
_AVAILABILITIES = {
    availability: queue_pb2.Availability.Value(f"AVAILABILITY_{availability}")
    for availability in Availability
}


def fill_time(message: Timestamp, ms: int) -> None:
    """Sets a timestamp; several times faster than FromMilliseconds."""
    seconds, rest = divmod(ms, 1000)
    message.seconds = seconds
    message.nanos = rest * 1_000_000


def fill_place(message: queue_pb2.Place, view: PlaceView) -> None:
    """Fills an empty Place."""
    message.state = _STATES[view.state]
    message.index = view.entry.index
    fill_time(message.joined_at, view.entry.joined_ms)
    if view.place is not None:
        message.place = view.place
    if view.ahead is not None:
        message.ahead = view.ahead
    if view.turn is not None and view.state is PlaceState.CALLED:
        fill_time(message.turn_ends_at, view.turn.ends_ms)
        message.allowance = view.turn.left
    if view.estimate is not None:
        message.estimate.low_s, message.estimate.high_s = view.estimate


def standing_message(standing: Standing) -> queue_pb2.SaleStanding:
    """A standing as everyone who waits may see it."""
    message = queue_pb2.SaleStanding(
        phase=_PHASES[standing.phase],
        serving=standing.serving,
        joined=standing.joined,
        cohort=standing.cohort or 0,
        drawn=standing.drawn,
        availability=_AVAILABILITIES[standing.availability],
        calling_rate=rules.calling_rate(standing),
    )
    fill_time(message.opens_at, standing.opens_ms)
    fill_time(message.closes_at, standing.closes_ms)
    fill_time(message.now, standing.now_ms)
    likely = rules.pace(standing)
    if likely is not None:
        message.pace.low, message.pace.high = likely
    return message


def draw_message(facts: DrawFacts, beacon_source: str) -> queue_pb2.Draw:
    """What is published of a draw; `beacon_source` is the beacon that the sale's definition names."""
    message = queue_pb2.Draw(
        commitment=facts.commitment,
        cohort=facts.cohort or 0,
        root=facts.root,
        beacon=facts.beacon,
        seed=facts.seed,
        beacon_source=beacon_source,
    )
    if facts.cohort is not None:
        fill_time(message.frozen_at, facts.frozen_ms)
    if facts.root:
        fill_time(message.root_at, facts.root_ms)
    if facts.beacon_round:
        message.beacon_round.ParseFromString(facts.beacon_round)
    return message
