"""The ledger's words: what each command can answer, and which of its answers is its success."""

from collections.abc import Mapping
from enum import StrEnum


class HoldState(StrEnum):
    """A hold's life, as in catraca.inventory.v1.HoldState."""

    HELD = "HELD"
    SOLD = "SOLD"
    RELEASED = "RELEASED"
    EXPIRED = "EXPIRED"
    RETURNED = "RETURNED"
    LOST = "LOST"


_TAKING = frozenset(
    {
        "WRONG_PHASE",
        "REHEARSAL",
        "NOT_CALLED_YET",
        "TURN_EXPIRED",
        "ADMISSION_REQUIRED",
        "ALLOWANCE_EXCEEDED",
        "LIMIT_REACHED",
        "HOLD_LIMIT",
        "ORDER_LIMIT",
        "SECTION_SOLD_OUT",
        "SOLD_OUT",
        "SEAT_TAKEN",
        "SEAT_RESERVED",
        "NOT_ADJACENT",
        "SECTION_NOT_FOUND",
        "TICKET_TYPE_NOT_FOUND",
        "HOLD_NOT_FOUND",
        "HOLD_EXPIRED",
        "HOLD_LOST",
        "HOLD_RELEASED",
        "IDEMPOTENCY_KEY_REUSED",
    }
)

WORDS: Mapping[str, frozenset[str]] = {
    "define": frozenset({"DEFINED", "UNCHANGED", "DEFINITION_FIXED"}),
    "call": frozenset({"CALLED", "NOT_WATERMARK", "PAUSED", "WRONG_PHASE", "NO_LINE", "INVALID_FIELD"}),
    "claim": frozenset({"CLAIMED", "HOLD_BOUND"}) | _TAKING,
    "hold": frozenset({"HELD", "QUEUE_TIMEOUT", "HOLD_BOUND"}) | _TAKING,
    "pin": frozenset(
        {"PINNED", "HOLD_NOT_FOUND", "HOLD_EXPIRED", "HOLD_LOST", "HOLD_RELEASED", "HOLD_BOUND"}
    ),
    "release": frozenset({"RELEASED", "HOLD_NOT_FOUND", "HOLD_EXPIRED", "HOLD_LOST", "HOLD_BOUND"}),
    "commit": frozenset(
        {"COMMITTED", "HOLD_NOT_FOUND", "HOLD_EXPIRED", "HOLD_LOST", "HOLD_RELEASED", "HOLD_BOUND"}
    ),
    "reacquire": frozenset(
        {
            "REACQUIRED",
            "SECTION_NOT_FOUND",
            "TICKET_TYPE_NOT_FOUND",
            "SECTION_SOLD_OUT",
            "SOLD_OUT",
            "SEAT_TAKEN",
            "LIMIT_REACHED",
            "HOLD_BOUND",
        }
    ),
    "return": frozenset({"RETURNED", "HOLD_NOT_FOUND", "HOLD_BOUND"}),
    "lapse": frozenset({"LAPSED"}),
    "look": frozenset({"PROMISED", "LAPSED", "FINISHED", "NOT_CALLED"}),
    "block": frozenset({"BLOCKED", "UNITS_IN_USE", "SECTION_NOT_FOUND", "IDEMPOTENCY_KEY_REUSED"}),
    "unblock": frozenset({"UNBLOCKED", "BLOCK_NOT_FOUND"}),
    "map": frozenset({"MAP", "UNCHANGED"}),
    "show": frozenset({"SHOWN", "HOLD_NOT_FOUND"}),
    "ledger": frozenset({"LEDGER"}),
    "expire": frozenset({"EXPIRED"}),
    "fill": frozenset({"FILLED"}),
    "sold": frozenset({"PAGE"}),
    "drop": frozenset({"DROPPED", "DROPPABLE", "WRONG_PHASE", "SALE_NOT_SETTLED", "UNAVAILABLE"}),
}
"""Every word by command; each Lua file's header says the same."""
