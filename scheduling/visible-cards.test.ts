/** Which cards an engine sees by the variables of its process, and what room a node has then. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { GpuAdvert, VisibleDevices } from '../protocol/node.ts';
import { backendOf, capacityFor } from './node-cards.ts';
import { roomOf } from './node-room.ts';
import { GIB, nodeView } from './test-nodes.ts';
import { visibleCards } from './visible-cards.ts';

const ENVIRONMENT = {
  ...{ num_parallel: 1, kv_type: 'f16', flash_attention: null },
  ...{ max_loaded_models: 0, max_queue: 512, source: 'process' },
};
const gpus = [24, 8].map(gib => ({ free: gib * GIB, total: gib * GIB }));
const view = (visible_devices: VisibleDevices) =>
  nodeView({ id: 'a', gpus, environment: { ...ENVIRONMENT, visible_devices } });
const card = (vendor: string, uuid: string | null = null, changes: object = {}): GpuAdvert =>
  ({ index: 0, vendor, uuid, name: `${vendor} ${uuid}`, ...changes }) as never;
const cards = [
  card('nvidia', 'GPU-aa11'),
  card('nvidia', 'GPU-bb22'),
  card('amd', 'GPU-cc33'),
  card('amd', 'GPU-dd44'),
  card('intel', 'i'),
  card('apple', 'm'),
];
const seen = (visible: VisibleDevices, all: readonly GpuAdvert[] = cards): string =>
  visibleCards(all, visible)
    .map(({ uuid }) => (uuid ?? '').slice(-2))
    .join(' ');

describe('the cards that an engine sees', () => {
  it('are all the room of its node, whatever else is there', () => {
    const room = roomOf(view({ CUDA_VISIBLE_DEVICES: '1' }));
    assert.deepEqual([room.free_bytes, room.room.cards.map(({ index }) => index)], [8 * GIB, [1]]);
    assert.equal(roomOf(view({})).free_bytes, 32 * GIB);
  });

  it('may be none, and the node computes in main memory', () => {
    for (const list of ['-1', '', 'none']) {
      const blind = view({ CUDA_VISIBLE_DEVICES: list });
      assert.equal(roomOf(blind).kind, 'ram', list);
      const engines = blind.runtime?.advert.engines ?? [];
      assert.equal(backendOf(capacityFor(blind.capacity?.advert ?? null, engines)), 'cpu');
    }
  });

  it('are counted once, however often they are asked for', () => {
    const { capacity, runtime } = view({ CUDA_VISIBLE_DEVICES: '1' });
    const engines = runtime?.advert.engines ?? [];
    const once = capacityFor(capacity?.advert ?? null, engines);
    assert.equal(capacityFor(once, [...engines]), once);
    assert.equal(capacityFor(capacity?.advert ?? null, engines), once);
  });

  it('are named by number, by id or its start, up to the first that is none', () => {
    assert.equal(seen({}), '11 22 33 44 i m');
    assert.equal(seen({ CUDA_VISIBLE_DEVICES: 'GPU-bb' }), '22 33 44 i m');
    assert.equal(seen({ CUDA_VISIBLE_DEVICES: 'GPU-' }), '33 44 i m');
    assert.equal(
      seen({ CUDA_VISIBLE_DEVICES: '1, -1, 0', HIP_VISIBLE_DEVICES: '0,1' }),
      '22 33 44 i m',
    );
  });

  it('are counted by HIP among those that ROCr leaves', () => {
    assert.equal(seen({ ROCR_VISIBLE_DEVICES: '1' }), '11 22 44 i m');
    assert.equal(seen({ ROCR_VISIBLE_DEVICES: '1', HIP_VISIBLE_DEVICES: '0' }), '11 22 44 i m');
    assert.equal(
      seen({ ROCR_VISIBLE_DEVICES: 'GPU-cc33', HIP_VISIBLE_DEVICES: '' }),
      '11 22 33 i m',
    );
    assert.equal(seen({ HIP_VISIBLE_DEVICES: '-1' }), '11 22 i m');
    assert.equal(seen({ CUDA_VISIBLE_DEVICES: '0' }), '11 33 i m');
  });

  it('are numbered by Vulkan over all vendors', () => {
    assert.equal(seen({ GGML_VK_VISIBLE_DEVICES: '4' }), '11 22 33 44 i m');
    assert.equal(seen({ GGML_VK_VISIBLE_DEVICES: '-1' }), '11 22 33 44 m');
  });

  it('are all where slices have numbers that nobody can tell', () => {
    const slices = ['MIG-aa', 'MIG-bb'].map(id => card('nvidia', id, { mig_profile: '1g.10gb' }));
    assert.equal(seen({ CUDA_VISIBLE_DEVICES: '0' }, slices), 'aa bb');
    assert.equal(seen({ CUDA_VISIBLE_DEVICES: 'MIG-bb' }, slices), 'bb');
  });
});
