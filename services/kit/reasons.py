"""Every reason of catraca.errors.v1: its gRPC status, what a person reads, when to try again."""

from collections.abc import Mapping
from typing import NamedTuple

from catraca.errors.v1 import errors_pb2
from grpc import StatusCode as Code

_PREFIX = "REASON_"

WORDS: frozenset[str] = frozenset(
    name.removeprefix(_PREFIX)
    for name in errors_pb2.Reason.DESCRIPTOR.values_by_name
    if name != "REASON_UNSPECIFIED"
)

# Why an order ended; no call is refused with them.
NEVER_A_STATUS: frozenset[str] = frozenset(
    {
        "QUEUE_TIMEOUT",
        "PAYMENT_DECLINED",
        "PAYMENT_TIMEOUT",
        "ORDER_UNPROCESSABLE",
        "CAPTURE_REFUSED",
        "CANCELLED_ON_REQUEST",
    }
)


class Row(NamedTuple):
    """One reason; without `retry_after_s`, the hint where a refusal names none, trying again cannot help."""

    code: Code
    message: str
    retry_after_s: float | None = None


TABLE: Mapping[str, Row] = {
    # the caller
    "TOKEN_INVALID": Row(Code.UNAUTHENTICATED, "A valid bearer token is needed."),
    "TOKEN_EXPIRED": Row(Code.UNAUTHENTICATED, "The bearer token's time is over; get a new one."),
    "ROLE_REQUIRED": Row(Code.PERMISSION_DENIED, "The caller's roles do not allow this method."),
    "NOT_YOUR_BUYER": Row(Code.PERMISSION_DENIED, "The caller does not speak for this buyer."),
    # the request
    "INVALID_FIELD": Row(Code.INVALID_ARGUMENT, "A field is missing, malformed or out of bounds."),
    "INVALID_QUANTITY": Row(Code.INVALID_ARGUMENT, "The quantity is out of bounds."),
    "MESSAGE_TOO_LARGE": Row(Code.RESOURCE_EXHAUSTED, "The message is larger than the service takes."),
    "IDEMPOTENCY_KEY_REUSED": Row(Code.ALREADY_EXISTS, "This id was used with another request before."),
    "METHOD_UNKNOWN": Row(Code.UNIMPLEMENTED, "There is no such method."),
    # the sale
    "SALE_NOT_FOUND": Row(Code.NOT_FOUND, "There is no such sale."),
    "WRONG_PHASE": Row(Code.FAILED_PRECONDITION, "The sale is not in a phase that allows this."),
    "SALE_ARCHIVED": Row(Code.FAILED_PRECONDITION, "The sale is archived."),
    "DEFINITION_INVALID": Row(Code.INVALID_ARGUMENT, "The sale's definition is not valid."),
    "DEFINITION_FIXED": Row(Code.FAILED_PRECONDITION, "This part of the definition is fixed by now."),
    "REVISION_CONFLICT": Row(Code.ABORTED, "The definition was changed in the meantime; read it again."),
    "SALE_NOT_SETTLED": Row(Code.FAILED_PRECONDITION, "The sale still has open orders, holds or turns."),
    "SALE_NOT_LOADED": Row(Code.UNAVAILABLE, "The sale is being loaded; try again.", 1.0),
    "SECTION_NOT_FOUND": Row(Code.NOT_FOUND, "The sale has no such section."),
    "SALE_EXISTS": Row(Code.ALREADY_EXISTS, "Another sale has this id already."),
    "TICKET_TYPE_NOT_FOUND": Row(Code.NOT_FOUND, "The section has no such ticket type."),
    "PLAN_INVALID": Row(Code.INVALID_ARGUMENT, "The document is no seating plan."),
    "PLAN_NOT_FOUND": Row(Code.NOT_FOUND, "No seating plan with this digest is stored."),
    "REHEARSAL": Row(Code.FAILED_PRECONDITION, "This sale is a rehearsal: nothing is sold."),
    # the line
    "NOT_IN_LINE": Row(Code.NOT_FOUND, "The buyer has no place in this line."),
    "NOT_CALLED_YET": Row(Code.FAILED_PRECONDITION, "The buyer was not called yet.", 2.0),
    "TURN_EXPIRED": Row(Code.FAILED_PRECONDITION, "The turn is over; joining again stands at the end."),
    "NO_LINE": Row(Code.FAILED_PRECONDITION, "This sale has no line: hold directly while it is open."),
    "ADMISSION_INVALID": Row(Code.PERMISSION_DENIED, "The admission is not valid."),
    "ADMISSION_FOREIGN": Row(Code.PERMISSION_DENIED, "The admission belongs to another buyer or sale."),
    "ADMISSION_REQUIRED": Row(Code.FAILED_PRECONDITION, "A sale with a line needs an admission here."),
    "JOIN_LIMIT": Row(Code.RESOURCE_EXHAUSTED, "Joined again too soon after leaving; try again later.", 5.0),
    "ACCESS_CODE_INVALID": Row(Code.PERMISSION_DENIED, "The access code does not open this sale."),
    "CHALLENGE_REQUIRED": Row(Code.FAILED_PRECONDITION, "The sale wants a solved challenge with the join."),
    "DRAW_PENDING": Row(Code.FAILED_PRECONDITION, "The draw has not taken place yet.", 1.0),
    # units and promises
    "SOLD_OUT": Row(Code.FAILED_PRECONDITION, "Fewer units are left than were asked for."),
    "SECTION_SOLD_OUT": Row(Code.FAILED_PRECONDITION, "The section has too few units left."),
    "SEAT_TAKEN": Row(Code.FAILED_PRECONDITION, "At least one of the seats is taken."),
    "NOT_ADJACENT": Row(Code.FAILED_PRECONDITION, "There are no seats together as asked."),
    "LIMIT_REACHED": Row(Code.FAILED_PRECONDITION, "The buyer has as much as one buyer may."),
    "ALLOWANCE_EXCEEDED": Row(Code.FAILED_PRECONDITION, "More than is left of the buyer's allowance."),
    "HOLD_NOT_FOUND": Row(Code.NOT_FOUND, "The buyer has no such hold."),
    "HOLD_EXPIRED": Row(Code.FAILED_PRECONDITION, "The hold's time is over."),
    "HOLD_RELEASED": Row(Code.FAILED_PRECONDITION, "The hold was released before."),
    "HOLD_BOUND": Row(Code.FAILED_PRECONDITION, "The hold belongs to an order already."),
    "UNITS_IN_USE": Row(Code.FAILED_PRECONDITION, "The units are held, sold or promised."),
    "HOLD_LOST": Row(Code.FAILED_PRECONDITION, "The hold was lost with its store; hold again."),
    "HOLD_LIMIT": Row(Code.RESOURCE_EXHAUSTED, "Taken and given back too often within one turn.", 10.0),
    "SEAT_RESERVED": Row(Code.FAILED_PRECONDITION, "The seats are for wheelchair users and companions."),
    "SEAT_NOT_FOUND": Row(Code.NOT_FOUND, "The section has no such seat."),
    "BLOCK_NOT_FOUND": Row(Code.NOT_FOUND, "The sale has no such block."),
    # orders and payments
    "ORDER_NOT_FOUND": Row(Code.NOT_FOUND, "The buyer has no such order."),
    "ORDER_STATE": Row(Code.FAILED_PRECONDITION, "The order is past the point where this is possible."),
    "WEBHOOK_SIGNATURE": Row(Code.UNAUTHENTICATED, "The webhook's signature is missing or wrong."),
    "WEBHOOK_FOREIGN": Row(Code.FAILED_PRECONDITION, "The webhook names a payment of another order."),
    "ORDER_LIMIT": Row(Code.RESOURCE_EXHAUSTED, "Too many orders of the buyer were refused lately.", 10.0),
    # the service
    "OVERLOADED": Row(Code.RESOURCE_EXHAUSTED, "The service has as much to do as it takes on.", 1.0),
    "UNAVAILABLE": Row(Code.UNAVAILABLE, "A store or service did not answer; repeating is safe.", 0.5),
    "DEADLINE": Row(Code.DEADLINE_EXCEEDED, "The call's deadline passed; repeating is safe.", 0.5),
    "INTERNAL": Row(Code.INTERNAL, "A defect of ours; the log has it under the call's id."),
    "STREAM_LIMIT": Row(Code.RESOURCE_EXHAUSTED, "The buyer has as many streams open as one may."),
}
