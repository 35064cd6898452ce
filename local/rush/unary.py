"""One ask as one unary call, for buyers with a token of their own and for what has no batch."""

import grpc

from local import client
from local.rush.answers import admitted, refused, stood, wanted
from local.rush.intent import Do
from local.rush.pump import word_of
from local.rush.record import Answer, Ask, Done, Placed, Refused
from services.kit.errors import Refusal


async def ask(buyer: client.Buyer, do: Do) -> Answer:
    """The service's answer; every refusal is an answer too."""
    try:
        return await _call(buyer, do)
    except Refusal as refusal:
        return refused(refusal)
    except grpc.aio.AioRpcError as error:
        return Refused(word_of(error), {})


async def _call(buyer: client.Buyer, do: Do) -> Answer:
    match do.ask:
        case Ask.JOIN:
            return stood(await buyer.join())
        case Ask.LEAVE:
            return stood(await buyer.leave())
        case Ask.ENTER:
            return admitted(await buyer.enter())
        case Ask.HOLD:
            await buyer.hold(do.hold_id, wanted(do.items), do.admission)
        case Ask.RELEASE:
            await buyer.release(do.hold_id)
        case Ask.ORDER:
            return await _order(buyer, do)
        case Ask.CANCEL:
            assert do.attempt is not None
            await buyer.cancel(do.attempt.order_id)
        case Ask.PAY:
            raise ValueError("payments go to the provider, not to a service")
    return Done()


async def _order(buyer: client.Buyer, do: Do) -> Answer:
    assert do.attempt is not None
    items = [] if do.hold_id else wanted(do.items)
    order = await buyer.order(do.attempt.key, items, hold_id=do.hold_id, admission=do.admission)
    return Placed(order.order_id)
