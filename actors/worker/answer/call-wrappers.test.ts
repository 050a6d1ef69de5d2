/**
 * Goal: a tool call is made or refused, never written as the text of a file. Method: every shape of a
 * call in every wrapper that models put around it, for a task that owns one file, where the block
 * could be taken for that file.
 */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import type { AnswerContext } from './answer.ts';
import { parseAnswer } from './parse-answer.ts';
import { CONTEXT, calls, STORE, write } from './test-answers.ts';

type Loose = Record<string, unknown>;

/** A call as JSON, from its name and its arguments. */
const SHAPES: Record<string, (name: string, args: Loose) => unknown> = {
  'name and arguments': (name, args) => ({ name, arguments: args }),
  'arguments as text': (name, args) => ({ name, arguments: JSON.stringify(args) }),
  'name and parameters': (name, args) => ({ name, parameters: args }),
  'name and input': (name, args) => ({ type: 'tool_use', id: 'x1', name, input: args }),
  'tool and arguments': (name, args) => ({ tool: name, arguments: args }),
  'tool and args': (name, args) => ({ tool: name, args }),
  'tool and parameters': (name, args) => ({ tool: name, parameters: args }),
  'tool_name and tool_input': (name, args) => ({ tool_name: name, tool_input: args }),
  'server and tool': (name, args) => ({ server: 'filesystem', tool: name, arguments: args }),
  'server in the name': (name, args) => ({ name: `filesystem.${name}`, arguments: args }),
  'a function object': (name, args) => ({
    type: 'function',
    function: { name, arguments: JSON.stringify(args) },
  }),
  'a function name': (name, args) => ({ function: name, arguments: args }),
  'action and action_input': (name, args) => ({ action: name, action_input: args }),
  recipient_name: (name, args) => ({ recipient_name: `functions.${name}`, parameters: args }),
  'arguments beside the tool': (name, args) => ({ tool: name, ...args }),
  'arguments beside the name': (name, args) => ({ name, ...args }),
  'a tool_call object': (name, args) => ({ tool_call: { name, arguments: args } }),
  'a list': (name, args) => [{ name, arguments: args }],
  tool_calls: (name, args) => ({ tool_calls: [{ name, arguments: args }] }),
  'success and a call': (name, args) => ({ success: true, tool: name, arguments: args }),
};

const fence =
  (info: string, mark = '```') =>
  (json: string): string =>
    `Here is the call:\n\n${mark}${info}\n${json}\n${mark}\n`;

const WRAPPERS: Record<string, (json: string) => string> = {
  'a json fence': fence('json'),
  'a bare fence': fence(''),
  'a tilde fence': fence('json', '~~~'),
  'a js fence': fence('js'),
  'a tool_call fence': fence('tool_call'),
  'a tool_code fence': fence('tool_code'),
  'a fence under the path of the file': json => `src/store.js\n${fence('json')(json).slice(20)}`,
  'a fence whose info is the path': fence('json src/store.js'),
  nothing: json => json,
  prose: json => `I will write the file now.\n\n${json}\n\nDone.`,
  'tool_call tags': json => `<tool_call>\n${json}\n</tool_call>`,
  'tool_call tags in capitals': json => `<TOOL_CALL>\n${json}\n</TOOL_CALL>`,
  'tool_call tags in a fence': json => fence('xml')(`<tool_call>\n${json}\n</tool_call>`),
  'a fence in tool_call tags': json => `<tool_call>\n\`\`\`json\n${json}\n\`\`\`\n</tool_call>`,
  python_tag: json => `<|python_tag|>${json}<|eom_id|>`,
  'python_tag in a fence': json => fence('')(`<|python_tag|>${json}`),
  TOOL_CALLS: json => `[TOOL_CALLS]${json}`,
  'thinking before': json => `<think>\nI should write.\n</think>\n${json}`,
};

const PATH = 'src/store.js';
const ONE: AnswerContext = { ...CONTEXT, owns: [PATH], mcp_tools: ['filesystem.write_file'] };

describe('a call that writes the file', () => {
  for (const [wrapper, wrap] of Object.entries(WRAPPERS)) {
    for (const [shape, make] of Object.entries(SHAPES)) {
      for (const [style, indent] of [
        ['on one line', undefined],
        ['indented', 2],
      ] as const) {
        it(`${shape}, ${style}, in ${wrapper}: is made`, () => {
          const call = make('write_file', { path: PATH, content: STORE });
          const answer = wrap(JSON.stringify(call, null, indent));
          assert.deepEqual(calls(parseAnswer(answer, ONE)), [write(PATH, STORE)]);
        });
      }
    }
  }
});

