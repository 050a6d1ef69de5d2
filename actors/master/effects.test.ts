/** Effects against ports that are played by hand: what each wish asks of the world, and ends in. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { CodeGodError } from '../../protocol/errors.ts';
import type { FactBody } from '../../protocol/fact.ts';
import { BuildId, type GatewayId, LeaseId, NodeId, TaskId } from '../../protocol/ids.ts';
import type { ReserveReply, ReserveRequest } from '../../protocol/node.ts';
import { SimulatedClock } from '../../runtime/clock.ts';
import { silentLogger } from '../../runtime/log.ts';
import { createMetrics } from '../../runtime/metrics.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import { GIB, type NodeInput, nodeView } from '../../scheduling/test-nodes.ts';
import type { BuildEffect } from './build-context.ts';
import { createPerformer, type EffectOptions, failedEffect } from './effects.ts';
import { Pool } from './pool/pool.ts';
import { PoolMetrics } from './pool/pool-metrics.ts';
import { GATEWAY, NODE, SHA, TestBuild, TWO_TASKS } from './test-build.ts';

const BUILD = 'b7';
const MODEL = { name: 'qwen2.5-coder:7b', size_bytes: 4 * GIB };

/** The world of one test. */
class World {
  readonly clock = new SimulatedClock();
  readonly calls: string[] = [];
  readonly reserved: ReserveRequest[] = [];
  views: NodeView[] = [];
  gateways: GatewayId[] = [GATEWAY];
  tools: readonly string[] = [];
  reserve: (node: NodeId) => ReserveReply | Error = node => ({
    granted: true,
    lease: LeaseId.parse(`lease-${node}`),
    epoch: 1,
    expires_at: 0,
  });
  finish: () => Promise<void> = async () => {};
  masterModel = 'auto';
  workerModel = 'auto';
  readonly #listeners = new Set<() => void>();
  readonly pool = new Pool({
    nodes: {
      views: () => this.views,
      onChange: listener => {
        this.#listeners.add(listener);
        return () => void this.#listeners.delete(listener);
      },
    },
    policies: { all: () => [], of: () => null, onChange: () => () => {} },
    aliases: () => ({}),
    clock: this.clock,
    metrics: new PoolMetrics(createMetrics('test')),
    settings: { queueMax: 16, waitMaxMs: 60_000, ageBoundMs: 30_000, residencyMs: 0 },
  });

