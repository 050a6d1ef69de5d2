/**
 * Slices of NVIDIA cards in MIG mode. `nvidia-smi -L` names them, `nvidia-smi -q -x` measures them.
 *
 * G1: a card in MIG mode cannot be used as a whole: its slices stand in its place, and where it has
 *     none it stands with nothing free.
 */
import type { GpuProcess } from '../../../protocol/node.ts';
import { type Card, type Findings, withoutFigures } from '../card.ts';
import { gpuProcess, withProcesses } from './runtime-process.ts';

const MIB = 1024 * 1024;
/** A card's memory and its paths are cut into eighths. */
const MEMORY_SLICES = 8;
const SLICES_MAX = 16;

interface NamedSlice {
  readonly index: number;
  readonly profile: string;
  readonly uuid: string;
}

interface MeasuredSlice {
  readonly index: number;
  /** GPU instance, by which processes name the slice they are on. */
  readonly instance: string;
  readonly total_bytes: number | null;
  readonly used_bytes: number | null;
  readonly free_bytes: number | null;
  readonly processes: readonly GpuProcess[];
}

/**
 * @param list output of `nvidia-smi -L`; empty where it failed
 * @param details output of `nvidia-smi -q -x`; likewise
 */
export function withSlices(
  parents: readonly Card[],
  list: string,
  details: string,
  areAll: boolean,
): Findings {
  const named = parseList(list);
  const measured = parseDetails(details);
  const cards: Card[] = [];
  const problems: Findings['problems'][number][] = [];
  const probe = 'nvidia-smi mig';
  for (const parent of parents) {
    const slices = parent.uuid === null ? undefined : named.get(parent.uuid);
    if (list === '') {
      cards.push(withoutFigures(parent));
      problems.push({ probe, reason: `the slices of ${parent.name} could not be listed` });
    } else if (slices === undefined || slices.length === 0) {
      cards.push({ ...parent, free_bytes: 0, foreign_bytes: null }); // G1
      problems.push({
        probe,
        reason: `${parent.name} is in MIG mode without a slice: nvidia-smi mig -cgi PROFILE -C`,
      });
    } else {
      const figures = measured.get(parent.uuid ?? '') ?? [];
      for (const slice of slices.slice(0, SLICES_MAX)) {
        const own = figures.find(({ index }) => index === slice.index) ?? null;
        cards.push(sliceOf(parent, slice, own, areAll));
      }
    }
  }
  return { cards, problems };
}

function sliceOf(
  parent: Card,
  { profile, uuid }: NamedSlice,
  figures: MeasuredSlice | null,
  areAll: boolean,
): Card {
  const total = figures?.total_bytes ?? null;
  const slice: Card = {
    ...withoutFigures(parent),
    uuid,
    name: `${parent.name} MIG ${profile}`,
    mig_profile: profile,
    total_bytes: total,
    used_bytes: figures?.used_bytes ?? null,
    free_bytes: figures?.free_bytes ?? null,
    temperature_c: parent.temperature_c,
    bandwidth_bytes_per_s: shareOf(parent, total),
  };
  return withProcesses(slice, figures?.processes ?? [], areAll && figures !== null);
}

function shareOf(parent: Card, total: number | null): number | null {
  const { bandwidth_bytes_per_s: bandwidth, total_bytes: whole } = parent;
  if (bandwidth === null || total === null || whole === null || whole === 0) return null;
  const eighths = Math.max(1, Math.round((total / whole) * MEMORY_SLICES));
  return (bandwidth * eighths) / MEMORY_SLICES;
}

/** Slices by the id of their card. */
export function parseList(output: string): Map<string, NamedSlice[]> {
  const cards = new Map<string, NamedSlice[]>();
  let slices: NamedSlice[] = [];
  for (const line of output.split('\n')) {
    const card = /^GPU \d+: .*\(UUID: (GPU-[^)]+)\)/.exec(line)?.[1];
    if (card !== undefined) {
      slices = [];
      cards.set(card, slices);
    }
    const [, profile, index, uuid] =
      /^\s+MIG (\S+)\s+Device\s+(\d+): \(UUID: (MIG-[^)]+)\)/.exec(line) ?? [];
    if (profile !== undefined && uuid !== undefined) {
      slices.push({ index: Number(index), profile, uuid });
    }
  }
  return cards;
}

/** Slices with their memory and processes, by the id of their card. */
export function parseDetails(xml: string): Map<string, MeasuredSlice[]> {
  const cards = new Map<string, MeasuredSlice[]>();
  for (const gpu of elements(xml, 'gpu')) {
    const [devices = ''] = elements(gpu, 'mig_devices');
    const uuid = value(gpu.replace(devices, ''), 'uuid');
    if (uuid === null) continue;
    const running = elements(gpu, 'process_info');
    cards.set(
      uuid,
      elements(devices, 'mig_device').map(device => measuredSlice(device, running)),
    );
  }
  return cards;
}

function measuredSlice(device: string, running: readonly string[]): MeasuredSlice {
  const [memory = ''] = elements(device, 'fb_memory_usage');
  const instance = value(device, 'gpu_instance_id') ?? '';
  return {
    index: Number(value(device, 'index')),
    instance,
    total_bytes: mebibytes(value(memory, 'total')),
    used_bytes: mebibytes(value(memory, 'used')),
    free_bytes: mebibytes(value(memory, 'free')),
    processes: running
      .filter(process => value(process, 'gpu_instance_id') === instance)
      .map(process =>
        gpuProcess(
          Number(value(process, 'pid')),
          value(process, 'process_name'),
          mebibytes(value(process, 'used_memory')),
        ),
      ),
  };
}

/** What stands between the tags of each element of a name; it never holds itself here. */
function elements(xml: string, name: string): string[] {
  return xml
    .split(new RegExp(`<${name}(?:\\s[^>]*)?>`))
    .slice(1)
    .map(rest => rest.split(`</${name}>`)[0] ?? '');
}

function value(xml: string, name: string): string | null {
  return elements(xml, name)[0]?.trim() ?? null;
}

function mebibytes(text: string | null): number | null {
  const amount = /^([0-9]+) MiB$/.exec(text ?? '')?.[1];
  return amount === undefined ? null : Number(amount) * MIB;
}
