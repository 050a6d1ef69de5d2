/** Where an inference goes, and why. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { memoryNeed, profileOfSize } from './memory.ts';
import { nearestName, sameModel } from './model-names.ts';
import { roomOf } from './node-room.ts';
import { type PlacementRequest, place } from './placement.ts';
import { GIB, type ModelInput, NOW, type NodeInput, nodeView } from './test-nodes.ts';

const REQUEST: PlacementRequest = {
  model: null,
  context_tokens: 8_192,
  remote: 'deny',
  avoid: [],
  refused: {},
};
const SMALL = { name: 'qwen2.5-coder:3b', size_bytes: 2 * GIB };
const LARGE = { name: 'qwen2.5-coder:14b', size_bytes: 9 * GIB };

/** Of a model at 8k, as a node of the tests would run it. */
const needOf = (model: { readonly size_bytes: number }) =>
  memoryNeed(profileOfSize({ ...model, context_max: 0, family: 'f' }), {
    ...{ context_tokens: 8_192, slots: 1, kv_type: 'f16', flash_attention: true, backend: 'cuda' },
  });

const placed = (request: Partial<PlacementRequest>, ...nodes: NodeInput[]) =>
  place({ ...REQUEST, ...request }, nodes.map(nodeView), NOW);
const gpu = (free: number, total = 24) => ({ free: free * GIB, total: total * GIB });

test('of two nodes that have the model, the one that has it loaded', () => {
  const { plan } = placed(
    {},
    { id: 'roomy', gpu: gpu(20), models: [SMALL] },
    { id: 'warm', gpu: gpu(1), models: [{ ...SMALL, loaded: true }] },
  );
  assert.equal(plan?.node, 'warm');
});

test('among nodes where it fits, the one with most free memory; then by name', () => {
  const nodes = [
    { id: 'b', gpu: gpu(8), models: [SMALL] },
    { id: 'c', gpu: gpu(12), models: [SMALL] },
    { id: 'a', gpu: gpu(12), models: [SMALL] },
  ];
  assert.equal(placed({}, ...nodes).plan?.node, 'a');
});

test('a worker of a release whose reports nobody hears gets no attempt, and is named', () => {
  const old = { id: 'old', gpu: gpu(24), models: [{ ...SMALL, loaded: true }], outdated: true };
  const fresh = { id: 'fresh', gpu: gpu(12), models: [SMALL] };
  assert.equal(placed({}, old, fresh).plan?.node, 'fresh');
  const alone = placed({}, old);
  assert.equal(alone.plan, null);
  assert.match(JSON.stringify(alone), /runs an older release: update it/);
  assert.equal(placed({ kind: 'inference' }, old).plan?.node, 'old', 'clients are served');
});

test('the largest model that fits is taken where none is named', () => {
  const models = [SMALL, LARGE];
  assert.equal(placed({}, { id: 'a', gpu: gpu(24), models }).plan?.model, LARGE.name);
  assert.equal(placed({}, { id: 'a', gpu: gpu(6), models }).plan?.model, SMALL.name);
});

test('a named model is used, whatever else is there, however it is spelled', () => {
  const models = [SMALL, LARGE, { name: 'llama3:latest', size_bytes: GIB }];
  const { plan } = placed({ model: 'LLama3' }, { id: 'a', gpu: gpu(24), models });
  assert.equal(plan?.model, 'llama3:latest');
});

test('a name that nobody has: nothing is placed, and the nearest name is told', () => {
  const { plan, decision } = placed(
    { model: 'qwen2.5-codr:3b' },
    { id: 'a', gpu: gpu(24), models: [SMALL], scaffold: true },
  );
  assert.equal(plan, null);
  assert.match(decision.reason, /nearest name is qwen2\.5-coder:3b/);
});

test('unknown GPU memory is neither enough nor nothing', () => {
  const node = { id: 'a', gpu: { free: null, total: null }, models: [SMALL] };
  const { plan, decision } = placed({}, node);
  assert.equal(plan, null);
  assert.equal(decision.candidates[0]?.verdict, 'unknown_memory');
  assert.match(decision.reason, /unknown/);
});

