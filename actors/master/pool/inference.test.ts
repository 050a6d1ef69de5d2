/**
 * Goal: an inference finds a node that answers it, whatever nodes do, and ends when its client does.
 * Method: a bus in memory, a simulated clock, stand-ins that refuse, fail, fall silent and die.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import type { ErrorCode } from '../../../protocol/error-codes.ts';
import { CodeGodError } from '../../../protocol/errors.ts';
import { INFER_HEADER, InferRequest, VICTIMS_MAX } from '../../../protocol/inference.ts';
import { ADVERT_TTL_MS, ARTIFACTS } from '../../../protocol/streams.ts';
import { GIB } from '../../../scheduling/test-nodes.ts';
import {
  answering,
  encoder,
  type InferCall,
  MODEL,
  type Play,
  TestPool,
  TestReceiver,
  telling,
} from './test-pool.ts';

const refusing =
  (code: ErrorCode): Play =>
  async () => {
    throw new CodeGodError(code, `no: ${code}`);
  };
const hanging: Play = (_request, { signal }) =>
  new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)));

describe('an inference', () => {
  let test_: TestPool;
  let receiver: TestReceiver;

  beforeEach(async () => {
    test_ = await TestPool.start();
    receiver = new TestReceiver();
  });
  afterEach(() => test_.stop());

  /** Its outcome, after time has passed. */
  const settled = async (run: Promise<unknown>, byMs = 100): Promise<unknown> => {
    const outcome = run.then(
      usage => usage,
      error => error,
    );
    await test_.clock.advance(byMs);
    return await outcome;
  };
  const codeOf = (error: unknown): string => {
    assert.ok(error instanceof CodeGodError, String(error));
    return error.code;
  };

  test('bytes of the node reach the client as they are, and what was used is told', async () => {
    await test_.node('a');
    const inference = test_.infer(receiver);
    const usage = await settled(inference.run());
    assert.deepEqual(usage, { prompt_tokens: 3, output_tokens: 2, load_ms: 0, total_ms: 1 });
    assert.equal(receiver.text, 'hello');
    assert.equal(receiver.node, 'a');
    const record = test_.pool.decisions.recent(1)[0];
    assert.equal(record?.state, 'done');
    assert.deepEqual(
      record.tries.map(({ node, outcome }) => `${node} ${outcome}`),
      ['a done'],
    );
  });

  test('a node that refuses costs nothing: the next one is asked', async () => {
    for (const code of ['reservation_refused', 'overloaded', 'engine_unavailable'] as const) {
      test_.stop();
      test_ = await TestPool.start();
      await test_.node('a', refusing(code));
      await test_.node('b');
      receiver = new TestReceiver();
      await settled(test_.infer(receiver).run());
      assert.equal(receiver.text, 'hello', code);
      assert.deepEqual(test_.reached, ['a', 'b']);
      const tries = test_.pool.decisions.recent(1)[0]?.tries ?? [];
      assert.deepEqual(
        tries.map(({ outcome, error }) => `${outcome} ${error?.code}`),
        [`refused ${code}`, 'done undefined'],
      );
    }
  });

  test('a model that an engine does not have is asked for elsewhere, never there again', async () => {
    await test_.node('a', refusing('model_missing'));
    await test_.node('b');
    await settled(test_.infer(receiver).run());
    assert.equal(receiver.text, 'hello');
    assert.deepEqual(test_.reached, ['a', 'b']);
  });

  test('that the only engine has no such model is final', async () => {
    await test_.node('a', refusing('model_missing'));
    assert.equal(codeOf(await settled(test_.infer(receiver).run())), 'model_missing');
    assert.deepEqual(test_.reached, ['a']);
  });

  test('a node is told what to unload for it, and nothing where it has the model', async () => {
    const asked: unknown[] = [];
    const noting: Play = async (request, context) => {
      asked.push(request.evict);
      await answering(request, context);
    };
    await test_.node('a', noting);
    await settled(test_.infer(receiver).run());
    const models = [
      { name: MODEL, size_bytes: 4 * GIB },
      { name: 'idle:14b', size_bytes: 18 * GIB, loaded: true },
    ];
    await test_.show('a', { models, gpu: { free: 3 * GIB, total: 24 * GIB } });
    await settled(test_.infer(new TestReceiver()).run());
    assert.deepEqual(asked, [undefined, ['idle:14b']]);
  });

  test('of very many victims a node is told as many as it reads', async () => {
    let asked: InferCall | null = null;
    await test_.node('a', async (request, context) => {
      asked = request;
      await answering(request, context);
    });
    const idle = Array.from({ length: 100 }, (_, index) => ({
      ...{ name: `idle${index}:1b`, size_bytes: GIB / 8, vram_bytes: GIB / 8, loaded: true },
    }));
    const models = [{ name: MODEL, size_bytes: 8 * GIB }, ...idle];
    await test_.show('a', { models, gpu: { free: 0, total: 12.5 * GIB } });
    await settled(test_.infer(receiver).run());
    assert.equal(receiver.text, 'hello');
    const { evict } = InferRequest.parse(asked);
    assert.equal(evict?.length, VICTIMS_MAX);
  });

  test('a node whose worker is gone is passed over though its advert still stands', async () => {
    await test_.show('a');
    await test_.node('b');
    await settled(test_.infer(receiver).run());
    assert.equal(receiver.node, 'b');
  });

  test('where all refuse they are asked again after a while', async () => {
    let times = 0;
    await test_.node('a', async (request, context) => {
      times += 1;
      if (times < 3) throw new CodeGodError('reservation_refused', 'not yet');
      await answering(request, context);
    });
    await settled(test_.infer(receiver).run(), 10_000);
    assert.equal(receiver.text, 'hello');
    assert.equal(times, 3);
  });

  test('a node that failed is not asked again, and without another the failure is told', async () => {
    await test_.node('a', refusing('engine_failed'));
    assert.equal(codeOf(await settled(test_.infer(receiver).run())), 'engine_failed');
    assert.deepEqual(test_.reached, ['a']);
    await test_.node('b');
    await settled(test_.infer(receiver).run());
    assert.deepEqual(test_.reached, ['a', 'a', 'b']);
  });

  test('what the client did wrong is told at once', async () => {
    await test_.node('a', refusing('bad_request'));
    await test_.node('b');
    assert.equal(codeOf(await settled(test_.infer(receiver).run())), 'bad_request');
    assert.deepEqual(test_.reached, ['a']);
  });

  test('what went wrong is told in words, without subjects of the bus', async () => {
    await test_.show('a');
    const run = test_.infer(receiver).run();
    await test_.clock.advance(10);
    const [tried] = test_.pool.decisions.recent(1)[0]?.tries ?? [];
    assert.equal(
      tried?.error?.message,
      'the worker of a does not answer: it does not run, or not yet',
    );
    assert.doesNotMatch(String(await settled(run, 120_000)), /codegod\./);
  });

  test('a stream that is silent for three signs of life is dead', async () => {
    await test_.node('a', hanging);
    await test_.node('b');
    await settled(test_.infer(receiver).run(), 7_000);
    assert.equal(receiver.node, 'b');
  });

  test('a node whose advert vanishes, or whose worker is started again, is left at once', async () => {
    await test_.node('a', hanging);
    await test_.node('b', hanging);
    const run = test_.infer(receiver).run();
    await test_.clock.advance(10);
    assert.deepEqual(test_.reached, ['a']);
    await test_.hide('a');
    assert.deepEqual(test_.reached, ['a', 'b']);
    await test_.node('c');
    await test_.show('b', {}, { epoch: 2 });
    await settled(run);
    assert.equal(receiver.node, 'c');
  });

  test('when all nodes die the client is told so, within the time that one may take to return', async () => {
    for (const id of ['a', 'b']) await test_.node(id, hanging);
    const run = test_.infer(receiver).run();
    await test_.clock.advance(10);
    for (const id of ['a', 'b']) await test_.hide(id);
    const error = await settled(run, ADVERT_TTL_MS + 1_000);
    assert.equal(codeOf(error), 'no_capacity');
    assert.match(String(error), /no node that has chat:8b has answered for 15 s/);
  });

  test('a node that comes back in time is waited for', async () => {
    await test_.node('a', hanging);
    const run = test_.infer(receiver).run();
    await test_.clock.advance(10);
    await test_.hide('a');
    await test_.clock.advance(ADVERT_TTL_MS - 1_000);
    await test_.node('b');
    await settled(run, 3_000);
    assert.equal(receiver.node, 'b');
  });

  test('after the first byte nothing is tried again', async () => {
    await test_.node('a', async (_request, { send }) => {
      await send(encoder.encode('hel'), { [INFER_HEADER.status]: '200' });
      throw new CodeGodError('engine_failed', 'it broke');
    });
    await test_.node('b');
    assert.equal(codeOf(await settled(test_.infer(receiver).run())), 'engine_failed');
    assert.equal(receiver.text, 'hel');
    assert.deepEqual(test_.reached, ['a']);
  });

  test('an answer that its node broke off in the client’s own dialect counts as failed', async () => {
    await test_.node('a', async (_request, { send }) => {
      await send(encoder.encode('oh'), { [INFER_HEADER.status]: '200' });
      await send(encoder.encode('no'), { [INFER_HEADER.failure]: 'engine_failed' });
    });
    await settled(test_.infer(receiver).run());
    assert.equal(receiver.text, 'ohno');
    assert.equal(test_.pool.decisions.recent(1)[0]?.tries[0]?.outcome, 'failed');
  });

  test('a client that hangs up ends the work on the node, before and after the first byte', async () => {
    let ended = 0;
    const counted = async (signal: AbortSignal): Promise<void> => {
      await new Promise<void>(resolve => signal.addEventListener('abort', () => resolve()));
      ended += 1;
    };
    await test_.node('a', async (_request, { send, signal }) => {
      if (test_.reached.length === 2) await send(encoder.encode('x'));
      await counted(signal);
    });
    for (const text of ['', 'x']) {
      const inference = test_.infer(receiver);
      const run = inference.run();
      await test_.clock.advance(10);
      assert.equal(receiver.text, text);
      inference.cancel();
      assert.equal(codeOf(await settled(run, 0)), 'cancelled');
      await test_.clock.advance(10);
    }
    assert.equal(ended, 2);
    assert.equal(test_.pool.running().length, 0);
  });

  test('a client that hangs up while it waits leaves the queue', async () => {
    await test_.node('a', hanging);
    const first = test_.infer(receiver);
    const second = test_.infer(receiver);
    const runs = [first.run(), second.run()].map(run => settled(run, 0));
    await test_.clock.advance(10);
    assert.equal(test_.pool.waiting().length, 1);
    second.cancel();
    assert.equal(test_.pool.waiting().length, 0);
    first.cancel();
    for (const run of runs) assert.equal(codeOf(await run), 'cancelled');
    assert.deepEqual(test_.reached, ['a']);
  });

  test('a large body goes by the object store, and is removed afterwards', async () => {
    const names: string[] = [];
    let length = 0;
    await test_.node('a', async (request, context) => {
      const { name } = request.artifact ?? { name: '' };
      names.push(name);
      const stored = await test_.bus.objects(ARTIFACTS.name).get(name);
      for await (const part of stored ?? []) length += part.length;
      await answering(request, context);
    });
    const body = Buffer.from(JSON.stringify({ image: 'x'.repeat(600_000) }));
    await settled(test_.infer(receiver, { body }).run());
    assert.equal(length, body.length);
    assert.equal(await test_.bus.objects(ARTIFACTS.name).info(names[0] ?? ''), null);
  });

  test('what goes on before the first byte is told', async () => {
    await test_.node('a', async (request, context) => {
      await context.send(new Uint8Array(0), telling({ phase: 'loading', fraction: 0.5 }));
      await answering(request, context);
    });
    await settled(test_.infer(receiver).run());
    assert.deepEqual(receiver.told, ['loading on a']);
  });
});
