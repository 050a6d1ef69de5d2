/**
 * Facts as server-sent events. `id:` is the place in the stream, so a client that comes back with
 * `Last-Event-ID` misses nothing and sees nothing twice. A comment now and then keeps proxies from
 * closing a quiet connection, and tells us when nobody listens.
 */
import type { Context } from 'hono';
import { streamSSE } from 'hono/streaming';
import type { Clock } from '../../../runtime/clock.ts';
import type { BuildEvent } from './door.ts';

const HEARTBEAT_MS = 15_000;

export function streamEvents(
  context: Context,
  clock: Clock,
  follow: (signal: AbortSignal) => AsyncIterable<BuildEvent>,
): Response {
  // nginx holds back what it streams unless it is told not to.
  context.header('X-Accel-Buffering', 'no');
  return streamSSE(context, async out => {
    const over = new AbortController();
    out.onAbort(() => over.abort());
    const beat = heartbeat(clock, over.signal, () => out.write(': still here\n\n'));
    try {
      for await (const { seq, type, json } of follow(over.signal)) {
        await out.writeSSE({ id: String(seq), event: type, data: json });
      }
    } finally {
      over.abort();
      await beat;
    }
  });
}

async function heartbeat(
  clock: Clock,
  signal: AbortSignal,
  send: () => Promise<unknown>,
): Promise<void> {
  while (!signal.aborted) {
    try {
      await clock.sleep(HEARTBEAT_MS, signal);
    } catch {
      return; // Woken by the end of the stream.
    }
    await send();
  }
}
