/** Goal: a name that somebody adds to a settings file counts without a new start. */
import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { SimulatedClock } from './clock.ts';
import { childEnvironment, loadConfig } from './config.ts';
import { followAliases } from './live-aliases.ts';
import { silentLogger } from './log.ts';

test('names are read again when a settings file changes, and kept where it cannot be read', async t => {
  const home = mkdtempSync(join(tmpdir(), 'codegod-aliases-'));
  t.after(() => rmSync(home, { recursive: true }));
  const folder = join(home, 'config');
  mkdirSync(folder, { recursive: true });
  const file = join(folder, 'config.yaml');
  const write = (text: string): void => writeFileSync(file, text);
  write('models: { aliases: { chat: "one:7b" } }\n');
  const load = (env: Readonly<Record<string, string | undefined>>) =>
    loadConfig({ env, cwd: home, machineFile: join(home, 'none.yaml') });
  const parent = load({ CODEGOD_HOME: home });
  // As an actor of this system reads them, with what its supervisor hands on.
  const env = childEnvironment(parent, { CODEGOD_HOME: home });
  const config = load(env);
  assert.deepEqual(config.models.aliases, { chat: 'one:7b' });
  const clock = new SimulatedClock();
  const aliases = followAliases({ config, clock, log: silentLogger, read: () => load(env) });
  t.after(() => aliases.stop());
  await clock.advance(5_000);
  const before = aliases.now();
  assert.deepEqual(before, { chat: 'one:7b' });
  await clock.advance(5_000);
  assert.equal(aliases.now(), before);
  write('models: { aliases: { chat: "one:7b", "gpt-4o": "two:14b" } }\n');
  await clock.advance(5_000);
  assert.deepEqual(aliases.now(), { chat: 'one:7b', 'gpt-4o': 'two:14b' });
  write('models: { aliases: [\n');
  await clock.advance(5_000);
  assert.deepEqual(aliases.now(), { chat: 'one:7b', 'gpt-4o': 'two:14b' });
  rmSync(file);
  await clock.advance(5_000);
  assert.deepEqual(aliases.now(), {});
});

test('names of the environment hold until the next start', () => {
  const env = { CODEGOD_HOME: tmpdir(), CODEGOD_MODELS_ALIASES: '{"a":"b"}' };
  const config = loadConfig({ env, cwd: tmpdir(), machineFile: '/nowhere.yaml' });
  assert.equal(childEnvironment(config, env)['CODEGOD_MODELS_ALIASES'], '{"a":"b"}');
});
