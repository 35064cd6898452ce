// A call that came too fast is told apart from one whose service is gone.
import assert from "node:assert/strict";
import { test } from "node:test";

import { Code, ConnectError } from "@connectrpc/connect";

import { isPassing, refusalOf } from "../src/client.ts";
import { clients, given } from "./support.ts";

// This edge lets few calls through, and nobody keeps the inventory behind it.
const buyer = clients(given("NARROW_EDGE"), given("TOKEN"));
const sale = given("SALE");

async function outcome(call: Promise<unknown>): Promise<ConnectError | undefined> {
  return call.then(() => undefined, ConnectError.from);
}

test("an outage is UNAVAILABLE, too many calls are OVERLOADED, and both say when to come back", async () => {
  const gone = await outcome(buyer.inventory.getAvailability({ sale }));
  assert.equal(gone?.code, Code.Unavailable);
  assert.equal(refusalOf(gone)?.reason, "UNAVAILABLE");
  assert.ok(isPassing(gone));

  const many = await Promise.all(Array.from({ length: 40 }, () => outcome(buyer.sales.getSale({ sale }))));
  const refused = many.filter((error) => error !== undefined);
  assert.ok(refused.length > 0 && refused.length < many.length, `${refused.length} of 40 were refused`);
  for (const error of refused) {
    assert.equal(error.code, Code.ResourceExhausted);
    assert.equal(refusalOf(error)?.reason, "OVERLOADED");
    assert.ok(refusalOf(error)?.retryAfterMs);
  }
});
