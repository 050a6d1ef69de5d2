/**
 * Which idle models go when another needs their memory: those whose loss costs least.
 *
 * A model's value is what loading it again would cost, times how likely it is to be wanted soon:
 * likelier the more recently it was used, certain where somebody waits for it, and less where another
 * node has a copy too (GreedyDual-Size-Frequency, where the size of a model counts by what a set of
 * victims has to free).
 *
 * E1: a model at work, being loaded, leased or kept is never a victim, and none is before its time.
 * E2: no victim goes without need: without any one of the set the newcomer would not fit.
 * E3: the same input gives the same victims.
 */
import { isIdle, type Resident } from './node-resident.ts';

/** After this long without use a model is half as likely to be wanted soon. */
const RECENCY_HALF_LIFE_MS = 300_000;
/** What a copy is worth, of what it would be alone, while another node has one too. */
const DOUBLED_FACTOR = 0.25;
/** In steps, so that the same question within one of them has the same answer. */
export const RECENCY_STEP_MS = 5_000;
/** Up to so many idle models every set is looked at; above, the least valuable go first. */
const EXACT_RESIDENTS_MAX = 6;

export interface EvictionOptions {
  readonly now: number;
  /** How long a model stays after it was loaded. */
  readonly residency_ms?: number;
  /** Models that must stay. */
  readonly spared?: (resident: Resident) => boolean;
  /** Models that are wanted again for certain: losing one costs its whole load. */
  readonly wanted?: (resident: Resident) => boolean;
  /** Models of which another node has a copy too. */
  readonly doubled?: ReadonlySet<string>;
  /** Who would have to go once its work is done, rather than who may go now. */
  readonly busy?: boolean;
}

export interface Eviction {
  readonly victims: readonly Resident[];
  /** What their loss is worth, in ms of loading. */
  readonly cost_ms: number;
}

/** What losing `resident` would cost, in expected ms of loading it again. */
export function lossOf(resident: Resident, options: EvictionOptions): number {
  if (options.wanted?.(resident) === true) return resident.reload_ms;
  if (resident.used_at === null) return 0;
  const now = Math.floor(options.now / RECENCY_STEP_MS) * RECENCY_STEP_MS;
  const idleMs = Math.max(0, now - resident.used_at);
  const alone = resident.reload_ms * 2 ** (-idleMs / RECENCY_HALF_LIFE_MS);
  return options.doubled?.has(resident.key) === true ? alone * DOUBLED_FACTOR : alone;
}

/** Whether it may be unloaded now (E1). */
export function isEvictable(resident: Resident, options: EvictionOptions): boolean {
  if (options.busy === true) return !resident.kept;
  if (!isIdle(resident) || options.spared?.(resident) === true) return false;
  const residencyMs = options.residency_ms ?? 0;
  return resident.loaded_at === null || options.now - resident.loaded_at >= residencyMs;
}

/**
 * The cheapest victims whose going is enough, or null where even all that may go are not.
 * @param isEnough asked for sets of residents; true of a set makes it true of every larger one
 */
export function chooseVictims(
  residents: readonly Resident[],
  isEnough: (victims: readonly Resident[]) => boolean,
  options: EvictionOptions,
): Eviction | null {
  const all = residents.filter(resident => isEvictable(resident, options));
  if (all.length === 0 || !isEnough(all)) return null;
  if (all.length === 1) return { victims: all, cost_ms: sumOf(all, options) };
  const evictable = all
    .map(resident => ({ resident, loss: lossOf(resident, options) }))
    .sort((left, right) => left.loss - right.loss || compareKeys(left.resident, right.resident));
  const victims =
    evictable.length <= EXACT_RESIDENTS_MAX
      ? cheapestSet(evictable, isEnough)
      : withoutNeedless(
          evictable.map(({ resident }) => resident),
          isEnough,
        );
  return { victims, cost_ms: sumOf(victims, options) };
}

const sumOf = (victims: readonly Resident[], options: EvictionOptions): number =>
  victims.reduce((sum, resident) => sum + lossOf(resident, options), 0);

interface Valued {
  readonly resident: Resident;
  readonly loss: number;
}

const compareKeys = (left: Resident, right: Resident): number =>
  left.key < right.key ? -1 : left.key > right.key ? 1 : 0;

/** The set of least cost; of equal ones the smallest, then the first. Looks at sets by halves. */
function cheapestSet(
  evictable: readonly Valued[],
  isEnough: (victims: readonly Resident[]) => boolean,
): readonly Resident[] {
  let best: readonly Resident[] = evictable.map(({ resident }) => resident);
  let bestLoss = evictable.reduce((sum, { loss }) => sum + loss, 0);
  const chosen: Resident[] = [];
  const search = (index: number, loss: number): void => {
    if (loss > bestLoss || (loss === bestLoss && chosen.length >= best.length)) return;
    if (chosen.length > 0 && isEnough(chosen)) {
      best = [...chosen];
      bestLoss = loss;
      return;
    }
    for (let next = index; next < evictable.length; next += 1) {
      const member = evictable[next];
      if (member === undefined) return;
      chosen.push(member.resident);
      search(next + 1, loss + member.loss);
      chosen.pop();
    }
  };
  search(0, 0);
  return withoutNeedless(best, isEnough);
}

/** Spares the most valuable first, wherever the others are enough (E2). */
function withoutNeedless(
  victims: readonly Resident[],
  isEnough: (victims: readonly Resident[]) => boolean,
): readonly Resident[] {
  let left = victims;
  for (const spared of [...victims].reverse()) {
    const rest = left.filter(resident => resident !== spared);
    if (rest.length > 0 && isEnough(rest)) left = rest;
  }
  return left;
}
