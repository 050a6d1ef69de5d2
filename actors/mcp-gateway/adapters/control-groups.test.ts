/**
 * Goal: where a control group is ours the kernel bounds each run, and nothing of a run is left; where
 * none is, that is said and nobody is moved. Method: the second half needs a delegated group and is
 * left out where this process is in none: run it as
 * `systemd-run --user --pty -p Delegate=yes node --import tsx --test <this file>`.
 */
import assert from 'node:assert/strict';
import { readdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../../runtime/clock.ts';
import { startProgram } from '../../../runtime/spawn.ts';
import { CONFINER, sandboxWorld, TEST_PATH } from '../test-world.ts';
import { type Command, confined } from './confine.ts';
import { type ControlGroup, type ControlGroups, findControlGroups } from './control-groups.ts';

const MIB = 1024 ** 2;
const search = { scratch: `/test-${process.pid}`, python: CONFINER };
const ownGroups = () => readFile('/proc/self/cgroup', 'utf8').catch(() => '');
const before = await ownGroups();
const { groups, account } = await findControlGroups(search);
const skip = groups === null ? account : false;

test('without a group of our own it is said that sums are watched, and nobody is moved', {
  skip: groups !== null,
}, async () => {
  assert.match(account, /^sums of memory and processes are watched, not bounded by the kernel: ./);
  assert.equal(await ownGroups(), before);
});

test('without an interpreter there are none', async () => {
  const found = await findControlGroups({ ...search, python: null });
  assert.equal(found.groups, null);
});

async function world(t: TestContext) {
  const { work, sandbox, view } = await sandboxWorld(t, { groups });
  return (script: string, limits = {}) =>
    sandbox.run({ work, command: ['sh', '-c', script], view, limits });
}

/** The folder in which runs get their groups, and those that are there. */
async function groupsNow(from: ControlGroups): Promise<string[]> {
  const group = await from.open({ memoryBytesMax: 64 * MIB, tasksMax: 8 });
  const own = dirname(group.members);
  await group.close();
  return (await readdir(dirname(own))).filter(name => name.startsWith('codegod-run-'));
}

function started(group: ControlGroup, command: Command) {
  const { program, args } = confined(CONFINER, command, { cgroups: [group.members] });
  const env = { PATH: TEST_PATH };
  return startProgram(program, args, { cwd: '/', env, stdio: ['ignore', 'ignore', 'ignore'] });
}

test('memory that is in no process is bounded too', { skip }, async t => {
  const run = await world(t);
  const limits = { memoryBytesMax: 64 * MIB, tmpBytesMax: 512 * MIB };
  const result = await run('head -c 200000000 /dev/zero > /tmp/a; echo done', limits);
  assert.equal(result.end, 'memory', result.output);
  assert.doesNotMatch(result.output, /done/);
});

test('there are no more processes than allowed', { skip }, async () => {
  assert(groups !== null);
  const group = await groups.open({ memoryBytesMax: 64 * MIB, tasksMax: 8 });
  assert.equal(await group.met(), null);
  const many = 'i=0; while [ $i -lt 20 ]; do sleep 20 & i=$((i + 1)); done';
  const child = started(group, { program: 'sh', args: ['-c', many] });
  await new Promise(resolve => child.once('exit', resolve));
  assert.equal(await group.met(), 'processes');
  await group.close();
});

test('what goes well says so, and leaves neither process nor group', { skip }, async t => {
  const run = await world(t);
  const result = await run('setsid sleep 1000 & echo good');
  assert.deepEqual([result.end, result.exitCode, result.output], ['exited', 0, 'good\n']);
  assert(groups !== null);
  assert.deepEqual(await groupsNow(groups), []);
});

test('what a crash has left is ended at the next start', { skip }, async () => {
  assert(groups !== null);
  const left = await groups.open({ memoryBytesMax: 64 * MIB, tasksMax: 8 });
  const child = started(left, { program: 'sleep', args: ['1000'] });
  const ended = new Promise(resolve => child.once('exit', (_, signal) => resolve(signal)));
  while ((await readFile(left.members, 'utf8')) === '') await systemClock.sleep(10);
  const again = await findControlGroups(search);
  assert.equal(await ended, 'SIGKILL');
  assert(again.groups !== null, again.account);
  assert.deepEqual(await groupsNow(again.groups), []);
});
