/** Goal: what passes by itself is left to the host for a minute, everything else becomes a fact. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { ErrorCode } from '../../protocol/error-codes.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { ANSWER_LENGTH_MAX } from '../../protocol/limits.ts';
import { Cancellation } from '../../runtime/cancellation.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { promptHash } from './attempt-answer.ts';
import { type AttemptPorts, performAttempts } from './attempt-effects.ts';
import {
  type AttemptContext,
  type AttemptEffect,
  type AttemptFact,
  NEW_ATTEMPT,
} from './attempt-facts.ts';
import type { Engine, GenerateChunk } from './engines/engine.ts';
import type { GatewayPort } from './ports.ts';
import { GOOD_ANSWER, taskOf } from './test-worker.ts';

const OPEN: AttemptEffect = {
  kind: 'open',
  gateway: 'g1',
  request: { build: 'b1', task: 'store', attempt: 1 } as never,
};
const GENERATE: AttemptEffect = {
  kind: 'generate',
  turn: 3,
  engine: 'scaffold',
  request: {
    ...{ model: 'm', messages: [], context_tokens: 1_024, output_tokens_max: 64 },
    ...{ temperature: 0, think: false },
  },
};
const CONTEXT: AttemptContext = { ...NEW_ATTEMPT, task: taskOf() };
const fails = (code: ErrorCode) => async (): Promise<never> => {
  throw new CodeGodError(code, 'no');
};

function world(gateway: Partial<GatewayPort>, engine?: () => AsyncGenerator<GenerateChunk>) {
  const clock = new SimulatedClock();
  const count = { lent: 0, released: 0 };
  const progress: string[] = [];
  const revoked = new Cancellation();
  const ports: AttemptPorts = {
    gateway: gateway as GatewayPort,
    reports: { send: fails('overloaded') },
    engines: engine === undefined ? {} : { scaffold: { generate: engine } as unknown as Engine },
    clock,
    log: silentLogger,
    progress: {
      waits: attempt => void progress.push(`${attempt} waits`),
      moved: attempt => void progress.push(`${attempt} moved`),
    },
    models: {
      use: async ({ engine: name, model }, onProgress) => {
        count.lent += 1;
        onProgress({ phase: 'queued', fraction: null });
        return {
          ...{ lease: '1-1', engine: name, model: `${model}:latest`, context_tokens: 8_192 },
          ...{ keep_alive: 900, load_ms: 5, signal: revoked },
          release: () => {
            count.released += 1;
          },
        };
      },
    },
  };
  const perform = performAttempts(ports);
  const { signal } = new AbortController();
  return {
    clock,
    count,
    progress,
    revoked,
    perform: (effect: AttemptEffect): Promise<readonly AttemptFact[]> =>
      perform('b1.store.1', 'key', effect, signal, CONTEXT),
  };
}
async function* stream(...chunks: GenerateChunk[]): AsyncGenerator<GenerateChunk> {
  yield* chunks;
}
const end: GenerateChunk = {
  ...{ kind: 'done', reason: 'stop', prompt_tokens: 1, output_tokens: 2, load_ms: 3, total_ms: 4 },
};

describe('a step of the machinery', () => {
  it('that nobody answers is left to the host for a minute, then ends the attempt', async () => {
    const { clock, perform } = world({ open: fails('no_responders') });
    await assert.rejects(perform(OPEN), { code: 'no_responders' });
    await clock.advance(59_000);
    await assert.rejects(perform(OPEN), { code: 'no_responders' });
    await clock.advance(2_000);
    const [fact] = await perform(OPEN);
    assert.equal(fact?.type === 'step.failed' && fact.error.code, 'no_responders');
  });

  it('that fails for good is a fact at once, also where another attempt may fare better', async () => {
    for (const code of ['stale_attempt', 'outcome_unknown', 'merge_conflict'] as const) {
      const [fact] = await world({ open: fails(code) }).perform(OPEN);
      assert.equal(fact?.type === 'step.failed' && fact.error.code, code);
    }
  });

  it('that reports is never given up', async () => {
    const { clock, perform } = world({});
    const report: AttemptEffect = { kind: 'report', report: {} as never };
    await assert.rejects(perform(report), { code: 'overloaded' });
    await clock.advance(3_600_000);
    await assert.rejects(perform(report), { code: 'overloaded' });
  });
});

describe('a turn', () => {
  it('is the text without the reasoning, with its counts', async () => {
    const { count, perform } = world({}, () =>
      stream(
        { kind: 'thinking', text: 'hm' },
        { kind: 'text', text: 'a' },
        { kind: 'text', text: 'b' },
        end,
      ),
    );
    const [fact] = await perform(GENERATE);
    assert.deepEqual(fact, {
      ...{ type: 'turn.answered', at: fact?.at, turn: 3, text: 'ab', finish: 'stop' },
      ...{ prompt_tokens: 1, output_tokens: 2, load_ms: 8, total_ms: 4 },
      prompt_hash: promptHash([]),
      answer: {
        kind: 'invalid',
        error: '- there is neither a file block with its path above it nor a JSON envelope',
      },
    });
    assert.deepEqual(count, { lent: 1, released: 1 });
  });

  it('is read when it comes, for the task and the tools that it was asked with', async () => {
    const { perform, progress } = world({}, () => stream({ kind: 'text', text: GOOD_ANSWER }, end));
    const [fact] = await perform(GENERATE);
    const [waits, moved] = ['b1.store.1 waits', 'b1.store.1 moved'];
    assert.deepEqual(progress, [waits, moved, moved, moved], 'a hold and two chunks');
    assert.ok(fact?.type === 'turn.answered' && fact.answer?.kind === 'work');
    const calls = fact.answer.calls.map(({ tool, arguments: { path } }) => `${tool} ${path}`);
    assert.deepEqual(calls, ['write_file src/a.js', 'write_file src/b.js']);
  });

  it('of an engine that failed is asked for once more', async () => {
    let asked = 0;
    const { perform } = world({}, async function* () {
      asked += 1;
      if (asked === 1) throw new CodeGodError('engine_failed', 'out of memory');
      yield* stream({ kind: 'text', text: 'a' }, end);
    });
    const [fact] = await perform(GENERATE);
    assert.equal(fact?.type, 'turn.answered');
    assert.equal(asked, 2);
  });

  it('of an engine that cannot be reached waits for it, but not for ever', async () => {
    // biome-ignore lint/correctness/useYield: an engine that fails before its first chunk.
    const { clock, perform } = world({}, async function* () {
      throw new CodeGodError('engine_unavailable', 'ECONNREFUSED');
    });
    await assert.rejects(perform(GENERATE), { code: 'engine_unavailable' });
    await clock.advance(59_000);
    await assert.rejects(perform(GENERATE), { code: 'engine_unavailable' });
    await clock.advance(2_000);
    const [fact] = await perform(GENERATE);
    assert.equal(fact?.type === 'step.failed' && fact.error.code, 'engine_unavailable');
  });

  it('whose memory is not measured as free yet is asked for again for some seconds', async () => {
    // biome-ignore lint/correctness/useYield: an engine that fails before its first chunk.
    const { clock, perform } = world({}, async function* () {
      throw new CodeGodError('reservation_refused', 'needs 9 GiB, 1 GiB can be had');
    });
    await assert.rejects(perform(GENERATE), { code: 'reservation_refused' });
    await clock.advance(9_000);
    await assert.rejects(perform(GENERATE), { code: 'reservation_refused' });
    await clock.advance(2_000);
    const [fact] = await perform(GENERATE);
    assert.equal(fact?.type === 'step.failed' && fact.error.code, 'reservation_refused');
  });

  it('may have worked for minutes before its engine goes, and waits for it all the same', async () => {
    const { clock, perform } = world({}, async function* () {
      yield { kind: 'text', text: 'a' };
      await clock.advance(300_000);
      throw new CodeGodError('engine_unavailable', 'ECONNREFUSED');
    });
    await assert.rejects(perform(GENERATE), { code: 'engine_unavailable' });
    await clock.advance(1_000);
    await assert.rejects(perform(GENERATE), { code: 'engine_unavailable' });
  });

  it('of an engine that this worker does not have is a fact at once', async () => {
    const [fact] = await world({}).perform(GENERATE);
    assert.equal(fact?.type === 'step.failed' && fact.error.code, 'model_missing');
  });

  it('that never ends is cut off, and its stream is left', async () => {
    let left = false;
    const { perform } = world({}, async function* () {
      try {
        for (;;) yield { kind: 'text', text: 'x'.repeat(100_000) } as const;
      } finally {
        left = true;
      }
    });
    const [fact] = await perform(GENERATE);
    assert.ok(fact?.type === 'turn.answered' && fact.finish === 'length');
    assert.equal(fact.text.length, ANSWER_LENGTH_MAX);
    assert.ok(left);
  });

  it('ends where its copy is taken away', async () => {
    let given: AbortSignal | undefined;
    const { revoked, count, perform } = world({}, ((_request: unknown, signal: AbortSignal) => {
      given = signal;
      return (async function* () {
        revoked.abort(new CodeGodError('cancelled', 'unloaded by force'));
        signal.throwIfAborted();
        yield* stream(end);
      })();
    }) as never);
    const [fact] = await perform(GENERATE);
    assert.equal(given?.aborted, true);
    assert.equal(fact?.type === 'step.failed' && fact.error.code, 'cancelled');
    assert.equal(count.released, 1);
  });

  it('whose stream ends without an end has failed', async () => {
    const { perform } = world({}, () => stream({ kind: 'text', text: 'a' }));
    const [fact] = await perform(GENERATE);
    assert.equal(fact?.type === 'step.failed' && fact.error.code, 'engine_failed');
  });
});
