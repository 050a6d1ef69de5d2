/**
 * A card as the probes see it, and as the node advertises it.
 *
 * C1: a figure that nobody could read is null; a real 0 stays 0.
 */
import type { GpuAdvert, GpuProcess } from '../../protocol/node.ts';

export interface Card {
  /** PCI address `0000:01:00.0`, by which probes agree on a card; null where it has none. */
  readonly bus: string | null;
  readonly uuid: string | null;
  readonly name: string;
  readonly vendor: GpuAdvert['vendor'];
  readonly total_bytes: number | null;
  readonly used_bytes: number | null;
  readonly free_bytes: number | null;
  readonly unified: boolean;
  readonly integrated: boolean | null;
  readonly bandwidth_bytes_per_s: number | null;
  readonly foreign_bytes: number | null;
  readonly processes: readonly GpuProcess[];
  readonly mig_profile: string | null;
  readonly driver_version: string | null;
  readonly utilization: number | null;
  readonly temperature_c: number | null;
  readonly power_w: number | null;
  readonly source: string;
  readonly measured_at: number;
}

/** A probe, or a step of it, that could not answer. */
export interface Problem {
  readonly probe: string;
  readonly reason: string;
}

/** No cards and no problems: looked, and there is none. */
export interface Findings {
  readonly cards: readonly Card[];
  readonly problems: readonly Problem[];
}

export const NOTHING: Findings = { cards: [], problems: [] };

const PROCESSES_MAX = 64;
const NAME_LENGTH_MAX = 256;
const TEXT_LENGTH_MAX = 64;
const UUID_LENGTH_MAX = 128;

type Known = Pick<Card, 'name' | 'vendor' | 'source' | 'measured_at'> & Partial<Card>;

/** A card of which only what is given is known. */
export function cardOf(known: Known): Card {
  return {
    bus: null,
    uuid: null,
    total_bytes: null,
    used_bytes: null,
    free_bytes: null,
    unified: false,
    integrated: null,
    bandwidth_bytes_per_s: null,
    foreign_bytes: null,
    processes: [],
    mig_profile: null,
    driver_version: null,
    utilization: null,
    temperature_c: null,
    power_w: null,
    ...known,
  };
}

/** The same card with everything forgotten that changes from minute to minute. */
export function withoutFigures(card: Card): Card {
  return {
    ...card,
    used_bytes: null,
    free_bytes: null,
    foreign_bytes: null,
    processes: [],
    utilization: null,
    temperature_c: null,
    power_w: null,
  };
}

/** What goes over the wire: without the PCI address, and within the bounds of the message. */
export function advertOf(card: Card, index: number): GpuAdvert {
  const { bus: _, ...said } = card;
  return {
    ...said,
    index,
    uuid: card.uuid?.slice(0, UUID_LENGTH_MAX) ?? null,
    name: card.name.slice(0, NAME_LENGTH_MAX),
    mig_profile: card.mig_profile?.slice(0, TEXT_LENGTH_MAX) ?? null,
    driver_version: card.driver_version?.slice(0, TEXT_LENGTH_MAX) ?? null,
    processes: [...card.processes]
      .sort((one, other) => (other.bytes ?? 0) - (one.bytes ?? 0))
      .slice(0, PROCESSES_MAX)
      .map(process => ({ ...process, name: process.name.slice(0, NAME_LENGTH_MAX) })),
  };
}

/** `00000000:01:00.0` and `0000:01:00.0` are one address: domains are written with 4 or 8 digits. */
export function busAddress(written: string | null | undefined): string | null {
  const [, domain, rest] =
    /^([0-9a-f]{4,8}):([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/i.exec(written?.trim() ?? '') ?? [];
  if (domain === undefined || rest === undefined) return null;
  return `${domain.replace(/^0+(?=[0-9a-f]{4})/i, '')}:${rest}`.toLowerCase();
}

/** Two descriptions of one device? By address where both have one, else by the maker's id. */
export function isSame(one: Card, other: Card): boolean {
  if (one.mig_profile !== null || other.mig_profile !== null) return one.uuid === other.uuid;
  if (one.bus !== null && other.bus !== null) return one.bus === other.bus;
  if (one.uuid !== null && other.uuid !== null) return one.uuid === other.uuid;
  return one.vendor === other.vendor && one.name === other.name;
}
