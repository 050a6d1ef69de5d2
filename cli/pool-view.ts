/** What the commands of the pool read from the master's door, and how they name it. */
import type {
  CapacityAdvert,
  EngineAdvert,
  GatewayAdvert,
  GpuAdvert,
  ModelAdvert,
  RuntimeAdvert,
} from '../protocol/node.ts';
import { ADVERT_TTL_MS } from '../protocol/streams.ts';
import { canonicalModelName, nearestName, sameModel } from '../scheduling/model-names.ts';
import type { CommandContext } from './context.ts';
import { CliError } from './exit-code.ts';
import { getFromMaster } from './master-client.ts';

export interface NodeEntry {
  readonly node: string;
  readonly seen_at: number;
  readonly capacity: CapacityAdvert | null;
  readonly runtime: RuntimeAdvert | null;
  readonly gateway?: GatewayAdvert | null;
  readonly notes?: readonly string[];
}

export async function readNodes(context: CommandContext): Promise<readonly NodeEntry[]> {
  const answer = await getFromMaster(await context.config(), '/nodes');
  return listIn<NodeEntry>(answer, 'nodes');
}

/** A list, alone or under its name. */
export function listIn<T>(answer: unknown, name: string): T[] {
  if (Array.isArray(answer)) return answer as T[];
  const list = (answer as Readonly<Record<string, unknown>> | null)?.[name];
  if (Array.isArray(list)) return list as T[];
  throw new CliError('bad_message', `the master's answer holds no ${name}`);
}

/**
 * ready, draining, stale (silent for longer than an advert lives), gone (nothing is left of what it
 * said), degraded (an engine that it had is away) or unknown (no worker heard of).
 */
export function stateOf(entry: NodeEntry, now: number): string {
  if (isGone(entry)) return 'gone';
  if (entry.runtime === null) return 'unknown';
  if (now - entry.seen_at > ADVERT_TTL_MS) return 'stale';
  const { state } = entry.runtime;
  return state === 'ready' && enginesAway(entry).length > 0 ? 'degraded' : state;
}

const isGone = ({ capacity, runtime, gateway }: NodeEntry): boolean =>
  capacity === null && runtime === null && (gateway ?? null) === null;

/** Engines that have answered on this node, and do not now. */
const enginesAway = ({ runtime }: NodeEntry): readonly EngineAdvert[] =>
  (runtime?.engines ?? []).filter(
    ({ available, away_since }) => !available && away_since !== undefined,
  );

/** `ollama away for 3 min`, and what else a person should know. */
export const troublesOf = (entry: NodeEntry, now: number): string[] => [
  ...enginesAway(entry).map(
    ({ name, away_since }) => `${name} away for ${duration(now - (away_since ?? now))}`,
  ),
  ...(entry.notes ?? []),
];

/** What is at work on a node, for builds and for clients, of what can be there at once. */
export function workOf(entry: NodeEntry): { readonly used: number; readonly slots: number } | null {
  const { runtime } = entry;
  if (runtime === null) return null;
  const copies = modelsOf(entry)
    .map(({ model }) => model)
    .filter(isLoaded);
  const sum = (counts: readonly number[]): number => counts.reduce((all, one) => all + one, 0);
  // Those that need no model, such as the scaffold's.
  const others = (runtime.leases ?? []).filter(
    ({ attempt, at_work, model }) =>
      attempt !== undefined &&
      at_work !== false &&
      !copies.some(({ name }) => sameModel(name, model)),
  );
  const used = sum(copies.map(({ in_flight }) => in_flight ?? 0)) + others.length;
  const slots = copies.length === 0 ? runtime.slots : sum(copies.map(copy => copy.slots ?? 1));
  return { used, slots: Math.max(slots, used) };
}

/** `1/2` */
export function workLine(entry: NodeEntry): string {
  const work = workOf(entry);
  return work === null ? '-/-' : `${work.used}/${work.slots}`;
}

export interface InstalledModel {
  readonly node: string;
  readonly engine: string;
  readonly model: ModelAdvert;
}

/** The scaffold engine needs no model, and shows none. */
export const modelsOf = ({ node, runtime }: NodeEntry): InstalledModel[] =>
  (runtime?.engines ?? [])
    .filter(engine => engine.available && engine.name !== 'scaffold')
    .flatMap(engine => engine.models.map(model => ({ node, engine: engine.name, model })));

export const copiesOn = (entry: NodeEntry, name: string): boolean =>
  modelsOf(entry).some(({ model }) => sameModel(model.name, name));

export const installedModels = (nodes: readonly NodeEntry[]): InstalledModel[] =>
  nodes.flatMap(modelsOf);

/** The copies of a model, by whatever spelling. @throws CliError naming the nearest one */
export function copiesOf(nodes: readonly NodeEntry[], name: string): InstalledModel[] {
  const all = installedModels(nodes);
  const copies = all.filter(({ model }) => sameModel(model.name, name));
  if (copies.length > 0) return copies;
  const nearest = nearestName(
    name,
    all.map(({ model }) => model.name),
  );
  throw new CliError(
    'model_missing',
    `no machine has ${canonicalModelName(name)}${nearest === null ? '' : `; the nearest is ${nearest}`}`,
    `\`codegod models pull ${name} --nodes NODE\` brings it`,
  );
}

/** The wanted nodes, checked against those that are there. @throws CliError `not_found` */
export function nodesNamed(
  nodes: readonly NodeEntry[],
  wanted: readonly string[],
): readonly NodeEntry[] {
  return wanted.map(name => {
    const found = nodes.find(({ node }) => node === name);
    if (found !== undefined && !isGone(found)) return found;
    if (found !== undefined) throw new CliError('not_found', `${name} has gone`, '`codegod nodes`');
    const known = nodes.map(({ node }) => node);
    const nearest = nearestName(name, known);
    const hint = nearest === null ? '' : `; did you mean ${nearest}?`;
    throw new CliError('not_found', `there is no machine ${name}${hint}`, '`codegod nodes`');
  });
}

const GIB = 2 ** 30;

export function gib(bytes: number | null | undefined): string {
  if (bytes === null || bytes === undefined) return '?';
  // A tenth of a GiB and less would be shown as nothing.
  return bytes > 0 && bytes < GIB / 10
    ? `${(bytes / 2 ** 20).toFixed(1)} MiB`
    : `${(bytes / GIB).toFixed(1)} GiB`;
}

/** `RTX 3090 18.2/24.0 GiB`: free of all. */
export const gpuLine = (gpus: readonly GpuAdvert[]): string =>
  gpus.length === 0
    ? '-'
    : gpus.map(gpu => `${gpu.name} ${gib(gpu.free_bytes)}/${gib(gpu.total_bytes)}`).join(', ');

export const isLoaded = ({ loaded, state }: ModelAdvert): boolean =>
  loaded || state === 'loading' || state === 'unloading';

/** `42 s`, `5 min`: how long something takes or is away. */
export function duration(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1_000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}
