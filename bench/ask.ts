/**
 * What asking costs: `bus.ask` beside the client library's own `nc.request`.
 *
 *   node --import tsx bench/ask.ts [--rounds 5] [--json]
 *
 * Starts a nats-server of its own, a responder process and asks from this process. Every round runs
 * all variants one after the other, so that the noise of the machine hits them alike; the table
 * shows medians over the rounds. `json` variants encode and decode an envelope of about 350 bytes
 * on both sides. Targets: ask p50 at most 1.2 × nc.request; ask + JSON at least 1.5 × the
 * throughput of nc.request + JSON.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import type { NatsConnection } from '@nats-io/nats-core';
import { connect } from '@nats-io/transport-node';
import type { Bus } from '../runtime/bus.ts';
import { systemClock } from '../runtime/clock.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { startNats } from '../test/nats-fixture.ts';

const LATENCY_ASKS = 1_000;
const IN_FLIGHT = 32;
const THROUGHPUT_MS = 1_500;
const WARM_UP_ASKS = 2_000;
const TIMEOUT_MS = 10_000;

const BODY = new Uint8Array(350).fill(120);
const ENVELOPE = {
  id: 'b1842.store.1',
  type: 'dev.codegod.node.reserve.v1',
  source: '/node/tower/actor/master',
  time: '2026-01-01T00:00:00.000Z',
  model: 'qwen2.5-coder:7b',
  vram_bytes: 5_368_709_120,
  deadline_ms: 30_000,
  reason: 'x'.repeat(120),
  tags: ['code', 'gpu', 'local'],
};

const VARIANTS = [
  'nc.request',
  'nc.request (noAsyncTraces)',
  'ask',
  'nc.request + json',
  'nc.request (noAsyncTraces) + json',
  'ask + json',
] as const;
type Variant = (typeof VARIANTS)[number];

interface Figures {
  readonly p50Us: number;
  readonly perSecond: number;
}

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const encode = (value: object): Uint8Array => encoder.encode(JSON.stringify(value));
const decode = (body: Uint8Array): object => JSON.parse(decoder.decode(body));

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      json: { type: 'boolean', default: false },
    },
  });
  const server = await startNats();
  const responder = await startResponder(server.url);
  const plain = await connect({ servers: server.url });
  const traceless = await connect({ servers: server.url, noAsyncTraces: true });
  const bus = await connectNats({ servers: [server.url], name: 'bench', clock: systemClock });
  const asks = askers(plain, traceless, bus);
  const rounds = new Map<Variant, Figures[]>(VARIANTS.map(variant => [variant, []]));
  try {
    for (const ask of asks.values()) await times(WARM_UP_ASKS, ask);
    for (let round = 0; round < Number(values.rounds); round += 1) {
      for (const [variant, ask] of asks) rounds.get(variant)?.push(await measure(ask));
    }
  } finally {
    await Promise.all([plain.close(), traceless.close(), bus.close()]);
    responder.kill();
    await server.stop();
  }
  report(rounds, values.json);
}

function askers(
  plain: NatsConnection,
  traceless: NatsConnection,
  bus: Bus,
): Map<Variant, () => Promise<unknown>> {
  const raw = (nc: NatsConnection) => () => nc.request('raw', BODY, { timeout: TIMEOUT_MS });
  const rawJson = (nc: NatsConnection) => async () =>
    decode((await nc.request('raw.json', encode(ENVELOPE), { timeout: TIMEOUT_MS })).data);
  const options = { timeout_ms: TIMEOUT_MS };
  return new Map<Variant, () => Promise<unknown>>([
    ['nc.request', raw(plain)],
    ['nc.request (noAsyncTraces)', raw(traceless)],
    ['ask', () => bus.ask('bus', BODY, options)],
    ['nc.request + json', rawJson(plain)],
    ['nc.request (noAsyncTraces) + json', rawJson(traceless)],
    ['ask + json', async () => decode((await bus.ask('bus.json', encode(ENVELOPE), options)).body)],
  ]);
}

async function measure(ask: () => Promise<unknown>): Promise<Figures> {
  const tookUs: number[] = [];
  for (let i = 0; i < LATENCY_ASKS; i += 1) {
    const startMs = performance.now();
    await ask();
    tookUs.push((performance.now() - startMs) * 1_000);
  }
  let answered = 0;
  const startMs = performance.now();
  const lane = async (): Promise<void> => {
    while (performance.now() - startMs < THROUGHPUT_MS) {
      await ask();
      answered += 1;
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
  const perSecond = answered / ((performance.now() - startMs) / 1_000);
  return { p50Us: median(tookUs), perSecond };
}

async function times(count: number, ask: () => Promise<unknown>): Promise<void> {
  for (let i = 0; i < count; i += 1) await ask();
}

function report(rounds: ReadonlyMap<Variant, readonly Figures[]>, asJson: boolean): void {
  const medians = new Map<Variant, Figures>();
  for (const [variant, figures] of rounds) {
    medians.set(variant, {
      p50Us: median(figures.map(({ p50Us }) => p50Us)),
      perSecond: median(figures.map(({ perSecond }) => perSecond)),
    });
  }
  const ratio = (of: Variant, to: Variant, field: keyof Figures): number =>
    (medians.get(of)?.[field] ?? 0) / (medians.get(to)?.[field] ?? 1);
  const ratios = {
    'p50: ask / nc.request': ratio('ask', 'nc.request', 'p50Us'),
    'p50: ask + json / nc.request + json': ratio('ask + json', 'nc.request + json', 'p50Us'),
    'throughput: ask / nc.request': ratio('ask', 'nc.request', 'perSecond'),
    'throughput: ask + json / nc.request + json': ratio(
      'ask + json',
      'nc.request + json',
      'perSecond',
    ),
  };
  if (asJson) {
    console.log(JSON.stringify({ medians: Object.fromEntries(medians), ratios }));
    return;
  }
  console.log(
    `load average ${loadavg()[0]?.toFixed(1)}; medians of ${[...rounds.values()][0]?.length} rounds`,
  );
  for (const [variant, { p50Us, perSecond }] of medians) {
    const figures = `p50 ${p50Us.toFixed(0).padStart(5)} µs   ${perSecond.toFixed(0).padStart(6)}/s`;
    console.log(`${variant.padEnd(36)} ${figures} at ${IN_FLIGHT} in flight`);
  }
  for (const [name, value] of Object.entries(ratios)) console.log(`${name} = ${value.toFixed(2)}`);
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

/** The other process: answers in each variant's own way. */
async function respond(url: string): Promise<void> {
  const nc = await connect({ servers: url, noAsyncTraces: true });
  nc.subscribe('raw', { callback: (_error, message) => void message.respond(message.data) });
  nc.subscribe('raw.json', {
    callback: (_error, message) => void message.respond(encode(decode(message.data))),
  });
  const bus = await connectNats({ servers: [url], name: 'responder', clock: systemClock });
  bus.serve('bus', async ({ body }) => ({ body }));
  bus.serve('bus.json', async ({ body }) => ({ body: encode(decode(body)) }));
  await Promise.all([nc.flush(), bus.rtt()]);
  process.send?.('ready');
}

function startResponder(url: string): Promise<ChildProcess> {
  const child = fork(import.meta.filename, ['--responder', url]);
  return new Promise((resolve, reject) => {
    child.once('message', () => resolve(child));
    child.once('exit', code => reject(new Error(`the responder ended with ${code}`)));
  });
}

const [, , role, url] = process.argv;
if (role === '--responder' && url !== undefined) await respond(url);
else await main();
