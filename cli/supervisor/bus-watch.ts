/**
 * Watches over our own bus server while it runs, and says when it has to be started again.
 *
 * W1  A server that does not answer its own monitoring (silence.ts) is replaced.
 * W2  After a failed write nats-server stores nothing more in that stream, also when there is room
 *     again. So it is told that the disk is full, and with room the server is started again, at most
 *     once a minute.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { monitoringPage } from '../../runtime/bus-monitoring.ts';
import { type Clock, systemClock } from '../../runtime/clock.ts';
import { Silence } from './silence.ts';

export interface WatchedServer {
  readonly monitoringUrl: string;
  readonly storeDir: string;
  readonly askEveryMs: number;
  /** What keeps it from its work; null when that is over. */
  readonly tell: (trouble: string | null) => void;
  /** It has to be started again, and why. */
  readonly replace: (reason: string) => void;
}

export interface BusWatch {
  /** One line of the server's log. */
  line(text: string): void;
  stop(): void;
}

const ANSWER_MS = 4_000;
/** Of the questions whether it is there. */
const ROUNDS_BETWEEN_RESTARTS = 12;
/** Enough for a block of a stream to be written. */
const ROOM_BYTES = 4 * 1024 * 1024;
const WRITE_FAILED = /JetStream failed to store a msg|no space left on device|disk quota exceeded/i;

export function watchBus(server: WatchedServer, clock: Clock = systemClock): BusWatch {
  const silence = new Silence(server.askEveryMs);
  const startedAt = clock.monotonic();
  let hasWriteFailed = false;
  let isOver = false;
  const replace = (reason: string): void => {
    if (isOver) return;
    isOver = true;
    clearInterval(ticker);
    server.replace(reason);
  };
  const lookForRoom = async (): Promise<void> => {
    const sinceMs = clock.monotonic() - startedAt;
    if (sinceMs < ROUNDS_BETWEEN_RESTARTS * server.askEveryMs) return;
    if (await hasRoom(server.storeDir)) replace('its disk was full, and has room again'); // W2
  };
  let isBusy = false;
  const look = async (): Promise<void> => {
    if (silence.isTooLong(clock.monotonic())) {
      return replace(silence.reason); // W1
    }
    if (isBusy) return;
    isBusy = true;
    if (await answers(server.monitoringUrl)) silence.answered();
    if (hasWriteFailed) await lookForRoom();
    isBusy = false;
  };
  const ticker = setInterval(() => void look(), server.askEveryMs);
  return {
    line(text) {
      if (hasWriteFailed || !WRITE_FAILED.test(text)) return;
      hasWriteFailed = true;
      server.tell(`it cannot write to ${server.storeDir}: is the disk full?`);
    },
    stop() {
      isOver = true;
      clearInterval(ticker);
    },
  };
}

/** Any answer: what is not right in its store is told elsewhere. */
async function answers(monitoringUrl: string): Promise<boolean> {
  try {
    const response = await fetch(monitoringPage(monitoringUrl, 'healthz?js-server-only=true'), {
      signal: AbortSignal.timeout(ANSWER_MS),
    });
    await response.arrayBuffer();
    return true;
  } catch {
    return false; // Counted (W1).
  }
}

/** By trying: what the system says of a disk tells nothing of quotas. */
async function hasRoom(folder: string): Promise<boolean> {
  const file = join(folder, '.room');
  try {
    const handle = await open(file, 'w', 0o600);
    try {
      await handle.writeFile(Buffer.alloc(ROOM_BYTES, 1));
      await handle.sync();
    } finally {
      await handle.close();
    }
    return true;
  } catch {
    return false;
  } finally {
    await rm(file, { force: true });
  }
}
