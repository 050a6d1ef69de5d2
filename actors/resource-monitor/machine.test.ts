/** The monitor's pace, in simulated time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createActor, SimulatedClock } from 'xstate';
import { measureNow, withMonitorPorts } from './machine.ts';
import type { Measurement, MonitorPorts } from './ports.ts';

const measurement = (free: number): Measurement => ({
  cpu: { model: 'x', cores: 2, load: 0 },
  ram: { total_bytes: 2 ** 40, available_bytes: free },
  disk: { total_bytes: null, free_bytes: null },
  gpus: [],
  unknown: [],
});

class FakePorts implements MonitorPorts {
  measured = 0;
  readonly adverts: number[] = [];
  beats = 0;
  free = 2 ** 39;
  hang = false;
  slow: Promise<void> | null = null;
  bus = true;

  async measure(): Promise<Measurement> {
    this.measured++;
    if (this.hang) return new Promise(() => {});
    const { free } = this;
    await this.slow;
    return measurement(free);
  }
  async advertise(value: Measurement): Promise<void> {
    if (!this.bus) throw new Error('the bus is away');
    this.adverts.push(value.ram.available_bytes);
  }
  async pulse() {
    return { cpu_load: 0, ram_available_bytes: 1 };
  }
  telemetry(): void {
    this.beats++;
  }
}

function start(ports: FakePorts) {
  const clock = new SimulatedClock();
  const errors: string[] = [];
  const machine = withMonitorPorts(ports, what => errors.push(what));
  const actor = createActor(machine, { clock });
  actor.start();
  const pass = async (milliseconds: number) => {
    for (let passed = 0; passed < milliseconds; passed += 250) {
      clock.increment(250);
      await new Promise(resolve => setImmediate(resolve));
    }
  };
  return { actor, pass, errors };
}

test('advertises at once after the first measurement, then every 5 s', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  assert.equal(ports.adverts.length, 1);
  await pass(15_000);
  assert.ok(ports.adverts.length >= 3 && ports.adverts.length <= 5, `${ports.adverts.length}`);
  assert.ok(ports.beats >= 13 && ports.beats <= 16, `${ports.beats} beats in 15 s`);
  actor.stop();
});

test('a probe that hangs stops neither adverts nor telemetry', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  ports.hang = true;
  const before = ports.adverts.length;
  await pass(30_000);
  assert.ok(ports.adverts.length >= before + 5, `${ports.adverts.length - before} adverts`);
  assert.ok(ports.beats > 20);
  actor.stop();
});

test('a notable change is advertised without waiting for the next beat', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  ports.free = 2 ** 30;
  await pass(5_500);
  assert.ok(ports.adverts.includes(2 ** 30));
  actor.stop();
});

test('a bus that is away is tried again, and the failure is reported', async () => {
  const ports = new FakePorts();
  ports.bus = false;
  const { pass, actor, errors } = start(ports);
  await pass(3_000);
  assert.ok(errors.filter(what => what === 'advertise').length >= 2);
  ports.bus = true;
  await pass(2_000);
  assert.ok(ports.adverts.length >= 1);
  actor.stop();
});

test('draining ends everything', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  actor.send({ type: 'drain' });
  const { measured, beats } = ports;
  await pass(20_000);
  assert.deepEqual([ports.measured, ports.beats], [measured, beats]);
  assert.equal(actor.getSnapshot().status, 'done');
});

test('who asks is told what was measured after that, and so is the house', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  ports.free = 2 ** 39 - 1; // No change worth an advert of its own.
  const found = await measureNow(actor);
  assert.equal(found.ram.available_bytes, 2 ** 39 - 1);
  await pass(250);
  assert.deepEqual(ports.adverts, [2 ** 39, 2 ** 39 - 1]);
  actor.stop();
});

test('whoever asks while it measures shares the next measurement, after a pause', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  let ended = (): void => {};
  ports.slow = new Promise(resolve => {
    ended = resolve;
  });
  const first = measureNow(actor);
  ports.free = 7; // Changed after the measurement had begun.
  const others = [measureNow(actor), measureNow(actor)];
  ports.slow = null;
  ended();
  assert.equal((await first).ram.available_bytes, 2 ** 39);
  assert.equal(ports.measured, 2);
  await pass(250);
  for (const other of others) assert.equal((await other).ram.available_bytes, 7);
  assert.equal(ports.measured, 3);
  actor.stop();
});

test('asking all the time makes it measure four times a second at most', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  const before = ports.measured;
  for (let step = 0; step < 40; step += 1) {
    actor.send({ type: 'measure' });
    await pass(250);
  }
  assert.ok(ports.measured - before <= 40, `${ports.measured - before} in 10 s`);
  actor.stop();
});

test('who asks while it ends is told so', async () => {
  const ports = new FakePorts();
  const { pass, actor } = start(ports);
  await pass(500);
  ports.hang = true;
  const asked = measureNow(actor);
  actor.send({ type: 'drain' });
  await assert.rejects(asked, { code: 'cancelled' });
  await assert.rejects(measureNow(actor), { code: 'cancelled' });
});
