// How calls end: with an answer, a refusal by name, a deadline, a cancellation, or at the edge.
import assert from "node:assert/strict";
import http from "node:http";
import { test } from "node:test";

import { Code, ConnectError, createClient } from "@connectrpc/connect";

import { LedgerService } from "../gen/catraca/inventory/v1/inventory_pb.js";
import { refusalOf } from "../src/client.ts";
import { type Clients, clients, given } from "./support.ts";

const edge = given("EDGE");
const sale = given("SALE");
const JOIN = "/catraca.queue.v1.QueueService/Join";
const buyer = clients(edge, given("TOKEN"));

async function failureOf(call: Promise<unknown>): Promise<ConnectError> {
  try {
    await call;
  } catch (error) {
    return ConnectError.from(error);
  }
  assert.fail("the call was not refused");
}

test("a refusal arrives with its reason, what it names, and when to try again", async () => {
  const untaken = { sale, holdId: "a-hold-id-1" };
  const items = [{ section: "floor", quantity: 1 }];
  const missing = await failureOf(buyer.inventory.hold({ ...untaken, items }));
  assert.equal(refusalOf(missing)?.reason, "ADMISSION_REQUIRED");
  assert.equal(refusalOf(missing)?.retryAfterMs, undefined);

  const unknown = await failureOf(buyer.queue.getPlace({ sale: "no-such-sale" }));
  assert.equal(unknown.code, Code.NotFound);
  assert.equal(refusalOf(unknown)?.reason, "SALE_NOT_FOUND");

  const invalid = await failureOf(buyer.inventory.hold({ ...untaken, items: [] }));
  assert.equal(invalid.code, Code.InvalidArgument);
  assert.ok(refusalOf(invalid)?.metadata["field"]);

  await buyer.queue.join({ sale: given("LOBBY") });
  const early = await failureOf(buyer.queue.enter({ sale: given("LOBBY") }));
  const refusal = refusalOf(early);
  assert.ok(refusal?.retryAfterMs && refusal.retryAfterMs > 0, `${early.message} carries no hint`);
});

test("a cancelled stream ends at once, and the edge lets go of it", async () => {
  await buyer.queue.join({ sale: given("LOBBY") });
  const stop = new AbortController();
  const seen: unknown[] = [];
  const watching = (async () => {
    for await (const message of buyer.queue.watch({ sale: given("LOBBY") }, { signal: stop.signal })) {
      seen.push(message);
      stop.abort();
    }
  })();
  assert.equal((await failureOf(watching)).code, Code.Canceled);
  assert.equal(seen.length, 1);
});

test("a deadline ends a stream that would go on, for the client and at the edge", async () => {
  const watching = (async () => {
    for await (const _ of buyer.queue.watchSale({ sale: given("LOBBY") }, { timeoutMs: 700 }));
  })();
  assert.equal((await failureOf(watching)).code, Code.DeadlineExceeded);

  // Without a client that counts: only the header says how long, and the edge keeps to it.
  const { status, body } = await post("/catraca.queue.v1.QueueService/WatchSale", {
    authorization: `Bearer ${given("TOKEN")}`,
    "grpc-timeout": "700m",
  }, frame(Buffer.concat([Buffer.from([0x0a, given("LOBBY").length]), Buffer.from(given("LOBBY"))])));
  assert.equal(status, 200);
  assert.ok(body.length > 0);
});

test("without a token the edge itself refuses, by the services' name for it", async () => {
  const none = await failureOf(clients(edge).queue.join({ sale }));
  assert.equal(none.code, Code.Unauthenticated);
  assert.equal(refusalOf(none)?.reason, "TOKEN_INVALID");
  const bare = await post(JOIN, {}, frame(Buffer.alloc(0)));
  assert.deepEqual([bare.status, bare.headers["grpc-status"]], [200, String(Code.Unauthenticated)]);
  assert.equal(bare.headers["grpc-message"], "Jwt is missing");
  assert.equal((await send("POST", JOIN, { "content-type": "text/plain" })).status, 401);

  const forged = await failureOf(clients(edge, given("TOKEN").slice(0, -8) + "AAAAAAAA").queue.join({ sale }));
  assert.equal(refusalOf(forged)?.reason, "TOKEN_INVALID");
  const foreign = await failureOf(clients(edge, given("FOREIGN_TOKEN")).queue.join({ sale }));
  assert.equal(refusalOf(foreign)?.reason, "TOKEN_INVALID");
  // Within the minute that clocks may differ the services say it, later the edge: the same word.
  for (const token of [given("EXPIRED_TOKEN"), given("LONG_EXPIRED_TOKEN")]) {
    const expired = await failureOf(clients(edge, token).queue.join({ sale }));
    assert.equal(expired.code, Code.Unauthenticated);
    assert.equal(refusalOf(expired)?.reason, "TOKEN_EXPIRED");
  }
});

test("what services say among themselves has no way in", async () => {
  const ledger = createClient(LedgerService, buyer.transport);
  const refused = await failureOf(ledger.getLedger({ sale }));
  assert.equal(refused.code, Code.Unimplemented);
  assert.equal(refusalOf(refused)?.reason, "METHOD_UNKNOWN");
});

test("a page may ask before it calls, if it is one of ours", async () => {
  const asking = { "access-control-request-method": "POST", "access-control-request-headers": "authorization" };
  const ours = await send("OPTIONS", JOIN, { origin: "http://localhost:5173", ...asking });
  assert.equal(ours.status, 200);
  assert.equal(ours.headers["access-control-allow-origin"], "http://localhost:5173");
  for (const name of ["authorization", "x-grpc-web", "grpc-timeout"]) {
    assert.match(String(ours.headers["access-control-allow-headers"]), new RegExp(name));
  }
  const called = await post(JOIN, { origin: "http://localhost:5173" }, frame(Buffer.alloc(0)));
  assert.match(String(called.headers["access-control-expose-headers"]), /grpc-status-details-bin/);

  const strange = await send("OPTIONS", JOIN, { origin: "https://elsewhere.example", ...asking });
  assert.equal(strange.headers["access-control-allow-origin"], undefined);
});

interface Answer {
  status: number | undefined;
  headers: http.IncomingHttpHeaders;
  body: Buffer;
}

function frame(message: Buffer): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

function post(path: string, headers: http.OutgoingHttpHeaders, body: Buffer): Promise<Answer> {
  return send("POST", path, { "content-type": "application/grpc-web+proto", "x-grpc-web": "1", ...headers }, body);
}

/** As a browser sends it: fetch would not let us set `origin`. */
function send(method: string, path: string, headers: http.OutgoingHttpHeaders, body?: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const request = http.request(new URL(path, edge), { method, headers }, (answer) => {
      const chunks: Buffer[] = [];
      const end = () =>
        resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(chunks) });
      // The edge breaks a stream off that is over time: then there is no proper end.
      answer.on("data", (chunk: Buffer) => chunks.push(chunk)).on("end", end).on("error", end);
    });
    request.on("error", reject).end(body);
  });
}
