/** From findings to adverts: what is declared wins, what is unknown stays unknown. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GpuAdvert } from '../../protocol/node.ts';
import { SimulatedClock, systemClock } from '../../runtime/clock.ts';
import { assemble, type DeclaredGpu, isNotable } from './capacity.ts';
import { busAddress, type Card, cardOf } from './card.ts';
import { bandwidthOf } from './probes/bandwidth.ts';
import { CpuLoad, parseStat } from './probes/cpu-load.ts';
import { probeHost } from './probes/host.ts';

const GIB = 1024 ** 3;
const HOST = {
  cpu: { model: 'x', cores: 2, load: 0 },
  ram: { total_bytes: 128 * GIB, available_bytes: 60 * GIB },
  disk: { total_bytes: null, free_bytes: null },
};
const CARD = cardOf({
  uuid: 'u',
  name: 'NVIDIA GeForce RTX 3090',
  vendor: 'nvidia',
  total_bytes: 8 * GIB,
  used_bytes: GIB,
  free_bytes: 7 * GIB,
  integrated: false,
  source: 'nvidia-smi',
  measured_at: 1,
});

const measured = (cards: readonly Card[], declared: readonly DeclaredGpu[] = []) =>
  assemble(HOST, { cards, problems: [] }, declared, 9);

test('cards of several makers are numbered in one row, within the form of the message', () => {
  const processes = Array.from({ length: 70 }, (_, pid) => ({
    pid,
    name: 'x'.repeat(300),
    bytes: pid,
    runtime: false,
  }));
  const { gpus } = measured([CARD, { ...CARD, vendor: 'amd', bus: '0000:03:00.0', processes }]);
  assert.deepEqual(
    gpus.map(({ index, vendor }) => [index, vendor]),
    [
      [0, 'nvidia'],
      [1, 'amd'],
    ],
  );
  for (const gpu of gpus) GpuAdvert.parse(gpu);
  assert.equal(gpus[1]?.processes?.[0]?.pid, 69, 'the largest are kept');
  assert.equal('bus' in (gpus[1] ?? {}), false);
});

test('declared capacity wins over the probe and keeps what the probe saw in use', () => {
  const [gpu] = measured([CARD], [{ name: 'mine', vram_bytes: 6 * GIB }]).gpus;
  assert.deepEqual([gpu?.name, gpu?.source, gpu?.free_bytes], ['mine', 'declared', 5 * GIB]);
});

test('a card declared larger than its driver admits lives in the memory of the host', () => {
  const [gpu] = measured([CARD], [{ name: 'N1X', vram_bytes: 96 * GIB }]).gpus;
  assert.deepEqual([gpu?.unified, gpu?.total_bytes, gpu?.free_bytes], [true, 96 * GIB, 60 * GIB]);
});

test('a declared card that no probe sees is free as declared; integrated graphics are not meant', () => {
  const igpu = cardOf({
    name: 'Intel integrated graphics',
    vendor: 'intel',
    unified: true,
    integrated: true,
    source: 'sysfs',
    measured_at: 1,
  });
  const declared = [{ name: 'RTX 3090', vram_bytes: 24 * GIB }];
  assert.equal(measured([], declared).gpus[0]?.free_bytes, 24 * GIB);
  const [gpu] = measured([igpu, CARD], declared).gpus;
  assert.deepEqual([gpu?.uuid, gpu?.free_bytes], ['u', 23 * GIB]);
});

test('a probe that could not answer is named with its reason', () => {
  const problems = [{ probe: 'nvidia-smi', reason: 'driver' }];
  const { gpus, unknown } = assemble(HOST, { cards: [], problems }, [], 1);
  assert.deepEqual([gpus, unknown], [[], problems]);
});

test('a few megabytes more or less are no news; a card that fills up is', () => {
  const before = measured([CARD]);
  const nearly = measured([{ ...CARD, free_bytes: 7 * GIB - 1024 }]);
  const full = measured([{ ...CARD, free_bytes: 0 }]);
  const lost = measured([{ ...CARD, free_bytes: null }]);
  assert.equal(isNotable(null, before), true);
  assert.equal(isNotable(before, nearly), false);
  assert.equal(isNotable(before, full), true);
  assert.equal(isNotable(full, lost), true);
});

test('addresses are one however many digits their domain has', () => {
  assert.equal(busAddress('00000000:01:00.0'), '0000:01:00.0');
  assert.equal(busAddress('0000000F:01:00.0'), '000f:01:00.0');
  assert.equal(busAddress('0000:C1:00.0'), '0000:c1:00.0');
  assert.equal(busAddress('N/A'), null);
});

test('bandwidth follows from the name, the longer name before the shorter', () => {
  const known: Readonly<Record<string, number>> = {
    'NVIDIA GeForce RTX 3060': 360,
    'NVIDIA GeForce RTX 3060 Ti': 448,
    'NVIDIA GeForce RTX 4070 Ti SUPER': 672,
    'NVIDIA GeForce RTX 4070': 504,
    'NVIDIA GeForce RTX 4070 Laptop GPU': 256,
    'NVIDIA GeForce RTX 5090': 1_792,
    'NVIDIA GeForce RTX 2080 Ti': 616,
    'NVIDIA A100-SXM4-80GB': 2_039,
    'NVIDIA A100-PCIE-40GB': 1_555,
    'NVIDIA RTX A4000': 448,
    'NVIDIA H100 80GB HBM3': 3_350,
    'NVIDIA H200': 4_800,
    'NVIDIA GH200 480GB': 4_000,
    'NVIDIA L40S': 864,
    'Tesla T4': 320,
    'NVIDIA GB10': 273,
    'NVIDIA Jetson AGX Orin Developer Kit': 204.8,
    'AMD Radeon RX 7900 XTX': 960,
    'AMD Radeon RX 7900 XT': 800,
    'AMD Radeon 8060S Graphics': 256,
    'Apple M1': 68,
    'Apple M2 Ultra': 800,
    'Apple M4 Max': 410,
    'Intel Arc B580 Graphics': 456,
  };
  for (const [name, rate] of Object.entries(known)) {
    assert.equal(bandwidthOf(name), rate * 1e9, name);
  }
  assert.equal(bandwidthOf('GPU 10de:ffff'), null);
});

test('the load of the processors is that of the time since the reading before', async () => {
  const load = new CpuLoad();
  assert.equal(await load.read(0), null);
  const until = performance.now() + 300;
  while (performance.now() < until) Math.sqrt(until);
  const busy = await load.read(300);
  assert.ok(busy !== null && busy > 0 && busy <= 1, `${busy}`);
  assert.equal(await load.read(310), busy, 'asked again at once');
  const stat =
    'cpu  74608 2520 24433 1117073 6176 4054 0 10 300 0\ncpu0 37784 1260 12217 558536 3088 2027 0 0 0 0\n';
  assert.deepEqual(parseStat(stat), { busy: 105_625, all: 1_228_874 });
  for (const bad of ['', 'cpu\n', 'cpu 1 2 3\n', 'cpu a b c d e f g h\n', 'intr 1 2 3 4 5 6\n']) {
    assert.equal(parseStat(bad), null, bad);
  }
});

test('figures of the host carry their source and their time; what does not come is unknown', async () => {
  const now = systemClock.now();
  const host = await probeHost('/', new CpuLoad(), systemClock);
  assert.ok(host.ram.total_bytes > 0 && host.ram.available_bytes <= host.ram.total_bytes);
  assert.ok((host.disk.total_bytes ?? 0) > 0);
  for (const figure of [host.cpu, host.ram, host.disk]) {
    assert.ok((figure.measured_at ?? 0) >= now && figure.source);
  }
  const nowhere = await probeHost('/no/such/folder', new CpuLoad(), new SimulatedClock());
  assert.equal(nowhere.disk.total_bytes, null);
});
