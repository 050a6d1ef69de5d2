/**
 * The house keeps its shape: doors, owners, purity, length, cycles, dead files. Each rule is first
 * tried on a planted breach, so that a rule that sees nothing cannot pass.
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { sourcePath } from './source-tree.ts';
import { checkDoors, checkPurity } from './tidy/doors.ts';
import { checkCycles, checkDead, checkShape, FILE_LINES_MAX } from './tidy/shape.ts';
import { type Breach, readTree, sourceFile, type Tree } from './tidy/tree.ts';

const tree = readTree(sourcePath());
const HEAD = '/** Says its job. */\n';

function plant(files: Readonly<Record<string, string>>): Tree {
  return Object.entries(files).map(([path, text]) => sourceFile(path, HEAD + text));
}

function assertClean(breaches: readonly Breach[]): void {
  const lines = breaches.map(({ path, line, message }) => `${path}:${line} ${message}`);
  assert.deepEqual(lines, []);
}

function assertSeen(breaches: readonly Breach[], ...messages: readonly RegExp[]): void {
  for (const message of messages) {
    assert.ok(
      breaches.some(breach => message.test(breach.message)),
      `${message} not in ${JSON.stringify(breaches)}`,
    );
  }
}

test('the tree that is checked is the whole tree', () => {
  assert.ok(tree.length > 100, `${tree.length} files`);
  assert.ok(tree.some(({ path }) => path === 'actors/master/main.ts'));
  assert.ok(tree.filter(({ imports }) => imports.length > 0).length > 80);
});

test('rooms import only through their doors', () => {
  const planted = plant({
    'actors/worker/a.ts': "import { x } from '../master/b.ts';",
    'protocol/a.ts': "import { x } from '../runtime/log.ts';\nimport y from 'hono';",
    'scheduling/a.ts': "export { x } from '../runtime/clock.ts';",
    'cli/a.ts': "await import('../actors/master/main.ts');",
    'actors/master/x.ts': "import { connect } from '@nats-io/transport-node';",
    'runtime/other.ts': "import { Level } from 'level';\nconst t = Date.now();",
    'cli/other.ts': "import { createLogUpdate } from 'log-update';\nprocess.stdout.write(title);",
    'runtime/third.ts': "import { spawn } from 'node:child_process';",
    'cli/b.ts': "import { execa } from 'execa';",
    'actors/master/y.ts': 'const home = process.env["HOME"];',
  });
  assertSeen(
    checkDoors(planted),
    /worker\/ may not import actors\/master/,
    /protocol\/ may not import runtime/,
    /protocol\/ may not use hono/,
    /scheduling\/ may not import runtime/,
    /cli\/ may not import actors/,
    /@nats-io\/transport-node belongs/,
    /level belongs/,
    /node:child_process belongs/,
    /execa belongs/,
    /Date/,
    /process/,
    /log-update belongs/,
    /std\(out\|err\)/,
  );
  assertClean(checkDoors(tree));
});

test('machines and pure rooms do not touch the world', () => {
  const planted = plant({
    'actors/master/build-machine.ts': "import fs from 'node:fs';\nsetTimeout(() => {}, 1);",
  });
  assertSeen(checkPurity(planted), /node:fs/, /no timer/);
  assertClean(checkPurity(tree));
});

test('files are short, named after a noun, and say what they do', () => {
  const planted: Tree = [
    sourceFile('runtime/Long.ts', 'x;\n'.repeat(FILE_LINES_MAX + 1)),
    sourceFile('runtime/bad.ts', `${HEAD}const x = y as any; // TODO later\n`),
    sourceFile('docs/two.md', '# One\n# Two\n'),
  ];
  assertSeen(checkShape(planted), /601 lines/, /kebab/, /one job/, /as any/, /TODO/, /2 titles/);
  assertClean(checkShape(tree));
});

test('no import cycles', () => {
  const planted = plant({
    'runtime/a.ts': "import { b } from './b.ts';",
    'runtime/b.ts': "import { a } from './a.ts';",
    'runtime/c.ts': "import type { D } from './d.ts';",
    'runtime/d.ts': "import { c } from './c.ts';",
  });
  const seen = checkCycles(planted);
  assertSeen(seen, /a\.ts → runtime\/b\.ts → runtime\/a\.ts/);
  assert.equal(seen.length, 1);
  assertClean(checkCycles(tree));
});

test('no dead files', () => {
  const planted = plant({
    'cli/main.ts': "import './used.ts';",
    'cli/used.ts': '',
    'cli/dead.ts': '',
  });
  const dead = checkDead(planted).map(({ path }) => path);
  assert.deepEqual(dead, ['cli/dead.ts']);
  assertClean(checkDead(tree));
});

test('every package in the lock names its platform builds and no download address', () => {
  const lock = JSON.parse(readFileSync(sourcePath('package-lock.json'), 'utf8'));
  const packages: Record<string, { resolved?: string; optionalDependencies?: object }> =
    lock.packages;
  const names = Object.keys(packages);
  assert.ok(names.length > 100);
  for (const [path, entry] of Object.entries(packages)) {
    assert.equal(entry.resolved, undefined, `${path} carries a download address`);
    for (const dependency of Object.keys(entry.optionalDependencies ?? {})) {
      const found = names.some(name => name.endsWith(`node_modules/${dependency}`));
      assert.ok(found, `${path}: ${dependency} is missing from the lock`);
    }
  }
});
