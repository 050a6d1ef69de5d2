/** `nvidia-smi` output, good and bad, and a tool that hangs, lies or is not there. */
import assert from 'node:assert/strict';
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { after, before, test } from 'node:test';
import { sourcePath } from '../../../test/source-tree.ts';
import { type GpuProbe, parseNvidia, probeNvidia } from './nvidia.ts';

const HOST = { total_bytes: 128 * 1024 ** 3, available_bytes: 100 * 1024 ** 3 };
const MIB = 1024 * 1024;
let folder = '';

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'codegod-nvidia-'));
});
after(() => rm(folder, { recursive: true, force: true }));

async function fixture(name: string): Promise<string> {
  return readFile(sourcePath('actors/resource-monitor/fixtures', name), 'utf8');
}

async function tool(name: string, script: string): Promise<string> {
  const path = join(folder, name);
  await writeFile(path, `#!/bin/sh\n${script}\n`);
  await chmod(path, 0o755);
  return path;
}

function gpus(probe: GpuProbe) {
  assert.equal(probe.kind, 'found', JSON.stringify(probe));
  return probe.kind === 'found' ? probe.gpus : [];
}

function probe(command: string, signal = AbortSignal.timeout(20_000)) {
  return probeNvidia({ command, host: HOST, now: 1, signal });
}

test('two cards: a full card has 0 free, an idle card 0 utilization, an unread power is unknown', async () => {
  const [first, second] = gpus(parseNvidia(await fixture('nvidia-two-cards.csv'), HOST, 7));
  assert.equal(first?.total_bytes, 24_576 * MIB);
  assert.equal(first?.utilization, 0.07);
  assert.equal(first?.measured_at, 7);
  assert.equal(second?.free_bytes, 0);
  assert.equal(second?.utilization, 0);
  assert.equal(second?.power_w, null);
});

test('a card without memory of its own shares the memory of the host', async () => {
  const [card] = gpus(parseNvidia(await fixture('nvidia-unified.csv'), HOST, 1));
  assert.equal(card?.unified, true);
  assert.equal(card?.total_bytes, HOST.total_bytes);
  assert.equal(card?.free_bytes, HOST.available_bytes);
});

test('garbage is unknown, not an empty list of cards', () => {
  const result = parseNvidia('<html>proxy error</html>', HOST, 1);
  assert.equal(result.kind, 'unknown');
});

test('no tool means no card; a driver that cannot be reached means nobody knows', async () => {
  assert.deepEqual(await probe(join(folder, 'not-there')), { kind: 'absent' });
  const failing = await tool(
    'failing',
    'echo "NVIDIA-SMI has failed because it could not communicate with the driver"; exit 9',
  );
  const result = await probe(failing);
  assert.equal(result.kind, 'unknown');
  assert.match(result.kind === 'unknown' ? result.reason : '', /could not communicate/);
});

test('a tool that hangs for 3 s does not hold up the event loop', async () => {
  const slow = await tool('slow', 'exec sleep 3');
  const delay = monitorEventLoopDelay({ resolution: 5 });
  delay.enable();
  const result = await probe(slow);
  delay.disable();
  assert.equal(result.kind, 'found');
  assert.ok(delay.max / 1e6 < 1_000, `stalled ${delay.max / 1e6} ms`);
});

test('an abandoned probe ends its tool', async () => {
  const endless = await tool('endless', 'exec sleep 60');
  const started = Date.now();
  const result = await probe(endless, AbortSignal.timeout(200));
  assert.equal(result.kind, 'unknown');
  assert.ok(Date.now() - started < 5_000);
});
