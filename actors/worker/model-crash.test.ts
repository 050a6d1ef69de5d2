/**
 * Goal: the worker as it is shipped, on a real Ollama, leaves nothing behind when either of the two is
 * killed: no lease, no copy that nobody knows of, no model that cannot be loaded any more. Method:
 * SIGKILL while it loads, unloads and pulls; then of Ollama in mid-answer.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { encode } from '../../protocol/codec.ts';
import { CodeGodError, toWireError } from '../../protocol/errors.ts';
import { Acknowledgement, RuntimeAdvert } from '../../protocol/node.ts';
import { BUCKETS } from '../../protocol/streams.ts';
import { advertKey, nodeSubject } from '../../protocol/subjects.ts';
import type { Bus } from '../../runtime/bus.ts';
import { systemClock } from '../../runtime/clock.ts';
import { createMessenger, type Messenger } from '../../runtime/messages.ts';
import { connectNats } from '../../runtime/nats-bus.ts';
import { ensureStores } from '../../runtime/stores.ts';
import { type NatsFixture, startNats } from '../../test/nats-fixture.ts';
import { startRealOllama, TINY_MODEL } from '../../test/real-ollama/real-ollama.ts';
import { programOf } from '../../test/source-tree.ts';
import { NODE, until } from './test-worker.ts';

const GIB = 1024 ** 3;
const LOAD = { model: TINY_MODEL, context_tokens: 1_024 };
const ASK = { timeout_ms: 20_000 };
/** Of what is asked of a worker that is about to die. */
const BRIEF = { timeout_ms: 500 };

const real = await startRealOllama();
if (real.kind === 'skipped') process.stdout.write(`# skipped, because ${real.reason}\n`);

