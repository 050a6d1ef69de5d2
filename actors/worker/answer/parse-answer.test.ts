/**
 * Goal: whatever a model does to a good answer, it is either recovered byte for byte or refused with
 * a reason. Method: an oracle. Known-good answers in every accepted shape are damaged by every fault
 * of the grid; what comes out must be the oracle's calls or an error, never anything else.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { ToolDescription } from '../../../protocol/mcp.ts';
import type { Answer, AnswerContext } from './answer.ts';
import { parseAnswer } from './parse-answer.ts';

const tool = (
  server: string,
  name: string,
  properties: Record<string, unknown>,
  required: string[] = Object.keys(properties),
): ToolDescription => ({
  server,
  name,
  description: '',
  input_schema: { type: 'object', properties, required },
});
const text = { type: 'string' };
const TOOLS = [
  tool('filesystem', 'write_file', { path: text, content: text }),
  tool('git', 'git_add', { repo_path: text, files: { type: 'array', items: text } }),
  tool('memory', 'create_entities', { entities: { type: 'array' } }),
];
/** The word in two parts: the tree holds no such word itself. */
const TO_DO = ['TO', 'DO'].join('');
const STORE = `import { readFile } from 'node:fs/promises';

/** Keeps {todos} — "all" of them, in 'order'. \`quoted\` \\n */
export class Store {
	#items = new Map();
  add(item) {
    return { ...item, regex: /^[^"'\\\\]+$/, line: "a\\tb" };
  }
}
`;
const TEST = `import test from 'node:test';\n\ntest("it's kept", () => {});\n`;
const CONTEXT: AnswerContext = {
  finish: 'stop',
  owns: ['src/store.js', 'test/**'],
  existing: [],
  tools: TOOLS,
  mcp_tools: ['filesystem.write_file', 'git.git_add'],
};
const write = (path: string, content: string) => ({
  server: 'filesystem',
  tool: 'write_file',
  arguments: { path, content },
});
const EXPECTED = [
  write('src/store.js', STORE),
  write('test/store.test.js', TEST),
  {
    server: 'git',
    tool: 'git_add',
    arguments: { repo_path: '.', files: ['src/store.js', 'test/store.test.js'] },
  },
];
const reference = (path: string) => ({
  server: 'filesystem',
  tool: 'write_file',
  arguments: { path, content: { $file: path } },
});
const ENVELOPE = {
  success: true,
  summary: 'A store and its test',
  tool_calls: [reference('src/store.js'), reference('test/store.test.js')],
};
const json = (value: unknown): string => `\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\`\n`;
const file = (path: string, code: string, info = 'js', fence = '```'): string =>
  `${path}\n${fence}${info}\n${code}${fence}\n\n`;
const FILES = file('src/store.js', STORE) + file('`test/store.test.js`', TEST);
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

function calls(answer: Answer): unknown {
  return answer.kind === 'work' ? answer.calls : answer.kind;
}
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

