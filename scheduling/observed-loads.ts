/**
 * What the loads that nodes have observed say of loads to come: the residual of the estimate, by kind
 * of load, from the adverts.
 *
 * O1: what engines do not tell, projector and overhead, is on neither side of the comparison.
 * O2: a model's own load on the node goes before those of its kind, and keeps the estimate from falling
 *     below what was observed.
 * O3: estimates are raised by the loads of all nodes, but lowered only by those of the node itself: it
 *     computes with these, and would refuse what others had found small.
 * O4: the same loads give the same table, the very object: what was computed with it stays valid.
 * O5: of a model that drafts, or may, engines tell far less than it takes: only what lies above its
 *     estimate is learnt.
 */
import type { EngineAdvert, ModelAdvert, ObservedLoad } from '../protocol/node.ts';
import { type Backend, draftTokens, type MemoryNeed, toldBytes } from './memory.ts';
import { backendOf, capacityFor } from './node-cards.ts';
import { memoryOptionsOf, needOf, profileOf } from './node-need.ts';
import type { NodeView } from './node-view.ts';
import {
  type Correction,
  correctionOf,
  emptyResiduals,
  type LoadKind,
  learn,
  type Observation,
  type ResidualTable,
} from './residual.ts';

/** What is learnt from all nodes, and from the one that is looked at (O3). */
export interface Residuals {
  readonly house: ResidualTable;
  readonly own: ResidualTable;
}

/** What one node has observed. */
interface Loads {
  readonly observations: readonly Observation[];
  readonly table: ResidualTable;
}

interface Copy {
  readonly engine: EngineAdvert;
  readonly model: ModelAdvert;
  readonly backend: Backend;
}

/** Buffers of the processor beside a copy that lies wholly on cards, other than its tables. */
const HOST_BUFFERS_BYTES = 64 * 2 ** 20;
const LOADS_REMEMBERED_MAX = 4_096;
const HOUSES_REMEMBERED_MAX = 4;
const NONE: Loads = { observations: [], table: emptyResiduals };
const byAdvert = new WeakMap<readonly EngineAdvert[], Map<Backend, Loads>>();
const byContent = new Map<string, Loads>();
const houses: { readonly parts: readonly Loads[]; readonly table: ResidualTable }[] = [];

/** What was observed on a node with such engines. */
export function loadsOf(engines: readonly EngineAdvert[], backend: Backend): Loads {
  const known = byAdvert.get(engines) ?? new Map<Backend, Loads>();
  byAdvert.set(engines, known);
  const loads = known.get(backend) ?? readLoads(engines, backend);
  known.set(backend, loads);
  return loads;
}

/** What is learnt from the loads of all nodes. */
export function houseLoads(nodes: readonly NodeView[]): ResidualTable {
  const parts: Loads[] = [];
  for (const { capacity, runtime } of nodes) {
    if (runtime === null) continue;
    const { engines } = runtime.advert;
    const loads = loadsOf(engines, backendOf(capacityFor(capacity?.advert ?? null, engines)));
    if (loads !== NONE) parts.push(loads);
  }
  if (parts.length === 0) return emptyResiduals;
  const known = houses.find(
    house =>
      house.parts.length === parts.length && house.parts.every((part, at) => part === parts[at]),
  );
  if (known !== undefined) return known.table;
  const table = parts.flatMap(({ observations }) => observations).reduce(learn, emptyResiduals);
  houses.unshift({ parts, table });
  houses.length = Math.min(houses.length, HOUSES_REMEMBERED_MAX);
  return table;
}

/** What is to be added to an estimate for a copy of the model there. */
export function residualOf(copy: Copy, residuals: Residuals, need: MemoryNeed): Correction {
  const { house, own } = residuals;
  const known = corrected.get(copy.model);
  const isSame =
    known?.need === need &&
    known.house === house &&
    known.own === own &&
    known.engine === copy.engine &&
    known.backend === copy.backend;
  if (isSame) return known.correction;
  const correction = computeResidual(copy, residuals, need);
  const { engine, backend } = copy;
  corrected.set(copy.model, { engine, backend, house, own, need, correction });
  return correction;
}

interface Corrected extends Residuals, Omit<Copy, 'model'> {
  readonly need: MemoryNeed;
  readonly correction: Correction;
}

/** As asked for last: most who ask for a model ask for the same context. */
const corrected = new WeakMap<ModelAdvert, Corrected>();

function computeResidual(copy: Copy, { house, own }: Residuals, need: MemoryNeed): Correction {
  const told = toldBytes(need);
  const kind = kindOf(copy);
  const ofKind = isTelling(copy.model) ? correctionOfKind(kind, { house, own }, told) : UNCORRECTED;
  // The tensors are there, whatever was seen elsewhere.
  const least = Math.max(ofKind.residual_bytes, need.weights_bytes - told);
  const seen = observationOf(copy);
  if (seen === null || !isSameKind(seen.kind, kind)) return { ...ofKind, residual_bytes: least };
  const difference = seen.measured_bytes - seen.estimated_bytes;
  const lowered = Math.max(difference, Math.min(0, least)); // O2
  return { residual_bytes: difference >= 0 ? difference : lowered, source: 'measured' };
}

