/**
 * `estimate`: how much memory a model takes with a context, where it fits, and the largest context
 * that still does. Needs no running system.
 */
import type { KvType, ModelProfile } from '../../protocol/model-profile.ts';
import { type Fit, fit, largestContext, type Room } from '../../scheduling/fit.ts';
import {
  type Backend,
  type MemoryNeed,
  type MemoryOptions,
  memoryNeed,
  ollamaBatch,
} from '../../scheduling/memory.ts';
import type { CommandContext } from '../context.ts';
import { type EstimatedModel, readModel } from '../estimate-model.ts';
import { readRoom } from '../estimate-room.ts';
import { contextOf } from '../estimate-size.ts';
import { EXIT } from '../exit-code.ts';
import { table } from '../terminal.ts';

export interface EstimateOptions {
  readonly show?: string;
  readonly gguf?: string;
  readonly ctx: string;
  readonly slots: number;
  readonly kv: KvType;
  readonly gpu?: string;
  readonly ram?: string;
  readonly backend: Backend;
  /** Version of Ollama that will run it; null where nobody said. */
  readonly engine?: string;
  /** Tokens computed at once. */
  readonly batch?: number;
  readonly flashAttention: boolean;
  readonly unified: boolean;
  /** Tokens drafted at once; absent where nobody said. */
  readonly draft?: number;
}

export async function estimate(
  context: CommandContext,
  model: string | undefined,
  flags: EstimateOptions,
): Promise<number> {
  const context_tokens = contextOf(flags.ctx, '--ctx');
  const { show, gguf } = flags;
  const host = async (): Promise<string> => (await context.config()).ollama.host;
  const [found, room] = await Promise.all([
    readModel({ model, show, gguf }, host),
    readRoom(flags, () => context.config()),
  ]);
  // Where there is no card, the model runs in main memory.
  const backend = room !== null && room.cards.length === 0 ? 'cpu' : flags.backend;
  const options = optionsOf({ ...flags, backend }, context_tokens, found);
  const need = memoryNeed(found.profile, options);
  const offload = { offload: flags.ram !== undefined };
  const doubts = [...found.doubts, ...guessesOf(found.profile, options, need)];
  const fitted = room === null ? null : fit(found.profile, options, room, offload);
  const largest = room === null ? null : largestOf(found, options, room, offload.offload);
  const { terminal } = context;
  terminal.result(shape({ ...found, doubts }, options, need, fitted, largest), () =>
    view(found, options, need, fitted, largest),
  );
  for (const doubt of doubts) terminal.note(`${found.name}: ${doubt}`);
  const { context_max } = found.profile;
  if (context_max > 0 && context_tokens > context_max) {
    terminal.note(`${found.name} was made for contexts up to ${context_max} tokens`);
  }
  if (room === null) terminal.note('no card given and none found here: --gpu 24GiB, --ram 32GiB');
  return EXIT.ok;
}

function optionsOf(
  flags: EstimateOptions,
  context_tokens: number,
  { engine_version }: EstimatedModel,
): MemoryOptions {
  const { slots, kv, backend, batch, unified, draft } = flags;
  const version = flags.engine ?? engine_version;
  const tokens = context_tokens * (unified ? 1 : slots);
  const all_outputs = ollamaBatch(version, tokens)?.all_outputs ?? false;
  return {
    context_tokens,
    slots,
    kv_type: kv,
    flash_attention: flags.flashAttention,
    backend,
    engine_version: version,
    ...(unified ? { unified_slots: true } : {}),
    ...(draft === undefined ? {} : { draft_tokens: draft }),
    ...(batch === undefined ? {} : { engine: { ubatch_tokens: batch, all_outputs } }),
  };
}

/** What was taken for the larger of two, since it depends on what nobody knows of the engine. */
function guessesOf(
  { drafting, index_heads }: ModelProfile,
  { draft_tokens }: MemoryOptions,
  { draft_bytes }: MemoryNeed,
): string[] {
  const isGuess = draft_tokens === undefined && (drafting?.tokens ?? null) === null;
  return [
    ...(draft_bytes > 0 && isGuess
      ? [
          `${mib(draft_bytes)} are for drafting with its predicting layers, which not every engine does: \`--draft 0\` leaves them out`,
        ]
      : []),
    ...(index_heads === undefined
      ? []
      : [
          `its attention is sparse: the compute buffer is an upper guess, with the scores of all ${index_heads} heads of the index, which newer engines do not keep`,
        ]),
  ];
}

