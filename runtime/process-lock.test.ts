/** One worker at a time, whoever dies: among tasks of one process and among processes. */
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { pathToFileURL } from 'node:url';
import { CodeGodError } from '../protocol/errors.ts';
import { systemClock } from './clock.ts';
import { modulePath, sourceLoader } from './paths.ts';
import { identityOf, isAlive, ownIdentity } from './process-identity.ts';
import { withProcessLock } from './process-lock.ts';

let folder: string;
before(() => {
  folder = mkdtempSync(join(tmpdir(), 'codegod-lock-'));
});
after(() => rmSync(folder, { recursive: true, force: true }));

const lockOf = (name: string): string => join(folder, name, 'lock');

describe('a process lock', () => {
  it('lets one at a time work', async () => {
    let atWork = 0;
    let most = 0;
    const work = async (): Promise<void> => {
      atWork += 1;
      most = Math.max(most, atWork);
      await systemClock.sleep(20);
      atWork -= 1;
    };
    const lock = lockOf('contended');
    await Promise.all([1, 2, 3, 4].map(() => withProcessLock(lock, { waitMs: 5_000 }, work)));
    assert.equal(most, 1);
    assert.deepEqual(readdirSync(join(folder, 'contended')), [], 'nothing is left behind');
  });

  it('is released when the work fails', async () => {
    const lock = lockOf('failing');
    const failing = withProcessLock(lock, { waitMs: 0 }, () => Promise.reject(new Error('no')));
    await assert.rejects(failing, /no/);
    assert.equal(existsSync(lock), false);
  });

  it('of a living process makes others wait, and then give up', async () => {
    const lock = lockOf('held');
    const waitedFor: number[] = [];
    await withProcessLock(lock, { waitMs: 0 }, async () => {
      const options = {
        waitMs: 120,
        onWait: (holder: { pid: number }) => waitedFor.push(holder.pid),
      };
      await assert.rejects(
        withProcessLock(lock, options, () => Promise.resolve()),
        error => error instanceof CodeGodError && error.code === 'timeout',
      );
    });
    assert.deepEqual(waitedFor, [process.pid]);
  });

  it('of a process that was killed is taken over', async () => {
    const lock = lockOf('dead');
    await withProcessLock(lock, { waitMs: 0 }, () => Promise.resolve()); // Makes the folder.
    const ended = spawnSync('true').pid;
    writeFileSync(lock, JSON.stringify({ pid: ended, started: '1' }));
    assert.equal(await withProcessLock(lock, { waitMs: 0 }, async () => 'mine'), 'mine');
  });

  it('whose process id was recycled is taken over', async () => {
    const lock = lockOf('recycled');
    await withProcessLock(lock, { waitMs: 0 }, () => Promise.resolve());
    writeFileSync(lock, JSON.stringify({ pid: process.pid, started: 'earlier' }));
    assert.equal(await withProcessLock(lock, { waitMs: 0 }, async () => 'mine'), 'mine');
  });

  it('that a power failure emptied is taken over', async () => {
    const lock = lockOf('empty');
    await withProcessLock(lock, { waitMs: 0 }, () => Promise.resolve());
    writeFileSync(lock, '');
    assert.equal(await withProcessLock(lock, { waitMs: 0 }, async () => 'mine'), 'mine');
  });

  it('that is dead is taken over by one of many who see that at once', async () => {
    const lock = lockOf('many');
    const log = join(folder, 'many', 'log');
    await withProcessLock(lock, { waitMs: 0 }, () => Promise.resolve());
    writeFileSync(lock, JSON.stringify({ pid: spawnSync('true').pid, started: '1' }));
    const module = pathToFileURL(modulePath('runtime/process-lock.ts'));
    const code = `
      import { appendFileSync } from 'node:fs';
      import { withProcessLock } from ${JSON.stringify(module)};
      await withProcessLock(${JSON.stringify(lock)}, { waitMs: 20_000 }, async () => {
        appendFileSync(${JSON.stringify(log)}, 'in ');
        await new Promise(resolve => setTimeout(resolve, 30));
        appendFileSync(${JSON.stringify(log)}, 'out ');
      });`;
    await Promise.all([1, 2, 3].map(() => runModule(code)));
    assert.equal(readFileSync(log, 'utf8'), 'in out '.repeat(3));
  });
});

describe('a process identity', () => {
  it('is of this process, and not of one that has ended', () => {
    assert(isAlive(ownIdentity()));
    assert.equal(identityOf(spawnSync('true').pid), null);
    assert.equal(identityOf(0), null);
    assert.equal(isAlive({ pid: process.pid, started: 'another time' }), false);
  });
});

function runModule(code: string): Promise<void> {
  const child = spawn(process.execPath, [...sourceLoader(), '--input-type=module', '-e', code], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  return new Promise((resolve, reject) => {
    child.once('exit', status => (status === 0 ? resolve() : reject(new Error(`${status}`))));
  });
}