test('main memory counts where there is no GPU, and only there', () => {
  const ram = { available: 30 * GIB, total: 32 * GIB };
  assert.equal(placed({}, { id: 'a', ram, models: [SMALL] }).plan?.node, 'a');
  assert.equal(placed({}, { id: 'a', ram, gpu: gpu(1), models: [SMALL] }).plan, null);
});

test('memory promised to others is not free, loaded or not', () => {
  const leases = [{ model: 'other:7b', bytes: 20 * GIB }];
  const { plan, decision } = placed({}, { id: 'a', gpu: gpu(22), models: [SMALL], leases });
  assert.equal(plan, null);
  assert.match(decision.reason, /other:7b \(20\.0 GiB\) is in use there/);
});

test('leases of one model share its memory, and a model being loaded counts as loaded', () => {
  const need = needOf(LARGE).total_bytes;
  const leases = [{ model: LARGE.name, bytes: need }];
  const { plan } = placed({}, { id: 'a', gpu: gpu(14, 16), models: [LARGE], leases });
  assert.equal(plan?.node, 'a');
});

test('idle models make room, and that is said', () => {
  const models = [{ name: 'idle:7b', size_bytes: 18 * GIB, loaded: true }, LARGE];
  const request = { model: LARGE.name };
  const { plan, decision } = placed(request, { id: 'a', gpu: gpu(4), models });
  assert.equal(plan?.model, LARGE.name);
  assert.match(decision.reason, /after unloading idle:7b/);
});

test('a model that somebody holds a lease on is not unloaded for another', () => {
  const models = [{ name: 'busy:7b', size_bytes: 18 * GIB, loaded: true }, LARGE];
  const leases = [{ model: 'busy:7b', bytes: 0 }];
  const { plan } = placed({ model: LARGE.name }, { id: 'a', gpu: gpu(4), models, leases });
  assert.equal(plan, null);
});

test('a model loaded with too small a context has to be loaded again', () => {
  const models = [{ ...SMALL, loaded: true, context_tokens: 2_048 }];
  const { decision } = placed({}, { id: 'a', gpu: gpu(20), models });
  assert.equal(decision.candidates[0]?.verdict, 'fits');
});

test('the reserve of a node is never given away', () => {
  const { total_bytes, reserve_bytes } = needOf(SMALL);
  const free = total_bytes + reserve_bytes;
  const node = { id: 'a', gpu: { free, total: 24 * GIB }, models: [SMALL] };
  assert.equal(placed({}, node).plan?.node, 'a');
  assert.equal(placed({}, { ...node, reserve: 1 }).plan, null);
});

test('scaffold only where no real model is available anywhere, or by name', () => {
  const scaffold = { id: 'a', scaffold: true };
  assert.equal(placed({}, scaffold).plan?.engine, 'scaffold');
  const beside = placed({}, scaffold, { id: 'b', gpu: gpu(1), models: [LARGE] });
  assert.equal(beside.plan, null, 'a real model that does not fit now is waited for');
  const named = { id: 'b', gpu: gpu(20), models: [LARGE], scaffold: true };
  assert.equal(placed({ model: 'scaffold' }, named).plan?.engine, 'scaffold');
});

test('what would help never is to unload the scaffold', () => {
  const { decision } = placed({}, { id: 'a', gpu: gpu(1), models: [LARGE], scaffold: true });
  assert.equal(decision.chosen, null);
  assert.doesNotMatch(`${decision.reason} ${decision.would_change}`, /scaffold/);
});

test('a real model that is away is waited for, and the reason says what is wrong', () => {
  const scaffold = { id: 'a', scaffold: true };
  const since = new Date(2026, 0, 5, 14, 2).getTime();
  const away = { id: 'attic', gpu: gpu(20), models: [LARGE], ollama: false, away_since: since };
  const { plan, decision } = placed({}, scaffold, away);
  assert.equal(plan, null);
  assert.equal(
    decision.reason,
    'of 2 nodes 2 ready, 0 with a model, 0 allowed: ' +
      'the model runtime on attic does not answer since 14:02 ' +
      '(ollama is not running); it goes on when it does',
  );
  assert.doesNotMatch(JSON.stringify(decision), /pull/);
  const named = placed({ model: LARGE.name }, scaffold, away).decision.reason;
  assert.match(named, /only attic has qwen2\.5-coder:14b: the model runtime on attic does not/);
  const silent = { ...away, ollama: true, seen_at: NOW - 12_000 };
  assert.equal(placed({}, scaffold, silent).plan, null);
  const other = { id: 'b', gpu: gpu(20), models: [SMALL] };
  assert.equal(placed({}, scaffold, away, other).plan?.model, SMALL.name);
});

