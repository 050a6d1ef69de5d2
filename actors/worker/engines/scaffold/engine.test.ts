/**
 * The engine as the worker sees it: a stream of chunks that adds up to an answer the worker's own
 * parser takes, the same every time, and one that stops when told to.
 */

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { CodeGodError } from '../../../../protocol/errors.ts';
import type { ToolDescription } from '../../../../protocol/mcp.ts';
import { Plan, type PlanTask } from '../../../../protocol/plan.ts';
import { SimulatedClock } from '../../../../runtime/clock.ts';
import { parseAnswer } from '../../answer/parse-answer.ts';
import type { GenerateChunk, GenerateRequest } from '../engine.ts';
import { createScaffoldEngine, SCAFFOLD_MODEL, type ScaffoldOptions } from './engine.ts';
import { renderProject } from './project/render-project.ts';
import { readRequest } from './request/read-request.ts';

const LIBRARY = 'Create a REST API for a library with books, members and loans';
const PLAN_TASK = { id: 'plan', type: 'plan' };
const NEVER = new AbortController().signal;

const toolWith = (name: string, ...properties: string[]): ToolDescription => ({
  server: 'filesystem',
  name,
  description: '',
  input_schema: {
    type: 'object',
    properties: Object.fromEntries(properties.map(property => [property, { type: 'string' }])),
    required: properties,
  },
});
const TOOLS = [toolWith('write_file', 'path', 'content'), toolWith('create_directory', 'path')];

const section = (name: string, body: string): string =>
  `## ${name}\n\`\`\`\`\`\n${body}\n\`\`\`\`\`\n`;

function promptFor(request: string, task: object, more: Record<string, string> = {}): string {
  const rest = Object.entries(more).map(([name, body]) => section(name, body));
  return [section('REQUEST', request), section('TASK', JSON.stringify(task)), ...rest].join('');
}

function requestOf(content: string): GenerateRequest {
  return {
    model: SCAFFOLD_MODEL,
    messages: [
      { role: 'system', content: 'You write code.' },
      { role: 'user', content },
    ],
    context_tokens: 8192,
    output_tokens_max: 4096,
    temperature: 0,
    think: false,
  };
}

async function chunksOf(prompt: string, options: ScaffoldOptions = {}): Promise<GenerateChunk[]> {
  return collect(requestOf(prompt), options);
}

async function collect(
  request: GenerateRequest,
  options: ScaffoldOptions,
): Promise<GenerateChunk[]> {
  const chunks: GenerateChunk[] = [];
  for await (const chunk of createScaffoldEngine(options).generate(request, NEVER)) {
    chunks.push(chunk);
  }
  return chunks;
}

async function answerOf(prompt: string): Promise<string> {
  const chunks = await chunksOf(prompt);
  return chunks.map(chunk => (chunk.kind === 'text' ? chunk.text : '')).join('');
}

const jsonIn = (text: string): unknown =>
  JSON.parse(/```json\n([\s\S]*?)\n```/.exec(text)?.[1] ?? '');

const parsed = (text: string, task: PlanTask) =>
  parseAnswer(text, {
    finish: 'stop',
    owns: task.owns,
    existing: [],
    tools: TOOLS,
    mcp_tools: task.mcp_tools,
  });

describe('a build by the scaffold engine', () => {
  for (const stack of ['node', 'fastapi']) {
    test(`plans and then writes every file of a ${stack} project, byte for byte`, async () => {
      const more = { TECH_STACK: JSON.stringify({ backend: stack }) };
      const plan = Plan.parse(jsonIn(await answerOf(promptFor(LIBRARY, PLAN_TASK, more))));
      const written = new Map<string, unknown>();
      for (const task of plan.tasks) {
        const project = JSON.stringify({
          name: plan.name,
          stack: plan.stack,
          summary: plan.summary,
        });
        const answer = parsed(
          await answerOf(promptFor(LIBRARY, task, { ...more, PROJECT: project })),
          task,
        );
        assert.equal(answer.kind, 'work', `${task.id}: ${JSON.stringify(answer)}`);
        if (answer.kind !== 'work') continue;
        for (const call of answer.calls) {
          if (call.tool !== 'write_file') continue;
          written.set(String(call.arguments['path']), call.arguments['content']);
        }
      }
      const reading = readRequest(LIBRARY, { backend: stack });
      assert.ok(reading.kind === 'spec');
      const files = renderProject(reading.spec).map(file => [file.path, file.content] as const);
      assert.deepEqual(written, new Map(files));
    });
  }

  test('makes the folder before the file', async () => {
    const task = { id: 'store', type: 'backend', owns: ['src/store.js'] };
    const envelope = await answerOf(promptFor(LIBRARY, task));
    assert.ok(envelope.indexOf('create_directory') < envelope.indexOf('write_file'));
  });

  test('writes the same files again for a repair of its own', async () => {
    const first = { id: 'store', type: 'database', owns: ['src/store.js'] };
    const repair = { id: 'repair-1', type: 'bugfix', owns: ['src/store.js'] };
    const error = { ERROR: 'a test failed' };
    assert.equal(
      await answerOf(promptFor(LIBRARY, repair, error)),
      await answerOf(promptFor(LIBRARY, first)),
    );
  });

  test('takes a message without sections as the request itself', async () => {
    const text = await answerOf('REST API for notes');
    assert.match(text, /^src\/entities\/note\.js$/m);
    assert.match(text, /"success": true/);
  });
});