  /** Its adverts, seen just now. */
  show(...nodes: NodeInput[]): this {
    this.views = nodes.map(node => nodeView({ ...node, seen_at: this.clock.now() }));
    for (const listener of [...this.#listeners]) listener();
    return this;
  }

  perform(
    effect: BuildEffect,
    signal = new AbortController().signal,
  ): Promise<readonly FactBody[]> {
    return createPerformer(this.options())(BUILD, 'key', effect, signal);
  }

  options(): EffectOptions {
    const call = (name: string): void => void this.calls.push(name);
    return {
      clock: this.clock,
      pool: this.pool,
      log: silentLogger,
      taskTimeoutMs: 300_000,
      masterModel: this.masterModel,
      workerModel: this.workerModel,
      admission: { admit: async build => call(`admit ${build}`) },
      stampOf: () => undefined,
      nodes: {
        views: () => this.views,
        gateways: () => this.gateways,
        gatewayLife: () => '1.1',
        granted: (node, { lease }) => call(`granted ${node} ${lease}`),
        released: (node, lease) => call(`released ${node} ${lease}`),
        now: () => 0,
        heardAt: () => 0,
        onChange: listener => {
          this.#listeners.add(listener);
          return () => void this.#listeners.delete(listener);
        },
      },
      workers: {
        reserve: async (node, request) => {
          this.reserved.push(request);
          const reply = this.reserve(node);
          if (reply instanceof Error) throw reply;
          return reply;
        },
        release: async (node, lease) => call(`release ${node} ${lease}`),
        dispatch: async message => call(`dispatch ${message.task}.${message.attempt}`),
        withdraw: async (node, { task, attempt }) => call(`withdraw ${node} ${task}.${attempt}`),
        stop: async (node, { task, attempt }) => call(`stop ${node} ${task}.${attempt}`),
      },
      gateways: {
        tools: async () => this.tools,
        create: async (gateway, { name }) => {
          call(`create ${gateway} ${name}`);
          return { path: `/p/${name}`, head: SHA };
        },
        merge: async () => ({ merged: false, conflicts: ['a.js'] }),
        check: async () => {
          throw new CodeGodError('sandbox_required', 'no sandbox');
        },
        archive: async () => ({
          archive: { bucket: 'x', name: 'y', sha256: 'c'.repeat(64), size: 1 },
          head: SHA,
          files: [{ path: 'a.js', size: 1 }],
        }),
        finish: () => this.finish(),
      },
    };
  }
}

function placeEffect(more: Partial<Extract<BuildEffect, { kind: 'place' }>> = {}): BuildEffect {
  return {
    kind: 'place',
    task: TaskId.parse('store'),
    attempt: 1,
    task_kind: 'code',
    tries: 0,
    request: { model: null, context_tokens: 8_192, remote: 'deny', avoid: [] },
    gateway: null,
    ...more,
  };
}

const big = (id: string, more: Partial<NodeInput> = {}): NodeInput => ({
  id,
  gpu: { free: 20 * GIB, total: 24 * GIB },
  models: [MODEL],
  ...more,
});

test('placing reserves the model’s whole need on the chosen node and says why', async () => {
  const world = new World().show(big('a'));
  const [fact] = await world.perform(placeEffect());
  assert.equal(fact?.type, 'task.placed');
  assert.ok(fact?.type === 'task.placed' && /needs .* GiB/.test(fact.decision.reason));
  assert.equal(world.reserved[0]?.model, MODEL.name);
  assert.ok((world.reserved[0]?.bytes ?? 0) > MODEL.size_bytes);
  assert.deepEqual(world.calls, ['granted a lease-a'], 'counted before any advert shows it');
});

test('a node that declines, or does not answer, is passed over for the next', async () => {
  const world = new World().show(big('a'), big('b'), big('c'));
  const replies: Record<string, ReserveReply | Error> = {
    a: { granted: false, reason: 'the card is hot' },
    b: new CodeGodError('no_responders', 'nobody there'),
  };
  const granted = world.reserve;
  world.reserve = node => replies[node] ?? granted(node);
  const [fact] = await world.perform(placeEffect());
  assert.ok(fact?.type === 'task.placed');
  assert.equal(fact.node, 'c');
  const verdicts = fact.decision.candidates.map(({ node, verdict }) => `${node} ${verdict}`);
  assert.deepEqual(verdicts.toSorted(), ['a refused', 'b refused', 'c fits']);
});

test('the first time nothing fits is said at once', async () => {
  const [fact] = await new World().perform(placeEffect());
  assert.ok(fact?.type === 'task.unplaced');
  assert.equal(fact.tries, 1);
  assert.match(fact.decision.reason, /no node/);
});

test('after that it waits for the nodes to change, and goes on as soon as they do', async () => {
  const world = new World();
  const placing = world.perform(placeEffect({ tries: 4 }));
  await world.clock.advance(5_000);
  world.show(big('a'));
  await world.clock.advance(1_000);
  const [fact] = await placing;
  assert.equal(fact?.type, 'task.placed');
});

test('waiting is said again after a pause that grows', async () => {
  for (const [tries, pauseMs] of [
    [1, 4_000],
    [3, 16_000],
    [30, 600_000],
  ] as const) {
    const world = new World();
    const startMs = world.clock.now();
    const placing = world.perform(placeEffect({ tries }));
    await world.clock.advance(pauseMs + 1_000);
    const [fact] = await placing;
    assert.ok(fact?.type === 'task.unplaced');
    assert.equal(fact.tries, tries + 1);
    assert.equal(fact.at - startMs, pauseMs);
  }
});

test('a placement that nobody waits for any more gives its lease back', async () => {
  const world = new World().show(big('a'));
  const abort = new AbortController();
  const granted = world.reserve;
  world.reserve = node => {
    abort.abort();
    return granted(node);
  };
  await assert.rejects(world.perform(placeEffect(), abort.signal), { name: 'AbortError' });
  assert.ok(world.calls.includes('release a lease-a'));
});

test('planning and writing take the models that are configured, a request names its own', async () => {
  const models = [MODEL, { name: 'small', size_bytes: GIB }, { name: 'tiny', size_bytes: GIB }];
  const world = new World().show(big('a', { models }));
  world.masterModel = 'small';
  world.workerModel = 'tiny';
  const request = { model: MODEL.name, context_tokens: 8_192, remote: 'deny', avoid: [] } as const;
  await world.perform(placeEffect({ task_kind: 'plan' }));
  await world.perform(placeEffect());
  await world.perform(placeEffect({ request }));
  assert.deepEqual(
    world.reserved.map(({ model }) => model),
    ['small', 'tiny', MODEL.name],
  );
});

test('without a gateway nothing is placed, and that is the reason', async () => {
  const world = new World().show(big('a'));
  world.gateways = [];
  const [fact] = await world.perform(placeEffect());
  assert.ok(fact?.type === 'task.unplaced');
  assert.match(fact.decision.reason, /no gateway/);
  assert.deepEqual(world.reserved, []);
});

test('a plan is judged by the tools that live servers offer', async () => {
  const plan = {
    ...TWO_TASKS,
    tasks: TWO_TASKS.tasks.map(task => ({ ...task, mcp_tools: ['git.git_add'] })),
  };
  const world = new World();
  const effect = { kind: 'validate-plan', plan, gateway: GATEWAY } as const;
  const [rejected] = await world.perform(effect);
  assert.ok(rejected?.type === 'plan.rejected');
  assert.equal(rejected.error.code, 'plan_invalid');
  assert.match(rejected.error.message, /git\.git_add, which does not exist/);
  world.tools = ['git.git_add'];
  assert.equal((await world.perform(effect))[0]?.type, 'plan.accepted');
});

test('a workspace goes to the nearest gateway; without one it is tried again later', async () => {
  const world = new World();
  const effect = { kind: 'create-workspace', name: 'todo', gateway: null } as const;
  assert.equal((await world.perform(effect))[0]?.type, 'workspace.created');
  world.gateways = [];
  await assert.rejects(
    world.perform(effect),
    error => error instanceof CodeGodError && error.retryable,
  );
});

test('an engine that loads nothing gets no time for loading', async () => {
  const draft = Object.values(
    new TestBuild().receive().answer('admit').answer('place:plan.1.0').context.pending,
  )[0];
  assert.ok(draft?.kind === 'dispatch');
  const world = new World();
  const deadlineOf = async (engine: 'ollama' | 'scaffold'): Promise<number> => {
    const [fact] = await world.perform({ ...draft, message: { ...draft.message, engine } });
    assert.ok(fact?.type === 'task.dispatched');
    return fact.deadline_at - world.clock.now();
  };
  assert.equal(await deadlineOf('ollama'), 420_000);
  assert.equal(await deadlineOf('scaffold'), 300_000);
});

test('withdrawing stops the worker and frees its memory', async () => {
  const world = new World();
  const lease = LeaseId.parse('1-1');
  const withdrawal = { task: TaskId.parse('store'), attempt: 2, node: NODE, lease };
  const [fact] = await world.perform({ kind: 'withdraw', withdrawal });
  assert.equal(fact?.type, 'task.withdrawn');
  assert.deepEqual(world.calls, [
    'withdraw node-a store.2',
    'release node-a 1-1',
    'released node-a 1-1',
  ]);
});

test('conflicts of a merge are told', async () => {
  const task = TaskId.parse('store');
  const effect = { kind: 'merge', task, attempt: 1, gateway: GATEWAY } as const;
  const [fact] = await new World().perform(effect);
  assert.ok(fact?.type === 'task.conflicted');
  assert.deepEqual(fact.conflicts, ['a.js']);
});

test('an archive counts although clearing away fails', async () => {
  const world = new World();
  world.finish = async () => {
    throw new CodeGodError('timeout', 'too slow');
  };
  const [fact] = await world.perform({ kind: 'archive', gateway: GATEWAY });
  assert.equal(fact?.type, 'build.archived');
});

test('every effect that can fail for good has a fact that says so', () => {
  const build = new TestBuild().receive();
  const seen = new Set<string>();
  build.run(current => {
    for (const [key, effect] of Object.entries(current.context.pending)) {
      if (effect.kind === 'admit' || effect.kind === 'end') continue;
      seen.add(effect.kind);
      const error = { code: 'internal', message: 'no' } as const;
      const [fact] = failedEffect(effect, error, current.now);
      assert.ok(fact, `${key} has one`);
      const copy = new TestBuild();
      copy.snapshot = current.snapshot;
      copy.send(fact);
      assert.ok(!(key in copy.context.pending), `${key} is not wished for any more`);
    }
    return false;
  });
  assert.deepEqual([...seen].toSorted(), [
    'archive',
    'check',
    'create-workspace',
    'dispatch',
    'merge',
    'place',
    'validate-plan',
  ]);
});

test('a build id that is none is refused before anything is asked', async () => {
  const perform = createPerformer(new World().options());
  await assert.rejects(perform('../x', 'admit', { kind: 'admit' }, new AbortController().signal));
  assert.ok(BuildId.safeParse(BUILD).success && NodeId.safeParse('a').success);
});
