/**
 * The estimate held against loads that people measured and published (`fixtures/observed-loads.json`),
 * as a table on stdout. Twice: with nothing known of the engine, as before a first load, and with what
 * the report says of its version. The overhead on a card was fitted to the four loads on an RTX 4090,
 * and the choice of the compute buffer made with all of them in view: this is a calibration, and the
 * bounds keep it from getting worse; it is no proof for other models.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { KvType } from '../protocol/model-profile.ts';
import { sourcePath } from '../test/source-tree.ts';
import {
  type EngineBatch,
  GIB,
  type MemoryOptions,
  memoryNeed,
  ollamaBatch,
  reserveOf,
} from './memory.ts';
import { profileNamed } from './test-profiles.ts';
import type { SHAPES } from './test-shapes.ts';

interface Load {
  readonly model: keyof typeof SHAPES;
  readonly mixture: string;
  readonly context_tokens: number;
  readonly slots?: number;
  readonly kv_type?: KvType;
  readonly cards?: number;
  readonly measured_gib: number;
  readonly kind: 'device' | 'buffers';
  readonly engine?: { readonly ollama?: string; readonly all_outputs?: boolean };
  /** That nothing was drafted, where the report shows it. */
  readonly draft_tokens?: 0;
  /** As logged, where the mixture cannot be reproduced; `unpublished`: to be taken from this load. */
  readonly weights_mib?: number;
  readonly weights?: 'unpublished';
}

const file = sourcePath('scheduling/fixtures/observed-loads.json');
const { loads } = JSON.parse(readFileSync(file, 'utf8')) as { readonly loads: readonly Load[] };

function estimateOf(
  load: Load,
  isKnown: boolean,
): { readonly bytes: number; readonly weights: number } {
  const { context_tokens, slots = 1, kv_type = 'f16', cards = 1, draft_tokens } = load;
  const mixture = load.weights_mib === undefined ? load.mixture : 'Q4_K_M';
  const profile = profileNamed(load.model, mixture);
  const engine = isKnown ? engineOf(load, context_tokens * slots) : undefined;
  const options: MemoryOptions = {
    context_tokens,
    slots,
    kv_type,
    flash_attention: true,
    backend: 'cuda',
    ...(engine === undefined ? {} : { engine }),
    ...(draft_tokens === undefined ? {} : { draft_tokens }),
  };
  const need = memoryNeed(profile, options);
  const weights = load.weights_mib === undefined ? need.weights_bytes : load.weights_mib * 2 ** 20;
  const overhead = load.kind === 'device' ? need.overhead_bytes : 0;
  const bytes = weights + need.kv_bytes + cards * (need.compute_bytes + overhead);
  return { bytes, weights };
}

function engineOf({ engine }: Load, tokens: number): EngineBatch | undefined {
  if (engine?.ollama === '0.32.5') return { ubatch_tokens: 512, all_outputs: false };
  if (engine?.ollama !== undefined) return ollamaBatch(engine.ollama, tokens);
  if (engine?.all_outputs === undefined) return undefined;
  return { ubatch_tokens: 512, all_outputs: engine.all_outputs };
}

interface Row {
  readonly load: Load;
  readonly bytes: number;
  readonly error: number;
}

/** Every load but those that had to give their own weights. */
function rowsOf(isKnown: boolean): readonly Row[] {
  let missing = 0;
  return loads.flatMap(load => {
    const measured = load.measured_gib * GIB;
    const { bytes } = estimateOf(load, isKnown);
    if (load.weights === 'unpublished') {
      // The same correction for both passes: the one from the engine as it was.
      missing = measured - estimateOf(load, true).bytes;
      return [];
    }
    const isSibling = load.model === 'qwen3.5:4b';
    const whole = bytes + (isSibling ? missing : 0);
    return [{ load, bytes: whole, error: (whole - measured) / measured }];
  });
}

for (const [isKnown, title] of [
  [false, 'with nothing known of the engine'],
  [true, 'with the version of the engine as reported'],
] as const) {
  test(`observed loads, ${title}: mean error at most 3 %, 95 % within 6 %`, () => {
    const rows = rowsOf(isKnown);
    const errors = rows.map(({ error }) => Math.abs(error)).sort((left, right) => left - right);
    const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
    const p95 = errors[Math.ceil(0.95 * errors.length) - 1] ?? 0;
    for (const { load, bytes, error } of rows) console.log(lineOf(load, bytes, error));
    console.log(`${rows.length} loads: mean ${percent(mean)}, p95 ${percent(p95)} (${title})`);
    assert.ok(rows.length >= 15);
    assert.ok(mean <= 0.03, percent(mean));
    assert.ok(p95 <= 0.06, percent(p95));
    for (const { load, bytes } of rows) {
      const short = load.measured_gib * GIB - bytes;
      assert.ok(short <= reserveOf(bytes), `${load.model} is short of more than the reserve`);
    }
  });
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

function lineOf(load: Load, bytes: number, error: number): string {
  const { model, mixture, context_tokens, slots = 1, kv_type = 'f16', kind } = load;
  return [
    model.padEnd(16),
    mixture.padEnd(11),
    `${slots}x${context_tokens}`.padStart(9),
    kv_type.padEnd(5),
    kind.padEnd(8),
    load.measured_gib.toFixed(3).padStart(7),
    (bytes / GIB).toFixed(3).padStart(7),
    percent(error).padStart(7),
  ].join(' ');
}
