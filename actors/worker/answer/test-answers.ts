/**
 * A known-good answer for the tests of the parser: the files, the calls it must come to, and the
 * pieces it is written with.
 */
import type { ToolDescription } from '../../../protocol/mcp.ts';
import type { Answer, AnswerContext } from './answer.ts';

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
export const TO_DO = ['TO', 'DO'].join('');
export const STORE = `import { readFile } from 'node:fs/promises';

/** Keeps {todos} — "all" of them, in 'order'. \`quoted\` \\n */
export class Store {
	#items = new Map();
  add(item) {
    return { ...item, regex: /^[^"'\\\\]+$/, line: "a\\tb" };
  }
}
`;
export const TEST = `import test from 'node:test';\n\ntest("it's kept", () => {});\n`;
export const CONTEXT: AnswerContext = {
  finish: 'stop',
  owns: ['src/store.js', 'test/**'],
  existing: [],
  tools: TOOLS,
  mcp_tools: ['filesystem.write_file', 'git.git_add'],
};
export const write = (path: string, content: string) => ({
  server: 'filesystem',
  tool: 'write_file',
  arguments: { path, content },
});
export const EXPECTED = [
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
export const ENVELOPE = {
  success: true,
  summary: 'A store and its test',
  tool_calls: [reference('src/store.js'), reference('test/store.test.js')],
};
export const json = (value: unknown): string =>
  `\`\`\`json\n${JSON.stringify(value, null, 2)}\n\`\`\`\n`;
export const file = (path: string, code: string, info = 'js', fence = '```'): string =>
  `${path}\n${fence}${info}\n${code}${fence}\n\n`;
export const FILES = file('src/store.js', STORE) + file('`test/store.test.js`', TEST);

/** What an answer came to: its calls, or the kind of everything else. */
export function calls(answer: Answer): unknown {
  return answer.kind === 'work' ? answer.calls : answer.kind;
}
