/**
 * A fake node: Ollama's API over cards, models and speeds that do not exist.
 *
 * N1: it is deterministic: answers follow from seed, model and prompt; only time is real.
 * N2: what a real server of the same shape is seen to do it does too (`ollama-suite.ts` holds both
 *     to it); what nobody can bring a real one to do is told by `/_fake/behaviour`.
 */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { ApiError } from './api-error.ts';
import { Caller } from './caller.ts';
import * as catalog from './catalog.ts';
import { sendEmbed, sendEmbeddings } from './embed.ts';
import { environmentOf } from './environment.ts';
import { type FakeModelOptions, fakeModel } from './fake-model.ts';
import { type Fault, Faults } from './faults.ts';
import { type Card, Memory } from './memory.ts';
import { chat, generate } from './native.ts';
import { type Body, type Exchange, type NodeState, recordOf } from './node-state.ts';
import { nvidiaSmi } from './nvidia-smi.ts';
import * as openai from './openai.ts';
import { sendJson, sendText } from './player.ts';
import { pull } from './pull.ts';
import { Scheduler } from './scheduler.ts';
import { GIB } from './sizes.ts';

const VERSION = '0.17.4';
const BODY_BYTES_MAX = 64 * 2 ** 20;
const KEEP_CONNECTION_MS = 120_000;

export interface FakeNodeOptions {
  readonly port?: number;
  readonly host?: string;
  /** None: everything lies in main memory. */
  readonly cards?: readonly (Partial<Card> & { readonly totalBytes: number })[];
  readonly ramBytes?: number;
  readonly models?: readonly FakeModelOptions[];
  /** What can be pulled besides. */
  readonly registry?: readonly FakeModelOptions[];
  readonly pullBytesPerS?: number;
  /** Ollama's environment: OLLAMA_NUM_PARALLEL, OLLAMA_MAX_QUEUE, … */
  readonly env?: Readonly<Record<string, string | undefined>>;
  /** How long the driver takes to show memory as free again. */
  readonly recoveryMs?: number;
  /** Loads, unloads and tokens take so many times as long as their models say. */
  readonly timeScale?: number;
  readonly seed?: number;
  readonly version?: string;
  /** Looks at every request first; true: it has answered. */
  readonly intercept?: (exchange: Exchange) => boolean;
  /** What a fault that kills the node does; by default it stops listening and breaks off. */
  readonly onDie?: () => void;
}

