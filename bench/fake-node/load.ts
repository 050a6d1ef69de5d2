/**
 * A load generator: a fixed number of requests in flight over kept connections, the next one sent
 * when the last one ended. Prints how many per second and how long they took.
 *
 *   node --import tsx bench/fake-node/load.ts --url http://127.0.0.1:11434/api/chat --model chat:8b
 *     [--in-flight 16] [--seconds 5 | --requests 10000] [--warm-up 1] [--body FILE]
 *     [--header 'authorization: Bearer …'] [--timeout 60] [--json]
 *
 * The body follows from the URL: Ollama's, OpenAI's or Anthropic's chat, streamed; or it is read
 * from a file. Speaks to anything that speaks HTTP/1.1, so the same load meets every contestant.
 */
import { readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { type Answer, HttpConnection } from './http-client.ts';

const PROMPT = 'Write a function that adds two numbers.';
const SAMPLES_MAX = 1_000_000;
const ERRORS_KEPT = 5;

export interface LoadOptions {
  readonly url: string;
  readonly body: string;
  readonly inFlight: number;
  /** Whichever comes first; by default only the time counts. */
  readonly seconds: number;
  readonly requests?: number;
  /** Seconds of load that are not counted. */
  readonly warmUpSeconds?: number;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

export interface LoadResult {
  readonly requests: number;
  readonly failed: number;
  /** The first few. */
  readonly errors: readonly string[];
  readonly seconds: number;
  readonly per_second: number;
  readonly first_ms: Percentiles;
  readonly total_ms: Percentiles;
  readonly chunks_per_request: number;
  readonly bytes_per_request: number;
}

export interface Percentiles {
  readonly p50: number;
  readonly p90: number;
  readonly p99: number;
  readonly max: number;
}

/** Fails only where an option makes no sense; what goes wrong in the load is counted. */
export async function runLoad(options: LoadOptions): Promise<LoadResult> {
  const { seconds, requests = SAMPLES_MAX, warmUpSeconds = 0, timeoutMs = 60_000 } = options;
  const { hostname, port } = new URL(options.url);
  const request = requestOf(options);
  const first: number[] = [];
  const total: number[] = [];
  const errors: string[] = [];
  const sum = { chunks: 0, bytes: 0, failed: 0 };
  let countFromMs = performance.now() + warmUpSeconds * 1_000;
  const endMs = countFromMs + seconds * 1_000;
  let begun = 0;

  const count = (answer: Answer): void => {
    if (answer.status >= 400) {
      fail(`${answer.status} ${answer.error}`);
      return;
    }
    first.push(answer.firstMs);
    total.push(answer.totalMs);
    sum.chunks += answer.chunks;
    sum.bytes += answer.bytes;
  };
  const fail = (reason: string): void => {
    sum.failed += 1;
    if (errors.length < ERRORS_KEPT) errors.push(reason.slice(0, 200));
  };
  const client = async (): Promise<void> => {
    const connection = new HttpConnection(hostname, Number(port || 80));
    for (;;) {
      const now = performance.now();
      const counted = now >= countFromMs;
      if (now >= endMs || begun >= Math.min(requests, SAMPLES_MAX)) break;
      if (counted) begun += 1;
      try {
        const answer = await connection.send(request, timeoutMs);
        if (counted) count(answer);
      } catch (error) {
        if (counted) fail(error instanceof Error ? error.message : String(error));
      }
    }
    connection.close();
  };
  if (warmUpSeconds === 0) countFromMs = performance.now();
  await Promise.all(Array.from({ length: options.inFlight }, client));
  const tookS = (performance.now() - countFromMs) / 1_000;
  const answered = Math.max(1, first.length);
  return {
    requests: first.length,
    failed: sum.failed,
    errors,
    seconds: tookS,
    per_second: first.length / tookS,
    first_ms: percentiles(first),
    total_ms: percentiles(total),
    chunks_per_request: sum.chunks / answered,
    bytes_per_request: sum.bytes / answered,
  };
}

/** A streamed chat of one short message, in the dialect that the path of the URL speaks. */
export function chatBody(url: string, model: string): string {
  const messages = [{ role: 'user', content: PROMPT }];
  const { pathname } = new URL(url);
  if (pathname.endsWith('/v1/messages')) {
    return JSON.stringify({ model, messages, stream: true, max_tokens: 256 });
  }
  if (pathname.includes('/v1/')) return JSON.stringify({ model, messages, stream: true });
  // Native: with the options that Code-God's own engine sends.
  const options = { num_ctx: 4_096, num_predict: 256, temperature: 0 };
  return JSON.stringify({ model, messages, stream: true, truncate: false, shift: false, options });
}

function requestOf({ url, body, headers = {} }: LoadOptions): Buffer {
  const { pathname, search, host } = new URL(url);
  const all = {
    host,
    connection: 'keep-alive',
    'content-type': 'application/json',
    'content-length': String(Buffer.byteLength(body)),
    ...headers,
  };
  const lines = Object.entries(all).map(([name, value]) => `${name}: ${value}\r\n`);
  return Buffer.from(`POST ${pathname}${search} HTTP/1.1\r\n${lines.join('')}\r\n${body}`);
}

function percentiles(samples: number[]): Percentiles {
  const sorted = Float64Array.from(samples).sort();
  const at = (share: number): number => {
    const index = Math.min(sorted.length - 1, Math.floor(sorted.length * share));
    return Math.round((sorted[index] ?? 0) * 1_000) / 1_000;
  };
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), max: at(1) };
}

export async function main(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      url: { type: 'string', default: 'http://127.0.0.1:11434/api/chat' },
      model: { type: 'string', default: 'chat:8b' },
      'in-flight': { type: 'string', default: '16' },
      seconds: { type: 'string', default: '5' },
      requests: { type: 'string' },
      'warm-up': { type: 'string', default: '1' },
      body: { type: 'string' },
      header: { type: 'string', multiple: true, default: [] },
      timeout: { type: 'string', default: '60' },
      json: { type: 'boolean', default: false },
    },
  });
  const headers = values.header.map(line => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon).trim(), line.slice(colon + 1).trim()] as const;
  });
  const result = await runLoad({
    url: values.url,
    body: values.body ? readFileSync(values.body, 'utf8') : chatBody(values.url, values.model),
    inFlight: Number(values['in-flight']),
    seconds: Number(values.seconds),
    ...(values.requests === undefined ? {} : { requests: Number(values.requests) }),
    warmUpSeconds: Number(values['warm-up']),
    headers: Object.fromEntries(headers),
    timeoutMs: Number(values.timeout) * 1_000,
  });
  process.stdout.write(values.json ? `${JSON.stringify(result)}\n` : text(result));
}

function text(result: LoadResult): string {
  const { first_ms, total_ms } = result;
  const row = (name: string, { p50, p90, p99, max }: Percentiles): string =>
    `${name.padEnd(12)} p50 ${p50} ms   p90 ${p90} ms   p99 ${p99} ms   max ${max} ms\n`;
  return (
    `requests     ${result.requests} in ${result.seconds.toFixed(2)} s = ${Math.round(result.per_second)}/s, ${result.failed} failed\n` +
    row('first byte', first_ms) +
    row('total', total_ms) +
    `answer       ${result.chunks_per_request.toFixed(1)} chunks, ${Math.round(result.bytes_per_request)} bytes\n` +
    result.errors.map(error => `failed       ${error}\n`).join('')
  );
}

if (process.argv[1]?.endsWith('fake-node/load.ts')) await main(process.argv.slice(2));
