/**
 * What a router adds to one streamed request, and how many it passes on: every contestant in turn,
 * round after round, before the same engine that answers at once.
 */
import { chatBody, type LoadResult, runLoad } from '../fake-node/load.ts';
import type { Door, Peer, RunningPeer } from './peers.ts';

const IN_FLIGHT = 16;
/** Before anything is measured: what compiles as it runs should have done so. */
const FIRST_WARM_UP_S = 6;
const WARM_UP_S = 0.5;

export interface PassThroughOptions {
  readonly model: string;
  readonly rounds: number;
  /** Of each measurement. */
  readonly seconds: number;
}

export interface PassThrough {
  readonly peer: string;
  /** Milliseconds to the last byte at one in flight, less those without a router: medians of rounds. */
  readonly added_p50_ms: number;
  readonly added_p99_ms: number;
  /** The same to the first byte. */
  readonly added_first_p50_ms: number;
  /** At 16 in flight. */
  readonly per_second: number;
  readonly failed: number;
  readonly errors: readonly string[];
}

export async function measurePassThrough(
  running: readonly { readonly peer: Peer; readonly instance: RunningPeer }[],
  options: PassThroughOptions,
): Promise<PassThrough[]> {
  const rounds = new Map(running.map(({ peer }) => [peer.name, [] as Round[]]));
  for (const { instance } of running) {
    await load(instance.door, { ...options, seconds: FIRST_WARM_UP_S }, IN_FLIGHT);
  }
  for (let round = 0; round < options.rounds; round++) {
    for (const { peer, instance } of running) {
      const one = await load(instance.door, options, 1);
      const many = await load(instance.door, options, IN_FLIGHT);
      rounds.get(peer.name)?.push({ one, many });
    }
  }
  const bare = summaryOf(rounds.get('direct') ?? []);
  return running.map(({ peer }) => {
    const own = summaryOf(rounds.get(peer.name) ?? []);
    return {
      peer: peer.name,
      added_p50_ms: own.p50 - bare.p50,
      added_p99_ms: own.p99 - bare.p99,
      added_first_p50_ms: own.first - bare.first,
      per_second: own.perSecond,
      failed: own.failed,
      errors: own.errors,
    };
  });
}

interface Round {
  readonly one: LoadResult;
  readonly many: LoadResult;
}

function load(door: Door, options: PassThroughOptions, inFlight: number): Promise<LoadResult> {
  const { host, port, path, headers } = door;
  const url = `http://${host}:${port}${path}`;
  const { seconds } = options;
  const body = chatBody(url, options.model);
  return runLoad({ url, body, headers, inFlight, seconds, warmUpSeconds: WARM_UP_S });
}

function summaryOf(rounds: readonly Round[]) {
  const all = rounds.flatMap(({ one, many }) => [one, many]);
  return {
    p50: median(rounds.map(({ one }) => one.total_ms.p50)),
    p99: median(rounds.map(({ one }) => one.total_ms.p99)),
    first: median(rounds.map(({ one }) => one.first_ms.p50)),
    perSecond: median(rounds.map(({ many }) => many.per_second)),
    failed: all.reduce((sum, { failed }) => sum + failed, 0),
    errors: [...new Set(all.flatMap(({ errors }) => errors))].slice(0, 3),
  };
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? upper) + upper) / 2;
}