test('the scaffold never takes over what works with models, also where none is heard of', () => {
  const scaffold = { id: 'a', scaffold: true, ollama: false };
  const { plan, decision } = placed({ needs_model: true, prefers: [LARGE.name] }, scaffold);
  assert.equal(plan, null);
  assert.equal(
    decision.reason,
    'no node that is heard of has a model (ollama is not running); ' +
      'the build works with qwen2.5-coder:14b and goes on when one is there',
  );
  assert.equal(placed({ needs_model: true, model: 'scaffold' }, scaffold).plan?.node, 'a');
});

test('models outside the house only where it is allowed, and after those inside', () => {
  const remote = { id: 'a', remote: true, scaffold: true };
  assert.equal(placed({}, remote).plan?.engine, 'scaffold');
  assert.equal(placed({ remote: 'last' }, remote).plan?.engine, 'anthropic');
  const local = { id: 'b', gpu: gpu(20), models: [SMALL] };
  assert.equal(placed({ remote: 'last' }, remote, local).plan?.engine, 'ollama');
  assert.equal(placed({ remote: 'first' }, remote, local).plan?.engine, 'anthropic');
});

test('a model outside the house that is named but not allowed: the reason says how to allow it', () => {
  const { plan, decision } = placed({ model: 'claude' }, { id: 'a', remote: true, scaffold: true });
  assert.equal(plan, null);
  assert.match(decision.reason, /outside the house.*--fallback allow/);
});

test('models that cannot write text are never chosen', () => {
  const models = [{ name: 'embed', size_bytes: 3 * GIB, capabilities: ['embedding'] }, SMALL];
  assert.equal(placed({}, { id: 'a', gpu: gpu(24), models }).plan?.model, SMALL.name);
});

test('silent, draining, full and declining nodes take nothing, each with its reason', () => {
  const node = { id: 'a', gpu: gpu(24), models: [SMALL] };
  const reasonOf = (more: Partial<NodeInput>, request: Partial<PlacementRequest> = {}) => {
    const { plan, decision } = placed(request, { ...node, ...more });
    assert.equal(plan, null);
    return decision.reason;
  };
  assert.match(reasonOf({ seen_at: NOW - 20_000 }), /silent for 20 s/);
  assert.match(reasonOf({ seen_at: NOW - 10_500 }), /silent for 11 s/);
  assert.equal(placed({}, { ...node, seen_at: NOW - 10_000 }).plan?.node, 'a', 'one is late');
  assert.match(reasonOf({ state: 'draining' }), /draining/);
  assert.match(reasonOf({ slots: 1, slots_used: 1 }), /busy/);
  assert.match(reasonOf({ ollama: false }), /ollama is not running/);
  assert.match(reasonOf({}, { refused: { a: 'the load failed' } }), /declined: the load failed/);
});

test('a node to avoid is taken only where there is no other', () => {
  const avoid = [nodeView({ id: 'a' }).node];
  const a = { id: 'a', gpu: gpu(24), models: [SMALL] };
  const b = { id: 'b', gpu: gpu(8), models: [SMALL] };
  assert.equal(placed({ avoid }, a, b).plan?.node, 'b');
  assert.equal(placed({ avoid }, a).plan?.node, 'a');
});

test('where nothing fits the reason says what would change it', () => {
  const { decision } = placed({}, { id: 'a', gpu: gpu(4), models: [LARGE] });
  assert.match(
    decision.reason,
    /free \d+\.\d GiB more there, add a node or choose a smaller model/,
  );
});

test('without any node the reason is that', () => {
  assert.match(placed({}).decision.reason, /no node/);
});

test('names of models are compared as people mean them', () => {
  assert.ok(sameModel('Qwen3', 'qwen3:latest'));
  assert.ok(!sameModel('qwen3:8b', 'qwen3:4b'));
  assert.equal(nearestName('phi-3:3b', ['qwen3:8b', 'phi3:3.8b']), 'phi3:3.8b');
  assert.equal(nearestName('x', []), null);
});

