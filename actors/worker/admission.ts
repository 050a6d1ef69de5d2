/**
 * Whether this node can take one more model into its memory, on which cards, and what has to go for
 * it. Pure: it gets the situation as data, and computes with what the master computes with.
 *
 * D1: what is promised, loading or being unloaded counts as used until a measurement made afterwards
 *     shows it; a stale figure costs a refusal, never a wrong load.
 * D2: only copies that are idle, loaded, without a lease and not kept are evicted.
 * D3: an idle copy that has to go for what was promised is not lent any more.
 * D4: what was asked for is never booked with less than our own estimate of it.
 * D5: of idle copies those go that the asker names, where they are enough: it knows what else waits,
 *     and which models other nodes have too.
 */
import type { NodeId } from '../../protocol/ids.ts';
import type { ModelProfile } from '../../protocol/model-profile.ts';
import type { CapacityAdvert, EngineAdvert, ModelAdvert } from '../../protocol/node.ts';
import { chooseVictims } from '../../scheduling/eviction.ts';
import { type Fit, fit } from '../../scheduling/fit.ts';
import { gib, memoryNeed } from '../../scheduling/memory.ts';
import { nearestName, sameModel } from '../../scheduling/model-names.ts';
import { spellingsOf } from '../../scheduling/model-spellings.ts';
import { backendOf } from '../../scheduling/node-cards.ts';
import { memoryOptionsOf, profileOf } from '../../scheduling/node-need.ts';
import {
  type Resident as Booked,
  bytesOf,
  type CardBytes,
  holdsMemory,
  isIdle,
} from '../../scheduling/node-resident.ts';
import { addTo, baseRoom } from '../../scheduling/node-room.ts';
import { loadsOf, residualOf } from '../../scheduling/observed-loads.ts';
import type { Lease, Terms } from './lease.ts';
import { type Resident, residentsOf } from './residents.ts';

/** What a decision depends on besides the promises. */
export interface Situation {
  readonly node: NodeId;
  readonly now: number;
  /** False while the worker starts or drains. */
  readonly ready: boolean;
  /** Attempts at once. */
  readonly slots: number;
  readonly capacity: CapacityAdvert | null;
  readonly engines: readonly EngineAdvert[];
  readonly residents: readonly Resident[];
  /** Whether a model may lie partly or wholly in main memory beside a card. */
  readonly offload: boolean;
  /** Further names of models, as configured. */
  readonly aliases: Readonly<Record<string, string>>;
}

/** Where a copy will lie, and so what it is charged with. */
export interface Charge {
  readonly cards: readonly CardBytes[];
  readonly ram_bytes: number;
  /** In the memory that counts: on the cards, or in main memory where it lies on none. */
  readonly bytes: number;
}

export const NO_CHARGE: Charge = { cards: [], ram_bytes: 0, bytes: 0 };

export type Admission =
  | {
      readonly kind: 'admitted';
      /** False where a copy that is loaded, loading or promised serves it. */
      readonly loads: boolean;
      /** Null where nobody knows where the copy lies. */
      readonly charge: Charge | null;
      readonly evict: readonly string[];
    }
  | { readonly kind: 'refused'; readonly reason: string };

export type FoundModel =
  | { readonly model: ModelAdvert }
  | { readonly reason: string; readonly missing: boolean };

/** What was found among these engines; they are another list as soon as anything changes. */
const remembered = new WeakMap<readonly EngineAdvert[], Map<string, FoundModel>>();
const FOUND_MAX = 1_024;

/** The model as the engine spells it, or why there is none. */
export function findModel(
  wanted: Pick<Terms, 'engine' | 'model'>,
  now: Pick<Situation, 'engines' | 'aliases'>,
): FoundModel {
  let known = remembered.get(now.engines);
  if (known === undefined || known.size >= FOUND_MAX) {
    known = new Map();
    remembered.set(now.engines, known);
  }
  const key = `${wanted.engine} ${wanted.model}`;
  const before = known.get(key);
  if (before !== undefined) return before;
  const model = lookForModel(wanted, now);
  known.set(key, model);
  return model;
}