describe('on a real Ollama', { skip: real.kind === 'skipped' ? real.reason : false }, () => {
  if (real.kind === 'skipped') return;
  const { ollama } = real;
  let nats: NatsFixture;
  let home: string;
  let bus: Bus;
  let messenger: Messenger;
  let child: ChildProcess;
  const over = new AbortController();
  let measuring: Promise<void>;

  before(async () => {
    nats = await startNats();
    home = await mkdtemp(join(tmpdir(), 'codegod-crash-'));
    bus = await connectNats({ servers: [nats.url], name: 'test', clock: systemClock });
    await ensureStores(bus);
    messenger = createMessenger(bus, { source: '/node/n1/actor/cli', clock: systemClock });
    measuring = measure();
    await start();
  });

  after(async () => {
    over.abort();
    await measuring;
    await kill();
    await bus.close();
    await nats.stop();
    await ollama.stop();
    await rm(home, { recursive: true, force: true });
  });

  /** Plays the monitor. */
  async function measure(): Promise<void> {
    while (!over.signal.aborted) {
      const capacity = {
        ...{
          node: NODE,
          epoch: 1,
          host: 'test',
          state: 'ready',
          at: Date.now(),
          os: 'x',
          arch: 'x',
        },
        cpu: { model: 'x', cores: 2, load: 0 },
        ram: { total_bytes: 16 * GIB, available_bytes: 8 * GIB },
        disk: { total_bytes: 1, free_bytes: 1 },
        ...{ gpus: [], reserve_bytes: 0, unknown: [] },
      };
      await bus.kv(BUCKETS.node.name).put(advertKey(NODE, 'capacity'), encode(capacity));
      await sleep(1_000, undefined, { signal: over.signal }).catch(() => undefined); // The end.
    }
  }

  async function start(): Promise<void> {
    const env = {
      ...{ PATH: process.env['PATH'] ?? '', HOME: home, CODEGOD_HOME: home },
      ...{ CODEGOD_NATS_URL: nats.url, CODEGOD_BUS_MONITORING_URL: nats.monitorUrl },
      ...{ CODEGOD_NODE_NAME: NODE, OLLAMA_HOST: ollama.host },
    };
    child = spawn(process.execPath, programOf('actors/worker/main.ts'), {
      ...{ env, cwd: home },
      stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    });
    await new Promise<void>((resolve, reject) => {
      child.once('exit', code => reject(new Error(`the worker ended with ${code}`)));
      child.on('message', message => {
        if ((message as { readonly state?: unknown }).state === 'ready') resolve();
      });
    });
  }

  async function kill(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise(resolve => child.once('exit', resolve));
    child.kill('SIGKILL');
    await exited;
  }

  async function running(): Promise<string[]> {
    const answer = await fetch(`${ollama.host}/api/ps`);
    const { models } = (await answer.json()) as { models: { name: string }[] };
    return models.map(({ name }) => name);
  }

  async function advert(): Promise<RuntimeAdvert | null> {
    const entry = await bus.kv(BUCKETS.node.name).get(advertKey(NODE, 'runtime'));
    if (entry === null) return null;
    return RuntimeAdvert.parse(JSON.parse(new TextDecoder().decode(entry.value)));
  }

  const tiny = (said: RuntimeAdvert | null) =>
    said?.engines
      .find(({ name }) => name === 'ollama')
      ?.models.find(({ name }) => name === TINY_MODEL);

  const tell = (verb: 'load' | 'unload', request: object, options = ASK) =>
    messenger.ask(nodeSubject(NODE, verb), request, Acknowledgement, options);

  it('a worker killed while it loads, unloads and pulls loses track of nothing', async () => {
    const pull = async (): Promise<void> => {
      const options = { first_ms: 500, idle_ms: 500 };
      const request = { model: 'nobody/nothing' };
      const stream = messenger.askStream(
        nodeSubject(NODE, 'pull'),
        request,
        Acknowledgement,
        options,
      );
      for await (const _ of stream);
    };
    const deeds = [
      () => tell('load', LOAD, BRIEF),
      () => tell('unload', { model: TINY_MODEL }, BRIEF),
      pull,
    ];
    for (const [index, deed] of deeds.entries()) {
      const deeded = deed().catch((error: unknown) => assert.ok(error instanceof CodeGodError));
      await sleep(20 + 40 * index);
      await kill();
      await start();
      await deeded;
      // What Ollama has is what the node says, whoever loaded it.
      await until(async () => {
        const said = await advert();
        const model = tiny(said);
        const agrees = model?.loaded === (await running()).includes(TINY_MODEL);
        return agrees && said?.leases.length === 0 && model?.in_flight === 0;
      });
      await tell('load', LOAD);
      assert.deepEqual(await running(), [TINY_MODEL]);
    }
    await tell('unload', { model: TINY_MODEL });
    assert.deepEqual(await running(), []);
  });

  it('an Ollama killed in mid-answer takes its copies along, and no lease stays', async () => {
    const request = {
      ...{ request: `r-${'0'.repeat(26)}`, dialect: 'ollama-chat', engine: 'ollama' },
      ...{ model: TINY_MODEL, context_tokens: 2_048, bytes: 0, share: 'local', priority: 0 },
      body: {
        ...{ model: TINY_MODEL, messages: [{ role: 'user', content: 'Say hello.' }], stream: true },
        format: {
          ...{ type: 'object', required: ['text'] },
          properties: { text: { type: 'string', minLength: 1_000 } },
        },
        options: { num_predict: 1_000 },
      },
    };
    const options = { headers: {}, first_ms: 20_000, idle_ms: 20_000 };
    const stream = bus.askStream(nodeSubject(NODE, 'infer'), encode(request), options);
    let text = '';
    let killed = false;
    try {
      for await (const { body } of stream) {
        text += new TextDecoder().decode(body);
        if (body.length > 0 && !killed) await ollama.kill();
        killed ||= body.length > 0;
      }
    } catch (error) {
      text += toWireError(error).code;
    }
    assert.ok(killed, text);
    assert.match(text, /error|engine/, 'the client hears of it');
    await until(async () => {
      const said = await advert();
      const engine = said?.engines.find(({ name }) => name === 'ollama');
      return engine?.available === false && said?.leases.length === 0;
    });
    await assert.rejects(tell('load', LOAD), { code: 'engine_unavailable' });
  });
});
