/**
 * The bus loses its store, so that the numbers of builds begin again. Goal: a build of a number that
 * was there before has nothing to do with the earlier one: it gets a project of its own, calls are
 * made and not remembered, nothing waits for what is no more, and what a person edited stays.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { pathsFor } from '../../runtime/paths.ts';
import { eventually, TestSystem } from './test-system.ts';

const PROMPT = 'Create a REST API for authors with name and born';
const README = 'README.md';

test('the store of the bus is removed in the middle of a build', { timeout: 300_000 }, async t => {
  const system = await TestSystem.create({ CODEGOD_SCAFFOLD_PACE_MS: '20' });
  t.after(() => system.stop());
  await system.ok('up', '-d');
  const first = await system.ended(await system.begin(PROMPT));
  assert.equal(first.state, 'succeeded', JSON.stringify(first.error));
  assert.ok(first.path !== null);
  const file = join(first.path, README);
  writeFileSync(file, 'edited by a person\n');
  const head = headOf(first.path);
  // Left in the middle of its attempts, with their places on the node.
  const dispatched = await system.wiretap('codegod.event.*.task.dispatched');
  const second = await system.begin(PROMPT);
  const codes = () => dispatched.heard.filter(({ subject }) => subject.includes(`.${second}.`));
  await eventually(() => codes().length >= 3, 60_000);
  await dispatched.close();
  await killAll(system);
  rmSync(join(pathsFor(system.env, system.home).data, 'nats'), { recursive: true });

  await system.ok('up', '-d');
  for (const id of [first.id, second]) {
    assert.equal(await system.begin(PROMPT), id, 'numbers begin again');
    const again = await system.ended(id, 40_000);
    assert.equal(again.state, 'succeeded', JSON.stringify(again.error));
    assert.ok(again.path !== null && again.path !== first.path, String(again.path));
    assert.equal(treeOf(again.path), treeOf(first.path));
  }
  assert.equal(readFileSync(file, 'utf8'), 'edited by a person\n');
  assert.equal(headOf(first.path), head);
});

const headOf = (path: string): string => git(path, 'rev-parse', 'HEAD');
const treeOf = (path: string): string => git(path, 'rev-parse', 'HEAD^{tree}');

function git(path: string, ...args: string[]): string {
  return execFileSync('git', ['-C', path, ...args], { encoding: 'utf8' });
}

async function killAll(system: TestSystem): Promise<void> {
  const { bus, actors, supervisor_pid } = await system.status();
  for (const pid of [supervisor_pid, ...actors.map(actor => actor.pid), bus.pid]) {
    if (pid !== null) process.kill(pid, 'SIGKILL');
  }
  await eventually(() => system.processes().length === 0, 30_000);
}
