/** Goal: a check says the truth about a project, runs once per round, and cannot change anything. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { type TestContext, test } from 'node:test';
import { CodeGodError } from '../../../protocol/errors.ts';
import type { CheckRequest } from '../../../protocol/workspace.ts';
import { systemClock } from '../../../runtime/clock.ts';
import { memoryJournal } from '../../../runtime/journal.ts';
import { GATEWAY_KEYS } from '../../../runtime/journal-keys.ts';
import {
  CONFINER,
  gitIn,
  scopeOf,
  stampedScope,
  TEST_PATH,
  workspaceWorld,
} from '../test-world.ts';
import { createCheck } from './check.ts';
import { findSandbox, type SandboxRung } from './sandbox.ts';
import { sandboxView } from './sandbox-view.ts';

async function checkWorld(t: TestContext, files: Record<string, string>, ladder?: SandboxRung[]) {
  const world = await workspaceWorld(t);
  await world.attempt(scopeOf(), files);
  await world.workspaces.merge(scopeOf());
  const { scratch } = world.roots;
  const sandbox = await findSandbox({
    scratch,
    path: TEST_PATH,
    python: CONFINER,
    clock: systemClock,
    ...(ladder === undefined ? {} : { ladder }),
  });
  const bare = { allowed: true };
  const check = createCheck({
    workspaces: world.workspaces,
    sandbox: () => sandbox,
    mayRunBare: async () => bare.allowed,
    journal: await memoryJournal(GATEWAY_KEYS),
    viewFor: () => sandboxView({ node: process.execPath, python: null }),
    scratch,
  });
  const run = (request: Partial<CheckRequest> = {}) =>
    check(
      {
        build: world.build,
        round: 0,
        command: ['node', '--test'],
        stack: 'node',
        timeout_s: 30,
        ...request,
      },
      new AbortController().signal,
    );
  return { ...world, run, sandbox, bare };
}

const PASSING = "require('node:test')('a', () => {});";

test('a passing project passes, and its folder stays as it was', async t => {
  const { run, path, roots } = await checkWorld(t, {
    'a.test.js': `require('node:fs').writeFileSync('junk', ''); ${PASSING}`,
  });
  const reply = await run();
  assert.equal(reply.passed, true, reply.output);
  assert.deepEqual([reply.tests_passed, reply.tests_failed, reply.exit_code], [1, 0, 0]);
  assert.equal(await gitIn(path, 'status', '--porcelain'), '');
  assert.deepEqual(await readdir(roots.scratch), []);
});

test('failing tests, no tests and files without tests are not passes', async t => {
  const failing = await checkWorld(t, {
    'a.test.js': "require('node:test')('a', () => { throw 1 })",
  });
  const failed = await failing.run();
  assert.deepEqual([failed.passed, failed.tests_failed], [false, 1]);
  const empty = await (await checkWorld(t, { 'readme.txt': 'x' })).run();
  assert.equal(empty.passed, false);
  assert.match(empty.output, /\[check\] no test was collected/);
  const hollow = await (await checkWorld(t, { 'a.test.js': 'console.log(1)' })).run();
  assert.deepEqual([hollow.passed, hollow.exit_code, hollow.tests_passed], [false, 0, 0]);
});

test('a round is run once; another round runs again', async t => {
  const { run } = await checkWorld(t, {
    'a.test.js': `console.log(process.hrtime.bigint()); ${PASSING}`,
  });
  const first = await run();
  assert.deepEqual(await run(), first);
  assert.notEqual((await run({ round: 1 })).output, first.output);
});

test('what never ends is ended and said; a program that is not there too', async t => {
  const { run } = await checkWorld(t, { 'a.test.js': `${PASSING} for (;;) {}` });
  const endless = await run({ timeout_s: 2 });
  assert.deepEqual([endless.passed, endless.exit_code], [false, null]);
  assert.match(endless.output, /\[check\] ended after 2 s/);
  const absent = await run({ round: 1, command: ['no-such-program'] });
  assert.equal(absent.passed, false);
  assert.match(absent.output, /not found/);
});

test('only the end of a long output is kept', async t => {
  const { run } = await checkWorld(t, {
    'a.test.js': `console.log('ß'.repeat(100_000)); ${PASSING}`,
  });
  const { output, passed } = await run();
  assert.equal(passed, true);
  assert.ok(Buffer.byteLength(output) <= 16 * 1024);
  assert.match(output, /# pass 1/);
});

test('without a sandbox nothing runs that this machine does not vouch for, whatever is asked', async t => {
  const { run, bare } = await checkWorld(t, { 'a.test.js': PASSING }, ['none']);
  bare.allowed = false;
  for (const claim of [{}, { trusted: true }, { no_sandbox: true }]) {
    await assert.rejects(
      run(claim),
      error => error instanceof CodeGodError && error.code === 'sandbox_required',
    );
  }
  bare.allowed = true;
  const allowed = await run();
  assert.deepEqual([allowed.passed, allowed.sandbox], [true, 'none']);
  assert.match(allowed.output, /\[check\] ran without a sandbox/);
});

test('a build of the same number has rounds of its own', async t => {
  const { run, workspaces, attempt } = await checkWorld(t, { 'a.test.js': PASSING });
  assert.equal((await run()).tests_passed, 1);
  const scope = stampedScope('aaaaaaaa');
  await workspaces.create({ ...scope, name: 'todo' });
  await attempt(scope, { 'a.test.js': `${PASSING} ${PASSING.replace("'a'", "'b'")}` });
  await workspaces.merge(scope);
  const { stamp } = scope;
  assert.equal((await run({ stamp })).tests_passed, 2);
});

test('what a test leaves behind fails no check: deep folders, folders nobody may write', async t => {
  const deep = "for (let i = 0; i < 3000; i++) { fs.mkdirSync('deep'); process.chdir('deep'); }";
  const closed = "fs.mkdirSync('closed'); fs.chmodSync('closed', 0o500); fs.chmodSync('.', 0o500);";
  for (const [round, mess] of [deep, closed].entries()) {
    const { run, roots } = await checkWorld(t, {
      'a.test.js': `const fs = require('node:fs'); ${PASSING} ${mess}`,
    });
    const reply = await run({ round });
    assert.equal(reply.passed, true, reply.output);
    assert.deepEqual(await readdir(roots.scratch), []);
  }
});
