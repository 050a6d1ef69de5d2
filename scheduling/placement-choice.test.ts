/** Which of several possible places is the best, what it is told with, and what would change it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { PlacementDecision } from '../protocol/node.ts';
import type { ModelPolicy } from '../protocol/policy.ts';
import { resolveAlias } from './model-names.ts';
import { type PlacementContext, type PlacementRequest, place } from './placement.ts';
import { GIB, NOW, type NodeInput, nodeView } from './test-nodes.ts';

const M = 'coder:7b';
const model = (more: object = {}) => ({ name: M, size_bytes: 5 * GIB, ...more });
const other = (name: string, gibs: number, more: object = {}) => ({
  ...{ name, size_bytes: gibs * GIB, loaded: true, used_at: NOW },
  ...more,
});
const card = (free: number, total = 24, more: object = {}) => ({
  ...{ free: free * GIB, total: total * GIB },
  ...more,
});
const placed = (
  nodes: readonly NodeInput[],
  request: Partial<PlacementRequest> = {},
  context: PlacementContext = {},
) => {
  const result = place(
    {
      ...{ model: M, context_tokens: 8_192, remote: 'deny', avoid: [], refused: {} },
      ...{ kind: 'inference', ...request },
    },
    nodes.map(nodeView),
    NOW,
    context,
  );
  PlacementDecision.parse(result.decision);
  return result;
};
const ids = (...names: string[]) => names.map(id => nodeView({ id }).node);

test('a busy copy is waited for while that is sooner than loading elsewhere, and no longer', () => {
  const busy = { id: 'busy', gpu: card(18), models: [model({ loaded: true, in_flight: 1 })] };
  const slow = { id: 'slow', gpu: card(20), models: [model({ load_ms: 300_000 })] };
  const quick = { id: 'quick', gpu: card(20), models: [model({ load_ms: 1_000 })] };
  const waits = placed([busy, slow]);
  assert.equal(waits.plan, null);
  assert.match(waits.decision.reason, /busy.*sooner done than slow/);
  const crowded = { ...busy, models: [model({ loaded: true, in_flight: 9 })] };
  assert.equal(placed([crowded, quick]).plan?.node, 'quick');
});

test('who has waited longer than was foretold does not wait for ever', () => {
  const busy = { id: 'busy', gpu: card(18), models: [model({ loaded: true, in_flight: 1 })] };
  const slow = { id: 'slow', gpu: card(20), models: [model({ load_ms: 60_000 })] };
  assert.equal(placed([busy, slow]).plan, null);
  assert.equal(placed([busy, slow], {}, { waited_ms: 120_000 }).plan?.node, 'slow');
});

test('a faster node wins over a loaded copy only where it is clearly faster in all', () => {
  const warm = {
    id: 'warm',
    gpu: card(18),
    models: [model({ loaded: true, output_tokens_per_s: 4 })],
  };
  const fast = {
    id: 'fast',
    gpu: card(20),
    models: [model({ load_ms: 2_000, output_tokens_per_s: 80 })],
  };
  assert.equal(placed([warm, fast], { output_tokens: 2_000 }).plan?.node, 'fast');
  assert.equal(placed([warm, fast], { output_tokens: 4 }).plan?.node, 'warm');
  const near = { ...fast, models: [model({ load_ms: 9_600, output_tokens_per_s: 80 })] };
  const filled = { ...near, gpu: card(4), models: [...near.models, other('x:32b', 18)] };
  assert.equal(placed([warm, filled], { output_tokens: 40 }).plan?.node, 'warm', 'hysteresis');
});

test('where nothing is idle enough, the node whose victims are worth least', () => {
  const used = { id: 'used', gpu: card(3), models: [model(), other('x:14b', 18)] };
  const idle = {
    id: 'idle',
    gpu: card(3),
    models: [model(), other('y:14b', 18, { used_at: NOW - 900_000 })],
  };
  const { plan, decision } = placed([used, idle]);
  assert.deepEqual([plan?.node, plan?.evict], ['idle', ['y:14b']]);
  assert.equal(decision.candidates[0]?.verdict, 'evicts');
  assert.equal(decision.runner_up?.node, 'used');
  assert.match(decision.would_change ?? '', /used is expected \d+\.\d s later/);
});

test('of two models the one goes that another node has loaded too', () => {
  const rare = other('rare:14b', 9, { load_ms: 9_000 });
  const usual = other('usual:14b', 9, { load_ms: 12_000 });
  const node = { id: 'a', gpu: card(5), models: [model({ size_bytes: 8 * GIB }), rare, usual] };
  assert.deepEqual(placed([node]).plan?.evict, ['rare:14b']);
  const elsewhere = { id: 'b', gpu: card(0), models: [usual] };
  assert.deepEqual(placed([node, elsewhere]).plan?.evict, ['usual:14b']);
});

test('a model that the build uses already is not evicted for it where another would do', () => {
  const shared = other('planner:14b', 9);
  const spare = other('other:14b', 9);
  const node = { id: 'a', gpu: card(5), models: [model({ size_bytes: 8 * GIB }), shared, spare] };
  const idle = { ...shared, used_at: NOW - 900_000 };
  const without = placed([{ ...node, models: [model({ size_bytes: 8 * GIB }), idle, spare] }]);
  assert.deepEqual(without.plan?.evict, ['planner:14b']);
  const { plan } = placed([{ ...node, models: [model({ size_bytes: 8 * GIB }), idle, spare] }], {
    prefers: ['planner:14b'],
  });
  assert.deepEqual(plan?.evict, ['other:14b']);
});

test('where no model is named, one that the build uses already is taken before a larger one', () => {
  const models = [model({ loaded: true }), { name: 'large:14b', size_bytes: 9 * GIB }];
  const node = { id: 'a', gpu: card(18), models };
  assert.equal(placed([node], { model: null }).plan?.model, 'large:14b');
  assert.equal(placed([node], { model: null, prefers: [M] }).plan?.model, M);
});

test('over several cards only where one does not hold it; the cards are told with their bytes', () => {
  const models = [model({ name: 'l:32b', size_bytes: 18 * GIB })];
  const pair = { id: 'a', gpus: [card(12, 12), card(12, 12)], models };
  const { plan } = placed([pair], { model: 'l:32b' });
  assert.deepEqual(plan?.gpus, [0, 1]);
  assert.equal(
    plan?.need_bytes,
    plan?.cards.reduce((sum, { bytes }) => sum + bytes, 0),
  );
  assert.equal(
    placed([{ ...pair, gpus: [card(12, 12), card(24)] }], { model: 'l:32b' }).plan?.gpus[0],
    1,
  );
});

test('partly in main memory only where the node allows it, and after nodes that hold it whole', () => {
  const ram = { available: 40 * GIB, total: 64 * GIB };
  const large = [model({ size_bytes: 20 * GIB })];
  const tight = { id: 'tight', gpu: card(12, 12), ram, models: large };
  assert.equal(placed([tight]).plan, null);
  const allowed = placed([{ ...tight, offload: true }]);
  assert.equal(allowed.decision.candidates[0]?.verdict, 'partial');
  assert.ok((allowed.plan?.ram_bytes ?? 0) > 0);
  const whole = { id: 'whole', gpu: card(24), models: large };
  assert.equal(placed([{ ...tight, offload: true }, whole]).plan?.node, 'whole');
});

test('an engine that holds so many models at once gets no more', () => {
  const models = [model(), other('x:3b', 2)];
  const node = { id: 'a', gpu: card(20), models, environment: ENVIRONMENT };
  assert.deepEqual(placed([node]).plan?.evict, ['x:3b']);
  const two = { ...ENVIRONMENT, max_loaded_models: 2 };
  assert.deepEqual(placed([{ ...node, environment: two }]).plan?.evict, []);
});

const ENVIRONMENT = {
  ...{ num_parallel: null, kv_type: null, flash_attention: null, max_loaded_models: 1 },
  ...{ max_queue: null, source: 'declared' },
};

test('a larger context than the loaded copy has reloads it once it is idle, a smaller one uses it', () => {
  const loaded = { loaded: true, context_tokens: 16_384 };
  const node = { id: 'a', gpu: card(10), models: [model(loaded)] };
  assert.equal(placed([node]).plan?.context_tokens, 16_384);
  const reload = placed([node], { context_tokens: 20_000 }).plan;
  assert.deepEqual([reload?.load, reload?.context_tokens, reload?.evict], [true, 32_768, [M]]);
  const inUse = { ...node, models: [model({ ...loaded, in_flight: 1 })] };
  assert.equal(placed([inUse], { context_tokens: 20_000 }).plan, null);
});

test('where the request allows it, the largest tier that leaves room for others', () => {
  const node = { id: 'a', gpu: card(24), models: [model()] };
  assert.equal(placed([node]).plan?.context_tokens, 8_192);
  const { plan } = placed([node], { context_max: 262_144 });
  assert.equal(plan?.context_tokens, 32_768, 'the maximum of the model');
  assert.ok((plan?.need_bytes ?? 0) < 15 * GIB);
});

test('what was measured is not estimated lower again', () => {
  const observed = { measured_bytes: 9 * GIB, estimated_bytes: 6 * GIB, context_tokens: 8_192 };
  const node = { id: 'a', gpu: card(8), models: [model()] };
  assert.ok(placed([node]).plan);
  const { plan, decision } = placed([{ ...node, models: [model({ observed })] }]);
  assert.equal(plan, null);
  assert.equal(decision.need?.source, 'measured');
});

test('selectors, pins, rules and nodes that failed leave out, and the answer says which to lift', () => {
  const attic = { id: 'attic', gpu: card(20), models: [model()], labels: { room: 'attic' } };
  const cellar = { id: 'cellar', gpu: card(22), models: [model()] };
  assert.equal(placed([attic, cellar], { selector: { room: 'attic' } }).plan?.node, 'attic');
  assert.equal(placed([attic, cellar], { nodes: ids('attic') }).plan?.node, 'attic');
  assert.equal(placed([attic, cellar], { exclude: ids('cellar') }).plan?.node, 'attic');
  const policy: ModelPolicy = {
    ...{ model: 'Coder:7B', nodes: ids('attic'), replicas_min: 0, priority: 0 },
    ...{ context_tokens: null, at: 0 },
  };
  assert.equal(placed([attic, cellar], {}, { policies: [policy] }).plan?.node, 'attic');
  const { decision } = placed([cellar], { selector: { room: 'attic' } });
  assert.equal(decision.candidates[0]?.verdict, 'excluded');
  assert.match(decision.would_change ?? '', /drop the selector room=attic: cellar could take/);
});

test('an explanation ends with what would change it', () => {
  const changeOf = (nodes: readonly NodeInput[], request: Partial<PlacementRequest> = {}) =>
    placed(nodes, request).decision.would_change ?? '';
  const used = { id: 'a', gpu: card(2), models: [model(), other('x:14b', 18, { in_flight: 1 })] };
  assert.match(changeOf([used]), /unload x:14b on a: that frees 18\.0 GiB/);
  const tiny = { id: 'b', gpu: card(4, 4), models: [model({ size_bytes: 9 * GIB })] };
  assert.match(changeOf([tiny]), /add a node with 1\d\.\d GiB free, free \d\.\d GiB on b/);
  assert.match(changeOf([tiny], { model: 'nobody:7b' }), /codegod models pull nobody:7b --nodes b/);
});

test('an alias is what it stands for, however long the way', () => {
  const aliases = { 'gpt-4o': 'house', house: M, round: 'round' };
  assert.equal(resolveAlias('GPT-4o', aliases), M);
  assert.equal(resolveAlias('round', aliases), 'round');
  const node = { id: 'a', gpu: card(20), models: [model()] };
  assert.equal(placed([node], { model: 'gpt-4o' }, { aliases }).plan?.model, M);
});

test('a capability that a model does not declare is not expected of it', () => {
  const embed = { name: 'embed:1b', size_bytes: GIB, capabilities: ['embedding'] };
  const node = { id: 'a', gpu: card(20), models: [model(), embed] };
  assert.equal(placed([node], { model: null, capability: 'embedding' }).plan?.model, 'embed:1b');
  assert.equal(placed([node], { model: 'embed:1b' }).plan, null);
});

const gibs = fc.integer({ min: 0, max: 26 });
const cluster = fc.array(
  fc.record({
    free: gibs,
    cards: fc.integer({ min: 1, max: 2 }),
    loaded: fc.boolean(),
    in_flight: fc.integer({ min: 0, max: 2 }),
    others: fc.array(
      fc.record({
        size: fc.integer({ min: 1, max: 9 }),
        in_flight: fc.integer({ min: 0, max: 1 }),
      }),
      { maxLength: 3 },
    ),
    load_ms: fc.integer({ min: 1_000, max: 60_000 }),
  }),
  { minLength: 1, maxLength: 4 },
);
type Cluster = typeof cluster extends fc.Arbitrary<infer T> ? T : never;
const nodesOf = (inputs: Cluster): NodeInput[] =>
  inputs.map((input, index) => ({
    id: `n${index}`,
    gpus: Array.from({ length: input.cards }, () => card(input.free, 28)),
    models: [
      model({ loaded: input.loaded, in_flight: input.in_flight, load_ms: input.load_ms }),
      ...input.others.map(({ size, in_flight }, place) =>
        other(`o${place}:7b`, size, { in_flight }),
      ),
    ],
  }));

test('no card gets more than it has free once the victims are gone, and none in use goes', () => {
  fc.assert(
    fc.property(cluster, inputs => {
      const nodes = nodesOf(inputs);
      const { plan } = placed(nodes);
      if (plan === null || !plan.load) return;
      const input = inputs[Number(plan.node.slice(1))];
      assert.ok(input);
      for (const victim of plan.evict.filter(name => name !== M)) {
        assert.equal(input.others[Number(victim.slice(1, 2))]?.in_flight, 0);
      }
      const freed = plan.evict.reduce((sum, name) => {
        if (name === M) return sum + 5;
        return sum + (input.others[Number(name.slice(1, 2))]?.size ?? 0);
      }, 0);
      const taken = plan.cards.reduce((sum, { bytes }) => sum + bytes, 0);
      assert.ok(taken <= (input.free * input.cards + freed) * GIB);
      for (const { bytes } of plan.cards) assert.ok(bytes <= (input.free + freed) * GIB);
    }),
    { numRuns: 300 },
  );
});

test('no other candidate that could take it is clearly sooner done than the chosen one', () => {
  fc.assert(
    fc.property(cluster, inputs => {
      const { plan, decision } = placed(nodesOf(inputs));
      if (plan === null) return;
      const [chosen, ...rest] = decision.candidates;
      const total = chosen?.score?.total_ms ?? Number.NaN;
      for (const candidate of rest) {
        const theirs = candidate.score?.total_ms ?? Number.POSITIVE_INFINITY;
        // By as much as a load into free memory is preferred to one for which others have to go.
        assert.ok(total <= theirs * 1.1 + 1_001, `${candidate.node} ${theirs} < ${total}`);
      }
    }),
    { numRuns: 300 },
  );
});
