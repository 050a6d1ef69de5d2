/**
 * Goal: the memory of a node is never booked twice, nobody at work loses a model, and whoever gives
 * up gives everything back. Method: the host on an engine whose memory is counted apart from all
 * leases, with a driver that measures only when told.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { CodeGodError } from '../../protocol/errors.ts';
import { NodeId } from '../../protocol/ids.ts';
import { RequestId } from '../../protocol/inference.ts';
import type { EngineAdvert } from '../../protocol/node.ts';
import { type Clock, SimulatedClock, systemClock } from '../../runtime/clock.ts';
import { memoryJournal } from '../../runtime/journal.ts';
import { WORKER_KEYS } from '../../runtime/journal-keys.ts';
import { silentLogger } from '../../runtime/log.ts';
import type { Hold, UseRequest } from './hold.ts';
import type { AttemptHolder } from './lease.ts';
import { LeaseBook } from './lease-book.ts';
import { ModelHost } from './model-host.ts';
import { GIB, TestMemory, type TestModel } from './test-memory.ts';

const CODER = { name: 'coder:7b', bytes: 10 * GIB };
const PLANNER = { name: 'planner:14b', bytes: 14 * GIB };
const SMALL = { name: 'small:1b', bytes: 4 * GIB };
const SIGNAL = new AbortController().signal;

let requests = 0;
const requestId = (): RequestId => {
  requests += 1;
  return RequestId.parse(`r-${requests.toString(36).padStart(26, '0')}`);
};

const settled = (): Promise<void> => new Promise(resolve => setImmediate(resolve));

interface WorldOptions {
  readonly clock?: Clock;
  readonly total?: number;
  readonly models?: readonly TestModel[];
  readonly kept?: readonly string[];
  readonly waitingMax?: number;
  readonly offload?: boolean;
  readonly measureNow?: (memory: TestMemory, clock: Clock) => Promise<boolean>;
}

async function worldOf(options: WorldOptions = {}) {
  const { clock = new SimulatedClock(), total = 24 * GIB, kept = [] } = options;
  const memory = new TestMemory(clock, total, options.models ?? [CODER, PLANNER, SMALL]);
  const leases = await LeaseBook.open(await memoryJournal(WORKER_KEYS), 1, {
    changed: () => {},
    used: () => {},
  });
  const engines = (): EngineAdvert[] => {
    const { models, ...rest } = memory.inventory();
    return [{ name: 'ollama', ...rest, models: models.map(model => ({ ...model })) }];
  };
  const ready = { on: true };
  const situation = () => ({
    ...{ node: NodeId.parse('n1'), now: clock.now(), ready: ready.on, slots: 64, aliases: {} },
    ...{ offload: options.offload ?? false, capacity: memory.capacity, engines: engines() },
    residents: host.copies.residents(),
  });
  const host: ModelHost = new ModelHost({
    ...{ engines: { ollama: memory.engine }, leases, clock, log: silentLogger, situation },
    measured: signal => memory.measured(signal),
    measureNow: signal =>
      options.measureNow?.(memory, clock) ?? memory.measured(signal).then(() => true),
    isKept: model => kept.includes(model),
    keepAliveS: () => 900,
    ...{ changed: () => {}, used: () => {}, loaded: () => {}, spoke: () => {} },
    moved: () => {},
    ...(options.waitingMax === undefined ? {} : { waitingMax: options.waitingMax }),
  });
  const use = (
    model: TestModel,
    changes: Partial<UseRequest> = {},
    signal = new AbortController().signal,
  ) =>
    host.use(
      {
        ...{ engine: 'ollama', model: model.name, context_tokens: 8_192, bytes: model.bytes },
        ...{ holder: { request: requestId() }, share: 'local', priority: 0 },
        ...changes,
      },
      () => {},
      signal,
    );
  const look = (): void => host.copies.observe(engines(), clock.monotonic() + 1);
  return { clock, memory, leases, host, use, situation, look, ready };
}

const codeOf = (work: Promise<unknown>): Promise<string> =>
  work.then(
    () => assert.fail('it did not fail'),
    (error: unknown) => (error instanceof CodeGodError ? error.code : String(error)),
  );

/** Twenty uses, of two contexts in turn; answers with which context each was to ask the engine. */
async function useInTurn({ use, look }: Awaited<ReturnType<typeof worldOf>>): Promise<number[]> {
  const asked: number[] = [];
  for (let turn = 0; turn < 20; turn++) {
    const hold = await use(CODER, { context_tokens: turn % 2 === 0 ? 8_192 : 16_384 });
    asked.push(hold.context_tokens);
    hold.release();
    look();
  }
  return asked;
}

