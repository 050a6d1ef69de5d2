/**
 * The pool's routes, in front of the router: what clients of OpenAI, Ollama and Anthropic ask, on
 * bare `node:http`, since every microsecond here is paid once per token's way.
 *
 * H1: bodies are parsed once and answers not at all; errors have the shape of the client's dialect.
 * H2: a client that hangs up ends its inference within the same tick.
 * H3: whoever may ask is decided before a body is read.
 */
import type { IncomingMessage, ServerResponse } from 'node:http';
import { CodeGodError, toWireError } from '../../../../protocol/errors.ts';
import {
  type Dialect,
  INFER_BODY_BYTES_MAX,
  type RequestId,
} from '../../../../protocol/inference.ts';
import type { ApiKey } from '../../../../protocol/policy.ts';
import type { Clock } from '../../../../runtime/clock.ts';
import type { Logger } from '../../../../runtime/log.ts';
import { type ApiKeys, permits } from '../../pool/api-keys.ts';
import {
  Inference,
  type InferenceInput,
  type InferenceOptions,
  type Receiver,
} from '../../pool/inference.ts';
import type { Holder } from '../../pool/model-directory.ts';
import type { Gate } from '../gate.ts';
import { checkGuards, type HeaderOf } from '../guards.ts';
import { grantHeaders, type OriginRule, preflightHeaders } from '../origins.ts';
import { Answer } from './answer.ts';
import { type Asked, asked, promptTokens, requireName } from './asked.ts';
import { type Body, BodyBudget, readBody } from './body.ts';
import {
  anthropicModel,
  anthropicModels,
  type Entry,
  entryOf,
  ollamaPs,
  ollamaTags,
  openaiModel,
  openaiModels,
} from './catalog.ts';
import { asEmbed, EmbeddingReceiver } from './embedding.ts';
import type { Family } from './error-shapes.ts';
import { NO_CLOUD, refuseNodesOwn } from './nodes-own.ts';
import { type PullOptions, pull, pullOf } from './pull.ts';
import { selectorOf } from './selector.ts';
import { ModelShows } from './show.ts';
import { asksToUnload, unload } from './unload.ts';

export interface PoolDoorOptions extends InferenceOptions, PullOptions {
  readonly keys: ApiKeys;
  readonly gate: Gate;
  readonly isLoopback: boolean;
  readonly mayAsk: OriginRule;
  readonly newRequestId: () => RequestId;
  readonly clock: Clock;
  readonly log: Logger;
  readonly version: string;
  readonly signOfLifeMs?: number;
}

/** One request on its way through the door. */
interface Visit {
  readonly id: RequestId;
  readonly path: string;
  readonly family: Family;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly header: HeaderOf;
  key: ApiKey | null;
  /** Bytes of its body, as long as it goes on. */
  held: number;
}

/** An inference that is asked for. */
interface Asking {
  readonly dialect: Dialect;
  readonly wanted: Asked;
  readonly body: Body;
  readonly answer: Answer;
  readonly receiver: Receiver & { end(): void };
}

type Route = (visit: Visit) => Promise<void> | void;

const MODELS = '/v1/models/';
const SHARE_LOCAL = 'local';

export class PoolDoor {
  readonly #options: PoolDoorOptions;
  readonly #routes: ReadonlyMap<string, Route>;
  readonly #running = new Set<Promise<void>>();
  readonly #budget = new BodyBudget();
  readonly #shows: ModelShows;
  #isOpen = true;