describe('a call of a tool that the task has not', () => {
  for (const [wrapper, wrap] of Object.entries(WRAPPERS)) {
    for (const [shape, make] of Object.entries(SHAPES)) {
      it(`${shape} in ${wrapper}: is refused, and the tools are named`, () => {
        const answer = wrap(JSON.stringify(make('read_text_file', { path: PATH })));
        const result = parseAnswer(answer, ONE);
        assert.equal(result.kind, 'invalid', JSON.stringify(result).slice(0, 400));
        assert.match(result.kind === 'invalid' ? result.error : '', /no tool .*read_text_file/);
      });
    }
  }
});

describe('a call that is cut off', () => {
  for (const [wrapper, wrap] of Object.entries(WRAPPERS)) {
    for (const [shape, make] of Object.entries(SHAPES)) {
      it(`${shape} in ${wrapper}: writes nothing`, () => {
        const whole = wrap(JSON.stringify(make('write_file', { path: PATH, content: STORE })));
        for (const share of [0.5, 0.7, 0.9]) {
          const cut = whole.slice(0, Math.floor(whole.length * share));
          for (const finish of ['stop', 'length'] as const) {
            const result = parseAnswer(cut, { ...ONE, finish });
            const written = result.kind === 'work' ? result.calls : [];
            if (written.length > 0) assert.deepEqual(written, [write(PATH, STORE)]);
          }
        }
      });
    }
  }
});

const call = (code: string): string => `write_file(path=${JSON.stringify(PATH)}, content=${code})`;
const ARGUMENTS = JSON.stringify({ path: PATH, content: STORE });
/** Between the marks of a model's own training, where its engine does not take them apart. */
const MARKED: Record<string, string> = {
  'a channel': `<|channel|>commentary to=functions.write_file <|constrain|>json<|message|>${ARGUMENTS}<|call|>`,
  'a channel without a kind': `<|channel|>commentary to=functions.write_file<|message|>${ARGUMENTS}`,
  'a channel behind its recipient': `<|start|>assistant to=functions.write_file<|channel|>commentary json<|message|>${ARGUMENTS}<|call|>`,
  'a channel after reasoning': `<|channel|>analysis<|message|>I call {"name":"x"} now.<|end|><|start|>assistant<|channel|>commentary to=functions.filesystem.write_file code<|message|>${ARGUMENTS}<|call|>`,
  'a file in the last channel': `<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>${PATH}\n\`\`\`js\n${STORE}\`\`\`\n`,
  '[TOOL_CALLS] with [ARGS]': `[TOOL_CALLS]write_file[ARGS]${ARGUMENTS}</s>`,
  '[TOOL_CALLS] with an id': `[TOOL_CALLS]write_file[CALL_ID]x1y2z3[ARGS]${ARGUMENTS}`,
  '[TOOL_CALLS] with a name': `Now:[TOOL_CALLS]filesystem.write_file${ARGUMENTS}`,
  'wide bars and a fence': `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>write_file\n\`\`\`json\n${ARGUMENTS}\n\`\`\`<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
  'wide bars': `<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>write_file<｜tool▁sep｜>${ARGUMENTS}<｜tool▁call▁end｜><｜tool▁calls▁end｜>`,
  'numbered marks': `<|tool_calls_section_begin|><|tool_call_begin|>functions.write_file:0<|tool_call_argument_begin|>${ARGUMENTS}<|tool_call_end|><|tool_calls_section_end|>`,
};
const block = (indent: string): string =>
  STORE.trimEnd()
    .split('\n')
    .map(line => (line === '' ? '' : indent + line))
    .join('\n');
const YAML: Record<string, string> = {
  'with a block': `server: filesystem\ntool: write_file\narguments:\n  path: ${PATH}\n  content: |\n${block('    ')}`,
  indented: `  name: write_file\n  args:\n    content: |\n${block('      ')}\n    path: "${PATH}"`,
  'with JSON': `tool: filesystem.write_file\narguments: ${ARGUMENTS}`,
  'beside the name': `tool: write_file\npath: '${PATH}'\ncontent: |+\n${block('  ')}`,
};
const TEXT_CALLS: Record<string, string> = {
  'a list of calls': `[${call(JSON.stringify(STORE))}]`,
  'a list of calls in a fence': `\`\`\`python\n[${call(JSON.stringify(STORE))}]\n\`\`\``,
  'a call as a statement in a fence': `\`\`\`tool_code\n${call(JSON.stringify(STORE))}\n\`\`\``,
  'a printed call': `\`\`\`tool_code\nprint(default_api.${call(JSON.stringify(STORE))})\n\`\`\``,
  'a call behind python_tag': `<|python_tag|>${call(JSON.stringify(STORE))}`,
  'function tags': `<function=write_file>\n<parameter=path>\n${PATH}\n</parameter>\n<parameter=content>\n${STORE}</parameter>\n</function>`,
  'function tags in a fence': `\`\`\`xml\n<function=write_file>\n<parameter=path>${PATH}</parameter>\n<parameter=content>\n${STORE}</parameter>\n</function>\n\`\`\``,
  'function tags with JSON': `<function=write_file>${JSON.stringify({ path: PATH, content: STORE })}</function>`,
  'invoke tags': `<function_calls>\n<invoke name="write_file">\n<parameter name="path">${PATH}</parameter>\n<parameter name="content">\n${STORE}</parameter>\n</invoke>\n</function_calls>`,
  'tags named after the tool': `<write_file>\n<path>${PATH}</path>\n<content>\n${STORE}</content>\n</write_file>`,
  'an action': `Thought: write it.\nAction: write_file\nAction Input: ${JSON.stringify({ path: PATH, content: STORE })}`,
  'an action with a fence': `Action: write_file\nAction Input:\n\`\`\`json\n${JSON.stringify({ path: PATH, content: STORE })}\n\`\`\``,
  ...MARKED,
  ...Object.fromEntries(
    Object.entries(YAML).map(([name, yaml]) => [
      `YAML ${name}`,
      `I write it:\n<TOOL_CALL>\n${yaml}\n</TOOL_CALL>\n`,
    ]),
  ),
  'arguments alone': `\`\`\`json\n${JSON.stringify({ path: PATH, content: STORE })}\n\`\`\``,
  'a list of files': `\`\`\`json\n${JSON.stringify([{ path: PATH, content: STORE }])}\n\`\`\``,
  "a call behind a file that is not the task's": `${'package.json'}\n\`\`\`json\n{}\n\`\`\`\n\n\`\`\`json\n${JSON.stringify({ name: 'write_file', arguments: { path: PATH, content: STORE } })}\n\`\`\``,
};

