/**
 * Rendered projects: well-formed whatever was asked, and good when they are run for real. Every
 * project is written to a folder of its own, committed, tested with its own command, and must leave
 * the tree clean.
 *
 * FastAPI projects need a Python with fastapi, pytest and httpx: its path is read from
 * CODEGOD_CHECKS_PYTHON. Without it those runs are skipped, aloud.
 */

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { pathFault } from '../../../../../protocol/text.ts';
import { findElision } from '../../../answer/elision.ts';
import { readRequest } from '../request/read-request.ts';
import type { ServiceSpec } from '../request/spec.ts';
import type { ProjectFile } from './project-file.ts';
import { renderProject } from './render-project.ts';

const run = promisify(execFile);
const PYTHON = process.env['CODEGOD_CHECKS_PYTHON'] ?? '';
const RUN_MS_MAX = 120_000;

const PROMPTS: readonly string[] = [
  'Create a REST API for a todo list with title, done and due date',
  'Create a REST API for a library with books, members and loans',
  'Build a backend for a recipe app: recipes have a name, ingredients (list), cooking time ' +
    'in minutes and difficulty (easy, medium, hard); each recipe belongs to an author with ' +
    'name and email',
  'inventory tracker where products have sku, price, quantity and warehouses have a location; ' +
    'a product is stored in a warehouse',
  'API for a class with class, id, constructor, __proto__, limit, sort, offset, import, copy, json, model_name',
  'interface Event { title: string; starts_at: timestamp; day: date; homepage: url; open: ' +
    'boolean; tags: string[]; rating: 1-5; temperature: float; contact_email: email; notes: ' +
    'text; kind: "a" | "b" } make an API. An event has many tickets. Tickets belong to an ' +
    'event and a ticket.',
  'employees with name and manager; an employee belongs to an employee; teams have many ' +
    'employees; a team belongs to an employee',
];

function specOf(prompt: string, stack: string): ServiceSpec {
  const reading = readRequest(prompt, { backend: stack });
  if (reading.kind === 'refused') throw new Error(reading.reason);
  return reading.spec;
}

/** Writes and commits the project. @returns its folder, which goes away with the test. */
async function materialise(t: TestContext, files: readonly ProjectFile[]): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'scaffold-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  for (const { path, content } of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), content);
  }
  const git = (...words: string[]) => run('git', ['-C', folder, ...words]);
  await git('init', '-q');
  await git('add', '-A');
  await git('-c', 'user.name=test', '-c', 'user.email=test@localhost', 'commit', '-qm', 'all');
  return folder;
}

async function assertClean(folder: string): Promise<void> {
  const { stdout } = await run('git', ['-C', folder, 'status', '--porcelain']);
  assert.equal(stdout, '');
}

/** The environment of a run that knows nothing of the test runner around it. */
function plainEnvironment(): NodeJS.ProcessEnv {
  const { NODE_TEST_CONTEXT: _, NODE_OPTIONS: __, ...rest } = process.env;
  return rest;
}

describe('a Node project', () => {
  for (const prompt of PROMPTS) {
    test(`passes its own tests: ${prompt.slice(0, 60)}`, async t => {
      const folder = await materialise(t, renderProject(specOf(prompt, 'node')));
      const { stdout } = await run(process.execPath, ['--test', '--test-reporter=tap'], {
        cwd: folder,
        env: plainEnvironment(),
        timeout: RUN_MS_MAX,
        maxBuffer: 16 * 1024 * 1024,
      });
      const passed = Number(/^# pass (\d+)$/m.exec(stdout)?.[1]);
      assert.ok(passed > 20, `${passed} tests passed`);
      assert.match(stdout, /^# fail 0$/m);
      await assertClean(folder);
    });
  }
});

describe('a FastAPI project', () => {
  const skip = PYTHON === '' ? 'CODEGOD_CHECKS_PYTHON names no Python with fastapi' : false;
  for (const prompt of PROMPTS) {
    test(`passes its own tests: ${prompt.slice(0, 60)}`, { skip }, async t => {
      const folder = await materialise(t, renderProject(specOf(prompt, 'fastapi')));
      const { stdout } = await run(PYTHON, ['-m', 'pytest', '-q'], {
        cwd: folder,
        timeout: RUN_MS_MAX,
      });
      const passed = Number(/(\d+) passed/.exec(stdout)?.[1]);
      assert.ok(passed > 20, stdout.slice(-500));
      assert.doesNotMatch(stdout, /failed|error|warning/i);
      await assertClean(folder);
    });
  }
});

function assertWellFormed(files: readonly ProjectFile[]): void {
  const paths = files.map(file => file.path);
  assert.equal(new Set(paths.map(path => path.toLowerCase())).size, paths.length);
  for (const { path, content } of files) {
    assert.equal(pathFault(path), null, path);
    assert.ok(content.endsWith('\n') && !content.endsWith('\n\n'), `${path} ends badly`);
    assert.equal(findElision(path, content), null);
    assert.doesNotMatch(content, /\[object |[ \t]\n/, path);
    if (path.endsWith('.json')) JSON.parse(content);
  }
}

describe('any project', () => {
  test('is well-formed and the same every time', () => {
    const noun = fc.oneof(
      fc.stringMatching(/^[a-z]{2,40}$/),
      fc.constantFrom(
        'class',
        'import',
        'test',
        'con',
        'entity',
        'store',
        'body',
        'create',
        'typing',
        'app',
      ),
    );
    const fields = fc.array(noun, { minLength: 1, maxLength: 8 });
    fc.assert(
      fc.property(
        noun,
        fields,
        noun,
        fc.constantFrom('node', 'fastapi'),
        (one, names, other, stack) => {
          const prompt = `API: a ${one} has ${names.join(', ')}. A ${other} belongs to a ${one}.`;
          const reading = readRequest(prompt, { backend: stack });
          if (reading.kind === 'refused') return;
          const files = renderProject(reading.spec);
          assertWellFormed(files);
          assert.deepEqual(renderProject(reading.spec), files);
        },
      ),
      { numRuns: 150 },
    );
  });
});
