/** The picture of `top`, from adverts, pulses and the queue. Pure: data in, lines out. */
import type { GpuAdvert, Telemetry } from '../protocol/node.ts';
import {
  gib,
  installedModels,
  isLoaded,
  modelsOf,
  type NodeEntry,
  stateOf,
  troublesOf,
  workLine,
  workOf,
} from './pool-view.ts';

export interface PoolPicture {
  readonly nodes: readonly NodeEntry[];
  /** The last pulse of each node. */
  readonly pulses: ReadonlyMap<string, Telemetry>;
  /** Requests that wait, with why; null where the master could not be asked. */
  readonly waiting: readonly { readonly id: string; readonly reason: string }[] | null;
}

export type TopOrder = 'name' | 'free' | 'busy';
export const TOP_ORDERS: readonly TopOrder[] = ['name', 'free', 'busy'];

const BAR_WIDTH = 20;
const WAITING_MAX = 8;

/** Lines of at most `columns` characters. */
export function renderTop(
  picture: PoolPicture,
  order: TopOrder,
  now: number,
  columns: number,
): string {
  const nodes = [...picture.nodes].sort(
    (left, right) =>
      weightOf(right, order) - weightOf(left, order) || (left.node < right.node ? -1 : 1),
  );
  const ready = nodes.filter(entry => stateOf(entry, now) === 'ready').length;
  const lines = [
    `${nodes.length} ${nodes.length === 1 ? 'machine' : 'machines'}, ${ready} ready, ${atWork(nodes)} at work, ${waitingLine(picture)}   (by ${order})`,
    ...nodes.flatMap(entry => ['', ...nodeLines(entry, picture.pulses.get(entry.node), now)]),
    ...queueLines(picture),
  ];
  return lines.map(line => (line.length > columns ? line.slice(0, columns) : line)).join('\n');
}

function nodeLines(entry: NodeEntry, pulse: Telemetry | undefined, now: number): string[] {
  const { capacity, node } = entry;
  const cpu = pulse?.cpu_load ?? capacity?.cpu.load ?? null;
  const ramFree = pulse?.ram_available_bytes ?? capacity?.ram.available_bytes;
  const head = [node, stateOf(entry, now), `${workLine(entry)} slots`, ...troublesOf(entry, now)];
  const host = `  cpu ${percent(cpu).padStart(5)}  ram ${gib(ramFree)} free of ${gib(capacity?.ram.total_bytes)}`;
  return [
    head.join('  '),
    host,
    ...(capacity?.gpus ?? []).map(gpu => gpuLineOf(gpu, pulse)),
    ...modelLines(entry),
  ];
}

function gpuLineOf(gpu: GpuAdvert, pulse: Telemetry | undefined): string {
  const now = pulse?.gpus.find(({ index }) => index === gpu.index);
  const free = now?.free_bytes ?? gpu.free_bytes;
  const used = free === null || gpu.total_bytes === null ? null : gpu.total_bytes - free;
  const foreign = gpu.foreign_bytes ?? 0;
  const more = [
    percent(now?.utilization ?? gpu.utilization),
    figure(now?.temperature_c ?? gpu.temperature_c, '°C'),
    figure(now?.power_w ?? gpu.power_w, 'W'),
    ...(foreign > 0 ? [`${gib(foreign)} by others`] : []),
  ];
  return `  ${bar(used, gpu.total_bytes)} ${gib(used)} of ${gib(gpu.total_bytes)}  ${gpu.name}  ${more.join('  ')}`;
}

function modelLines(entry: NodeEntry): string[] {
  return modelsOf(entry)
    .map(({ model }) => model)
    .filter(isLoaded)
    .map(model => {
      const state = model.state ?? 'loaded';
      const rate = model.output_tokens_per_s;
      const speed = typeof rate === 'number' ? `  ${rate.toFixed(0)} tok/s` : '';
      return `  ${model.name}  ${state}  ${model.in_flight ?? '?'}/${model.slots ?? '?'} at work${speed}`;
    });
}

/** `[######··············]`; dashes where nobody knows. */
export function bar(used: number | null, total: number | null): string {
  if (used === null || total === null || total <= 0) return `[${'-'.repeat(BAR_WIDTH)}]`;
  const filled = Math.round(BAR_WIDTH * Math.min(1, Math.max(0, used / total)));
  return `[${'#'.repeat(filled)}${'.'.repeat(BAR_WIDTH - filled)}]`;
}

const percent = (fraction: number | null | undefined): string =>
  typeof fraction === 'number' ? `${Math.round(100 * fraction)} %` : '? %';

const figure = (value: number | null | undefined, unit: string): string =>
  typeof value === 'number' ? `${Math.round(value)} ${unit}` : `? ${unit}`;

function queueLines({ waiting }: PoolPicture): string[] {
  if (waiting === null || waiting.length === 0) return [];
  const shown = waiting.slice(0, WAITING_MAX).map(({ id, reason }) => `  ${id}  ${reason}`);
  const more = waiting.length - shown.length;
  return ['', 'waiting', ...shown, ...(more > 0 ? [`  and ${more} more`] : [])];
}

const waitingLine = ({ waiting }: PoolPicture): string =>
  waiting === null ? 'the master does not answer' : `${waiting.length} waiting`;

const atWork = (nodes: readonly NodeEntry[]): number =>
  installedModels(nodes).reduce((sum, { model }) => sum + (model.in_flight ?? 0), 0);

function weightOf(entry: NodeEntry, order: TopOrder): number {
  const { capacity } = entry;
  if (order === 'busy') return workOf(entry)?.used ?? 0;
  if (order === 'free') {
    const gpus = capacity?.gpus ?? [];
    const free = gpus.reduce((sum, gpu) => sum + (gpu.free_bytes ?? 0), 0);
    return gpus.length === 0 ? 0 : free;
  }
  return 0;
}