describe('a hold', () => {
  it('loads the model once for all who want it, and serves as many as there are slots', async () => {
    const { memory, use, leases } = await worldOf();
    const [first, second] = await Promise.all([use(CODER), use(CODER)]);
    assert.deepEqual(memory.loads, ['coder:7b@8192']);
    let third: Hold | null = null;
    void use(CODER, { context_tokens: 4_096 }).then(hold => {
      third = hold;
    });
    await settled();
    assert.equal(third, null);
    first.release();
    first.release(); // Twice is once.
    await settled();
    const served = third as Hold | null;
    assert.ok(served !== null);
    assert.equal(served.context_tokens, 8_192, 'a smaller context uses the loaded one');
    second.release();
    served.release();
    assert.deepEqual(leases.ledger.leases, []);
    assert.deepEqual([memory.loads.length, memory.unloads.length], [1, 0]);
  });

  it('on a loaded copy is given while another model is being loaded', async () => {
    const { clock, memory, use } = await worldOf({ models: [CODER, SMALL] });
    (await use(SMALL)).release();
    memory.measure();
    memory.loadMs = 60_000;
    const coder = use(CODER);
    await settled();
    const small = await use(SMALL);
    assert.equal(small.load_ms, 0);
    await (clock as SimulatedClock).advance(60_000);
    assert.equal((await coder).load_ms, 60_000);
  });

  it('takes the place of the model that the asker names, rather than of the one used longest ago', async () => {
    for (const evict of [undefined, ['other:7b']]) {
      const models = [CODER, { name: 'other:7b', bytes: 10 * GIB }, PLANNER];
      const { clock, memory, use } = await worldOf({ models, total: 26 * GIB });
      for (const model of models.slice(0, 2)) {
        (await use(model)).release();
        await (clock as SimulatedClock).advance(60_000);
        memory.measure();
      }
      const planner = use({ ...PLANNER, bytes: 13 * GIB }, { evict });
      await settled();
      memory.measure();
      await planner;
      assert.deepEqual(memory.unloads, evict ?? ['coder:7b']);
    }
  });

  it('takes the place of an idle model, once its memory is measured to be back', async () => {
    const { clock, memory, use } = await worldOf();
    (await use(CODER)).release();
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    const planner = use(PLANNER);
    await (clock as SimulatedClock).advance(1_000);
    assert.deepEqual([memory.unloads, memory.loads.length], [['coder:7b'], 1]);
    memory.measure();
    (await planner).release();
    assert.deepEqual(memory.overrun, []);
  });

  for (const offload of [false, true]) {
    it(`begins to load right after its memory is back${offload ? ', and not half in main memory before' : ''}`, async () => {
      const asked: number[] = [];
      const { clock, memory, use } = await worldOf({
        offload,
        measureNow: async (measuring, time) => {
          await time.sleep(200); // What a driver may take.
          asked.push(time.now());
          measuring.measure();
          return true;
        },
      });
      (await use(CODER)).release();
      await (clock as SimulatedClock).advance(1);
      memory.measure();
      memory.recoveryMs = 300;
      await (clock as SimulatedClock).advance(1);
      const from = clock.now();
      const planner = use(PLANNER);
      await (clock as SimulatedClock).advance(600);
      (await planner).release();
      assert.deepEqual(
        asked.map(at => at - from),
        [200, 450],
      );
      assert.deepEqual(memory.overrun, []);
    });
  }

  it('loads at once where nobody measures when asked', async () => {
    const { clock, memory, use } = await worldOf({ measureNow: async () => false });
    (await use(CODER)).release();
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    (await use(PLANNER)).release();
    assert.deepEqual(memory.loads, ['coder:7b@8192', 'planner:14b@8192']);
  });

  it('loads at once on a declared card whose use nobody can read', async () => {
    const { clock, memory, use } = await worldOf({
      measureNow: () => assert.fail('there is nothing to be measured'),
    });
    memory.isReadable = false;
    (await use(CODER)).release();
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    (await use(PLANNER)).release();
    assert.deepEqual(memory.loads, ['coder:7b@8192', 'planner:14b@8192']);
  });

  it('goes on by what was measured last where nobody measures again in five seconds', async () => {
    const { clock, memory, use } = await worldOf();
    (await use(CODER)).release();
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    const planner = use(PLANNER);
    await (clock as SimulatedClock).advance(5_000);
    (await planner).release();
    assert.deepEqual(memory.overrun, []);
  });

  it('is refused where the memory does not come back', async () => {
    const { clock, memory, use, leases } = await worldOf();
    (await use(CODER)).release();
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    const planner = codeOf(use(PLANNER));
    await settled();
    memory.foreign = 20 * GIB; // Somebody else was quicker.
    await (clock as SimulatedClock).advance(10);
    memory.measure();
    await (clock as SimulatedClock).advance(5_000);
    assert.equal(await planner, 'reservation_refused');
    assert.deepEqual([leases.ledger.leases, memory.loads], [[], ['coder:7b@8192']]);
  });

  it('never takes a model from who is at work on it, waits for it, or was promised it', async () => {
    const { clock, memory, use, leases, situation } = await worldOf();
    const coder = await use(CODER);
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    assert.equal(await codeOf(use(PLANNER)), 'reservation_refused');
    coder.release();
    const attempt = { build: 'b1', task: 'store', attempt: 1, engine: 'ollama' } as never as object;
    const terms = { model: 'coder:7b', context_tokens: 8_192, bytes: CODER.bytes, ttl_ms: 60_000 };
    const reply = await leases.reserve({ ...attempt, ...terms } as never, situation);
    assert.ok(reply.granted);
    assert.equal(await codeOf(use(PLANNER)), 'reservation_refused');
    assert.deepEqual(memory.unloads, []);
  });

  it('never takes a model that a policy keeps', async () => {
    const { clock, memory, use } = await worldOf({ kept: ['coder:7b'] });
    (await use(CODER)).release();
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    await (clock as SimulatedClock).advance(1);
    assert.equal(await codeOf(use(PLANNER)), 'reservation_refused');
  });

  it('with a larger context loads again when nobody uses the smaller one, and is not overtaken', async () => {
    const { memory, use } = await worldOf({ models: [CODER] });
    const small = await use(CODER);
    const served: string[] = [];
    const large = use(CODER, { context_tokens: 16_384 }).then(hold => {
      served.push('large');
      return hold;
    });
    const later = use(CODER).then(hold => {
      served.push('later');
      return hold;
    });
    await settled();
    assert.deepEqual(served, []);
    small.release();
    assert.equal((await large).context_tokens, 16_384);
    await later;
    assert.deepEqual(served, ['large', 'later']);
    assert.deepEqual(memory.loads, ['coder:7b@8192', 'coder:7b@16384']);
  });

  it('on an engine that gives a smaller context than it is asked for has that, after one load', async () => {
    const { memory, use, host, look } = await worldOf();
    memory.contextMost = 4_096;
    const [first, second] = await Promise.all([
      use(CODER, { context_tokens: 32_768 }),
      use(CODER, { context_tokens: 16_384 }),
    ]);
    assert.deepEqual([first.context_tokens, second.context_tokens], [32_768, 32_768], 'as asked');
    first.release();
    second.release();
    look();
    (await use(CODER, { context_tokens: 32_768 })).release();
    assert.deepEqual([memory.loads, memory.unloads], [['coder:7b@32768'], []]);
    const [model] = memory.inventory().models;
    assert.ok(model);
    assert.equal(host.copies.described('ollama', { ...model }).context_max, 4_096);
  });

  it('asks an engine that rounds contexts for what it was loaded with, whoever comes', async () => {
    const world = await worldOf();
    const { memory } = world;
    memory.gives = asked => asked - 100;
    const asked = await useInTurn(world);
    assert.deepEqual(memory.loads, ['coder:7b@8192']);
    assert.deepEqual([...new Set(asked)], [8_192]);
  });

  it('on an engine that tells no context loads once for each larger one, and asks for that', async () => {
    const world = await worldOf();
    const { memory } = world;
    memory.tellsContext = false;
    const asked = await useInTurn(world);
    assert.deepEqual(memory.loads, ['coder:7b@8192', 'coder:7b@16384']);
    assert.deepEqual([...new Set(asked.slice(1))], [16_384]);
  });

  it('of a copy that others loaded, of unknown context, has what was asked for first', async () => {
    const { memory, use, look } = await worldOf();
    memory.loaded.set(CODER.name, { bytes: CODER.bytes, context_tokens: 0 });
    memory.tellsContext = false;
    look();
    const holds = [await use(CODER), await use(CODER, { context_tokens: 4_096 })];
    assert.deepEqual(
      holds.map(({ context_tokens }) => context_tokens),
      [8_192, 8_192],
    );
    assert.deepEqual(memory.loads, []);
  });

  it('on an engine that shows less than it said is content, where it does so again and again', async () => {
    const { memory, use, look } = await worldOf();
    const shrink = (to: number): void => {
      memory.loaded.set(CODER.name, { bytes: CODER.bytes, context_tokens: to });
      look();
    };
    for (let turn = 0; turn < 20; turn++) {
      (await use(CODER, { context_tokens: 16_384 })).release();
      look(); // It is as it was loaded; then somebody has it smaller.
      shrink(8_000 - turn);
    }
    assert.equal(memory.loads.length, 3);
    const { loads } = memory;
    memory.gives = asked => asked / 2;
    for (let turn = 0; turn < 20; turn++) {
      (await use(SMALL, { context_tokens: 16_384 })).release();
      look();
    }
    assert.equal(loads.length, 4, 'what it shows at the first look is all it gives');
  });

  it('is shared out between shares, priorities first, and nobody waits for ever', async () => {
    const { clock, use } = await worldOf({ models: [{ ...CODER, slots: 1 }] });
    const first = await use(CODER, { share: 'build-1' });
    const order: string[] = [];
    const wait = (name: string, share: string, priority = 0): void =>
      void use(CODER, { share, priority }).then(async hold => {
        order.push(name);
        await settled();
        hold.release();
      });
    wait('old', 'build-1', -5);
    await (clock as SimulatedClock).advance(30_001);
    wait('b1', 'build-1');
    wait('b2', 'build-2');
    wait('urgent', 'build-1', 10);
    await settled();
    first.release();
    for (let turns = 0; turns < 20; turns++) await settled();
    assert.deepEqual(order, ['old', 'urgent', 'b1', 'b2']);
  });

  it('is refused at once where too many wait', async () => {
    const { use } = await worldOf({ models: [{ ...CODER, slots: 1 }], waitingMax: 2 });
    await use(CODER);
    const waiting = [use(CODER), use(CODER)];
    for (const promise of waiting) promise.catch(() => {});
    assert.equal(await codeOf(use(CODER)), 'overloaded');
  });

  it('of who gives up leaves nothing behind: no place, no lease, no load', async () => {
    const { clock, memory, use, leases, host } = await worldOf();
    memory.loadMs = 60_000;
    const cancel = new AbortController();
    const given = use(CODER, {}, cancel.signal);
    await settled();
    assert.equal(host.copies.residents()[0]?.state, 'loading');
    cancel.abort();
    assert.equal(await codeOf(given), 'cancelled');
    await (clock as SimulatedClock).advance(1);
    assert.deepEqual(leases.ledger.leases, []);
    assert.deepEqual(host.copies.residents(), []);
    assert.deepEqual([memory.unloads, memory.loaded.size], [['coder:7b'], 0]);
    memory.loadMs = 0;
    (await use(CODER)).release();
  });

  it('of one who gives up does not end the load that another waits for', async () => {
    const { clock, memory, use } = await worldOf();
    memory.loadMs = 1_000;
    const cancel = new AbortController();
    const given = codeOf(use(CODER, {}, cancel.signal));
    const other = use(CODER);
    await settled();
    cancel.abort();
    assert.equal(await given, 'cancelled');
    await (clock as SimulatedClock).advance(1_000);
    (await other).release();
    assert.equal(memory.loads.length, 1);
  });

  it("whose load fails fails with the engine's words, and the next one tries again", async () => {
    const { memory, use, leases } = await worldOf();
    memory.fail = () => new CodeGodError('engine_failed', 'CUDA error: out of memory');
    await assert.rejects(use(CODER), { code: 'engine_failed', message: /out of memory/ });
    assert.deepEqual(leases.ledger.leases, []);
    memory.fail = null;
    await settled();
    (await use(CODER)).release();
  });

  it('of a model that is not there, or of an engine that is off, says which', async () => {
    const { memory, use } = await worldOf();
    assert.equal(await codeOf(use({ name: 'codex:7b', bytes: GIB })), 'model_missing');
    memory.available = false;
    assert.equal(await codeOf(use(CODER)), 'engine_unavailable');
  });

  it('is not given by a node that drains', async () => {
    const { use, ready } = await worldOf();
    ready.on = false;
    assert.equal(await codeOf(use(CODER)), 'reservation_refused');
  });
});

