/**
 * What it costs a master to pass one streamed inference on, in CPU time of its process: HTTP in,
 * placing, the bus, and the bytes out again.
 *
 *   node --import tsx bench/door.ts [--rounds 5] [--requests 2000] [--chunks 10] [--json]
 *
 * Three processes besides a nats-server: the whole master with its door, a stand-in for a node that
 * answers without delay (`burst`: all chunks in one turn of its loop, `spread`: each in a turn of its
 * own), and this one, which asks over HTTP. The master's own `process.cpuUsage()` over a round,
 * divided by the requests, is the figure; the table shows medians over the rounds. The models and
 * nodes known to it are given beside. Target: 0.35 ms with 10 chunks.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { Agent, request as httpRequest } from 'node:http';
import { loadavg } from 'node:os';
import { parseArgs } from 'node:util';
import { TestMaster } from '../actors/master/test-master.ts';
import { encode } from '../protocol/codec.ts';
import { NodeId } from '../protocol/ids.ts';
import { INFER_HEADER } from '../protocol/inference.ts';
import { RuntimeAdvert } from '../protocol/node.ts';
import { BUCKETS } from '../protocol/streams.ts';
import { advertKey, nodeSubject } from '../protocol/subjects.ts';
import { systemClock } from '../runtime/clock.ts';
import { connectNats } from '../runtime/nats-bus.ts';
import { GIB, nodeView } from '../scheduling/test-nodes.ts';
import { startNats } from '../test/nats-fixture.ts';

const IN_FLIGHT = 16;
/** Requests until the compiler has settled. */
const WARM_UP = 2_000;
const MODEL = 'chat:8b';
const ADVERT_MS = 2_000;
const PATHS = ['/v1/chat/completions', '/api/chat', '/v1/messages'] as const;
const PROMPT = 'Write a function that adds two numbers. '.repeat(10);
const BODY = JSON.stringify({
  ...{ model: MODEL, stream: true, max_tokens: 100 },
  messages: [{ role: 'user', content: PROMPT }],
});
const CHUNK = Buffer.from(
  'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"delta":{"content":" two"}}]}\n\n',
);

type Pace = 'burst' | 'spread';

interface Row {
  readonly pace: Pace;
  readonly path: string;
  readonly cpuMs: number[];
  readonly perSecond: number[];
  readonly medianMs: number[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      requests: { type: 'string', default: '2000' },
      chunks: { type: 'string', default: '10' },
      nodes: { type: 'string', default: '1' },
      models: { type: 'string', default: '1' },
      json: { type: 'boolean', default: false },
    },
  });
  const nats = await startNats();
  const master = start('master', nats.url);
  const url = String(await said(master));
  const rows: Row[] = [];
  let node: ChildProcess | null = null;
  try {
    for (const pace of ['burst', 'spread'] as const) {
      node = start('node', nats.url, pace, values.chunks, values.nodes, values.models);
      await said(node);
      const paced = PATHS.map(
        (path): Row => ({ pace, path, cpuMs: [], perSecond: [], medianMs: [] }),
      );
      for (const { path } of paced) await askMany(url, path, WARM_UP);
      for (let round = 0; round < Number(values.rounds); round += 1) {
        for (const row of paced) await measure(url, master, row, Number(values.requests));
      }
      rows.push(...paced);
      node.kill();
    }
  } finally {
    node?.kill();
    master.kill();
    await nats.stop();
  }
  const table = rows.map(({ pace, path, cpuMs, perSecond, medianMs }) => ({
    ...{ pace, path },
    cpu_ms_per_request: Number(median(cpuMs).toFixed(3)),
    requests_per_s: Math.round(median(perSecond)),
    median_ms: Number(median(medianMs).toFixed(2)),
  }));
  if (values.json) console.log(JSON.stringify(table));
  else {
    console.table(table);
    const { nodes, models, chunks } = values;
    console.log(
      `${chunks} chunks, ${nodes} nodes with ${models} models, ${IN_FLIGHT} in flight, load average ${loadavg()[0]?.toFixed(1)}`,
    );
  }
  process.exit(0);
}

async function measure(url: string, master: ChildProcess, row: Row, count: number): Promise<void> {
  const before = Number(await asked(master));
  const startMs = systemClock.monotonic();
  const times = await askMany(url, row.path, count);
  const seconds = (systemClock.monotonic() - startMs) / 1_000;
  row.cpuMs.push((Number(await asked(master)) - before) / count);
  row.perSecond.push(count / seconds);
  row.medianMs.push(median(times));
}

