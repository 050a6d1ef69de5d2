/** The ladder: hanging probes, figures that grow old, cards nobody reads. */
import assert from 'node:assert/strict';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, before, test } from 'node:test';
import { SimulatedClock, systemClock } from '../../runtime/clock.ts';
import { rungsOf } from './adapters.ts';
import { type Findings, NOTHING } from './card.ts';
import { GOOD_FOR_MS, Ladder } from './ladder.ts';
import { nvidiaProbe } from './probes/nvidia.ts';
import { fixture, MIB, TestMachine } from './probes/test-machine.ts';

const machines: TestMachine[] = [];
let bare: TestMachine;

async function make(): Promise<TestMachine> {
  const made = await TestMachine.make();
  machines.push(made);
  return made;
}
before(async () => {
  bare = await make();
});
after(() => Promise.all(machines.map(machine => machine.remove())));

/** How long the event loop stood still at most, in ms, while `work` ran. */
async function longestStall(work: () => Promise<unknown>): Promise<number> {
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  await systemClock.sleep(20); // A stall is seen between two samples: there has to be one before.
  await work();
  await systemClock.sleep(20);
  delay.disable();
  return delay.max / 1e6;
}

test('a tool that hangs for 3 s does not hold up the event loop', async () => {
  const machine = await make();
  await machine.tool('nvidia-smi', 'exec /bin/sleep 3');
  const ladder = new Ladder([{ name: 'nvidia', probe: nvidiaProbe() }], systemClock);
  const climb = () => ladder.climb(machine.site());
  const idle = () => systemClock.sleep(3_000);
  const probing = await longestStall(climb);
  if (probing < 50) return;
  // A busy machine stalls everybody: what counts is how much worse it was than to wait as long.
  const excess = [probing - (await longestStall(idle))];
  if (Number(excess[0]) >= 50) {
    const again = await longestStall(climb);
    excess.push(again - (await longestStall(idle)));
  }
  assert.ok(Math.min(...excess) < 50, `${excess} ms more than an idle wait`);
});

test('a probe that cannot be ended is given up, not started again, and taken back when it returns', async () => {
  const clock = new SimulatedClock();
  let started = 0;
  let end: (found: Findings) => void = () => {};
  const stuck = () => {
    started += 1;
    return new Promise<Findings>(resolve => {
      end = resolve;
    });
  };
  const other = async () => ({ ...NOTHING, problems: [{ probe: 'other', reason: 'lives' }] });
  const rungs = [
    { name: 'stuck', probe: stuck },
    { name: 'other', probe: other },
  ];
  const ladder = new Ladder(rungs, clock, 12_000);
  const first = ladder.climb(bare.site());
  await clock.advance(12_000);
  assert.match(reasons(await first), /no answer within 12 s.*lives/);
  await clock.advance(5_000);
  assert.match(reasons(await ladder.climb(bare.site())), /has not come back for 17 s.*lives/);
  assert.equal(started, 1);
  end(NOTHING);
  await clock.advance(0);
  const again = ladder.climb(bare.site());
  await clock.advance(0);
  end(NOTHING);
  assert.doesNotMatch(reasons(await again), /come back/);
  assert.equal(started, 2);
});

const reasons = ({ problems }: Findings): string =>
  // In simulated time the bus, which is read in real time, may come too late: not what is asked.
  problems
    .filter(({ probe, reason }) => probe !== 'pci' || /nothing reads/.test(reason))
    .map(({ reason }) => reason)
    .join('; ');

