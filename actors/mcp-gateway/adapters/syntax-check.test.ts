/**
 * Goal: what does not parse is refused with its line, in every language that somebody here can parse;
 * what parses passes; nothing of a file is run. Method: real parsers in the sandbox of this machine.
 */
import assert from 'node:assert/strict';
import { chmod, mkdir, readdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { systemClock } from '../../../runtime/clock.ts';
import { createLogger } from '../../../runtime/log.ts';
import { CONFINER, scopeOf, TEST_PATH, tempDir, workspaceWorld } from '../test-world.ts';
import { findSandbox, type SandboxRung } from './sandbox.ts';
import { type CheckSyntax, createSyntaxCheck } from './syntax-check.ts';
import { createWorkspaces } from './workspace.ts';

const log = createLogger({ name: 'test', level: 'silent' });

async function checkerIn(t: TestContext, ladder: readonly SandboxRung[]) {
  const folder = await tempDir(t);
  const scratch = join(folder, 'scratch');
  const python = CONFINER;
  const sandbox = await findSandbox({
    scratch,
    path: TEST_PATH,
    python,
    clock: systemClock,
    ladder,
  });
  const check = createSyntaxCheck({
    ...{ sandbox: () => sandbox, scratch, log, python: () => python },
    path: `${TEST_PATH}:/usr/local/go/bin`,
  });
  return { folder, scratch, sandbox, check };
}

/** Parses the files as if an attempt had written them. */
function parse(check: CheckSyntax, files: Readonly<Record<string, string>>) {
  return check(Object.keys(files), async folder => {
    for (const [path, text] of Object.entries(files)) {
      await mkdir(dirname(join(folder, path)), { recursive: true });
      await writeFile(join(folder, path), text);
    }
  });
}

const MODULE = '{"type": "module"}\n';
const WELL_FORMED: Record<string, Record<string, string>> = {
  'an ES module': { 'package.json': MODULE, 'a.js': "import 'node:fs';\nawait 1;\nexport {};\n" },
  'a CommonJS module': { 'a.js': "#!/usr/bin/env node\nconst a = require('a');\nreturn;\n" },
  'an ES module without a manifest': { 'a.js': "import 'node:fs';\nexport const a = 1;\n" },
  'both kinds by their names': { 'a.mjs': 'export {};\n', 'b.cjs': 'module.exports = {};\n' },
  'a script of a page': {
    'package.json': '{"type": "commonjs"}',
    'public/app.js': "import { a } from './a.js';\na();\n",
  },
  JSX: { 'src/App.jsx': 'export const App = () => <p>{1}</p>;\n' },
  'JSX of a bundled project': {
    'package.json': '{"dependencies": {"react": "19"}}',
    'src/App.js': 'export const App = () => <p>{1}</p>;\n',
  },
  TypeScript: {
    'a.ts': 'export enum A { B }\nabstract class C<T> { constructor(private readonly a?: T) {} }\n',
    'b.tsx': 'export const B = <T,>({ a }: { a: T }) => <p>{String(a)}</p>;\n',
    'c.d.ts': 'declare module "x" { export function f(a: number): void }\n',
    'd.ts': '@Injectable()\nexport class D { constructor(@Inject(A) private a: A) {} }\n',
  },
  Python: { 'a.py': 'match 1:\n    case 1:\n        print(f"{1}")\n', 'b.pyi': 'x: int\n' },
  'JSON, with comments where they are usual': {
    'a.json': '{"a": [1]}',
    'tsconfig.json': '{\n  // strict\n  "a": 1,\n}\n',
    'b.jsonc': '// a\n{}\n',
  },
  'YAML and TOML': {
    'a.yml': 'a: [1, 2]\n---\nb: !custom c\n',
    'templates/b.yaml': '{{ if .Values }}\na\n',
    'c.yaml': 'a: {{ b }}\n',
    'd.toml': '[a]\nb = "c"\n',
  },
  shell: { 'a.sh': '#!/bin/bash\nif [[ -n $1 ]]; then a=(1 2); fi\n' },
};

const UNCHECKED: Record<string, readonly string[]> = { 'YAML and TOML': ['c.yaml'] };

const BROKEN: readonly (readonly [Record<string, string>, RegExp])[] = [
  [
    { 'package.json': MODULE, 'a.js': 'const a = 1;\nfunction (\n' },
    /^a\.js line 2: .+\n.*1 \| const/,
  ],
  [
    { 'package.json': MODULE, 'a.js': 'const a = 1;\nconst b = require("b");\nreturn a;\n' },
    /line 3/,
  ],
  [{ 'package.json': '{"type": "commonjs"}', 'a.js': '\nexport const a = 1;\n' }, /^a\.js line 2/],
  [{ 'a.js': 'import a from "a";\n\nconst b = {;\n' }, /^a\.js line 3: Unexpected token/],
  [{ 'a.mjs': 'export {\n' }, /^a\.mjs/],
  [{ 'a.ts': 'const a: number = 1;\nconst b: = 2;\n' }, /^a\.ts line 2/],
  [{ 'a.tsx': 'export const A = () => <p>;\n' }, /^a\.tsx line/],
  [
    { 'a.py': 'def f():\n    return 1\n\ndef g(:\n    pass\n' },
    /^a\.py line 4: .+\n(?:.*\n)*> 4 \| def g/,
  ],
  [{ 'a.py': 'def f():\nreturn 1\n' }, /^a\.py line 2: expected an indented block/],
  [{ 'a.py': 'return 1\n' }, /^a\.py line 1: 'return' outside function/],
  [{ 'a.json': '{"a": 1,}\n' }, /^a\.json line 1/],
  [{ 'package.json': '{\n  "name": "a"\n  "b": 1\n}\n' }, /^package\.json line 3/],
  [{ 'a.yml': 'a: 1\nb: [1, 2\nc: 3\n' }, /^a\.yml line/],
  [{ 'a.toml': 'a = 1\nb = \n' }, /^a\.toml line 2/],
  [{ 'a.sh': 'if true; then\necho a\n' }, /^a\.sh line \d/],
];

for (const rung of ['bwrap', 'none'] as const) {
  test(`the syntax of files, on the rung ${rung}`, async t => {
    const { check, scratch, sandbox } = await checkerIn(t, [rung]);
    if (sandbox.rung !== rung) return t.skip(sandbox.account);
    for (const [name, files] of Object.entries(WELL_FORMED)) {
      await t.test(`${name} passes`, async () => {
        const { error, unchecked } = await parse(check, files);
        assert.deepEqual({ error, unchecked }, { error: null, unchecked: UNCHECKED[name] ?? [] });
      });
    }
    for (const [files, expected] of BROKEN) {
      const [path, text] = Object.entries(files).at(-1) ?? [];
      await t.test(`${path} with ${JSON.stringify(text)} is refused with its line`, async () => {
        assert.match((await parse(check, files)).error ?? 'passed', expected);
      });
    }
    await t.test('nothing of a file is run, and nothing is left', async () => {
      const { error } = await parse(check, {
        'a.js': "require('node:fs').writeFileSync('/tmp/ran', 'js');\nthrow new Error('ran');\n",
        'b.mjs': "import './c.mjs';\nthrow new Error('ran');\n",
        'json.py': 'raise SystemExit("ran")\n',
        'd.sh': 'echo ran\nexit 1\n',
        'sitecustomize.py': 'raise SystemExit("ran")\n',
      });
      assert.equal(error, null);
      assert.deepEqual(await readdir(scratch), []);
    });
    await t.test('a file that no parser survives is refused, the others are parsed', async () => {
      const deep = '['.repeat(400_000);
      const { error } = await parse(check, {
        'a.json': deep,
        'b.py': `a = ${'('.repeat(50_000)}\n`,
        'c.ts': `const a = ${'['.repeat(100_000)}\n`,
        'd.ts': 'const a: = 1;\n',
        'e.yml': '['.repeat(50_000),
      });
      for (const path of ['a.json', 'b.py', 'c.ts', 'd.ts', 'e.yml']) {
        assert.match(error ?? '', new RegExp(`^${path}`, 'm'));
      }
    });
    return undefined;
  });
}

test('files of a language that nobody here can parse pass and are named', async t => {
  const { check } = await checkerIn(t, ['none']);
  const files = {
    'src/main.rs': 'fn main( {\n',
    'App.vue': '<p>',
    'README.md': '# a',
    LICENSE: 'b',
  };
  assert.deepEqual(await parse(check, files), {
    error: null,
    broken: [],
    unchecked: ['src/main.rs', 'App.vue'],
  });
});

test('Go is parsed where gofmt is there', async t => {
  const { check } = await checkerIn(t, ['bwrap', 'none']);
  const { error, unchecked } = await parse(check, {
    'a.go': 'package a\n\nfunc  f() {}\n',
    'b.go': 'package a\n\nfunc f( {\n',
  });
  if (unchecked.includes('b.go')) return t.skip('no gofmt');
  assert.match(error ?? '', /^b\.go line 3: /);
  assert.doesNotMatch(error ?? '', /a\.go/);
  return undefined;
});

test('an attempt with a broken file is not committed; mended, it is', async t => {
  const { check } = await checkerIn(t, ['bwrap', 'none']);
  const { git, roots } = await workspaceWorld(t);
  const workspaces = createWorkspaces(git, roots, check);
  const scope = scopeOf();
  const { path } = await workspaces.open(scope);
  await chmod(path, 0o755);
  const request = { ...scope, title: 'Write', model: 'm', owns: ['**'] };
  await writeFile(join(path, 'a.py'), 'def f(:\n');
  await assert.rejects(workspaces.commit(request), {
    code: 'answer_invalid',
    message: /^does not parse:\na\.py line 1: /,
  });
  await writeFile(join(path, 'a.py'), 'def f():\n    pass\n');
  await writeFile(join(path, 'main.rs'), 'fn main() {}\n');
  const reply = await workspaces.commit(request);
  assert.deepEqual(reply.files, ['a.py', 'main.rs']);
  assert.deepEqual(reply.unchecked, ['main.rs']);
});
