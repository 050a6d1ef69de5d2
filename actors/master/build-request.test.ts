/** What arrives on `codegod.build`, from people, programs and the unkind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { BuildRequest } from '../../protocol/build.ts';
import { encode, MSGPACK_TYPE } from '../../protocol/codec.ts';
import { CodeGodError } from '../../protocol/errors.ts';
import { excerptOf, nameHint, readBuildRequest } from './build-request.ts';

const DEFAULTS = { max_parallel_tasks: 3, fallback: 'deny', prefer_local: true } as const;
const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const read = (body: Uint8Array, headers: Record<string, string> = {}) =>
  readBuildRequest(body, headers, DEFAULTS);

test('JSON, msgpack with and without its name, a JSON string and bare text are understood', () => {
  const request = { prompt: 'Create a REST API' };
  const packed = encode(request, MSGPACK_TYPE);
  const messages: readonly (readonly [Uint8Array, Record<string, string>])[] = [
    [bytes(JSON.stringify(request)), {}],
    [packed, { 'content-type': MSGPACK_TYPE }],
    [packed, {}],
    [bytes('"Create a REST API"'), {}],
    [bytes('  Create a REST API\n'), {}],
  ];
  for (const [body, headers] of messages) assert.equal(read(body, headers).prompt, request.prompt);
});

test('configuration fills in what the request leaves open, and nothing else', () => {
  assert.equal(read(bytes('x y')).max_parallel_tasks, 3);
  assert.equal(read(bytes('{"prompt":"x","max_parallel_tasks":9}')).max_parallel_tasks, 9);
  assert.equal(read(bytes('{"prompt":"x","fallback":"allow"}')).fallback, 'allow');
});

test('what cannot be understood is refused with a reason', () => {
  const cases: readonly (readonly [Uint8Array, RegExp])[] = [
    [bytes(''), /empty/],
    [bytes('   '), /empty/],
    [bytes('{"prompt": "broken'), /not application\/json/],
    [bytes('{"text":"no prompt"}'), /prompt/],
    [bytes('{"prompt":"x","__proto__":{}}'), /__proto__/],
    [bytes('a\u0000b'), /control characters/],
    [Uint8Array.from([0xff, 0xfe, 0xfd]), /neither JSON nor msgpack nor text/],
    [bytes(JSON.stringify({ prompt: 'x'.repeat(40_000) })), /prompt/],
  ];
  for (const [body, reason] of cases) assert.throws(() => read(body), reason);
});

test('a message of another version is refused', () => {
  const headers = { 'ce-type': 'dev.codegod.build.requested.v9' };
  assert.throws(
    () => read(bytes('x'), headers),
    error => error instanceof CodeGodError && error.code === 'unsupported_version',
  );
});

test('hostile bytes give a request or a CodeGodError, never anything else', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), body => {
      try {
        const request = read(body);
        assert.ok(BuildRequest.safeParse(request).success);
      } catch (error) {
        assert.ok(error instanceof CodeGodError, String(error));
      }
      assert.ok(excerptOf(body).length <= 200);
    }),
    { numRuns: 500 },
  );
});

test('a name is made of what a prompt is about', () => {
  assert.equal(
    nameHint('Create a REST API for a todo list with title, done'),
    'rest-api-todo-list-title',
  );
  assert.equal(nameHint('¡¡¡'), null);
  assert.match(nameHint('x'.repeat(300)) ?? '', /^x{50}$/);
});
