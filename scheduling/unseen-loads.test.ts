/**
 * The estimate held against loads that nothing in it was fitted to (`fixtures/unseen-loads.json`): what
 * engines printed on cards, found after the formula was written.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import type { KvType } from '../protocol/model-profile.ts';
import { sourcePath } from '../test/source-tree.ts';
import { type MemoryNeed, memoryNeed, reserveOf } from './memory.ts';
import { profileNamed } from './test-profiles.ts';
import type { SHAPES } from './test-shapes.ts';

interface Way {
  readonly model: keyof typeof SHAPES;
  readonly mixture?: string;
  readonly context_tokens: number;
  readonly slots?: number;
  readonly unified_slots?: boolean;
  readonly kv_type?: KvType;
  readonly draft_tokens?: number;
  readonly all_outputs?: boolean;
}
interface Load extends Way {
  /** As logged, where the mixture cannot be reproduced. */
  readonly weights?: number;
  readonly total: number;
}
interface Cache extends Way {
  readonly kv: number;
  readonly states: number;
  readonly draft_kv?: number;
}

const MIB = 2 ** 20;
const file = sourcePath('scheduling/fixtures/unseen-loads.json');
const { loads, caches } = JSON.parse(readFileSync(file, 'utf8')) as {
  readonly loads: readonly Load[];
  readonly caches: readonly Cache[];
};

function needOf({ model, mixture, slots = 1, kv_type = 'f16', ...way }: Way): MemoryNeed {
  return memoryNeed(profileNamed(model, mixture), {
    ...{ context_tokens: way.context_tokens, slots, kv_type },
    ...{ flash_attention: true, backend: 'cuda' },
    engine: { ubatch_tokens: 512, all_outputs: way.all_outputs === true },
    unified_slots: way.unified_slots === true,
    draft_tokens: way.draft_tokens ?? 0,
  });
}

test('unseen loads: mean error at most 3 %, none short of more than the reserve', () => {
  const errors = loads.map(load => {
    const need = needOf(load);
    const weights = load.weights === undefined ? need.weights_bytes : load.weights * MIB;
    const bytes = weights + need.kv_bytes + need.compute_bytes;
    const short = load.total * MIB - bytes;
    assert.ok(short <= reserveOf(bytes), `${load.model} is short of ${short / MIB} MiB`);
    const error = -short / (load.total * MIB);
    const line = `${load.model} ${load.context_tokens}: ${(bytes / MIB).toFixed(1)}`;
    console.log(`${line} for ${load.total}, ${(100 * error).toFixed(1)} %`);
    return Math.abs(error);
  });
  const mean = errors.reduce((sum, error) => sum + error, 0) / errors.length;
  console.log(`${errors.length} loads: mean ${(100 * mean).toFixed(1)} %`);
  assert.ok(mean <= 0.03 && Math.max(...errors) <= 0.03);
});

test('unseen loads: caches and states as printed, drafting and with shared slots', () => {
  for (const { kv, states, draft_kv = 0, ...way } of caches) {
    const need = needOf(way);
    const found = [need.recurrent_bytes, need.kv_bytes - need.recurrent_bytes].map(bytes =>
      Number((bytes / MIB).toFixed(1)),
    );
    const printed = [states, kv + draft_kv];
    for (const [at, mib] of printed.entries()) {
      assert.ok(Math.abs((found[at] ?? 0) - mib) <= 0.1, `${JSON.stringify(way)}: ${found}`);
    }
  }
});
