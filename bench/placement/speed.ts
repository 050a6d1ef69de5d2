/**
 * How long a decision takes with 50 nodes of 200 models each: one placement, and one look at the
 * queue while 450 requests wait, while adverts of the nodes keep changing.
 * `node --import tsx bench/placement/speed.ts [--json]`
 */
import { performance } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { decode, encode } from '../../protocol/codec.ts';
import { NodeId } from '../../protocol/ids.ts';
import { type ModelAdvert, RuntimeAdvert } from '../../protocol/node.ts';
import { sharedWith } from '../../scheduling/advert-sharing.ts';
import type { NodeView } from '../../scheduling/node-view.ts';
import { type PlacementRequest, place } from '../../scheduling/placement.ts';
import { readAdvert } from '../../scheduling/placement-node.ts';
import { decide } from '../../scheduling/queue.ts';
import { emptyQueue, ended, entered, type QueueState } from '../../scheduling/queue-state.ts';
import { percentile } from './percentile.ts';
import { Random } from './random.ts';
import { GIB } from './trace.ts';

const NODES = 50;
const MODELS = 200;
const WARM_UP = 300;
const DECISIONS = 2_000;
/** So many decisions are made between two adverts; a pool of 50 sends ten a second. */
const PER_ADVERT = 10;
const NOW = 1_000_000_000;
const OPTIONS = { age_bound_ms: 30_000, residency_ms: 10_000 };

const REQUEST: PlacementRequest = {
  ...{ model: null, context_tokens: 8_192, remote: 'deny', avoid: [], refused: {} },
  ...{ kind: 'inference', prompt_tokens: 500, output_tokens: 300 },
};
const named = (model: number): PlacementRequest => ({ ...REQUEST, model: `m${model}:7b` });

function modelOf(index: number, isLoaded: boolean): ModelAdvert {
  const size_bytes = (2 + (index % 8)) * GIB;
  return {
    ...{ name: `m${index}:7b`, digest: `d${index}`, size_bytes, family: 'f' },
    ...{ parameter_size: '7B', quantization: 'Q4', context_max: 32_768 },
    ...{ capabilities: ['completion'], loaded: isLoaded, slots: 2, in_flight: 0 },
    ...{ vram_bytes: isLoaded ? size_bytes : null, ram_bytes: isLoaded ? 0 : null },
    ...{ context_tokens: isLoaded ? 8_192 : null, used_at: isLoaded ? NOW : null },
  };
}

/** Two models of the twenty that are asked for are loaded, and little is free. */
function viewOf(index: number): NodeView {
  const node = NodeId.parse(`n${index}`);
  const head = { node, epoch: 1, host: 'h', state: 'ready' as const, at: NOW };
  const models = Array.from({ length: MODELS }, (_, model) =>
    modelOf(model, model === index % 20 || model === (index + 7) % 20),
  );
  const used = models.reduce((sum, model) => sum + (model.vram_bytes ?? 0), 0);
  const gpu = {
    ...{ index: 0, uuid: null, name: 'card', vendor: 'nvidia' as const, unified: false },
    ...{ total_bytes: used + 4 * GIB, used_bytes: used, free_bytes: 4 * GIB },
    ...{ utilization: null, temperature_c: null, power_w: null, source: 'bench', measured_at: NOW },
  };
  const capacity = {
    ...head,
    ...{ os: 'linux', arch: 'x64', cpu: { model: '', cores: 8, load: null } },
    ram: { total_bytes: 64 * GIB, available_bytes: 48 * GIB },
    ...{
      disk: { total_bytes: null, free_bytes: null },
      gpus: [gpu],
      reserve_bytes: 0,
      unknown: [],
    },
  };
  const engine = { name: 'ollama' as const, available: true, version: null, reason: null, models };
  const runtime = {
    ...head,
    engines: [engine],
    leases: [],
    attempt_protocol: 1,
    slots: 8,
    slots_used: 0,
  };
  const seen_at = NOW * 2;
  return { node, capacity: { advert: capacity, seen_at }, runtime: { advert: runtime, seen_at } };
}

