/**
 * What it costs a worker to pass one streamed inference on, in CPU time of its process: the bus, the
 * translation, the HTTP request to an engine that answers at once.
 *
 *   node --import tsx bench/relay.ts [--rounds 5] [--requests 2000] [--chunks 10] [--json]
 *
 * Three processes besides a nats-server: an engine that writes its chunks without delay (`burst`: in
 * one turn of its loop, `spread`: each in a turn of its own), the worker's side of the inference, and
 * this one, which asks. The worker's own `process.cpuUsage()` over a round, divided by the requests,
 * is the figure; the table shows medians over the rounds. Target: 0.35 ms with 10 chunks.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { createOllamaRelay } from '../actors/worker/engines/ollama-relay.ts';
import type { Hold } from '../actors/worker/hold.ts';
import { serveInferences } from '../actors/worker/infer.ts';
import { NodeId } from '../protocol/ids.ts';
import type { Dialect } from '../protocol/inference.ts';
import { nodeSubject } from '../protocol/subjects.ts';
import type { Bus } from '../runtime/bus.ts';
import { systemClock } from '../runtime/clock.ts';
import { createLogger } from '../runtime/log.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { startNats } from '../test/nats-fixture.ts';

const NODE = NodeId.parse('bench');
const IN_FLIGHT = 16;
const MODEL = 'tiny:latest';
const encoder = new TextEncoder();

const PROMPT = 'Write a function that adds two numbers. '.repeat(10);
const MESSAGES = [{ role: 'user', content: PROMPT }];
const BODIES: Readonly<Partial<Record<Dialect, object>>> = {
  'ollama-chat': { model: MODEL, messages: MESSAGES },
  'openai-chat': { model: MODEL, messages: MESSAGES, stream: true },
  'anthropic-messages': { model: MODEL, messages: MESSAGES, stream: true, max_tokens: 100 },
};

interface Row {
  readonly dialect: Dialect;
  readonly pace: 'burst' | 'spread';
  readonly cpuMs: number[];
  readonly perSecond: number[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      requests: { type: 'string', default: '2000' },
      chunks: { type: 'string', default: '10' },
      json: { type: 'boolean', default: false },
    },
  });
  const requests = Number(values.requests);
  const nats = await startNats();
  const bus = await connectNats({ servers: [nats.url], name: 'bench', clock: systemClock });
  const rows: Row[] = [];
  let children: ChildProcess[] = [];
  try {
    for (const pace of ['burst', 'spread'] as const) {
      const engine = start('engine', pace, values.chunks);
      const host = String(await said(engine));
      const worker = start('worker', nats.url, host);
      await said(worker);
      children = [engine, worker];
      const dialects = Object.keys(BODIES) as Dialect[];
      const paced = dialects.map((dialect): Row => ({ dialect, pace, cpuMs: [], perSecond: [] }));
      for (const { dialect } of paced) await askMany(bus, dialect, 300);
      for (let round = 0; round < Number(values.rounds); round += 1) {
        for (const row of paced) await measure(bus, worker, row, requests);
      }
      rows.push(...paced);
      for (const child of children) child.kill();
    }
  } finally {
    for (const child of children) child.kill();
    await bus.close();
    await nats.stop();
  }
  const table = rows.map(({ dialect, pace, cpuMs, perSecond }) => ({
    ...{ dialect, pace },
    cpu_ms_per_request: Number(median(cpuMs).toFixed(3)),
    requests_per_s: Math.round(median(perSecond)),
  }));
  if (values.json) console.log(JSON.stringify(table));
  else {
    console.table(table);
    console.log(`load average ${loadavg()[0]?.toFixed(1)}, ${IN_FLIGHT} requests in flight`);
  }
}

async function measure(bus: Bus, worker: ChildProcess, row: Row, requests: number): Promise<void> {
  const before = Number(await ask(worker));
  const startMs = systemClock.monotonic();
  await askMany(bus, row.dialect, requests);
  const seconds = (systemClock.monotonic() - startMs) / 1_000;
  row.cpuMs.push((Number(await ask(worker)) - before) / requests);
  row.perSecond.push(requests / seconds);
}

let asked = 0;

async function askMany(bus: Bus, dialect: Dialect, count: number): Promise<void> {
  let left = count;
  const asker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      await askOne(bus, dialect);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, asker));
}

async function askOne(bus: Bus, dialect: Dialect): Promise<void> {
  asked += 1;
  const request = {
    request: `r-${asked.toString(36).padStart(26, '0')}`,
    ...{ dialect, engine: 'ollama', model: MODEL, context_tokens: 8_192, bytes: 0 },
    ...{ share: 'local', priority: 0, body: BODIES[dialect] },
  };
  const bytes = encoder.encode(JSON.stringify(request));
  const options = { first_ms: 5_000, idle_ms: 5_000 };
  let last = '';
  for await (const { headers } of bus.askStream(nodeSubject(NODE, 'infer'), bytes, options)) {
    last = headers['cg-usage'] ?? '';
  }
  if (!last.includes('"output_tokens":10')) throw new Error(`an answer without its end: ${last}`);
}

/** The engine's process. */
async function engine(pace: string, chunks: number): Promise<void> {
  const line = (more: object): string =>
    `${JSON.stringify({ model: MODEL, created_at: '2026-01-01T00:00:00.000000000Z', ...more })}\n`;
  const lines = Array.from({ length: chunks }, (_, index) =>
    line({ message: { role: 'assistant', content: ` token${index}` }, done: false }),
  );
  lines.push(
    line({
      ...{ message: { role: 'assistant', content: '' }, done: true, done_reason: 'stop' },
      ...{ total_duration: 5_000_000, load_duration: 1_000_000, prompt_eval_count: 100 },
      ...{ prompt_eval_duration: 2_000_000, eval_count: 10, eval_duration: 2_000_000 },
    }),
  );
  const write = (response: ServerResponse, index: number): void => {
    const next = lines[index];
    if (next === undefined) {
      response.end();
      return;
    }
    response.write(next);
    if (pace === 'burst') write(response, index + 1);
    else setImmediate(write, response, index + 1);
  };
  const server = createServer((request, response) => {
    request.resume();
    request.on('end', () => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      write(response, 0);
    });
  });
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve));
  process.send?.(`http://127.0.0.1:${(server.address() as AddressInfo).port}`);
}

