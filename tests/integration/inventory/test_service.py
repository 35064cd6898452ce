"""The inventory as its callers meet it: over gRPC, on real servers."""

from catraca.inventory.v1 import inventory_pb2 as pb
from nats.js import JetStreamContext

from tests.integration.inventory.conftest import Define, Replica, published, spec


async def test_a_buyer_holds_and_gives_back(
    replica: Replica, define: Define, sale_id: str, js: JetStreamContext
) -> None:
    await define(spec(floor=10))
    floor = pb.HoldItem(section="floor", quantity=2)

    hold = await replica.hold(sale_id, "ana", "hold-0001", floor)

    assert hold.state == pb.HOLD_STATE_HELD
    assert [unit.price for unit in hold.units] == [1000, 1000]
    print(await published(js, sale_id))
