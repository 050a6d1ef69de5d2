/** Macs: the budget of the GPU, its name asked once, and Macs that run no models. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { appleProbe, parseDisplays, parseSysctl } from './apple.ts';
import { fixture, GIB, HOST, MIB, TestMachine } from './test-machine.ts';

test('a Mac: two thirds of its memory, less what is allocated, named once', async t => {
  const mac = await TestMachine.make();
  t.after(() => mac.remove());
  await mac.prints('system_profiler', { SPDisplays: 'system-profiler.json' });
  await mac.prints('sysctl', { memsize: 'sysctl.txt' });
  await mac.prints('ioreg', { IOAccelerator: 'ioreg.txt' });
  const probe = appleProbe();
  const { cards, problems } = await probe(mac.site());
  assert.deepEqual(problems, []);
  const [card] = cards;
  assert.deepEqual([card?.name, card?.vendor, card?.unified], ['Apple M3 Pro', 'apple', true]);
  assert.deepEqual([card?.total_bytes, card?.used_bytes], [24 * GIB, 6_093_651_968]);
  assert.equal(card?.free_bytes, 24 * GIB - 6_093_651_968);
  assert.deepEqual([card?.utilization, card?.bandwidth_bytes_per_s], [0.06, 150e9]);
  await mac.tool('system_profiler', 'exit 1');
  assert.equal((await probe(mac.site())).cards[0]?.name, 'Apple M3 Pro');
});

test('a limit that somebody set is the budget', async () => {
  const set = parseSysctl(await fixture('sysctl-limit.txt'), HOST);
  assert.deepEqual(set, { bytes: 57_344 * MIB, source: 'sysctl' });
  assert.equal(parseSysctl('hw.memsize: 137438953472\n', HOST).bytes, 96 * GIB);
  assert.deepEqual(parseSysctl('', HOST), { bytes: 96 * GIB, source: 'host' });
});

test('tools that fail leave a card with what the host knows, and say so', async t => {
  const mac = await TestMachine.make();
  t.after(() => mac.remove());
  await mac.tool('system_profiler', 'echo nonsense');
  const { cards, problems } = await appleProbe()(mac.site());
  assert.deepEqual([cards[0]?.total_bytes, cards[0]?.used_bytes], [96 * GIB, null]);
  assert.deepEqual(
    problems.map(({ probe }) => probe),
    ['system_profiler', 'sysctl'],
  );
});

test('the cards of an Intel Mac are shown, without memory', async () => {
  const gpus = parseDisplays(await fixture('system-profiler-intel.json'));
  assert.deepEqual(gpus, [
    { name: 'Intel UHD Graphics 630', isApple: false },
    { name: 'AMD Radeon Pro 5300M', isApple: false },
  ]);
});
