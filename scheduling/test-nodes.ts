/** Nodes for tests: adverts with everything at hand that a test does not care about. */

import { NodeId } from '../protocol/ids.ts';
import type { ModelProfile } from '../protocol/model-profile.ts';
import {
  ATTEMPT_PROTOCOL,
  CapacityAdvert,
  type ObservedLoad,
  RuntimeAdvert,
} from '../protocol/node.ts';
import type { NodeView } from './node-view.ts';

export const NOW = 1_000_000;
export const GIB = 1024 ** 3;

export interface ModelInput {
  readonly name: string;
  readonly size_bytes: number;
  readonly loaded?: boolean;
  readonly context_tokens?: number;
  readonly capabilities?: readonly string[];
  readonly slots?: number;
  readonly in_flight?: number;
  readonly used_at?: number | null;
  readonly kept?: boolean;
  readonly state?: string;
  readonly load_ms?: number;
  readonly output_tokens_per_s?: number;
  readonly observed?: ObservedLoad;
  readonly profile?: ModelProfile;
  readonly vram_bytes?: number | null;
  readonly ram_bytes?: number | null;
}

export interface CardInput {
  readonly free: number | null;
  readonly total: number | null;
  readonly foreign?: number | null;
  readonly bandwidth?: number;
  readonly unified?: boolean;
  readonly integrated?: boolean;
}

export interface NodeInput {
  readonly id: string;
  /** Free and total GPU memory; null: no GPU. `free: null`: unknown. */
  readonly gpu?: CardInput | null;
  /** Where there are several. */
  readonly gpus?: readonly CardInput[];
  readonly ram?: { readonly available: number; readonly total: number };
  readonly reserve?: number;
  readonly models?: readonly ModelInput[];
  readonly scaffold?: boolean;
  readonly remote?: boolean;
  readonly ollama?: boolean;
  /** When it answered last. */
  readonly away_since?: number;
  /** Of the engines. */
  readonly version?: string;
  readonly leases?: readonly { readonly model: string; readonly bytes: number }[];
  readonly slots?: number;
  readonly slots_used?: number;
  /** Its worker is of the release before. */
  readonly outdated?: boolean;
  readonly state?: string;
  readonly seen_at?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly offload?: boolean;
  readonly environment?: Readonly<Record<string, unknown>>;
}

export function nodeView(input: NodeInput): NodeView {
  const node = NodeId.parse(input.id);
  const seen_at = input.seen_at ?? NOW;
  const head = { node, epoch: 1, host: input.id, state: input.state ?? 'ready', at: seen_at };
  const ram = input.ram ?? { available: 8 * GIB, total: 16 * GIB };
  const cards = cardsOf(input);
  const capacity = CapacityAdvert.parse({
    ...head,
    os: 'linux',
    arch: 'x64',
    cpu: { model: 'cpu', cores: 2, load: null },
    ram: { total_bytes: ram.total, available_bytes: ram.available },
    disk: { total_bytes: null, free_bytes: null },
    gpus: cards.map((card, index) => gpuOf(card, index, seen_at)),
    reserve_bytes: input.reserve ?? 0,
    unknown: [],
  });
  const runtime = RuntimeAdvert.parse({
    ...head,
    engines: enginesOf(input),
    leases: (input.leases ?? []).map((lease, index) => ({
      lease: `lease-${index}`,
      build: 'b1',
      task: 'store',
      attempt: index + 1,
      expires_at: NOW + 60_000,
      ...lease,
    })),
    ...(input.outdated === true ? {} : { attempt_protocol: ATTEMPT_PROTOCOL }),
    slots: input.slots ?? 4,
    slots_used: input.slots_used ?? 0,
    labels: input.labels ?? {},
    offload: input.offload ?? false,
  });
  return {
    node,
    capacity: { advert: capacity, seen_at },
    runtime: { advert: runtime, seen_at },
  };
}

function cardsOf({ gpu, gpus }: NodeInput): readonly CardInput[] {
  if (gpus !== undefined) return gpus;
  return gpu === undefined || gpu === null ? [] : [gpu];
}

function gpuOf(gpu: CardInput, index: number, measured_at: number) {
  return {
    index,
    uuid: null,
    name: 'gpu',
    vendor: 'nvidia',
    total_bytes: gpu.total,
    used_bytes: null,
    free_bytes: gpu.free,
    unified: gpu.unified ?? false,
    integrated: gpu.integrated ?? null,
    ...(gpu.foreign === undefined ? {} : { foreign_bytes: gpu.foreign }),
    bandwidth_bytes_per_s: gpu.bandwidth ?? null,
    utilization: null,
    temperature_c: null,
    power_w: null,
    source: 'test',
    measured_at,
  };
}

function enginesOf(input: NodeInput): unknown[] {
  const engine = (name: string, available: boolean, models: readonly ModelInput[]) => ({
    name,
    available,
    version: input.version ?? null,
    ...(available || input.away_since === undefined ? {} : { away_since: input.away_since }),
    ...(input.environment === undefined ? {} : { environment: input.environment }),
    reason: available ? null : `${name} is not running`,
    models: models.map(model => ({
      digest: 'd',
      family: 'f',
      parameter_size: '7B',
      quantization: 'Q4',
      context_max: 32_768,
      capabilities: ['completion'],
      loaded: false,
      vram_bytes:
        model.loaded === true ? (cardsOf(input).length === 0 ? 0 : model.size_bytes) : null,
      ram_bytes:
        model.loaded === true ? (cardsOf(input).length === 0 ? model.size_bytes : 0) : null,
      context_tokens: null,
      ...model,
    })),
  });
  return [
    engine('ollama', input.ollama ?? true, input.models ?? []),
    ...(input.remote === true
      ? [engine('anthropic', true, [{ name: 'claude', size_bytes: 0 }])]
      : []),
    ...(input.scaffold === true
      ? [
          engine('scaffold', true, [
            { name: 'scaffold', size_bytes: 0, loaded: true, vram_bytes: 0 },
          ]),
        ]
      : []),
  ];
}
