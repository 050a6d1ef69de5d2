/**
 * The disk under everything that is ours runs full in the middle of a build: journals, the bus's
 * store, projects, logs, the supervisor's own note. Goal: nothing of it ends the supervision, nobody
 * has to start anything, and with room again the build comes to its end.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  fillDisk,
  makeRoom,
  mountSmallDisk,
  SKIP_UNLESS_MOUNTABLE,
  unmount,
} from '../small-disk.ts';
import { eventually, TestSystem } from './test-system.ts';

const DISK_BYTES = 96 * 1024 * 1024;
/** Long enough for what is killed to have tried again on the full disk. */
const FULL_MS = 5_000;
const NOTES = 'Create a REST API for notes with a title and a text';

describe('a full disk under everything', { skip: SKIP_UNLESS_MOUNTABLE }, () => {
  let system: TestSystem;
  let environments: string;

  before(async () => {
    system = await TestSystem.create({ CODEGOD_SCAFFOLD_PACE_MS: '2' });
    environments = `${system.home}-environments`;
    execFileSync('mv', [join(system.home, 'data', 'environments'), environments]);
    mountSmallDisk(system.home, DISK_BYTES);
    mkdirSync(join(system.home, 'data'));
    symlinkSync(environments, join(system.home, 'data', 'environments'));
    await system.ok('up', '-d');
  });

  after(async () => {
    await system.run(['down']);
    unmount(system.home);
    await system.stop();
    execFileSync('rm', ['-rf', environments]);
  });

  test('with every actor killed meanwhile, all comes back by itself and the build ends', {
    timeout: 300_000,
  }, async () => {
    const first = await system.status();
    const tap = await system.wiretap('codegod.mcp.*.call.*');
    const id = await system.begin(NOTES);
    await tap.first;
    await tap.close();
    fillDisk(system.home);
    for (const { pid } of first.actors) process.kill(pid ?? 0, 'SIGKILL');
    await sleep(FULL_MS);
    const told = await system.run(['status']);
    assert.equal(told.code, 0, told.stderr);
    assert.match(told.stderr, /the disk of .* is full/);
    makeRoom(system.home);
    await eventually(async () => {
      const { state, actors } = await system.status();
      return state === 'ready' && actors.every(({ restarts }) => restarts > 0);
    }, 120_000);
    assert.equal((await system.status()).supervisor_pid, first.supervisor_pid);
    const build = await system.ended(id);
    if (build.state !== 'succeeded') {
      assert.match(JSON.stringify([build.error, build.unmet]), /disk_full|no room|no space/i);
      await system.ok('retry', id);
      await system.until(id, ({ state }) => state === 'succeeded');
    }
  });
});