const UNCORRECTED: Correction = { residual_bytes: 0, source: 'estimate' };

/** O3 */
function correctionOfKind(kind: LoadKind, { house, own }: Residuals, told: number): Correction {
  if (house.size === 0) return UNCORRECTED;
  const byHouse = correctionOf(house, kind, told);
  if (byHouse.residual_bytes >= 0) return byHouse;
  const { residual_bytes } = correctionOf(own, kind, told);
  return { residual_bytes: Math.min(0, residual_bytes), source: 'measured' };
}

export interface RunningBytes {
  readonly vram_bytes: number | null;
  readonly ram_bytes: number | null;
  readonly context_tokens: number;
  /** Over so many cards it is spread. */
  readonly cards: number;
}

/**
 * What is to be remembered of a load that is done; null where nothing can be compared: the engine does
 * not say, or a part of the model lies in main memory beside the cards.
 */
export function observedLoad(copy: Copy, running: RunningBytes): ObservedLoad | null {
  const { engine, model, backend } = copy;
  const { vram_bytes: vram, ram_bytes: ram, context_tokens } = running;
  if (vram === null && ram === null) return null;
  const options = { ...memoryOptionsOf({ backend }, { engine, model }, 0), context_tokens };
  const need = needOf(profileOf(model), options);
  const isOnCards = backend !== 'cpu';
  if (isOnCards && (ram ?? 0) > need.host_bytes + HOST_BUFFERS_BYTES) return null;
  const measured_bytes = isOnCards ? (vram ?? 0) : (vram ?? 0) + (ram ?? 0);
  const estimated_bytes = toldBytes(need, running.cards);
  if (need.draft_bytes > 0 && measured_bytes < estimated_bytes) return null; // O5
  return {
    ...{ measured_bytes, estimated_bytes },
    ...{ context_tokens, backend, engine_version: engine.version, kv_type: options.kv_type },
  };
}

/** Of two loads of one model the one that teaches more caution; of another kind, the later one. */
export function moreTelling(before: ObservedLoad | undefined, now: ObservedLoad): ObservedLoad {
  const excess = (load: ObservedLoad): number => load.measured_bytes - load.estimated_bytes;
  const isSame =
    before !== undefined &&
    before.engine_version === now.engine_version &&
    before.backend === now.backend &&
    before.kv_type === now.kv_type;
  return isSame && excess(before) > excess(now) ? before : now;
}

function readLoads(engines: readonly EngineAdvert[], backend: Backend): Loads {
  const observations = engines.flatMap(engine =>
    engine.models.flatMap(model => {
      const seen = isTelling(model) ? observationOf({ engine, model, backend }) : null;
      return seen === null ? [] : [seen];
    }),
  );
  if (observations.length === 0) return NONE;
  const content = JSON.stringify(observations);
  const known = byContent.get(content);
  if (known !== undefined) return known; // O4
  const loads = { observations, table: observations.reduce(learn, emptyResiduals) };
  if (byContent.size >= LOADS_REMEMBERED_MAX) byContent.clear();
  byContent.set(content, loads);
  return loads;
}

/** Where only the size is known the estimate is an upper guess, which says nothing of the formula. */
const isTelling = ({ profile }: ModelAdvert): boolean =>
  profile !== undefined && profile.source !== 'size';

/** As it would be loaded now. */
function kindOf({ engine, model, backend }: Copy): LoadKind {
  return {
    architecture: profileOf(model).architecture,
    engine_version: engine.version,
    backend,
    kv_type: engine.environment?.kv_type ?? 'f16',
  };
}

function observationOf(copy: Copy): Observation | null {
  const { observed } = copy.model;
  if (observed === undefined) return null;
  const { measured_bytes, estimated_bytes, engine_version, backend, kv_type } = observed;
  const now = kindOf(copy);
  const kind = {
    architecture: now.architecture,
    engine_version: engine_version === undefined ? now.engine_version : engine_version,
    backend: backend ?? now.backend,
    kv_type: kv_type ?? now.kv_type,
  };
  const isDrafting = draftTokens(profileOf(copy.model), kind) > 0;
  if (isDrafting && measured_bytes < estimated_bytes) return null; // O5
  return { kind, measured_bytes, estimated_bytes };
}

const isSameKind = (one: LoadKind, other: LoadKind): boolean =>
  one.architecture === other.architecture &&
  one.engine_version === other.engine_version &&
  one.backend === other.backend &&
  one.kv_type === other.kv_type;
