/**
 * Goal: one inference over the bus keeps its promises: refused before anything is done, streamed as
 * it comes, told in the client's dialect when it breaks, ended at the engine when the caller goes.
 * Method: the memory bus; an engine that does as told, and a fake node and a real Ollama for what
 * any engine does.
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { after, afterEach, before, beforeEach, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { startFakeNode } from '../../bench/fake-node/fake-node.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import {
  type Dialect,
  INFER_ALIVE_MS,
  INFER_CHUNK_BYTES_MAX,
  InferUsage,
} from '../../protocol/inference.ts';
import { ARTIFACTS } from '../../protocol/streams.ts';
import { nodeSubject } from '../../protocol/subjects.ts';
import type { BusMessage } from '../../runtime/bus.ts';
import { type Clock, SimulatedClock, systemClock } from '../../runtime/clock.ts';
import { createLogger } from '../../runtime/log.ts';
import { createMemoryBroker, type MemoryBus } from '../../runtime/memory-bus.ts';
import { throwIfError } from '../../runtime/message-body.ts';
import { TINY_CONTEXT_LENGTH } from '../../test/real-ollama/model-gguf.ts';
import { findRealOllama, startRealOllama } from '../../test/real-ollama/real-ollama.ts';
import { TINY } from '../../test/real-ollama/test-models.ts';
import { createOllamaRelay } from './engines/ollama-relay.ts';
import type { Hold, Measured, ModelLender } from './hold.ts';
import { serveInferences } from './infer.ts';
import type { Relay } from './relay/relay.ts';
import { chatLine, lastLine, MODEL } from './relay/test-dialect.ts';
import { type EngineRequest, startTestEngine, type TestEngine } from './relay/test-engine.ts';

const NODE = NodeId.parse('n1');
const messages = [{ role: 'user', content: 'Hello' }];
const decoder = new TextDecoder();

/** Lends whatever is asked for, and keeps what came back. */
class TestLender implements ModelLender {
  readonly released: (Measured | undefined)[] = [];
  force = new AbortController();
  before: (use: Parameters<ModelLender['use']>) => Promise<void> = async () => {};

  async use(...given: Parameters<ModelLender['use']>): Promise<Hold> {
    await this.before(given);
    const [{ engine, model, context_tokens }] = given;
    return {
      ...{ lease: 'l1', engine, model, context_tokens, keep_alive: 300, load_ms: 12 },
      signal: this.force.signal,
      release: measured => void this.released.push(measured),
    };
  }
}

interface World {
  readonly bus: MemoryBus;
  readonly lender: TestLender;
  readonly rates: TestRates;
  stop(): Promise<void>;
}

/** How fast a model is known to read, and what was learnt of it since, in tokens per second. */
interface TestRates {
  known: number | null;
  readonly learnt: number[];
}

function worldOf(host: string, clock: Clock = systemClock): World {
  const broker = createMemoryBroker({ clock: systemClock });
  const [bus, served] = [broker.connect('caller'), broker.connect('worker')];
  const lender = new TestLender();
  const rates: TestRates = { known: null, learnt: [] };
  const relay: Relay = createOllamaRelay({ host, keep_alive: 900 });
  serveInferences({
    ...{ bus: served, node: NODE, clock, lender, relays: { ollama: relay } },
    log: createLogger({ name: 'test', level: 'fatal' }),
    engines: () => [],
    rates: {
      of: () => rates.known,
      learn: (_, { prompt_tokens, prompt_ms }) => {
        rates.learnt.push(Number(prompt_tokens) / (Number(prompt_ms) / 1_000));
      },
    },
  });
  return {
    ...{ bus, lender, rates },
    async stop() {
      await Promise.all([bus.close(), served.close()]);
      relay.stop();
    },
  };
}

let requests = 0;

