/** Goal: every state of a copy ends, no event in any order breaks it, and the README shows it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { createActor, fromPromise } from 'xstate';
import { CodeGodError } from '../../protocol/errors.ts';
import { sourcePath } from '../../test/source-tree.ts';
import { assertReadmeDiagram } from '../../test/state-diagram.ts';
import { type CopyEvent, copyMachine, type LoadPlan } from './model-machine.ts';

const PLAN: LoadPlan = { context_tokens: 8_192, bytes: 1, evict: [] };
const LARGER: LoadPlan = { ...PLAN, context_tokens: 16_384 };
const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

/** A copy whose ports end when the test says so. */
function copy() {
  const calls: string[] = [];
  const open: { name: string; end: (error?: unknown) => void }[] = [];
  const port =
    <T>(name: string, result: (input: { readonly context_tokens?: number }) => T) =>
    ({ input, signal }: { input: { context_tokens?: number }; signal: AbortSignal }): Promise<T> =>
      new Promise((resolve, reject) => {
        calls.push(name);
        signal.addEventListener('abort', () => calls.push(`${name} left`));
        open.push({ name, end: error => (error ? reject(error) : resolve(result(input))) });
      });
  const machine = copyMachine.provide({
    actors: {
      makeRoom: fromPromise<void, never>(port('makeRoom', () => undefined)),
      load: fromPromise<number, never>(port('load', input => input.context_tokens ?? 0)),
      unload: fromPromise<void, never>(port('unload', () => undefined)),
    },
  } as never);
  const actor = createActor(machine, { input: { model: 'm' } });
  actor.start();
  const end = async (error?: unknown): Promise<void> => {
    open.pop()?.end(error);
    await settled();
  };
  const state = (): unknown => actor.getSnapshot().value;
  return { actor, send: (event: CopyEvent) => actor.send(event), state, end, calls, open };
}

describe('a copy of a model', () => {
  it('is loaded, used, loaded larger, and unloaded', async () => {
    const { actor, send, state, end, calls } = copy();
    send({ type: 'copy.load', plan: PLAN });
    assert.equal(state(), 'making_room');
    await end();
    assert.equal(state(), 'loading');
    await end();
    assert.deepEqual(state(), { loaded: 'idle' });
    send({ type: 'hold.began', contextTokens: 8_192 });
    send({ type: 'copy.unload' });
    send({ type: 'copy.load', plan: LARGER });
    assert.deepEqual(state(), { loaded: 'busy' }); // C1
    send({ type: 'hold.ended' });
    send({ type: 'copy.load', plan: LARGER });
    assert.equal(state(), 'unloading');
    await end();
    assert.equal(state(), 'making_room'); // C3
    await end();
    await end();
    assert.equal(actor.getSnapshot().context.contextTokens, 16_384);
    send({ type: 'copy.unload' });
    await end();
    assert.equal(state(), 'absent');
    assert.deepEqual(
      calls.filter(call => !call.endsWith('left')),
      ['makeRoom', 'load', 'unload', 'makeRoom', 'load', 'unload'],
    );
  });

  it('whose load fails or is given up is cleared away', async () => {
    for (const fail of [true, false]) {
      const { actor, send, state, end, calls } = copy();
      send({ type: 'copy.load', plan: PLAN });
      await end();
      if (fail) await end(new CodeGodError('engine_failed', 'out of memory'));
      else send({ type: 'copy.cancel' });
      assert.equal(state(), 'unloading'); // C2
      assert.equal(actor.getSnapshot().context.error?.code, fail ? 'engine_failed' : undefined);
      if (!fail) assert.ok(calls.includes('load left'));
      await end();
      assert.equal(state(), 'absent');
    }
  });

  it('is never stuck, whatever happens to it in whatever order', async () => {
    const events = fc.constantFrom<(CopyEvent | 'done' | 'failed')[]>(
      { type: 'copy.load', plan: PLAN },
      { type: 'copy.load', plan: LARGER },
      { type: 'copy.cancel' },
      { type: 'copy.unload' },
      { type: 'copy.revoke' },
      { type: 'copy.found', contextTokens: 4_096, isKnown: false },
      { type: 'copy.gone' },
      { type: 'hold.began', contextTokens: 4_096 },
      { type: 'hold.ended' },
      'done',
      'failed',
    );
    await fc.assert(
      fc.asyncProperty(fc.array(events, { maxLength: 30 }), async steps => {
        const { actor, send, state, end, open } = copy();
        for (const step of steps) {
          if (step === 'done') await end();
          else if (step === 'failed') await end(new CodeGodError('engine_failed', 'no'));
          else send(step);
          assert.equal(actor.getSnapshot().status, 'active');
        }
        // Nothing new happens: the ports end, and then it rests.
        for (let turns = 0; turns < 4; turns++) while (open.length > 0) await end();
        const rests = state();
        assert.ok(rests === 'absent' || typeof rests === 'object', JSON.stringify(rests));
      }),
      { numRuns: 200 },
    );
  });

  it('is drawn in the README', () => {
    const readme = sourcePath('actors/worker/models.md');
    assertReadmeDiagram(readme, copyMachine);
  });
});