describe('a refusal of the scaffold engine', () => {
  const refusals: readonly (readonly [string, string, object, Record<string, string>, string])[] = [
    ['what no recipe covers', 'write a 3D game in Rust', PLAN_TASK, {}, 'impossible'],
    [
      'a plan of another stack',
      LIBRARY,
      { id: 'a', type: 'backend', owns: ['a.go'] },
      { PROJECT: '{"stack":"go"}' },
      'contract_conflict',
    ],
    [
      'files it has no recipe for',
      LIBRARY,
      { id: 'a', type: 'backend', owns: ['lib/other.js'] },
      {},
      'contract_conflict',
    ],
    [
      'a repair of files it did not write',
      LIBRARY,
      { id: 'repair-1', type: 'bugfix', owns: ['lib/other.js'] },
      {},
      'impossible',
    ],
  ];
  for (const [what, request, task, more, reason] of refusals) {
    test(`is given to ${what}`, async () => {
      const answer = jsonIn(await answerOf(promptFor(request, task, more)));
      assert.ok(typeof answer === 'object' && answer !== null);
      const { success, reason: given, summary } = answer as Record<string, unknown>;
      assert.deepEqual([success, given], [false, reason]);
      assert.match(String(summary), /ollama pull/);
    });
  }

  test('is given to a task without a request', async () => {
    const answer = jsonIn(await answerOf(section('TASK', '{"id":"a","owns":["a.js"]}')));
    assert.equal((answer as Record<string, unknown>)['reason'], 'need_context');
  });
});

describe('the stream', () => {
  test('is the same every time and ends in done with estimated tokens', async () => {
    const prompt = promptFor(LIBRARY, PLAN_TASK);
    const first = await chunksOf(prompt);
    assert.deepEqual(await chunksOf(prompt), first);
    const done = first.at(-1);
    const text = await answerOf(prompt);
    assert.ok(done?.kind === 'done');
    assert.equal(done.reason, 'stop');
    assert.equal(done.output_tokens, Math.ceil(text.length / 4));
    assert.equal(first.filter(chunk => chunk.kind === 'done').length, 1);
  });

  test('comes at the pace it is given', async () => {
    const clock = new SimulatedClock();
    const waits: number[] = [];
    const sleep = async (delayMs: number): Promise<void> => {
      waits.push(delayMs);
    };
    const options = {
      pace: { chunk_chars: 100, delay_ms: 7 },
      sleep,
      monotonic: () => clock.monotonic(),
    };
    const chunks = await chunksOf(promptFor(LIBRARY, PLAN_TASK), options);
    const texts = chunks.filter(chunk => chunk.kind === 'text');
    assert.ok(texts.length > 10);
    assert.ok(texts.every(chunk => chunk.text.length <= 100));
    assert.deepEqual(
      waits,
      texts.map(() => 7),
    );
  });

  test('ends with cancelled when the signal fires between two chunks', async () => {
    const abort = new AbortController();
    const engine = createScaffoldEngine({ pace: { chunk_chars: 50, delay_ms: 0 } });
    let seen = 0;
    const read = async (): Promise<void> => {
      for await (const _ of engine.generate(
        requestOf(promptFor(LIBRARY, PLAN_TASK)),
        abort.signal,
      )) {
        if (++seen === 3) abort.abort();
      }
    };
    await assert.rejects(
      read,
      error => error instanceof CodeGodError && error.code === 'cancelled',
    );
    assert.equal(seen, 3);
  });

  test('is refused for a model it does not have', async () => {
    const request = { ...requestOf('x'), model: 'llama3' };
    const read = (): Promise<unknown> => collect(request, {});
    await assert.rejects(
      read,
      error => error instanceof CodeGodError && error.code === 'model_missing',
    );
  });
});

test('the inventory offers one loaded model that takes no memory and says it is rules', async () => {
  const { available, models } = await createScaffoldEngine().inventory(NEVER);
  assert.equal(available, true);
  assert.deepEqual(
    models.map(model => [model.name, model.family, model.size_bytes, model.loaded]),
    [['scaffold', 'rules', 0, true]],
  );
});
