/** Headers that are broken or made to hurt: every one is refused in words, and soon. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CodeGodError } from '../protocol/errors.ts';
import { HEADER_BYTES_MAX, profileOfGguf, readGgufHeader } from './gguf.ts';
import { testGguf } from './test-gguf.ts';
import { testModel } from './test-models.ts';
import { SHAPES } from './test-shapes.ts';

const { header: GOOD } = testGguf(testModel(SHAPES['llama3.2:1b'], 'Q4_K_M'));

const read = (bytes: Uint8Array, size = bytes.length) =>
  readGgufHeader({
    size_bytes: size,
    read: async (offset, length) => bytes.subarray(offset, offset + length),
  });

function bytesOf(...parts: readonly (string | number | bigint)[]): Uint8Array {
  return Buffer.concat(
    parts.map(part => {
      if (typeof part === 'string') return Buffer.from(part);
      const buffer = Buffer.alloc(typeof part === 'bigint' ? 8 : 4);
      if (typeof part === 'bigint') buffer.writeBigUInt64LE(part);
      else buffer.writeUInt32LE(part);
      return buffer;
    }),
  );
}

const MANY = 2n ** 63n;

for (const [what, bytes, message] of [
  ['an empty file', bytesOf(), /ends inside/],
  ['another kind of file', bytesOf('PK\u0003\u0004', 3, 0n, 0n), /does not begin/],
  ['version 1', bytesOf('GGUF', 1, 0, 0), /version is 1/],
  ['a file of the other byte order', bytesOf('GGUF', 0x03000000, 0n, 0n), /version is 50331648/],
  ['more tensors than any model has', bytesOf('GGUF', 3, MANY, 0n), /tensors; at most/],
  ['more keys than any model has', bytesOf('GGUF', 3, 0n, MANY), /keys; at most/],
  ['a key that is longer than any', bytesOf('GGUF', 3, 0n, 1n, MANY), /a key; at most/],
  ['a value of no kind', bytesOf('GGUF', 3, 0n, 1n, 1n, 'k', 99), /kind 99/],
  [
    'a text that is longer than any',
    bytesOf('GGUF', 3, 0n, 1n, 1n, 'k', 8, MANY),
    /a text; at most/,
  ],
  [
    'a list that is longer than any',
    bytesOf('GGUF', 3, 0n, 1n, 1n, 'k', 9, 4, MANY),
    /a list; at most/,
  ],
  [
    'lists in lists in lists',
    bytesOf('GGUF', 3, 0n, 1n, 1n, 'k', 9, 9, 1n, 9, 1n, 9, 1n),
    /nested too deeply/,
  ],
  ['a tensor of nine dimensions', bytesOf('GGUF', 3, 1n, 0n, 1n, 't', 9), /9 dimensions/],
  [
    'a tensor that is larger than numbers go',
    bytesOf('GGUF', 3, 1n, 0n, 1n, 't', 2, 2n ** 40n, 2n ** 40n, 0, 0n),
    /too large/,
  ],
] as const) {
  test(`${what} is refused`, async () => {
    await assert.rejects(read(bytes), { code: 'bad_request', message });
  });
}

test('a header that ends early is refused, wherever it ends', async () => {
  for (const length of [0, 3, 4, 8, 23, 24, 40, 100, 1_000, GOOD.length - 40]) {
    await assert.rejects(read(GOOD.subarray(0, length)), { code: 'bad_request' });
  }
});

test('a header that claims to be endless is given up at its bound', async () => {
  const start = bytesOf('GGUF', 3, 0n, 1n, 1n, 'k', 9, 10, 2n ** 25n);
  let most = 0;
  const endless = readGgufHeader({
    size_bytes: 2 ** 40,
    async read(offset, length) {
      most = Math.max(most, offset + length);
      const part = new Uint8Array(length);
      if (offset === 0) part.set(start);
      return part;
    },
  });
  await assert.rejects(endless, { code: 'bad_request', message: /longer than/ });
  assert.ok(most <= HEADER_BYTES_MAX);
});

test('a header without an architecture gives no profile', () => {
  const header = { version: 3, metadata: {}, tensors: [] };
  assert.throws(() => profileOfGguf([header], 1), { code: 'bad_request', message: /architecture/ });
});

test('bytes changed anywhere give a header or a refusal, never anything else', async () => {
  const changes = fc.array(fc.tuple(fc.nat(GOOD.length - 1), fc.nat(255)), {
    minLength: 1,
    maxLength: 8,
  });
  await fc.assert(
    fc.asyncProperty(changes, async all => {
      const bytes = Uint8Array.from(GOOD);
      for (const [at, value] of all) bytes[at] = value;
      try {
        const parsed = await read(bytes);
        if (typeof parsed.metadata['general.architecture'] === 'string')
          profileOfGguf([parsed], 1e9);
      } catch (error) {
        assert.ok(error instanceof CodeGodError, String(error));
        assert.equal(error.code, 'bad_request');
      }
    }),
    { numRuns: 300 },
  );
});
