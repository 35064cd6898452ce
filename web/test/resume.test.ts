// Streams that break off are opened again, and nothing is missed in between.
import assert from "node:assert/strict";
import { test } from "node:test";

import { OrderState } from "../gen/catraca/checkout/v1/checkout_pb.js";
import { resumed } from "../src/client.ts";
import { ask, clients, given } from "./support.ts";

const sale = given("SALE");
const lobby = given("LOBBY");
const buyer = clients(given("EDGE"), given("TOKEN"));

test("a buyer is told the order's end although the connection was lost", { timeout: 60_000 }, async () => {
  const items = [{ section: "floor", quantity: 1 }];
  const { order } = await buyer.orders.placeOrder({ sale, idempotencyKey: "click-once", items });
  const seen = new Set<OrderState>();
  let lost = 0;
  for await (const { update } of resumed((signal) => buyer.notifier.subscribe({ sale }, { signal }), () => lost++)) {
    if (update?.order === undefined || update.order.orderId !== order?.orderId) continue;
    const { state } = update.order;
    if (state === OrderState.AWAITING_PAYMENT && !seen.has(state)) {
      // The edge goes away, and while it is away the order is cancelled.
      await ask(`cancel ${order.orderId}`);
    }
    seen.add(state);
    if (state === OrderState.CANCELLED) break;
  }
  assert.ok(seen.has(OrderState.AWAITING_PAYMENT) && seen.has(OrderState.CANCELLED), "its end was never told");
  assert.ok(lost > 0, "the stream was never lost");
});

test("a place in the line is watched on although the queue was restarted", { timeout: 60_000 }, async () => {
  const { place } = await buyer.queue.join({ sale: lobby });
  let lost = 0;
  let messages = 0;
  for await (const message of resumed((signal) => buyer.queue.watch({ sale: lobby }, { signal }), () => lost++)) {
    assert.equal(message.place?.index, place?.index);
    if (++messages === 1) await ask("restart queue");
    else if (lost > 0) break;
  }
  assert.ok(lost > 0, "the stream was never lost");
});