/** The worker's process: says its CPU time in ms whenever it is asked. */
async function worker(url: string, host: string): Promise<void> {
  const bus = await connectNats({ servers: [url], name: 'worker', clock: systemClock });
  const hold = (): Hold => ({
    ...{ lease: 'l1', engine: 'ollama', model: MODEL, context_tokens: 8_192 },
    ...{ keep_alive: 900, load_ms: 0 },
    signal: new AbortController().signal,
    release: () => {},
  });
  serveInferences({
    ...{ bus, node: NODE, clock: systemClock, log: createLogger({ name: 'bench', level: 'warn' }) },
    lender: { use: () => Promise.resolve(hold()) },
    relays: { ollama: createOllamaRelay({ host, keep_alive: 900 }) },
    engines: () => [],
    rates: { of: () => null, learn: () => {} },
  });
  await bus.rtt();
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.((user + system) / 1_000);
  });
  process.send?.('ready');
}

const start = (...args: readonly string[]): ChildProcess =>
  fork(new URL(import.meta.url), args, { execArgv: ['--import', 'tsx'] });

const said = (child: ChildProcess): Promise<unknown> =>
  new Promise(resolve => child.once('message', resolve));

function ask(child: ChildProcess): Promise<unknown> {
  const answer = said(child);
  child.send('cpu');
  return answer;
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((left, right) => left - right);
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN;
}

const [role, ...args] = process.argv.slice(2);
if (role === 'engine') await engine(args[0] ?? 'burst', Number(args[1] ?? 10));
else if (role === 'worker') await worker(args[0] ?? '', args[1] ?? '');
else await main();
