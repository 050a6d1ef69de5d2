/** The monitor's pace, in simulated time. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { createActor, SimulatedClock } from 'xstate';
import { withMonitorPorts } from './machine.ts';
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
  bus = true;

  async measure(): Promise<Measurement> {
    this.measured++;
    if (this.hang) return new Promise(() => {});
    return measurement(this.free);
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
