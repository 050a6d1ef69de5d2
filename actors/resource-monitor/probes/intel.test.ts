/** Intel cards: what each driver tells, the tool where it tells nothing, and integrated graphics. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { intelProbe } from './intel.ts';
import { fixture, GIB, TestMachine } from './test-machine.ts';

const BUS = '0000:03:00.0';

test('xe: the memory of the tiles, less what all clients hold', async t => {
  const machine = await TestMachine.make();
  t.after(() => machine.remove());
  await machine.drm(0, BUS, { vendor: '0x8086', 'tile0/physical_vram_size_bytes': 12 * GIB }, 'xe');
  await machine.drm(1, '0000:00:02.0', { vendor: '0x8086' }, 'i915');
  await machine.link('/proc/50/fd/3', '/dev/dri/renderD128');
  await machine.file('/proc/50/fdinfo/3', await fixture('fdinfo-xe.txt'));
  await machine.file('/proc/50/comm', 'ollama');
  const { cards, problems } = await intelProbe()(machine.site());
  assert.deepEqual(problems, []);
  assert.equal(cards[0]?.free_bytes, 12 * GIB - 23_992 * 1024);
  assert.equal(cards[0]?.foreign_bytes, 0);
  assert.deepEqual([cards[1]?.integrated, cards[1]?.free_bytes], [true, null]);
});

test('i915 where it tells; xpu-smi where it does not; a remedy where nothing does', async t => {
  const machine = await TestMachine.make('container');
  t.after(() => machine.remove());
  await machine.drm(0, BUS, { vendor: '0x8086' }, 'i915');
  const unread = await intelProbe()(machine.site());
  assert.equal(unread.cards[0]?.free_bytes, null);
  assert.match(unread.problems[0]?.reason ?? '', /declare node\.gpus/);

  await machine.prints('xpu-smi', {
    '-d 0': 'xpu-smi-device.json',
    discovery: 'xpu-smi-list.json',
  });
  const [card] = (await intelProbe()(machine.site())).cards;
  assert.deepEqual([card?.free_bytes, card?.source], [16_000_000_000, 'xpu-smi']);
  assert.equal(card?.bandwidth_bytes_per_s, 512e9);

  await machine.files('/sys/class/drm/card0', {
    lmem_total_bytes: 16 * GIB,
    lmem_avail_bytes: 10 * GIB,
  });
  const [told] = (await intelProbe()(machine.site())).cards;
  assert.deepEqual([told?.free_bytes, told?.source], [10 * GIB, 'sysfs']);
});