const agent = new Agent({ keepAlive: true, maxSockets: IN_FLIGHT });

async function askMany(url: string, path: string, count: number): Promise<number[]> {
  const times: number[] = [];
  let left = count;
  const asker = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const startMs = systemClock.monotonic();
      await askOne(url + path);
      times.push(systemClock.monotonic() - startMs);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, asker));
  return times;
}

function askOne(url: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const headers = { 'content-type': 'application/json', 'content-length': BODY.length };
    const request = httpRequest(url, { method: 'POST', agent, headers }, response => {
      response.resume();
      if (response.statusCode !== 200) reject(new Error(`status ${response.statusCode}`));
      response.on('end', resolve);
    });
    request.on('error', reject);
    request.end(BODY);
  });
}

/** The process that is measured. */
async function runMaster(url: string): Promise<void> {
  const master = await (await TestMaster.start({ url })).settled();
  process.send?.(master.http.url);
  process.on('message', () => {
    const { user, system } = process.cpuUsage();
    process.send?.((user + system) / 1_000);
  });
}

/** Nodes that are adverts, and the first of them an answer without delay. */
async function runNode(url: string, pace: Pace, ...counts: string[]): Promise<void> {
  const [chunks = 10, nodes = 1, models = 1] = counts.map(Number);
  const bus = await connectNats({ servers: [url], name: 'node', clock: systemClock });
  const head = { [INFER_HEADER.status]: '200', [INFER_HEADER.contentType]: 'text/event-stream' };
  const usage = { prompt_tokens: 100, output_tokens: chunks, load_ms: 0, total_ms: 1 };
  const last = { [INFER_HEADER.usage]: JSON.stringify(usage) };
  bus.serveStream(nodeSubject(NodeId.parse('n0'), 'infer'), async (_message, { send }) => {
    for (let index = 0; index < chunks; index += 1) {
      if (pace === 'spread') await new Promise(resolve => setImmediate(resolve));
      await send(CHUNK, index === 0 ? head : index === chunks - 1 ? last : undefined);
    }
  });
  const advertise = async (): Promise<void> => {
    for (let index = 0; index < nodes; index += 1) await putAdverts(bus, index, models);
  };
  await advertise();
  setInterval(() => void advertise(), ADVERT_MS);
  await systemClock.sleep(500);
  process.send?.('ready');
}

async function putAdverts(
  bus: Awaited<ReturnType<typeof connectNats>>,
  index: number,
  count: number,
) {
  const id = `n${index}`;
  const others = Array.from({ length: count - 1 }, (_, place) => ({
    ...{ name: `other-${index}-${place}:7b`, size_bytes: 4 * GIB },
  }));
  const own = { name: MODEL, size_bytes: 4 * GIB, loaded: true, context_tokens: 32_768 };
  const gpu = { free: 9 * GIB, total: 16 * GIB };
  const view = nodeView({ id, gpu, models: [...(index === 0 ? [own] : []), ...others] });
  const runtime = RuntimeAdvert.parse(view.runtime?.advert);
  for (const model of runtime.engines.flatMap(engine => engine.models)) model.slots = 64;
  const kv = bus.kv(BUCKETS.node.name);
  await kv.put(advertKey(view.node, 'capacity'), encode(view.capacity?.advert));
  await kv.put(advertKey(view.node, 'runtime'), encode(runtime));
}

function start(...args: string[]): ChildProcess {
  return fork(import.meta.filename, args, { execArgv: process.execArgv });
}

/** The next message of a child. */
function said(child: ChildProcess): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const ended = (code: number | null): void => reject(new Error(`a process ended with ${code}`));
    child.once('exit', ended);
    child.once('message', message => {
      child.off('exit', ended);
      resolve(message);
    });
  });
}

function asked(child: ChildProcess): Promise<unknown> {
  const answer = said(child);
  child.send('cpu');
  return answer;
}

function median(values: readonly number[]): number {
  return values.toSorted((left, right) => left - right)[values.length >> 1] ?? Number.NaN;
}

const [role, ...rest] = process.argv.slice(2);
if (role === 'master') await runMaster(rest[0] ?? '');
else if (role === 'node') {
  const [url = '', pace = 'burst', ...counts] = rest;
  await runNode(url, pace as Pace, ...counts);
} else await main();
