/** Goal: whatever a client or an engine says, a dialect answers or refuses; it never breaks. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { CodeGodError } from '../../../protocol/errors.ts';
import { Dialect } from '../../../protocol/inference.ts';
import type { Translation } from './dialect.ts';
import { DIALECTS } from './dialects.ts';
import type { Fields } from './fields.ts';
import { nativeBody } from './node-options.ts';
import { chatLine, lastLine, translate } from './test-dialect.ts';

const NODE = { context_tokens: 8_192, keep_alive: 900 };
const text = { type: 'text', text: 'Hello' };
const parameters = { type: 'object', properties: {} };
const tool = { type: 'function', function: { name: 'f', parameters } };
/** A request that every dialect takes. */
const GOOD: Fields = {
  ...{ model: 'tiny', prompt: 'Hello', input: 'Hello', max_tokens: 5, temperature: 0.5 },
  messages: [
    { role: 'user', content: [text] },
    { role: 'assistant', content: [text] },
    { role: 'user', content: 'Hello' },
  ],
};
const KEYS = [
  ...Object.keys(GOOD),
  ...['tools', 'tool_choice', 'response_format', 'stream', 'stream_options', 'stop', 'n', 'think'],
  ...['options', 'system', 'thinking', 'output_config', 'reasoning_effort', 'suffix', 'dimensions'],
];
const value = fc.oneof(
  fc.jsonValue({ maxDepth: 4 }),
  fc.constantFrom(tool, [tool], [{ name: 'f', input_schema: parameters }], { type: 'any' }),
  fc.constantFrom([{ role: 'tool', tool_call_id: 'x' }], [{ role: 'user', content: [{}] }]),
);
const request = fc
  .dictionary(fc.constantFrom(...KEYS), value, { maxKeys: 3 })
  .map(changes => ({ ...GOOD, ...changes }));

function orRefused<T>(work: () => T): T | null {
  try {
    return work();
  } catch (error) {
    assert.ok(error instanceof CodeGodError, String(error));
    assert.notEqual(error.code, 'internal');
    return null;
  }
}

for (const name of Dialect.options) {
  test(`${name}: a request that fits is taken`, () => {
    const translation = translate(DIALECTS[name], GOOD);
    assert.equal(JSON.parse(nativeBody(translation, NODE)).model, translation.model);
  });

  test(`${name}: every request is taken or refused with a sentence`, () => {
    fc.assert(
      fc.property(request, body => {
        const translation = orRefused(() => translate(DIALECTS[name], body));
        if (translation !== null) assert.ok(nativeBody(translation, NODE).startsWith('{'));
      }),
      { numRuns: 300 },
    );
  });

  test(`${name}: whatever an engine says becomes an answer or a failure`, () => {
    const line = fc.oneof(
      fc.jsonValue({ maxDepth: 4 }).map(said => `${JSON.stringify(said)}\n`),
      fc.record({ message: fc.jsonValue(), done: fc.jsonValue() }).map(said => chatLine({}, said)),
      fc.constantFrom(chatLine({ content: 'a' }), lastLine(), '{"error":"x"}\n', '{"mess', '\n'),
    );
    fc.assert(
      fc.property(fc.array(line, { maxLength: 5 }), fc.boolean(), (lines, stream) => {
        const translation = translate(DIALECTS[name], { ...GOOD, stream });
        if (orRefused(() => feed(translation, lines.join(''))) !== null) return;
        const failure = new CodeGodError('engine_failed', 'it broke');
        assert.match(translation.answer.failure(failure), /it broke/);
      }),
      { numRuns: 300 },
    );
  });
}

function feed({ answer }: Translation, said: string): true {
  answer.take(Buffer.from(said));
  answer.end();
  return true;
}
