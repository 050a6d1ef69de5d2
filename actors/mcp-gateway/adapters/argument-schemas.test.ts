/** Goal: arguments are checked by the server's schema, and no schema can make the gateway stand. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { systemClock } from '../../../runtime/clock.ts';
import { createArgumentSchemas } from './argument-schemas.ts';

const tool = (properties: object, more: object = {}) => ({
  name: 'a',
  inputSchema: { type: 'object', properties, ...more },
});

test('faults are sentences with the place, the allowed values and the name in the way', () => {
  const { faults } = createArgumentSchemas();
  const schema = tool({ kind: { enum: ['a', 'b'] }, n: { type: 'integer' } }, { required: ['n'] });
  assert.deepEqual(faults(schema, { kind: 'a', n: 1 }), []);
  assert.deepEqual(faults(schema, { kind: 'c' }), [
    "must have required property 'n'",
    'kind must be equal to one of the allowed values: a, b',
  ]);
});

test('a schema that is wrong leaves the word to the server', () => {
  const { faults } = createArgumentSchemas();
  assert.deepEqual(faults(tool({ a: { $ref: '#/nowhere' } }), { a: 1 }), []);
});

test('a pattern that would take for ever is stopped, and not tried again', () => {
  const { faults } = createArgumentSchemas();
  const schema = tool({ text: { type: 'string', pattern: '^(a+)+$' } });
  const endless = { text: `${'a'.repeat(60)}b` };
  assert.deepEqual(faults(schema, endless), []);
  // Not tried again: what it would have refused at once is the server's to refuse now.
  assert.deepEqual(faults(schema, { text: 'b' }), []);
});

test('items that are compared with each other do not make it stand either', () => {
  const { faults } = createArgumentSchemas();
  const schema = tool({ items: { type: 'array', uniqueItems: true } });
  const items = Array.from({ length: 60_000 }, (_, n) => ({ n }));
  const startedAt = systemClock.monotonic();
  assert.deepEqual(faults(schema, { items }), []);
  assert.ok(systemClock.monotonic() - startedAt < 5_000); // Minutes without the limit.
});
