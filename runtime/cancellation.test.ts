/** Goal: a cancellation is an `AbortSignal` to whoever listens to one. Held against the platform's. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Cancellation, standard } from './cancellation.ts';

interface Made {
  readonly signal: AbortSignal;
  readonly abort: (reason?: unknown) => void;
}

const KINDS: Readonly<Record<string, () => Made>> = {
  'the platform’s': () => {
    const controller = new AbortController();
    return { signal: controller.signal, abort: reason => controller.abort(reason) };
  },
  ours: () => {
    const cancellation = new Cancellation();
    return { signal: cancellation, abort: reason => cancellation.abort(reason) };
  },
  'ours as the platform’s': () => {
    const cancellation = new Cancellation();
    return { signal: standard(cancellation), abort: reason => cancellation.abort(reason) };
  },
};

for (const [name, make] of Object.entries(KINDS)) {
  describe(`a signal, ${name}`, () => {
    it('tells each listener once, in order, with its reason', () => {
      const { signal, abort } = make();
      const told: string[] = [];
      const first = () => void told.push(`first ${signal.aborted} ${signal.reason}`);
      const object = { handleEvent: ({ type }: Event) => void told.push(`object ${type}`) };
      const gone = () => void told.push('gone');
      signal.addEventListener('abort', first, { once: true });
      signal.addEventListener('abort', first, { once: true });
      signal.addEventListener('abort', object);
      signal.addEventListener('abort', gone);
      signal.removeEventListener('abort', gone);
      signal.throwIfAborted();
      abort('why');
      abort('again');
      assert.deepEqual(told, ['first true why', 'object abort']);
      assert.throws(
        () => signal.throwIfAborted(),
        (error: unknown) => error === 'why',
      );
    });

    it('gives the usual reason where none is told', () => {
      const { signal, abort } = make();
      abort();
      assert.equal((signal.reason as Error).name, 'AbortError');
      assert.throws(() => signal.throwIfAborted(), { name: 'AbortError' });
    });

    it('ends what Node runs under a signal', async () => {
      const { signal, abort } = make();
      const sleeping = sleep(60_000, undefined, { signal, ref: false });
      abort();
      await assert.rejects(sleeping, { name: 'AbortError' });
    });

    it('can be joined with others', () => {
      const { signal, abort } = make();
      const either = AbortSignal.any([standard(signal), new AbortController().signal]);
      abort('why');
      assert.equal(either.reason, 'why');
      assert.equal(AbortSignal.any([standard(signal)]).aborted, true);
    });
  });
}
