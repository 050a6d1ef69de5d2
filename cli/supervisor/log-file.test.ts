/** Logs of processes: bounded, and readable for the reason of a death. */
import assert from 'node:assert/strict';
import { appendFileSync, closeSync, mkdtempSync, readFileSync, rmSync, writeSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fillDisk, mountSmallDisk, SKIP_UNLESS_MOUNTABLE, unmount } from '../../test/small-disk.ts';
import { lastError } from './actor-process.ts';
import { appendLog, logFile, openLog, sizeOf, tailLog, trimLog } from './log-file.ts';

function folderFor(t: TestContext): string {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-log-'));
  t.after(() => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

test('a log that grows too large is cut under the process that writes it', t => {
  const folder = folderFor(t);
  const log = openLog(folder, 'worker');
  writeSync(log, 'x'.repeat(1_000));
  trimLog(folder, 'worker', 999);
  writeSync(log, 'y');
  closeSync(log);
  const file = logFile(folder, 'worker');
  assert.equal(readFileSync(file, 'utf8'), 'y');
  assert.equal(sizeOf(`${file}.1`), 1_000);
  trimLog(folder, 'worker', 999);
  assert.equal(sizeOf(file), 1, 'a small log is left alone');
});

test('without room a line is lost, and a log that is too large is cut all the same', {
  skip: SKIP_UNLESS_MOUNTABLE,
}, t => {
  const folder = folderFor(t);
  mountSmallDisk(folder, 256 * 1024);
  try {
    closeSync(openLog(folder, 'bus'));
    appendLog(folder, 'bus', 'x'.repeat(100_000));
    fillDisk(folder);
    appendLog(folder, 'bus', 'y'.repeat(10_000));
    const file = logFile(folder, 'bus');
    assert.ok(sizeOf(file) < 110_000, `${sizeOf(file)} bytes`);
    trimLog(folder, 'bus', 999);
    assert.deepEqual([sizeOf(file), sizeOf(`${file}.1`)], [0, 0]);
    appendLog(folder, 'bus', 'z');
    assert.equal(readFileSync(file, 'utf8'), 'z\n');
  } finally {
    unmount(folder);
  }
});

test('the tail of a log starts where it is asked to', t => {
  const folder = folderFor(t);
  closeSync(openLog(folder, 'worker'));
  const file = logFile(folder, 'worker');
  assert.deepEqual(tailLog(file, 5), []);
  appendFileSync(file, 'a\nb\n');
  const from = sizeOf(file);
  appendFileSync(file, 'c\nd\n');
  assert.deepEqual(tailLog(file, 3), ['b', 'c', 'd']);
  assert.deepEqual(tailLog(file, 3, from), ['c', 'd']);
  assert.deepEqual(tailLog(join(folder, 'none'), 3), []);
});

test('the reason of a death is the last error that was logged, or that Node printed', () => {
  const error = '{"level":"error","event":"actor.start_failed","error":{"message":"port taken"}}';
  const info = '{"level":"info","event":"actor.exit"}';
  assert.equal(lastError(['junk', error, info]), 'port taken');
  assert.equal(lastError(['{"level":"error","event":"bus.closed"}']), 'bus.closed');
  const failed = '{"level":"error","event":"actor.start_failed","error":{"message":"port taken"}}';
  const after = '{"level":"error","event":"master.term_failed","error":{"message":"bus closed"}}';
  assert.equal(lastError([info, failed, after]), 'port taken', 'not what follows from it');
  assert.equal(
    lastError([info, "Error: Cannot find module 'x'", '    at y']),
    "Error: Cannot find module 'x'",
  );
  assert.equal(lastError([info, 'null', '7']), null);
});