/** Without spilling where that is possible at all, else with it. */
function largestOf(
  { profile }: EstimatedModel,
  options: MemoryOptions,
  room: Room,
  offload: boolean,
): number | null {
  return (
    largestContext(profile, options, room, { offload: false }) ??
    (offload ? largestContext(profile, options, room, { offload }) : null)
  );
}

function shape(
  { name, profile, doubts }: EstimatedModel,
  options: MemoryOptions,
  need: MemoryNeed,
  fitted: Fit | null,
  largest: number | null,
): unknown {
  const { context_tokens, slots, kv_type, backend } = options;
  return {
    model: name,
    architecture: profile.architecture,
    context_tokens,
    slots,
    kv_type,
    backend,
    weights_bytes: need.weights_bytes,
    kv_bytes: need.kv_bytes,
    recurrent_bytes: need.recurrent_bytes,
    draft_bytes: need.draft_bytes,
    compute_bytes: need.compute_bytes,
    projector_bytes: need.projector_bytes,
    overhead_bytes: need.overhead_bytes,
    total_bytes: need.total_bytes,
    host_bytes: need.host_bytes,
    reserve_bytes: need.reserve_bytes,
    fits:
      fitted === null
        ? null
        : {
            kind: fitted.kind,
            cards: fitted.cards,
            ram_bytes: fitted.ram_bytes,
            slowdown: fitted.slowdown,
            short_bytes: fitted.short_bytes,
          },
    largest_context_tokens: largest,
    source: profile.source,
    doubts,
  };
}

const MIB = 2 ** 20;
const GIB = 2 ** 30;
const mib = (bytes: number): string => `${(bytes / MIB).toFixed(1)} MiB`;
const gib = (bytes: number): string => `${(bytes / GIB).toFixed(2)} GiB`;

function view(
  { name, profile }: EstimatedModel,
  options: MemoryOptions,
  need: MemoryNeed,
  fitted: Fit | null,
  largest: number | null,
): string {
  const { context_tokens, slots, kv_type, backend } = options;
  const ofState = need.recurrent_bytes > 0 ? `, ${mib(need.recurrent_bytes)} of it state` : '';
  const shared = options.unified_slots === true ? `${slots} slots in` : `${slots} ×`;
  const tokens = `${shared} ${context_tokens}`;
  const where = backend === 'cpu' ? 'in main memory' : `on one ${backend} card`;
  const rows = [
    ['weights', mib(need.weights_bytes), where],
    ['cache', mib(need.kv_bytes), `${kv_type}, ${tokens} tokens${ofState}`],
    ['compute', mib(need.compute_bytes), 'buffer of the graph'],
    ['projector', mib(need.projector_bytes), need.projector_bytes > 0 ? 'images or sound' : ''],
    ['overhead', mib(need.overhead_bytes), 'driver and libraries'],
    ['total', mib(need.total_bytes), gib(need.total_bytes)],
    ['reserve', mib(need.reserve_bytes), 'to be kept free besides'],
    ['host', mib(need.host_bytes), 'of main memory besides'],
  ];
  const width = Math.max(...rows.map(([, size]) => size?.length ?? 0));
  return [
    `${name}: ${profile.architecture}, from ${SOURCES[profile.source]}`,
    '',
    table(rows.map(([part = '', size = '', note = '']) => [part, size.padStart(width), note])),
    ...(fitted === null ? [] : ['', sentenceOf(fitted)]),
    ...(fitted === null ? [] : [largestSentence(largest)]),
  ].join('\n');
}

const SOURCES = { show: 'an /api/show answer', gguf: 'a GGUF header', size: 'its size alone' };

function sentenceOf({ kind, cards, ram_bytes, slowdown, short_bytes }: Fit): string {
  const on = cards.map(({ index, bytes }) => `card ${index}: ${gib(bytes)}`).join(', ');
  switch (kind) {
    case 'single':
      return `fits on one card (${on})`;
    case 'multi':
      return `fits over ${cards.length} cards (${on})`;
    case 'partial':
      return `fits partly (${on}), ${gib(ram_bytes)} in main memory: ${slowdown.toFixed(1)} times slower`;
    case 'cpu':
      return `fits in main memory (${gib(ram_bytes)})`;
    case 'unknown':
      return 'nobody knows how much memory is free';
    case 'none':
      return `does not fit: ${gib(short_bytes)} short`;
  }
}

function largestSentence(largest: number | null): string {
  return largest === null
    ? 'no context is small enough to fit'
    : `largest context that fits: ${largest} tokens per slot`;
}
