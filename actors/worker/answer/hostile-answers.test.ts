/** Goal: the parser is total and linear: any text gives an answer, soon. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { parseAnswer } from './parse-answer.ts';
import { CONTEXT, json } from './test-answers.ts';

describe('any text at all', () => {
  it('gives an answer and never throws', () => {
    const token = fc.constantFrom(
      ...['```', '```json', '````', '~~~', '{', '}', '[', ']', '"', "'", '\\', '\n', ':', ',', ' '],
      ...['<think>', '</think>', '<tool_call>', '</tool_call>', '<function=a>', '</function>'],
      ...['<parameter=b>', '"success":true', '"tool_calls":', '"$file"', 'src/store.js', '"path"'],
      ...['"content"', '__proto__', 'Action: x\nAction Input: ', '[f(a="', '...', 'code'],
    );
    const noise = fc.oneof(
      fc.string(),
      fc.array(token, { maxLength: 60 }).map(list => list.join('')),
    );
    fc.assert(
      fc.property(noise, answer => {
        assert.ok(
          ['work', 'refusal', 'truncated', 'invalid'].includes(parseAnswer(answer, CONTEXT).kind),
        );
      }),
      { numRuns: 2_000 },
    );
  });

  it('gives an answer for any JSON in the place of an envelope', () => {
    fc.assert(
      fc.property(fc.jsonValue(), value => {
        parseAnswer(JSON.stringify({ success: value, reason: value, tool_calls: value }), CONTEXT);
        const call = {
          server: value,
          tool: 'write_file',
          arguments: { path: value, content: value },
        };
        parseAnswer(json({ success: true, tool_calls: [call, value], files: value }), CONTEXT);
      }),
      { numRuns: 500 },
    );
  });

  const million = 1_000_000;
  const hostile: Record<string, string> = {};
  for (const unit of [
    ...['{', '[', '{"', '{"a":', '"', "'", '\\', '```', '```\n', '```a\n', '~~~\n', '`', '\n'],
    ...[
      '<think>',
      '<think>\n',
      '</think>',
      '<tool_call>',
      '<tool_call>\n{',
      '<function=a>',
      '[f(a=',
      '[f(',
    ],
    ...[
      '[f(a="',
      'a/b.c\n```\n',
      'a/b.c\n```\n/*```\n',
      '{"success":',
      '[{"',
      '{"a":"b" ',
      '...,',
      ' ',
    ],
    ...[
      '<parameter=a>',
      'Action: a\nAction Input: ',
      '- ',
      '// ... ',
      '"$file":',
      '{}',
      '[{}]',
      '# ',
    ],
  ]) {
    hostile[unit] = unit.repeat(Math.ceil(million / unit.length)).slice(0, million);
    hostile[`{"success": true, "code": "${unit}`] = `{"success": true, "code": "${hostile[unit]}`;
  }
  for (const [name, answer] of Object.entries(hostile)) {
    it(`a megabyte of ${JSON.stringify(name)} takes less than a second of work`, () => {
      const before = process.cpuUsage();
      parseAnswer(answer, CONTEXT);
      const { user, system } = process.cpuUsage(before);
      assert.ok(user + system < 1_000_000, `${(user + system) / 1_000} ms`);
    });
  }
});