test('a driver that stops answering: its figures keep their date for a minute, then are unknown', async () => {
  const machine = await make();
  const answers = { 'query-compute-apps': 'nvidia-processes.csv', 'query-gpu': 'nvidia-many.csv' };
  await machine.prints('nvidia-smi', answers);
  const clock = new SimulatedClock();
  const ladder = new Ladder([{ name: 'nvidia', probe: nvidiaProbe() }], clock);
  const climb = () => ladder.climb({ ...machine.site(), now: clock.now() });
  const begin = clock.now();
  assert.equal((await climb()).cards[0]?.free_bytes, 15_322 * MIB);

  await machine.tool('nvidia-smi', `echo "${await fixture('nvidia-driver-error.txt')}"; exit 9`);
  await clock.advance(10_000);
  const failing = await climb();
  assert.match(reasons(failing), /couldn't communicate/);
  const [standing] = failing.cards;
  assert.deepEqual([standing?.free_bytes, standing?.measured_at], [15_322 * MIB, begin]);

  await clock.advance(GOOD_FOR_MS);
  const [old] = (await climb()).cards;
  assert.deepEqual([old?.free_bytes, old?.utilization, old?.processes], [null, null, []]);
  assert.deepEqual(
    [old?.name, old?.total_bytes, old?.measured_at],
    ['NVIDIA GeForce RTX 3090', 24_576 * MIB, begin],
  );

  await machine.prints('nvidia-smi', answers);
  const [back] = (await climb()).cards;
  assert.deepEqual([back?.free_bytes, back?.measured_at], [15_322 * MIB, clock.now()]);
});

test('no tools at all, and no lspci: a card is known by the bus, without memory, with a remedy', async () => {
  const machine = await make();
  const devices = '/sys/bus/pci/devices';
  const device = (vendor: string, product: string, kind: string) => ({
    vendor: `0x${vendor}`,
    device: `0x${product}`,
    class: `0x${kind}`,
  });
  await machine.files(`${devices}/0000:01:00.0`, device('10de', '2204', '030000'));
  await machine.files(`${devices}/0000:01:00.1`, device('10de', '1aef', '040300'));
  await machine.files(`${devices}/0000:00:02.0`, device('8086', '4680', '030000'));
  await machine.files(`${devices}/0000:02:00.0`, device('1a03', '2000', '030000'));
  await machine.file('/usr/share/misc/pci.ids', await fixture('pci.ids'));
  const found = await new Ladder(rungsOf('linux'), systemClock).climb(machine.site());
  assert.deepEqual(
    found.cards.map(({ name, total_bytes, integrated }) => [name, total_bytes, integrated]),
    [
      ['GPU 8086:4680', null, true],
      ['GA102 [GeForce RTX 3090]', null, null],
    ],
  );
  assert.equal(found.problems.length, 1);
  assert.match(reasons(found), /install the NVIDIA driver with nvidia-smi or declare node\.gpus/);
});

test('a card that a probe has read is not listed by the bus again', async () => {
  const machine = await make();
  await machine.prints('nvidia-smi', {
    'query-compute-apps': 'nvidia-processes.csv',
    'query-gpu': 'nvidia-old-driver.csv',
  });
  await machine.files('/sys/bus/pci/devices/0000:01:00.0', { vendor: '0x10de', class: '0x030000' });
  await machine.tool(
    'nvidia-smi',
    `case "$*" in *mig*) echo '${(await fixture('nvidia-invalid-field.txt')).trim()}'; exit 2;;
     *query-gpu*) echo '${(await fixture('nvidia-old-driver.csv')).trim()}';; esac`,
  );
  const found = await new Ladder(rungsOf('linux'), systemClock).climb(machine.site());
  assert.deepEqual(found.problems, []);
  assert.deepEqual(
    found.cards.map(({ name, free_bytes }) => [name, free_bytes]),
    [['GeForce GTX 1080', 7_708 * MIB]],
  );
});

test('an abandoned round ends its tools', async () => {
  const machine = await make();
  await machine.tool('nvidia-smi', 'exec /bin/sleep 60');
  const ladder = new Ladder([{ name: 'nvidia', probe: nvidiaProbe() }], systemClock);
  const found = await ladder.climb(machine.site(AbortSignal.timeout(200)));
  assert.match(reasons(found), /given up/);
});
