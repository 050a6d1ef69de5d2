/**
 * Goal: whatever a model does to a good answer, it is either recovered byte for byte or refused with
 * a reason. Method: an oracle. Known-good answers in every accepted shape are damaged by every fault
 * of the grid; what comes out must be the oracle's calls or an error, never anything else.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { Answer } from './answer.ts';
import { parseAnswer } from './parse-answer.ts';
import {
  CONTEXT,
  calls,
  ENVELOPE,
  EXPECTED,
  FILES,
  json,
  STORE,
  TEST,
  write,
} from './test-answers.ts';

const SEED = {
  success: true,
  code: STORE,
  tool_calls: [write('src/store.js', STORE), write('test/store.test.js', TEST)],
};

const SHAPES: Record<string, string> = {
  'blocks and envelope': FILES + json(ENVELOPE),
  'blocks and a bare envelope': FILES + JSON.stringify(ENVELOPE),
  'blocks alone': FILES,
  'the older JSON': JSON.stringify(SEED),
  'the older JSON, indented': JSON.stringify(SEED, null, 2),
  'the older JSON in a fence': json(SEED),
  'files in JSON': json({
    success: true,
    files: [
      { path: 'src/store.js', content: STORE },
      { path: 'test/store.test.js', content: TEST },
    ],
  }),
  'a map of files': json({
    success: true,
    files: { 'src/store.js': STORE, 'test/store.test.js': TEST },
  }),
  'tool_call tags': EXPECTED.slice(0, 2)
    .map(call => {
      const body = { name: `${call.server}__${call.tool}`, arguments: call.arguments };
      return `<tool_call>\n${JSON.stringify(body)}\n</tool_call>`;
    })
    .join('\n'),
  'function tags': EXPECTED.slice(0, 2)
    .map(call => {
      const { path, content } = call.arguments as { path: string; content: string };
      return `<function=write_file>\n<parameter=path>\n${path}\n</parameter>\n<parameter=content>\n${content}</parameter>\n</function>`;
    })
    .join('\n'),
  'pythonic calls': `[${EXPECTED.slice(0, 2)
    .map(call => {
      const { path, content } = call.arguments as { path: string; content: string };
      return `write_file(path="${path}", content=${JSON.stringify(content)})`;
    })
    .join(', ')}]`,
};

type Damage = (answer: string) => string;
const HARMLESS: Record<string, Damage> = {
  nothing: answer => answer,
  'prose before': answer => `Sure! Here is the store you asked for, {as} wanted:\n\n${answer}`,
  'prose after': answer => `${answer}\n\nLet me know if you'd like changes.\n`,
  reasoning: answer =>
    `<think>\nFirst {"success": false}.\n\`\`\`js\nbad\n\`\`\`\n</think>\n\n${answer}`,
  'reasoning whose opening tag is missing': answer => `I will write a store.\n</think>\n${answer}`,
  'a byte order mark': answer => `\uFEFF${answer}`,
  'blank lines around': answer => `\n\n\n${answer}\n\n\n`,
};
const HARMFUL: Record<string, Damage> = {
  'a trailing comma': answer => answer.replace(/\}(\s*)\]/g, '},$1]'),
  'single quotes': answer => answer.replace(/"(success|summary|tool_calls|server|tool)"/g, "'$1'"),
  'Python constants': answer => answer.replace(/"success":(\s*)true/g, '"success":$1True'),
  'raw line breaks in strings': answer => answer.replaceAll('\\n\\n', '\n\n'),
  'comments in JSON': answer => answer.replace(/"success"/g, '/* yes */ "success"'),
  'reasoning that is not closed': answer => `<think>\nLet me see.\n\n${answer}`,
  'a missing success': answer => answer.replace(/"success":\s*true,\s*/g, ''),
  'the wrong language': answer => answer.replaceAll('```js', '```python'),
  'tool names in capitals': answer => answer.replaceAll('"write_file"', '"Write_File"'),
  'tool names with the server': answer =>
    answer.replaceAll('"tool":"write_file"', '"tool":"filesystem.write_file"'),
  'two envelopes': answer =>
    `${JSON.stringify({ success: false, reason: 'other', summary: 'draft' })}\n\n${answer}`,
  'unescaped quotes': answer => answer.replaceAll('\\"', '"'),
  'the last fence missing': answer => answer.replace(/```\s*$/, ''),
  'Windows line ends of fences': answer => answer.replace(/^(```\w*)$/gm, '$1\r'),
};

function sameCalls(answer: Answer): boolean {
  try {
    assert.deepEqual(calls(answer), EXPECTED);
    return true;
  } catch {
    return false;
  }
}

describe('an answer in any accepted shape', () => {
  for (const [shape, answer] of Object.entries(SHAPES)) {
    for (const [name, damage] of Object.entries(HARMLESS)) {
      it(`${shape}, with ${name}: is recovered byte for byte`, () => {
        assert.deepEqual(calls(parseAnswer(damage(answer), CONTEXT)), EXPECTED);
      });
    }
  }
});

describe('a damaged answer', () => {
  const cases = Object.entries(SHAPES).flatMap(([shape, answer]) =>
    Object.entries(HARMFUL).map(([name, damage]) => ({ shape, name, text: damage(answer) })),
  );
  for (const { shape, name, text: damaged } of cases) {
    it(`${shape}, with ${name}: is recovered or refused, never altered`, () => {
      const result = parseAnswer(damaged, CONTEXT);
      if (sameCalls(result)) return;
      // An envelope that refuses is believed where nothing later takes it back.
      const kinds = name === 'two envelopes' ? ['invalid', 'refusal'] : ['invalid'];
      assert.ok(kinds.includes(result.kind), JSON.stringify(result).slice(0, 2_000));
    });
  }
  it('is recovered in nine of ten cases', () => {
    const lost = cases.filter(({ text: damaged }) => !sameCalls(parseAnswer(damaged, CONTEXT)));
    const names = lost.map(({ shape, name }) => `${shape} / ${name}`).join('\n');
    assert.ok(lost.length <= cases.length / 10, names);
  });
});

describe('an answer cut off at any place', () => {
  for (const [shape, answer] of Object.entries(SHAPES)) {
    it(`${shape}: is never taken for a whole one`, () => {
      for (let percent = 0; percent < 100; percent += 1) {
        const part = answer.slice(0, Math.floor((answer.length * percent) / 100));
        const cut = parseAnswer(part, { ...CONTEXT, finish: 'length' });
        assert.ok(cut.kind === 'truncated' || sameCalls(cut), `${percent} %: ${cut.kind}`);
        const stopped = parseAnswer(part, CONTEXT);
        const lawful =
          stopped.kind === 'invalid' || sameCalls(stopped) || isFirstFileOnly(shape, stopped);
        assert.ok(lawful, `${percent} %: ${JSON.stringify(stopped).slice(0, 400)}`);
      }
    });
  }
  /** Blocks alone and lists of calls have no end mark: a cut between two items cannot be seen. */
  function isFirstFileOnly(shape: string, answer: Answer): boolean {
    if (
      ![
        'blocks alone',
        'blocks and envelope',
        'blocks and a bare envelope',
        'tool_call tags',
        'function tags',
      ].includes(shape)
    )
      return false;
    return (
      answer.kind === 'work' && answer.files.length === 1 && answer.files[0] === 'src/store.js'
    );
  }
});
