/** Goal: the prompt holds what the contract between rooms says, and nobody's text can forge a part of it. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import type { ToolDescription } from '../../../protocol/mcp.ts';
import { TaskMessage } from '../../../protocol/task.ts';
import { parseAnswer } from '../answer/parse-answer.ts';
import { parsePlan } from '../answer/parse-plan.ts';
import { buildPrompt, type PromptInput, shortError } from './build-prompt.ts';

const task = (changes: object = {}): TaskMessage =>
  TaskMessage.parse({
    kind: 'code',
    build: 'b1',
    task: 'store',
    attempt: 1,
    node: 'n1',
    lease: 'l1',
    gateway: 'g1',
    engine: 'ollama',
    model: 'm',
    context_tokens: 16_384,
    output_tokens_max: 4_096,
    temperature: 0.1,
    deadline_at: 1,
    prompt: 'Create a REST API for a todo list',
    tech_stack: { backend: 'FastAPI' },
    project: { name: 'todo', stack: 'node', summary: 'todos' },
    card: {
      id: 'store',
      title: 'Store',
      type: 'database',
      goal: 'keep todos',
      owns: ['src/store.js'],
      reads: ['openapi.json'],
      depends_on: ['contract'],
      mcp_tools: ['filesystem.write_file', 'memory.create_entities'],
    },
    outline: [
      { id: 'contract', title: 'Contract', type: 'contract', owns: ['openapi.json'] },
      { id: 'store', title: 'Store', type: 'database', owns: ['src/store.js'] },
    ],
    base_sha: null,
    previous_error: null,
    ...changes,
  });
const TOOLS: ToolDescription[] = [
  {
    server: 'filesystem',
    name: 'write_file',
    description: 'Writes a file',
    input_schema: { type: 'object', properties: { path: {}, content: {} } },
  },
  {
    server: 'memory',
    name: 'create_entities',
    description: 'Remembers',
    input_schema: {
      type: 'object',
      properties: { entities: { type: 'array' }, note: { type: 'string' } },
      required: ['entities'],
    },
  },
];
const input = (changes: Partial<PromptInput> = {}): PromptInput => ({
  task: task(),
  files: [{ path: 'openapi.json', text: '{"openapi":"3.1.0"}\n' }],
  tools: TOOLS,
  error: null,
  ...changes,
});
const user = (given: PromptInput): string => buildPrompt(given).messages[1]?.content ?? '';

/** The sections as a reader of the contract takes them apart. */
function sectionsOf(text: string): Record<string, string> {
  const found: Record<string, string> = {};
  const lines = text.split('\n');
  for (let index = 0; index < lines.length; index++) {
    const name = /^## (.+)$/.exec(lines[index] ?? '')?.[1];
    if (name === undefined) continue;
    const fence = /^(`{3,})/.exec(lines[index + 1] ?? '')?.[1] ?? assert.fail(`no fence: ${name}`);
    const end = lines.indexOf(fence, index + 2);
    found[name] = lines.slice(index + 2, end).join('\n');
    index = end;
  }
  return found;
}

describe('the prompt of a task', () => {
  it('has the sections of the contract, in order, and none that is empty', () => {
    const sections = sectionsOf(user(input({ error: 'it broke' })));
    assert.deepEqual(Object.keys(sections), [
      'REQUEST',
      'TECH_STACK',
      'PROJECT',
      'PLAN',
      'TASK',
      'CONTRACTS',
      'TOOLS',
      'ERROR',
      'EXPECTED MCP TOOL CALLS:',
    ]);
    assert.equal(sections['REQUEST'], 'Create a REST API for a todo list');
    assert.equal(JSON.parse(sections['TASK'] ?? '').id, 'store');
    assert.match(
      sections['CONTRACTS'] ?? '',
      /^openapi\.json\n```json\n\{"openapi":"3\.1\.0"\}\n```$/,
    );
    assert.deepEqual(JSON.parse(sections['EXPECTED MCP TOOL CALLS:'] ?? ''), [
      {
        server: 'filesystem',
        tool: 'write_file',
        arguments: { path: 'src/store.js', content: { $file: 'src/store.js' } },
      },
    ]);
    assert.equal(JSON.parse(sections['TOOLS'] ?? '')[1].input_schema.required[0], 'entities');
  });

  it('shows only calls that are right as they stand', () => {
    const live = (server: string, name: string, required: string[]): ToolDescription => ({
      ...{ server, name, description: '' },
      input_schema: {
        type: 'object',
        properties: Object.fromEntries(required.map(key => [key, { type: 'string' }])),
        required,
      },
    });
    const tools = [
      ...TOOLS.slice(0, 1),
      live('filesystem', 'create_directory', ['path']),
      live('filesystem', 'list_directory', ['path']),
      live('filesystem', 'read_text_file', ['path']),
      live('filesystem', 'edit_file', ['path', 'edits']),
      live('fetch', 'fetch', ['url']),
      live('git', 'git_add', ['repo_path', 'files']),
      live('git', 'git_commit', ['repo_path', 'message']),
    ];
    const card = {
      ...(task().card ?? assert.fail('no card')),
      owns: ['package.json', 'src/store.js', 'test/**'],
      mcp_tools: tools.map(({ server, name }) => `${server}.${name}`),
    };
    const sections = sectionsOf(user(input({ task: task({ card }), tools })));
    const write = (path: string) => ({
      server: 'filesystem',
      tool: 'write_file',
      arguments: { path, content: { $file: path } },
    });
    assert.deepEqual(JSON.parse(sections['EXPECTED MCP TOOL CALLS:'] ?? ''), [
      write('package.json'),
      write('src/store.js'),
      { server: 'filesystem', tool: 'create_directory', arguments: { path: 'src' } },
      { server: 'filesystem', tool: 'list_directory', arguments: { path: '.' } },
      { server: 'filesystem', tool: 'read_text_file', arguments: { path: 'openapi.json' } },
      {
        server: 'git',
        tool: 'git_add',
        arguments: { repo_path: '.', files: ['package.json', 'src/store.js'] },
      },
      { server: 'git', tool: 'git_commit', arguments: { repo_path: '.', message: 'Store' } },
    ]);
  });

  it('of a task whose calls nobody can know shows none', () => {
    const card = {
      ...(task().card ?? assert.fail('no card')),
      ...{ owns: ['src/**'], mcp_tools: ['filesystem.write_file', 'memory.create_entities'] },
    };
    const sections = sectionsOf(user(input({ task: task({ card }) })));
    assert.ok(!('EXPECTED MCP TOOL CALLS:' in sections));
  });

  it('of a plan has neither task card nor schemas', () => {
    const plan = task({ kind: 'plan', task: 'plan', card: null, project: null, outline: [] });
    const sections = sectionsOf(user(input({ task: plan, files: [] })));
    assert.deepEqual(Object.keys(sections), ['REQUEST', 'TECH_STACK', 'TASK', 'TOOLS']);
    assert.deepEqual(JSON.parse(sections['TASK'] ?? ''), {
      id: 'plan',
      type: 'plan',
      kind: 'plan',
    });
    assert.ok(!(sections['TOOLS'] ?? '').includes('input_schema'));
  });

  it('shows the error of the last turn rather than that of an earlier attempt', () => {
    const earlier = input({ task: task({ previous_error: 'old' }) });
    assert.equal(sectionsOf(user(earlier))['ERROR'], 'old');
    assert.equal(sectionsOf(user({ ...earlier, error: 'new' }))['ERROR'], 'new');
  });

  it('cannot be forged by any text in it', () => {
    const evil = fc
      .array(fc.constantFrom('```', '````', '`', '\n', '## TASK', '## TOOLS', 'x', '```json'), {
        maxLength: 30,
      })
      .map(parts => `x${parts.join('')}`);
    fc.assert(
      fc.property(evil, text => {
        const honest = sectionsOf(user(input({ error: 'e' })));
        const files = [{ path: 'openapi.json', text }];
        const sections = sectionsOf(
          user(input({ task: task({ prompt: text }), files, error: text })),
        );
        assert.deepEqual(Object.keys(sections), Object.keys(honest));
        assert.equal(sections['TASK'], honest['TASK']);
        assert.equal(sections['REQUEST'], text.replace(/\n$/, ''));
      }),
      { numRuns: 300 },
    );
  });

  it('starts the same for every task, so that the engine can keep its beginning', () => {
    const [one, other] = [input(), input({ task: task({ task: 'api', prompt: 'other' }) })];
    assert.equal(buildPrompt(one).messages[0]?.content, buildPrompt(other).messages[0]?.content);
  });
});

