// What the tests share: the edge and the tokens that pytest hands over, and clients made of them.
import { once } from "node:events";
import { createInterface } from "node:readline";

import { type Client, createClient, type Transport } from "@connectrpc/connect";

import { type Order, OrderService, OrderState } from "../gen/catraca/checkout/v1/checkout_pb.js";
import { InventoryService } from "../gen/catraca/inventory/v1/inventory_pb.js";
import { NotifierService } from "../gen/catraca/notifier/v1/notifier_pb.js";
import { PlaceState, QueueService } from "../gen/catraca/queue/v1/queue_pb.js";
import { SaleService } from "../gen/catraca/sale/v1/sale_pb.js";
import { connect, resumed } from "../src/client.ts";

/** What pytest put into the environment for this file. */
export function given(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: pytest runs these files`);
  return value;
}

export interface Clients {
  transport: Transport;
  queue: Client<typeof QueueService>;
  sales: Client<typeof SaleService>;
  inventory: Client<typeof InventoryService>;
  orders: Client<typeof OrderService>;
  notifier: Client<typeof NotifierService>;
}

/** Clients of every service that buyers reach. */
export function clients(edge = given("EDGE"), token?: string): Clients {
  const transport = connect(edge, token === undefined ? undefined : () => token);
  return {
    transport,
    queue: createClient(QueueService, transport),
    sales: createClient(SaleService, transport),
    inventory: createClient(InventoryService, transport),
    orders: createClient(OrderService, transport),
    notifier: createClient(NotifierService, transport),
  };
}

/** Resolves once the buyer was called. */
export async function called(at: Clients, sale: string): Promise<void> {
  for await (const { place } of resumed((signal) => at.queue.watch({ sale }, { signal }))) {
    if (place?.state === PlaceState.CALLED) return;
  }
  throw new Error("the stream ended before the buyer was called");
}

/** The order once the buyer's stream tells that it is in the state. */
export async function told(at: Clients, sale: string, orderId: string, state: OrderState): Promise<Order> {
  for await (const { update } of resumed((signal) => at.notifier.subscribe({ sale }, { signal }))) {
    if (update?.order?.orderId === orderId && update.order.state === state) return update.order;
  }
  throw new Error("the stream ended before it told");
}

/** Has pytest, which drives the scenario, do something, and waits until it is done. */
export async function ask(what: string): Promise<void> {
  const answers = createInterface({ input: process.stdin });
  const answered = once(answers, "line");
  process.stdout.write(`@${what}\n`);
  await answered;
  // What still listens keeps the process from ending.
  answers.close();
}
