"""Reads a sale's orders, tickets and payments from Postgres, as one transaction sees them."""

import json
from dataclasses import dataclass

import asyncpg

from local.audit.facts import Order, Payment, Ticket
from services.checkout.states import OrderState

ORDERS = """
select
    order_id, buyer, state, reason, version, idempotency_key, request_hash, hold_id, units, amount, owes_units
from orders.orders where sale = $1
"""
TICKETS = """
select ticket_id, order_id, section, unit, price, state = 'LIVE' as live, code
from orders.tickets where sale = $1
"""
PAYMENTS = """
select p.order_id, p.session_id, p.state, p.amount
from payments.payments p join orders.orders o using (order_id) where o.sale = $1
"""
UNPUBLISHED = """
select b.order_id, count(*) as states
from orders.outbox b join orders.orders o using (order_id)
where o.sale = $1 and not b.published group by b.order_id
"""


@dataclass
class Checkout:
    """What checkout's database has of a sale."""

    orders: dict[str, Order]
    tickets: list[Ticket]
    payments: dict[str, Payment]
    unpublished: dict[str, int]


async def checkout(url: str, sale: str) -> Checkout:
    """All of it, at one moment."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction(isolation="repeatable_read", readonly=True):
            orders = [_order(row) for row in await connection.fetch(ORDERS, sale)]
            return Checkout(
                orders={order.order_id: order for order in orders},
                tickets=[Ticket(**row) for row in await connection.fetch(TICKETS, sale)],
                payments={row["order_id"]: Payment(**row) for row in await connection.fetch(PAYMENTS, sale)},
                unpublished={
                    row["order_id"]: row["states"] for row in await connection.fetch(UNPUBLISHED, sale)
                },
            )
    finally:
        await connection.close()


def _order(row: asyncpg.Record) -> Order:
    values = dict(row)
    values["state"] = OrderState(row["state"])
    values["units"] = [(unit["section"], unit["unit"]) for unit in json.loads(row["units"])]
    return Order(**values)
