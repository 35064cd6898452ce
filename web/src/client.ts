// Calls Catraca from a browser: gRPC-web with a bearer token, refusals by name, streams that are opened again.
import { Code, ConnectError, type Interceptor, type Transport } from "@connectrpc/connect";
import { createGrpcWebTransport } from "@connectrpc/connect-web";

import { ErrorInfoSchema, RetryInfoSchema } from "../gen/google/rpc/error_details_pb.js";

const DOMAIN = "catraca.dev";
const UNARY_TIMEOUT_MS = 15_000;
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 10_000;

/** A named no: `reason` is one of catraca.errors.v1.Reason without its prefix. */
export interface Refusal {
  reason: string;
  message: string;
  metadata: Record<string, string>;
  /** When trying again may succeed; absent where the same call will be refused again. */
  retryAfterMs?: number;
}

/** The connection to one edge. `token` is asked at every call, so a fresh one is used at once. */
export function connect(edgeUrl: string, token?: () => string): Transport {
  const transport = createGrpcWebTransport({
    baseUrl: edgeUrl,
    useBinaryFormat: true,
    defaultTimeoutMs: UNARY_TIMEOUT_MS,
    interceptors: token ? [bearer(token)] : [],
  });
  return {
    unary: transport.unary,
    // The default would end streams too, which have no end of their own.
    stream: (method, signal, timeoutMs, ...rest) => transport.stream(method, signal, timeoutMs ?? 0, ...rest),
  };
}

function bearer(token: () => string): Interceptor {
  return (next) => (request) => {
    request.header.set("authorization", `Bearer ${token()}`);
    return next(request);
  };
}

/** The refusal that an error carries; undefined where it is none of ours. */
export function refusalOf(error: unknown): Refusal | undefined {
  const told = ConnectError.from(error);
  const info = told.findDetails(ErrorInfoSchema).find(({ domain }) => domain === DOMAIN);
  if (info === undefined) return undefined;
  const delay = told.findDetails(RetryInfoSchema)[0]?.retryDelay;
  return {
    reason: info.reason,
    message: told.rawMessage,
    metadata: info.metadata,
    ...(delay && { retryAfterMs: Number(delay.seconds) * 1000 + delay.nanos / 1e6 }),
  };
}

/** Whether opening a stream again can bring more: the connection was lost, or the refusal says so. */
export function isPassing(error: unknown): boolean {
  const refusal = refusalOf(error);
  if (refusal !== undefined) return refusal.retryAfterMs !== undefined;
  // A connection that breaks off has no status: the browser's own error arrives as Unknown.
  return [Code.Unavailable, Code.Unknown, Code.Aborted, Code.DeadlineExceeded, Code.Internal].includes(
    ConnectError.from(error).code,
  );
}

/**
 * One endless stream made of many: opened again after a growing, jittered pause whenever it breaks off.
 * Ends when the server ends it with OK, throws what trying again cannot help, and ends when its reader leaves.
 */
export async function* resumed<T>(
  open: (signal: AbortSignal) => AsyncIterable<T>,
  onLost: (error: ConnectError) => void = () => {},
): AsyncGenerator<T> {
  const left = new AbortController();
  let failures = 0;
  try {
    while (true) {
      try {
        for await (const message of open(left.signal)) {
          failures = 0;
          yield message;
        }
        return;
      } catch (error) {
        if (!isPassing(error)) throw error;
        onLost(ConnectError.from(error));
        const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures++);
        // Never in step with everyone else who lost the same server.
        await pause(Math.max(refusalOf(error)?.retryAfterMs ?? 0, longest * Math.random()));
      }
    }
  } finally {
    // Leaving a `for await` alone would keep the connection open.
    left.abort();
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