function ask(
  bus: MemoryBus,
  dialect: Dialect,
  body: object | undefined,
  more: object = {},
  signal?: AbortSignal,
): AsyncIterable<BusMessage> {
  requests += 1;
  const request = {
    request: `r-${requests.toString(36).padStart(26, '0')}`,
    ...{ dialect, engine: 'ollama', model: MODEL, context_tokens: 2_048, bytes: 1_000 },
    ...{ share: 'local', priority: 0, ...(body === undefined ? {} : { body }), ...more },
  };
  const bytes = new TextEncoder().encode(JSON.stringify(request));
  const options = { first_ms: 5_000, idle_ms: 8_000, ...(signal === undefined ? {} : { signal }) };
  return bus.askStream(nodeSubject(NODE, 'infer'), bytes, options);
}

interface Answered {
  readonly messages: readonly BusMessage[];
  readonly bodies: readonly string[];
  readonly text: string;
  readonly head: BusMessage['headers'];
  readonly usage: InferUsage | null;
  readonly failure: string | undefined;
}

/** `seen` is told of each message, so that what comes next can wait for it. */
async function all(
  stream: AsyncIterable<BusMessage>,
  seen: (message: BusMessage, bodies: number) => void = () => {},
): Promise<Answered> {
  const list: BusMessage[] = [];
  const full: BusMessage[] = [];
  for await (const message of stream) {
    throwIfError(message);
    list.push(message);
    if (message.body.length > 0) full.push(message);
    seen(message, full.length);
  }
  const usage = list.at(-1)?.headers['cg-usage'];
  return {
    messages: list,
    bodies: full.map(({ body }) => decoder.decode(body)),
    text: Buffer.concat(full.map(({ body }) => body)).toString('utf8'),
    head: full[0]?.headers ?? {},
    usage: usage === undefined ? null : InferUsage.parse(JSON.parse(usage)),
    failure: list.at(-1)?.headers['cg-failure'],
  };
}

async function codeOf(work: Promise<unknown>): Promise<string> {
  const error = await work.then(
    value => assert.fail(`no failure but ${JSON.stringify(value)}`),
    (reason: unknown) => reason,
  );
  assert.ok(error instanceof CodeGodError, String(error));
  return error.code;
}

const stream = chatLine({ content: 'Hel' }) + chatLine({ content: 'lo' }) + lastLine();

