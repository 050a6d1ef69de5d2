/** The tools that read all code: formatting and lint, types, dead exports and packages. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { test } from 'node:test';
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

test('formatting and lint', async () => {
  assert.equal(await complaints('biome', 'check', '--diagnostic-level=warn', '.'), '');
});

test('types', async () => {
  assert.equal(await complaints('tsc', '-p', 'tsconfig.json', '--noEmit'), '');
});

test('no dead exports, no unused packages', async () => {
  assert.equal(await complaints('knip'), '');
});