  constructor(options: PoolDoorOptions) {
    this.#options = options;
    this.#shows = new ModelShows(options);
    const { directory } = options;
    const infer =
      (dialect: Dialect): Route =>
      visit =>
        this.#infer(visit, dialect);
    this.#routes = new Map<string, Route>([
      ['POST /v1/chat/completions', infer('openai-chat')],
      ['POST /v1/completions', infer('openai-completion')],
      ['POST /v1/embeddings', infer('openai-embedding')],
      ['POST /v1/messages', infer('anthropic-messages')],
      ['POST /api/chat', infer('ollama-chat')],
      ['POST /api/generate', infer('ollama-generate')],
      ['POST /api/embed', infer('ollama-embed')],
      ['POST /api/embeddings', visit => this.#embeddings(visit)],
      ['POST /v1/messages/count_tokens', visit => this.#countTokens(visit)],
      ['POST /api/show', visit => this.#show(visit)],
      ['POST /api/pull', visit => this.#pull(visit)],
      ['GET /v1/models', visit => this.#models(visit)],
      ['GET /api/tags', visit => this.#whole(visit).json(200, ollamaTags(directory, visit.key))],
      ['GET /api/ps', visit => this.#whole(visit).json(200, ollamaPs(directory, visit.key))],
      ['GET /api/status', visit => this.#whole(visit).json(200, NO_CLOUD)],
      ['GET /api/version', visit => this.#whole(visit).json(200, { version: this.#version() })],
    ]);
  }

  /** Takes nothing new; resolves when everything under way has been answered. */
  async drain(): Promise<void> {
    this.#isOpen = false;
    await Promise.all(this.#running);
  }

  /** Whether the request is for the pool; then it is being answered. */
  handle(request: IncomingMessage, response: ServerResponse): boolean {
    const url = request.url ?? '/';
    if (url !== '/' && !url.startsWith('/v1/') && !url.startsWith('/api/')) return false;
    const query = url.indexOf('?');
    const path = query === -1 ? url : url.slice(0, query);
    const visited = this.#visit(path, request, response).finally(() =>
      this.#running.delete(visited),
    );
    this.#running.add(visited);
    return true;
  }

  async #visit(path: string, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const id = this.#options.newRequestId();
    const header: HeaderOf = name => {
      const value = request.headers[name];
      return Array.isArray(value) ? value[0] : value;
    };
    const family = familyOf(path, header);
    const visit: Visit = { id, path, family, request, response, header, key: null, held: 0 };
    try {
      const { gate, isLoopback, mayAsk } = this.#options;
      // Whoever only asks whether something is there gets the head of what is.
      const method = request.method === 'HEAD' ? 'GET' : (request.method ?? 'GET');
      const limits = { isLoopback, mayAsk, bodyBytesMax: INFER_BODY_BYTES_MAX, anyType: true };
      const foreign = checkGuards(method, header, limits);
      if (foreign !== null && method === 'OPTIONS') {
        response.writeHead(204, preflightHeaders(foreign, header)).end();
        return;
      }
      if (foreign !== null) response.setHeaders(new Headers(grantHeaders(foreign)));
      if (path === '/' && method === 'GET') return this.#greet(response);
      visit.key = gate.admit(header); // H3
      // Which key the limits are those of; what was sent and is no key of ours counts as none.
      response.setHeader('x-codegod-key', encodeURIComponent(visit.key?.name ?? 'none'));
      await this.#routeOf(method, path)(visit);
    } catch (error) {
      this.#fail(visit, error);
    } finally {
      this.#budget.give(visit.held);
    }
  }

  /** The command line of Ollama asks for this before anything else, and so do its clients. */
  #greet(response: ServerResponse): void {
    response.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' });
    response.end('Ollama is running');
  }

  #routeOf(method: string, path: string): Route {
    if (!this.#isOpen) throw new CodeGodError('overloaded', 'this master stops; ask again');
    const route = this.#routes.get(`${method} ${path}`);
    if (route !== undefined) return route;
    if (method === 'GET' && path.startsWith(MODELS)) return visit => this.#model(visit);
    refuseNodesOwn(path);
    throw new CodeGodError('not_found', `there is no ${method} ${path.slice(0, 128)}`);
  }

  async #infer(visit: Visit, dialect: Dialect): Promise<void> {
    const body = await this.#body(visit);
    const wanted = asked(dialect, body.value);
    if (asksToUnload(dialect, body)) {
      this.#permit(visit, wanted.model, this.#options.directory.resolve(wanted.model));
      this.#whole(visit).json(200, await unload(this.#options, dialect, wanted.model));
      return;
    }
    const answer = this.#answer(visit, wanted.stream);
    await this.#run(visit, { dialect, wanted, body, answer, receiver: answer });
  }

  async #embeddings(visit: Visit): Promise<void> {
    const dialect = 'ollama-embed';
    const body = asEmbed(await this.#body(visit));
    const answer = this.#answer(visit, false);
    const receiver = new EmbeddingReceiver(answer);
    await this.#run(visit, { dialect, wanted: asked(dialect, body.value), body, answer, receiver });
  }

  async #run(visit: Visit, asking: Asking): Promise<void> {
    const { key, response } = visit;
    const { wanted, answer, receiver } = asking;
    const model = this.#options.directory.resolve(wanted.model);
    this.#permit(visit, wanted.model, model);
    if (model !== null) requireAble(this.#options.directory.holders(model), asking);
    const input = inputOf(visit, asking, model);
    const pass = key === null ? null : this.#options.keys.enter(key);
    const inference = new Inference(this.#options, input, receiver);
    response.on('close', () => {
      if (!response.writableFinished) inference.cancel(); // H2
    });
    let tokens = 0;
    try {
      const usage = await inference.run();
      tokens = usage === null ? 0 : usage.prompt_tokens + usage.output_tokens;
      receiver.end();
    } catch (error) {
      answer.fail(error);
      this.#note(visit, error);
    } finally {
      pass?.leave(tokens);
    }
  }

  #permit({ key }: Visit, wanted: string, model: string | null): void {
    if (key === null || permits(key, model) || permits(key, wanted)) return;
    throw new CodeGodError('denied', `the API key ${key.name} is not for ${wanted.slice(0, 128)}`);
  }

  /** What a name leads to, where the client's key is for it. */
  #entry(visit: Visit, name: string): Entry {
    const { directory } = this.#options;
    this.#permit(visit, name, directory.resolve(name));
    return entryOf(directory, name);
  }

  async #countTokens(visit: Visit): Promise<void> {
    const { value } = await this.#body(visit);
    this.#options.directory.resolve(requireName(value));
    this.#whole(visit).json(200, { input_tokens: promptTokens(value) });
  }

  async #show(visit: Visit): Promise<void> {
    const { value } = await this.#body(visit);
    const entry = this.#entry(visit, requireName(value));
    const hangUp = new AbortController();
    visit.response.on('close', () => hangUp.abort());
    const shown = await this.#shows.show(entry, value['verbose'] === true, hangUp.signal);
    this.#whole(visit).json(200, shown);
  }

  async #pull(visit: Visit): Promise<void> {
    const wanted = pullOf(this.#options, await this.#body(visit));
    this.#permit(visit, wanted.model, wanted.model);
    const answer = this.#answer(visit, wanted.stream);
    const hangUp = new AbortController();
    visit.response.on('close', () => hangUp.abort());
    try {
      await pull(this.#options, wanted, answer, hangUp.signal);
    } catch (error) {
      answer.fail(error);
      this.#note(visit, error);
    }
  }

  #models(visit: Visit): void {
    const { directory } = this.#options;
    const models = visit.family === 'anthropic' ? anthropicModels : openaiModels;
    this.#whole(visit).json(200, models(directory, visit.key));
  }

  #model(visit: Visit): void {
    const entry = this.#entry(visit, nameIn(visit.path));
    const named = visit.family === 'anthropic' ? anthropicModel : openaiModel;
    this.#whole(visit).json(200, named(entry));
  }

