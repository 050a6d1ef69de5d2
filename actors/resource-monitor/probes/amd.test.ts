/** sysfs trees of AMD cards, laid out in a temporary folder. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { probeAmd } from './amd.ts';

const GIB = 1024 ** 3;
let root = '';

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'codegod-amd-'));
});
after(() => rm(root, { recursive: true, force: true }));

async function card(tree: string, name: string, files: Record<string, string | number>) {
  const device = join(root, tree, name, 'device');
  await mkdir(device, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    await writeFile(join(device, file), `${content}\n`);
  }
}

test('a discrete card: its own memory counts, connectors and other vendors are passed over', async () => {
  await card('discrete', 'card1', {
    vendor: '0x1002',
    mem_info_vram_total: 16 * GIB,
    mem_info_vram_used: 3 * GIB,
    mem_info_gtt_total: 32 * GIB,
    mem_info_gtt_used: 0,
    gpu_busy_percent: 0,
  });
  await card('discrete', 'card0', { vendor: '0x8086' });
  await card('discrete', 'card1-DP-1', { vendor: '0x1002' });
  const result = await probeAmd(join(root, 'discrete'), 5);
  assert.equal(result.kind, 'found');
  const gpus = result.kind === 'found' ? result.gpus : [];
  assert.equal(gpus.length, 1);
  assert.equal(gpus[0]?.free_bytes, 13 * GIB);
  assert.equal(gpus[0]?.unified, false);
  assert.equal(gpus[0]?.utilization, 0);
});

test('an APU with a small carve-out: what it can use is GTT', async () => {
  await card('apu', 'card0', {
    vendor: '0x1002',
    mem_info_vram_total: 512 * 1024 ** 2,
    mem_info_vram_used: 100,
    mem_info_gtt_total: 30 * GIB,
    mem_info_gtt_used: 2 * GIB,
  });
  const result = await probeAmd(join(root, 'apu'), 5);
  const gpu = result.kind === 'found' ? result.gpus[0] : undefined;
  assert.equal(gpu?.unified, true);
  assert.equal(gpu?.total_bytes, 30 * GIB);
  assert.equal(gpu?.free_bytes, 28 * GIB);
});

test('a missing figure is unknown, a missing tree is absent', async () => {
  await card('bare', 'card0', { vendor: '0x1002' });
  const bare = await probeAmd(join(root, 'bare'), 5);
  assert.equal(bare.kind === 'found' ? bare.gpus[0]?.free_bytes : 'nothing', null);
  assert.deepEqual(await probeAmd(join(root, 'none'), 5), { kind: 'absent' });
});