describe('a copy', () => {
  it('that the engine has without our doing is used as it is, and evicted as others are', async () => {
    const { clock, memory, use, look } = await worldOf();
    memory.loaded.set('coder:7b', { bytes: 10 * GIB, context_tokens: 32_768 });
    await (clock as SimulatedClock).advance(1);
    look();
    await (clock as SimulatedClock).advance(5);
    memory.measure();
    assert.equal((await use(CODER)).context_tokens, 32_768);
    assert.deepEqual(memory.loads, []);
  });

  it('that vanished is loaded again; late releases of the old one count no more', async () => {
    const { clock, memory, use, look, host } = await worldOf();
    const old = await use(CODER);
    memory.loaded.clear();
    await (clock as SimulatedClock).advance(1);
    look();
    assert.deepEqual(host.copies.residents(), []);
    await (clock as SimulatedClock).advance(1);
    memory.measure();
    const [first, second] = await Promise.all([use(CODER), use(CODER)]);
    old.release();
    assert.equal(host.copies.residents()[0]?.in_flight, 2);
    first.release();
    second.release();
    assert.equal(host.copies.residents()[0]?.in_flight, 0);
  });

  it('whose runner died is not lent, also where the clock was put back meanwhile', async () => {
    const clock = new SimulatedClock();
    const { memory, use, look, situation } = await worldOf({ clock });
    (await use(CODER)).release();
    await clock.advance(10_000);
    clock.shift(-3_600_000);
    memory.loaded.delete(CODER.name);
    look();
    memory.measure();
    assert.deepEqual(situation().residents, []);
    (await use(CODER)).release();
    assert.equal(memory.loads.length, 2);
  });

  it('is unloaded on request only when idle, or by force, which its holders are told', async () => {
    const { memory, use, host } = await worldOf();
    const hold = await use(CODER);
    assert.equal(await codeOf(host.unload({ model: 'coder:7b' })), 'conflict');
    await host.unload({ model: 'coder:7b', force: true });
    assert.ok(hold.signal.aborted);
    assert.equal(memory.loaded.size, 0);
    hold.release();
    await host.unload({ model: 'coder:7b' }); // Not loaded: no error.
    (await use(CODER)).release();
    await host.unload({ model: 'coder:7b' });
    assert.equal(memory.loaded.size, 0);
  });

  it('is loaded on request, and stays where it is loaded with enough', async () => {
    const { memory, host } = await worldOf();
    await host.load({ model: 'Coder:7B', context_tokens: 16_384 }, SIGNAL);
    await host.load({ model: 'coder:7b', context_tokens: 8_192 }, SIGNAL);
    assert.deepEqual(memory.loads, ['coder:7b@16384']);
  });
});