function lookForModel(
  wanted: Pick<Terms, 'engine' | 'model'>,
  { engines, aliases }: Pick<Situation, 'engines' | 'aliases'>,
): FoundModel {
  const engine = engines.find(({ name }) => name === wanted.engine);
  if (engine === undefined) {
    return { reason: `there is no engine ${wanted.engine} on this node`, missing: false };
  }
  if (!engine.available) {
    return { reason: engine.reason ?? `${engine.name} is not available`, missing: false };
  }
  for (const spelling of spellingsOf(wanted.model, aliases)) {
    const model = engine.models.find(({ name }) => sameModel(name, spelling));
    if (model !== undefined) return { model };
  }
  const names = engine.models.map(({ name }) => name);
  const nearest = nearestName(wanted.model, names);
  const advice = nearest === null ? '' : `; the nearest one is ${nearest}`;
  return { reason: `${wanted.model} is not installed here${advice}`, missing: true };
}

/** Whether a promise can be given. */
export function admit(leases: readonly Lease[], asked: Terms, now: Situation): Admission {
  const found = findModel(asked, now);
  if (!('model' in found)) return refused(found.reason);
  const wanted = { ...asked, model: found.model.name };
  if (!holdsMemory(wanted.engine)) return shares(NO_CHARGE);
  const copy = now.residents.find(({ model }) => sameModel(model, wanted.model));
  const isThere = copy !== undefined && copy.state !== 'unloading';
  if (isThere && (copy.context_tokens ?? 0) >= wanted.context_tokens) {
    if (keepsPromises(leases, wanted, now)) return shares(copy.ours ? copy.charge : null);
    return refused(`${wanted.model} has to go for what was promised to others`);
  }
  const promised = leases.find(
    lease => sameModel(lease.model, wanted.model) && lease.context_tokens >= wanted.context_tokens,
  );
  if (promised !== undefined) return shares(chargeOf(promised));
  return planLoad(leases, wanted, now);
}

/** Whether everything promised finds room when the wanted copy stays where it is (D3). */
function keepsPromises(leases: readonly Lease[], wanted: Terms, now: Situation): boolean {
  const { capacity } = now;
  if (capacity === null) return true; // Nothing was promised by figures that nobody has.
  // All that is promised is there already: the rule, and then nothing has to be reckoned.
  const isThere = ({ model }: Lease): boolean =>
    sameModel(model, wanted.model) ||
    now.residents.some(copy => copy.state === 'loaded' && sameModel(copy.model, model));
  if (leases.every(isThere)) return true;
  const { residents, gone: own, promised } = residentsOf(leases, wanted, now, capacity);
  if (promised.size === 0) return true;
  const others = residents.filter(copy => isIdle(copy) && !own.has(copy.key));
  const room = addTo(baseRoom(capacity, residents), others);
  const coming = residents.filter(({ key }) => promised.has(key));
  const fitsCards = room.cards.every(
    ({ index, free_bytes }) =>
      free_bytes === null ||
      free_bytes >= 0 ||
      !coming.some(({ cards }) => cards.some(card => card.index === index)),
  );
  const usesRam = coming.some(({ ram_bytes }) => ram_bytes > 0);
  return fitsCards && (!usesRam || room.ram_free_bytes === null || room.ram_free_bytes >= 0);
}

const chargeOf = ({ cards, ram_bytes = 0, bytes }: Lease): Charge | null =>
  cards === undefined ? null : { cards, ram_bytes, bytes };

const refused = (reason: string): Admission => ({ kind: 'refused', reason });
const shares = (charge: Charge | null): Admission => ({
  ...{ kind: 'admitted', loads: false, charge, evict: [] },
});

/** What loading the model now takes, whoever else has been promised it. */
export function planLoad(leases: readonly Lease[], wanted: Terms, now: Situation): Admission {
  if (!holdsMemory(wanted.engine)) {
    return { kind: 'admitted', loads: true, charge: NO_CHARGE, evict: [] };
  }
  if (now.capacity === null) return refused('nobody measures the memory of this node now');
  const found = chooseRoom(leases, wanted, now, now.capacity);
  if (found.kind !== 'unknown') return found.admission;
  // The GPU keeps its figures to itself; then main memory must be enough on its own.
  const onHost = chooseRoom(leases, wanted, now, { ...now.capacity, gpus: [] });
  if (onHost.kind === 'known' && onHost.admission.kind === 'admitted') return onHost.admission;
  return refused('nobody knows how much GPU memory is free; declare it in the configuration');
}

