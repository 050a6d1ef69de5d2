/**
 * Goal: killing the process, git included, at any moment of opening, committing and merging costs
 * nothing but a repetition. Method: one program that integrates a few tasks is killed again and again
 * at moments from a seed, until it comes through; then the project is looked at.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { test } from 'node:test';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { programOf } from '../../../test/source-tree.ts';
import { gitIn, tempDir } from '../test-world.ts';

const PROGRAM = programOf('actors/mcp-gateway/fixtures/integrate.ts');
const TASKS = ['one', 'two', 'three', 'four'];
const KILLS = 12;
const START_MS = 350;

/** Runs the program; whether it came through before it was killed with its whole group. */
function integrate(data: string, killAfterMs: number | null): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...PROGRAM, data, ...TASKS], {
      detached: true,
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const killGroup = (): void => {
      if (child.pid !== undefined && child.exitCode === null) process.kill(-child.pid, 'SIGKILL');
    };
    const timer = killAfterMs === null ? undefined : setTimeout(killGroup, killAfterMs);
    let done = false;
    child.stdout.on('data', chunk => {
      done ||= String(chunk).includes('done');
    });
    child.once('error', reject);
    child.once('exit', code => {
      clearTimeout(timer);
      if (code !== null && code !== 0) reject(new Error(`the program ended with ${code}`));
      else resolve(done);
    });
  });
}

test('kill -9 at any moment: every task is on main once, in a line, and an own file stays', async t => {
  const data = await tempDir(t);
  const seed = Date.now() % 100_000;
  const chance = new SimulatedClock({ seed });
  t.diagnostic(`seed ${seed}`);
  let kills = 0;
  const project = `${data}/projects/todo-b7`;
  for (let done = false; !done && kills < KILLS; kills++) {
    done = await integrate(data, START_MS + chance.random() * 500);
  }
  assert.equal(await integrate(data, null), true);
  const log = await gitIn(project, 'log', '--format=%(trailers:key=Task,valueonly,separator=%x20)');
  assert.deepEqual(log.split('\n').reverse().slice(1), TASKS);
  assert.equal(await gitIn(project, 'rev-list', '--merges', '--count', 'main'), '0');
  assert.equal(await gitIn(project, 'status', '--porcelain'), '?? mine.txt');
  assert.equal(await gitIn(project, 'fsck', '--strict', '--no-dangling'), '');
});
