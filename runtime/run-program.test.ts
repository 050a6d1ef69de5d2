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
    const expected = { exitCode: 0, stdout: '1\n', stderr: '2\n', failure: null, end: 'exited' };
    assert.deepEqual(result, expected);
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

  it('that reads gets its input, and one that does not read is not waited for', async () => {
    const input = 'x'.repeat(1_000_000);
    const read = await runProgram('cat', [], { timeoutMs, input });
    assert.equal(read.stdout, input);
    const deaf = await runProgram('true', [], { timeoutMs, input });
    assert.equal(deaf.exitCode, 0);
  });

  it('that prints without end is killed', async () => {
    const result = await runProgram('yes', [], { timeoutMs, outputBytesMax: 100_000 });
    assert.equal(result.end, 'flood');
    assert.match(result.failure ?? '', /^it printed too much/);
    assert.ok(result.stdout.length <= 100_000);
  });

  it('that is asked to end may tidy up, and is killed where it does not', async () => {
    const polite = 'trap "echo tidied; exit 3" TERM; echo begun; while :; do sleep 0.05; done';
    const options = { timeoutMs: 300, killSignal: 'SIGTERM' } as const;
    const result = await runProgram('sh', ['-c', polite], options);
    assert.equal(result.end, 'timeout');
    assert.match(result.stdout, /tidied/);
  });

  it('whose child holds its output open does not keep us', async () => {
    const result = await runProgram('sh', ['-c', 'sleep 30 & sleep 30'], { timeoutMs: 100 });
    assert.equal(result.end, 'timeout');
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
