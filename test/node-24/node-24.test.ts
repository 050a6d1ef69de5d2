/**
 * The product on Node 24, whatever Node runs the tests: the unit tests of the rooms that stand
 * closest to Node, and one whole build.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readdirSync, realpathSync } from 'node:fs';
import { test } from 'node:test';
import { modulePath, packageRoot, sourceLoader } from '../../runtime/paths.ts';
import { TestSystem } from '../e2e/test-system.ts';
import { sourcePath } from '../source-tree.ts';
import { findNode24 } from './node-24.ts';

/** The quick ones of `runtime/` that touch disks, native code, processes and a real bus. */
const RUNTIME = [
  'clock',
  'config',
  'durable-effects',
  'journal',
  'log',
  'nats-bus',
  'process-lock',
];
const UNIT_MS = 60_000;

const { program, said } = await findNode24(process.env);
if (program === null) process.stderr.write(`not tested on Node 24: ${said}\n`);
const skip = program === null && said;
const node = program ?? '';
const version = program === null ? 'Node 24' : said;

function unitTests(): string[] {
  const all = (room: string): string[] =>
    readdirSync(sourcePath(room))
      .filter(file => file.endsWith('.test.ts'))
      .map(file => `${room}/${file}`);
  const runtime = RUNTIME.map(name => `runtime/${name}.test.ts`);
  return [...all('protocol'), ...all('scheduling'), ...runtime].map(modulePath);
}

test(`unit tests on ${version}`, { skip, timeout: UNIT_MS + 5_000 }, async () => {
  // With it, the inner runner would think that it is a part of the outer one.
  const { NODE_TEST_CONTEXT: _context, ...env } = process.env;
  const flags = ['--test', '--test-concurrency=2', '--test-reporter=tap'];
  const args = [...sourceLoader(), ...flags, ...unitTests()];
  const { code, stdout } = await new Promise<{ code: unknown; stdout: string }>(resolve => {
    execFile(node, args, { env, timeout: UNIT_MS, cwd: packageRoot() }, (error, out) => {
      resolve({ code: error === null ? 0 : error.code, stdout: out });
    });
  });
  const count = (name: string): number =>
    Number(new RegExp(`^# ${name} (\\d+)$`, 'm').exec(stdout)?.[1] ?? -1);
  const failures = stdout.split('\n').filter(line => /^\s*not ok/.test(line));
  assert.deepEqual(failures, []);
  assert.equal(code, 0, stdout.slice(-4_000));
  assert.equal(count('fail'), 0);
  assert.ok(count('pass') > 50, `${count('pass')} tests`);
});

test(`a whole build on ${version}`, { skip, timeout: 120_000 }, async t => {
  const system = await TestSystem.create({}, node);
  t.after(() => system.stop());
  await system.ok('up', '-d');
  if (process.platform === 'linux') {
    for (const { name, pid } of (await system.status()).actors) {
      assert.equal(realpathSync(`/proc/${pid}/exe`), realpathSync(node), name);
    }
  }
  const { code, stdout, stderr } = await system.run(['build', 'Create a REST API for notes']);
  assert.equal(code, 0, stderr + stdout);
  assert.match(stdout, /succeeded/);
  assert.match(stdout, /[1-9]\d* passed/);
});
