"""For each method a request that is right, and who may call it: what bad input is made from."""

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from catraca.checkout.v1 import checkout_pb2 as checkout
from catraca.inventory.v1 import inventory_pb2 as inventory
from catraca.notifier.v1 import notifier_pb2 as notifier
from catraca.queue.v1 import queue_pb2 as queue
from catraca.sale.v1 import sale_pb2 as sale
from google.protobuf.message import Message

from tests.fuzz.scene import DAY_S, FREE, LEDGER, LOBBY, LONG_AGO_ID, NEW, OPEN, SPARE, Scene, one, spec
from tests.plans import THEATRE

ORGANISER, SERVICE, SHOP, BUYER = "organiser", "service", "shop", "alice"
SIGNED_IN = frozenset({"buyer", "bff", "organiser", "staff", "service"})


@dataclass(frozen=True)
class Right:
    """A request that passes every check, and the caller who may make it."""

    caller: str
    make: Callable[[Scene], Message]
    needs: frozenset[str]
    """Roles that may call; a call by any other is refused as ROLE_REQUIRED. Empty: no token is needed."""


def _buyers(make: Callable[[Scene], Message]) -> Right:
    return Right(BUYER, make, frozenset({"buyer", "bff"}))


def _bffs(make: Callable[[Scene], Message]) -> Right:
    return Right(SHOP, make, frozenset({"bff"}))


def _services(make: Callable[[Scene], Message]) -> Right:
    return Right(SERVICE, make, frozenset({"service"}))


def _organisers(make: Callable[[Scene], Message]) -> Right:
    return Right(ORGANISER, make, frozenset({"organiser"}))


def _anyones(make: Callable[[Scene], Message]) -> Right:
    return Right(BUYER, make, SIGNED_IN)


def _order(s: Scene) -> Message:
    return checkout.PlaceOrderRequest(sale=FREE, idempotency_key="a-new-click", items=[one()])


def _orders(s: Scene) -> Message:
    item = checkout.PlaceOrderItem(subject="customer-1", idempotency_key="a-new-click", items=[one()])
    return checkout.PlaceOrdersRequest(sale=FREE, items=[item])


def _hold(s: Scene) -> Message:
    admission = s.names[f"@alice.admission.{OPEN}"]
    return inventory.HoldRequest(sale=OPEN, hold_id="a-new-hold", items=[one()], admission=admission)


def _sale(s: Scene) -> Message:
    return sale.DefineRequest(sale=NEW[0], spec=spec(s.now, opens_in_s=2 * DAY_S, lobby_in_s=DAY_S))


def _last_page(s: Scene) -> str:
    return base64.urlsafe_b64encode(f"{int(s.now * 1000)}:{LONG_AGO_ID}".encode()).decode()


def blocked() -> inventory.BlockItem:
    """One unit to be blocked."""
    return inventory.BlockItem(section="floor", quantity=1)


def commands(s: Scene) -> list[inventory.Command]:
    """One of each command that the ledger serves; each is right."""
    mine = {"buyer": s.names["@alice.id"], "hold_id": "a-ledgers-hold"}
    bound = {**mine, "order_id": LONG_AGO_ID}
    returned = inventory.Command()
    getattr(returned, "return").CopyFrom(
        inventory.ReturnCommand(**bound, units=[inventory.UnitRef(section="floor", unit=1)])
    )
    callee = inventory.Callee(place=0, buyer=s.names["@alice.id"], want=1)
    until_ms = int((s.now + DAY_S) * 1000)
    # Of a section that is not there: who asks so changes nothing.
    paid = inventory.HeldUnit(section="cellar", unit=1, ticket_type="full", price=100)
    return [
        inventory.Command(call=inventory.CallCommand(to=1, callees=[callee])),
        inventory.Command(
            claim=inventory.ClaimCommand(order_id=LONG_AGO_ID, buyer=s.names["@alice.id"], items=[one()])
        ),
        inventory.Command(hold=inventory.HoldCommand(**mine, items=[one()])),
        inventory.Command(pin=inventory.PinCommand(**bound, until_ms=until_ms)),
        inventory.Command(release=inventory.ReleaseCommand(**mine)),
        inventory.Command(commit=inventory.CommitCommand(**bound)),
        returned,
        inventory.Command(reacquire=inventory.ReacquireCommand(**bound, units=[paid])),
        inventory.Command(lapse=inventory.LapseCommand(buyer=s.names["@alice.id"])),
        inventory.Command(block=inventory.BlockCommand(block_id="a-ledgers-block", items=[blocked()])),
        inventory.Command(unblock=inventory.UnblockCommand(block_id="a-ledgers-block")),
        inventory.Command(look=inventory.LookCommand(buyer=s.names["@alice.id"])),
    ]


def command(s: Scene, kind: str) -> inventory.Command:
    """A command of this kind that is right; an empty one where no such command is served."""
    for each in commands(s):
        if each.WhichOneof("command") == kind:
            return each
    return inventory.Command()