describe('a call as text', () => {
  for (const [name, answer] of Object.entries(TEXT_CALLS)) {
    it(`${name}: is made`, () => {
      assert.deepEqual(calls(parseAnswer(answer, ONE)), [write(PATH, STORE)]);
    });
  }
  it('several calls between marks are all made; what is cut off writes nothing', () => {
    const two = { ...ONE, owns: ['src/**'] };
    const of = (path: string): string => JSON.stringify({ path, content: STORE });
    const marked = ['src/a.js', 'src/b.js'].map(path => `[TOOL_CALLS]write_file[ARGS]${of(path)}`);
    const both = [write('src/a.js', STORE), write('src/b.js', STORE)];
    assert.deepEqual(calls(parseAnswer(marked.join(''), two)), both);
    for (const whole of Object.values(MARKED)) {
      const cut = parseAnswer(whole.slice(0, whole.indexOf('regex')), ONE);
      assert.equal(cut.kind, 'invalid', whole);
    }
  });
  it('marks in a block are the text of a file', () => {
    const text = `// [TOOL_CALLS]write_file[ARGS]{"path":"x","content":"y"}\n`;
    const answer = `${PATH}\n\`\`\`js\n${text}\`\`\`\n`;
    assert.deepEqual(calls(parseAnswer(answer, ONE)), [write(PATH, text)]);
  });
  it('lists in YAML are lists; what could mean several things is refused', () => {
    const add = { server: 'git', tool: 'git_add', arguments: { repo_path: '.', files: [PATH] } };
    const yaml = `tool: git_add\narguments:\n  repo_path: .\n  files:\n  - ${PATH}`;
    const answer = `${PATH}\n\`\`\`js\n${STORE}\`\`\`\n\n<TOOL_CALL>\n${yaml}\n</TOOL_CALL>`;
    assert.deepEqual(calls(parseAnswer(answer, ONE)), [write(PATH, STORE), add]);
    for (const value of ['>\n    folded\n    text', '&a x', 'a: b', '"open', '|2\n     x']) {
      const odd = `tool: write_file\narguments:\n  path: ${PATH}\n  content: ${value}`;
      const result = parseAnswer(`<TOOL_CALL>\n${odd}\n</TOOL_CALL>`, ONE);
      assert.equal(result.kind, 'invalid', value);
    }
  });
  it('several calls in several fences are all made, in their order', () => {
    const two = { ...ONE, owns: ['src/**'] };
    const fenced = ['src/a.js', 'src/b.js'].map(path =>
      fence('json')(JSON.stringify({ name: 'write_file', arguments: { path, content: STORE } })),
    );
    assert.deepEqual(calls(parseAnswer(fenced.join('\n'), two)), [
      write('src/a.js', STORE),
      write('src/b.js', STORE),
    ]);
  });
  it('a call behind the blocks is made after them', () => {
    const add = { server: 'git', tool: 'git_add', arguments: { repo_path: '.', files: [PATH] } };
    const tags = `<tool_call>\n${JSON.stringify(add)}\n</tool_call>`;
    const answer = `${PATH}\n\`\`\`js\n${STORE}\`\`\`\n\n${tags}`;
    assert.deepEqual(calls(parseAnswer(answer, ONE)), [write(PATH, STORE), add]);
  });
});

