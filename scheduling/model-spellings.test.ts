/** Names that people write and no registry knows, and the models that are meant. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { meantName, spellingsOf } from './model-spellings.ts';
import { place } from './placement.ts';
import { GIB, NOW, nodeView } from './test-nodes.ts';

const ALIASES = { 'gpt-4o': 'qwen2.5-coder:14b', helper: 'phi-3:3b' };

test('what people write is what they mean, and an alias is followed first', () => {
  const meant = (name: string) => spellingsOf(name, ALIASES).at(-1);
  assert.equal(meant('phi-3:3b'), 'phi3:mini');
  assert.equal(meant('llama-3.2:3b'), 'llama3.2:3b');
  assert.equal(meant('GPT-4o'), 'qwen2.5-coder:14b');
  assert.equal(meant('helper'), 'phi3:mini');
  assert.deepEqual(spellingsOf('tiny', {}), ['tiny:latest']);
});

test('a model that is there under the very name is the one that is meant', () => {
  const there =
    (...names: readonly string[]) =>
    (name: string) =>
      names.includes(name);
  assert.equal(meantName('phi-3:3b', {}, there('phi-3:3b', 'phi3:mini')), 'phi-3:3b');
  assert.equal(meantName('phi-3:3b', {}, there('phi3:3b')), 'phi3:3b');
  assert.equal(meantName('phi-3:3b', {}, there()), 'phi3:mini');
});

test('a placement finds the model under the name of its registry', () => {
  const request = {
    ...{ model: 'phi-3:3b', context_tokens: 4_096, remote: 'deny' as const },
    ...{ avoid: [], refused: {} },
  };
  const gpu = { free: 20 * GIB, total: 24 * GIB };
  const models = [{ name: 'phi3:mini', size_bytes: 2 * GIB }];
  assert.equal(place(request, [nodeView({ id: 'a', gpu, models })], NOW).plan?.model, 'phi3:mini');
  const { decision } = place(request, [nodeView({ id: 'a', gpu })], NOW);
  assert.match(`${decision.would_change}`, /pull phi3:mini/);
});
