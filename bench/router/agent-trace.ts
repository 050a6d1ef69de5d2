/**
 * The work of a coding agent over two unlike nodes: rounds of plan (a 20 GiB model), three files at
 * once (5 GiB), review (the 20 GiB model again) and a summary (a small one). A router that spreads
 * requests blindly loads models over and over; one that knows what is loaded does not.
 *
 * By hand: big on the large node, the other two on the small one, three loads in all.
 */
import { HttpConnection } from '../fake-node/http-client.ts';
import { chatBody } from '../fake-node/load.ts';
import type { Engine } from './engine.ts';
import type { Door } from './peers.ts';

const GIB = 2 ** 30;
const TIMEOUT_MS = 120_000;

export const BIG = 'big:32b';
export const CODE = 'code:7b';
export const SMALL = 'small:1b';

/** Loads at 20 GiB/s and tokens at some hundred a second: a real trace at a tenth of its time. */
export const TRACE_MODELS = [
  `${BIG},size=20GiB,kv=64KiB,load=1s,unload=50ms,prefill=20000,decode=400,tokens=60`,
  `${CODE},size=5GiB,kv=32KiB,load=250ms,unload=50ms,prefill=20000,decode=800,tokens=120`,
  `${SMALL},size=1GiB,kv=16KiB,load=60ms,unload=20ms,prefill=20000,decode=1600,tokens=40`,
];
export const TRACE_NODES = [
  { name: 'large', vramBytes: 24 * GIB },
  { name: 'little', vramBytes: 10 * GIB },
];
/** One sequence per model, as Ollama does by default. */
export const TRACE_PARALLEL = 1;

export type DoorOf = (model: string) => Door;

export interface TraceResult {
  readonly makespan_ms: number;
  readonly loads: number;
  /** Of the requests that failed, why: the first few. */
  readonly errors: readonly string[];
  readonly failed: number;
}

const ERRORS_KEPT = 3;

/** Runs `rounds` of the trace through a door; the engines' memory is empty before. */
export async function runTrace(
  engines: readonly Engine[],
  doorOf: DoorOf,
  rounds: number,
): Promise<TraceResult> {
  for (const engine of engines) await engine.clear();
  const before = await loads(engines);
  const startMs = performance.now();
  const errors: string[] = [];
  const ask = async (model: string): Promise<void> => {
    const error = await request(doorOf(model), model);
    if (error !== null) errors.push(error);
  };
  for (let round = 0; round < rounds; round++) {
    await ask(BIG);
    await Promise.all([ask(CODE), ask(CODE), ask(CODE)]);
    await ask(BIG);
    await ask(SMALL);
  }
  const makespan_ms = performance.now() - startMs;
  return {
    makespan_ms,
    loads: (await loads(engines)) - before,
    failed: errors.length,
    errors: [...new Set(errors)].slice(0, ERRORS_KEPT),
  };
}

async function loads(engines: readonly Engine[]): Promise<number> {
  const all = await Promise.all(engines.map(engine => engine.stats()));
  return all.reduce((sum, stats) => sum + stats.loads, 0);
}

/** Why it failed, or null. */
async function request(door: Door, model: string): Promise<string | null> {
  const { host, port, path, headers } = door;
  const body = Buffer.from(chatBody(`http://${host}:${port}${path}`, model));
  const all = {
    host: `${host}:${port}`,
    connection: 'close',
    'content-length': String(body.length),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = Buffer.from(`POST ${path} HTTP/1.1\r\n${lines.join('')}\r\n`);
  const connection = new HttpConnection(host, port);
  try {
    const answer = await connection.send(Buffer.concat([head, body]), TIMEOUT_MS);
    return answer.status === 200 ? null : `${model}: ${answer.status} ${answer.error}`;
  } catch (error) {
    return `${model}: ${error instanceof Error ? error.message : String(error)}`;
  } finally {
    connection.close();
  }
}
