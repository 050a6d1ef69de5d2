/** Every way in which a program can end, or not. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { runProgram } from './run-program.ts';

const timeoutMs = 5_000;
const node = process.execPath;

describe('running a program', () => {
  it('gives its output', async () => {
    const result = await runProgram(node, ['-e', 'console.log(1); console.error(2)'], {
      timeoutMs,
    });
    assert.deepEqual(result, { exitCode: 0, stdout: '1\n', stderr: '2\n', failure: null });
  });

  it('that fails gives the exit code and what it said', async () => {
    const code = 'console.error("no room"); process.exitCode = 7';
    const result = await runProgram(node, ['-e', code], { timeoutMs });
    assert.equal(result.exitCode, 7);
    assert.equal(result.failure, 'no room');
  });

  it('that is not there says so', async () => {
    const result = await runProgram('no-such-program', [], { timeoutMs });
    assert.equal(result.failure, 'not found');
    assert.equal(result.exitCode, null);
  });

  it('that waits for input gets none', async () => {
    const result = await runProgram('cat', [], { timeoutMs });
    assert.equal(result.exitCode, 0);
  });

  it('that does not end is killed', async () => {
    const result = await runProgram('sleep', ['30'], { timeoutMs: 50 });
    assert.match(result.failure ?? '', /no end within 0.05 s/);
  });

  it('is ended by an abort, which throws', async () => {
    const signal = AbortSignal.timeout(50);
    await assert.rejects(runProgram('sleep', ['30'], { timeoutMs, signal }), {
      name: 'TimeoutError',
    });
  });
});
