/**
 * Pure: from what the probes found to what the node says of itself.
 *
 * Q1: cards are numbered in the order in which they are advertised, whoever found them.
 * Q2: declared cards replace what was probed: whoever declares knows better. What a probe saw in use
 *     is still subtracted, and a card that is larger than its own memory lives in the host's.
 */
import type { NodeId } from '../../protocol/ids.ts';
import type { CapacityAdvert, LifecycleState } from '../../protocol/node.ts';
import { advertOf, type Card, cardOf, type Findings } from './card.ts';
import type { Measurement } from './ports.ts';
import { bandwidthOf } from './probes/bandwidth.ts';
import type { HostFigures } from './probes/host.ts';

/** A card declared in the configuration. */
export interface DeclaredGpu {
  readonly name: string;
  readonly vram_bytes: number;
}

/** A change of less than this is not worth an extra advert. */
const NOTABLE_BYTES = 64 * 1024 * 1024;
const CARDS_MAX = 64;
const PROBLEMS_MAX = 32;
const REASON_LENGTH_MAX = 1_000;

export function assemble(
  host: HostFigures,
  found: Findings,
  declared: readonly DeclaredGpu[],
  now: number,
): Measurement {
  const cards = declared.length === 0 ? found.cards : declare(declared, found.cards, host, now);
  return {
    ...host,
    gpus: cards.slice(0, CARDS_MAX).map(advertOf), // Q1
    unknown: found.problems.slice(0, PROBLEMS_MAX).map(({ probe, reason }) => ({
      probe: probe.slice(0, 64),
      reason: reason.slice(0, REASON_LENGTH_MAX),
    })),
  };
}

function declare(
  declared: readonly DeclaredGpu[],
  probed: readonly Card[],
  host: HostFigures,
  now: number,
): Card[] {
  const left = [...probed];
  const take = (matches: (card: Card) => boolean): Card | null => {
    const place = left.findIndex(matches);
    return place < 0 ? null : (left.splice(place, 1)[0] ?? null);
  };
  const byName = declared.map(({ name }) =>
    take(card => card.name.toLowerCase().includes(name.toLowerCase())),
  );
  return declared.map((gpu, index) => {
    // Integrated graphics are not what somebody means who declares a card of another name.
    const card = byName[index] ?? take(({ integrated }) => integrated !== true) ?? take(() => true);
    return declaredCard(gpu, card, host, now);
  });
}

/** Q2 */
function declaredCard(
  { name, vram_bytes: total }: DeclaredGpu,
  probed: Card | null,
  { ram }: HostFigures,
  now: number,
): Card {
  const probedBytes = probed?.total_bytes ?? null;
  const unified = probed?.unified === true || (probedBytes !== null && total > probedBytes * 1.5);
  // What a probe calls in use of unified memory is that of the whole host.
  const used = probed?.unified === true ? heldBy(probed) : (probed?.used_bytes ?? null);
  const own = Math.max(0, total - (used ?? 0));
  return {
    ...(probed ?? cardOf({ name, vendor: 'other', source: 'declared', measured_at: now })),
    name,
    total_bytes: total,
    used_bytes: used,
    free_bytes: unified ? Math.min(own, ram.available_bytes) : own,
    unified,
    bandwidth_bytes_per_s: bandwidthOf(name) ?? probed?.bandwidth_bytes_per_s ?? null,
    source: 'declared',
  };
}

/** Memory that the programs on a card hold; null where one of them is not measured. */
function heldBy(card: Card | null): number | null {
  if (card === null || card.processes.length === 0) return null;
  return card.processes.reduce<number | null>(
    (sum, { bytes }) => (sum === null || bytes === null ? null : sum + bytes),
    0,
  );
}

export interface NodeIdentity {
  readonly node: NodeId;
  readonly epoch: number;
  readonly host: string;
  readonly os: string;
  readonly arch: string;
  readonly reserve_bytes: number;
}

export function capacityAdvert(
  identity: NodeIdentity,
  state: LifecycleState,
  measurement: Measurement,
  at: number,
): CapacityAdvert {
  return {
    ...identity,
    state,
    at,
    cpu: measurement.cpu,
    ram: measurement.ram,
    disk: measurement.disk,
    gpus: [...measurement.gpus],
    unknown: measurement.unknown,
  };
}

/** Whether a placement could come out differently after this change. */
export function isNotable(before: Measurement | null, after: Measurement): boolean {
  if (before === null || before.gpus.length !== after.gpus.length) return true;
  if (before.unknown.length !== after.unknown.length) return true;
  if (differs(before.ram.available_bytes, after.ram.available_bytes)) return true;
  return after.gpus.some((gpu, index) => {
    const earlier = before.gpus[index];
    return (
      earlier === undefined ||
      earlier.uuid !== gpu.uuid ||
      differs(earlier.free_bytes, gpu.free_bytes) ||
      differs(earlier.total_bytes, gpu.total_bytes) ||
      differs(earlier.foreign_bytes ?? null, gpu.foreign_bytes ?? null)
    );
  });
}

function differs(before: number | null, after: number | null): boolean {
  if (before === null || after === null) return before !== after;
  return Math.abs(before - after) >= NOTABLE_BYTES;
}