describe('ten thousand races', () => {
  it('of several masters and of inferences book no byte twice', async () => {
    const models = Array.from({ length: 6 }, (_, index) => ({
      name: `m${index}:1b`,
      bytes: (4 + 2 * index) * GIB,
      slots: 1 + (index % 3),
    }));
    const total = 24 * GIB;
    const world = await worldOf({ clock: systemClock, total, models });
    const { memory, leases, use, situation } = world;
    const seed = Math.floor(systemClock.random() * 2 ** 31);
    const dice = new SimulatedClock({ seed });
    const pick = <T>(list: readonly T[]): T => list[Math.floor(dice.random() * list.length)] as T;
    const counts = { granted: 0, refused: 0, served: 0, turns: 0 };
    const check = (): void => {
      const perModel = new Map<string, number>();
      for (const { model, bytes } of leases.ledger.leases) {
        perModel.set(model, Math.max(perModel.get(model) ?? 0, bytes));
      }
      const promised = [...perModel.values()].reduce((sum, bytes) => sum + bytes, 0);
      assert.ok(promised <= total, `seed ${seed}: ${promised / GIB} GiB promised`);
      assert.ok(memory.used <= total, `seed ${seed}: ${memory.used / GIB} GiB loaded`);
    };
    let attempts = 0;
    const reserve = async (): Promise<void> => {
      attempts += 1;
      const model = pick(models);
      const holder = { build: 'b1', task: `t${attempts}`, attempt: 1 } as never as AttemptHolder;
      const terms = { context_tokens: 8_192, bytes: model.bytes, ttl_ms: 60_000 };
      const request = { ...holder, ...terms, engine: 'ollama', model: model.name } as const;
      const reply = await leases.reserve(request, situation);
      check();
      if (!reply.granted) {
        counts.refused += 1;
        return;
      }
      counts.granted += 1;
      if (dice.random() < 0.5) {
        // The attempt's turn: loads what it was promised, under its own lease.
        const hold = await use(model, { holder, share: 'b1' }).catch((error: unknown) => {
          assert.ok(error instanceof CodeGodError, String(error));
          assert.equal(error.code, 'reservation_refused', error.message);
          return null;
        });
        check();
        if (hold !== null) counts.turns += 1;
        hold?.release();
      }
      await sleep(dice.random() * 3);
      await leases.release(reply.lease);
    };
    const infer = async (): Promise<void> => {
      try {
        const hold = await use(pick(models), { share: pick(['a', 'b', 'c']) });
        check();
        counts.served += 1;
        await sleep(dice.random() * 2);
        hold.release();
      } catch (error) {
        assert.ok(error instanceof CodeGodError, String(error));
        assert.ok(['reservation_refused', 'overloaded'].includes(error.code), error.message);
        counts.refused += 1;
      }
    };
    const over = new AbortController();
    const measuring = (async () => {
      while (!over.signal.aborted) {
        memory.measure();
        await sleep(5);
      }
    })();
    let races = 0;
    const master = async (): Promise<void> => {
      while (races < 10_000) {
        races += 1;
        await (dice.random() < 0.5 ? reserve() : infer());
      }
    };
    try {
      await Promise.all(Array.from({ length: 24 }, master));
    } finally {
      over.abort();
      await measuring;
    }
    assert.deepEqual(memory.overrun, [], `seed ${seed}`);
    assert.deepEqual(leases.ledger.leases, [], `seed ${seed}`);
    assert.ok(Math.min(counts.granted, counts.served, counts.turns) > 50, JSON.stringify(counts));
    assert.ok(counts.refused > 100, JSON.stringify(counts));
  });
});
