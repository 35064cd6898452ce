// A whole purchase from the browser's side: join, wait, enter, order, pay, be told, have the tickets.
import assert from "node:assert/strict";
import { test } from "node:test";

import { OrderState } from "../gen/catraca/checkout/v1/checkout_pb.js";
import { SalePhase } from "../gen/catraca/sale/v1/sale_pb.js";
import { called, clients, given, told } from "./support.ts";

const sale = given("SALE");
const buyer = clients(given("EDGE"), given("TOKEN"));

test("a ticket is bought over gRPC-web from the first click to the door", async () => {
  const { sale: found } = await buyer.sales.getSale({ sale });
  assert.equal(found?.phase, SalePhase.OPEN);

  await buyer.queue.join({ sale });
  await called(buyer, sale);
  const { admission } = await buyer.queue.enter({ sale });
  assert.ok(admission && admission.allowance >= 2);
  const { sections } = await buyer.inventory.getAvailability({ sale });
  assert.equal(sections.length, 1);

  const wanted = {
    sale,
    idempotencyKey: "the-first-click",
    items: [{ section: "floor", quantity: 2 }],
    admission: admission.token,
  };
  const { order } = await buyer.orders.placeOrder(wanted);
  const { order: again } = await buyer.orders.placeOrder(wanted);
  assert.ok(order);
  assert.equal(again?.orderId, order.orderId);

  const asked = await told(buyer, sale, order.orderId, OrderState.AWAITING_PAYMENT);
  assert.ok(asked.payment);
  const answer = await fetch(asked.payment.url, { method: "POST", body: JSON.stringify({ card: "approve" }) });
  assert.equal((await answer.json()).result, "authorized");

  const confirmed = await told(buyer, sale, order.orderId, OrderState.CONFIRMED);
  assert.equal(confirmed.tickets.length, 2);
  const { keys } = await clients().orders.getTicketKeys({});
  assert.ok(keys.length > 0);
  process.stdout.write(`@bought ${order.orderId}\n`);
});
