/** The log as a reader gets it: its lines, what is masked, what is cut. */
import assert from 'node:assert/strict';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { CodeGodError } from '../protocol/errors.ts';
import {
  fillDisk,
  makeRoom,
  mountSmallDisk,
  SKIP_UNLESS_MOUNTABLE,
  unmount,
} from '../test/small-disk.ts';
import { createLogger, type LogLevel, linesTo } from './log.ts';

function lines(level: LogLevel = 'info') {
  const written: string[] = [];
  const destination = { write: (line: string) => void written.push(line) };
  const log = createLogger({ name: 'worker', level, node: 'n1', destination });
  return { log, written, parsed: () => written.map(line => JSON.parse(line)) };
}

test('a line is one JSON object with time, level, name, node, event and fields', () => {
  const { log, written, parsed } = lines();
  log.info('task.started', { build: 'b1', context_tokens: 4_096 });
  assert.equal(written.length, 1);
  assert.match(written[0] ?? '', /\n$/);
  const { time, ...rest } = parsed()[0];
  assert(Math.abs(Date.parse(time) - Date.now()) < 60_000);
  assert.deepEqual(rest, {
    level: 'info',
    name: 'worker',
    node: 'n1',
    event: 'task.started',
    build: 'b1',
    context_tokens: 4_096,
  });
});

test('a child adds its fields to each line, and the level holds', () => {
  const { log, parsed } = lines('warn');
  const child = log.child({ build: 'b1' });
  child.info('too.quiet');
  child.warn('loud.enough');
  assert.deepEqual(
    parsed().map(({ event, build }) => [event, build]),
    [['loud.enough', 'b1']],
  );
});

test('secrets are masked by name and by look, wherever they stand', () => {
  const { log, written } = lines();
  log.info('config.loaded', {
    anthropic_api_key: 'hidden-1',
    nested: { deep: [{ Authorization: 'hidden-2', password: 'hidden-3' }] },
    header: 'Bearer hidden-4-abcdef',
    url: 'nats://me:hidden-5@host:4222/path',
    said: 'the key sk-ant-hidden-6-0123456789 and ghp_hidden70123456789abc',
    error: new Error('cannot reach https://u:hidden-8@api'),
    github_token: null,
  });
  const line = written.join('');
  assert.doesNotMatch(line, /hidden/);
  assert.match(line, /host:4222\/path/);
  assert.equal(JSON.parse(line).github_token, null, 'that a secret is missing is no secret');
});

test('names that only sound like secrets are kept', () => {
  const { log, parsed } = lines();
  const fields = { prompt_tokens: 3, output_tokens: 4, key: 'place:a.1', token_count: 5 };
  log.info('turn.ended', fields);
  const { prompt_tokens, output_tokens, key, token_count } = parsed()[0];
  assert.deepEqual({ prompt_tokens, output_tokens, key, token_count }, fields);
});

test('an error is written with code, hint, cause and stack', () => {
  const { log, parsed } = lines();
  const cause = new TypeError('why');
  log.error('actor.failed', { error: new CodeGodError('denied', 'no', { hint: 'ask', cause }) });
  const { name, code, message, hint, cause: why, stack } = parsed()[0].error;
  assert.deepEqual(
    { name, code, message, hint },
    { name: 'CodeGodError', code: 'denied', message: 'no', hint: 'ask' },
  );
  assert.equal(why.message, 'why');
  assert.match(stack, /log\.test/);
});

test('a line is bounded: long texts, long lists, deep and circular objects, bytes', () => {
  const { log, written, parsed } = lines();
  const circular: Record<string, unknown> = {};
  circular['self'] = circular;
  log.info('much.said', {
    text: 'x'.repeat(1_000_000),
    list: Array.from({ length: 10_000 }, (_, index) => index),
    circular,
    body: new Uint8Array(5_000_000),
    big: 2n ** 70n,
  });
  assert((written[0]?.length ?? 0) < 20_000, `${written[0]?.length} characters`);
  const { body, list, big } = parsed()[0];
  assert.equal(body, '[5000000 bytes]');
  assert.equal(list.at(-1), '[9936 more]');
  assert.equal(big, (2n ** 70n).toString());
});

test('lines that cannot be written are lost, counted, and told of with the next one', {
  skip: SKIP_UNLESS_MOUNTABLE,
}, context => {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-log-'));
  mountSmallDisk(folder, 64 * 1024);
  context.after(() => {
    unmount(folder);
    rmSync(folder, { recursive: true, force: true });
  });
  const file = join(folder, 'log');
  const descriptor = openSync(file, 'a');
  const log = createLogger({ name: 'w', level: 'info', destination: linesTo(descriptor) });
  log.info('before');
  fillDisk(folder);
  let lines = 0;
  // What is left of the last block takes a few lines more, the last of them in part.
  for (let size = -1; size !== statSync(file).size; lines++) {
    size = statSync(file).size;
    log.info('filling', { text: 'x'.repeat(1_000) });
  }
  log.info('lost');
  makeRoom(folder);
  log.info('after');
  closeSync(descriptor);
  const read = readFileSync(file, 'utf8').trimEnd().split('\n');
  const [told = '{}', last = '{}'] = read.slice(-2);
  assert.equal(JSON.parse(last).event, 'after');
  const whole = read.filter(line => line.includes('"filling"') && line.endsWith('}')).length;
  const { event, lines: lost } = JSON.parse(told);
  assert.deepEqual([event, lost], ['log.lines_lost', lines - whole + 1]);
});