describe('a block without a path, for a task that owns one file', () => {
  const single = (path: string, info: string, text: string) =>
    calls(parseAnswer(`Here:\n\`\`\`${info}\n${text}\`\`\`\n`, { ...ONE, owns: [path] }));
  for (const [path, info, text] of [
    ['src/store.js', 'javascript', STORE],
    ['src/store.js', '', STORE],
    ['src/store.ts', 'js', STORE],
    ['config.json', 'json', '{"name": "x", "version": "1.0.0"}\n'],
    ['config.json', '', '{"path": "x", "limit": 1}\n'],
    ['tools.json', 'json', '[{"name": "x", "description": "y", "parameters": {}}]\n'],
    ['compose.yml', 'yaml', 'services: {}\n'],
    ['run.sh', 'bash', '#!/bin/sh\necho hello\n'],
    ['notes.txt', 'text', 'One line.\n'],
    ['app.py', 'python', 'rows = [Row(a=1)]\nprint(rows)\n'],
    ['Dockerfile', 'dockerfile', 'FROM node:20\n'],
    ['main.zig', 'zig', 'pub fn main() void {}\n'],
  ] as const) {
    it(`${info || 'no language'} is ${path}`, () => {
      assert.deepEqual(single(path, info, text), [write(path, text)]);
    });
  }
  for (const [path, info, text] of [
    ['src/store.js', 'json', '{"name": "store", "version": "1.0.0"}\n'],
    ['src/store.js', '', '{"name": "store", "version": "1.0.0"}\n'],
    ['src/store.js', 'python', 'print(1)\n'],
    ['src/store.js', 'bash', 'npm install\n'],
    ['Dockerfile', 'sh', 'docker build .\n'],
    ['app.py', 'json', '[1, 2]\n'],
    ['src/store.js', 'js', '// src/other.js\nexport {};\n'],
    ['README.md', 'json', '{"tool": "git_status"}\n'],
    ['src/store.js', 'xml', '<tool_result>ok</tool_result>\n'],
  ] as const) {
    it(`${info || 'no language'} ${JSON.stringify(text.slice(0, 24))} is not ${path}`, () => {
      assert.equal(single(path, info, text), 'invalid');
    });
  }
});

describe('code of an envelope that is a call itself', () => {
  const inner = JSON.stringify({ name: 'write_file', arguments: { path: PATH, content: STORE } });
  for (const [name, envelope] of Object.entries({
    code: { success: true, code: inner },
    content: { success: true, tool_calls: [write(PATH, inner)] },
    files: { success: true, files: [{ path: PATH, content: inner }] },
    'a map of files': { success: true, files: { [PATH]: inner } },
  })) {
    it(`in ${name}: is refused`, () => {
      const result = parseAnswer(JSON.stringify(envelope), ONE);
      assert.match(result.kind === 'invalid' ? result.error : '', /is a tool call/);
    });
  }
});