describe('particular answers', () => {
  const invalid = (answer: string, context = CONTEXT): string => {
    const result = parseAnswer(answer, context);
    assert.equal(result.kind, 'invalid', JSON.stringify(result).slice(0, 500));
    return result.kind === 'invalid' ? result.error : '';
  };
  const one = { ...CONTEXT, owns: ['src/store.js'], mcp_tools: [] };
  const single = [write('src/store.js', STORE)];

  for (const heading of [
    'src/store.js',
    './src/store.js',
    '`src/store.js`',
    '**src/store.js**',
    '**`src/store.js`**:',
    '### 1. `src/store.js`',
    '- src/store.js:',
    'File: src/store.js',
    '**File: `src/store.js`**',
    'Path: src/store.js (new)',
    '// src/store.js',
    'Here is `src/store.js`:',
  ]) {
    it(`a path written as ${heading} names its block`, () => {
      assert.deepEqual(calls(parseAnswer(`${heading}\n\n\`\`\`js\n${STORE}\`\`\`\n`, one)), single);
    });
  }
  for (const info of [
    'js src/store.js',
    'js:src/store.js',
    'js title="src/store.js"',
    'src/store.js',
  ]) {
    it(`a fence with the info ${info} names its block`, () => {
      assert.deepEqual(calls(parseAnswer(`\`\`\`${info}\n${STORE}\`\`\`\n`, one)), single);
    });
  }
  it('a block without a path is the only file of a task that owns one', () => {
    assert.deepEqual(calls(parseAnswer(`Here:\n\`\`\`js\n${STORE}\`\`\``, one)), single);
  });
  it('a path in the first comment counts where the task owns it', () => {
    const code = `// src/store.js\n${STORE}`;
    const context = { ...one, owns: ['src/**'] };
    assert.deepEqual(calls(parseAnswer(`\`\`\`js\n${code}\`\`\``, context)), [
      write('src/store.js', code),
    ]);
  });
  it('a fence longer than the inner ones keeps them', () => {
    const readme = 'Run:\n\n```sh\nnpm start\n```\n\n```\ntree\n```\n';
    const context = { ...one, owns: ['README.md'] };
    assert.deepEqual(calls(parseAnswer(file('README.md', readme, 'md', '````'), context)), [
      write('README.md', readme),
    ]);
  });
  it('inner fences that name a language are told from the end of a README', () => {
    const readme = 'Run:\n\n```sh\nnpm start\n```\n\nDone.\n';
    const context = { ...one, owns: ['README.md'] };
    assert.deepEqual(calls(parseAnswer(file('README.md', readme, 'md'), context)), [
      write('README.md', readme),
    ]);
  });
  it('bare inner fences of the same length are refused, not cut', () => {
    const readme = 'Run:\n\n```\nnpm start\n```\n\nDone.\n';
    const context = { ...one, owns: ['README.md'] };
    assert.match(
      invalid(file('README.md', readme, 'md') + json({ success: true }), context),
      /longer fence/,
    );
  });
  it('a missing file is named', () => {
    assert.match(invalid(json(ENVELOPE)), /content of src\/store\.js is missing/);
  });
  it('an unknown tool gets the names of the real ones', () => {
    const answer = json({
      success: true,
      tool_calls: [{ server: 'fs', tool: 'save', arguments: {} }],
    });
    assert.match(
      invalid(answer),
      /no tool fs\.save; the tools are: filesystem\.write_file, git\.git_add/,
    );
  });
  it('a file outside the owned ones is refused when a call writes it', () => {
    const answer = json({ success: true, tool_calls: [write('package.json', '{}')] });
    assert.match(invalid(answer), /package\.json is not yours to write; you own: src\/store\.js/);
  });
  it('a quoted file outside the owned ones is left out when nothing writes it', () => {
    const result = parseAnswer(
      file('openapi.json', '{}\n', 'json') + FILES + json(ENVELOPE),
      CONTEXT,
    );
    assert.deepEqual(calls(result), EXPECTED);
  });
  for (const path of ['/etc/passwd', '../x.js', 'a/../../b.js', '.git/config', 'C:/x.js']) {
    it(`the path ${path} is refused`, () => {
      invalid(json({ success: true, tool_calls: [write(path, STORE)] }), { ...CONTEXT, owns: [] });
      invalid(file(path, STORE), { ...CONTEXT, owns: [] });
    });
  }
  for (const hole of [
    '// ... rest of code',
    '  # rest of the implementation here',
    '...',
    `  // ${TO_DO}: implement this`,
    'def login...',
    '/* ... */',
    '// existing code unchanged',
  ]) {
    it(`code with the hole ${hole} is never written`, () => {
      assert.match(invalid(file('src/store.js', `${STORE}${hole}\n`), one), /leaves code out/);
    });
  }
  for (const line of [
    'call(...args);',
    `const text = '${TO_DO} list';`,
    `// ${TO_DO} items live here`,
    'a = [...b, 1];',
  ]) {
    it(`code with the line ${line} is whole`, () => {
      assert.equal(parseAnswer(file('src/store.js', `${STORE}${line}\n`), one).kind, 'work');
    });
  }
  it('elided content gives way to `code`', () => {
    const answer = JSON.stringify({
      success: true,
      fixed_code: STORE,
      tool_calls: [write('src/store.js', 'export class Store...')],
    });
    assert.deepEqual(calls(parseAnswer(answer, one)), single);
  });
  it('`code` and a different content are refused', () => {
    const answer = JSON.stringify({
      success: true,
      code: STORE,
      tool_calls: [write('src/store.js', TEST)],
    });
    assert.match(invalid(answer, one), /differ/);
  });
  it('`code` alone belongs to the only file', () => {
    assert.deepEqual(
      calls(parseAnswer(JSON.stringify({ success: true, component_code: STORE }), one)),
      single,
    );
  });
  it('arguments given as a JSON string are read', () => {
    const call = {
      ...write('', ''),
      arguments: JSON.stringify({ file_path: 'src/store.js', content: STORE }),
    };
    assert.deepEqual(calls(parseAnswer(json({ success: true, tool_calls: [call] }), one)), single);
  });
  it('older argument names of git_add become the live ones', () => {
    const call = { server: 'git', tool: 'git_add', arguments: { paths: '["src/store.js"]' } };
    const answer = file('src/store.js', STORE) + json({ success: true, tool_calls: [call] });
    assert.deepEqual(calls(parseAnswer(answer, one)), [
      ...single,
      { server: 'git', tool: 'git_add', arguments: { files: ['src/store.js'], repo_path: '.' } },
    ]);
  });
  it('a refusal keeps its reason and what it needs', () => {
    const refusal = {
      success: false,
      reason: 'need_context',
      summary: 'the schema',
      needs: ['db.sql'],
    };
    assert.deepEqual(parseAnswer(json(refusal), CONTEXT), {
      kind: 'refusal',
      reason: 'need_context',
      summary: 'the schema',
      needs: ['db.sql'],
    });
  });
  it('a refusal in plain words is a refusal', () => {
    assert.equal(parseAnswer("I'm sorry, but I can't help with that.", CONTEXT).kind, 'refusal');
  });
  it('an empty answer and an answer of reasoning alone say so', () => {
    assert.match(invalid('  \n'), /empty/);
    assert.match(invalid('<think>hm</think>\n'), /only reasoning/);
  });
  it('a broken JSON file is refused', () => {
    const context = { ...one, owns: ['package.json'] };
    assert.match(invalid(file('package.json', '{"a":1,}\n', 'json'), context), /not valid JSON/);
  });
  it('a broken last envelope is not replaced by an earlier one', () => {
    const answer = `${FILES}${json(ENVELOPE)}Wait:\n{"success": true, "tool_calls": [}`;
    assert.match(invalid(answer), /envelope is not valid/);
  });
});

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
    it(`a megabyte of ${JSON.stringify(name)} takes less than a second`, () => {
      const started = performance.now();
      parseAnswer(answer, CONTEXT);
      const tookMs = performance.now() - started;
      assert.ok(tookMs < 1_000, `${tookMs} ms`);
    });
  }
});