  /** Of the oldest engine: what clients may expect of every node. */
  #version(): string {
    const versions = this.#options.nodes
      .views()
      .flatMap(({ runtime }) => runtime?.advert.engines ?? [])
      .flatMap(({ name, version }) => (name === 'ollama' && version !== null ? [version] : []));
    const byNumber = new Intl.Collator('en', { numeric: true }).compare;
    return versions.sort(byNumber)[0] ?? this.#options.version;
  }

  #body(visit: Visit): Promise<Body> {
    return readBody(visit.request, bytes => {
      this.#budget.take(bytes);
      visit.held += bytes;
    });
  }

  #whole(visit: Visit): Answer {
    return this.#answer(visit, false);
  }

  #answer({ response, family, id }: Visit, isStream: boolean): Answer {
    const { clock, signOfLifeMs } = this.#options;
    const more = signOfLifeMs === undefined ? {} : { signOfLifeMs };
    return new Answer({ response, family, id, isStream, clock, ...more });
  }

  #fail(visit: Visit, error: unknown): void {
    this.#whole(visit).fail(error);
    this.#note(visit, error);
  }

  #note({ id, path }: Visit, error: unknown): void {
    const wire = toWireError(error);
    if (wire.code === 'internal') this.#options.log.error('http.failed', { id, path, error: wire });
  }
}

function inputOf(visit: Visit, asking: Asking, model: string | null): InferenceInput {
  const { id, key, header } = visit;
  const { dialect, body, wanted } = asking;
  const { capability, context_tokens, prompt_tokens, output_tokens } = wanted;
  const selector = selectorOf(header('x-codegod-selector'));
  // A model that was named says itself what it cannot do.
  const isChosen = model === null || capability === 'embedding';
  return {
    id,
    dialect,
    body: body.bytes,
    traceparent: header('traceparent'),
    share: key === null ? SHARE_LOCAL : `key-${key.id}`,
    priority: key?.priority ?? 0,
    request: {
      model,
      context_tokens,
      prompt_tokens,
      output_tokens,
      kind: 'inference',
      remote: 'deny',
      avoid: [],
      ...(isChosen ? { capability } : {}),
      ...(selector === null ? {} : { selector }),
    },
  };
}

/** A model that only embeds does not write. Whether one that writes can embed is for its engine to say. */
function requireAble(holders: readonly Holder[], { wanted, dialect }: Asking): void {
  const { capability, model } = wanted;
  const isAble = holders.some(
    ({ model: { capabilities } }) =>
      capabilities.length === 0 || capabilities.includes('completion'),
  );
  if (capability === 'embedding' || isAble || holders.length === 0) return;
  const what = dialect === 'ollama-generate' ? 'generate' : 'chat';
  throw new CodeGodError('bad_request', `"${model.slice(0, 128)}" does not support ${what}`, {
    details: { param: 'model' },
  });
}

function familyOf(path: string, header: HeaderOf): Family {
  if (path.startsWith('/api/')) return 'ollama';
  if (path.startsWith('/v1/messages')) return 'anthropic';
  return header('anthropic-version') === undefined ? 'openai' : 'anthropic';
}

function nameIn(path: string): string {
  try {
    return decodeURIComponent(path.slice(MODELS.length));
  } catch (cause) {
    throw new CodeGodError('bad_request', 'the name of the model is not encoded well', { cause });
  }
}