export interface FakeNode {
  readonly url: string;
  readonly port: number;
  stats(): object;
  setFaults(faults: readonly Fault[]): void;
  setModels(models: readonly FakeModelOptions[]): void;
  /** Breaks off everything, as a machine that loses its power. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

type Route = (state: NodeState, exchange: Exchange) => void | Promise<void>;

const ROUTES: Readonly<Record<string, Route>> = {
  'GET /': (_, { response }) => sendText(response, 200, 'text/plain', 'Ollama is running'),
  'GET /api/version': ({ version }, { response }) => sendJson(response, 200, { version }),
  'GET /api/tags': catalog.tags,
  'GET /api/ps': catalog.ps,
  'POST /api/show': catalog.show,
  'POST /api/copy': catalog.copy,
  'POST /api/create': catalog.create,
  'DELETE /api/delete': catalog.remove,
  'POST /api/pull': pull,
  'POST /api/chat': chat,
  'POST /api/generate': generate,
  'POST /api/embed': sendEmbed,
  'POST /api/embeddings': sendEmbeddings,
  'GET /v1/models': openai.models,
  'POST /v1/chat/completions': openai.chatCompletions,
  'POST /v1/completions': openai.completions,
  'POST /v1/embeddings': openai.embeddings,
  'GET /_fake/stats': (state, { response }) => sendJson(response, 200, statsOf(state)),
  'GET /_fake/behaviour': ({ faults }, { response }) => sendJson(response, 200, faults.rules),
  'POST /_fake/behaviour': setBehaviour,
  'POST /_fake/nvidia-smi': ({ memory }, { body, response }) =>
    sendText(response, 200, 'text/plain', nvidiaSmi(memory, (body['args'] ?? []) as string[])),
};
const PATHS = new Set(Object.keys(ROUTES).map(route => route.slice(route.indexOf(' ') + 1)));

export async function startFakeNode(options: FakeNodeOptions = {}): Promise<FakeNode> {
  const server = createServer({ keepAliveTimeout: KEEP_CONNECTION_MS, noDelay: true });
  const kill = async (): Promise<void> => {
    state.scheduler.stop();
    const closed = new Promise<void>(resolve => server.close(() => resolve()));
    server.closeAllConnections();
    await closed;
  };
  const state = createState(options, options.onDie ?? (() => void kill()));
  server.on('request', (request, response) => {
    read(request, bytes => void answer(state, { request, response, bytes }, options.intercept));
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen(options.port ?? 0, options.host ?? '127.0.0.1', resolve);
  });
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    port,
    stats: () => statsOf(state),
    setFaults: faults => state.faults.set(faults),
    setModels(models) {
      state.models.clear();
      addModels(state.models, models);
    },
    kill,
    stop: kill,
  };
}

function createState(options: FakeNodeOptions, die: () => void): NodeState {
  const { timeScale = 1, seed = 1 } = options;
  const environment = environmentOf(options.env ?? {});
  const cards = (options.cards ?? []).map(card => ({
    ...{ name: 'NVIDIA GeForce RTX 3090', foreignBytes: 0 },
    ...card,
  }));
  const memory = new Memory({
    cards,
    ramBytes: options.ramBytes ?? 64 * GIB,
    recoveryMs: (options.recoveryMs ?? 0) * timeScale,
  });
  const models: NodeState['models'] = new Map();
  const registry: NodeState['registry'] = new Map();
  addModels(models, options.models ?? [{ name: 'chat:8b' }]);
  addModels(registry, options.registry ?? []);
  let random = seed;
  return {
    ...{ environment, memory, timeScale, seed, models, registry, die },
    version: options.version ?? VERSION,
    scheduler: new Scheduler(memory, environment, timeScale),
    faults: new Faults(() => {
      random = (Math.imul(random, 1_664_525) + 1_013_904_223) >>> 0;
      return random / 2 ** 32;
    }),
    pullBytesPerS: options.pullBytesPerS ?? 1e9,
    counters: {
      ...{ requests: 0, answered: 0, failed: 0, hung_up: 0, output_tokens: 0 },
      ...{ in_flight: 0, max_in_flight: 0 },
    },
  };
}

function addModels(to: NodeState['models'], models: readonly FakeModelOptions[]): void {
  for (const one of models.map(fakeModel)) to.set(one.name.toLowerCase(), one);
}

function read(request: IncomingMessage, done: (bytes: Buffer) => void): void {
  const parts: Buffer[] = [];
  let length = 0;
  request.on('data', (part: Buffer) => {
    parts.push(part);
    length += part.length;
    if (length > BODY_BYTES_MAX) request.destroy();
  });
  request.on('end', () => {
    const [only] = parts;
    done(parts.length === 1 && only !== undefined ? only : Buffer.concat(parts));
  });
}

interface Arrived {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly bytes: Buffer;
}

async function answer(
  state: NodeState,
  { request, response, bytes }: Arrived,
  intercept: FakeNodeOptions['intercept'],
): Promise<void> {
  const path = (request.url ?? '/').split('?', 1)[0] ?? '/';
  const caller = new Caller();
  response.once('close', () => {
    if (!response.writableFinished) caller.hangUp();
  });
  let exchange: Exchange = { path, body: {}, response, caller };
  try {
    exchange = { ...exchange, body: parse(bytes) };
    if (intercept?.(exchange) === true) return;
    await routeOf(request.method ?? 'GET', path)(state, exchange);
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    if (response.destroyed || response.headersSent) return;
    if (path.startsWith('/v1/')) openai.sendError(exchange, error);
    else if (error.status === 405 || error.message === NO_PAGE) {
      sendText(response, error.status, 'text/plain', error.message);
    } else sendJson(response, error.status, { error: error.message });
  }
}

const NO_PAGE = '404 page not found';

function routeOf(method: string, path: string): Route {
  const route = ROUTES[`${method === 'HEAD' ? 'GET' : method} ${path}`];
  if (route !== undefined) return route;
  const name = /^\/v1\/models\/(.+)$/.exec(path)?.[1];
  if (name !== undefined) {
    return (state, exchange) => openai.model(state, exchange, decodeURIComponent(name));
  }
  if (PATHS.has(path)) throw new ApiError(405, '405 method not allowed');
  throw new ApiError(404, NO_PAGE);
}

function parse(bytes: Buffer): Body {
  if (bytes.length === 0) return {};
  try {
    return recordOf(JSON.parse(bytes.toString('utf8')));
  } catch {
    throw new ApiError(400, 'invalid character in the request body');
  }
}

/** A rule or a list of them; an empty list ends them. */
function setBehaviour({ faults }: NodeState, { body, response }: Exchange): void {
  const rules = Array.isArray(body['rules']) ? body['rules'] : [body];
  try {
    faults.set(rules as Fault[]);
  } catch (error) {
    throw new ApiError(400, error instanceof Error ? error.message : String(error));
  }
  sendJson(response, 200, faults.rules);
}

function statsOf({ scheduler, memory, counters }: NodeState): object {
  const waiting = [...scheduler.loaded.values()].map(({ slots }) => slots.waiting);
  return {
    ...counters,
    ...scheduler.counters,
    pending: scheduler.pending,
    waiting: waiting.reduce((sum, count) => sum + count, 0),
    loaded: [...scheduler.loaded.values()].map(({ model }) => model.name),
    vram_used_bytes: memory.cards.reduce((sum, _, index) => sum + memory.ownedBytes(index), 0),
    max_vram_used_bytes: memory.maxUsedBytes,
  };
}
