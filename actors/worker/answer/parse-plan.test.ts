/** Goal: a plan in any usual spelling becomes the same Plan; what is no plan is refused with reasons. */
import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import fc from 'fast-check';
import { Plan } from '../../../protocol/plan.ts';
import { type PlanAnswer, type PlanContext, parsePlan } from './parse-plan.ts';

const CONTEXT: PlanContext = {
  finish: 'stop',
  prompt: 'Create a REST API for a todo list',
  tech_stack: { backend: 'FastAPI' },
};
const PLAN = {
  name: 'todo-list-api',
  summary: 'A todo API',
  stack: 'node',
  check: { command: ['node', '--test'], timeout_s: 120 },
  tasks: [
    {
      id: 'store',
      title: 'The store',
      type: 'database',
      goal: 'Keeps todos',
      acceptance: ['keeps todos'],
      owns: ['src/store.js'],
      reads: [],
      depends_on: [],
      mcp_tools: ['filesystem.write_file'],
      optional: false,
      priority: 5,
    },
    {
      id: 'api',
      title: 'The API',
      type: 'api',
      goal: 'Serves todos',
      acceptance: [],
      owns: ['src/server.js', 'test/**'],
      reads: ['src/store.js'],
      depends_on: ['store'],
      mcp_tools: [],
      optional: false,
      priority: 8,
    },
  ],
};
const EXPECTED = Plan.parse(PLAN);
const fence = (value: unknown): string => `\`\`\`json\n${JSON.stringify(value, null, 1)}\n\`\`\``;
const planOf = (answer: PlanAnswer): unknown => (answer.kind === 'plan' ? answer.plan : answer);
const errorOf = (answer: PlanAnswer): string => {
  assert.equal(answer.kind, 'invalid', JSON.stringify(answer).slice(0, 300));
  return answer.kind === 'invalid' ? answer.error : '';
};