type Choice =
  | { readonly kind: 'known'; readonly admission: Admission }
  | { readonly kind: 'unknown' };

function chooseRoom(
  leases: readonly Lease[],
  wanted: Terms,
  now: Situation,
  capacity: CapacityAdvert,
): Choice {
  const engine = now.engines.find(({ name }) => name === wanted.engine);
  const model = engine?.models.find(({ name }) => sameModel(name, wanted.model));
  if (engine === undefined || model === undefined) {
    return known(refused(`${wanted.model} is not installed here`));
  }
  const backend = backendOf(capacity);
  const { context_tokens, bytes } = wanted;
  const options = { ...memoryOptionsOf({ backend }, { engine, model }, 0), context_tokens };
  const shape = profileOf(model);
  // D4: what the asker knows beyond the formula is kept free as well.
  const estimate = memoryNeed(shape, options);
  const { table } = loadsOf(now.engines, backend);
  const residuals = { house: table, own: table };
  const { residual_bytes } = residualOf({ engine, model, backend }, residuals, estimate);
  const own = estimate.total_bytes + residual_bytes;
  const profile = enlarged(shape, Math.max(0, bytes - own));
  const { residents, gone } = residentsOf(leases, wanted, now, capacity);
  const staying = residents.filter(({ key }) => !gone.has(key));
  const room = addTo(
    baseRoom(capacity, residents),
    residents.filter(({ key }) => gone.has(key)),
  );
  const fitBeside = (victims: readonly Booked[]): Fit =>
    fit(profile, options, addTo(room, victims), { offload: now.offload, residual_bytes });
  const whole = (found: Fit): boolean =>
    found.kind === 'single' ||
    found.kind === 'multi' ||
    (found.kind === 'cpu' && capacity.gpus.length === 0);
  const isNamed = ({ model: name }: Booked): boolean =>
    wanted.evict?.some(victim => sameModel(victim, name)) === true;
  const some = (found: Fit): boolean =>
    whole(found) || (now.offload && (found.kind === 'partial' || found.kind === 'cpu'));
  for (const isEnough of [whole, some]) {
    const alone = fitBeside([]);
    if (isEnough(alone)) return known(admitted(alone, []));
    const choose = (from: readonly Booked[]) =>
      chooseVictims(from, victims => isEnough(fitBeside(victims)), { now: now.now });
    const eviction = choose(staying.filter(isNamed)) ?? choose(staying); // D5
    if (eviction !== null) {
      const names = eviction.victims.map(victim => victim.model);
      return known(admitted(fitBeside(eviction.victims), names));
    }
  }
  const idle = staying.filter(isIdle);
  const best = fitBeside(idle);
  if (best.kind === 'unknown') return { kind: 'unknown' };
  const need = best.need.total_bytes + best.need.reserve_bytes;
  const most = Math.max(0, need - best.short_bytes);
  return known(refused(`needs ${gib(need)}, ${gib(most)} can be had`));
}

const known = (admission: Admission): Choice => ({ kind: 'known', admission });

/** The profile of a model that takes more than its shapes say: each of its layers a part of it. */
function enlarged(shape: ModelProfile, bytes: number): ModelProfile {
  if (bytes === 0) return shape;
  const layers = shape.blocks.reduce((sum, { count }) => sum + count, 0);
  const part = Math.ceil(bytes / Math.max(1, layers));
  return {
    ...shape,
    file_bytes: shape.file_bytes + bytes,
    blocks: shape.blocks.map(block => ({ ...block, bytes: block.bytes + part })),
    output_bytes: shape.output_bytes + (layers === 0 ? bytes : 0),
  };
}

function admitted({ cards, ram_bytes }: Fit, evict: readonly string[]): Admission {
  const charge = { cards, ram_bytes, bytes: bytesOf({ cards, ram_bytes }) };
  return { kind: 'admitted', loads: true, charge, evict };
}
