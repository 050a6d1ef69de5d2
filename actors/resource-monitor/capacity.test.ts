/** From probes to adverts: what is declared wins, what is unknown stays unknown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { GpuAdvert } from '../../protocol/node.ts';
import { assemble, isNotable } from './capacity.ts';

const HOST = {
  cpu: { model: 'x', cores: 2, load: 0 },
  ram: { total_bytes: 1000, available_bytes: 900 },
  disk: { total_bytes: null, free_bytes: null },
};
const CARD: GpuAdvert = {
  index: 0,
  uuid: 'u',
  name: 'probed',
  vendor: 'nvidia',
  total_bytes: 8 * 1024 ** 3,
  used_bytes: 1024 ** 3,
  free_bytes: 7 * 1024 ** 3,
  unified: false,
  utilization: 0,
  temperature_c: 40,
  power_w: 20,
  source: 'nvidia-smi',
  measured_at: 1,
};
const found = (gpus: readonly GpuAdvert[]) => [
  { name: 'nvidia', result: { kind: 'found' as const, gpus } },
];

test('declared capacity wins over the probe and keeps what the probe saw in use', () => {
  const measurement = assemble(
    HOST,
    found([CARD]),
    [{ name: 'mine', vram_bytes: 6 * 1024 ** 3 }],
    9,
  );
  const [gpu] = measurement.gpus;
  assert.equal(gpu?.name, 'mine');
  assert.equal(gpu?.source, 'declared');
  assert.equal(gpu?.free_bytes, 5 * 1024 ** 3);
});

test('a probe that could not answer is named with its reason', () => {
  const measurement = assemble(
    HOST,
    [{ name: 'nvidia', result: { kind: 'unknown', reason: 'driver' } }],
    [],
    1,
  );
  assert.deepEqual(measurement.unknown, [{ probe: 'nvidia', reason: 'driver' }]);
  assert.equal(measurement.gpus.length, 0);
});

test('a few megabytes more or less are no news; a card that fills up is', () => {
  const before = assemble(HOST, found([CARD]), [], 1);
  const nearly = assemble(HOST, found([{ ...CARD, free_bytes: 7 * 1024 ** 3 - 1024 }]), [], 2);
  const full = assemble(HOST, found([{ ...CARD, free_bytes: 0 }]), [], 3);
  const lost = assemble(HOST, found([{ ...CARD, free_bytes: null }]), [], 4);
  assert.equal(isNotable(null, before), true);
  assert.equal(isNotable(before, nearly), false);
  assert.equal(isNotable(before, full), true);
  assert.equal(isNotable(full, lost), true);
});
