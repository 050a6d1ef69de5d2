/** Bytes that come from anywhere: what was encoded comes back, what is hostile is refused. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decode, decodeText, encode, JSON_TYPE, MSGPACK_TYPE } from './codec.ts';
import { CodeGodError } from './errors.ts';

const plain = fc.jsonValue({ maxDepth: 6 }).filter(value => !holdsProto(value));

function holdsProto(value: unknown): boolean {
  if (Array.isArray(value)) return value.some(holdsProto);
  if (value === null || typeof value !== 'object') return false;
  return Object.entries(value).some(([key, item]) => key === '__proto__' || holdsProto(item));
}

/** `decode` of JSON gives 0 for -0, as JSON itself does. */
function normal(value: unknown): unknown {
  return JSON.parse(JSON.stringify(value));
}

for (const type of [JSON_TYPE, MSGPACK_TYPE] as const) {
  test(`${type}: encode then decode is identity`, () => {
    fc.assert(
      fc.property(plain, value => {
        assert.deepEqual(normal(decode(encode(value, type), type)), normal(value));
      }),
      { numRuns: 500 },
    );
  });

  test(`${type}: hostile bytes give bad_message and never another exception`, () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 512 }), bytes => {
        try {
          decode(bytes, type);
        } catch (error) {
          assert.ok(error instanceof CodeGodError, String(error));
          assert.equal(error.code, 'bad_message');
        }
      }),
      { numRuns: 2_000 },
    );
  });
}

test('a key named __proto__ is refused instead of changing objects', () => {
  const bytes = new TextEncoder().encode('{"__proto__":{"admin":true}}');
  assert.throws(() => decode(bytes, JSON_TYPE), /__proto__/);
});

test('ten thousand levels of nesting are refused', () => {
  const bytes = new TextEncoder().encode('['.repeat(10_000) + ']'.repeat(10_000));
  assert.throws(() => decode(bytes, undefined), CodeGodError);
});

test('msgpack that claims a huge array is refused without building it', () => {
  assert.throws(
    () => decode(new Uint8Array([0xdd, 0xff, 0xff, 0xff, 0xff]), MSGPACK_TYPE),
    CodeGodError,
  );
});

test('text that is not UTF-8 is not text', () => {
  assert.equal(decodeText(new Uint8Array([0xff, 0xfe, 0x00])), null);
  assert.equal(decodeText(new TextEncoder().encode('grüß')), 'grüß');
});