const bytes = fc.integer({ min: 0, max: 32 }).map(gibs => gibs * GIB);
const models: fc.Arbitrary<ModelInput> = fc.record({
  name: fc.constantFrom('m1', 'm2', 'm3'),
  size_bytes: fc.constantFrom(1, 4, 9, 20).map(gibs => gibs * GIB),
  loaded: fc.boolean(),
});
const nodes = fc.record({
  gpu: fc.option(fc.record({ free: fc.option(bytes), total: bytes }), { nil: null }),
  ram: fc.record({ available: bytes, total: bytes }),
  reserve: fc.constantFrom(0, GIB),
  models: fc.uniqueArray(models, { maxLength: 3, selector: model => model.name }),
  leases: fc.array(fc.record({ model: fc.constantFrom('m1', 'm4'), bytes }), { maxLength: 2 }),
  slots: fc.integer({ min: 0, max: 3 }),
  scaffold: fc.boolean(),
});
const clusters = fc
  .array(nodes, { maxLength: 4 })
  .map(inputs => inputs.map((input, index) => ({ ...input, id: `n${index}` })));

test('never over-committed: what is placed is loaded or fits into what nobody else was promised', () => {
  fc.assert(
    fc.property(clusters, inputs => {
      const { plan, decision } = placed({}, ...inputs);
      if (plan === null || plan.engine !== 'ollama') return;
      const chosen = decision.candidates[0];
      assert.equal(chosen?.node, plan.node);
      if (chosen?.verdict === 'loaded' || chosen?.verdict === 'loading') return;
      const view = inputs.map(nodeView).find(({ node }) => node === plan.node);
      assert.ok(view);
      const room = roomOf(view).free_after_evicting_bytes;
      assert.ok(room !== null && plan.need_bytes <= room);
      const input = inputs.find(({ id }) => id === plan.node);
      const promised = new Map((input?.leases ?? []).map(lease => [lease.model, 0]));
      for (const lease of input?.leases ?? []) {
        promised.set(lease.model, Math.max(promised.get(lease.model) ?? 0, lease.bytes));
      }
      const total = input?.gpu == null ? (input?.ram?.total ?? 0) : (input.gpu.total ?? 0);
      const sum = [...promised.values()].reduce((all, one) => all + one, 0);
      assert.ok(sum + plan.need_bytes + (input?.reserve ?? 0) <= total);
    }),
  );
});

test('deterministic: the order in which nodes are listed does not matter', () => {
  fc.assert(
    fc.property(clusters, inputs => {
      const forward = placed({}, ...inputs);
      const backward = placed({}, ...inputs.toReversed());
      assert.deepEqual(backward.plan, forward.plan);
      assert.equal(backward.decision.reason, forward.decision.reason);
    }),
  );
});

test('a node that takes no attempts is not waited for, however soon it could be done', () => {
  const nodes = [
    { id: 'slow', models: [{ ...LARGE, loaded: true }], slots: 1 },
    { id: 'fast', gpu: gpu(24), models: [LARGE], slots: 0 },
  ];
  assert.equal(placed({}, ...nodes).plan?.node, 'slow');
});

test('monotone: more free memory makes a request wait for nothing but a slot that is soon free', () => {
  fc.assert(
    fc.property(clusters, fc.nat({ max: 3 }), (inputs, which) => {
      const before = placed({}, ...inputs).plan;
      const more = inputs.map((input, index) => {
        if (index !== which) return input;
        const card = input.gpu;
        const free = card?.free ?? null;
        return {
          ...input,
          gpu: card === null || free === null ? card : { ...card, free: free + GIB },
          ram: {
            ...input.ram,
            available: (input.ram?.available ?? 0) + GIB,
            total: input.ram?.total ?? 0,
          },
        };
      });
      const { plan, decision } = placed({}, ...more);
      if (before === null || plan !== null) return;
      // Memory made a model possible that is sooner done where it is loaded, once a slot is free.
      assert.equal(decision.candidates[0]?.verdict, 'busy');
    }),
  );
});
