/** What observed loads teach, and what they must not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { correctionOf, emptyResiduals, type LoadKind, learn } from './residual.ts';

const GIB = 1024 ** 3;
const KIND: LoadKind = {
  architecture: 'llama',
  engine_version: '0.33.2',
  backend: 'cuda',
  kv_type: 'f16',
};
const observed = (estimated: number, measured: number, kind = KIND) => ({
  kind,
  estimated_bytes: Math.round(estimated * GIB),
  measured_bytes: Math.round(measured * GIB),
});
const correctedGib = (estimated: number, ...loads: readonly (readonly [number, number])[]) => {
  const table = loads.reduce((all, [e, m]) => learn(all, observed(e, m)), emptyResiduals);
  const bytes = Math.round(estimated * GIB);
  return (bytes + correctionOf(table, KIND, bytes).residual_bytes) / GIB;
};

test('without an observation the estimate stands', () => {
  assert.deepEqual(correctionOf(emptyResiduals, KIND, GIB), {
    residual_bytes: 0,
    source: 'estimate',
  });
});

test('a load that took more raises the estimates of its kind, and of no other', () => {
  const table = learn(emptyResiduals, observed(10, 11));
  assert.equal(correctionOf(table, KIND, 10 * GIB).residual_bytes, GIB);
  for (const other of [
    { ...KIND, architecture: 'qwen3' },
    { ...KIND, engine_version: '0.34.0' },
    { ...KIND, engine_version: null },
    { ...KIND, backend: 'metal' },
    { ...KIND, kv_type: 'q8_0' },
  ]) {
    assert.equal(correctionOf(table, other, 10 * GIB).residual_bytes, 0);
  }
});

test('what a small load missed is not multiplied for a large one, nor the other way round', () => {
  assert.ok(Math.abs(correctedGib(40, [1, 1.2]) - 40.2) < 0.01);
  assert.ok(Math.abs(correctedGib(1, [40, 41]) - 1.025) < 0.01);
});

test('estimates are lowered only after several different loads, and by a fifth at most', () => {
  assert.equal(correctedGib(10, [10, 9]), 10);
  assert.equal(correctedGib(10, [10, 9], [10, 8.5], [10, 9]), 10, 'one load, seen three times');
  assert.ok(Math.abs(correctedGib(10, [10, 9], [12, 10.8], [14, 12.6]) - 9) < 0.01);
  assert.ok(correctedGib(10, [10, 6], [12, 7], [14, 8]) >= 8);
});

test('what cannot be a measurement of the load teaches nothing', () => {
  for (const measured of [0, 4, 25, Number.NaN, Number.POSITIVE_INFINITY]) {
    assert.equal(learn(emptyResiduals, observed(10, measured)), emptyResiduals);
  }
  assert.equal(learn(emptyResiduals, observed(0, 10)), emptyResiduals);
});

const loads = fc.array(
  fc.record({
    kind: fc.constantFrom(KIND, { ...KIND, kv_type: 'q8_0' }, { ...KIND, backend: 'rocm' }),
    estimated_bytes: fc.integer({ min: 1, max: 100 * GIB }),
    share: fc.double({ min: 0.5, max: 2, noNaN: true }),
  }),
  { minLength: 1, maxLength: 24 },
);

test('no estimate falls below what was observed for the same load', () => {
  fc.assert(
    fc.property(loads, all => {
      const observations = all.map(({ kind, estimated_bytes, share }) => ({
        kind,
        estimated_bytes,
        measured_bytes: Math.round(estimated_bytes * share),
      }));
      const table = observations.reduce(learn, emptyResiduals);
      for (const { kind, estimated_bytes, measured_bytes } of observations) {
        const ratio = measured_bytes / estimated_bytes;
        if (ratio < 0.5 || ratio > 2) continue;
        const { residual_bytes } = correctionOf(table, kind, estimated_bytes);
        assert.ok(estimated_bytes + residual_bytes >= measured_bytes, 'below the observed');
      }
    }),
  );
});

test('a larger estimate stays the larger one', () => {
  const bytes = fc.integer({ min: 1, max: 100 * GIB });
  fc.assert(
    fc.property(loads, bytes, bytes, (all, one, other) => {
      const table = all.reduce(
        (known, { kind, estimated_bytes, share }) =>
          learn(known, {
            kind,
            estimated_bytes,
            measured_bytes: Math.round(estimated_bytes * share),
          }),
        emptyResiduals,
      );
      const corrected = (estimate: number) =>
        estimate + correctionOf(table, KIND, estimate).residual_bytes;
      assert.ok(corrected(Math.min(one, other)) <= corrected(Math.max(one, other)), 'order');
    }),
  );
});

test('the table is bounded in kinds and in samples', () => {
  let table = emptyResiduals;
  for (let index = 0; index < 400; index++) {
    table = learn(table, observed(10, 11, { ...KIND, architecture: `a${index}` }));
    table = learn(table, observed(10 + index, 11 + index));
  }
  assert.equal(table.size, 256);
  assert.ok([...table.values()].every(samples => samples.length <= 32));
});
