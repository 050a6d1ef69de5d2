/** What loads on some nodes say of loads on others: the way of a residual from advert to placement. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ObservedLoad } from '../protocol/node.ts';
import { memoryNeed, toldBytes } from './memory.ts';
import { memoryOptionsOf } from './node-need.ts';
import { houseLoads, moreTelling, observedLoad } from './observed-loads.ts';
import { type PlacementRequest, place } from './placement.ts';
import { emptyResiduals } from './residual.ts';
import { GIB, type ModelInput, NOW, type NodeInput, nodeView } from './test-nodes.ts';
import { profileNamed } from './test-profiles.ts';

const CONTEXT = 8_192;
const VERSION = '0.33.2';
const shape = (name: Parameters<typeof profileNamed>[0]): ModelInput => {
  const profile = profileNamed(name, 'Q4_K_M');
  return { name, size_bytes: profile.file_bytes, profile };
};
const [MODEL, SIBLING, OTHER] = [
  shape('qwen3:4b'),
  shape('qwen3:1.7b'),
  shape('llama3.2:3b'),
] as const;
const OPTIONS = {
  ...{ context_tokens: CONTEXT, slots: 1, kv_type: 'f16' as const },
  ...{ flash_attention: true, backend: 'cuda' as const, engine_version: VERSION },
};
const needOf = ({ profile }: ModelInput, backend: 'cuda' | 'cpu' = 'cuda') =>
  memoryNeed(profile ?? assert.fail('no profile'), { ...OPTIONS, backend });
const load = (model: ModelInput, share: number, changes: Partial<ObservedLoad> = {}) => {
  const estimated_bytes = toldBytes(needOf(model, changes.backend === 'cpu' ? 'cpu' : 'cuda'));
  return {
    ...{ estimated_bytes, measured_bytes: Math.round(estimated_bytes * share) },
    ...{ context_tokens: CONTEXT, engine_version: VERSION, backend: 'cuda' as const },
    ...{ kv_type: 'f16' as const, ...changes },
  };
};
const card = (bytes: number) => ({ free: bytes, total: 24 * GIB });
const node = (id: string, bytes: number, ...models: readonly ModelInput[]): NodeInput => ({
  ...{ id, version: VERSION, gpu: card(bytes), models },
});
const asked = (model: ModelInput, ...nodes: readonly NodeInput[]) => {
  const request: PlacementRequest = {
    ...{ model: model.name, context_tokens: CONTEXT, remote: 'deny', avoid: [], refused: {} },
  };
  return place(request, nodes.map(nodeView), NOW);
};
const elsewhere = (observed: ObservedLoad, model = SIBLING): NodeInput =>
  node('teacher', 0, { ...model, observed });
const estimate = needOf(MODEL).total_bytes;

test('a model that was never loaded is estimated by what loads of its kind took elsewhere', () => {
  const { decision, plan } = asked(
    MODEL,
    node('a', 20 * GIB, MODEL),
    elsewhere(load(SIBLING, 1.2)),
  );
  const extra = (plan?.need_bytes ?? 0) - estimate;
  const missed = toldBytes(needOf(SIBLING)) * 0.2;
  assert.ok(extra > 0 && extra <= missed + 1, `${extra} of ${missed}`);
  assert.deepEqual([decision.need?.source, decision.need?.residual_bytes], ['measured', extra]);
  assert.equal(decision.need?.weights_bytes, needOf(MODEL).weights_bytes, 'the estimate stands');
});

test('loads of another architecture, version, backend or cache say nothing of it', () => {
  for (const other of [
    elsewhere(load(OTHER, 1.5), OTHER),
    elsewhere(load(SIBLING, 1.5, { engine_version: '0.20.0' })),
    elsewhere(load(SIBLING, 1.5, { backend: 'metal' })),
    elsewhere(load(SIBLING, 1.5, { kv_type: 'q8_0' })),
  ]) {
    const { decision, plan } = asked(MODEL, node('a', 20 * GIB, MODEL), other);
    assert.deepEqual([plan?.need_bytes, decision.need?.source], [estimate, 'estimate']);
  }
});

test('its own load on the node goes before those of its kind, and is not fallen short of', () => {
  const own = { ...MODEL, observed: load(MODEL, 1.05) };
  const { plan } = asked(MODEL, node('a', 20 * GIB, own), elsewhere(load(SIBLING, 1.5)));
  const took = own.observed.measured_bytes - own.observed.estimated_bytes;
  assert.equal(plan?.need_bytes, estimate + took);
  const less = { ...MODEL, observed: load(MODEL, 0.9) };
  const lone = asked(MODEL, node('a', 20 * GIB, less), elsewhere(load(SIBLING, 1.5)));
  assert.equal(lone.plan?.need_bytes, estimate, 'one load lowers nothing');
});

test('loads elsewhere raise an estimate but do not lower it; those of the node itself may', () => {
  const lower = [0.9, 0.91, 0.92].map((share, index) => ({
    ...{ ...SIBLING, name: `sibling-${index}` },
    observed: load(SIBLING, share, { estimated_bytes: toldBytes(needOf(SIBLING)) + index }),
  }));
  const taught = asked(MODEL, node('a', 20 * GIB, MODEL), node('teacher', 0, ...lower));
  assert.deepEqual([taught.plan?.need_bytes, taught.decision.need?.source], [estimate, 'measured']);
  const { plan } = asked(MODEL, node('a', 20 * GIB, MODEL, ...lower));
  assert.ok((plan?.need_bytes ?? 0) < estimate);
  const told = toldBytes(needOf(MODEL));
  assert.ok((plan?.need_bytes ?? 0) >= estimate - told * 0.2, 'by a fifth at most');
});

test('whether it fits is decided with the residual', () => {
  const need = needOf(MODEL);
  const room = need.total_bytes + need.reserve_bytes;
  assert.ok(asked(MODEL, node('a', room, MODEL)).plan);
  const { plan, decision } = asked(MODEL, node('a', room, MODEL), elsewhere(load(SIBLING, 1.2)));
  assert.equal(plan, null);
  assert.equal(decision.candidates[0]?.verdict, 'does_not_fit');
});

test('nodes without a card learn from each other as well', () => {
  const bare = (id: string, ...models: readonly ModelInput[]): NodeInput => ({
    ...{ id, version: VERSION, models },
  });
  const observed = load(SIBLING, 1.2, { backend: 'cpu' });
  const { plan } = asked(MODEL, bare('a', MODEL), bare('b', { ...SIBLING, observed }));
  assert.ok((plan?.need_bytes ?? 0) > needOf(MODEL, 'cpu').total_bytes);
});

test('what an engine does not tell is on neither side', () => {
  const model = nodeView(node('a', 1, MODEL)).runtime?.advert.engines[0]?.models[0];
  const engine = nodeView(node('a', 1, MODEL)).runtime?.advert.engines[0];
  assert.ok(model !== undefined && engine !== undefined);
  const need = needOf(MODEL);
  const told = need.weights_bytes + need.kv_bytes + need.compute_bytes;
  const said = { vram_bytes: told, ram_bytes: need.host_bytes, context_tokens: CONTEXT, cards: 1 };
  const copy = { engine, model, backend: 'cuda' as const };
  assert.deepEqual(memoryOptionsOf(copy, copy, CONTEXT), {
    ...OPTIONS,
    engine_version: engine.version,
  });
  const seen = observedLoad(copy, said);
  assert.deepEqual([seen?.measured_bytes, seen?.estimated_bytes], [told, told]);
  assert.equal(observedLoad(copy, { ...said, ram_bytes: GIB }), null, 'partly in main memory');
  assert.equal(observedLoad(copy, { ...said, vram_bytes: null, ram_bytes: null }), null);
  const host = observedLoad({ ...copy, backend: 'cpu' }, { ...said, vram_bytes: 0 });
  assert.equal(host?.measured_bytes, need.host_bytes);
});

test('of a model that may draft, engines tell too little: what lies below its estimate teaches nothing', () => {
  const drafting = shape('qwen3.6:27b');
  const engine = nodeView(node('a', 1, drafting)).runtime?.advert.engines[0];
  const model = engine?.models[0];
  assert.ok(model !== undefined && engine !== undefined);
  const told = toldBytes(needOf(drafting));
  const at = (share: number, version: string) => {
    const running = { vram_bytes: Math.round(told * share), ram_bytes: 0 };
    const copy = { engine: { ...engine, version }, model, backend: 'cuda' as const };
    return observedLoad(copy, { ...running, context_tokens: CONTEXT, cards: 1 });
  };
  assert.equal(at(0.7, VERSION), null);
  assert.equal(at(1.1, VERSION)?.measured_bytes, Math.round(told * 1.1));
  assert.notEqual(at(0.7, '0.32.5'), null, 'it drafts only where it is asked to');
  // Nor where an advert of an older release tells of such a load.
  const observed = load(drafting, 0.7);
  assert.equal(houseLoads([nodeView(node('a', 1, { ...drafting, observed }))]), emptyResiduals);
  const { plan } = asked(drafting, node('a', 23 * GIB, { ...drafting, observed }));
  assert.equal(plan?.need_bytes, needOf(drafting).total_bytes);
});

test('of several loads the one that took most stays, until the kind of load is another', () => {
  const [much, little] = [load(MODEL, 1.2), load(MODEL, 1.1)];
  assert.equal(moreTelling(much, little), much);
  assert.equal(moreTelling(little, much), much);
  const newer = load(MODEL, 1, { engine_version: '0.34.0' });
  assert.equal(moreTelling(much, newer), newer);
});

test('the same loads are the same table, whichever adverts they came in', () => {
  const nodes = () => [nodeView(node('a', 1, MODEL)), nodeView(elsewhere(load(SIBLING, 1.2)))];
  assert.equal(houseLoads(nodes()), houseLoads(nodes()));
  assert.notEqual(houseLoads(nodes()), emptyResiduals);
  assert.equal(houseLoads([nodeView(node('a', 1, MODEL))]), emptyResiduals);
});
