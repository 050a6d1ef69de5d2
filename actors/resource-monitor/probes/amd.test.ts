/** AMD cards: sysfs trees, what processes hold, and the tools where sysfs is silent. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { amdProbe } from './amd.ts';
import { parseAmdSmi } from './amd-tools.ts';
import { drmScanner, parseFdinfo } from './drm-use.ts';
import { fixture, GIB, HOST, MIB, TestMachine } from './test-machine.ts';

const BUS = '0000:03:00.0';
const machines: TestMachine[] = [];
let machine: TestMachine;

before(async () => {
  machine = await TestMachine.make();
});
after(() => Promise.all([machine, ...machines].map(each => each.remove())));

async function another(): Promise<TestMachine> {
  const made = await TestMachine.make();
  machines.push(made);
  return made;
}

async function holds(on: TestMachine, pid: number, program: string, text: string): Promise<void> {
  await on.file(`/proc/${pid}/comm`, program);
  await on.link(`/proc/${pid}/fd/7`, '/dev/dri/renderD128');
  await on.file(`/proc/${pid}/fdinfo/7`, text);
}

const client = (id: number, vram: string, gtt = '0') =>
  `drm-driver:\tamdgpu\ndrm-pdev:\t${BUS}\ndrm-client-id:\t${id}\ndrm-memory-vram:\t${vram}\ndrm-memory-gtt: \t${gtt}`;

test('a discrete card: its own memory, sensors, name and processes; others are passed over', async () => {
  const device = await machine.drm(1, BUS, {
    vendor: '0x1002',
    device: '0x744c',
    revision: '0xc8',
    mem_info_vram_total: 24 * GIB,
    mem_info_vram_used: 9 * GIB,
    mem_info_gtt_total: 64 * GIB,
    mem_info_gtt_used: 0,
    gpu_busy_percent: 0,
  });
  await machine.files(`${device}/hwmon/hwmon3`, {
    temp1_input: 54_000,
    power1_average: 245_000_000,
  });
  await machine.drm(0, '0000:00:02.0', { vendor: '0x8086' }, 'i915');
  await machine.file('/sys/class/drm/card1-DP-1/device/vendor', '0x1002');
  await machine.file('/usr/share/libdrm/amdgpu.ids', await fixture('amdgpu.ids'));
  await holds(machine, 100, 'llama-server', client(5, '6291456 KiB'));
  await holds(machine, 101, 'llama-server', client(5, '6291456 KiB'));
  await holds(machine, 102, 'Xorg', client(6, '100 MiB'));
  const { cards, problems } = await amdProbe()(machine.site());
  assert.deepEqual(problems, []);
  const [card] = cards;
  assert.equal(cards.length, 1);
  assert.equal(card?.name, 'AMD Radeon RX 7900 XTX');
  assert.deepEqual([card?.free_bytes, card?.unified, card?.integrated], [15 * GIB, false, false]);
  assert.deepEqual([card?.utilization, card?.temperature_c, card?.power_w], [0, 54, 245]);
  assert.equal(card?.bandwidth_bytes_per_s, 960e9);
  // One client, shared by two processes, counts once.
  assert.equal(card?.foreign_bytes, 3 * GIB);
  assert.equal(card?.processes.length, 2);
});

test('an APU with a small carve-out: what it can use is GTT, and no more than the host has', async () => {
  const apu = await another();
  const device = await apu.drm(0, BUS, {
    vendor: '0x1002',
    device: '0x150e',
    revision: '0xd1',
    mem_info_vram_total: 512 * MIB,
    mem_info_vram_used: 100 * MIB,
    mem_info_gtt_total: 110 * GIB,
    mem_info_gtt_used: 2 * GIB,
  });
  await apu.files(`${device}/hwmon/hwmon1`, { in1_label: 'vddnb', temp1_input: 40_000 });
  await holds(apu, 100, 'ollama', client(5, '1024 KiB', '1048576 KiB'));
  const { cards } = await amdProbe()(apu.site());
  const [card] = cards;
  assert.deepEqual([card?.unified, card?.integrated], [true, true]);
  assert.equal(card?.total_bytes, 110 * GIB);
  assert.equal(card?.free_bytes, HOST.available_bytes);
  assert.equal(card?.processes[0]?.bytes, GIB + MIB);
});

test('a small discrete card with much GTT is no APU: it lacks the sensor of one', async () => {
  const small = await another();
  const sizes = {
    vendor: '0x1002',
    mem_info_vram_total: 4 * GIB,
    mem_info_vram_used: 0,
    mem_info_gtt_total: 16 * GIB,
    mem_info_gtt_used: 0,
  };
  const device = await small.drm(0, BUS, sizes);
  await small.file(`${device}/hwmon/hwmon1/fan1_input`, 0);
  await small.drm(1, '0000:09:00.0', { ...sizes, mem_info_vram_total: 512 * MIB });
  const { cards } = await amdProbe()(small.site());
  assert.deepEqual([cards[0]?.unified, cards[0]?.total_bytes], [false, 4 * GIB]);
  assert.deepEqual([cards[1]?.unified, cards[1]?.total_bytes], [true, 16 * GIB]);
});

test('where sysfs has no memory, amd-smi fills the card in, once', async () => {
  const bare = await another();
  await bare.drm(0, BUS, { vendor: '0x1002' });
  await bare.drm(1, '0000:83:00.0', { vendor: '0x1002' });
  await bare.prints('amd-smi', { metric: 'amd-smi-metric.json', static: 'amd-smi-static.json' });
  const { cards, problems } = await amdProbe()(bare.site());
  assert.deepEqual(problems, []);
  assert.deepEqual(
    cards.map(({ name, bus, free_bytes, source }) => [name, bus, free_bytes, source]),
    [
      ['AMD Radeon RX 7900 XTX', BUS, 4_110 * MIB, 'amd-smi'],
      ['AMD Instinct MI300X', '0000:83:00.0', 196_309 * MIB, 'amd-smi'],
    ],
  );
  assert.deepEqual([cards[1]?.power_w, cards[1]?.temperature_c], [null, 41]);
  const older = parseAmdSmi(await fixture('amd-smi-metric-list.json'), '[]', 1);
  assert.equal(older[0]?.used_bytes, 20_450 * MIB);
});

test('without amd-smi, rocm-smi does, whatever it warns of first', async () => {
  const bare = await another();
  await bare.drm(0, '0000:07:00.0', { vendor: '0x1002' });
  await bare.prints('rocm-smi', { json: 'rocm-smi.json' });
  const { cards } = await amdProbe()(bare.site());
  assert.deepEqual(
    cards.map(({ name, free_bytes, utilization }) => [name, free_bytes, utilization]),
    [['AMD Radeon RX 6700 XT', 12_868_124_672 - 1_572_745_216, 0]],
  );
});

test('a card that nothing can read is a card without figures, and every rung says why', async () => {
  const bare = await another();
  await bare.drm(0, BUS, { vendor: '0x1002' });
  await bare.tool('amd-smi', 'echo garbage');
  await bare.tool('rocm-smi', 'echo "no driver" >&2; exit 2');
  const { cards, problems } = await amdProbe()(bare.site());
  assert.deepEqual([cards.length, cards[0]?.free_bytes], [1, null]);
  assert.deepEqual(
    problems.map(({ probe }) => probe),
    ['amd-smi', 'rocm-smi', 'amd'],
  );
  assert.match(problems.at(-1)?.reason ?? '', /declare node\.gpus/);
});

test('in a container the processes are not all', async () => {
  const inside = await TestMachine.make('container');
  machines.push(inside);
  assert.equal((await drmScanner()(inside.site())).isAll, false);
  assert.equal((await drmScanner()(machine.site())).isAll, true);
});

test('a process without a card is left in peace for a while, and then looked at again', async () => {
  const quiet = await another();
  const scan = drmScanner();
  const at = async (now: number) => {
    const use = await scan({ ...quiet.site(), now });
    const pids = use.processesOf(BUS, ['vram']).map(({ pid }) => pid);
    return pids.sort((one, other) => one - other);
  };
  await quiet.file('/proc/9/comm', 'browser');
  for (const now of [0, 5_000, 10_000]) assert.deepEqual(await at(now), []);
  await holds(quiet, 9, 'browser', client(1, '5 MiB'));
  await holds(quiet, 10, 'ollama', client(2, '5 MiB'));
  assert.deepEqual(await at(15_000), [10]);
  assert.deepEqual(await at(41_000), [9, 10]);
});

test('descriptors are read in the words of every driver', async () => {
  const amd = parseFdinfo(await fixture('fdinfo-amdgpu.txt'));
  assert.deepEqual(
    [amd?.bus, amd?.client, amd?.regions.get('vram')],
    ['0000:08:00.0', '217', 2068 * 1024],
  );
  const xe = parseFdinfo(await fixture('fdinfo-xe.txt'));
  assert.equal(xe?.regions.get('vram0'), 23_992 * 1024);
  assert.equal(xe?.regions.get('system'), 0, 'a bare number is bytes');
  assert.equal(parseFdinfo('pos:\t0\nflags:\t02\n'), null);
});
