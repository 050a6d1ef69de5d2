/**
 * Makes the messages for an engine out of a task and what was read for it.
 *
 * B1: the same input gives the same messages, byte for byte.
 * B2: over budget, things go in this order: the example, the outline of the other tasks, the
 *     descriptions of tools, long files (down to their signatures). The request, the task, the
 *     contracts, the tools' schemas and the error always stay.
 */
import type { ToolDescription } from '../../../protocol/mcp.ts';
import { ownsPath } from '../../../protocol/owned-paths.ts';
import type { TaskMessage } from '../../../protocol/task.ts';
import type { GenerateMessage } from '../engines/engine.ts';
import { systemText } from './contract-text.ts';
import { expectedCalls } from './expected-calls.ts';
import { filesSection, jsonSection, type PromptFile, section } from './sections.ts';
import { signaturesOf } from './signatures.ts';
import { messagesTokens } from './tokens.ts';

export interface PromptInput {
  readonly task: TaskMessage;
  readonly files: readonly PromptFile[];
  readonly tools: readonly ToolDescription[];
  /** Why the turn before this one failed; the task's own `previous_error` where null. */
  readonly error: string | null;
}

export interface Prompt {
  readonly messages: readonly GenerateMessage[];
  readonly tokens: number;
  /** What was dropped to keep within the budget. */
  readonly dropped: readonly string[];
  /** False where even the least prompt is too large for the context. */
  readonly fits: boolean;
}

/** More than this does not make an answer of the present local models better. */
const PROMPT_TOKENS_MAX = 16_384;
const MARGIN_TOKENS = 64;
const ERROR_LINES_MAX = 50;
const ERROR_LENGTH_MAX = 8_000;
const DESCRIPTION_LENGTH_MAX = 400;

interface Room {
  readonly example: boolean;
  readonly outline: boolean;
  readonly descriptions: boolean;
  /** Files longer than this are cut to their signatures. */
  readonly fileTokensMax: number;
}

const LADDER: readonly (readonly [string | null, Partial<Room>])[] = [
  [null, {}],
  ['example', { example: false }],
  ['outline', { outline: false }],
  ['tool descriptions', { descriptions: false }],
  ['files over 4000 tokens', { fileTokensMax: 4_000 }],
  ['files over 1000 tokens', { fileTokensMax: 1_000 }],
  ['all but signatures of files', { fileTokensMax: 0 }],
];

export function buildPrompt(input: PromptInput): Prompt {
  const { task } = input;
  // The scaffold reads by rules; it has no context that could be too small.
  const bounded = task.engine !== 'scaffold';
  const contextBudget = bounded
    ? task.context_tokens - task.output_tokens_max - MARGIN_TOKENS
    : Number.POSITIVE_INFINITY;
  const budget = bounded ? Math.min(contextBudget, PROMPT_TOKENS_MAX) : contextBudget;
  let room: Room = {
    example: true,
    outline: true,
    descriptions: true,
    fileTokensMax: Number.POSITIVE_INFINITY,
  };
  const dropped: string[] = [];
  let messages: GenerateMessage[] = [];
  let tokens = 0;
  for (const [name, less] of LADDER) {
    room = { ...room, ...less };
    if (name !== null) dropped.push(name);
    messages = messagesFor(input, room);
    tokens = messagesTokens(messages);
    if (tokens <= budget) return { messages, tokens, dropped, fits: true };
  }
  return { messages, tokens, dropped, fits: tokens <= contextBudget };
}

function messagesFor(input: PromptInput, room: Room): GenerateMessage[] {
  return [
    { role: 'system', content: systemText(input.task.kind, room.example) },
    { role: 'user', content: userText(input, room) },
  ];
}

function userText(input: PromptInput, room: Room): string {
  const { task } = input;
  const { contracts, files } = splitFiles(input);
  const error = input.error ?? task.previous_error;
  const paths = input.files.map(file => file.path);
  const expected = expectedCalls(task, input.tools, paths);
  const parts = [
    section('REQUEST', task.prompt, 'text'),
    Object.keys(task.tech_stack).length > 0 && jsonSection('TECH_STACK', task.tech_stack),
    task.project !== null && jsonSection('PROJECT', projectOf(task.project)),
    room.outline && task.outline.length > 0 && jsonSection('PLAN', outlineOf(task)),
    jsonSection('TASK', cardOf(task)),
    contracts.length > 0 && filesSection('CONTRACTS', contracts),
    files.length > 0 && filesSection('FILES', shortened(task, files, room.fileTokensMax)),
    input.tools.length > 0 && jsonSection('TOOLS', toolsOf(input, room.descriptions)),
    error !== null && section('ERROR', shortError(error), 'text'),
    expected.length > 0 && jsonSection('EXPECTED MCP TOOL CALLS:', expected),
  ];
  return parts.filter(part => part !== false).join('\n');
}

const projectOf = ({ name, stack, summary }: NonNullable<TaskMessage['project']>) => ({
  name,
  stack,
  summary,
});

const outlineOf = (task: TaskMessage) =>
  task.outline.map(({ id, type, title, owns }) => ({ id, type, title, owns }));

function cardOf(task: TaskMessage): object {
  const { card, kind } = task;
  if (card === null) return { id: task.task, type: kind, kind };
  const { id, type, title, goal, acceptance, owns, reads, depends_on } = card;
  return { id, kind, type, title, goal, acceptance, owns, reads, depends_on };
}

/** Files that a contract task owns bind this one; the others inform it. */
function splitFiles({ task, files }: PromptInput): {
  contracts: readonly PromptFile[];
  files: readonly PromptFile[];
} {
  const owned = task.outline.filter(other => other.id !== task.task && other.type === 'contract');
  const binds = (file: PromptFile): boolean => owned.some(({ owns }) => ownsPath(owns, file.path));
  return {
    contracts: files.filter(binds),
    files: files.filter(file => !binds(file)),
  };
}

/** What the task must change it has to see whole; the rest may shrink to its signatures. */
function shortened(
  task: TaskMessage,
  files: readonly PromptFile[],
  tokensMax: number,
): readonly PromptFile[] {
  const owns = task.card?.owns ?? [];
  return files.map(({ path, text }) => ({
    path,
    text: ownsPath(owns, path) ? text : signaturesOf(path, text, tokensMax),
  }));
}

/** A planner chooses among all tools by name; a task gets the schemas of its own. */
function toolsOf({ task, tools }: PromptInput, descriptions: boolean): object[] {
  return tools.map(({ server, name, description, input_schema }) => ({
    server,
    tool: name,
    ...(descriptions ? { description: description.slice(0, DESCRIPTION_LENGTH_MAX) } : {}),
    ...(task.kind === 'plan' ? {} : { input_schema }),
  }));
}

/** The first lines say what failed, the last ones why: the middle goes. */
export function shortError(error: string): string {
  const bounded =
    error.length <= ERROR_LENGTH_MAX
      ? error
      : `${error.slice(0, ERROR_LENGTH_MAX / 4)}\n${error.slice((-ERROR_LENGTH_MAX * 3) / 4)}`;
  const lines = bounded.split('\n');
  if (lines.length <= ERROR_LINES_MAX) return bounded;
  const head = lines.slice(0, 10);
  const tail = lines.slice(-(ERROR_LINES_MAX - 11));
  return [...head, `(${lines.length - head.length - tail.length} lines left out)`, ...tail].join(
    '\n',
  );
}