RIGHT: Mapping[str, Right] = {
    "OrderService.PlaceOrder": _buyers(_order),
    "OrderService.GetOrder": _buyers(
        lambda s: checkout.GetOrderRequest(sale=FREE, order_id=s.names["@alice.order.waiting"])
    ),
    "OrderService.ListOrders": _buyers(
        lambda s: checkout.ListOrdersRequest(sale=FREE, page_size=1, page_token=_last_page(s))
    ),
    "OrderService.CancelOrder": _buyers(
        lambda s: checkout.CancelOrderRequest(sale=FREE, order_id=s.names["@alice.order.waiting"])
    ),
    "OrderService.PlaceOrders": _bffs(_orders),
    "OrderService.GetTicketKeys": Right("nobody", lambda s: checkout.GetTicketKeysRequest(), frozenset()),
    "SettlementService.CountOrders": Right(
        ORGANISER, lambda s: checkout.CountOrdersRequest(sale=FREE), frozenset({"service", "organiser"})
    ),
    "SettlementService.ReadOrders": _services(lambda s: checkout.ReadOrdersRequest(sale=FREE)),
    "InventoryService.Hold": _buyers(_hold),
    "InventoryService.Release": _buyers(lambda s: inventory.ReleaseRequest(sale=FREE, hold_id="alice-held")),
    "InventoryService.GetHold": _buyers(lambda s: inventory.GetHoldRequest(sale=FREE, hold_id="alice-held")),
    "InventoryService.GetAvailability": _anyones(lambda s: inventory.GetAvailabilityRequest(sale=FREE)),
    "InventoryService.ListSeats": _anyones(
        lambda s: inventory.ListSeatsRequest(sale=FREE, section="floor", first_unit=1, page_size=1)
    ),
    "InventoryService.GetSeatMap": _anyones(lambda s: inventory.GetSeatMapRequest(sale=FREE)),
    "InventoryService.WatchAvailability": _anyones(lambda s: inventory.WatchAvailabilityRequest(sale=FREE)),
    "InventoryService.Block": _organisers(
        lambda s: inventory.BlockRequest(sale=SPARE, block_id="a-new-block", items=[blocked()])
    ),
    "InventoryService.Unblock": _organisers(
        lambda s: inventory.UnblockRequest(sale=SPARE, block_id="a-new-block")
    ),
    "LedgerService.Apply": _services(lambda s: inventory.ApplyRequest(sale=LEDGER, commands=commands(s))),
    "LedgerService.ApplyStream": _services(
        lambda s: inventory.ApplyStreamRequest(sale=LEDGER, commands=commands(s))
    ),
    "LedgerService.GetLedger": _services(lambda s: inventory.GetLedgerRequest(sale=LEDGER)),
    "LedgerService.Load": _services(lambda s: inventory.LoadRequest(sale=LEDGER, revision=1)),
    "LedgerService.Drop": _services(lambda s: inventory.DropRequest(sale=LEDGER)),
    "NotifierService.Subscribe": _buyers(lambda s: notifier.SubscribeRequest(sale=FREE)),
    "NotifierService.SubscribeMany": _bffs(
        lambda s: notifier.SubscribeManyRequest(sale=FREE, add=["customer-1"])
    ),
    "QueueService.Join": _buyers(lambda s: queue.JoinRequest(sale=LOBBY)),
    "QueueService.GetPlace": _buyers(lambda s: queue.GetPlaceRequest(sale=OPEN)),
    "QueueService.Watch": _buyers(lambda s: queue.WatchRequest(sale=OPEN)),
    "QueueService.Enter": _buyers(lambda s: queue.EnterRequest(sale=OPEN)),
    "QueueService.Leave": _buyers(lambda s: queue.LeaveRequest(sale=LOBBY)),
    "QueueService.GetDraw": _anyones(lambda s: queue.GetDrawRequest(sale=OPEN)),
    "QueueService.GetChallenge": _buyers(lambda s: queue.GetChallengeRequest(sale=OPEN)),
    "QueueService.GetReceipt": _buyers(lambda s: queue.GetReceiptRequest(sale=OPEN)),
    "QueueService.GetReceiptKeys": Right("nobody", lambda s: queue.GetReceiptKeysRequest(), frozenset()),
    # Whoever is signed in may watch; calls are told to those who watch for many.
    "QueueService.WatchSale": Right(SHOP, lambda s: queue.WatchSaleRequest(sale=OPEN), SIGNED_IN),
    "QueueService.JoinMany": _bffs(
        lambda s: queue.JoinManyRequest(sale=LOBBY, items=[queue.JoinItem(subject="customer-1")])
    ),
    "QueueService.GetPlaces": _bffs(
        lambda s: queue.GetPlacesRequest(sale=OPEN, subjects=["customer-1", "customer-3"])
    ),
    "QueueService.EnterMany": _bffs(
        lambda s: queue.EnterManyRequest(sale=OPEN, subjects=["customer-1", "customer-3"])
    ),
    "SaleService.Define": _organisers(_sale),
    "SaleService.GetSale": _anyones(lambda s: sale.GetSaleRequest(sale=OPEN)),
    "SaleService.ListSales": _anyones(lambda s: sale.ListSalesRequest(page_size=5, page_token=FREE)),
    "SaleService.Pause": _organisers(lambda s: sale.PauseRequest(sale=SPARE, paused=True)),
    "SaleService.PushPlan": _organisers(
        lambda s: sale.PushPlanRequest(document=THEATRE.read_bytes(), dry_run=True)
    ),
    "SaleService.PutAccessCodes": _organisers(
        lambda s: sale.PutAccessCodesRequest(sale=SPARE, codes=["K7QX-9M2P-4TRA"], uses=1)
    ),
    "SaleService.Archive": _organisers(lambda s: sale.ArchiveRequest(sale=SPARE)),
}