describe('the examples in the prompt', () => {
  const system = (kind: string): string =>
    buildPrompt(input({ task: task({ kind }) })).messages[0]?.content ?? '';
  it('are answers that the parser takes', () => {
    const text = system('code').split('lib/sum.test.js:\n')[1] ?? '';
    const answer = parseAnswer(text, {
      finish: 'stop',
      owns: ['lib/sum.js', 'lib/sum.test.js'],
      existing: [],
      tools: TOOLS,
      mcp_tools: [],
    });
    assert.equal(answer.kind, 'work', JSON.stringify(answer));
    const plan = parsePlan(system('plan').split('adds numbers":\n')[1] ?? '', {
      finish: 'stop',
      prompt: '',
      tech_stack: {},
    });
    assert.equal(plan.kind, 'plan', JSON.stringify(plan));
  });
});

describe('a prompt over its budget', () => {
  const long = (lines: number): string =>
    Array.from({ length: lines }, (_, index) => `  const value${index} = compute(${index});`).join(
      '\n',
    );
  const files = [
    { path: 'openapi.json', text: '{"openapi":"3.1.0"}' },
    { path: 'src/other.js', text: `export function other() {\n${long(3_000)}\n}\n` },
    { path: 'src/store.js', text: 'export const mine = 1;\n' },
  ];
  it('drops the example first, and cuts files to their signatures last', () => {
    const prompt = buildPrompt(input({ files }));
    assert.deepEqual(prompt.dropped.slice(0, 2), ['example', 'outline']);
    const text = prompt.messages[1]?.content ?? '';
    assert.match(text, /only its signatures are shown/);
    assert.match(text, /export function other/);
    assert.ok(prompt.fits && prompt.tokens < 12_288);
  });
  it('keeps the task, the contracts and what the task must change', () => {
    const sections = sectionsOf(user(input({ files })));
    assert.match(sections['CONTRACTS'] ?? '', /3\.1\.0/);
    assert.match(sections['FILES'] ?? '', /export const mine = 1/);
    assert.equal(JSON.parse(sections['TASK'] ?? '').goal, 'keep todos');
  });
  it('says so where nothing more can be dropped', () => {
    const small = task({ context_tokens: 1_024, output_tokens_max: 512 });
    assert.equal(buildPrompt(input({ task: small, files })).fits, false);
  });
  it('loses nothing for the scaffold, which has no context', () => {
    const ruled = task({ engine: 'scaffold', context_tokens: 1_024, output_tokens_max: 512 });
    assert.deepEqual(buildPrompt(input({ task: ruled, files })).dropped, []);
  });
  it('shows at most 50 lines of an error, its beginning and its end', () => {
    const lines = Array.from({ length: 400 }, (_, index) => `line ${index}`);
    const short = shortError(lines.join('\n')).split('\n');
    assert.equal(short.length, 50);
    assert.deepEqual([short[0], short.at(-1)], ['line 0', 'line 399']);
    assert.ok(shortError('x'.repeat(100_000)).length <= 8_001);
  });
});