/** Two adverts in turn: on the wire, one of the loaded models used at another time. */
function renewed({ runtime }: NodeView): readonly Uint8Array[] {
  if (runtime === null) return [];
  return [NOW + 1, NOW + 2].map(used_at => {
    const engines = runtime.advert.engines.map(engine => {
      const used = engine.models.find(model => model.loaded);
      return { ...engine, models: engine.models.map(m => (m === used ? { ...m, used_at } : m)) };
    });
    return encode({ ...runtime.advert, engines });
  });
}

interface Figure {
  readonly name: string;
  readonly p50_ms: number;
  readonly p99_ms: number;
}

/** Times `act` alone; `before` is done between two of them. */
function timed(
  name: string,
  before: (index: number) => void,
  act: (index: number) => void,
): Figure {
  const times: number[] = [];
  for (let index = 0; index < WARM_UP + DECISIONS; index += 1) {
    before(index);
    const start = performance.now();
    act(index);
    if (index >= WARM_UP) times.push(performance.now() - start);
  }
  return { name, p50_ms: percentile(times, 0.5), p99_ms: percentile(times, 0.99) };
}

function measure(): Figure[] {
  const views = Array.from({ length: NODES }, (_, index) => viewOf(index));
  const adverts = views.map(renewed);
  const advert = (index: number): void => {
    if (index % PER_ADVERT !== 0) return;
    const turn = index / PER_ADVERT;
    const node = turn % NODES;
    const view = views[node];
    const bytes = adverts[node]?.[Math.floor(turn / NODES) % 2];
    if (view?.runtime == null || bytes === undefined) return;
    // As the master does when an advert comes in.
    const fresh = RuntimeAdvert.parse(decode(bytes, undefined));
    const shared = sharedWith(view.runtime.advert, fresh);
    readAdvert(shared);
    views[node] = { ...view, runtime: { ...view.runtime, advert: shared } };
  };
  const loaded = (index: number): void => void place(named(index % 20), views, NOW + index);
  const evicting = (index: number): void =>
    void place(named(20 + (index % 20)), views, NOW + index);
  const any = (index: number): void => void place(REQUEST, views, NOW + index);
  return [
    timed('place: a model that some nodes have loaded', advert, loaded),
    timed('place: a model that has to be loaded', advert, evicting),
    timed('place: the best model there is', advert, any),
    ...queued(views, advert),
  ];
}

function queued(views: readonly NodeView[], advert: (index: number) => void): Figure[] {
  const random = new Random(1);
  let idle: QueueState = emptyQueue(OPTIONS);
  let busy: QueueState = emptyQueue(OPTIONS);
  const enter = (state: QueueState, id: string, at: number): QueueState =>
    entered(state, {
      ...{ id, share: `s${random.whole(0, 6)}`, priority: 0, arrived_at: at },
      request: named(Math.floor(random.next() ** 2 * 20)),
    });
  const empty = timed(
    'decide: one arrives, nothing waits',
    index => {
      advert(index);
      idle = enter(ended(idle, `i${index - 1}`, NOW + index), `i${index}`, NOW + index);
    },
    index => {
      idle = decide(idle, views, NOW + index).state;
    },
  );
  for (let index = 0; index < 700; index += 1) busy = enter(busy, `w${index}`, NOW);
  busy = decide(busy, views, NOW).state;
  const full = timed(
    `decide: one ends and one arrives, ${busy.waiting.length} wait`,
    index => {
      advert(index);
      const running = [...busy.running.keys()];
      const over = running[random.whole(0, running.length - 1)] ?? '';
      busy = enter(ended(busy, over, NOW + 10 * index), `b${index}`, NOW + 10 * index);
    },
    index => {
      busy = decide(busy, views, NOW + 10 * index).state;
    },
  );
  return [empty, full];
}

function main(): void {
  const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } });
  const figures = measure();
  if (values.json) process.stdout.write(`${JSON.stringify(figures, null, 2)}\n`);
  else {
    for (const { name, p50_ms, p99_ms } of figures) {
      process.stdout.write(
        `${name.padEnd(52)} p50 ${p50_ms.toFixed(3)} ms   p99 ${p99_ms.toFixed(3)} ms\n`,
      );
    }
  }
}

main();
