/** Goal: a model is found however its name is written, and a wrong name leads to the likeliest one. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { canonicalModelName, nameIn, nearestName, sameModel } from './model-names.ts';

test('blanks, capitals, and the place that every name has by default do not matter', () => {
  for (const name of [
    ...[' chat:8b', 'chat:8b ', 'Chat:8B', 'library/chat:8b'],
    ...['registry.ollama.ai/library/chat:8b', 'https://registry.ollama.ai/library/chat:8b'],
  ]) {
    assert.equal(canonicalModelName(name), 'chat:8b', name);
  }
  assert.equal(canonicalModelName('registry.ollama.ai/somebody/chat'), 'somebody/chat:latest');
});

test('another namespace or registry is another model', () => {
  assert.equal(sameModel('somebody/chat', 'chat'), false);
  assert.equal(sameModel('hf.co/library/chat', 'chat'), false);
  assert.equal(canonicalModelName('house:5000/a/chat'), 'house:5000/a/chat:latest');
});

test('an empty name counts as absent', () => {
  assert.equal(nameIn({ model: '', name: 'chat:8b' }), 'chat:8b');
  assert.equal(nameIn({ model: ' chat:8b ', name: 'other' }), 'chat:8b');
  for (const body of [{}, { model: ' ', name: '' }, { model: 5 }]) assert.equal(nameIn(body), null);
});

test('the nearest name is one of the same family, where there is one', () => {
  const names = ['smollm2tools', 'smollm2:135m', 'gemma3:270m'];
  assert.equal(nearestName('smollm2', names), 'smollm2:135m');
  assert.equal(nearestName('smollm2:7b', names), 'smollm2:135m');
  assert.equal(nearestName('smollm2toolz', names), 'smollm2tools');
  assert.equal(nearestName('smollm2', []), null);
});
