/** Names as clients write them, and the models of the house that they mean. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { SimulatedClock } from '../../../runtime/clock.ts';
import { nodeView } from '../../../scheduling/test-nodes.ts';
import { ModelDirectory } from './model-directory.ts';

function directoryOf(names: readonly string[], aliases: Readonly<Record<string, string>> = {}) {
  const models = names.map(name => ({ name, size_bytes: 1 }));
  const nodes = { views: () => [nodeView({ id: 'a', models })], onChange: () => () => {} };
  return new ModelDirectory({ nodes, aliases: () => aliases, clock: new SimulatedClock() });
}

test('an installed name goes before an alias, and an alias before what is usually meant', () => {
  const aliases = { coder: 'other:7b', 'phi-3:3b': 'other:7b', best: 'auto', second: 'best' };
  const directory = directoryOf(['coder:latest', 'other:7b', 'phi3:mini'], aliases);
  assert.equal(directory.resolve('coder'), 'coder:latest');
  assert.equal(directory.resolve('Phi-3:3B'), 'other:7b');
  assert.equal(directory.resolve('second'), null, 'the best there is');
});

test('a name that is added or taken away counts at once', () => {
  let aliases: Readonly<Record<string, string>> = {};
  const nodes = {
    views: () => [nodeView({ id: 'a', models: [{ name: 'one:7b', size_bytes: 1 }] })],
    onChange: () => () => {},
  };
  const directory = new ModelDirectory({
    nodes,
    aliases: () => aliases,
    clock: new SimulatedClock(),
  });
  assert.throws(() => directory.resolve('gpt-4o'), { code: 'model_missing' });
  aliases = { 'gpt-4o': 'one:7b' };
  assert.equal(directory.resolve('gpt-4o'), 'one:7b');
  assert.deepEqual(directory.furtherNames(), ['auto', 'gpt-4o']);
  aliases = {};
  assert.throws(() => directory.resolve('gpt-4o'), { code: 'model_missing' });
});

test('a usual misspelling is the model that is meant, where that is installed', () => {
  const directory = directoryOf(['phi3:mini', 'llama3.2:3b']);
  assert.equal(directory.resolve('phi-3:3b'), 'phi3:mini');
  assert.equal(directory.resolve('llama-3.2:3b'), 'llama3.2:3b');
  assert.throws(() => directory.resolve('phi-3:14b'), { code: 'model_missing' });
});
