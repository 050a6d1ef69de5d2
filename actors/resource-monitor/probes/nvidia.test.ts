/** `nvidia-smi`, good and bad: many cards, slices, processes, old drivers, a tool that is not there. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { nvidiaProbe } from './nvidia.ts';
import { parseProcesses } from './nvidia-processes.ts';
import { fixture, GIB, HOST, MIB, TestMachine } from './test-machine.ts';

const GPUS = { 'query-compute-apps': 'nvidia-processes.csv', 'query-gpu': 'nvidia-many.csv' };

async function on<T>(
  prepare: (machine: TestMachine) => Promise<void>,
  look: (machine: TestMachine) => Promise<T>,
  namespace: 'host' | 'container' = 'host',
): Promise<T> {
  const machine = await TestMachine.make(namespace);
  try {
    await prepare(machine);
    return await look(machine);
  } finally {
    await machine.remove();
  }
}

const probed = (
  prepare: (machine: TestMachine) => Promise<void>,
  namespace: 'host' | 'container' = 'host',
) => on(prepare, machine => nvidiaProbe()(machine.site()), namespace);

test('many cards: a full card has 0 free, an idle card 0 utilization, what is unread is unknown', async () => {
  const { cards, problems } = await probed(machine => machine.prints('nvidia-smi', GPUS));
  assert.deepEqual(problems, []);
  const [first, full, idle, refused] = cards;
  assert.equal(first?.total_bytes, 24_576 * MIB);
  assert.equal(first?.utilization, 0.07);
  assert.equal(first?.driver_version, '570.153.02');
  assert.equal(first?.bus, '0000:01:00.0');
  assert.equal(first?.bandwidth_bytes_per_s, 936e9);
  assert.equal(first?.measured_at, 7);
  assert.deepEqual([full?.free_bytes, full?.utilization, full?.power_w], [0, 0, null]);
  assert.deepEqual([idle?.used_bytes, idle?.foreign_bytes], [0, 0]);
  assert.deepEqual(
    [refused?.total_bytes, refused?.free_bytes, refused?.unified, refused?.temperature_c],
    [null, null, false, null],
  );
});

test('what model runtimes hold is ours, the rest is foreign', async () => {
  const { cards } = await probed(machine => machine.prints('nvidia-smi', GPUS));
  const [first, full] = cards;
  assert.deepEqual(
    first?.processes.map(({ name, runtime, bytes }) => [name, runtime, bytes]),
    [
      ['llama-server', true, 6_914 * MIB],
      ['blender', false, 1_820 * MIB],
    ],
  );
  assert.equal(first?.foreign_bytes, (9_254 - 6_914) * MIB);
  assert.equal(full?.foreign_bytes, (8_188 - 8_020) * MIB);
});

test('in a container nobody can tell whose memory it is', async () => {
  const inside = await probed(machine => machine.prints('nvidia-smi', GPUS), 'container');
  assert.equal(inside.cards[0]?.foreign_bytes, null);
  const unnamed = await probed(machine =>
    machine.prints('nvidia-smi', {
      'query-compute-apps': 'nvidia-processes-container.csv',
      'query-gpu': 'nvidia-many.csv',
    }),
  );
  assert.deepEqual(
    unnamed.cards.slice(0, 2).map(({ foreign_bytes }) => foreign_bytes),
    [null, null],
  );
  assert.equal(unnamed.cards[1]?.processes[0]?.runtime, true, 'ollama.exe, though not measured');
});

test('processes that cannot be listed leave the cards as they are', async () => {
  const { cards } = await probed(machine =>
    machine.prints('nvidia-smi', { 'query-gpu': 'nvidia-many.csv' }),
  );
  assert.equal(cards.length, 4);
  assert.equal(parseProcesses('<html>'), null);
  assert.deepEqual(parseProcesses('No running processes found\n'), []);
});

test('a card without memory of its own has that of the host', async () => {
  const { cards } = await probed(machine =>
    machine.prints('nvidia-smi', {
      'query-compute-apps': 'nvidia-processes-gb10.csv',
      'query-gpu': 'nvidia-gb10.csv',
    }),
  );
  const [card] = cards;
  assert.deepEqual(
    [card?.unified, card?.integrated, card?.total_bytes, card?.free_bytes],
    [true, true, HOST.total_bytes, HOST.available_bytes],
  );
  assert.equal(card?.bus, '000f:01:00.0');
  assert.equal(card?.foreign_bytes, 28 * GIB - 19_135 * MIB);
});

test('a card in slices is its slices; one without slices has nothing free, and says what to do', async () => {
  const { cards, problems } = await probed(machine =>
    machine.prints('nvidia-smi', {
      'query-compute-apps': 'nvidia-processes-gb10.csv',
      'query-gpu': 'nvidia-mig.csv',
      '-L': 'nvidia-mig-list.txt',
      '-q -x': 'nvidia-mig.xml',
    }),
  );
  const [whole, large, small, empty] = cards;
  assert.equal(whole?.mig_profile, null);
  assert.equal(whole?.free_bytes, 81_050 * MIB);
  assert.deepEqual(
    [large?.mig_profile, large?.total_bytes, large?.used_bytes, large?.free_bytes],
    ['3g.40gb', 40_320 * MIB, 14_233 * MIB, 26_087 * MIB],
  );
  assert.equal(large?.uuid, 'MIG-51fa7c7a-4c41-59bf-b08a-9cb4b47525a7');
  assert.equal(large?.foreign_bytes, (14_233 - 12_195) * MIB);
  assert.equal(large?.bandwidth_bytes_per_s, 2_039e9 / 2);
  assert.deepEqual([small?.mig_profile, small?.processes], ['1g.10gb+me', []]);
  assert.deepEqual([empty?.free_bytes, empty?.total_bytes], [0, 81_920 * MIB]);
  assert.match(problems[0]?.reason ?? '', /mig -cgi/);
});

test('a driver that does not know a field is asked without it, and asked for it only once', async () => {
  await on(
    machine =>
      machine.tool(
        'nvidia-smi',
        `case "$*" in
          *mig.mode*) echo x >> '${machine.root}/refused'; echo 'Field "mig.mode.current" is not a valid field to query.'; exit 2;;
          *query-gpu*) echo '0, GPU-a, GeForce GTX 1080, 8119, 411, 7708, 2, 45, 41.20, 00000000:01:00.0, 430.64';;
        esac`,
      ),
    async machine => {
      const probe = nvidiaProbe();
      for (let round = 0; round < 2; round++) {
        const { cards } = await probe(machine.site());
        assert.equal(cards[0]?.free_bytes, 7_708 * MIB);
      }
      const site = machine.site();
      const refused = await site.run('/bin/cat', [`${machine.root}/refused`], site.signal);
      assert.deepEqual(refused, { kind: 'ok', stdout: 'x\n' });
    },
  );
});

test('a driver that fails or talks nonsense is a problem in its own words', async () => {
  const failing = await fixture('nvidia-driver-error.txt');
  const cases: readonly (readonly [string, RegExp])[] = [
    [`echo "${failing}"; exit 9`, /couldn't communicate/],
    [`echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18`, /mismatch/],
    [`echo '<html>proxy error</html>'`, /proxy error/],
    ['exit 0', /said nothing/],
  ];
  for (const [script, reason] of cases) {
    const { cards, problems } = await probed(machine => machine.tool('nvidia-smi', script));
    assert.deepEqual(cards, []);
    assert.match(problems[0]?.reason ?? '', reason);
  }
});

test('one lost card does not hide the other', async () => {
  const { cards, problems } = await probed(async machine =>
    machine.tool(
      'nvidia-smi',
      `case "$*" in *query-gpu*) echo "${await fixture('nvidia-lost-card.txt')}"; exit 15;; esac`,
    ),
  );
  assert.equal(cards.length, 1);
  assert.match(problems[0]?.reason ?? '', /GPU1: 0000:02:00.0: Unknown Error|RTX 3090/);
});

test('no tool and no device: none; a driver that found none says so', async () => {
  assert.deepEqual(await probed(async () => {}), { cards: [], problems: [] });
  const none = await probed(machine =>
    machine.tool('nvidia-smi', `echo 'No devices were found'; exit 6`),
  );
  assert.deepEqual(none, { cards: [], problems: [] });
});

test('a Jetson without the tool is known by its board', async () => {
  const { cards } = await probed(machine =>
    machine.file('/proc/device-tree/model', 'NVIDIA Jetson AGX Orin Developer Kit\0'),
  );
  assert.deepEqual([cards[0]?.unified, cards[0]?.free_bytes], [true, HOST.available_bytes]);
  assert.equal(cards[0]?.source, 'device-tree');
});
