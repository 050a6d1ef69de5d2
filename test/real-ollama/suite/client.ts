/** What the suite asks a server with: plain HTTP, so that it sees what is really sent. */
import assert from 'node:assert/strict';

export type Json = Readonly<Record<string, unknown>>;

export interface SuiteServer {
  readonly host: string;
  /** SIGKILL, or what comes nearest. */
  kill(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts servers with the models of `test/real-ollama/test-models.ts`, in the given environment. */
export interface Subject {
  start(env?: Readonly<Record<string, string>>): Promise<SuiteServer>;
}

export interface Reply {
  readonly status: number;
  readonly type: string;
  readonly text: string;
  readonly json: Json;
  /** Of NDJSON or of server-sent events. */
  readonly lines: readonly Json[];
}

export class Client {
  readonly host: string;

  constructor(host: string) {
    this.host = host;
  }

  async ask(path: string, body?: object, method = body ? 'POST' : 'GET'): Promise<Reply> {
    const response = await this.#fetch(path, body, method);
    const text = await response.text();
    const lines = text
      .split('\n')
      .map(line => line.replace(/^data: /, ''))
      .filter(line => line.startsWith('{'))
      .map(line => JSON.parse(line) as Json);
    const type = response.headers.get('content-type') ?? '';
    return { status: response.status, type, text, json: lines[0] ?? {}, lines };
  }

  /** A chat that is not streamed, of one message. */
  async chat(model: string, content: string, more: Json = {}): Promise<Json> {
    const messages = [{ role: 'user', content }];
    const reply = await this.ask('/api/chat', { model, messages, stream: false, ...more });
    assert.equal(reply.status, 200, reply.text);
    return reply.json;
  }

  /** Loads a model, or unloads it with `keep_alive: 0`. */
  async load(model: string, more: Json = {}): Promise<Json> {
    const reply = await this.ask('/api/chat', { model, messages: [], ...more });
    assert.equal(reply.status, 200, reply.text);
    return reply.json;
  }

  async unload(...models: readonly string[]): Promise<void> {
    for (const model of models) await this.load(model, { keep_alive: 0 });
    await until(async () => {
      const names = await this.loaded();
      return !models.some(model => names.includes(model));
    });
  }

  /** Names of what is loaded, without tags. */
  async loaded(): Promise<string[]> {
    return (await this.running()).map(({ name }) => String(name).replace(/:latest$/, '')).sort();
  }

  async running(): Promise<readonly Json[]> {
    return (await this.ask('/api/ps')).json['models'] as readonly Json[];
  }

  /** How much more memory a model is told to take for every token of its context. */
  async bytesPerToken(model: string): Promise<number> {
    const sizes: number[] = [];
    for (const num_ctx of [1_024, 9_216]) {
      await this.load(model, { options: { num_ctx } });
      const running = (await this.running()).find(({ name }) => name === `${model}:latest`);
      sizes.push(Number(running?.['size']));
    }
    return ((sizes[1] ?? 0) - (sizes[0] ?? 0)) / 8_192;
  }

  /** A long answer, streamed: resolves when its first piece is there. */
  async long(model: string, more: Json = {}): Promise<LongAnswer> {
    const abort = new AbortController();
    const messages = [{ role: 'user', content: 'hi' }];
    const body = { model, messages, format: LONG_FORMAT, options: LONG_OPTIONS, ...more };
    const response = await this.#fetch('/api/chat', body, 'POST', abort.signal);
    assert.equal(response.status, 200);
    const reader = response.body?.getReader();
    assert.ok(reader !== undefined);
    const decoder = new TextDecoder();
    let text = '';
    let ended = false;
    const read = async (): Promise<boolean> => {
      const { done, value } = await reader.read();
      text += decoder.decode(value, { stream: true });
      return done;
    };
    await read();
    const rest = (async () => {
      while (!(await read()));
      ended = true;
      return text;
    })();
    // Whoever hangs up need not look at what comes of it.
    rest.catch(() => {});
    return { rest, hangUp: () => abort.abort(), hasEnded: () => ended };
  }

  /** A request that is given up by its asker. */
  async give(path: string, body: object, afterMs: number): Promise<void> {
    const signal = AbortSignal.timeout(afterMs);
    await assert.rejects(this.#fetch(path, body, 'POST', signal));
  }

  #fetch(path: string, body: object | undefined, method: string, signal?: AbortSignal) {
    return fetch(this.host + path, {
      method,
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      ...(signal === undefined ? {} : { signal }),
    });
  }
}

export interface LongAnswer {
  /** All of the text. Fails where the stream breaks. */
  readonly rest: Promise<string>;
  hangUp(): void;
  hasEnded(): boolean;
}

/** Left alone, noise ends by chance. Four texts, since of a much longer one the runner dies. */
const TEXTS = ['one', 'two', 'three', 'four'];
export const LONG_FORMAT = {
  type: 'object',
  properties: Object.fromEntries(TEXTS.map(name => [name, { type: 'string', minLength: 1_500 }])),
  required: TEXTS,
};
/** Seconds of work, so that a machine that stalls for one of them does not miss the middle. */
export const LONG_OPTIONS = { num_ctx: 8_192, num_predict: 7_000, temperature: 0 };

/** Asks again and again; what takes longer than 10 s does not come. */
export async function until(holds: () => Promise<boolean> | boolean): Promise<void> {
  for (let tries = 0; tries < 500; tries++) {
    if (await holds()) return;
    await sleep(20);
  }
  assert.fail('it did not come to that');
}

export const sleep = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms));
