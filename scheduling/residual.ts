/**
 * What observed loads teach about the estimate: per kind of load (architecture, engine version,
 * backend, type of the cache) how far measurements lay from it.
 *
 * L1: for a load that was observed, the corrected estimate is never below what was measured.
 * L2: estimate and measurement stay apart: a correction is added beside the estimate, never into it.
 * L3: it grows without bound neither in kinds nor in samples, and forgets the oldest first.
 * L4: what cannot be a measurement of that load (half of it, twice of it) teaches nothing.
 */

export interface LoadKind {
  readonly architecture: string;
  /** Version of the engine; null where unknown. */
  readonly engine_version: string | null;
  readonly backend: string;
  readonly kv_type: string;
}

export interface Observation {
  readonly kind: LoadKind;
  readonly estimated_bytes: number;
  readonly measured_bytes: number;
}

interface Sample {
  readonly estimated_bytes: number;
  readonly measured_bytes: number;
}

/** By kind; the one observed last stands last. */
export type ResidualTable = ReadonlyMap<string, readonly Sample[]>;

export interface Correction {
  /** To be added to the estimate; negative where loads took less. */
  readonly residual_bytes: number;
  readonly source: 'estimate' | 'measured';
}

const KINDS_MAX = 256;
const SAMPLES_MAX = 32;
const PLAUSIBLE_MIN = 0.5;
const PLAUSIBLE_MAX = 2;
/** An estimate is lowered only after so many different loads, and by no more than this. */
const SAMPLES_TO_LOWER = 3;
const LOWERED_MIN = 0.8;

export const emptyResiduals: ResidualTable = new Map();

export function learn(table: ResidualTable, observation: Observation): ResidualTable {
  const { estimated_bytes, measured_bytes } = observation;
  const ratio = measured_bytes / estimated_bytes;
  if (!(ratio >= PLAUSIBLE_MIN && ratio <= PLAUSIBLE_MAX)) return table; // L4, and no NaN.
  const key = keyOf(observation.kind);
  const known = table.get(key) ?? [];
  const same = known.find(sample => sample.estimated_bytes === estimated_bytes);
  const most = Math.max(measured_bytes, same?.measured_bytes ?? 0);
  const samples = [
    ...known.filter(sample => sample !== same),
    { estimated_bytes, measured_bytes: most },
  ].slice(-SAMPLES_MAX);
  const others = [...table].filter(([other]) => other !== key).slice(-(KINDS_MAX - 1));
  return new Map([...others, [key, samples]]);
}

/**
 * The correction of an estimate. Between loads of unlike sizes a difference in bytes and one in
 * parts disagree; the milder of the two is taken, and both keep L1.
 */
export function correctionOf(
  table: ResidualTable,
  kind: LoadKind,
  estimatedBytes: number,
): Correction {
  const samples = table.get(keyOf(kind)) ?? [];
  if (samples.length === 0) return { residual_bytes: 0, source: 'estimate' };
  const { ratio, difference } = mostOf(samples);
  const byRatio = Math.ceil(estimatedBytes * ratio);
  const byDifference = estimatedBytes + difference;
  if (difference >= 0) {
    const corrected = Math.min(byRatio, byDifference);
    return { residual_bytes: corrected - estimatedBytes, source: 'measured' };
  }
  if (samples.length < SAMPLES_TO_LOWER) return { residual_bytes: 0, source: 'measured' };
  const floor = Math.ceil(estimatedBytes * LOWERED_MIN);
  const corrected = Math.max(byRatio, byDifference, floor);
  return { residual_bytes: Math.min(0, corrected - estimatedBytes), source: 'measured' };
}

const most = new WeakMap<readonly Sample[], { ratio: number; difference: number }>();

/** The samples of a table never change. */
function mostOf(samples: readonly Sample[]): {
  readonly ratio: number;
  readonly difference: number;
} {
  const known = most.get(samples);
  if (known !== undefined) return known;
  const found = {
    ratio: Math.max(...samples.map(one => one.measured_bytes / one.estimated_bytes)),
    difference: Math.max(...samples.map(one => one.measured_bytes - one.estimated_bytes)),
  };
  most.set(samples, found);
  return found;
}

function keyOf({ architecture, engine_version, backend, kv_type }: LoadKind): string {
  const version = engine_version === null ? '' : `=${engine_version}`;
  return `${architecture}\n${version}\n${backend}\n${kv_type}`;
}