const wrapped: Record<string, string> = {
  'in a fence': fence(PLAN),
  bare: JSON.stringify(PLAN),
  'with prose around it': `Here is {the} plan:\n${fence(PLAN)}\nGood luck!`,
  'behind reasoning': `<think>{"tasks": []}</think>\n${fence(PLAN)}`,
  'in a fence that is not closed': fence(PLAN).replace(/```$/, ''),
  'inside another object': fence({ success: true, plan: PLAN }),
  'after a draft': `${fence({ ...PLAN, name: 'draft' })}\nBetter:\n${fence(PLAN)}`,
  'with trailing commas': fence(PLAN).replace(/\](\s*)\}/g, '],$1}'),
  'with Python constants': fence(PLAN).replaceAll('false', 'False'),
};

describe('a plan', () => {
  for (const [name, text] of Object.entries(wrapped)) {
    it(`${name} is read`, () => {
      assert.deepEqual(planOf(parsePlan(text, CONTEXT)), EXPECTED);
    });
  }

  it('in other words is brought into shape', () => {
    const loose = {
      project_name: 'Todo List API',
      description: 'A todo API',
      stack: 'Node.js',
      check: 'node --test',
      tasks: [
        {
          id: 'Store',
          title: 'The store',
          type: 'DB',
          description: 'Keeps todos',
          acceptance_criteria: 'keeps todos',
          files: './src/store.js',
          tools: [{ server: 'filesystem', tool: 'write_file' }],
        },
        {
          id: 'API',
          title: 'The API',
          type: 'rest api',
          description: 'Serves todos',
          owns: ['src/server.js', 'test/'],
          reads: 'src/store.js',
          dependencies: ['The store'],
          priority: 'high',
        },
      ],
    };
    const {
      project_name: _,
      description: __,
      ...rest
    } = planOf(parsePlan(fence(loose), CONTEXT)) as Record<string, unknown>;
    const tasks = (rest['tasks'] as Record<string, unknown>[]).map(task =>
      Object.fromEntries(
        Object.entries(task).filter(([key]) => key in (PLAN.tasks[0] as Record<string, unknown>)),
      ),
    );
    assert.deepEqual({ ...rest, tasks }, PLAN);
  });

  it('with an unknown dependency keeps it, for the master to refuse', () => {
    const [store, api] = PLAN.tasks;
    const plan = { ...PLAN, tasks: [store, { ...api, depends_on: ['nowhere'] }] };
    const answer = parsePlan(fence(plan), CONTEXT);
    assert.deepEqual(answer.kind === 'plan' && answer.plan.tasks[1]?.depends_on, ['nowhere']);
  });

  it('with an unsafe path is refused with the place of the fault', () => {
    const plan = { ...PLAN, tasks: [{ ...PLAN.tasks[0], owns: ['../x'] }] };
    assert.match(
      errorOf(parsePlan(fence(plan), CONTEXT)),
      /tasks\[0\]\.owns\[0\]: the path leaves the project/,
    );
  });

  it('without a check is refused', () => {
    const { check: _, ...plan } = PLAN;
    assert.match(errorOf(parsePlan(fence(plan), CONTEXT)), /^- check: /);
  });

  for (const [check, command] of [
    ['npm install && npm test', ['npm', 'test']],
    ['npm ci; npm test -- --run', ['npm', 'test', '--', '--run']],
    ['pip install -r requirements.txt && python -m pytest -q', ['python', '-m', 'pytest', '-q']],
    ['NODE_ENV=test node --test', ['env', 'NODE_ENV=test', 'node', '--test']],
    ['npm run lint && npm test', ['sh', '-c', 'npm run lint && npm test']],
    ['npm test || true', ['npm', 'test']],
    ['node -e "a(); b()"', ['sh', '-c', 'node -e "a(); b()"']],
    ['pytest tests/*.py', ['sh', '-c', 'pytest tests/*.py']],
    [
      ['npm install', 'npm test'],
      ['npm', 'test'],
    ],
    [
      ['npm', 'install', '&&', 'npm', 'test'],
      ['npm', 'test'],
    ],
    [
      ['bash', '-c', 'npm install && npm test'],
      ['npm', 'test'],
    ],
    [{ command: 'npm', args: ['test'] }, ['npm', 'test']],
    [{ command: 'npm install && npm test', timeout_s: '60' }, ['npm', 'test']],
  ] as const) {
    it(`with the check ${JSON.stringify(check)} has it as words`, () => {
      const parsed = parsePlan(fence({ ...PLAN, check }), CONTEXT);
      assert.deepEqual(parsed.kind === 'plan' && parsed.plan.check.command, command);
    });
  }

  const tool = (server: string, name: string) => ({
    ...{ server, name, description: '', input_schema: {} },
  });
  const tools = [
    ...[tool('filesystem', 'write_file'), tool('filesystem', 'read_file')],
    ...[tool('git', 'git_add'), tool('git', 'git_diff'), tool('a', 'run'), tool('b', 'run')],
  ];
  for (const [given, wanted] of [
    ['write_file', 'filesystem.write_file'],
    ['WriteFile', 'filesystem.write_file'],
    ['fs.write_file', 'filesystem.write_file'],
    ['mcp__filesystem__write_file', 'filesystem.write_file'],
    ['write_to_file', 'filesystem.write_file'],
    ['filesystem/read_file', 'filesystem.read_file'],
    ['add_git', 'add_git'],
    ['run', 'run'],
    ['b.run', 'b.run'],
    ['fetch.fetch', 'fetch.fetch'],
  ]) {
    it(`with the tool ${given} has ${wanted}`, () => {
      const plan = { ...PLAN, tasks: PLAN.tasks.map(task => ({ ...task, mcp_tools: [given] })) };
      const parsed = parsePlan(fence(plan), { ...CONTEXT, tools });
      assert.deepEqual(parsed.kind === 'plan' && parsed.plan.tasks[0]?.mcp_tools, [wanted]);
    });
  }
  it('cut off anywhere is never taken for a shorter plan', () => {
    for (const text of [fence(PLAN), JSON.stringify(PLAN)]) {
      for (let end = 0; end < text.length - 4; end += 7) {
        const answer = parsePlan(text.slice(0, end), CONTEXT);
        assert.notEqual(answer.kind, 'plan', text.slice(0, end));
        const cut = parsePlan(text.slice(0, end), { ...CONTEXT, finish: 'length' });
        assert.equal(cut.kind, 'truncated');
      }
    }
  });

  it('that is a refusal keeps its reason', () => {
    const refusal = { success: false, reason: 'impossible', summary: 'no recipe' };
    assert.deepEqual(parsePlan(fence(refusal), CONTEXT), {
      kind: 'refusal',
      reason: 'impossible',
      summary: 'no recipe',
    });
  });

  it('that is no plan at all says what is missing', () => {
    assert.match(errorOf(parsePlan('Hello!', CONTEXT)), /no JSON object with `tasks`/);
    assert.match(errorOf(parsePlan('', CONTEXT)), /empty/);
  });

  it('of any content never throws and takes less than a second', () => {
    fc.assert(
      fc.property(fc.jsonValue(), value => {
        parsePlan(fence({ tasks: value }), CONTEXT);
        parsePlan(fence({ tasks: [value, { id: value, owns: value, check: value }] }), CONTEXT);
      }),
      { numRuns: 500 },
    );
    for (const unit of ['{"tasks":', '[{"id":1,', '{"tasks":[{}', '- ', '{"a":"b" ']) {
      const before = process.cpuUsage();
      parsePlan(unit.repeat(1_000_000 / unit.length), CONTEXT);
      const { user, system } = process.cpuUsage(before);
      assert.ok(user + system < 1_000_000, unit);
    }
  });
});
