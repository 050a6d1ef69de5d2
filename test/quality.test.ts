/** The tools that read all code: formatting and lint, types, dead exports and packages. */
import assert from 'node:assert/strict';
import { execFile, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { packageRoot } from '../runtime/paths.ts';

const TOOL_MS = 180_000;

/** What the tool says, where it is not content; empty where it is. */
function complaints(tool: string, ...args: readonly string[]): Promise<string> {
  const root = packageRoot();
  const program = join(root, 'node_modules', '.bin', tool);
  return new Promise(resolve => {
    execFile(program, args, { cwd: root, timeout: TOOL_MS }, (error, stdout, stderr) => {
      resolve(error === null ? '' : `${error.message}\n${stdout}\n${stderr}`);
    });
  });
}

/** What the linter says of a text, were it a file of ours. */
function lintOf(t: TestContext, text: string): string {
  const folder = mkdtempSync(join(tmpdir(), 'codegod-lint-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'planted.ts');
  writeFileSync(file, text);
  const root = packageRoot();
  const program = join(root, 'node_modules', '.bin', 'biome');
  const args = ['lint', `--config-path=${root}`, file];
  const options = { cwd: folder, encoding: 'utf8', timeout: TOOL_MS } as const;
  const { stdout, stderr } = spawnSync(program, args, options);
  return stdout + stderr;
}

test('the linter sees what it is meant to see', t => {
  const long = `export function long(): void {\n${"  step('x');\n".repeat(80)}}\n`;
  assert.match(lintOf(t, long), /noExcessiveLinesPerFunction/);
  const short = `export function short(): void {\n${"  step('x');\n".repeat(60)}}\n`;
  assert.doesNotMatch(lintOf(t, short), /noExcessiveLinesPerFunction/);
  assert.match(lintOf(t, 'export default 1;\n'), /noDefaultExport/);
  assert.match(lintOf(t, "console.log('x');\n"), /noConsole/);
  assert.match(lintOf(t, 'const x = y!;\nx();\n'), /noNonNullAssertion/);
});

test('formatting and lint', async () => {
  assert.equal(await complaints('biome', 'check', '--diagnostic-level=warn', '.'), '');
});

test('types', async () => {
  assert.equal(await complaints('tsc', '-p', 'tsconfig.json', '--noEmit'), '');
});

test('no dead exports, no unused packages', async () => {
  assert.equal(await complaints('knip'), '');
});