describe('an inference', () => {
  let engine: TestEngine;
  let world: World;
  const answering = (text: string): void =>
    engine.onRequest(({ response }) => {
      response.writeHead(200, { 'content-type': 'application/x-ndjson' });
      response.end(text);
    });
  /** What the engine was asked, once it has been. */
  const request = (): Promise<EngineRequest> => new Promise(resolve => engine.onRequest(resolve));

  before(async () => {
    engine = await startTestEngine();
  });
  after(() => engine.stop());
  beforeEach(() => {
    world = worldOf(engine.host);
  });
  afterEach(() => world.stop());

  it('passes the bytes of the same dialect on, with status, type and usage', async () => {
    answering(stream);
    const answer = await all(ask(world.bus, 'ollama-chat', { model: MODEL, messages }));
    assert.equal(answer.text, stream);
    assert.equal(answer.head['cg-status'], '200');
    assert.equal(answer.head['content-type'], 'application/x-ndjson');
    assert.equal(answer.messages.filter(({ headers }) => 'cg-status' in headers).length, 1);
    assert.deepEqual([answer.usage?.prompt_tokens, answer.usage?.output_tokens], [26, 7]);
    assert.equal(answer.usage?.load_ms, 12);
    assert.deepEqual(world.lender.released, [
      { prompt_tokens: 26, prompt_ms: 3, output_tokens: 7, output_ms: 4 },
    ]);
  });

  it('sends what comes at once as one message, and what comes later as it comes', async () => {
    let goOn = (_bodies: number): void => {};
    const told = request();
    const asked = ask(world.bus, 'openai-chat', { messages, stream: true });
    const asking = all(asked, (_message, bodies) => goOn(bodies));
    const { response, body } = await told;
    goOn = bodies => {
      if (bodies === 1) response.write(chatLine({ content: 'c' }));
      if (bodies === 2) response.end(lastLine());
    };
    assert.deepEqual(body['options'], { num_predict: 8_192, num_ctx: 2_048 });
    assert.deepEqual([body['stream'], body['keep_alive'], body['shift']], [true, 300, false]);
    response.write(chatLine({ content: 'a' }) + chatLine({ content: 'b' }));
    const { bodies, usage } = await asking;
    assert.equal(bodies.length, 3);
    assert.match(bodies[0] ?? '', /"content":"a".*"content":"b"/s);
    assert.match(bodies[2] ?? '', /"finish_reason":"stop".*data: \[DONE\]/s);
    assert.equal(usage?.output_tokens, 7);
  });

  it('cuts a large answer into messages of bounded size', async () => {
    const content = 'é'.repeat(300_000);
    answering(lastLine('stop', { content }));
    const body = { model: MODEL, messages, stream: false };
    const { messages: sent, text } = await all(ask(world.bus, 'ollama-chat', body));
    assert.ok(sent.length >= 3);
    assert.ok(sent.every(({ body: part }) => part.length <= INFER_CHUNK_BYTES_MAX));
    assert.equal(JSON.parse(text).message.content, content);
  });

  it('closes the engine’s stream when the caller goes, and gives the slot back', async () => {
    const gone = new AbortController();
    const body = { messages, max_tokens: 9, stream: true };
    const told = request();
    const asking = codeOf(
      all(ask(world.bus, 'anthropic-messages', body, {}, gone.signal), () => gone.abort()),
    );
    const { response, closed } = await told;
    response.write(chatLine({ content: 'a' }));
    assert.equal(await asking, 'cancelled');
    assert.equal(await closed, false);
    assert.equal(world.lender.released.length, 1);
  });

  it('ends when its model is unloaded by force', async () => {
    const told = request();
    const asking = all(ask(world.bus, 'openai-chat', { messages, stream: true }), () =>
      world.lender.force.abort(),
    );
    const { response, closed } = await told;
    response.write(chatLine({ content: 'a' }));
    const { text, failure } = await asking;
    assert.match(text, /data: \{"error":\{"message":"the model was unloaded by force"/);
    assert.doesNotMatch(text, /DONE/);
    assert.equal(failure, 'engine_unavailable');
    assert.equal(await closed, false);
  });

  it('fails with a code before the first byte, so that another node can be asked', async () => {
    const refusals: readonly [number, string, string][] = [
      [503, 'server busy', 'engine_unavailable'],
      [404, 'model not found', 'model_missing'],
      [400, 'does not support tools', 'bad_request'],
      [400, 'the prompt exceeds the available context size', 'answer_truncated'],
      [500, 'error parsing tool call', 'engine_failed'],
    ];
    for (const [status, error, code] of refusals) {
      engine.onRequest(({ response }) => {
        response.writeHead(status).end(JSON.stringify({ error }));
      });
      const asking = all(ask(world.bus, 'openai-chat', { messages, stream: true }));
      assert.equal(await codeOf(asking), code, error);
    }
    answering('{"error":"out of memory"}\n');
    for (const dialect of ['ollama-chat', 'openai-chat'] as const) {
      const asking = all(ask(world.bus, dialect, { messages, stream: true }));
      assert.equal(await codeOf(asking), 'engine_failed');
    }
    assert.equal(world.lender.released.length, 7);
  });

  it('tells of a failure after the first byte in the dialect of the client', async () => {
    let breakOff = (): void => {};
    engine.onRequest(({ response }) => {
      response.write(chatLine({ content: 'a' }));
      breakOff = () => response.end('{"error":"cuda died"}\n');
    });
    const told = {
      'ollama-chat': /\n\{"error":"the engine failed: cuda died"\}\n$/,
      'openai-chat': /\n\ndata: \{"error":\{"message":"the engine failed: cuda died".*\}\n\n$/,
      'anthropic-messages': /\n\nevent: error\ndata: \{"type":"error",.*cuda died"\}\}\n\n$/,
    } as const;
    for (const [dialect, form] of Object.entries(told)) {
      const body = { messages, stream: true, max_tokens: 9 };
      const { text, failure } = await all(ask(world.bus, dialect as Dialect, body), () =>
        breakOff(),
      );
      assert.match(text, form);
      assert.equal(failure, 'engine_failed');
    }
  });

  it('tells of an engine that dies in the middle, and of none that never was', async () => {
    let die = (): void => {};
    engine.onRequest(({ response }) => {
      response.write(chatLine({ content: 'a' }));
      die = () => response.destroy();
    });
    const streamed = ask(world.bus, 'ollama-chat', { messages });
    const { text, failure } = await all(streamed, () => die());
    assert.match(text, /\{"error":".*"\}\n$/);
    assert.equal(failure, 'engine_failed');
    // Not streamed: nothing has been sent yet, so it is an error.
    engine.onRequest(({ response }) => {
      response.write('{"message":', () => response.destroy());
    });
    const whole = all(ask(world.bus, 'openai-chat', { messages }));
    assert.equal(await codeOf(whole), 'engine_failed');
    const nobody = worldOf('http://127.0.0.1:9');
    const asking = all(ask(nobody.bus, 'ollama-chat', { messages }));
    assert.equal(await codeOf(asking), 'engine_unavailable');
    await nobody.stop();
  });

  it('keeps its connections, and survives that one was closed meanwhile', async () => {
    answering(stream);
    const before = engine.connections;
    for (let count = 0; count < 5; count += 1) {
      await all(ask(world.bus, 'ollama-chat', { messages }));
    }
    assert.equal(engine.connections - before, 1);
    engine.closeKept();
    assert.equal((await all(ask(world.bus, 'ollama-chat', { messages }))).text, stream);
    // Closed in the very moment of its use: once that is no failure, and twice it is.
    let dropped = 0;
    engine.onRequest(({ response }) => {
      dropped += 1;
      if (dropped === 1) response.destroy();
      else response.end(stream);
    });
    assert.equal((await all(ask(world.bus, 'ollama-chat', { messages }))).text, stream);
    engine.onRequest(({ response }) => void response.destroy());
    const twice = all(ask(world.bus, 'ollama-chat', { messages }));
    assert.equal(await codeOf(twice), 'engine_unavailable');
  });

  it('shows how a cold load goes on, and signs of life while the engine thinks', async () => {
    world.lender.before = async ([, onProgress]) => {
      onProgress({ phase: 'loading', fraction: 0.5 });
      await sleep(20);
    };
    let end = (): void => {};
    engine.onRequest(({ response }) => {
      end = () => void response.end(stream);
    });
    const asking = ask(world.bus, 'ollama-chat', { messages });
    const { messages: sent, text } = await all(asking, ({ headers }) => {
      if (headers['cg-progress']?.includes('reading')) end();
    });
    assert.equal(text, stream);
    const phases = sent
      .map(({ headers }) => headers['cg-progress'])
      .filter(progress => progress !== undefined)
      .map(progress => JSON.parse(progress));
    assert.deepEqual(phases[0], { phase: 'loading', fraction: 0.5 });
    assert.deepEqual(phases[1], { phase: 'reading', fraction: null });
  });

  it('gives signs of life in time, and gives an engine up that is silent for too long', async () => {
    const clock = new SimulatedClock();
    const simulated = worldOf(engine.host, clock);
    const told = request();
    let signs = 0;
    const body = { messages, stream: true };
    const asking = codeOf(
      all(ask(simulated.bus, 'openai-chat', body), () => {
        signs += 1;
      }),
    );
    const { closed } = await told;
    await clock.advance(20_000);
    assert.ok(signs >= 20_000 / INFER_ALIVE_MS, `${signs} signs`);
    await clock.advance(300_000);
    assert.equal(await asking, 'timeout');
    assert.equal(await closed, false);
    assert.equal(simulated.lender.released.length, 1);
    await clock.advance(1_000);
    assert.equal(clock.timersPending, 0);
    await simulated.stop();
  });

  it('lets a long prompt be read for as long as that can take, and learns from how long it took', async () => {
    for (const { known, tokens, silentMs } of [
      { known: null, tokens: 30_000, silentMs: 3_000_000 },
      { known: 300, tokens: 30_000, silentMs: 3_000_000 },
      { known: 4, tokens: 1_000, silentMs: 2_000_000 },
    ]) {
      const clock = new SimulatedClock();
      const simulated = worldOf(engine.host, clock);
      simulated.rates.known = known;
      const told = request();
      const long = [{ role: 'user', content: 'x'.repeat(3 * tokens) }];
      const asking = codeOf(
        all(ask(simulated.bus, 'openai-chat', { messages: long, stream: true })),
      );
      const { closed } = await told;
      await clock.advance(silentMs - 10_000);
      assert.equal(simulated.lender.released.length, 0, 'it still reads');
      await clock.advance(100_000);
      assert.equal(await asking, 'timeout');
      assert.equal(await closed, false);
      const [rate] = simulated.rates.learnt;
      assert.ok(rate !== undefined && rate < (tokens / silentMs) * 1_100, String(rate));
      await clock.advance(1_000);
      await simulated.stop();
    }
  });

  it('is refused before anything is done', async () => {
    engine.onRequest(() => assert.fail('the engine was asked'));
    const { bus, lender } = world;
    const code = (...given: Parameters<typeof ask> extends [unknown, ...infer R] ? R : never) =>
      codeOf(all(ask(bus, ...given)));
    assert.equal(await code('openai-chat', { messages, n: 3 }), 'bad_request');
    assert.equal(await code('openai-chat', undefined), 'bad_message');
    assert.equal(await code('openai-chat', { messages }, { priority: 1e6 }), 'bad_message');
    assert.equal(await code('openai-chat', { messages }, { engine: 'scaffold' }), 'bad_request');
    assert.equal(
      await code('openai-chat', { messages }, { engine: 'openai' }),
      'engine_unavailable',
    );
    assert.equal(lender.released.length, 0);
    lender.before = async () => {
      throw new CodeGodError('reservation_refused', 'the memory is taken');
    };
    assert.equal(await code('openai-chat', { messages }), 'reservation_refused');
  });

  it('takes a large request from the object store, and only what was announced', async () => {
    answering(stream);
    const objects = world.bus.objects(ARTIFACTS.name);
    await objects.ensure({ storage: 'file' });
    const content = 'x'.repeat(600_000);
    const bytes = Buffer.from(JSON.stringify({ messages: [{ role: 'user', content }] }));
    await objects.put('request-1', bytes);
    const artifact = {
      ...{ bucket: ARTIFACTS.name, name: 'request-1', size: bytes.length },
      sha256: createHash('sha256').update(bytes).digest('hex'),
    };
    const asking = all(ask(world.bus, 'ollama-chat', undefined, { artifact }));
    assert.equal((await asking).text, stream);
    // Five of the largest at once are one too many; the four are not there, which is told apart.
    const largest = { artifact: { ...artifact, name: 'request-2', size: 64 * 1024 * 1024 } };
    const codes = await Promise.all(
      Array.from({ length: 5 }, () =>
        codeOf(all(ask(world.bus, 'ollama-chat', undefined, largest))),
      ),
    );
    assert.deepEqual(codes.toSorted(), [...Array(4).fill('not_found'), 'overloaded']);
    const wrong: readonly [object, string][] = [
      [{ sha256: '0'.repeat(64) }, 'bad_message'],
      [{ size: 10 }, 'too_large'],
      [{ size: 2 ** 40 }, 'too_large'],
      [{ name: 'request-2' }, 'not_found'],
      [{ bucket: 'other' }, 'bad_message'],
    ];
    for (const [change, code] of wrong) {
      const bad = { artifact: { ...artifact, ...change } };
      assert.equal(await codeOf(all(ask(world.bus, 'ollama-chat', undefined, bad))), code);
    }
  });
});

interface Server {
  readonly host: string;
  stop(): Promise<void>;
}

/** What any Ollama does. */
function contract(start: () => Promise<Server>): void {
  let server: Server;
  let world: World;
  before(async () => {
    server = await start();
    world = worldOf(server.host);
  });
  after(async () => {
    await world.stop();
    await server.stop();
  });
  const asking = (dialect: Dialect, body: object, signal?: AbortSignal) =>
    ask(world.bus, dialect, body, { model: MODEL }, signal);

  it('streams in every dialect and counts its tokens', async () => {
    const bodies = {
      'ollama-chat': { model: 'tiny', messages, options: { num_predict: 4 } },
      'ollama-generate': { model: 'tiny', prompt: 'Hello', options: { num_predict: 4 } },
      'openai-chat': { model: 'gpt', messages, stream: true, max_tokens: 4 },
      'openai-completion': { model: 'gpt', prompt: 'Hello', stream: true, max_tokens: 4 },
      'anthropic-messages': { model: 'claude', messages, stream: true, max_tokens: 4 },
    } as const;
    for (const [dialect, body] of Object.entries(bodies)) {
      const { text, usage, failure } = await all(asking(dialect as Dialect, body));
      assert.equal(failure, undefined, dialect);
      assert.ok(usage !== null && usage.prompt_tokens > 0 && usage.output_tokens > 0, dialect);
      assert.match(text, /"done":true|\[DONE\]|message_stop/, dialect);
    }
  });

  it('gives embeddings, whole and in base64', async () => {
    const body = { model: 'tiny', input: ['a', 'b'], encoding_format: 'base64' };
    const { text, head } = await all(asking('openai-embedding', body));
    const { data, usage } = JSON.parse(text);
    assert.equal(head['content-type'], 'application/json');
    assert.equal(data.length, 2);
    assert.equal(Buffer.from(data[0].embedding, 'base64').length, 64 * 4);
    assert.ok(usage.prompt_tokens > 0);
    const native = await all(asking('ollama-embed', { model: 'tiny', input: 'a' }));
    assert.equal(JSON.parse(native.text).embeddings[0].length, 64);
    assert.ok((native.usage?.prompt_tokens ?? 0) > 0);
  });

  it('calls the function that is insisted on', async () => {
    const parameters = { type: 'object', properties: { a: { type: 'boolean' } }, required: ['a'] };
    const tools = [{ type: 'function', function: { name: 'f', parameters } }];
    const body = { messages, tools, tool_choice: 'required', max_tokens: 120, temperature: 0 };
    const { choices } = JSON.parse((await all(asking('openai-chat', body))).text);
    const [{ message, finish_reason }] = choices;
    assert.equal(finish_reason, 'tool_calls');
    assert.equal(message.tool_calls[0].function.name, 'f');
    assert.equal(typeof JSON.parse(message.tool_calls[0].function.arguments).a, 'boolean');
  });

  it('refuses a prompt that does not fit, instead of cutting it', async () => {
    const long = [{ role: 'user', content: 'word '.repeat(2_000) }];
    for (const dialect of ['openai-chat', 'ollama-chat'] as const) {
      const work = all(asking(dialect, { messages: long, stream: true }));
      assert.equal(await codeOf(work), 'answer_truncated');
    }
  });

  it('stops when the caller goes', async () => {
    const gone = new AbortController();
    const options = { num_predict: -1, temperature: 0 };
    const work = codeOf(
      (async () => {
        // A context so large that the answer can't be over before the caller goes.
        const large = { model: MODEL, context_tokens: TINY_CONTEXT_LENGTH };
        const body = { messages, options };
        for await (const message of ask(world.bus, 'ollama-chat', body, large, gone.signal)) {
          throwIfError(message);
          if (message.body.length > 0) gone.abort();
        }
      })(),
    );
    assert.equal(await work, 'cancelled');
    // The only slot is free again: the next one is answered.
    const next = await all(asking('ollama-chat', { messages, options: { num_predict: 1 } }));
    assert.equal(next.failure, undefined);
  });
}

describe('an inference on a fake node', () => {
  contract(async () => {
    const models = [{ name: 'tiny', shape: TINY.shape, bytesPerToken: 1, decode: 3_000 }];
    const node = await startFakeNode({ models });
    return { host: node.url, stop: () => node.stop() };
  });
});

const missing = await findRealOllama();
describe('an inference on a real Ollama', { skip: missing ?? false }, () => {
  if (missing !== null) return;
  contract(async () => {
    const started = await startRealOllama();
    if (started.kind === 'skipped') throw new Error(started.reason);
    return started.ollama;
  });
});
