/** Goal: no behaviour of a tool server's process can hang, flood or outlive the gateway. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { systemClock } from '../../../runtime/clock.ts';
import { sourcePath } from '../../../test/source-tree.ts';
import { isAlive, tempDir } from '../test-world.ts';
import { type Line, lineReader } from './message-lines.ts';
import { RpcFailure, startRpc } from './stdio-rpc.ts';

const ODD = sourcePath('actors/mcp-gateway/fixtures/odd-server.mjs');

function odd(t: TestContext, mode: string, file = '') {
  const environment = { PATH: '/usr/bin:/bin' };
  const args = [ODD, mode, file];
  const program = { program: process.execPath, args, cwd: '/', environment };
  const rpc = startRpc(program, systemClock);
  t.after(() => rpc.kill('the test is over'));
  return rpc;
}

const call = (name: string, args = {}) => ['tools/call', { name, arguments: args }] as const;
const soon = { timeoutMs: 5_000 };
const kind = (expected: string) => (error: unknown) =>
  error instanceof RpcFailure && error.kind === expected;

test('junk on standard output is skipped and kept for the report', async t => {
  const rpc = odd(t, 'junk');
  const result = await rpc.request(...call('echo', { text: 'fine' }), soon);
  assert.deepEqual(result, { content: [{ type: 'text', text: 'fine' }] });
  const { errorTail } = await rpc.close('done');
  assert.match(errorTail, /Welcome!/);
});

test('a request without an answer ends in time, others go on', async t => {
  const rpc = odd(t, 'plain');
  const hanging = rpc.request(...call('hang'), { timeoutMs: 300 });
  const other = rpc.request(...call('echo', { text: 'other' }), soon);
  await assert.rejects(hanging, kind('timeout'));
  assert.ok(await other);
});

test('a cancelled request ends at once', async t => {
  const rpc = odd(t, 'plain');
  const signal = AbortSignal.timeout(100);
  await assert.rejects(rpc.request(...call('hang'), { ...soon, signal }), kind('cancelled'));
});

test('the end of the process fails what is in flight and what comes later', async t => {
  const rpc = odd(t, 'plain');
  const hanging = rpc.request(...call('hang'), soon);
  const dying = rpc.request(...call('die'), soon);
  await assert.rejects(hanging, kind('down'));
  await assert.rejects(dying, kind('down'));
  assert.equal((await rpc.ended).reason, 'exited with 7');
  await assert.rejects(rpc.request(...call('echo'), soon), kind('down'));
});

test('answers to unknown ids and second answers are dropped', async t => {
  const rpc = odd(t, 'plain');
  const first = await rpc.request(...call('twice'), soon);
  assert.deepEqual(first, { content: [{ type: 'text', text: 'first' }] });
  const next = await rpc.request(...call('echo', { text: 'next' }), soon);
  assert.deepEqual(next, { content: [{ type: 'text', text: 'next' }] });
});

test('an id that comes back as text is the number in it', async t => {
  const rpc = odd(t, 'text_ids');
  assert.deepEqual(await rpc.request(...call('echo', { text: 'fine' }), soon), {
    content: [{ type: 'text', text: 'fine' }],
  });
});

test('an answer to what was never asked is named, and ends the one request that waits', async t => {
  const rpc = odd(t, 'other_ids');
  await assert.rejects(
    rpc.request(...call('echo'), { timeoutMs: 60_000 }),
    /the server gave an answer to "req-1", which was not asked/,
  );
  const { errorTail } = await rpc.close('done');
  assert.match(errorTail, /an answer to "req-1"/);
});

test('an answer over the bound fails its own request and no other', async t => {
  const rpc = odd(t, 'plain');
  await assert.rejects(rpc.request(...call('huge'), soon), kind('too_large'));
  assert.ok(await rpc.request(...call('echo'), soon));
});

test('100 MB without a line break leave the memory bounded', async t => {
  const rpc = odd(t, 'plain');
  const before = process.memoryUsage().rss;
  await assert.rejects(rpc.request(...call('endless'), { timeoutMs: 3_000 }), kind('timeout'));
  assert.ok(await rpc.request(...call('echo'), soon));
  assert.ok(process.memoryUsage().rss - before < 80 * 1024 ** 2);
});

test('a server that closes its output but lives is ended', async t => {
  const rpc = odd(t, 'plain');
  const started = systemClock.monotonic();
  await assert.rejects(rpc.request(...call('deaf'), { timeoutMs: 10_000 }), kind('down'));
  assert.ok(systemClock.monotonic() - started < 6_000);
});

test('closing is polite first: a plain server exits by itself', async t => {
  const rpc = odd(t, 'plain');
  await rpc.request(...call('echo'), soon);
  assert.equal((await rpc.close('idle')).reason, 'idle (exited with 0)');
});

test('closing ends a server that ignores SIGTERM', async t => {
  const rpc = odd(t, 'ignores_term');
  await rpc.request(...call('echo'), soon);
  assert.equal((await rpc.close('idle')).reason, 'idle (was ended by SIGKILL)');
});

test('a grandchild goes with its server', async t => {
  const file = join(await tempDir(t), 'pids');
  const rpc = odd(t, 'grandchild', file);
  await rpc.request(...call('echo'), soon);
  const pid = Number(await readFile(file, 'utf8'));
  assert.equal(await isAlive(pid), true);
  await rpc.close('idle');
  await sleep(100);
  assert.equal(await isAlive(pid), false);
});

test('a program that is not there fails its requests', async () => {
  const program = { program: '/nowhere/x', args: [], cwd: '/', environment: {} };
  const rpc = startRpc(program, systemClock);
  await assert.rejects(rpc.request('ping', {}, soon), kind('down'));
  assert.match((await rpc.ended).reason, /could not be started/);
});

test('lines are cut at every chunking alike, and long ones keep head and tail', () => {
  const bytes = Buffer.from(`{"a":"ß"}\n\n${'z'.repeat(100_000)}END\nlast\n`);
  for (const size of [1, 7, 4_096, bytes.length]) {
    const lines: Line[] = [];
    const feed = lineReader(line => lines.push(line), 1_000);
    for (let at = 0; at < bytes.length; at += size) feed(bytes.subarray(at, at + size));
    assert.equal(lines.length, 4);
    assert.deepEqual(lines[0], { kind: 'line', text: '{"a":"ß"}' });
    const long = lines[2];
    assert.ok(long?.kind === 'too_long' && long.tail.endsWith('zEND') && long.bytes === 100_003);
    assert.deepEqual(lines[3], { kind: 'line', text: 'last' });
  }
});
